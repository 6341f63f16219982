"""Models that need another's score, on real Kafka with real processes: of every kind, under failures, and moved."""

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from confluent_kafka import Producer

from schemas.blocks import NotAskedBlock, ScoreBlock, decode_rows, decode_scores, offsets_of, scores_of
from schemas.decisions import Decision
from schemas.roster import State
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.models.artifact import sum_of
from tests.broker.models import LATE, POISON
from tests.broker.pipelines import Up, outcome, send, until, up, write
from tests.broker.test_kinds import decided, event
from tests.broker.test_pipeline import NOT_A_TIMEOUT_MS
from tests.broker.test_roster import Operator

pytestmark = pytest.mark.timeout(300)

COUNT = 300

NEEDING = """
[policy]
kind = "best"
order = ["more", "good"]

[[models]]
name = "more"
version = "1"
kind = "python"
role = "challenger"
callable = "tests.broker.models:one_more"
needs = ["good"]

[[models]]
name = "trees"
version = "1"
kind = "lightgbm"
role = "shadow"
artifact = "trees.txt"
sha256 = "{digest}"
features = ["good.score", "x"]
needs = ["good"]

[[models]]
name = "second"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:second_opinion"
takes = "events"
needs = ["good"]

[[models]]
name = "last"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:one_more"
needs = ["more"]

[[models]]
name = "other"
version = "12"
kind = "external"
role = "shadow"
wire = "json"
takes = "events"
needs = ["good", "watcher"]

[[models]]
name = "seen"
version = "1"
kind = "constant"
role = "decoy"
value = 0.0
needs = ["good"]
"""


def trees(folder: Path) -> str:
    """A model that says little more than what it needs says; returns the file's sum."""
    rng = np.random.default_rng(1)
    rows = rng.random((500, 2))
    data = lightgbm.Dataset(rows, rows[:, 0], feature_name=["good.score", "x"])
    lightgbm.train({"objective": "regression", "verbosity": -1}, data, 20).save_model(folder / "trees.txt")
    return sum_of((folder / "trees.txt").read_bytes())


def scores_on(pipeline: Up, model: str) -> tuple[dict[int, list[float]], dict[int, str]]:
    """Every score of a model by offset, and its errors."""
    scores: dict[int, list[float]] = {}
    errors: dict[int, str] = {}
    with TopicReader(pipeline.cluster, pipeline.topics.scores) as reader:
        for message in reader.to_end():
            block = decode_scores(message.value())
            if isinstance(block, ScoreBlock) and block.model == model:
                for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                    scores.setdefault(offset, []).append(score)
                errors |= {error.offset: error.reason for error in block.errors}
    return scores, errors


def passed_over(pipeline: Up, model: str) -> set[int]:
    """Of which requests the router has said that it does not ask a model, be it after their decision."""
    with TopicReader(pipeline.cluster, pipeline.topics.scores) as reader:
        blocks = [decode_scores(message.value()) for message in reader.to_end()]
    return {
        offset
        for block in blocks
        if isinstance(block, NotAskedBlock) and model in block.models
        for offset in offsets_of(block.offsets)
    }


def rows_on(pipeline: Up, model: str) -> set[int]:
    """Of which requests a model was given rows."""
    with TopicReader(pipeline.cluster, pipeline.topics.model(model)) as reader:
        return {offset for message in reader.to_end() for offset in decode_rows(message.value()).offsets.tolist()}


def json_rows(pipeline: Up, model: str) -> list[dict[str, Any]]:
    with TopicReader(pipeline.cluster, pipeline.topics.model(model)) as reader:
        return [json.loads(message.value() or b"") for message in reader.to_end()]


def x_of(answer: Decision) -> float:
    return int(answer.request_id.removeprefix("r")) / 1000


def test_models_of_every_kind_are_given_the_score_they_need(cluster: Cluster, tmp_path: Path, name: str):
    file = write(tmp_path, name, budget_ms=3_000, more=NEEDING.format(digest=trees(tmp_path)))
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        assert {"coupler.more", "coupler.trees", "coupler.second", "coupler.other", "coupler.seen"} <= set(
            pipeline.status["roles"]
        )
        until(lambda: decided(pipeline, event(1))[0].model == "more", 60, "an answer with the score it needs")
        answers = decided(pipeline, *[event(number) for number in range(COUNT)], rate=200)
        assert {answer.model for answer in answers} == {"more"}
        for answer in answers:
            x = x_of(answer)
            assert answer.score == pytest.approx(2 * x + 1)
            assert answer.needs is not None
            assert answer.needs["more"] == ("good",)
            assert answer.needs["other"] == ("good", "watcher")

        offsets = [answer.ticket.offset for answer in answers]
        for model in ("last", "second", "trees"):
            until(lambda of=model: set(offsets) <= scores_on(pipeline, of)[0].keys(), 30, f"each score of {model}")
        for model, right in (
            ("last", lambda x: 2 * x + 2),
            ("second", lambda x: 2 * x),
        ):
            scores, errors = scores_on(pipeline, model)
            assert [scores[one.ticket.offset] for one in answers] == [
                [pytest.approx(right(x_of(a)))] for a in answers
            ]
            assert errors == {}
        scores, _ = scores_on(pipeline, "trees")
        assert [scores[a.ticket.offset][0] for a in answers] == pytest.approx([2 * x_of(a) for a in answers], abs=0.1)

        until(lambda: set(offsets) <= {row["offset"] for row in json_rows(pipeline, "other")}, 30, "rows for other")
        rows = {row["offset"]: row for row in json_rows(pipeline, "other")}
        for answer in answers:
            row = rows[answer.ticket.offset]
            good = pytest.approx(2 * x_of(answer))
            assert row["features"] == [x_of(answer), 0.0, 2.0, good, 0.25]
            assert (row["event"]["good.score"], row["event"]["watcher.score"]) == (good, 0.25)
            assert row["event"]["note"] == "abc"
        until(lambda: set(offsets) <= rows_on(pipeline, "seen"), 30, "rows for the decoy")
        with TopicReader(cluster, pipeline.topics.model("seen")) as reader:
            given = [decode_rows(message.value()) for message in reader.to_end()]
        assert sum(len(rows.offsets) for rows in given) >= COUNT, "the decoy has what models are given, scores too"
        assert all(np.allclose(rows.matrix[:, -1], 2 * rows.matrix[:, 0]) for rows in given)

        last = json_rows(pipeline, "other")[-1]["offset"]
        producer = Producer(cluster.producer_settings(linger_ms=0))
        score = {"model": "other", "version": "12", "offset": last, "score": 7.5}
        producer.produce(pipeline.topics.scores, json.dumps(score).encode(), partition=0)
        assert producer.flush(10) == 0
        assert scores_on(pipeline, "other")[0] == {last: [7.5]}


def test_who_is_without_what_it_needs_says_why_and_nobody_else_waits(cluster: Cluster, tmp_path: Path, name: str):
    file = write(tmp_path, name, budget_ms=500, more=NEEDING.format(digest=trees(tmp_path)))
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        until(lambda: decided(pipeline, event(1))[0].model == "more", 60, "an answer with the score it needs")
        patient = [[("budget-ms", b"5000")]]  # a dozen processes on two cores: both say why well before it is over
        asked = send(cluster, pipeline.topics.raw, [event(2, x=POISON)], headers=patient)
        (failed,) = outcome(pipeline, asked).decisions.values()
        assert failed.failed["more"] == "needs good, which has no score: raised ValueError('poisoned')"
        assert (failed.outcome, failed.used_ms < 5_000) == ("default", True)

        (late,) = decided(pipeline, event(3, x=LATE))
        assert {"good", "more"} <= set(late.missing)
        wanted = {late.ticket.offset: "needs good, whose score did not come in time"}
        until(lambda: wanted.items() <= scores_on(pipeline, "more")[1].items(), 10, "more says why")
        assert "watcher" in late.scores

        until(lambda: decided(pipeline, event(4))[0].model == "more", 30, "good is done with the late row")
        pipeline.kill("coupler.more")
        found = outcome(pipeline, send(cluster, pipeline.topics.raw, [event(n) for n in range(COUNT)], 200))
        assert len(found.decisions) == COUNT
        assert max(found.late_ms()) <= NOT_A_TIMEOUT_MS
        # Five more processes on two cores: a default is the answer to what the machine has no time for.
        answered = {answer.model for answer in found.decisions.values()}
        assert answered <= {"more", "good", None}
        until(lambda: pipeline.running("coupler.more", 1), 30, "it is back")

        def told() -> set[int]:
            """Which rows the coupler has sent on or told to be without, and which the router has not asked for."""
            _, errors = scores_on(pipeline, "more")
            return rows_on(pipeline, "more") | errors.keys() | passed_over(pipeline, "more")

        until(lambda: found.decisions.keys() <= told(), 20, "no row of it is lost")
        assert all(pipeline.restarts(role) == 0 for role in pipeline.status["roles"] if role != "coupler.more")


def test_models_that_need_others_come_and_what_they_need_goes(cluster: Cluster, tmp_path: Path, name: str):
    file = write(tmp_path, name, budget_ms=1_000, more='[policy]\nanswer = "all"\n')
    operator = Operator(cluster, file, tmp_path / "state")
    more = ("--callable", "tests.broker.models:one_more", "--version", "1")
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        decided(pipeline, *[event(number) for number in range(50)])
        refused = operator.ended("add", "sum", *more, "--needs", "nobody")
        assert (refused.returncode, "there is no model 'nobody'; name one of" in refused.stderr) == (5, True)
        undeclared = operator.ended("add", "sum", *more, "--features", "x,good.score")
        assert (undeclared.returncode, 'write needs = ["good"]' in undeclared.stderr) == (5, True)
        operator.says("add", "helper", "--value", "0.75", "--version", "1")
        until(lambda: operator.is_("helper", State.SHADOW), 30, "helper scores")
        added = operator.says("add", "sum", *more, "--needs", "good,helper")
        assert added[0]["most"] >= 1.0
        until(lambda: operator.is_("sum", State.SHADOW), 30, "sum scores")
        until(lambda: decided(pipeline, event(2))[0].scores.keys() >= {"sum"}, 30, "with both scores")
        (one,) = decided(pipeline, event(2))
        assert (one.scores["sum"].score, one.needs) == (1.75, {"sum": ("good", "helper")})
        assert operator.says("show", "sum")[0]["definition"]["needs"] == ["good", "helper"]
        assert "sum needs good, helper" in operator.ended("history").stdout

        operator.says("retire", "helper")
        wanted = "needs helper, which is not asked any more"
        until(lambda: decided(pipeline, event(3))[0].failed.get("sum") == wanted, 30, "sum says so")
        assert decided(pipeline, event(4))[0].model == "good"
        operator.says("retire", "sum")
        until(lambda: not [role for role in pipeline.status["roles"] if ".sum" in role], 30, "both have ended")
        assert pipeline.restarts("router") == pipeline.restarts("rendezvous") == 0
