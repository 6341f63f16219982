"""What stands still, is slow or is too much: a zombie, an overload, models of every bad kind, wrong clocks."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from schemas.blocks import decode_rows
from schemas.decisions import Decision, decode_decision
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from tests.broker.models import CRASH, LATE, POISON, SEGFAULT
from tests.broker.pipelines import FILE, Up, make_topic, until, up, write
from tests.broker.relay import BULKY, PAUSE
from tests.faults.conftest import LONG, Note, life, living
from tests.faults.flow import flow, score_ages_ms
from tests.faults.load import RATE, Load, assert_kept, decisions, findings, plain, second_finals, suspended
from tests.faults.test_kills import assert_agreed, assert_on_time
from tests.faults.work import await_rest

IN_HAND_S = 0.2
"""So long no model says anything before the rendezvous stands still: what it has in hand then is known."""


def test_a_rendezvous_that_stood_still_says_nothing_before_it_has_looked(
    cluster: Cluster, tmp_path: Path, name: str, note: Note
):
    """In the short form its session outlasts the pause: nobody takes its partitions away, it has to notice itself."""
    file, asleep_s = write(tmp_path, name), 15 if LONG else 4
    with up(cluster, file, name, tmp_path / "state", "--standby") as pipeline:
        scorers = [role for role in pipeline.status["roles"] if role.startswith("scorer")]
        with Load(cluster, pipeline.topics.raw, 300) as load:
            load.wait(2)
            before = load.sent - 300  # what it had in hand is of the last second
            with ExitStack() as still:
                with suspended([pipeline.pid(role) for role in scorers]):
                    load.wait(IN_HAND_S)
                    asleep_at = load.sent
                    still.enter_context(suspended([pipeline.pid("rendezvous")]))
                load.wait(asleep_s / 2)
                midnight_ms = time.time() * 1e3
                load.wait(asleep_s / 2)
                after = load.sent
            await_owner(pipeline, load)
        found = findings(pipeline, file, load)
        twice = second_finals(pipeline)
    assert_kept(found)
    assert found.by_standby >= 0.8 * (after - asleep_at) > 0
    said_again = [second for second in twice if before <= second.offset < after and not second.standby]
    done = f"{len(said_again)} records of the sleeper's came after its standby's"
    note(f"SIGSTOP of the rendezvous for {asleep_s} s, then SIGCONT", done, found)
    decided_awake = [one for one in said_again if one.offset < asleep_at and one.decided_at_ms > midnight_ms]
    assert [second.text for second in decided_awake] == [], "it had them in hand, and others have answered meanwhile"
    assert [second.text for second in said_again if second.differs] == [], "what it had in hand was said by others"
    assert_agreed(found)


def await_owner(pipeline: Up, load: Load) -> None:
    """Wait until the owner answers what came after now: it was started again, or its group gave it partitions anew,
    whichever came first; either way it has read decisions back.
    """
    woken_at, deadline_s = max(load.acknowledged), time.monotonic() + 30
    with TopicReader(pipeline.cluster, pipeline.topics.decisions) as reader:
        reader.start("end")
        while time.monotonic() < deadline_s:
            for message in reader.poll(0.2):
                decision = decode_decision(message.value() or b"")
                if not decision.standby and (decision.ticket.partition, decision.ticket.offset) > woken_at:
                    return
    raise AssertionError("the owner never answered again")


NARROW = (
    FILE
    + """
[[features]]
name = "heavy"
type = "number"
derive = "tests.broker.models:heavy"

[[models]]
name = "hidden"
version = "1"
kind = "constant"
role = "shadow"
value = 0.75

[[models]]
name = "seen"
version = "1"
kind = "constant"
role = "decoy"
value = 0
"""
)


def given(pipeline: Up, model: str) -> set[tuple[int, bytes]]:
    """The rows that were sent for a model: raw offset and features, as they lie on its topic (one partition)."""
    with TopicReader(pipeline.cluster, pipeline.topics.model(model)) as reader:
        blocks = [decode_rows(message.value()) for message in reader.to_end()]
    return {
        (offset, row.tobytes())
        for block in blocks
        for offset, row in zip(block.offsets.tolist(), block.matrix, strict=True)
    }


def test_ten_times_the_rate_sheds_shadows_first_and_recovers_by_itself(
    cluster: Cluster, tmp_path: Path, name: str, note: Note
):
    file, rate, burst_s = write(tmp_path, name, text=NARROW), 200, 30 if LONG else 5
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        with Load(cluster, pipeline.topics.raw, rate) as before:
            before.wait(2 if LONG else 1)
        with Load(cluster, pipeline.topics.raw, 10 * rate) as burst:
            burst.wait(burst_s)
        second_half = len(burst.acknowledged) // 2
        newest = sorted(burst.acknowledged)[second_half:]
        until(lambda: pipeline.status["roles"]["router"]["lag"] == 0, 30, "the router has caught up")
        with Load(cluster, pipeline.topics.raw, rate) as after:
            after.wait(3 if LONG else 2)
        burst.acknowledged |= before.acknowledged | after.acknowledged
        found = findings(pipeline, file, burst)
        answers, healthy, seen = decisions(pipeline, burst), decisions(pipeline, after), flow(cluster, name)
        rows = {model: given(pipeline, model) for model in ("good", "plain", "watcher", "hidden", "seen")}
    assert_kept(found)
    recorded = rows.pop("seen")
    assert recorded == set.union(*rows.values()), "a decoy has what models were given, no row more or less or other"
    assert rows["hidden"] < recorded, "also when some are passed over"
    shed = {model: sum(model in answer.not_asked for answer in answers) for model in ("hidden", "plain")}
    assert shed["hidden"] > 0
    assert not [a for a in answers if "plain" in a.not_asked and "hidden" not in a.not_asked], "shadows first"
    by_model = [answer for answer in seen.of(newest).answers.values() if answer.model is not None]
    alone = sum({"hidden", "plain"} <= answer.not_asked.keys() for answer in by_model)
    print(
        f"of the {len(newest)} newest {len(by_model)} were answered by a model, {alone} of them by the champion alone"
    )
    assert len(by_model) >= (0.25 if LONG else 0.05) * len(newest), "what is old is given up for what is new"
    assert alone >= 0.5 * len(by_model), "shadows and challengers make room"
    assert sum(answer.outcome == "preferred" for answer in healthy) / len(healthy) >= (0.99 if LONG else 0.9)
    defaults = sum(answer.outcome == "default" for answer in answers)
    done = f"{burst_s} s at {10 * rate:,}/s, twice what the router can: shadow shed {shed['hidden']:,} times, "
    note("ten times the rate", f"{done}challenger {shed['plain']:,}, default {defaults:,}", found)
    assert_on_time(found, 0.05, 500, short_worst_ms=2_000)  # two cores are full


GOOD_S = 2 if LONG else 1
BAD_X = {"slow": LATE, "raising": POISON, "segfault": SEGFAULT, "killed": CRASH}
EVERY = {"raising": 10, "slow": RATE * 2 // 3}
"""One row of so many is bad, if it is not one of three seconds'."""


@pytest.fixture(scope=life)
def warm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A pipeline whose models are about to go bad."""
    with living(cluster, tmp_path_factory.mktemp("models")) as pipeline:
        with Load(cluster, pipeline.topics.raw, RATE) as load:
            load.wait(1)
        yield pipeline


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["slow", "raising", "hung", "all hung", "segfault", "killed"])
def test_a_bad_model_costs_only_its_own_score(warm: Up, kind: str, note: Note):
    # What comes six at a time is given to a model in blocks.
    rate, linger_ms = (300, 20) if kind == "raising" else (RATE, 2)
    good, bad_s = rate * GOOD_S, 8 if LONG else 3

    def is_bad(number: int) -> bool:
        return kind in BAD_X and number >= good and (number - good) % EVERY.get(kind, 3 * RATE) == 0

    def value(number: int) -> dict[str, Any]:
        return plain(number) | ({"x": BAD_X[kind]} if is_bad(number) else {})

    await_rest(warm)
    ended, scorers = warm.restarts("scorer.good"), [role for role in warm.status["roles"] if "scorer" in role]
    with Load(warm.cluster, warm.topics.raw, rate, value, linger_ms=linger_ms) as load:
        load.wait(GOOD_S)
        good_until = load.sent
        still = {"hung": ["scorer.good"], "all hung": scorers}.get(kind, [])
        with suspended([warm.pid(role) for role in still]):
            load.wait(bad_s)
    found = findings(warm, warm.file, load)
    assert_kept(found)
    went = flow(warm.cluster, warm.name)
    seen = went.of(load.acknowledged)
    note(f"model {kind}", f"{bad_s} s", found)
    assert_on_time(seen, 0.01)  # where all wait for the deadline, one pause of the broker makes ten of them late
    answers = list(seen.answers.values())
    worse = answers[good_until:]
    if kind == "raising":
        assert warm.restarts("scorer.good") == ended
        assert_a_raise_costs_its_row([a for a in worse if is_bad(number_of(a))], worse)
    if kind in {"segfault", "killed"}:
        until(lambda: warm.running("scorer.good", ended + 1), 30, "it is started again")
    if kind == "all hung":
        assert sum(answer.outcome == "default" for answer in worse) >= 0.5 * len(worse)
        return
    by_models = sum(answer.outcome in {"preferred", "fallback"} for answer in worse)
    assert by_models >= (0.9 if LONG else 0.5) * len(worse)
    ages, places = score_ages_ms(warm.cluster, warm.name, went.asked_ms)["plain"], list(seen.answers)
    before, during = (
        statistics.median(ages[place] for place in part if place in ages)
        for part in (places[:good_until], places[good_until:])
    )
    assert during <= 2 * before + (10 if LONG else 200), "the other models' latency is unmoved"


def number_of(answer: Decision) -> int:
    return int(answer.request_id.rpartition("-")[2])


def assert_a_raise_costs_its_row(bad: list[Decision], every: list[Decision]) -> None:
    """The bad rows are answered at once by another model, and no other row is part of it."""
    raised = [answer for answer in every if "good" in answer.failed]
    assert {answer.ticket for answer in raised} <= {answer.ticket for answer in bad}, "rows that were not bad failed"
    assert len(raised) >= (0.9 if LONG else 0.5) * len(bad) > 0, "each is told why"
    assert {answer.failed["good"] for answer in raised} == {"raised ValueError('poisoned')"}
    waited = sum(answer.used_ms > 0.5 * answer.budget_ms for answer in raised) / len(raised)
    print(f"{len(raised)} rows raised; {waited:.0%} of them were answered in the second half of their budget")
    assert waited <= (0.01 if LONG else 0.5), "nobody waits for it"


CLOCK = Path(__file__).parent / "clock"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "wrong",
    ["rendezvous:3600:0", "rendezvous:-3600:5", "router:3600:0", "good:3600:0", "rendezvous:2:0"]
    if LONG
    else ["good:3600:0,rendezvous:-3600:3,router:2:0"],
)
def test_a_wrong_clock_makes_nobody_wait(cluster: Cluster, tmp_path: Path, name: str, wrong: str, note: Note):
    file, clocks = write(tmp_path, name), [clock.split(":") for clock in wrong.split(",")]
    shim = {"FAULT_CLOCK": wrong, "PYTHONPATH": str(CLOCK), "RENDEZVOUS_NURSERY": "0"}
    with up(cluster, file, name, tmp_path / "state", more=shim) as pipeline:
        with Load(cluster, pipeline.topics.raw, RATE) as load:
            load.wait(6 if LONG else 5)
        found = findings(pipeline, file, load)
        answers = decisions(pipeline, load)
        for role, *_ in clocks:
            log = Path(pipeline.status["logs"]) / f"{'scorer.' * (role == 'good')}{role}.log"
            until(lambda log=log: "this host's clock" in log.read_text(), 10, f"{role} says so")
    assert_kept(found)
    assert sum(answer.outcome == "preferred" for answer in answers) >= (0.9 if LONG else 0.5) * len(answers)
    for role, seconds, after in clocks:
        note(f"clock of {role} {int(seconds):+} s", f"{after} s after its start; it says so", found)
    assert_on_time(found, 0.01)


def test_a_burst_after_a_stall_stays_within_512_mb_and_is_caught_up(
    cluster: Cluster, tmp_path: Path, name: str, note: Note
):
    file, rate = write(tmp_path, name), 300
    padded = "p" * 1_000

    def value(number: int) -> dict[str, Any]:
        return plain(number) | {"note": padded}

    with up(cluster, file, name, tmp_path / "state") as pipeline:
        whole = psutil.Process(pipeline.process.pid)
        for process in (
            whole,
            *whole.children(recursive=True),
        ):  # the nursery too: whoever is begun again inherits it
            process.rlimit(psutil.RLIMIT_DATA, (512 << 20, 512 << 20))  # the kernel counts more than is resident
        roles = [role for role in pipeline.status["roles"] if role != "archiver"]
        with Load(cluster, pipeline.topics.raw, 10 * rate, value) as load:
            load.wait(1)
            with suspended([pipeline.pid(role) for role in roles]):
                load.wait(12 if LONG else 4)
            started_s, waiting = time.monotonic(), load.sent
        found = findings(pipeline, file, load, 90)
        caught_up_s = time.monotonic() - started_s
        ended = {role for role in pipeline.status["roles"] if pipeline.restarts(role)}
        assert ended <= {"rendezvous"}, "which ends when it has stood still"
        peaks = {role: peak_mb(pipeline.pid(role)) for role in pipeline.status["roles"]}
    assert_kept(found)
    assert max(peaks.values()) < 512, peaks
    assert waiting / caught_up_s >= 2 * rate, f"{waiting} in {caught_up_s:.1f} s"
    worst = max(peaks, key=lambda role: peaks[role])
    done = f"largest role {worst} {peaks[worst]:,.0f} MB; {waiting:,} waiting, done in {caught_up_s:.0f} s"
    note("all but the archiver stand still while ten times the rate comes", done, found)


BACKLOG, BYTES, MOST_MB = 1_200, 250_000, 256
"""300 MB of records that wait, of nearly the largest kind; the relay itself has 70 MB."""


def test_an_agent_that_stands_still_is_handed_no_more_of_a_backlog_than_fits(cluster: Cluster, name: str, note: Note):
    for what in ("in", "out", "dead-letters"):
        make_topic(cluster, f"{name}.{what}")
    producer = Producer(cluster.producer_settings(linger_ms=2) | {"queue.buffering.max.kbytes": 1 << 20})
    for value in (PAUSE, *[BULKY + bytes(BYTES)] * BACKLOG):
        producer.produce(f"{name}.in", value, partition=0)
    assert producer.flush(60) == 0
    relay = subprocess.Popen([sys.executable, "-m", "tests.broker.relay", cluster.bootstrap, name, "0"])
    try:
        with TopicReader(cluster, f"{name}.out") as reader:
            until(lambda: reader.bounds()[0][1] == 1 + BACKLOG, 60, "all was passed on")
        peak = peak_mb(relay.pid)
    finally:
        relay.kill()
        relay.wait(10)
    note("an agent stands still before 300 MB", f"its process had {peak:,.0f} MB at most")
    assert peak < MOST_MB


def peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"{pid} has no peak")
