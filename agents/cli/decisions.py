"""`rendezvous decisions`: the answers, as they come or from the beginning."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click
from confluent_kafka import Message

from agents.cli import place
from schemas.decisions import Decision, decode_decision
from schemas.errors import UnreadableRecord
from schemas.topics import Topics
from streams.kafka.reading import TopicReader

HEADINGS = f"{'ticket':>10} {'outcome':10} {'model':12} {'score':>8} {'used ms':>8}  request id"


@click.command(short_help="read the answers")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; alone, from now on.")
@click.option("--from-beginning", is_flag=True, help="From the oldest; without --follow this is the default.")
@click.option("--format", "form", type=click.Choice(["json", "table"]), help="Default: table on a terminal.")
@click.option("-c", "--count", type=int, help="Stop after so many.")
@click.option("--all", "everything", is_flag=True, help="Also what is not final, and second finals.")
def decisions(
    file: Path | None,
    follow: bool,
    from_beginning: bool,
    form: Literal["json", "table"] | None,
    count: int | None,
    everything: bool,
) -> None:
    """Print decisions: the first final one of each ticket.

    \b
      rendezvous decisions --follow
      rendezvous decisions --from-beginning --format json | jq .outcome | sort | uniq -c
    """
    pipeline = place.pipeline(file)
    form = form or ("table" if sys.stdout.isatty() else "json")
    if form == "table":
        click.echo(HEADINGS)
    with TopicReader(place.cluster(), Topics(pipeline.name).decisions) as reader:
        found = first_finals(_messages(reader, follow, from_beginning), everything)
        for shown, (message, decision) in enumerate(found, 1):
            click.echo(message.value() if form == "json" else _row(decision))
            if count is not None and shown >= count:
                return


def _messages(reader: TopicReader, follow: bool, from_beginning: bool) -> Iterator[Message]:
    if not follow:
        yield from reader.to_end()
        return
    reader.start("beginning" if from_beginning else "end")
    while True:
        yield from reader.poll(0.2)


def first_finals(messages: Iterator[Message], everything: bool = False) -> Iterator[tuple[Message, Decision]]:
    """Only what counts: the first record with `final = true` for each ticket."""
    seen: set[tuple[int, int]] = set()
    for message in messages:
        try:
            decision = decode_decision(message.value() or b"")
        except UnreadableRecord as error:
            click.echo(f"{message.topic()}/{message.partition()}/{message.offset()}: {error}; passed over", err=True)
            continue
        ticket = (decision.ticket.partition, decision.ticket.offset)
        if everything or (decision.final and ticket not in seen):
            seen.add(ticket)
            yield message, decision


def _row(decision: Decision) -> str:
    score = "" if decision.score is None else f"{decision.score:.4f}"
    return (
        f"{decision.ticket!s:>10} {decision.outcome:10} {decision.model or '-':12} {score:>8} "
        f"{decision.used_ms:>8.1f}  {decision.request_id}"
    )
