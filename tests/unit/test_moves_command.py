"""`models promote` and `models rollback`: which move is made of what the roster says, and what is looked at before."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from agents.cli import moves
from schemas.pipeline import Promotion
from schemas.roster import Moved, State
from streams.core.gates import Shown
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from tests.unit.small import TEXT, pipeline
from tests.unit.test_roster import JOINS, history, promoted

GATES = Promotion(requests=3000, shadow_s=0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Moved]:
    """Moves that were made of a roster with two promotions, the last one to challenger."""
    found: list[Moved] = []
    of = replace(pipeline(), promotion=GATES)
    roster = history(promoted("second", State.CHALLENGER, "first"), JOINS)
    monkeypatch.setattr(moves, "look", lambda _: (of, Cluster("nowhere:9"), roster))
    monkeypatch.setattr(RosterLog, "move", lambda _, move: found.append(move))
    return found


def test_a_promotion_to_challenger_is_what_a_rollback_takes_back(made: list[Moved]):
    done = CliRunner().invoke(moves.rollback, ["--why", "worse", "--who", "ann"])
    assert (done.exit_code, done.output) == (0, "mirror is a shadow again\n")
    (move,) = made
    assert (move.model, move.before, move.after, move.undoes) == ("mirror", State.CHALLENGER, State.SHADOW, True)


def of_decisions(there: int, one_in: int, looks: list[int]) -> Callable[..., list[Shown]]:
    """What is shown on the last decisions of one partition, of which one in so many counts."""

    def shown(last: int, _: object) -> list[Shown]:
        looks.append(last)
        return [Shown(budget_ms=100, score=0.4, age_ms=5, champion=0.4)] * (min(looks[-1], there) // one_in)

    return shown


@pytest.mark.parametrize(
    ("there", "one_in", "words", "looks", "says"),
    [
        (9_000, 1, (), [3_000], ""),  # its gate may open at all
        (50_000, 2, (), [3_000, 12_000], ""),
        (5_000, 2, (), [3_000, 12_000], "requests: it was seen on 2500, not 3000"),
        (
            9_000,
            1,
            ("--last", "500"),
            [500],
            "--last: only 500 decisions of each partition were looked at; leave it out",
        ),
    ],
)
def test_a_promotion_looks_at_as_many_decisions_as_its_gates_need(
    made: list[Moved],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    there: int,
    one_in: int,
    words: tuple[str, ...],
    looks: list[int],
    says: str,
):
    looked: list[int] = []
    file = tmp_path / "p.toml"
    file.write_text(TEXT)
    monkeypatch.setattr(moves, "asked_of", lambda *given: given[4])
    monkeypatch.setattr(moves, "shown", of_decisions(there, one_in, looked))
    monkeypatch.setattr(moves, "decided_since", lambda *_: there)
    monkeypatch.setattr(moves, "beside_s", lambda *_: 1e6)
    monkeypatch.setattr(moves, "oldest_ms", lambda *_: 0.0)
    done = CliRunner().invoke(moves.promote, ["mirror", "-P", str(file), *words], standalone_mode=False)
    assert looked == looks
    assert done.return_value == (3 if says else 0), done.output
    assert says in done.output
    assert len(made) == (0 if says else 1)
