"""The monitor on a real Kafka: what it says of a model that is broken on purpose, and what a kill costs: nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.verdicts import Alarm, Reported, decode_verdict
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from tests.broker.pipelines import Up, environment, outcome, send, until, up, write

ROWS = 3_000
WINDOWS = 4
RATE = 1_500

WATCHED = """
name = "{name}"

[request]
budget_ms = {budget_ms}
repeat_s = {repeat_s}

[[features]]
name = "x"
type = "number"

[[features]]
name = "colour"
type = "category"
vocabulary = ["red", "green", "blue"]

[[models]]
name = "good"
version = "1"
kind = "python"
role = "champion"
callable = "tests.broker.models:steady"

[[models]]
name = "other"
version = "1"
kind = "python"
role = "challenger"
callable = "tests.broker.models:other"

[[models]]
name = "watcher"
version = "1"
kind = "python"
role = "canary"
callable = "tests.broker.models:watcher"

[default]
score = 0.1

[archive]
max_age_s = 1.0

[monitor]
reference_rows = %(rows)d
probes = 0
{more}
"""


def watched(folder: Path, name: str, more: str = "", rows: int = ROWS) -> Path:
    return write(folder, name, budget_ms=1_000, more=more, text=WATCHED % {"rows": rows})


def requests(first: int, count: int) -> list[bytes]:
    """Requests of one distribution."""
    chance = np.random.default_rng(1 + first)
    return [
        json.dumps(
            {
                "request_id": f"r{first + number}",
                "x": float(chance.normal()),
                "colour": str(chance.choice(["red", "green", "blue"])),
            }
        ).encode()
        for number in range(count)
    ]


def verdicts(pipeline: Up) -> list[Reported]:
    with TopicReader(pipeline.cluster, pipeline.topics.verdicts) as reader:
        return [decode_verdict(message.value()) for message in reader.to_end()]


def command(cluster: Cluster, file: Path, state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agents", *words],
        env={**environment(cluster, state), "RENDEZVOUS_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )


def as_told(found: list[Reported]) -> list[Any]:
    return [(one.window, one.from_event, one.to_event) for one in found]


@pytest.mark.timeout(300)
def test_a_model_that_is_changed_is_named_and_a_killed_monitor_loses_and_doubles_no_window(
    cluster: Cluster, tmp_path: Path, name: str
):
    file, state, switch = watched(tmp_path, name), tmp_path / "state", tmp_path / "broken"
    with up(cluster, file, name, state, more={"SWITCH": str(switch)}) as pipeline:
        raw = send(cluster, pipeline.topics.raw, requests(0, ROWS + 2_000), RATE)
        until(lambda: len(verdicts(pipeline)) == 2, 60, "two verdicts")
        assert [one.verdict for one in verdicts(pipeline)] == ["healthy", "healthy"]
        pipeline.kill("monitor")
        until(lambda: pipeline.running("monitor", 1), 30, "the monitor is back")
        switch.touch()
        raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 2_000, 500), RATE)
        pipeline.kill("monitor")
        raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 2_500, 1_500), RATE)
        until(lambda: len(verdicts(pipeline)) >= WINDOWS, 60, "four verdicts")
        found = verdicts(pipeline)
        decided = outcome(pipeline, raw)
        again = command(cluster, file, state, "verify", "--json")
    assert [one.window for one in found] == list(range(WINDOWS))
    assert as_told(found) == [(k, ROWS + 1_000 * k, ROWS + 1_000 * k + 999) for k in range(WINDOWS)]
    first = next(one for one in found if not one.quiet)
    assert (first.verdict, first.model, first.alarm) == ("code", "other", Alarm.RAISED)
    assert first.window == 2
    assert ROWS + 1_000 <= (first.since_event or 0) <= ROWS + 2_500
    assert first.said_at_ticket.offset >= first.from_ticket.offset == ROWS + 2_000
    assert sum(first.answers.values()) >= 500
    assert decided.second_finals == 0
    assert len(decided.decisions) == len(raw)
    assert max(decided.late_ms()) <= 10
    assert json.loads(again.stdout)["lost"] == 0
