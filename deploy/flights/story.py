"""A model's life while flights go by: `make story`.

At 500 flights a second a better model is trained, added, held against the champion flight by flight, promoted, broken
on purpose and rolled back, by the same commands a person would type. Exit 0 only when every flight got one decision
and `verify` is clean. The short form (`--short`) is the same commands in a minute, which the tests run.
"""

import os
import shlex
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import click
import duckdb
import psutil
from confluent_kafka import Producer
from rich.table import Table

from deploy.flights.prepare import (
    BUILD,
    EVENTS,
    LABELS,
    PIPELINE,
    TRAIN_MONTHS,
    prepare,
    read_flights,
    train_one,
    training_data,
)
from deploy.flights.report import Run, quantiles
from deploy.flights.run import AHEAD_S, carrier, console, read_raw, rendezvous, up
from deploy.flights.weather import asked_of, feed_beside
from schemas.decisions import decode_decision
from schemas.pipeline import Pipeline
from schemas.roster import State
from schemas.topics import Topics
from streams.kafka.clients import Cluster, cluster_of
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog
from streams.pipeline_file import load

STATE = BUILD / "story"
STORY = PIPELINE.parent / "story.toml"
WITHIN_S = 60
NO = 3
"""What a command ends with when a check says no."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the story takes: `rate` flights a second, `watch_s` for each scene; and what fits that.

    The better model has so many `trees`, all models are trained on one flight in `every`. `last` decisions are looked
    at before the promotion; `more` stands at the end of the pipeline file.
    """

    rate: float
    watch_s: float
    trees: int
    every: int
    last: int
    more: str


WHOLE = Pace(
    rate=500.0,
    watch_s=15.0,
    trees=200,
    every=1,
    last=6_000,
    more="""
[promotion]
shadow_s = 10
requests = 3000
agreement = 0.8
accuracy_loss = 0.01

[breaker]
well_s = 20
""",
)

SHORT = Pace(
    rate=100.0,
    watch_s=2.0,
    trees=40,
    every=10,
    last=600,
    more="""
[promotion]
shadow_s = 10
requests = 300
accuracy_loss = 1.0        # how good it is, and how fast, is judged in the long form alone
latency_share = 1e9
error_rate = 1.0

[breaker]
requests = 100
late_share = 0.9           # who hangs is always late, and others may be where a busy machine runs the tests
well_s = 5
""",
)

COMPARED = BUILD / "comparisons.parquet"
BOTH = """
select request_id, champion, shadow.score as better, shadow.took_ms as took_ms
from (select *, [m for m in models if m.model = 'full'][1].score as champion,
                [m for m in models if m.model = 'better'][1] as shadow
      from read_parquet($file))
where champion is not null and shadow.score is not null
order by (shadow.score >= $threshold) <> (champion >= $threshold) desc, abs(shadow.score - champion) desc
"""
"""Flights that champion and shadow have scored: those of which they are of two minds first, the furthest apart."""


class Flights:
    """Flights go by on a schedule of their own until the block ends; `scene` says which part of the story it is.

    Without `lines` they are those of the file, in its order; `feed` may change each on its way.
    """

    def __init__(
        self,
        cluster: Cluster,
        pipeline: str,
        rate: float,
        lines: Sequence[bytes] = (),
        feed: Callable[[bytes], bytes] = lambda line: line,
    ) -> None:
        self.sent = 0
        self.scenes: list[tuple[float, str]] = []
        self._producer = Producer(cluster.producer_settings(linger_ms=2) | {"log_level": 0})
        self._lines = lines or EVENTS.read_bytes().splitlines()
        self._feed = feed
        self._weather = feed_beside(cluster, pipeline, self._lines)
        self._asked_ms = list(accumulate((asked_of(line).asked_ms for line in self._lines), max))
        self._topic, self._rate = Topics(pipeline).raw, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(30)

    def scene(self, name: str) -> None:
        """From now on this is what goes on."""
        self.scenes.append((time.time() * 1e3, name))

    def at(self, log_ms: float) -> str:
        """What went on when this flight came."""
        return [name for from_ms, name in self.scenes if from_ms <= log_ms or name == self.scenes[0][1]][-1]

    def _send(self) -> None:
        lines = self._lines
        started_s = time.monotonic() + AHEAD_S
        while not self._stop.is_set():
            elapsed_s = time.monotonic() - started_s
            ahead = int((elapsed_s + AHEAD_S) * self._rate)  # beyond the last they begin anew, their weather is known
            self._weather.through(self._asked_ms[min(ahead, len(lines) - 1)])
            due = int(elapsed_s * self._rate) + 1 if elapsed_s >= 0 else 0
            for number in range(self.sent, due):
                line = lines[number % len(lines)]
                self._producer.produce(self._topic, self._feed(line), key=carrier(line))
            self.sent = due
            self._producer.poll(0)
            self._stop.wait(0.005)


class Told:
    """The commands of the story: printed as a person would type them, then run."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.about = about

    def __call__(self, *words: str, expect: int = 0, within_s: float = 0) -> None:
        """Run one, again while a check says no and it is not expected; exits when it does not end as expected."""
        console.print(f"\n[bold]$ rendezvous {shlex.join(words)}[/]")
        deadline_s = time.monotonic() + within_s
        done = rendezvous(self.about, *words, file=STORY)
        while done.returncode == NO != expect and time.monotonic() < deadline_s:
            done = rendezvous(self.about, *words, file=STORY)
        console.print((done.stdout + done.stderr).rstrip(), markup=False, soft_wrap=True)
        if done.returncode != expect:
            sys.exit(f"`{shlex.join(words)}` ended with {done.returncode}, not {expect}: {done.stderr}")


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for it; exits when it does not come."""
    deadline_s = time.monotonic() + WITHIN_S
    while not true():
        if time.monotonic() > deadline_s:
            sys.exit(f"not within {WITHIN_S} s: {what}")
        time.sleep(0.2)


def train_better(pipeline: Pipeline, pace: Pace) -> Path:
    """More and finer trees on the same half-year."""
    flights = [pair for pair in read_flights() if pair[0].month in TRAIN_MONTHS][:: pace.every]
    matrix, late = training_data(flights, pipeline)
    return train_one("better", matrix, late, pipeline, {"num_leaves": 63, "learning_rate": 0.05}, pace.trees)


@contextmanager
def broken(pid: int) -> Iterator[None]:
    """A process stands still until the block ends."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def newest(cluster: Cluster, topic: str, wanted: str) -> Callable[[], bool]:
    """Whether the last decisions are by this model."""

    def by_it() -> bool:
        with TopicReader(cluster, topic) as reader:
            starts = {number: max(low, end - 50) for number, (low, end) in reader.bounds().items()}
            found = [decode_decision(m.value() or b"") for m in reader.to_end(starts)]
        return bool(found) and found[-1].model == wanted

    return by_it


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rate", type=float, help="Flights per second.  [default: 500; with --short 100]")
@click.option("--watch", type=float, help="Seconds of each scene.  [default: 15; with --short 2]")
@click.option(
    "--short",
    is_flag=True,
    help="The same commands in a minute, with models of a tenth of the flights: what it does, not how fast.",
)
def main(rate: float | None, watch: float | None, *, short: bool) -> None:
    """Tell the story of one model, from its training to its rollback, while flights go by."""
    pace = SHORT if short else WHOLE
    pace = replace(pace, rate=rate or pace.rate, watch_s=pace.watch_s if watch is None else watch)
    name = f"flights-story-{int(time.time())}"
    write_pipeline(name, pace, short=short)
    pipeline = load(STORY)
    prepare(STORY, pace.every)
    better = train_better(pipeline, pace)
    if not cluster_of(os.environ):
        shutil.rmtree(STATE, ignore_errors=True)
        os.environ["RENDEZVOUS_STATE"] = str(STATE)
    with up(STORY) as about:
        cluster = cluster_of(os.environ) or Cluster(about["bootstrap"])
        told = Told(about)
        with Flights(cluster, name, pace.rate) as flights:
            tell(flights, told, cluster, pipeline, better, pace)
        show(cluster, pipeline, flights)
        told("verify")


def write_pipeline(name: str, pace: Pace, *, short: bool) -> None:
    """The flights' pipeline under a name of its own, with gates; the short form leaves the demo's models alone."""
    text = PIPELINE.read_text().replace('name = "flights" ', f'name = "{name}" ', 1) + pace.more
    if short:
        text = text.replace('"models/', '"models/short/').replace("max_age_s = 10.0 ", "max_age_s = 1.0 ", 1)
    STORY.write_text(text)


def tell(flights: Flights, told: Told, cluster: Cluster, pipeline: Pipeline, better: Path, pace: Pace) -> None:
    """The scenes, one after the other."""
    watch, roster = pace.watch_s, RosterLog(cluster, pipeline)
    topic, threshold = Topics(pipeline.name).decisions, pipeline.labels.threshold
    by = {model: newest(cluster, topic, model) for model in ("full", "better", "fast")}
    flights.scene("a new broker warms up")
    until(by["full"], "full answers")
    time.sleep(watch)
    flights.scene("full is the champion")
    why = f"{pace.trees} finer trees"
    told("models", "add", "better", str(better.relative_to(Path.cwd())), "--version", "1", "--why", why)
    until(lambda: roster.read().roster.state("better") is State.SHADOW, "better is a shadow")
    flights.scene("better is a shadow")
    told("models", "promote", "better", expect=NO)  # too early: the gates say so
    time.sleep(watch)  # a shadow needs flights to show itself on
    compare(told, threshold)
    time.sleep(watch)  # by what it does when nobody reads the archive beside it, on the same two cores
    told(
        "models",
        "promote",
        "better",
        "--last",
        str(pace.last),
        "--labels",
        str(LABELS.relative_to(Path.cwd())),
        "--why",
        "more often right",
        within_s=WITHIN_S,
    )
    until(by["better"], "better answers")
    flights.scene("better is the champion")
    time.sleep(watch)
    told("models", "ls")
    pid = int(told.about["roles"]["scorer.better"]["pid"])
    with broken(pid):
        flights.scene("better hangs")
        console.print(f"\n[bold]$ kill -STOP {pid}[/]   # the new champion hangs")
        until(lambda: roster.read().roster.state("better") is State.PASSED_OVER, "better is passed over")
        flights.scene("better is passed over")
        time.sleep(watch / 3)
        told("models", "ls")
        told("models", "rollback", "--why", "it hangs")
        until(by["full"], "full answers again")
        flights.scene("rolled back")
        time.sleep(watch / 3)
    told("models", "history")


def compare(told: Told, threshold: float) -> None:
    """Hold the shadow against the champion flight by flight, by what the archive has of both."""
    told("archive", "comparisons", "--since", "1m", "--out", str(COMPARED.relative_to(Path.cwd())))
    found = duckdb.execute(BOTH, {"file": str(COMPARED), "threshold": threshold}).fetchall()
    apart = [row for row in found if (row[1] >= threshold) != (row[2] >= threshold)]
    console.print(f"of {len(found):,} flights that both saw they are of two minds on {len(apart):,}:")
    for request, champion, better, took_ms in apart[:3]:
        console.print(f"  {request}   full {champion:.3f}   better {better:.3f}, after {took_ms} ms")


def show(cluster: Cluster, pipeline: Pipeline, flights: Flights) -> None:
    """Who answered in each scene, and when."""
    run = Run(sent=flights.sent, starts=dict.fromkeys(range(pipeline.partitions), 0))
    read_raw(cluster, pipeline, run)
    with TopicReader(cluster, Topics(pipeline.name).decisions) as reader:
        for message in reader.to_end():
            if not (decision := decode_decision(message.value() or b"")).probe:
                run.take(decision, message.timestamp()[1])
    winners: dict[str, Counter[str]] = {}
    late: dict[str, list[float]] = {}
    for ticket, decision in run.decisions.items():
        scene = flights.at(run.raw_at_ms[ticket])
        winners.setdefault(scene, Counter())[decision.model or "(default)"] += 1
        late.setdefault(scene, []).append(run.decided_at_ms[ticket] - run.raw_at_ms[ticket])
    table = Table("scene", "flights", "answered by", "p50 ms", "worst ms")
    for scene, counts in winners.items():
        who = ", ".join(f"{model} {count:,}" for model, count in counts.most_common())
        figures = quantiles(late[scene])
        table.add_row(scene, f"{len(late[scene]):,}", who, f"{figures['p50']:.0f}", f"{figures['worst']:.0f}")
    console.print(table)
    console.print(f"on time (budget + 10 ms): {run.on_time_share():.3%}; lost: {run.lost()}")


if __name__ == "__main__":
    main()
