"""A new version of a model takes over from the old one under load, is taken back, and takes over for good."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.blocks import scores_of
from schemas.decisions import Decision
from schemas.roster import LEAD_MS, Moved, State
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from streams.pipeline_file import load as load_file
from tests.broker.models import BEYOND
from tests.broker.pipelines import Up, blocks, until, up, write
from tests.broker.test_roster import UNTOUCHED, Operator, raw_at_ms, unentitled
from tests.faults.load import Load, assert_kept, decisions, findings, plain

RATE = 100
SURE = 0.25
"""From here on version 1 says yes: it doubles x."""

AROUND_MS = 1_000
"""So long after a boundary decisions are looked at one by one: a gap would be there."""

GATES = "[promotion]\nshadow_s = 12\nrequests = 300\nagreement = 0.0\nlatency_share = 2.0\nerror_rate = 0.05\n"

STRICT = """
[promotion]
shadow_s = 0.1
requests = 10
agreement = 0.95
latency_share = 1e-6
error_rate = 1e-6
accuracy_loss = 0.1
max = 0.8
"""
ASKED = ("agreement", "latency_share", "error_rate", "min, max", "accuracy_loss")
"""Of an operator who asks for more than version 2 has shown: the same score for all, out of range, that says yes to
every request, and an error on one in fifty."""

ON_TIME_MS = 10
LATE_SHARE = 0.01
"""Of all: on two cores that hold the broker too, a pause of the host makes some late, takeovers or no takeovers."""


def takeovers(history: History) -> list[tuple[float, str]]:
    """When each began to count, and the version that was entitled from then on."""
    return [
        (entry.from_ms, entry.record.version)
        for entry in history.entries
        if isinstance(entry.record, Moved) and entry.record.replaces
    ]


def wrong_versions(history: History, answers: list[Decision], at_ms: dict[int, int]) -> dict[int, str]:
    """Decisions by another version of `good` than the one entitled at their ticket."""
    return {
        one.ticket.offset: f"{one.version}, not {entitled}"
        for one in answers
        if one.model == "good"
        and one.version != (entitled := history.spans.at(at_ms[one.ticket.offset]).model("good").version)
    }


class Values:
    """What is sent: every second has x on both sides of what is sure; from a number on, one in fifty is beyond what
    version 2 takes.
    """

    def __init__(self) -> None:
        self.beyond_from: int | None = None

    def __call__(self, number: int) -> dict[str, Any]:
        beyond = self.beyond_from is not None and number >= self.beyond_from and number % 50 == 0
        return plain(11 * number) | ({"x": BEYOND} if beyond else {})


def first_scores(pipeline: Up, version: str, count: int) -> list[float]:
    """The first that a version of `good` has given."""
    return [
        score for block in blocks(pipeline, "good") if block.version == version for score in scores_of(block.scores)
    ][:count]


def labelled(load: Load, file: Path) -> Path:
    """What became of each request: version 1 was right about all of them."""
    told = [
        {"request_id": id_, "label": load.value(int(id_.rpartition("-")[2]))["x"] >= SURE}
        for id_ in list(load.acknowledged.values())
    ]
    file.write_text("".join(f"{json.dumps(one)}\n" for one in told))
    return file


@pytest.mark.timeout(280)
def test_a_new_version_takes_over_at_a_ticket_is_taken_back_and_takes_over_for_good(
    cluster: Cluster, tmp_path: Path, name: str
):
    # A budget that a busy machine keeps: a gap at a boundary would still be one.
    file = write(tmp_path, name, budget_ms=2_000, more=GATES)
    operator = Operator(cluster, file, tmp_path / "state")
    strict = Operator(cluster, write(tmp_path / "strict", name, budget_ms=2_000, more=STRICT), tmp_path / "state")

    values = Values()

    def beside() -> State | None:
        member = RosterLog(cluster, load_file(file)).read().roster.beside.get("good")
        return member.state if member else None

    with up(cluster, file, name, tmp_path / "state", "--standby") as pipeline:
        with Load(cluster, pipeline.topics.raw, RATE, values) as load:
            load.wait(1)
            new = ("--callable", "tests.broker.models:LateStarter", "--version", "2")
            operator.says("add", "good", *new, "--why", "trained anew")
            until(lambda: beside() is State.SHADOW, 30, "version 2 scores beside version 1")
            values.beyond_from = load.sent + RATE  # nothing of that is sent yet
            assert {"scorer.good", "scorer.good@2"} <= set(pipeline.status["roles"])
            refused = operator.ended("promote", "good", "--version", "2")
            assert (refused.returncode, "shadow_s" in refused.stderr) == (3, True), refused
            operator.says("promote", "good", "--version", "2", "--force")
            load.wait(2)
            operator.says("rollback", "--why", "worse after all")
            load.wait(2)
            asked = ("promote", "good", "--version", "2", "--labels", str(labelled(load, tmp_path / "labels.jsonl")))
            refused = strict.ended(*asked)
            assert (refused.returncode, beside()) == (3, State.SHADOW), refused
            assert [gate for gate in ASKED if f"\n{gate}: " not in refused.stderr] == [], refused.stderr
            assert "% of its answers are errors, not 0.00%" in refused.stderr
            until(lambda: operator.ended("promote", "good", "--version", "2").returncode == 0, 60, "its gates let it")
            load.wait(2)
            operator.says("retire", "good", "--version", "1")
            until(lambda: "scorer.good" not in pipeline.status["roles"], 30, "version 1 has no process")
            load.wait(1)
        found = findings(pipeline, file, load)
        answers, at_ms = decisions(pipeline, load), raw_at_ms(pipeline)
        history = RosterLog(cluster, load_file(file)).read()
        others = [role for role in UNTOUCHED if role != "scorer.good"]
        assert [pipeline.restarts(role) for role in (*others, "scorer.good@2")] == [0] * (len(others) + 1)
        shown = operator.says("show", "good")[0]
        began = first_scores(pipeline, "2", RATE)
        assert operator.golden()["compared"] > len(answers) / 2, "the archived moves say who was entitled"

    assert_kept(found)
    assert unentitled(history, answers, at_ms) == {}
    assert wrong_versions(history, answers, at_ms) == {}
    assert (len(began), set(began)) == (RATE, {0.9}), "it was warm when its first score was given"
    boundaries = takeovers(history)
    assert [version for _, version in boundaries] == ["2", "1", "2"]
    moves = [entry for entry in history.entries if isinstance(entry.record, Moved) and entry.record.replaces]
    assert [bool(move["forced"]) for move in shown["moves"] if move.get("replaces")] == [True, False, False]
    assert [entry.from_ms - entry.log_ms for entry in moves] == [LEAD_MS] * 3, "a rollback too counts within a second"
    first_tickets = [move["first_tickets"] for move in shown["moves"] if move.get("replaces")]
    late = defaults = 0
    for (from_ms, version), tickets in zip(boundaries, first_tickets, strict=True):
        around = [one for one in answers if from_ms <= at_ms[one.ticket.offset] < from_ms + AROUND_MS]
        assert str(min(one.ticket for one in around)) in tickets
        assert sum(one.model == "good" for one in around) > 0.9 * len(around) > 0.5 * RATE
        assert {one.version for one in around if one.model == "good"} == {version}
        defaults += sum(one.model is None for one in around)
        late += sum(one.used_ms > one.budget_ms + ON_TIME_MS for one in around)
    print(f"{found.decided} decided, {found.late} late; around three takeovers {late} late, {defaults} by default")
    assert defaults == 0, "nobody was without an answer around a boundary"
    assert late == 0
    assert found.late <= LATE_SHARE * found.decided
