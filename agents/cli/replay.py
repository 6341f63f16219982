"""`rendezvous replay`: the past again, from the archive to a fenced topic."""

import hashlib
import signal
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.cli import place, when
from agents.cli.given import Rate
from agents.cli.past import period_of
from agents.cli.progress import progress
from agents.replay.running import Asked, Replay, Report
from agents.settings import environ, state_dir
from schemas.errors import ConfigurationRefused, KafkaUnreachable
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.replay import check_run, of_run
from streams.core.replay_order import Order, Pace, Selection
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster


@click.command(short_help="the past again, behind a fence")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--run", "name", help="The run's name; without one it is made from the selection.")
@click.option("--since", help="First instant: 2013-07-01T05:00, ms since 1970, or 2h (ago).")
@click.option("--until", help="First instant that is not wanted any more.")
@click.option("--offsets", multiple=True, metavar="P:START-END", help="Offsets of a partition; may be repeated.")
@click.option("--id", "ids", multiple=True, help="A request id; may be repeated.")
@click.option("--ids", "ids_file", type=click.File(), help="A file of request ids, one a line (- for stdin).")
@click.option("--where", default="", help="A SQL condition; needs the extra `sql`.")
@click.option("--order", type=click.Choice(["offset", "time"]), help="Default: time when paced by --speed.")
@click.option("--speed", default="max", show_default=True, help="1 for the original gaps, N times faster, or max.")
@click.option("--rate", type=Rate(), help="Records per second instead.")
@click.option("--to", "target", help="Another topic than replay.<run>.<pipeline>.raw.")
@click.option("--force", is_flag=True, help="With --to: also outside the run's own topics.")
@click.option("--allow-gaps", is_flag=True, help="Go on where offsets are missing in the archive.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
def replay(
    file: Path | None,
    archive: Path | None,
    name: str | None,
    since: str | None,
    until: str | None,
    offsets: tuple[str, ...],
    ids: tuple[str, ...],
    ids_file: Any,
    where: str,
    order: Order | None,
    speed: str,
    rate: float | None,
    target: str | None,
    force: bool,
    allow_gaps: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Send archived raw records again: those that fulfil every condition given, each once.

    \b
      rendezvous up pipeline.toml --replay june      a pipeline that answers the run; first, or all is late
      rendezvous replay --run june --since 2013-06-01 --until 2013-07-01
      rendezvous replay --run slow --offsets 0:0-9999 --speed 10
      rendezvous replay --id UA1545-20130701-0515-EWR --dry-run
      rendezvous replay --where "event->>'carrier' = 'UA'" --rate 500

    They go to replay.<run>.<pipeline>.raw, with the run in front of their ids and in their headers. Killed, the
    same command goes on after the last record in the target. --where sees partition, kafka_offset,
    kafka_timestamp_ms, key, value, headers, and event (the value as JSON). The monitor's probes are left out.

    Exit 3 when the archive is damaged or has a gap, or an id is not in it.
    """
    every = (*ids, *(line.strip() for line in ids_file or () if line.strip()))
    words: dict[str, list[str | None]] = {
        "--since": [since],
        "--until": [until],
        "--offsets": [*offsets],
        "--id": [*every],
        "--where": [where],
    }
    said = {option: [word for word in found if word] for option, found in words.items() if any(found)}
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    pace = _pace(speed, rate)
    asked = Asked(
        run=_run(name, pipeline, said),
        pipeline=pipeline,
        archive=archive or place.archive(pipeline, path.resolve().parent),
        selection=_selection(since, until, offsets, every, where),
        asked=said,
        order=_order(order, pace),
        pace=pace,
        target=target or "",
        forced=force,
        allow_gaps=allow_gaps,
    )
    fenced = of_run(pipeline, asked.run)
    asked = msgspec.structs.replace(asked, target=target or Topics(fenced.name).raw)
    folder = state_dir(environ()) / "replay"
    if dry_run:
        report = Replay(asked, _cluster_if_there(), folder).look()
    else:
        cluster = place.cluster()
        if not target and Topics(fenced.name).decisions not in Admin(cluster).partitions():
            said_first = f"rendezvous up {path} --replay {asked.run}"
            click.echo(
                f"nobody answers run {asked.run} yet; if it should be answered in time, first: {said_first}", err=True
            )
        report = _go(Replay(asked, cluster, folder))
    _tell(report, as_json=as_json)
    return 3 if report.unknown_ids else 0


def _pace(speed: str, rate: float | None) -> Pace:
    if rate is not None:
        if speed != "max":
            raise click.UsageError("--speed and --rate: give one of them")
        return Pace(rate=rate)
    if speed == "max":
        return Pace()
    try:
        times = float(speed)
    except ValueError:
        times = 0.0
    if not 0 < times < 1e9:
        raise click.UsageError(f"--speed {speed!r}: write 1, a number of times, or max")
    return Pace(speed=times)


def _order(order: Order | None, pace: Pace) -> Order:
    if pace.speed is not None and order == "offset":
        raise click.UsageError(
            "--speed N keeps the gaps between records, of all partitions together: say --order time"
        )
    return order or ("time" if pace.speed is not None else "offset")


def _selection(
    since: str | None, until: str | None, offsets: tuple[str, ...], ids: tuple[str, ...], where: str
) -> Selection:
    period = period_of(
        when.instant(since, "--since") if since else None, when.instant(until, "--until") if until else None
    )
    try:
        return Selection(
            since_ms=period.since_ms,
            until_ms=period.until_ms,
            spans=tuple(map(when.span, offsets)),
            ids=ids,
            where=where,
        )
    except ConfigurationRefused as error:
        raise click.UsageError(str(error)) from error


def _run(name: str | None, pipeline: Pipeline, said: dict[str, list[str]]) -> str:
    """A run without a name has the same one each time it is asked for, so that it can go on."""
    run = name or "r" + hashlib.sha256(msgspec.json.encode([pipeline.name, said])).hexdigest()[:8]
    check_run(run)
    return run


def _cluster_if_there() -> Cluster | None:
    try:
        cluster = place.cluster()
        cluster.check_reachable()
    except KafkaUnreachable as error:
        click.echo(f"(the target is not looked at: {error})", err=True)
        return None
    return cluster


def _go(run: Replay) -> Report:
    """SIGTERM ends it as Ctrl-C does: what was sent is confirmed, the rest is for the next time."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run.go(partial(progress, "replayed"))
    except KeyboardInterrupt:
        click.echo(f"interrupted; {run.report.sent:,} sent. The same command goes on after them", err=True)
        raise


def _tell(report: Report, *, as_json: bool) -> None:
    for hole in report.gaps:
        click.echo(f"gap: {hole}", err=True)
    if report.unknown_ids:
        click.echo(f"not in the archive: {', '.join(report.unknown_ids)}", err=True)
    if report.unproved:
        why = f" ({report.why})" if report.why else ""
        click.echo(
            f"{report.unproved:,} records have a probe's header, and no archived decision says that they are probes"
            f"{why}: taken as requests",
            err=True,
        )
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return
    would = "would be " if report.dry_run else ""
    click.echo(f"run {report.run}: {report.source} -> {report.target}, by {report.order}")
    click.echo(f"{report.sent:>12,}  {would}sent")
    if report.before:
        click.echo(f"{report.before:>12,}  there already")
    if report.probes:
        click.echo(f"{report.probes:>12,}  probes of the monitor's left out")
    for number, reach in sorted(report.partitions.items()):
        click.echo(f"{reach.records:>12,}  of partition {number}, offsets {reach.first} to {reach.last}")
    if report.seconds:
        click.echo(f"{report.rate:>12,.0f}  records/s, {report.seconds:.1f} s")
    if report.behind_s:
        click.echo(f"{report.behind_s * 1e3:>12,.0f}  ms behind the schedule at worst")
