"""What one model does to itself costs the others nothing: real processes on a real Kafka."""

from pathlib import Path
from typing import Any

import pytest

from agents.cli.roster import event, line
from agents.given_up import note_started_anew
from schemas.blocks import decode_rows
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog
from streams.pipeline_file import load as load_file
from tests.broker.models import NULL
from tests.broker.pipelines import FILE, Up, blocks, scored, until, up, write
from tests.broker.test_pipeline import NOT_A_TIMEOUT_MS
from tests.faults.load import Load, assert_kept, decisions, findings, plain

MODEL = """
[[models]]
name = "{0}"
version = "1"
kind = "python"
role = "canary"
callable = "tests.broker.models:{0}"
"""
BAD = "".join(map(MODEL.format, ("touchy", "cursed", "doomed"))) + MODEL.format("leaky") + "memory_mb = 200\n"
DEADLY = 300
RULE = "[quarantine]\nfailures = 4\n\n[archive]"


def reasons(pipeline: Up, model: str) -> dict[int, str]:
    """Raw offset -> why the model has no score for it."""
    found: dict[int, str] = {}
    for block in blocks(pipeline, model):
        found |= {error.offset: error.reason for error in block.errors}
    return found


def letters(pipeline: Up, model: str) -> list[tuple[str, str, list[int]]]:
    """Error, reason and raw offsets of the dead letters of a model's rows."""
    with TopicReader(pipeline.cluster, pipeline.topics.dead_letters) as reader:
        messages = list(reader.to_end())
    found = []
    for message in messages:
        story: dict[str, Any] = {name.rsplit("error.")[-1]: value.decode() for name, value in message.headers() or ()}
        if story["topic"] == pipeline.topics.model(model):
            rows = decode_rows(message.value()).offsets.tolist()
            found.append((story["exception.class.name"], story["exception.message"], rows))
    return found


def value(number: int) -> dict[str, Any]:
    return plain(number + 1) | ({"x": NULL} if number == DEADLY else {})


@pytest.mark.timeout(300)
def test_models_that_leak_crash_on_a_row_or_never_start_cost_the_others_nothing(
    cluster: Cluster, tmp_path: Path, name: str
):
    # A budget that a busy machine keeps: a router that is late asks nobody.
    file = write(tmp_path, name, budget_ms=5_000, text=FILE.replace("[archive]", RULE), more=BAD)
    with up(cluster, file, name, tmp_path / "state") as pipeline:

        def state(model: str) -> dict[str, Any]:
            return dict(pipeline.status["roles"][f"scorer.{model}"])

        with Load(cluster, pipeline.topics.raw, 100, value) as load:
            until(lambda: load.sent > DEADLY, 30, "the deadly row")
            until(lambda: state("doomed")["state"] == "quarantine", 30, "the one that never starts is in quarantine")
            until(lambda: state("cursed")["state"] == "quarantine", 60, "the one that always dies is in quarantine")
            until(lambda: "memory limit" in state("leaky")["reason"], 60, "the one that leaks ends by its limit")
        kept = findings(pipeline, file, load)
        assert_kept(kept)
        assert kept.worst_late_ms <= NOT_A_TIMEOUT_MS
        answers = decisions(pipeline, load)
        assert sum(answer.outcome == "preferred" for answer in answers) >= 0.7 * len(answers)
        untouched = ("router", "rendezvous", "scorer.good", "scorer.plain")
        ended = {role: pipeline.status["roles"][role]["reason"] for role in untouched if pipeline.restarts(role)}
        assert ended == {}
        until(lambda: pipeline.status["ready"], 60, "ready: the one that leaks is at work again, or in quarantine")

        (deadly,) = [offset for (_, offset), id_ in load.acknowledged.items() if id_.endswith(f"-{DEADLY}")]
        every = {offset for _, offset in load.acknowledged}
        until(lambda: every - {deadly} <= scored(pipeline, "touchy"), 30, "one row costs that row only")
        assert set(reasons(pipeline, "touchy")) == {deadly}
        assert "ended 2 times with it" in reasons(pipeline, "touchy")[deadly]
        until(lambda: pipeline.running("scorer.touchy", 2), 20, "touchy is shown at work")
        assert pipeline.restarts("scorer.touchy") == 2
        assert [(error, rows) for error, _, rows in letters(pipeline, "touchy")] == [("EndsProcess", [deadly])]

        assert "by SIGSEGV while it loaded its model" in state("doomed")["reason"]
        assert letters(pipeline, "doomed") == []

        until(lambda: "Quarantine" in [error for error, *_ in letters(pipeline, "cursed")], 20, "what it had is kept")
        error, why, rows = letters(pipeline, "cursed")[-1]
        assert (error, why) == ("Quarantine", state("cursed")["reason"])
        assert "ended 4 times within 300 s, at last by SIGSEGV on " in why
        # How many rows its last batch had is as it came.
        several = f"{len(rows)} rows of raw 0/{rows[0]} to {rows[-1]}"
        assert why.endswith(several if len(rows) > 1 else f"the row of raw 0/{rows[0]}")

        assert "over its memory limit of 200 MB" in state("leaky")["reason"]

        history = RosterLog(cluster, load_file(file)).read()
        assert {model: one.why for (model, _), one in history.quarantined.items()} == {
            model: state(model)["reason"] for model in ("doomed", "cursed")
        }
        assert not history.begun, "the pipeline file still says who is there"
    assert note_started_anew(cluster, load_file(file)) == ""
    history = RosterLog(cluster, load_file(file)).read()
    assert history.quarantined == {}
    said = [line(event(entry)) for entry in history.entries]
    assert ["is in quarantine: ended 4 times" in one for one in said] == [True, True, False, False]
    assert all("is out of quarantine: the pipeline was started anew" in one for one in said[2:])
