"""`models promote` and `models rollback`: which move is made of what the roster says, and what is looked at before."""

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from agents.cli import moves
from schemas.pipeline import Promotion
from schemas.roster import Moved, State
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from tests.unit.small import pipeline
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
