"""`rendezvous minutes`: what each model did over any span, put together from the minutes that the monitor wrote."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from msgspec import json

from agents.cli import place
from agents.cli.when import instant
from schemas.errors import ConfigurationRefused, UnreadableRecord
from schemas.minutes import Minute, decode_minute
from schemas.pipeline import MonitorSettings
from schemas.topics import Topics
from streams.core.minute_sums import EVERY_MS, Fullest, Summed, summed_up
from streams.kafka.reading import TopicReader

HEAD = ("", "requests", "scored", "failed", "late", "won", "score p10", "p50", "p90", "ms p50", "p99", "p99.9")


@click.command(short_help="what each model did, over any span of minutes")
@click.option("-P", "--pipeline", "pipeline_file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", metavar="WHEN", default="1h", show_default=True, help="From then: 2h, or 2013-07-01T05:00.")
@click.option("--until", metavar="WHEN", help="Minutes that begin before then.")
@click.option("--model", metavar="NAME", help="This model only, in all its versions.")
@click.option("--by", default="", metavar="FIELD", help="By the values of one of [monitor] segments.")
@click.option("--segment", metavar="VALUE", help="With --by: of this value only.")
@click.option(
    "--every", default="all", show_default=True, type=click.Choice([*EVERY_MS]), help="One line for each of these.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def minutes(
    pipeline_file: Path | None,
    since: str,
    until: str | None,
    model: str | None,
    by: str,
    segment: str | None,
    every: str,
    as_json: bool,
) -> None:
    """Print what each version of a model did: shares of the requests it was asked, quantiles of scores and latency.

    \b
      rendezvous minutes --since 1d --every hour --model full
      rendezvous minutes --by carrier --since 2013-07-01T05:00 --until 2013-07-01T06:00
      rendezvous minutes --every minute --json | jq 'select(.late > 0)'

    Put together from minutes of raw's log time, of which each is written when it is over: the one that runs is not
    among them. They lie on the topic as long as raw does, and in the archive. Quantiles are those of the whole span,
    right to 0.4 %; probes are not counted.
    """
    pipeline = place.pipeline(pipeline_file)
    if pipeline.monitor is None:
        raise ConfigurationRefused(f"{pipeline.name} has no monitor: write a [monitor] table in its file")
    _refuse_other(pipeline.monitor, by, segment)
    since_ms, until_ms = instant(since, "--since"), instant(until, "--until") if until else float("inf")

    def wanted(one: Minute) -> bool:
        return since_ms <= one.at_ms < until_ms and one.field == by and model in (None, one.model)

    found = summed_up(_read(Topics(pipeline.name).minutes, since_ms, wanted), EVERY_MS[every])
    if segment is not None:
        found = [one for one in found if one.value == segment]
    if as_json:
        for one in found:
            click.echo(json.encode(one))
    elif found:
        for line in lines_of(found):
            click.echo(line)
    else:
        click.echo("no minute that is over in this span", err=True)


def _refuse_other(settings: MonitorSettings, by: str, segment: str | None) -> None:
    if segment is not None and not by:
        raise click.UsageError("--segment is a value of a field: say which with --by")
    if by and by not in settings.segments:
        declared = ", ".join(settings.segments) or "none"
        raise ConfigurationRefused(f"--by {by}: not among [monitor] segments (declared: {declared}); add it there")


def _read(topic: str, since_ms: int, wanted: Callable[[Minute], bool]) -> Fullest:
    """A minute is written after it is over: none of this span lies before its beginning."""
    found = Fullest()
    with TopicReader(place.cluster(), topic) as reader:
        for message in reader.to_end(reader.at_time(since_ms)):
            try:
                minute = decode_minute(message.value())
            except UnreadableRecord as error:
                click.echo(f"{topic}/{message.partition()}/{message.offset()}: {error}; passed over", err=True)
                continue
            if wanted(minute):
                found.take(minute)
    return found


def lines_of(found: Sequence[Summed]) -> list[str]:
    """A heading for each span, then a line for each version of a model, or for each value of its field."""
    names = [f"{one.model} {one.version}{f' {one.field} {one.value}' if one.field else ''}" for one in found]
    rows = [HEAD, *((name, *_cells(one)) for name, one in zip(names, found, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
    shown, last = [head], ""
    for one, line in zip(found, lines, strict=True):
        span = f"{_at(one.from_ms)} to {_at(one.to_ms)}"
        if span != last:
            shown.append(span)
            last = span
        shown.append(line)
    return shown


def _cells(one: Summed) -> list[str]:
    shares = [f"{count / one.asked:.1%}" for count in (one.scored, one.failed, one.late, one.won)]
    scores = [f"{value:.4g}" for value in one.scores.values()] or ["-"] * 3
    times = [f"{value:.3g}" for value in one.latency_ms.values()] or ["-"] * 3
    return [f"{one.asked:,}", *shares, *scores, *times]


def _at(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(at_ms)
