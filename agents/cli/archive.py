"""`rendezvous archive`: what is kept, whether all of it is sound, and fewer files."""

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.cli import place
from agents.cli.past import Moment, period_of
from agents.cli.progress import progress
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive import compaction, inspection
from streams.archive.layout import Layout, partitions
from streams.archive.ranges import nothing_of

Command = Callable[..., Any]


def archive_options(command: Command) -> Command:
    """Which archive is meant."""
    command = click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")(
        command
    )
    return click.option("--root", type=place.Root(), help="The archive's root, if it is elsewhere.")(command)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


@click.group("archive", short_help="what is kept: ls, check, compact, scores, comparisons")
def archive() -> None:
    """Look after the archive of a pipeline. Nothing here needs Kafka, or stops the archiver.

    \b
      rendezvous archive ls
      rendezvous archive check --json
      rendezvous archive compact
      rendezvous archive scores --out scores.parquet
      rendezvous archive comparisons --since 1d --out comparisons.parquet
    """


@archive.command()
@archive_options
@json_option
def ls(file: Path | None, root: Path | None, as_json: bool) -> None:
    """List partitions: files, rows, bytes, offsets, log times.

    Topics that were deleted and made anew since are listed under the tree they were closed in (data-1, ...).
    """
    for layout in layouts(*meant(file, root)):
        found = inspection.holding(layout)
        click.echo(msgspec.json.encode(found) if as_json else line(found))


@archive.command()
@archive_options
@json_option
def check(file: Path | None, root: Path | None, as_json: bool) -> int:
    """Read everything and name each gap, overlap and damaged file, with its offsets.

    \b
      rendezvous archive check
      rendezvous archive check --json | jq .path

    Exit 3 when anything is wrong.
    """
    wrong = files = 0
    for layout in layouts(*meant(file, root)):
        files += len(layout.segments())
        for trouble in inspection.troubles(layout):
            wrong += 1
            click.echo(msgspec.json.encode(told(trouble)) if as_json else f"{trouble.kind}: {trouble.what}")
    click.echo(f"{files} files read, {wrong} things wrong" if wrong else f"{files} files read, all sound", err=True)
    return 3 if wrong else 0


@archive.command()
@archive_options
@json_option
@click.option("--target-mb", default=compaction.TARGET_BYTES >> 20, show_default=True, help="Size of a merged file.")
@click.option("--closed-s", default=compaction.CLOSED_S, show_default=True, help="Leave younger files alone.")
def compact(file: Path | None, root: Path | None, as_json: bool, target_mb: int, closed_s: float) -> None:
    """Merge small neighbouring files, never the last one. It may be killed at any time and run again."""
    merged = 0
    for layout in layouts(*meant(file, root)):
        for found in compaction.compact(layout, time.time(), target_bytes=target_mb << 20, closed_s=closed_s):
            merged += 1
            text = f"{found.files} files -> {found.path} (offsets {found.start} to {found.end - 1})"
            story = msgspec.to_builtins(found, enc_hook=str)
            click.echo(msgspec.json.encode(story) if as_json else text)
    if not merged:
        click.echo("nothing to merge", err=True)


@archive.command()
@archive_options
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The Parquet file.")
def scores(file: Path | None, root: Path | None, out: Path) -> None:
    """Write the archived scores as a table for SQL: one row per score, or per reason why there is none.

    \b
      rendezvous archive scores --out scores.parquet
      duckdb -c "select model, avg(score) from 'scores.parquet' group by model"
    """
    from streams.archive.scores import write_scores

    pipeline, folder = meant(file, root)
    layouts(pipeline, folder)
    click.echo(f"{out}: {write_scores(folder, Topics(pipeline.name).scores, out):,} rows", err=True)


@archive.command()
@archive_options
@click.option("--since", type=Moment(), help="Requests from this log time on.")
@click.option("--until", type=Moment(), help="Requests before this log time.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The Parquet file.")
def comparisons(file: Path | None, root: Path | None, since: int | None, until: int | None, out: Path | None) -> None:
    """Write one record per request for SQL: who won, what every model said of it, what each policy step saw.

    \b
      rendezvous archive comparisons --since 1d --out comparisons.parquet
      rendezvous archive comparisons

    Without --out, each hour that is over and not kept yet is kept beside the archive, as the archiver does with
    `[archive] comparisons = true`: ROOT/comparisons/pipeline=NAME/hour=2026-11-27T02.parquet.

    `models` is a list of structs: each version that scored, late or never, with its role at that time. `trace` and
    `again` are told by the live core, asked again by the log's times: `as_written` says whether it gives the answer
    that was given.
    """
    from agents.cli.comparisons import keep_comparisons, read_comparisons
    from streams.archive.comparisons import write_comparisons

    if out is None and (since is not None or until is not None):
        raise click.UsageError(
            "--since and --until choose what is written to --out FILE; what is kept is whole hours"
        )
    pipeline, folder = meant(file, root)
    counts, written = Counter[str](), list[tuple[Path, int]]()
    with progress("compared", None) as advance:
        if out is None:
            written += keep_comparisons(folder, pipeline, writer_name(), counts, advance)
        else:
            found = read_comparisons(folder, pipeline, period_of(since, until), counts, advance)
            written.append((out, write_comparisons(found, out)))
    for what, count in sorted(counts.items()):
        if count:
            click.echo(f"{count:,} {what}", err=True)
    for path, rows in written:
        click.echo(f"{path}: {rows:,} rows", err=True)
    if not written:
        click.echo("every hour that is over is kept", err=True)


def meant(file: Path | None, root: Path | None) -> tuple[Pipeline, Path]:
    """The pipeline of a command and the folder of its archive."""
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    return pipeline, root or place.archive(pipeline, path.resolve().parent)


def layouts(pipeline: Pipeline, root: Path) -> list[Layout]:
    """The partitions of this pipeline in an archive; raises ConfigurationRefused when there are none."""
    found = partitions(root)
    own = [layout for layout in found if layout.topic.startswith(f"{pipeline.name}.")]
    if not own:
        raise nothing_of(root, pipeline.name, {layout.topic for layout in found if layout.segments()})
    return own


def writer_name() -> str:
    """Who writes: this host and process."""
    return f"{os.uname().nodename}-{os.getpid()}"


def told(trouble: inspection.Trouble) -> dict[str, Any]:
    """As JSON tells it."""
    return {**msgspec.to_builtins(trouble, enc_hook=str)}


def line(found: inspection.Holding) -> str:
    """One partition for people."""
    tree = "" if found.tree == "data" else f" ({found.tree})"
    if not found.files:
        return f"{found.topic}/{found.partition}{tree}: no file"
    times = f"{_time(found.from_ms)} to {_time(found.to_ms)}" if found.from_ms is not None else "no record"
    notes = "".join(
        f", {count} {what}" for count, what in ((found.gaps, "gaps noted"), (found.forgotten, "forgotten")) if count
    )
    size = f"{found.files} files, {found.rows:,} rows, {found.bytes / 1e6:,.1f} MB"
    return f"{found.topic}/{found.partition}{tree}: {size}, offsets {found.start} to {found.end - 1}, {times}{notes}"


def _time(at_ms: int | None) -> str:
    return datetime.fromtimestamp((at_ms or 0) / 1e3, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
