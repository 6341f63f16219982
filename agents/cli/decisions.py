"""`rendezvous decisions`: the answers, as they come or from the beginning."""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import click
from confluent_kafka import Message

from agents.cli import place
from schemas.decisions import Decision, decode_decision
from schemas.errors import UnreadableRecord
from schemas.topics import Topics
from streams.core.event_fields import printable
from streams.kafka.reading import TopicReader

HEADINGS = f"{'ticket':>10} {'outcome':10} {'model':12} {'score':>8} {'used ms':>8}  request id"


LOOK_BACK_S = 60.0
"""How long before now a ticket may have been answered whose second record is yet to come."""

REMEMBERED = 1_000_000
"""Tickets, some 150 MB of them: a second record comes within seconds of the first."""

Tickets = dict[tuple[int, int], None]


@click.command(short_help="read the answers")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; alone, from now on.")
@click.option("--from-beginning", is_flag=True, help="From the oldest; without --follow this is the default.")
@click.option("--format", "form", type=click.Choice(["json", "table"]), help="Default: table on a terminal.")
@click.option("-c", "--count", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("--all", "everything", is_flag=True, help="Also what is not final, second finals, and the monitor's.")
def decisions(
    file: Path | None,
    follow: bool,
    from_beginning: bool,
    form: Literal["json", "table"] | None,
    count: int | None,
    everything: bool,
) -> None:
    """Print decisions: the first final one of each ticket that is no probe of the monitor's.

    \b
      rendezvous decisions --follow
      rendezvous decisions --from-beginning --format json | jq .outcome | sort | uniq -c
    """
    pipeline = place.pipeline(file)
    form = form or ("table" if sys.stdout.isatty() else "json")
    if form == "table":
        click.echo(HEADINGS)
    with TopicReader(place.cluster(), Topics(pipeline.name).decisions) as reader:
        seen: Tickets = {}
        messages = _messages(reader, follow, from_beginning, seen)
        found = first_finals(messages, everything, seen)
        for shown, (message, decision) in enumerate(found, 1):
            click.echo(message.value() if form == "json" else printable(_row(decision)))
            if count is not None and shown >= count:
                return


def _messages(reader: TopicReader, follow: bool, from_beginning: bool, seen: Tickets) -> Iterator[Message]:
    if not follow:
        yield from reader.to_end()
        return
    if from_beginning:
        reader.start("beginning")
    else:
        reader.start(_look_back(reader, seen))
    while True:
        yield from reader.poll(0.2)


def _look_back(reader: TopicReader, seen: Tickets) -> dict[int, int]:
    """Tickets that were decided just now: a second record of theirs is no answer. Returns where the topic ends."""
    ends = {number: end for number, (_, end) in reader.bounds().items()}
    recent = reader.to_end(reader.at_time(int((time.time() - LOOK_BACK_S) * 1e3)))
    for _ in first_finals((one for one in recent if (one.offset() or 0) < ends[one.partition() or 0]), seen=seen):
        pass
    return ends


def first_finals(
    messages: Iterable[Message], everything: bool = False, seen: Tickets | None = None
) -> Iterator[tuple[Message, Decision]]:
    """Only what counts: the first record with `final = true` for each ticket; answers to probes are nobody's.

    `seen` are tickets that have theirs, the last million of them.
    """
    seen = {} if seen is None else seen
    for message in messages:
        try:
            decision = decode_decision(message.value() or b"")
        except UnreadableRecord as error:
            click.echo(f"{message.topic()}/{message.partition()}/{message.offset()}: {error}; passed over", err=True)
            continue
        ticket = (decision.ticket.partition, decision.ticket.offset)
        first = decision.final and ticket not in seen
        if first:
            seen[ticket] = None
            if len(seen) > REMEMBERED:
                del seen[next(iter(seen))]
        if (first and not decision.probe) or everything:
            yield message, decision


def _row(decision: Decision) -> str:
    score = "" if decision.score is None else f"{decision.score:.4f}"
    return (
        f"{decision.ticket!s:>10} {decision.outcome:10} {decision.model or '-':12} {score:>8} "
        f"{decision.used_ms:>8.1f}  {decision.request_id}"
    )
