"""`rendezvous send`: what is said of records that no broker took, and what a file's cells become."""

import io
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from agents.cli import send as sending
from agents.cli.given import read_values
from agents.cli.send import Sender, send
from schemas.errors import ConfigurationRefused, KafkaUnreachable
from streams.kafka.clients import Cluster
from tests.unit.small import TEXT

NOBODY = Cluster("127.0.0.1:1")


class Heard:
    """A producer whose broker takes everything, unless it is away."""

    away = False
    last: "Heard"

    def __init__(self, _: object) -> None:
        self.records: list[tuple[bytes | None, Any]] = []
        Heard.last = self

    def produce(self, _: str, value: bytes, key: bytes | None, **_more: object) -> None:
        self.records.append((key, msgspec.json.decode(value)))

    def flush(self, _: float) -> int:
        return len(self.records) if self.away else 0


@pytest.fixture(autouse=True)
def producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "Producer", Heard)


def test_records_that_no_broker_confirmed_are_no_success(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Heard, "away", True)
    with pytest.raises(KafkaUnreachable, match=r"3 of 3 records are not confirmed .* of small\.labels"):
        Sender(NOBODY, "small.labels", None, []).send_all([b"{}"] * 3, None)


def test_what_came_before_the_line_that_ends_a_file_is_confirmed_first(monkeypatch: pytest.MonkeyPatch):
    def lines() -> Iterator[bytes]:
        yield b"{}"
        raise ConfigurationRefused("line 2 is no UTF-8")

    monkeypatch.setattr(Heard, "away", True)
    with pytest.raises(KafkaUnreachable, match="1 of 1 records are not confirmed"):
        Sender(NOBODY, "small.raw", None, []).send_all(lines(), None)


TABLE = """
[[features]]
name = "tier"
path = "terms.tier"
type = "category"
vocabulary = ["1", "2"]
default = "1"

[[enrich]]
name = "terms"
key = "customer"
"""


def heard(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str, *options: str) -> list[Any]:
    """Keys and values of what `send` hands over."""
    monkeypatch.setattr(sending.place, "cluster_to_ask", lambda *_: NOBODY)
    file, pipeline = folder / name, folder / "p.toml"
    file.write_text(text)
    pipeline.write_text(TEXT + TABLE)
    result = CliRunner().invoke(send, [str(file), "-P", str(pipeline), *options], standalone_mode=False)
    assert result.exception is None, result.exception
    return Heard.last.records


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "customer,limit,tier\n17,3,2\n"),
        ("l.jsonl", '{"customer": 17.0, "limit": 3, "tier": "2"}'),
        ("l.jsonl", '{"customer": "17", "limit": 3, "tier": "2"}'),
    ],
)
def test_a_table_is_fed_by_the_keys_the_router_looks_for(monkeypatch, tmp_path: Path, name: str, text: str):
    ((key, value),) = heard(monkeypatch, tmp_path, name, text, "--table", "terms", "--key", "customer")
    assert key == b"17"
    assert (value["limit"], value["tier"]) == (3, "2")


def test_cells_of_a_csv_are_numbers_to_the_last_digit_and_ids_and_categories_are_text(monkeypatch, tmp_path: Path):
    table = "request_id,x,n,colour,late\n0017,0.5,9007199254740993,1e5,TRUE\n18,3,,2,no\n"
    assert heard(monkeypatch, tmp_path, "e.csv", table) == [
        (None, {"request_id": "0017", "x": 0.5, "n": 9007199254740993, "colour": "1e5", "late": True}),
        (None, {"request_id": "18", "x": 3, "colour": "2", "late": "no"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nosuch.jsonl", None, "No such file"),
        ("nosuch.csv", None, "No such file"),
        ("nosuch.parquet", None, "No such file"),
        ("l.csv", b"a,b\n1,\xff\n", "no UTF-8"),
        ("l.csv", b"a,b\n1,2\n1,2,3\n", "l.csv:3: more cells"),
        ("l.csv", b"a\n" + b"1" * 200_000, "no CSV"),
        ("l.parquet", b"nonsense", "no Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(name: str, content: bytes | None, words: str, tmp_path):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationRefused, match=words) as refused:
        list(read_values(file))
    assert name in str(refused.value)
    assert ";" in str(refused.value)


def test_a_folder_is_no_file(tmp_path: Path):
    (tmp_path / "l.jsonl").mkdir()
    with pytest.raises(ConfigurationRefused, match=r"l\.jsonl: Is a directory"):
        list(read_values(tmp_path / "l.jsonl"))


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path):
    (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbfrequest_id,x\n7,8\n")
    assert list(read_values(tmp_path / "l.csv", {"request_id"})) == [b'{"request_id":"7","x":8}']


@pytest.mark.parametrize("rate", ["0", "-5", "nan", "inf", "fast"])
def test_a_rate_that_is_none_is_refused(rate: str):
    result = CliRunner().invoke(send, ["-", "--rate", rate], input="{}")
    assert result.exit_code == 2
    assert "write a number above 0" in result.stderr


def test_nothing_of_a_file_is_sent_that_cannot_be_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(Heard, "last", None)
    with pytest.raises(AssertionError, match="more cells"):
        heard(monkeypatch, tmp_path, "e.csv", "request_id,x\na,1\nb,1,2\n")
    assert Heard.last is None


def test_a_file_is_held_in_memory_a_line_at_a_time(tmp_path: Path):
    file = tmp_path / "e.jsonl"
    file.write_bytes(b'{"x": 1}\r\n' * 200_000)
    tracemalloc.start()
    assert sum(1 for _ in read_values(file)) == 200_000
    assert tracemalloc.get_traced_memory()[1] < 1 << 19
    tracemalloc.stop()
    assert next(read_values(file)) == b'{"x": 1}\r', "as it stands in the file"


def test_progress_is_shown_on_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for shown, screen in ((False, io.StringIO()), (True, Terminal())):
        monkeypatch.setattr(sys, "stderr", screen)
        assert Sender(NOBODY, "small.raw", None, []).send_all([b"{}"] * 7, None, 7)[0] == 7
        assert ("7/7" in screen.getvalue()) is shown
