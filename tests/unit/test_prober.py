"""When a round of probes leaves: on a clock, at once when it is asked for, and once a move of the roster counts."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.prober import ANNOUNCED_S, APART_S, Prober
from agents.reading import SKEW_MS
from schemas.roster import Began, Moved, Noted, State
from streams.core.entitlement import Entry
from streams.core.probing import Probe, Probing
from streams.kafka.batch import Outgoing, Sending
from tests.unit.small import pipeline

EVERY_S = 600.0
COUNTS_MS = 50_000.0


class App:
    """A producer that has every record at once, and two clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.producer = self
        self.at_s = 0.0

    def now_ms(self) -> float:
        return 1e3 * self.at_s

    async def send_batch(self, sending: Sending, records: list[Outgoing]) -> None: ...

    async def flush(self) -> None: ...

    async def resolve_failures(self, _: Sending) -> None: ...


class Rounds:
    """A prober with one probe, whose first round has left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app: Any = App()
        monkeypatch.setattr("agents.prober.time", SimpleNamespace(monotonic=lambda: self.app.at_s))
        self.probing = Probing(1)
        self.probing.take_over([Probe(None, b'{"x": 1}')], "set")
        self.prober = Prober(pipeline(), self.app, EVERY_S)
        asyncio.run(self.prober.announce())
        assert self.at(ANNOUNCED_S) == 1

    def at(self, at_s: float) -> int:
        """How many have left by then."""
        self.app.at_s = at_s
        asyncio.run(self.prober.look(self.probing))
        return self.prober.rounds


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


def entry(record: Began | Moved | Noted, from_ms: float = COUNTS_MS) -> Entry:
    return Entry(0, from_ms - 500, from_ms, record)


def move(after: State) -> Moved:
    return Moved(model="second", version="2", before=State.SHADOW, after=after, who="somebody", at_ms=0)


def test_a_round_leaves_on_the_clock_and_one_that_is_asked_for_at_once(rounds: Rounds):
    assert rounds.at(ANNOUNCED_S + EVERY_S - 1) == 1
    assert rounds.at(ANNOUNCED_S + EVERY_S) == 2
    last_s = ANNOUNCED_S + EVERY_S
    rounds.prober.ask()
    assert rounds.at(last_s + APART_S / 2) == 2, "never two in so short a time"
    assert rounds.at(last_s + APART_S) == 3
    assert rounds.at(last_s + 2 * APART_S) == 3, "once"


def test_a_round_leaves_as_soon_as_a_move_counts_though_nobody_asks_anything(rounds: Rounds):
    later_ms = COUNTS_MS + 20_000
    rounds.prober.moved([entry(move(State.CHALLENGER)), entry(move(State.SHADOW), later_ms)])
    assert rounds.at((COUNTS_MS + SKEW_MS) / 1e3 - 0.1) == 1
    assert rounds.at((COUNTS_MS + SKEW_MS) / 1e3) == 2
    assert rounds.at((later_ms + SKEW_MS) / 1e3 - 0.1) == 2
    assert rounds.at((later_ms + SKEW_MS) / 1e3) == 3, "the second one has its own"
    assert rounds.at((later_ms + SKEW_MS) / 1e3 + 10) == 3


def test_what_changes_no_score_asks_for_no_round(rounds: Rounds):
    noted = Noted(model="second", version="2", quarantined=True, who="up", at_ms=0)
    began = Began(models=(), who="up", at_ms=0)
    rounds.prober.moved(map(entry, (move(State.STAGED), move(State.WARMING), noted, began)))
    assert rounds.at(COUNTS_MS / 1e3 + 60) == 1
