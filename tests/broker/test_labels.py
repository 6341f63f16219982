"""Labels on a real Kafka, as a person sends them, and what `rendezvous quality` then says of every model."""

import json
from pathlib import Path

import pytest

from streams.archive.reader import read_partition
from streams.kafka.clients import Cluster
from tests.broker.commands import rendezvous
from tests.broker.pipelines import environment, outcome, send, until, up, write

REQUESTS, LABELLED = 40, 30


def test_labels_that_are_sent_repeated_and_corrected_make_the_accuracy_of_every_model(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name, more="[labels]\nexpected = 0.8\n", budget_ms=3_000)
    truth = {number: number % 3 == 0 for number in range(LABELLED)}
    lines = [{"request_id": f"r{number}", "truth": true} for number, true in truth.items()]
    lines[9] = {"ticket": "0/9", "truth": truth[9]}
    lines += [lines[3], {"request_id": "r6", "truth": False}, {"request_id": "unknown", "truth": True}]
    truth[6] = False
    with up(cluster, file, name, tmp_path / "state") as pipeline:

        def said(*words: str, text: str = "") -> str:
            done = rendezvous(
                words, {**environment(cluster, pipeline.state), "RENDEZVOUS_CONFIG": str(file)}, text=text
            )
            assert done.returncode == 0, done.stderr
            return done.stdout or done.stderr

        values = [{"request_id": f"r{number}", "x": number / 100, "colour": "red"} for number in range(REQUESTS)]
        raw = send(cluster, pipeline.topics.raw, [json.dumps(value).encode() for value in values])
        outcome(pipeline, raw)
        told = said("label", "-", text="".join(json.dumps(line) + "\n" for line in lines))
        assert f"{len(lines)} labels sent" in told

        def kept(topic: str) -> int:
            return sum(1 for _ in read_partition(pipeline.archive, topic, 0))

        until(lambda: kept(pipeline.topics.labels) == len(lines), 30, "the labels are archived")
        until(lambda: kept(pipeline.topics.decisions) == REQUESTS, 30, "and so are the decisions")
        found = json.loads(said("quality", "--json", "--archive", str(pipeline.archive)))
    said_true = {"good": lambda number: number / 50 >= 0.5, "plain": lambda _: True, "watcher": lambda _: False}
    measured = {row["model"]: row["measures"] for row in found["range"]}
    assert (found["requests"], found["labelled"]) == (REQUESTS, LABELLED)
    for model, says in said_true.items():
        right = sum(says(number) == true for number, true in truth.items()) / LABELLED
        assert (measured[model]["scored"], measured[model]["labelled"]) == (REQUESTS, LABELLED)
        assert measured[model]["accuracy"]["value"] == pytest.approx(right, abs=1e-6), model
    assert measured["(decision)"]["labelled"] == LABELLED
    counts = {"labels": len(lines) - 1, "repeated": 1, "corrected": 1, "for no request of the range": 1}
    assert found["labels"] == counts
