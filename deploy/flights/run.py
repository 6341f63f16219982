"""The demo from end to end: `make run`.

Prepares once, brings the pipeline up, sends later flights at a steady rate, and as they land what became of them,
prints what happened, stops what it started, and writes the report. Exit 0 only when every flight got its decision.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from confluent_kafka import Producer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from deploy.flights.landing import Landings
from deploy.flights.prepare import DEMO_EVENTS, EVENTS, LABELS, PIPELINE, REPORT, Label, prepare
from deploy.flights.report import Run, quantiles
from deploy.flights.weather import REPORTS, asked_of, feed_beside
from schemas.blocks import ScoreBlock, decode_scores, offsets_of, scores_of
from schemas.decisions import decode_decision
from schemas.pipeline import Pipeline
from schemas.probes import PROBE_MARK
from schemas.topics import Topics
from streams.archive.reader import summary
from streams.kafka.clients import Cluster, cluster_of
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load

READY_S = 90
STOP_S = 20
AHEAD_S = 1.0
"""The weather goes ahead of its flights: a record counts for requests half a second later."""

WARM_UP = 5_000
"""A new broker compiles itself for the first seconds under load; what is counted begins after them."""

MOST = DEMO_EVENTS - WARM_UP
"""A flight that was sent before is answered as a repeat."""

console = Console(highlight=False)
aside = Console(stderr=True, highlight=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--events", type=click.IntRange(1, MOST), default=20_000, show_default=True, help="How many flights to send."
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=1000.0, show_default=True, help="Flights per second."
)
def main(events: int, rate: float) -> None:
    """Send real flights through the flights pipeline and report."""
    prepare()
    pipeline = load(PIPELINE)
    every = EVENTS.read_bytes().splitlines()
    lines, others = every[:events], every[events:]
    with up() as about:
        cluster = cluster_of(os.environ) or Cluster(about["bootstrap"])
        warm_up(cluster, pipeline, others[:WARM_UP], rate)
        run = send_and_read(cluster, pipeline, lines, rate)
        read_raw(cluster, pipeline, run)
        read_scores(cluster, pipeline, run)
        exact = verified(about)
        verdicts = rendezvous(about, "verdicts").stdout.splitlines()
    reported = write_report(about, run)
    show(run, pipeline, about)
    console.print(
        "[bold]rendezvous verify[/]   (of everything there is: the warm-up's first second is late now and then)"
    )
    console.print(exact.stdout)
    if exact.returncode:
        aside.print(f"[red]`rendezvous verify` ended with {exact.returncode} {exact.stderr}")
        sys.exit(1)
    if run.lost() or len(run.decisions) < len(lines):
        aside.print(f"[red]{run.lost()} flights have no final decision: look into {about['logs']}")
        sys.exit(1)
    if reported.returncode:
        aside.print(f"[red]`rendezvous report` ended with {reported.returncode} {reported.stderr}")
        sys.exit(1)
    said = verdicts[-1] if verdicts else f"none yet: look into {about['logs']}/monitor.log"
    console.print(f"[bold]the last of {len(verdicts)} verdicts[/]: {escape(said)}")
    console.print(f"[bold]the report of this run[/]: {REPORT} (open it in a browser)")


def verified(about: Mapping[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Hold raw, decisions and archive against each other, everything of this and earlier runs."""
    return rendezvous(about, "verify")


def write_report(about: Mapping[str, Any], run: Run) -> "subprocess.CompletedProcess[str]":
    """The page about this run, from what the archiver has closed: it closes everything when it is stopped."""
    since_ms = min(run.raw_at_ms.values(), default=0)
    return rendezvous(about, "report", "--since", str(since_ms), "--archive", about["archive"], "-o", str(REPORT))


def rendezvous(about: Mapping[str, Any], *words: str, file: Path = PIPELINE) -> "subprocess.CompletedProcess[str]":
    """A command of the program, on this pipeline and cluster."""
    command = [sys.executable, "-m", "agents", *words]
    place = {"KAFKA_BOOTSTRAP_SERVERS": about["bootstrap"], "RENDEZVOUS_CONFIG": str(file)}
    environment = {**os.environ, **place}
    nothing = subprocess.DEVNULL
    return subprocess.run(command, stdin=nothing, capture_output=True, text=True, check=False, env=environment)


@contextmanager
def up(file: Path = PIPELINE) -> Iterator[Mapping[str, Any]]:
    """`rendezvous up` once it is ready, as its status, which stays the newest; stopped at the end."""
    command = [sys.executable, "-m", "agents", "up", str(file), "--json"]
    aside.print(
        "bringing the pipeline up: Apache Kafka, router, four models, rendezvous and standby, archiver, monitor"
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0)
    about: dict[str, Any] = {}
    follower = threading.Thread(target=_follow, args=(process, about), daemon=True)
    follower.start()
    try:
        _await_ready(process, about)
        yield about
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
        follower.join(STOP_S)


def _follow(process: "subprocess.Popen[bytes]", about: dict[str, Any]) -> None:
    """Read on: a status that nobody takes would hold up who writes it."""
    for line in process.stdout or ():
        about.update(json.loads(line))


def _await_ready(process: "subprocess.Popen[bytes]", about: Mapping[str, Any]) -> None:
    deadline_s = time.monotonic() + READY_S
    while not (about.get("ready") or about.get("refused")):
        if process.poll() is not None:
            sys.exit(f"`up` ended with {process.returncode} before it was ready")
        if time.monotonic() > deadline_s:
            sys.exit(f"not ready in {READY_S} s: {about.get('roles')}")
        time.sleep(0.05)
    if refused := about["refused"]:
        sys.exit(f"`up` refused a model, and all of them are to answer: {'; '.join(refused.values())}")


def warm_up(cluster: Cluster, pipeline: Pipeline, lines: list[bytes], rate: float) -> None:
    """Some flights before the counted ones, at the same pace."""
    aside.print(f"warming up with {len(lines):,} flights")
    send_and_read(cluster, pipeline, lines, rate)


def send_and_read(cluster: Cluster, pipeline: Pipeline, lines: list[bytes], rate: float) -> Run:
    """Send on an absolute schedule, reading decisions meanwhile, until each has its own."""
    with TopicReader(cluster, Topics(pipeline.name).raw) as raw:
        run = Run(sent=len(lines), starts={number: end for number, (_, end) in raw.bounds().items()})
    with TopicReader(cluster, Topics(pipeline.name).decisions) as decisions:
        decisions.start("end")
        _send_and_read(cluster, pipeline, lines, rate, decisions, run)
    return run


def _send_and_read(
    cluster: Cluster, pipeline: Pipeline, lines: list[bytes], rate: float, decisions: TopicReader, run: Run
) -> None:
    producer = Producer(cluster.producer_settings(linger_ms=2))
    topic, weather = Topics(pipeline.name).raw, feed_beside(cluster, pipeline.name, lines)
    landings = Landings(cluster, pipeline.name, lines)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=aside, transient=True) as progress:
        sending, deciding = (progress.add_task(what, total=len(lines)) for what in ("sent", "decided"))
        started_s = time.monotonic() + AHEAD_S
        sent = 0
        while sent < len(lines):
            elapsed_s = time.monotonic() - started_s
            ahead = min(len(lines) - 1, int((elapsed_s + AHEAD_S) * rate))
            weather.through(asked_of(lines[ahead]).asked_ms)
            due = min(len(lines), int(elapsed_s * rate) + 1) if elapsed_s >= 0 else 0
            for line in lines[sent:due]:
                producer.produce(topic, line, key=carrier(line))
            sent = due
            producer.poll(0)
            _read(decisions, run, 0.005)
            landings.after(len(run.decisions))
            progress.update(sending, completed=sent)
            progress.update(deciding, completed=len(run.decisions))
            time.sleep(0.002)
        producer.flush(30)
        weather.end()
        patience_s = time.monotonic() + 10 + pipeline.request.budget_ms / 1e3
        while len(run.decisions) < len(lines) and time.monotonic() < patience_s:
            _read(decisions, run, 0.1)
            progress.update(deciding, completed=len(run.decisions))
        landings.end()


def carrier(line: bytes) -> bytes:
    """The key of an event: flights of one carrier stay in their order."""
    return line[15:17]


def _read(decisions: TopicReader, run: Run, timeout_s: float) -> None:
    for message in decisions.poll(timeout_s):
        if not (decision := decode_decision(message.value() or b"")).probe:
            run.take(decision, message.timestamp()[1])


def read_raw(cluster: Cluster, pipeline: Pipeline, run: Run) -> None:
    """When each flight was in the log; the monitor's probes are none."""
    with TopicReader(cluster, Topics(pipeline.name).raw) as reader:
        for message in reader.to_end(run.starts):
            if not any(name == PROBE_MARK for name, _ in message.headers() or ()):
                run.raw_at_ms[(message.partition() or 0, message.offset() or 0)] = message.timestamp()[1]


def read_scores(cluster: Cluster, pipeline: Pipeline, run: Run) -> None:
    """Every model's score of each flight, those that came after the decision too."""
    with TopicReader(cluster, Topics(pipeline.name).scores) as reader:
        for message in reader.to_end():
            block = decode_scores(message.value())
            if isinstance(block, ScoreBlock):
                number = message.partition() or 0
                found = run.scores.setdefault(block.model, {})
                pairs = zip(offsets_of(block.offsets), scores_of(block.scores), strict=True)
                found.update({(number, offset): score for offset, score in pairs})


def show(run: Run, pipeline: Pipeline, about: Mapping[str, Any]) -> None:
    """Print what happened, to stdout."""
    total = max(1, len(run.decisions))
    budget = pipeline.request.budget_ms
    console.print(f"\n[bold]{len(run.decisions):,} decisions for {run.sent:,} flights[/] (budget {budget} ms)")
    table = Table("outcome", "decisions", "share")
    for outcome, count in run.outcomes().most_common():
        table.add_row(outcome, f"{count:,}", f"{count / total:.2%}")
    console.print(table)
    table = Table("answered by", "decisions", "share")
    for model, count in run.winners().most_common():
        table.add_row(model, f"{count:,}", f"{count / total:.2%}")
    console.print(table)
    figures = quantiles(run.latencies_ms())
    console.print("latency, raw's log time to the decision's: " + _ms(figures) + f" (budget {budget} ms)")
    console.print(
        f"on time (budget + 10 ms): {run.on_time_share():.3%}; lost: {run.lost()}; second finals: {run.second_finals}"
    )
    table = Table("model", "role", "flights", "accuracy", "AUC", title="will it be late?", title_justify="left")
    for model, role, rows, accuracy, area in run.quality(pipeline, _labels()):
        table.add_row(model, role, f"{rows:,}", f"{accuracy:.4f}", f"{area:.4f}")
    console.print(table)
    told = about["roles"]["router"]["figures"]
    reports, without = told["weather records"], told["without weather"]
    console.print(f"weather: {reports:,.0f} reports; flights without one, those of the warm-up too: {without:,.0f}")
    kept = summary(Path(about["archive"]))
    console.print(f"archive: {kept.rows:,} rows in {kept.files} files, {kept.bytes / 1e6:.1f} MB")
    console.print("\n[bold]three decisions in full[/]")
    for decision in _samples(run):
        console.print_json(msgspec.json.encode(decision).decode())
    _where(about)


def _samples(run: Run) -> list[Any]:
    """One of each outcome first, then any."""
    by_outcome = {decision.outcome: decision for decision in run.decisions.values()}
    rest = [decision for decision in run.decisions.values() if decision not in by_outcome.values()]
    return [*by_outcome.values(), *rest[:3]][:3]


def _labels() -> dict[str, bool]:
    return {label.request_id: label.late for label in map(_label, LABELS.read_bytes().splitlines())}


_label = msgspec.json.Decoder(Label).decode


def _ms(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in figures.items())


def _where(about: Mapping[str, Any]) -> None:
    console.print(f"""
[bold]where things are[/]
  report    {REPORT}
  archive   {about["archive"]}
  logs      {about["logs"]}
  pipeline  {PIPELINE}

[bold]what to try next[/]
  make up                                        keep it running; then, in another terminal:
  .venv/bin/rendezvous send {REPORTS} --table weather --key origin
  .venv/bin/rendezvous send {EVENTS} --rate 500
  .venv/bin/rendezvous decisions --follow
  .venv/bin/rendezvous explain REQUEST_ID
  .venv/bin/rendezvous quality --by carrier
  .venv/bin/rendezvous verdicts --follow
  .venv/bin/rendezvous label-next 10
  .venv/bin/rendezvous verify
  kill -9 a scorer's pid (see `make up`) and watch the others answer
""")


if __name__ == "__main__":
    main()
