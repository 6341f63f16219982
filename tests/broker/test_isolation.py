"""What one model does to itself costs the others nothing: real processes on a real Kafka."""

import json
from pathlib import Path
from typing import Any

from schemas.blocks import ScoreBlock, decode_rows, decode_scores, offsets_of
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from tests.broker.models import SEGFAULT
from tests.broker.pipelines import FILE, Up, good, outcome, send, until, up, write
from tests.broker.test_pipeline import NOT_A_TIMEOUT_MS

MODEL = """
[[models]]
name = "{0}"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:{0}"
"""
BAD = "".join(map(MODEL.format, ("touchy", "cursed", "doomed"))) + MODEL.format("leaky") + "memory_mb = 150\n"
RULE = "[quarantine]\nfailures = 4\n\n[archive]"


def reasons(pipeline: Up, model: str) -> dict[int, str]:
    """Raw offset -> why the model has no score for it."""
    found: dict[int, str] = {}
    for block in blocks(pipeline, model):
        found |= {error.offset: error.reason for error in block.errors}
    return found


def blocks(pipeline: Up, model: str) -> list[ScoreBlock]:
    with TopicReader(pipeline.cluster, pipeline.topics.scores) as reader:
        found = [decode_scores(message.value()) for message in reader.to_end()]
    return [block for block in found if isinstance(block, ScoreBlock) and block.model == model]


def scored(pipeline: Up, model: str) -> set[int]:
    return {offset for block in blocks(pipeline, model) for offset in offsets_of(block.offsets)}


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


def test_models_that_leak_crash_on_a_row_or_never_start_cost_the_others_nothing(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name, text=FILE.replace("[archive]", RULE), more=BAD)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        values = [good(n) for n in range(3_000)]
        values[200] = json.dumps({"request_id": "deadly", "x": SEGFAULT, "colour": "red"}).encode()
        raw = send(cluster, pipeline.topics.raw, values, 250)
        found = outcome(pipeline, raw)
        deadly = sorted(raw)[200]

        def state(model: str) -> dict[str, Any]:
            return dict(pipeline.status["roles"][f"scorer.{model}"])

        until(lambda: state("doomed")["state"] == "quarantine", 30, "the one that never starts is in quarantine")
        until(lambda: state("cursed")["state"] == "quarantine", 60, "the one that always dies is in quarantine")
        until(lambda: set(raw) - {deadly} <= scored(pipeline, "touchy"), 30, "one row costs that row only")
        until(lambda: "memory limit" in state("leaky")["reason"], 60, "the one that leaks ends by its limit")
        assert pipeline.status["ready"]

        assert len(found.decisions) == len(values)
        assert max(found.late_ms()) <= NOT_A_TIMEOUT_MS
        outcomes = [decision.outcome for decision in found.decisions.values()]
        assert outcomes.count("preferred") >= 0.9 * len(outcomes)

        assert "by SIGSEGV while it loaded its model" in state("doomed")["reason"]
        assert letters(pipeline, "doomed") == []

        assert set(reasons(pipeline, "touchy")) == {deadly}
        assert "ended 2 times with it" in reasons(pipeline, "touchy")[deadly]
        assert (state("touchy")["state"], state("touchy")["restarts"]) == ("running", 2)
        assert [(error, rows) for error, _, rows in letters(pipeline, "touchy")] == [("EndsProcess", [deadly])]

        assert "ended 4 times within 300 s, at last by SIGSEGV on the row of raw 0/" in state("cursed")["reason"]
        last = letters(pipeline, "cursed")[-1]
        assert last[0] == "Quarantine"
        assert last[1] == state("cursed")["reason"]
        assert last[1].endswith(f"raw 0/{last[2][0]}")

        assert "over its memory limit of 150 MB" in state("leaky")["reason"]
        assert all(pipeline.restarts(role) == 0 for role in ("router", "rendezvous", "scorer.good", "scorer.plain"))
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        assert pipeline.status["roles"]["scorer.cursed"]["restarts"] <= 1, "another chance"
