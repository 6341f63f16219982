"""`rendezvous verdicts`: what the monitor has told, from its topic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from confluent_kafka import Message

from agents.cli import place
from agents.cli.verdict_lines import line_of, lines_of_fields, lines_of_models, lines_of_segments
from schemas.errors import ConfigurationRefused, UnreadableRecord
from schemas.topics import Topics
from schemas.verdicts import decode_verdict
from streams.kafka.reading import TopicReader


@dataclass(frozen=True, slots=True)
class Shown:
    """Which verdicts are printed, and what of them."""

    alarms: bool
    models: bool
    fields: bool
    by: str
    as_json: bool


def told(file: Path | None, shown: Shown, *, follow: bool, since_ms: int | None) -> None:
    """Print the records of `verdicts`.

    Raises ConfigurationRefused when the pipeline has no monitor, or no such segments.
    """
    pipeline = place.pipeline(file)
    if pipeline.monitor is None:
        raise ConfigurationRefused(
            f"{pipeline.name} has no monitor: write a [monitor] table in its file, or judge a file with --from-scores"
        )
    if shown.by and shown.by not in pipeline.monitor.segments:
        declared = ", ".join(pipeline.monitor.segments) or "none"
        raise ConfigurationRefused(
            f"--by {shown.by}: not among [monitor] segments (declared: {declared}); add it there"
        )
    with TopicReader(place.cluster(), Topics(pipeline.name).verdicts) as reader:
        starts = _starts(reader, follow, since_ms)
        for message in _on_and_on(reader, starts) if follow else reader.to_end(starts):
            _show(message, shown)


def _starts(reader: TopicReader, follow: bool, since_ms: int | None) -> Mapping[int, int]:
    if since_ms is not None:
        return reader.at_time(since_ms)
    return {number: end if follow else low for number, (low, end) in reader.bounds().items()}


def _on_and_on(reader: TopicReader, starts: Mapping[int, int]) -> Iterator[Message]:
    reader.start(starts)
    while True:
        yield from reader.poll(0.2)


def _show(message: Message, shown: Shown) -> None:
    try:
        verdict = decode_verdict(message.value())
    except UnreadableRecord as error:
        click.echo(f"{message.topic()}/{message.partition()}/{message.offset()}: {error}; passed over", err=True)
        return
    if shown.alarms and verdict.alarm is None:
        return
    click.echo(message.value() if shown.as_json else line_of(verdict))
    if shown.as_json:
        return
    for line in lines_of_models(verdict.models) if shown.models else ():
        click.echo(line)
    for line in lines_of_fields(verdict.fields) if shown.fields else ():
        click.echo(line)
    for line in lines_of_segments(verdict, shown.by) if shown.by else ():
        click.echo(line)
