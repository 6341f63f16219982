"""State from outside, joined into events by the router on a real Kafka: what models see, and what is kept of it."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, Message, Producer

from agents.cli.past import UNCHANGED, read_past
from agents.desk import LEAD_MS
from schemas.blocks import Matrix, Rows, decode_rows
from schemas.decisions import Outcome
from schemas.probes import JOINED_MARK, PROBE_MARK, marked
from schemas.verdicts import Reported, decode_verdict
from streams.archive.ranges import Period
from streams.archive.reader import read_partition
from streams.core.enriched_past import EnrichedPast
from streams.core.given import Given
from streams.core.past import Way
from streams.core.scored_past import Scored
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load
from tests.broker.commands import rendezvous
from tests.broker.pipelines import Up, environment, outcome, send, until, up, write

TABLES = """
[[features]]
name = "limit"
path = "customer.limit"
type = "number"
default = -1

[[features]]
name = "tier"
path = "customer.tier"
type = "category"
vocabulary = ["none", "gold"]
default = "none"

[[features]]
name = "wind"
path = "weather.wind.speed"
type = "number"
default = 10.5

[[enrich]]
name = "customer"
key = "who.id"

[[enrich]]
name = "weather"
key = "airport"
as_of = "t_ms"
since = "from_ms"
keep_hours = 3

[[models]]
name = "seen"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:notes"
takes = "events"

[[models]]
name = "witness"
version = "1"
kind = "constant"
value = 0
role = "decoy"
expired = "score"
"""
HOUR_MS = 3_600_000
DEFAULTS = [-1.0, 0.0, 10.5]


def event(number: int, who: object = 7, airport: object = "EWR", t_ms: object = 10 * HOUR_MS) -> bytes:
    """Its own `customer` is nobody's word: the table's is."""
    told = {"x": number, "colour": "red", "who": {"id": who}, "airport": airport, "t_ms": t_ms}
    return json.dumps({"request_id": f"r{number}", **told, "note": "", "customer": {"limit": 5}}).encode()


def say(pipeline: Up, table: str, records: Sequence[tuple[str | None, object]]) -> int:
    """Put records on a table's topic; returns the log time of the last."""
    found: list[int] = []

    def report(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        found.append(message.timestamp()[1])

    producer = Producer(pipeline.cluster.producer_settings())
    for key, value in records:
        encoded = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        topic = pipeline.topics.table(table)
        producer.produce(topic, encoded, key, on_delivery=report)
    assert producer.flush(30) == 0
    return found[-1]


def ask(pipeline: Up, *events: bytes) -> dict[int, int]:
    """Send events and wait for their answers; returns their log times."""
    at_ms = send(pipeline.cluster, pipeline.topics.raw, events)
    assert len(outcome(pipeline, at_ms).decisions) == len(events)
    return at_ms


def asked_until(pipeline: Up, one: bytes, wanted: list[float]) -> None:
    """Ask the same again until models are given these features, the last ones: a record counts half a second later."""
    until(lambda: witnessed(pipeline, max(ask(pipeline, one)))[0][-len(wanted) :].tolist() == wanted, 20, str(wanted))


def blocks(pipeline: Up, model: str, last: int) -> list[Rows]:
    found: list[Rows] = []
    with TopicReader(pipeline.cluster, pipeline.topics.model(model)) as reader:

        def there() -> bool:
            found[:] = [decode_rows(message.value()) for message in reader.to_end()]
            return any(last in block.offsets.tolist() for block in found)

        until(there, 10, f"{model} is given {last}")
    return found


def witnessed(pipeline: Up, *offsets: int) -> Matrix:
    """The features that models were given of these requests, by what the decoy recorded first."""
    rows: dict[int, Matrix] = {}
    for block in blocks(pipeline, "witness", max(offsets)):
        for offset, features in zip(block.offsets.tolist(), block.matrix, strict=True):
            rows.setdefault(offset, features)
    return np.array([rows[offset] for offset in offsets])


def backtested(pipeline: Up, file: Path) -> dict[float, list[float]]:
    """The features a backtest gives a model, by x: the real road, from the archive."""
    own, given = load(file), dict[float, list[float]]()

    def score(rows: Given) -> tuple[Matrix, Mapping[int, str]]:
        given.update({row[0]: row for row in rows.matrix.tolist()})
        return np.zeros(len(rows.matrix)), {}

    every = tuple(range(len(own.features)))
    candidate = Way("candidate", own, {"good": Scored("2", score, every, 1)})
    read_past(pipeline.archive, own, [Way(UNCHANGED, own), candidate], Period(), None, LEAD_MS)
    return given


def figures(pipeline: Up) -> Mapping[str, Any]:
    found: Mapping[str, Any] = pipeline.status["roles"]["router"]["figures"]
    return found


@pytest.mark.timeout(240)
def test_models_see_what_tables_say_a_restart_changes_nothing_and_a_backtest_sees_the_same(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name, more=TABLES)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        alone = max(ask(pipeline, event(1)))
        assert witnessed(pipeline, alone)[0][-3:].tolist() == DEFAULTS
        until(lambda: figures(pipeline)["without customer"] == 1, 10, "what is missing is counted")
        say(pipeline, "customer", [("7", {"limit": 250, "tier": "gold"}), ("8", {"limit": None, "other": [1]})])
        say(
            pipeline, "weather", [("EWR", {"from_ms": hour * HOUR_MS, "wind": {"speed": hour}}) for hour in range(13)]
        )
        asked_until(pipeline, event(2), [250.0, 1.0, 10.0])
        cases = [
            (event(3, who=8), [-1.0, 0.0, 10.0]),
            (event(4, who="9", t_ms=11 * HOUR_MS - 1), [-1.0, 0.0, 10.0]),
            (event(5, who=7.0, t_ms=11 * HOUR_MS), [250.0, 1.0, 11.0]),
            (event(6, who={"a": 1}, t_ms=16 * HOUR_MS), DEFAULTS),
            (event(7, who=None, airport="JFK"), DEFAULTS),
            (event(8, who="7", t_ms="noon"), [250.0, 1.0, 10.5]),
        ]
        at_ms = ask(pipeline, *(one for one, _ in cases))
        assert witnessed(pipeline, *at_ms)[:, -3:].tolist() == [wanted for _, wanted in cases]
        seen = [json.loads(one) for block in blocks(pipeline, "seen", max(at_ms)) for one in block.events]
        customers = {one["request_id"]: one.get("customer") for one in seen}
        assert customers["r4"] is None, "what the table does not say nobody sees"
        assert customers["r5"] == {"limit": 250, "tier": "gold"}
        assert 'customer: {"limit": 250, "tier": "gold"}\n  weather: nothing\n' in explained(pipeline, file, "r8")
        nonsense(pipeline)
        killed(pipeline)
        assert_kept(pipeline, file)


def explained(pipeline: Up, file: Path, which: str) -> str:
    return command(pipeline, file, "explain", which)


def feed(pipeline: Up, file: Path, records: Sequence[object]) -> None:
    """As an operator would, from a file."""
    lines = file.with_name("records.jsonl")
    lines.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    command(pipeline, file, "send", str(lines), "--table", "weather", "--key", "at")


def command(pipeline: Up, file: Path, *words: str) -> str:
    done = rendezvous([*words, "-P", str(file)], environment(pipeline.cluster, pipeline.state))
    assert done.returncode == 0, done.stderr
    return done.stdout


def nonsense(pipeline: Up) -> None:
    """Records of the wrong shape are counted, said once, and change nothing; the pipeline answers on."""
    bad: list[tuple[str | None, object]] = [("7", {"limit": "much"}), ("7", b"\xff{"), ("7", []), ("7", b"")]
    say(pipeline, "customer", bad)
    say(pipeline, "weather", [("EWR", {"wind": {"speed": 1}}), ("EWR", {"from_ms": "soon"})])
    until(lambda: figures(pipeline).get("customer refused") == len(bad), 10, "nonsense is counted")
    until(lambda: figures(pipeline).get("weather refused") == 2, 10, "nonsense is counted")
    asked_until(pipeline, event(9), [250.0, 1.0, 10.0])
    log = (Path(pipeline.status["logs"]) / "router.log").read_text()
    assert log.count("what was known of key b'7' stays") == 1
    assert "limit: Expected `float | null`, got `str`" in log
    say(pipeline, "customer", [("7", None)])
    asked_until(pipeline, event(10), [-1.0, 0.0, 10.0])
    say(pipeline, "customer", [("7", {"limit": 300})])
    asked_until(pipeline, event(11), [300.0, 0.0, 10.0])


def killed(pipeline: Up) -> None:
    """A router that is killed has its tables again before it takes the next request."""
    before = pipeline.restarts("router")
    pipeline.kill("router")
    at_ms = send(pipeline.cluster, pipeline.topics.raw, [event(number) for number in range(100, 150)])
    until(lambda: pipeline.running("router", before + 1), 30, "the router runs again")
    assert len(outcome(pipeline, at_ms).decisions) == 50
    assert witnessed(pipeline, *at_ms)[:, -3:].tolist() == [[300.0, 0.0, 10.0]] * 50


def assert_kept(pipeline: Up, file: Path) -> None:
    """The matrix of a backtest is the live one, value for value."""
    with TopicReader(pipeline.cluster, pipeline.topics.raw) as reader:
        end = reader.bounds()[0][1]
    live = {row[0]: row for row in witnessed(pipeline, *range(end)).tolist()}
    wanted = outcome(pipeline, dict.fromkeys(range(end), 0)).decisions
    assert {decision.outcome for decision in wanted.values()} <= {
        Outcome.PREFERRED,
        Outcome.FALLBACK,
        Outcome.DEFAULT,
    }
    until(lambda: _archived(pipeline) >= end, 30, "the archive has all of it")
    assert backtested(pipeline, file) == live


def _archived(pipeline: Up) -> int:
    """How many requests stand in every archived topic a backtest needs."""
    topics, root = pipeline.topics, pipeline.archive
    counts = [len(list(read_partition(root, topic, 0))) for topic in (topics.raw, topics.decisions)]
    past = EnrichedPast(record.value for record in read_partition(root, topics.enriched, 0))
    past.through(max(counts))
    return min(*counts, past.last + 1)


PROBED = """
[[features]]
name = "limit"
path = "customer.limit"
type = "number"
default = -1

[[enrich]]
name = "customer"
key = "who.id"

[[models]]
name = "steady"
version = "1"
kind = "python"
role = "challenger"
callable = "tests.broker.models:as_told"

[[models]]
name = "witness"
version = "1"
kind = "constant"
value = 0
role = "decoy"
expired = "score"

[monitor]
reference_rows = 2_000
probes = 16
probe_s = 1.0
"""


@pytest.mark.timeout(300)
def test_when_a_table_changes_probes_are_given_what_they_were_and_nobodys_code_is_accused(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name, more=PROBED, budget_ms=1_000)
    chance = np.random.default_rng(5)

    def events(first: int, count: int) -> list[bytes]:
        """Of one distribution."""
        told = [
            {"x": float(chance.normal()), "colour": "red", "who": {"id": int(chance.integers(8))}}
            for _ in range(count)
        ]
        return [json.dumps({"request_id": f"r{first + place}", **one}).encode() for place, one in enumerate(told)]

    with up(cluster, file, name, tmp_path / "state") as pipeline:
        say(pipeline, "customer", [(str(number), {"limit": 10 * number}) for number in range(8)])
        asked_until(pipeline, event(0, who=7), [70.0])
        at_ms = send(cluster, pipeline.topics.raw, events(1, 2_500), 1_500)
        until(lambda: watched(pipeline).get("rounds of probes", 0) >= 2, 60, "two rounds of probes")
        before = probed(pipeline)
        say(pipeline, "customer", [(str(number), {"limit": 1_000 + number}) for number in range(8)])
        asked_until(pipeline, event(0, who=7), [1_007.0])
        rounds = watched(pipeline)["rounds of probes"]
        until(lambda: watched(pipeline)["rounds of probes"] >= rounds + 2, 30, "and two after the change")
        at_ms |= send(cluster, pipeline.topics.raw, events(5_000, 2_000), 1_500)
        until(lambda: any(not one.quiet for one in told(pipeline)), 60, "a verdict on the change")
        found = told(pipeline)
        after = probed(pipeline)
        strangers = hostile(pipeline)
        verified = json.loads(command(pipeline, file, "verify", "--json"))
    assert len(before) >= 16
    assert after == before, "each was given the very same, round after round"
    assert {round(limit) for limit, *_ in after.values()} <= {-1, *range(0, 80, 10)}
    said = {(one.verdict, one.field) for one in found if not one.quiet}
    assert said == {("data", "limit")}, [one.sentence for one in found]
    assert all(not one.evidence.probes.startswith("changed") for one in found)
    assert strangers == {"unknown": 1_007.0, "damaged": "rejected"}
    assert verified["lost"] == 0
    assert verified["probes"] >= 32


def told(pipeline: Up) -> list[Reported]:
    with TopicReader(pipeline.cluster, pipeline.topics.verdicts) as reader:
        return [decode_verdict(message.value()) for message in reader.to_end()]


def watched(pipeline: Up) -> Mapping[str, float]:
    found: Mapping[str, float] = pipeline.status["roles"]["monitor"].get("figures", {})
    return found


def probed(pipeline: Up) -> dict[str, tuple[float, ...]]:
    """What each probe's model was given, by the probe: one value, or this fails."""
    with TopicReader(pipeline.cluster, pipeline.topics.raw) as reader:
        marks = {
            message.offset(): dict(message.headers())[PROBE_MARK].decode().partition("/")[2]
            for message in reader.to_end()
            if PROBE_MARK in dict(message.headers() or ())
        }
    found: dict[str, tuple[float, ...]] = {}
    for offset, row in zip(marks, witnessed(pipeline, *marks), strict=True):
        given = (float(row[-1]), *map(float, row[:-1]))
        assert found.setdefault(marks[offset], given) == given
    return found


def hostile(pipeline: Up) -> dict[str, object]:
    """A token nobody announced brings nothing along; the monitor's own with a damaged block is refused."""
    with TopicReader(pipeline.cluster, pipeline.topics.raw) as reader:
        marks = [dict(one.headers() or ()).get(PROBE_MARK) for one in reader.to_end()]
    known = next(mark for mark in marks if mark)
    joined = marked("invented", "p-1", {"customer": b'{"limit": 5}'})
    headers = [joined, [(PROBE_MARK, known), (JOINED_MARK, b"\xc1damaged")]]
    at_ms = send(pipeline.cluster, pipeline.topics.raw, [event(90, who=7), event(91, who=7)], headers=headers)
    unknown, damaged = sorted(at_ms)
    answers = outcome(pipeline, at_ms).decisions
    with TopicReader(pipeline.cluster, pipeline.topics.dead_letters) as reader:
        letters = [one.value() for one in reader.to_end()]
    assert letters == [event(91, who=7)]
    assert "rv-joined" in answers[damaged].reason
    return {"unknown": float(witnessed(pipeline, unknown)[0][-1]), "damaged": str(answers[damaged].outcome)}


def test_a_table_on_disk_goes_on_where_it_was_and_is_read_anew_when_its_file_is_damaged(
    cluster: Cluster, tmp_path: Path, name: str
):
    more = TABLES.replace('key = "who.id"\n', 'key = "who.id"\nstate = "disk"\n')
    more = more.replace('key = "airport"\n', 'key = "airport"\nstate = "disk"\n')
    file, count = write(tmp_path, name, budget_ms=3_000, more=more), 2_000
    held = tmp_path / "state" / name / "tables" / "customer.0.sqlite"
    known = [count - 1.0, 1.0, 4.5]

    def log(pipeline: Up) -> str:
        return (Path(pipeline.status["logs"]) / "router.log").read_text()

    with up(cluster, file, name, tmp_path / "state") as pipeline:
        say(pipeline, "customer", [(str(number), {"limit": number, "tier": "gold"}) for number in range(count)])
        say(pipeline, "weather", [("EWR", {"from_ms": 9 * HOUR_MS, "wind": {"speed": 4.5}})])
        asked_until(pipeline, event(1, who=count - 1), known)
        until(lambda: pipeline.status["roles"]["router"]["figures"]["customer records"] == count, 10, "figures")
        pipeline.kill("router")
        until(lambda: pipeline.running("router", 1), 30, "the router is back")
        assert f"goes on from {count}" in log(pipeline)
        assert witnessed(pipeline, *ask(pipeline, event(2, who=count - 1)))[0][-3:].tolist() == known
        say(pipeline, "customer", [("5", None), ("6", {"limit": 66})])
        asked_until(pipeline, event(3, who=6), [66.0, 0.0, 4.5])
        asked_until(pipeline, event(4, who=5), [-1.0, 0.0, 4.5])
        until(lambda: pipeline.status["roles"]["router"]["figures"]["customer records"] >= count, 10, "figures")

    database = sqlite3.connect(held)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it is in the one file now
    database.close()
    with held.open("r+b") as damaged:
        damaged.seek(held.stat().st_size // 2)
        damaged.write(b"\xff" * 5_000)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        assert witnessed(pipeline, *ask(pipeline, event(5, who=count - 1)))[0][-3:].tolist() == known
        assert witnessed(pipeline, *ask(pipeline, event(6, who=6)))[0][-3:].tolist() == [66.0, 0.0, 4.5]
        assert f"{held}: damaged" in log(pipeline)
        assert pipeline.restarts("router") == 0
