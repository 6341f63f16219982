"""A report that is made anew: whole or not at all, going on after what went wrong, and at rest when it is ended."""

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException

from agents.cli.report import report
from agents.cli.report_live import reloading, turns
from schemas.errors import ConfigurationRefused, KafkaUnreachable, RendezvousError
from tests.unit.small import TEXT

PAGE = "<!doctype html><html><body><h1>{}</h1></body></html>"


def ending_after(
    pauses: int, looks: Callable[[], None] = lambda: None
) -> tuple[Callable[[float], None], list[float]]:
    """A pause that takes no time, and Ctrl-C in the last of them; `looks` at what is there meanwhile."""
    paused: list[float] = []

    def pause(seconds: float) -> None:
        looks()
        paused.append(seconds)
        if len(paused) == pauses:
            raise KeyboardInterrupt

    return pause, paused


def test_each_turn_takes_the_place_of_the_last_and_ctrl_c_leaves_a_page_at_rest(tmp_path: Path):
    out, pages, seen = tmp_path / "now.html", iter(map(PAGE.format, range(9))), list[str]()
    pause, paused = ending_after(3, lambda: seen.append(out.read_text()))
    with pytest.raises(KeyboardInterrupt):
        turns(lambda: next(pages), out, 5.0, pause)
    assert [f"<h1>{number}</h1>" in text for number, text in enumerate(seen)] == [True] * 3
    assert all("location.reload()" in text and 'id="made"' in text for text in seen)
    assert out.read_text() == PAGE.format(2)
    assert [path.name for path in tmp_path.iterdir()] == ["now.html"]
    assert all(0 < seconds <= 5 for seconds in paused)


def test_half_of_the_time_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    pause, paused = ending_after(1)
    with pytest.raises(KeyboardInterrupt):
        turns(lambda: PAGE, None, 5.0, pause)
    assert paused == [40.0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConfigurationRefused("no request in this range"), "no request in this range"),
        (KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)), "Kafka does not answer as it should"),
    ],
)
def test_what_goes_wrong_later_is_said_once_and_the_page_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, words: str
):
    out, turn_ = tmp_path / "now.html", iter([0, 1, 2, 3])

    def turn() -> str:
        number = next(turn_)
        if number in {1, 2}:
            raise error
        return PAGE.format(number)

    seen: list[str] = []
    pause, _ = ending_after(4, lambda: seen.append(out.read_text().partition("<h1>")[2][0]))
    with pytest.raises(KeyboardInterrupt):
        turns(turn, out, 5.0, pause)
    assert seen == ["0", "0", "0", "3"]
    assert capsys.readouterr().err.count(f"not made anew, and tried again: {words}") == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigurationRefused("no such pipeline"), ConfigurationRefused),
        (KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)), KafkaUnreachable),
    ],
)
def test_what_goes_wrong_at_first_ends_it(tmp_path: Path, error: Exception, told: type[RendezvousError]):
    def turn() -> str:
        raise error

    with pytest.raises(told):
        turns(turn, tmp_path / "now.html", 5.0, ending_after(1)[0])
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_ours_is_not_passed_over(tmp_path: Path):
    pages = iter([PAGE])
    with pytest.raises(StopIteration):
        turns(lambda: next(pages), tmp_path / "now.html", 5.0, ending_after(3)[0])


def test_the_line_stands_where_the_page_begins_whatever_it_says():
    text = reloading(PAGE.format("&lt;body&gt;"), 1_764_000_000_000, 30)
    assert text.startswith('<!doctype html><html><body><p id="made"')
    assert "Made at 2025-11-24T16:00:00.000Z, and anew every 30 s." in text


def test_live_has_no_end(tmp_path: Path):
    (tmp_path / "p.toml").write_text(TEXT)
    words = ["-P", str(tmp_path / "p.toml"), "--live", "--until", "1h", "-o", str(tmp_path / "x.html")]
    with pytest.raises(click.UsageError, match="--live goes on from now"):
        CliRunner().invoke(report, words, standalone_mode=False, catch_exceptions=False)


def test_what_is_no_file_is_not_replaced_by_a_page(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationRefused, match="pipe: it is there, and no regular file"):
        turns(lambda: PAGE, pipe, 5.0, ending_after(1)[0])
    assert (pipe.is_fifo(), list(tmp_path.iterdir())) == (True, [pipe])
