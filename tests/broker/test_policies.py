"""Policies on real Kafka: cohorts that stay, scores that are guarded, answers that get better across a kill."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from schemas.decisions import Decision, decode_decision
from schemas.requests import Request
from streams.core.policy_branches import branches_of
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load
from tests.broker.commands import rendezvous
from tests.broker.models import LATE, SLOW
from tests.broker.pipelines import Up, environment, outcome, send, until, up, write

WEIGHTED = """
[policy]
kind = "weighted"
by = "customer.id"
cohorts = [{model = "good", weight = 1}, {model = "plain", weight = 1}]

[[policy.guards]]
model = "good"
max = 100
"""
BEST = """
[policy]
kind = "best"
refine = true
"""


def event(number: int, x: float = 0.25) -> bytes:
    of = {"request_id": f"r{number}", "x": x, "colour": "red", "customer": {"id": f"c{number % 10}"}}
    return json.dumps(of).encode()


def test_a_customer_stays_in_the_cohort_and_a_guarded_score_cannot_win(cluster: Cluster, name: str, tmp_path: Path):
    file = write(tmp_path, name, 700, WEIGHTED)
    branches = branches_of(load(file))
    assert branches is not None
    ours = {n: branches.of(Request(0, "r", 0, 1, None, None, None, event(n)))[0] for n in range(10)}
    assert set(ours.values()) == {"good", "plain"}
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        warm = send(cluster, pipeline.topics.raw, [event(n) for n in range(100)], 100)
        assert len(outcome(pipeline, warm).decisions) == 100
        found = outcome(pipeline, send(cluster, pipeline.topics.raw, [event(n) for n in range(200)], 200))
        answered = 0
        for decision in found.decisions.values():
            cohort = ours[int(decision.request_id[1:]) % 10]
            assert decision.branch == cohort, "as this process says, so does that one"
            answered += decision.model == cohort
        assert answered >= 150, "by the cohort's model, unless the machine is overloaded"

        wild = [event(n, x=500.0) for n in range(10)]
        headers = [[("diagnostics", b"1"), ("budget-ms", b"3000")]] * 10
        for decision in outcome(
            pipeline, send(cluster, pipeline.topics.raw, wild, headers=headers)
        ).decisions.values():
            if ours[int(decision.request_id[1:])] == "good":
                assert decision.guarded == {"good": "1000.0 is above 100.0"}
            assert decision.model == "plain"
            assert decision.trace
            assert decision.trace[0].what == f"read, branch {decision.branch}"
            assert (decision.trace[-1].what, decision.trace[-1].chosen) == ("final", "plain")
        assert all(decision.trace is None for decision in found.decisions.values()), "only who asks is told"
        assert_compared(pipeline, file, found.decisions.values())


def assert_compared(pipeline: Up, file: Path, answers: Collection[Decision]) -> None:
    """By the archive alone each request has one record: the answer that was given, and the steps that led to it."""
    out = file.parent / "comparisons.parquet"
    words = ["archive", "comparisons", "--out", str(out), "-P", str(file)]
    where, rows = environment(pipeline.cluster, pipeline.state), dict[int, dict[str, Any]]()

    def archived() -> bool:
        done = rendezvous(words, where)
        if done.returncode:
            assert "the archive holds nothing of" in done.stderr, done.stderr  # not yet
            return False
        rows.update((row["raw_offset"], row) for row in pq.read_table(out).to_pylist())
        return rows.keys() >= {decision.ticket.offset for decision in answers}

    until(archived, 60, "the archive has closed its files")
    for decision in answers:
        row = rows[decision.ticket.offset]
        assert (row["outcome"], row["winner"], row["score"]) == (decision.outcome, decision.model, decision.score)
        assert (row["request_id"], row["branch"]) == (decision.request_id, decision.branch)
        seen = {one["model"]: one["score"] for one in row["models"] if one["seen"]}
        assert seen == {model: one.score for model, one in decision.scores.items()}
        assert [(one["model"], one["role"]) for one in row["models"]] == [
            ("good", "champion"),
            ("plain", "challenger"),
            ("watcher", "canary"),
        ]
        assert row["trace"][0]["what"] == f"read, branch {decision.branch}"
        assert row["trace"][-1]["chosen"] == row["again"]["winner"]
    assert sum(rows[decision.ticket.offset]["as_written"] for decision in answers) > len(answers) / 2


def said(pipeline: Up, offset: int) -> list[Decision]:
    """Every record about one ticket, in the order of the log."""
    with TopicReader(pipeline.cluster, pipeline.topics.decisions) as reader:
        decisions = [decode_decision(message.value() or b"") for message in reader.to_end()]
    return [decision for decision in decisions if decision.ticket.offset == offset]


def test_an_answer_gets_better_and_a_killed_rendezvous_goes_on_where_it_was(
    cluster: Cluster, name: str, tmp_path: Path
):
    file = write(tmp_path, name, 4_000, BEST)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        where = environment(cluster, pipeline.state)
        asked = rendezvous(["ask", event(1, x=LATE).decode(), "--refine", "--diagnostics"], where)
        final = json.loads(asked.stdout)
        assert (final["model"], final["final"], final["revision"]) == ("good", True, 1), asked.stderr
        assert asked.stderr.startswith("revision 0 after ")
        assert [step["chosen"] for step in final["trace"] if "chosen" in step] == ["plain", "good"]

        raw = send(cluster, pipeline.topics.raw, [event(2, x=SLOW)], headers=[[("budget-ms", b"20000")]])
        (offset,) = raw
        until(lambda: len(said(pipeline, offset)) == 1, 10, "an answer that is not final")
        pipeline.kill("rendezvous")
        (decision,) = outcome(pipeline, raw, 30).decisions.values()
        assert (decision.model, decision.revision) == ("good", 1)
        records = said(pipeline, offset)
        assert [(one.revision, one.final, one.model) for one in records] == [(0, False, "plain"), (1, True, "good")]

        for option, count in ((), 2), (("--all",), 4):
            lines = rendezvous(["decisions", "--format", "json", *option], where)
            assert (lines.returncode, len(lines.stdout.splitlines())) == (0, count)
        checked = rendezvous(["verify", "--json", "--no-archive"], where)
        assert (checked.returncode, json.loads(checked.stdout)["second_finals"]) == (0, 0)
