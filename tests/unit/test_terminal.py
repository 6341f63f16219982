"""What a producer or a model wrote is shown to people, and is no command to their terminal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import click
import pytest
from click.testing import CliRunner

from agents.cli import dead_letters, decisions, explain
from schemas.dead_letters import PREFIX
from schemas.decisions import Decision, Ticket, encode_decision
from tests.unit.small import TEXT

CLEARS = "\x1b[2J\nhealthy"
"""Clears the screen and writes a line of its own."""


class Wrote:
    """A record."""

    def __init__(self, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.value = lambda: value
        self.headers = lambda: headers
        self.topic = lambda: "small.raw"
        self.partition = self.offset = lambda: 0
        self.timestamp = lambda: (1, 1_000)


class Reader:
    """One record on every topic."""

    partitions = (0,)

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def at_time(self, _: int) -> dict[int, int]:
        return {}

    def to_end(self, *_: object) -> Iterator[Any]:
        decision = Decision(
            request_id=CLEARS,
            ticket=Ticket(0, 0),
            outcome="default",
            final=True,
            revision=0,
            model=None,
            version=None,
            score=None,
            scores={},
            missing=[],
            failed={},
            not_asked={},
            budget_ms=100,
            used_ms=1.0,
            decided_at_ms=1,
            reason=CLEARS,
        )
        yield Wrote(encode_decision(decision), [(PREFIX + "exception.message", CLEARS.encode())])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (decisions.decisions, ["--format", "table"]),
        (explain.explain, ["0/0"]),
        (dead_letters.dead_letters, ["ls"]),
        (dead_letters.dead_letters, ["show", "0/0"]),
    ],
)
def test_what_others_wrote_is_no_command_to_the_terminal(
    command: click.Command, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (decisions, explain, dead_letters):
        monkeypatch.setattr(module, "TopicReader", Reader)
        monkeypatch.setattr(module.place, "cluster", lambda: None)
    (tmp_path / "p.toml").write_text(TEXT)
    found = CliRunner().invoke(command, [*words, "-P", str(tmp_path / "p.toml")], standalone_mode=False)
    assert found.exception is None, found.exception
    assert "?[2J?healthy" in (found.stderr if "show" in words else found.stdout)
    assert "\x1b" not in (found.stderr if "show" in words else found.output)
