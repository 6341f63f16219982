"""The monitor on a real Kafka: what it says of a model that is broken on purpose, and what a kill costs: nothing."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import lightgbm
import numpy as np
import psutil
import pytest
from confluent_kafka import Producer

from agents.monitor import TAKEN
from agents.told_days import record_of
from schemas.decisions import decode_decision
from schemas.minutes import MINUTE_MS, Minute, decode_minute
from schemas.probes import PROBE_MARK
from schemas.roster import State
from schemas.verdicts import Alarm, Reported, decode_verdict
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog
from streams.kill_points import MONITOR_POINTS, VARIABLE
from streams.models.artifact import sum_of
from streams.pipeline_file import load as load_file
from tests.broker.commands import rendezvous
from tests.broker.pipelines import Up, environment, outcome, send, until, up, write
from tests.broker.test_pipeline import NOT_A_TIMEOUT_MS
from tests.broker.test_roster import Operator
from tests.unit.test_mature_days import figures as matured
from tests.unit.test_webhook import server

ROWS = 3_000
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
{more}
"""


def watched(folder: Path, name: str, more: str, rows: int = ROWS) -> Path:
    # A budget that a busy machine keeps: who is late there is in trouble, and the monitor says so.
    return write(folder, name, budget_ms=3_000, more=more, text=WATCHED % {"rows": rows})


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


def ended(pipeline: Up) -> dict[bytes, Minute]:
    """By key; what lies there twice must be the same."""
    found: dict[bytes, bytes] = {}
    with TopicReader(pipeline.cluster, pipeline.topics.minutes) as reader:
        for message in reader.to_end():
            key, value = message.key() or b"", message.value() or b""
            assert found.setdefault(key, value) == value
    return {key: decode_minute(value) for key, value in found.items()}


def by_minute(pipeline: Up) -> Counter[int]:
    """Requests by the minute of raw's log time."""
    with TopicReader(pipeline.cluster, pipeline.topics.raw) as reader:
        return Counter(message.timestamp()[1] // MINUTE_MS * MINUTE_MS for message in reader.to_end())


def command(cluster: Cluster, file: Path, state: Path, *words: str) -> "CompletedProcess[str]":
    return rendezvous(words, {**environment(cluster, state), "RENDEZVOUS_CONFIG": str(file)})


@pytest.mark.timeout(300)
def test_a_model_that_is_changed_is_named_and_a_killed_monitor_loses_and_doubles_no_window(
    cluster: Cluster, tmp_path: Path, name: str
):
    state, switch = tmp_path / "state", tmp_path / "broken"
    markers = {point: tmp_path / point for point in MONITOR_POINTS}
    kills = ",".join(f"{point}:1:{marker}" for point, marker in markers.items())
    with server(200) as (address, posted):
        declared = 'segments = ["colour"]\nsource = "colour"'
        file = watched(tmp_path, name, f'probes = 0\nwebhook = "{address}"\n{declared}')
        with up(cluster, file, name, state, more={"SWITCH": str(switch), VARIABLE: kills}) as pipeline:
            raw = send(cluster, pipeline.topics.raw, requests(0, ROWS + 2_000), RATE)
            until(lambda: len(verdicts(pipeline)) >= 2, 60, "two verdicts")
            until(lambda: all(marker.exists() for marker in markers.values()), 60, "killed at every point")
            until(lambda: pipeline.running("monitor", len(markers)), 30, "the monitor is back")
            switch.touch()
            raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 2_000, 500), RATE)
            kill(pipeline)
            raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 2_500, 500), RATE)
            until(lambda: bool(posted), 60, "the alarm is posted")
            until((state / name / "monitor" / TAKEN).exists, 30, "and that is noted")
            kill(pipeline)  # the alarm is the last that lies on verdicts
            raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 3_000, 1_000), RATE)
            until(lambda: len(verdicts(pipeline)) >= 4, 60, "four verdicts")
            (state / name / "monitor" / "snapshot").write_bytes(b"no snapshot")
            kill(pipeline)
            until(lambda: figures(pipeline).get("snapshots lost") == 1, 30, "it says that it learns anew")
            raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 4_000, 1_000), RATE)
            until(lambda: len(verdicts(pipeline)) >= 5, 60, "five verdicts")
            found = verdicts(pipeline)
            until(lambda: len(ended(pipeline)) >= 6, 90, "a minute of three models, whole and by colour")
            written, came = ended(pipeline), by_minute(pipeline)
            every = command(cluster, file, state, "minutes", "--every", "minute", "--json").stdout
            colours = command(cluster, file, state, "minutes", "--by", "colour", "--model", "good").stdout
            decided = outcome(pipeline, raw)
            verified = json.loads(command(cluster, file, state, "verify", "--json").stdout)
            told = command(cluster, file, state, "verdicts", "--since", "1h", "--alarms", "--json").stdout
            text = command(cluster, file, state, "verdicts").stdout
            by_colour = command(cluster, file, state, "verdicts", "--by", "colour").stdout
            by_field = command(cluster, file, state, "verdicts", "--fields").stdout
            by_size = command(cluster, file, state, "verdicts", "--by", "size")
    assert [(one.window, one.from_event, one.to_event) for one in found] == [
        (number, ROWS + 1_000 * number, ROWS + 1_000 * number + 999) for number in range(5)
    ]
    assert len({one.watch for one in found}) == 1
    assert [one.verdict for one in found[:2]] == ["healthy", "healthy"]
    first = found[2]
    assert (first.verdict, first.model, first.alarm) == ("code", "other", Alarm.RAISED)
    assert first.said_at_ticket.offset >= first.from_ticket.offset == ROWS + 2_000
    assert ROWS + 1_000 <= (first.since_ticket or first.from_ticket).offset <= ROWS + 2_500
    assert sum(sum(one.answers.values()) for one in found) >= ROWS + 4_250
    assert [alarm["verdict"]["window"] for alarm in posted] == [2], "told once, whoever is killed when"
    assert [json.loads(line)["window"] for line in told.splitlines()] == [2]
    assert len(text.splitlines()) == 5
    assert "[raised]" in text.splitlines()[2]
    for one in found:
        assert set(one.models) == {"good 1", "other 1", "watcher 1"}
        assert sum(part.requests for part in one.segments["colour"].values()) == sum(one.answers.values())
        assert set(one.segments["colour"]) == set(one.sources) == {"red", "green", "blue"}
        assert all(part.models["good 1"].scored > 0.9 for part in one.segments["colour"].values())
        assert set(one.fields) == {"x", "colour"}
        assert set(one.fields["colour"].words) == {"red", "green", "blue"}
        assert -1 < one.fields["x"].quantiles["p25"] < 0 < one.fields["x"].quantiles["p75"] < 1
        assert {part.nulls + part.other_type + part.new for part in one.fields.values()} == {0.0}
    assert first.segment is None or not first.segment.startswith("colour")
    assert by_colour.count("colour red: ") == 5
    assert (by_field.count("      x: "), by_field.count("      colour: ")) == (5, 5)
    assert (by_size.returncode, "not among [monitor] segments (declared: colour)" in by_size.stderr) == (5, True)
    assert (len(decided.decisions), decided.second_finals) == (len(raw), 0)
    assert max(decided.late_ms()) <= NOT_A_TIMEOUT_MS, "nobody else noticed"
    assert {(one.model, one.field) for one in written.values()} == {
        (model, field) for model in ("good", "other", "watcher") for field in ("", "colour")
    }
    assert all(one.asked == came[one.at_ms] for one in written.values()), "whoever is killed when"
    shown = [json.loads(line) for line in every.splitlines()]
    assert {(one["model"], one["from_ms"], one["asked"]) for one in shown} >= {
        (one.model, one.at_ms, one.asked) for one in written.values()
    }
    assert all(f"good 1 colour {colour} " in colours for colour in ("red", "green", "blue"))
    assert (verified["lost"], verified["probes"]) == (0, 0)


@pytest.mark.timeout(300)
def test_what_labels_said_of_mature_days_is_beside_each_verdict_and_a_day_that_comes_meanwhile_too(
    cluster: Cluster, tmp_path: Path, name: str
):
    file, state = watched(tmp_path, name, "probes = 0\n[labels]\nexpected = 0.8", 2_000), tmp_path / "state"
    with up(cluster, file, name, state) as pipeline:

        def tell(day: int, right: float) -> None:
            producer = Producer(cluster.producer_settings())
            for model in ("good", "other"):
                record = record_of(pipeline.topics.quality, matured(day, right, model))
                producer.produce(record.topic, record.value, record.key, partition=0)
            assert producer.flush(30) == 0

        tell(1, 0.8)
        send(cluster, pipeline.topics.raw, requests(0, 2_000 + 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 1, 60, "a verdict")
        tell(2, 0.7)
        send(cluster, pipeline.topics.raw, requests(3_000, 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 2, 60, "another verdict")
        pipeline.kill("monitor")
        send(cluster, pipeline.topics.raw, requests(4_000, 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 3, 60, "one of the life after")
        found = verdicts(pipeline)
    days = [[(one.model, one.day, one.worse) for one in verdict.evidence.labels] for verdict in found]
    first, second = ([(model, f"2025-11-{day:02}", day > 1) for model in ("good", "other")] for day in (1, 2))
    assert (days[0], days[-1]) == (first, second)
    assert days[1] in (first, second), "of the window in which it came"
    for verdict, said in zip(found, days, strict=True):
        told = sum(note.startswith("by its labels good 1 was right less often") for note in verdict.notes)
        assert told == (said == second)
    assert {verdict.verdict for verdict in found} <= {"healthy", "traffic"}, "a day of labels is no alarm"


@pytest.mark.timeout(300)
def test_probes_name_the_model_without_a_customers_request_and_are_in_nobodys_count(
    cluster: Cluster, tmp_path: Path, name: str
):
    file, state, switch = watched(tmp_path, name, "probes = 16\nprobe_s = 1.0", 2_000), tmp_path / "s", tmp_path / "b"
    count = 2_300
    with up(cluster, file, name, state, "--standby", more={"SWITCH": str(switch)}) as pipeline:
        raw = send(cluster, pipeline.topics.raw, requests(0, count), RATE)
        stranger = send(cluster, pipeline.topics.raw, requests(count, 1), headers=[[(PROBE_MARK, b"invented/1")]])
        until(lambda: figures(pipeline).get("rounds of probes", 0) >= 2, 60, "two rounds of probes")
        outcome(pipeline, raw | stranger)
        assert verdicts(pipeline) == []
        switch.touch()
        until(lambda: bool(verdicts(pipeline)), 30, "a verdict, although no customer asked anything")
        [verdict] = verdicts(pipeline)
        with TopicReader(cluster, pipeline.topics.decisions) as reader:
            every = [decode_decision(message.value() or b"") for message in reader.to_end()]
        shown = command(cluster, file, state, "decisions", "--from-beginning", "--format", "json").stdout
        verified = command(cluster, file, state, "verify", "--json").stdout
        pipeline.kill("rendezvous")
        until(lambda: pipeline.running("rendezvous", 1), 30, "it is back")
        rounds = figures(pipeline)["rounds of probes"]
        until(lambda: figures(pipeline)["rounds of probes"] > rounds + 1, 30, "more rounds")
        again = json.loads(command(cluster, file, state, "verify", "--json").stdout)
    assert (verdict.verdict, verdict.model) == ("code", "other")
    assert verdict.evidence.probes == "changed: other"
    assert "probes answered otherwise" in verdict.effect
    assert verdict.probes > 0
    probes = [one for one in every if one.probe]
    assert {one.request_id.split(":")[0] for one in probes} == {"probe"}
    assert len({one.ticket for one in probes}) >= 32
    assert len(shown.splitlines()) == count + 1, "the stranger's is an ordinary request"
    found = json.loads(verified)
    assert (found["decided"], found["lost"]) == (count + 1, 0)
    assert found["probes"] >= 32
    assert (again["decided"], again["lost"]) == (count + 1, 0), "a rendezvous that starts knows every token"
    assert again["probes"] > found["probes"]


@pytest.mark.timeout(300)
def test_a_model_that_fails_and_a_producer_that_is_silent_are_told_each_window_once(
    cluster: Cluster, tmp_path: Path, name: str
):
    state, switch = tmp_path / "state", tmp_path / "broken"
    text = (WATCHED % {"rows": ROWS}).replace("models:other", "models:failing")
    file = write(tmp_path, name, budget_ms=3_000, more="probes = 0\nwindow_s = 10", text=text)
    with up(cluster, file, name, state, more={"SWITCH": str(switch)}) as pipeline:
        send(cluster, pipeline.topics.raw, requests(0, ROWS + 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 1, 60, "a verdict")
        switch.touch()
        send(cluster, pipeline.topics.raw, requests(ROWS + 1_000, 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 2, 60, "another")
        until(lambda: verdicts(pipeline)[-1].verdict == "traffic", 60, "silence is told")
        kill(pipeline)
        until(lambda: pipeline.running("monitor", 1), 30, "the monitor is back")
        silent = len(verdicts(pipeline))
        until(lambda: len(verdicts(pipeline)) > silent, 60, "it goes on telling")
        found = verdicts(pipeline)
    first, second, *others = found
    assert (first.verdict, first.window) == ("healthy", 0)
    assert (second.verdict, second.model, second.severity, second.alarm) == ("code", "other", "page", Alarm.RAISED)
    assert "an error for " in second.sentence
    assert [one.window for one in found] == list(range(len(found))), "none is lost, and none told twice"
    assert {one.verdict for one in others} == {"traffic"}
    apart = [later.said_at_ms - earlier.said_at_ms for earlier, later in pairwise(others)]
    assert set(apart) == {10_000}, "by the broker's clock, whoever was dead meanwhile"


def kill(pipeline: Up) -> None:
    """Kill the monitor, once it runs: after some kills it waits before it starts, and `up` shows a second late."""

    def runs() -> bool:
        pid = pipeline.status["roles"]["monitor"]["pid"]
        return pipeline.running("monitor", 0) and pid is not None and psutil.pid_exists(pid)

    until(runs, 30, "the monitor runs")
    pipeline.kill("monitor")


def figures(pipeline: Up) -> dict[str, float]:
    return dict(pipeline.status["roles"]["monitor"].get("figures", {}))


OTHER = """
kind = "python"
role = "challenger"
callable = "tests.broker.models:other"
"""
TREES = """
kind = "lightgbm"
role = "challenger"
artifact = "old.txt"
sha256 = "%s"
"""


def trees(path: Path, sign: float) -> str:
    """A model file that learnt much from the first field, one way or the other; returns its sum."""
    chance = np.random.default_rng(1)
    rows = np.stack([chance.normal(size=2_000), chance.integers(0, 3, 2_000)], 1)
    data = lightgbm.Dataset(
        rows, 1 / (1 + np.exp(-sign * rows[:, 0] + 0.2 * rows[:, 1])), feature_name=["x", "colour"]
    )
    lightgbm.train({"objective": "regression", "verbosity": -1, "num_threads": 1}, data, 20).save_model(path)
    return sum_of(path.read_bytes())


@contextmanager
def followed(cluster: Cluster, file: Path, state: Path, shown: Path) -> Iterator[None]:
    """`rendezvous verdicts --follow` beside the block, its lines in the file `shown`."""
    words = [sys.executable, "-m", "agents", "verdicts", "--follow", "--json", "-P", str(file)]
    with shown.open("wb") as out, subprocess.Popen(words, stdout=out, env=environment(cluster, state)) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.timeout(300)
def test_by_a_reference_that_is_set_a_file_that_takes_over_is_blamed_and_proved_to_answer_otherwise(
    cluster: Cluster, tmp_path: Path, name: str
):
    """The pipeline file asks for far more requests than come: without the reference there would be no verdict at all.

    Probes leave when they are asked for, and on a clock only every ten minutes.
    """
    state, said, shown = tmp_path / "state", tmp_path / "up.stderr", tmp_path / "followed"
    text = WATCHED.replace(OTHER, TREES % trees(tmp_path / "old.txt", 0.8)) % {"rows": 50_000}
    trees(tmp_path / "new.txt", -0.8)
    file = write(tmp_path, name, budget_ms=3_000, more="probes = 16\nprobe_s = 600", text=text)
    operator = Operator(cluster, file, state)
    words = ("reference", "set", "--since", "1h", "--by", "anna", "--json")

    def archived() -> bool:
        tried = command(cluster, file, state, *words, "--dry-run")
        return tried.returncode == 0 and json.loads(tried.stdout)["requests"] >= 2_500

    def beside() -> bool:
        member = RosterLog(cluster, load_file(file)).read().roster.beside.get("other")
        return member is not None and member.state is State.SHADOW

    def rounds() -> float:
        return figures(pipeline).get("rounds of probes", 0)

    with up(cluster, file, name, state, said=said) as pipeline, followed(cluster, file, state, shown):
        raw = send(cluster, pipeline.topics.raw, requests(0, ROWS), RATE)
        operator.says("add", "other", "new.txt", "--version", "2")
        outcome(pipeline, raw)
        until(archived, 60, "most of it is archived")
        until(lambda: rounds() == 1, 20, "the first round")
        set_ = command(cluster, file, state, *words)
        assert set_.returncode == 0, set_.stderr
        log = state / name / "logs" / "monitor.log"
        until(lambda: "the reference that " in log.read_text(), 40, "it is looked at")
        assert "held against the reference that was set" in log.read_text(), log.read_text()
        until(lambda: rounds() == 2, 20, "who is held against another reference is asked at once")
        raw |= send(cluster, pipeline.topics.raw, requests(ROWS, 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 1, 60, "a verdict")
        kill(pipeline)
        until(lambda: pipeline.running("monitor", 1) and rounds() == 1, 30, "the monitor is back")
        until(beside, 60, "version 2 stands beside version 1")
        operator.says("promote", "other", "--version", "2", "--force")
        until(lambda: rounds() == 2, 20, "the roster was moved: probes leave, although nobody asks anything")
        raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 1_000, 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 2, 60, "another")
        until(lambda: "same input, different score" in log.read_text(), 60, "both files were asked the same")
        until(lambda: b'"raised"' in shown.read_bytes(), 10, "it is shown to whoever follows")
        raw |= send(cluster, pipeline.topics.raw, requests(ROWS + 2_000, 1_000), RATE)
        until(lambda: len(verdicts(pipeline)) >= 3, 60, "and a third")
        found = verdicts(pipeline)
        until(lambda: shown.read_bytes().count(b"\n") == len(found), 10, "that one, too")
    assert [(one.verdict, one.model, one.alarm) for one in found] == [
        ("healthy", None, None),
        ("code", "other", Alarm.RAISED),
        ("code", "other", None),
    ]
    assert all(" requests, 20" in one.evidence.reference for one in found), found[0].evidence
    assert all(one.evidence.reference.endswith("by anna") for one in found), found[-1].evidence
    assert [one.evidence.probes for one in found[1:]] == ["changed: other"] * 2
    assert [one.deploys[0].startswith("other 1 -> 2 at event ") for one in found[1:]] == [True, True]
    proved = "same input, different score: other 1 (old.txt) and 2 (new.txt) answer "
    assert found[-1].evidence.replayed.startswith(proved), found[-1].evidence
    assert [decode_verdict(line) for line in shown.read_bytes().splitlines()] == found
    told = [line for line in said.read_text().splitlines() if " code: " in line]
    assert [line.partition(": page: code: ")[0] for line in told] == [f"monitor: {name} raised"], "once"
