"""A table on disk says what one in memory says, goes on from where it was, and a damaged file is said and begun anew."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.errors import ConfigurationRefused, RendezvousError, UnreadableRecord
from schemas.pipeline import Pipeline
from streams.core.table import RECENT_MS, Table, Version
from streams.table_file import TOO_OLD_S, TableDamaged, TableFile
from tests.unit.test_enrich import AS_OF, HOUR_MS, LATEST, asked, of, said

WHAT = b"topic 1, this shape"
NOW_S = 1_000_000.0


def opened(path: Path, what: bytes = WHAT, now_s: float = NOW_S) -> TableFile:
    return TableFile(path, what, now_s)


def on_disk(own: Pipeline, file: TableFile) -> Table:
    return Table(own.enrich[0], own.features, file, file.kept.standing if file.kept else None)


def filled(path: Path, count: int = 100) -> Pipeline:
    own = of(LATEST)
    file = opened(path)
    found = on_disk(own, file)
    for number in range(count):
        found.take(b"%d" % number, b'{"limit": {"day": %d}}' % number, 1_000)
    file.commit(count, found.standing(), NOW_S)
    file.close()
    return own


TEXTS = some.sampled_from([LATEST, LATEST + "max_records = 4\n", AS_OF, AS_OF + "max_age_hours = 1\n"])
STEPS = some.lists(
    some.tuples(
        some.sampled_from([b"1", b"2", b"3"]),
        some.sampled_from(["record", "record", "record", "delete", "reopen", "find"]),
        some.integers(0, 8),
        some.sampled_from([0, 1, 400, RECENT_MS // 2, RECENT_MS + 1]),
    ),
    max_size=40,
)


@given(text=TEXTS, steps=STEPS)
def test_it_says_what_one_in_memory_says_whenever_it_is_closed_and_opened(
    tmp_path_factory: pytest.TempPathFactory, text: str, steps: list[tuple[bytes, str, int, int]]
):
    own, path = of(text), tmp_path_factory.mktemp("table") / "t.sqlite"
    memory, file = Table(own.enrich[0], own.features), opened(path)
    disk, log_ms = on_disk(own, file), 0
    for key, what, number, later_ms in steps:
        log_ms += later_ms
        if what in ("record", "delete"):
            value = b'{"limit": {"day": %d}, "from_ms": %d, "wind": 1}' % (number, number * HOUR_MS // 4)
            outcomes = []
            for one in (memory, disk):
                try:
                    one.take(key, value if what == "record" else None, log_ms)
                    outcomes.append("")
                except UnreadableRecord as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]
        elif what == "reopen":
            file.commit(7, disk.standing(), NOW_S)
            file.close()
            file = opened(path)
            assert file.kept is not None
            assert file.kept.following == 7
            disk = on_disk(own, file)
        request = asked(own, log_ms + 500, who={"id": int(key)}, airport=key.decode(), t_ms=number * HOUR_MS // 4)
        assert said(memory, request) == said(disk, request)
        assert (memory.records, memory.standing()) == (disk.records, disk.standing())
    file.close()


def test_what_was_not_committed_is_read_again(tmp_path: Path):
    path = tmp_path / "t.sqlite"
    own = filled(path)
    file = opened(path)
    found = on_disk(own, file)
    found.take(b"1", b'{"limit": {"day": 99}}', 2_000)
    assert said(found, asked(own, 9_000, who={"id": 1})) == {"limit": {"day": 99}}
    file.close()
    again = opened(path)
    assert again.kept is not None
    assert (again.kept.following, again.kept.standing.records) == (100, 100)
    assert said(on_disk(own, again), asked(own, 9_000, who={"id": 1})) == {"limit": {"day": 1}}


def in_the_middle(path: Path) -> None:
    """Bytes in the middle of the file, as a bad disk leaves them."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 2_000)


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def no_database(path: Path) -> None:
    path.write_bytes(b"nothing of the kind" * 1_000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [in_the_middle, truncated, no_database, empty])
def test_a_damaged_file_is_said_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
):
    path = tmp_path / "t.sqlite"
    own = filled(path, 2_000)
    harm(path)
    with caplog.at_level(logging.WARNING):
        file = opened(path)
    assert file.kept is None
    assert str(path) in caplog.text
    assert "damaged" in caplog.text
    assert "the table read from its topic again" in caplog.text
    assert said(on_disk(own, file), asked(own, 9_000, who={"id": 1})) is None
    file.commit(1, on_disk(own, file).standing(), NOW_S)
    file.close()
    assert opened(path).kept is not None


def test_a_flipped_bit_of_a_value_is_found_when_it_is_looked_up_and_the_file_is_gone(tmp_path: Path):
    path = tmp_path / "t.sqlite"
    own = filled(path)
    database = sqlite3.connect(path)
    (value,) = database.execute("SELECT value FROM versions WHERE key = ?", (b"7",)).fetchone()
    database.execute("UPDATE versions SET value = ?", (value.replace(b": 7", b": 9"),))
    database.commit()
    database.close()
    file = opened(path)
    assert file.kept is not None, "SQLite itself finds nothing wrong"
    with pytest.raises(TableDamaged, match="a value is not what was written.*read from its topic again"):
        on_disk(own, file).find(asked(own, 9_000, who={"id": 7}))
    assert not path.exists()
    assert opened(path).kept is None


@pytest.mark.parametrize(
    ("what", "later_s", "says"),
    [
        (b"topic 2, this shape", 0.0, "of another topic, or of features"),
        (WHAT, TOO_OLD_S + 1, "may have forgotten what was deleted since"),
    ],
)
def test_a_file_of_something_else_or_an_old_one_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: bytes, later_s: float, says: str
):
    filled(tmp_path / "t.sqlite")
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path / "t.sqlite", what, NOW_S + later_s).kept is None
    assert says in caplog.text


def test_a_second_process_does_not_take_the_file_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filled(tmp_path / "t.sqlite")
    first = opened(tmp_path / "t.sqlite")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, timeout=0.1, **named))
    with pytest.raises(RendezvousError, match="another process has it"):
        opened(tmp_path / "t.sqlite")
    assert first.get(b"1") is not None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationRefused, match="name a place that can be written"):
        opened(tmp_path / "file" / "t.sqlite")


def test_a_disk_that_is_full_is_said_and_costs_no_file(tmp_path: Path):
    path = tmp_path / "t.sqlite"
    filled(path)
    file = opened(path)
    (pages,) = file._execute("PRAGMA page_count").fetchone()
    file._execute(f"PRAGMA max_page_count = {pages}")
    large = [Version(0, 0, number, b"x" * 500) for number in range(1_000)]
    with pytest.raises(RendezvousError, match="free space; the router is started again") as raised:
        file.put(b"n", large)
    assert not isinstance(raised.value, TableDamaged)
    file.close()
    assert opened(path).kept is not None
