"""Models are deployed, promoted, rolled back and retired at full rate: nothing is lost, and hardly anything late.

The bar is 99.9 % on time and none later than 250 ms beyond its budget; the long form asserts both, and names the
latest answers: with the time from the decision to the log apart, a pause of the broker is told from one of ours.
"""

from collections import Counter
from pathlib import Path

import pytest

from schemas.blocks import ScoreBlock, decode_scores
from schemas.decisions import decode_decision
from schemas.roster import Moved, State
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from streams.kafka.groups import Groups
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog
from streams.pipeline_file import load as load_file
from tests.broker.pipelines import Up, until, up, write
from tests.broker.test_roster import UNTOUCHED, Operator, raw_at_ms, topics_of_models, trained, unentitled
from tests.faults.conftest import LONG, Note
from tests.faults.load import Load, assert_kept, decisions, findings

RATE = 500 if LONG else 60
FRESH = '[kafka.producer]\n"topic.metadata.refresh.interval.ms" = 1000\n'
"""A producer notices within a second that a topic is gone, not within five minutes."""

TREES = "trees.txt"
ROUNDS = 5 if LONG else 1
AFTER_MS = 500
LATE_SHARE, ON_TIME_MS, LATEST_MS = 0.001, 10, 250


def late_after(pipeline: Up, history: History, at_ms: dict[int, int]) -> dict[str, int]:
    """How many requests of each second after each kind of move were answered late, and by whom."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    moves = [(entry.log_ms, str(entry.record.after)) for entry in history.entries if isinstance(entry.record, Moved)]
    with TopicReader(pipeline.cluster, pipeline.topics.decisions) as reader:
        for message in reader.to_end():
            decision = decode_decision(message.value() or b"")
            offset = decision.ticket.offset
            if decision.final and offset not in seen:
                seen.add(offset)
                if message.timestamp()[1] > at_ms[offset] + decision.budget_ms + ON_TIME_MS:
                    before_ms, to = max((move for move in moves if move[0] <= at_ms[offset]), default=(0, "start"))
                    who = "standby" if decision.standby else "owner"
                    found[f"{to} +{(at_ms[offset] - before_ms) // 1_000:.0f} s, {who}"] += 1
    return dict(found.most_common(12))


def latest(pipeline: Up, history: History, at_ms: dict[int, int], count: int = 10) -> list[str]:
    """The latest answers: how late, of that in the log's way after the decision, by whom, so long after which move."""
    found: dict[int, tuple[float, str]] = {}
    moves = [(entry.log_ms, str(entry.record.after)) for entry in history.entries if isinstance(entry.record, Moved)]
    with TopicReader(pipeline.cluster, pipeline.topics.decisions) as reader:
        for message in reader.to_end():
            decision = decode_decision(message.value() or b"")
            offset = decision.ticket.offset
            if decision.final and offset not in found:
                late_ms = message.timestamp()[1] - at_ms[offset] - decision.budget_ms
                way_ms = message.timestamp()[1] - at_ms[offset] - decision.used_ms
                before_ms, to = max((move for move in moves if move[0] <= at_ms[offset]), default=(0, "start"))
                who = f"{'standby' if decision.standby else 'owner'}, {decision.outcome}, {decision.reason}"
                found[offset] = (
                    late_ms,
                    f"{late_ms} ms late, of these {way_ms:.0f} on the way; {to} +{at_ms[offset] - before_ms:.0f} ms; {who}",
                )
    return [said for _, said in sorted(found.values(), reverse=True)[:count]]


def comes_and_goes(operator: Operator, pipeline: Up, load: Load, new: str) -> None:
    """One model's life: deployed, refused by its gates, promoted all the same, rolled back, retired."""
    operator.says("add", new, TREES, "--version", "7", "--why", "a better one")
    until(lambda: operator.is_(new, State.SHADOW), 30, f"{new} scores")
    refused = operator.ended("promote", new)
    assert (refused.returncode, "shadow_s" in refused.stderr) == (3, True), refused
    operator.says("promote", new, "--force")
    load.wait(2)
    operator.says("rollback", "--why", "worse after all")
    load.wait(1)
    assert operator.is_(new, State.SHADOW), "where it was before its promotion"
    operator.says("retire", new)
    until(lambda: f"scorer.{new}" not in pipeline.status["roles"], 30, f"{new} has no process")
    assert_drained(pipeline, new)


def assert_drained(pipeline: Up, name: str) -> None:
    """Before its process ended it has done all that it was sent."""
    topic, group = pipeline.topics.model(name), f"{pipeline.name}.scorer.{name}.7"
    with TopicReader(pipeline.cluster, topic) as reader:
        ends = {number: end for number, (_, end) in reader.bounds().items()}
    assert ends[0] > 0
    assert Groups(pipeline.cluster).committed(group, topic, ends) == ends


def its_topic_goes_and_comes_again(operator: Operator, pipeline: Up, load: Load, name: str) -> None:
    """The retired model's topic is deleted; the same name and version come again, on a topic made anew."""
    topic = pipeline.topics.model(name)
    assert operator.says("retire", name, "--delete-topic") == [{"model": name, "deleted": [topic]}]
    assert topic not in topics_of_models(pipeline.cluster, pipeline.name)
    load.wait(2)  # every producer has noticed
    assert topic not in topics_of_models(pipeline.cluster, pipeline.name), "nobody has made it anew"
    assert operator.says("retire", name, "--delete-topic") == [{"model": name, "deleted": []}]
    operator.says("add", name, TREES, "--version", "7", "--why", "after all")
    until(lambda: operator.is_(name, State.SHADOW), 30, f"{name} is there again")
    until(lambda: name in scoring(pipeline), 30, f"{name} scores again")


def scoring(pipeline: Up) -> set[str]:
    """Whose scores are among the last ones."""
    with TopicReader(pipeline.cluster, pipeline.topics.scores) as reader:
        starts = {number: max(low, end - RATE) for number, (low, end) in reader.bounds().items()}
        blocks = [decode_scores(message.value()) for message in reader.to_end(starts)]
    return {block.model for block in blocks if isinstance(block, ScoreBlock)}


def took_effect_ms(history: History) -> list[float]:
    """How long after each move that changed anything it began to count."""
    starts = {span.from_ms for span in history.spans.spans[1:]}
    return [entry.from_ms - entry.log_ms for entry in history.entries if entry.from_ms in starts]


@pytest.mark.timeout(600)
def test_deploys_promotions_and_retirements_at_full_rate(cluster: Cluster, tmp_path: Path, name: str, note: Note):
    file, state = write(tmp_path, name, more=FRESH), tmp_path / "state"
    (tmp_path / TREES).write_text(trained("x", "colour", "size"))
    operator = Operator(cluster, file, state, elsewhere=LONG)
    with up(cluster, file, name, state, "--standby") as pipeline:
        with Load(cluster, pipeline.topics.raw, RATE) as load:
            load.wait(2)
            for number in range(ROUNDS):
                comes_and_goes(operator, pipeline, load, f"new-{number}")
            its_topic_goes_and_comes_again(operator, pipeline, load, "new-0")
            load.wait(1)
        found = findings(pipeline, file, load)
        answers, at_ms = decisions(pipeline, load), raw_at_ms(pipeline)
        history = RosterLog(cluster, load_file(file)).read()
        assert [pipeline.restarts(role) for role in UNTOUCHED] == [0] * len(UNTOUCHED), pipeline.logs()
        print(f"late, by the move before them and the seconds since: {late_after(pipeline, history, at_ms)}")
        if LONG:
            print("the latest:", *latest(pipeline, history, at_ms), sep="\n  ")
        told = operator.says("history")
        assert operator.golden()["compared"] > len(answers) / 2, "the archived moves say who was entitled"
    moves = len(history.spans.spans) - 1
    note("models come and go", f"{moves} moves that counted, at {RATE}/s; nobody not entitled answered", found)
    assert_kept(found)
    assert unentitled(history, answers, at_ms) == {}
    assert {f"new-{number}" for number in range(ROUNDS)} | {"good"} <= {answer.model for answer in answers}
    assert took_effect_ms(history) == [AFTER_MS] * moves
    steps = ["staged", "warming", "shadow", "champion", "champion", "retired"]
    again = [(step, False) for step in steps[:3]]
    assert [(one["to"], bool(one.get("undoes"))) for one in told if "new-0" in (one["model"], one["displaced"])] == [
        *((step, place == 4) for place, step in enumerate(steps)),
        *again,
    ]
    assert all(one["forced"] for one in told if one.get("to") == "champion" and not one.get("undoes"))
    if LONG:
        assert moves >= 20
        assert found.late <= LATE_SHARE * found.decided
        assert found.worst_late_ms <= LATEST_MS
