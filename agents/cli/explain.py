"""`rendezvous explain`: the story of one request, as a short waterfall."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from confluent_kafka import Message

from agents.cli import place
from agents.cli.decisions import first_finals
from schemas.blocks import NotAskedBlock, RejectionBlock, ScoreBlock, decode_scores, offsets_of, scores_of
from schemas.decisions import Decision
from schemas.enriched import decode_enriched, rows_of
from schemas.errors import UnreadableRecord
from schemas.topics import Topics
from streams.core.event_fields import printable
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

TICKET = re.compile(r"(\d+)/(\d+)").fullmatch
WIDTH = 40


@dataclass
class Story:
    """What is on the topics about one ticket; times are log times (ms)."""

    decision: Decision
    decided_ms: int
    raw_ms: int = 0
    value: bytes = b""
    joined: dict[str, bytes] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)


@click.command(short_help="the story of one request")
@click.argument("which", metavar="REQUEST_ID|TICKET")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
def explain(which: str, file: Path | None) -> int:
    """Tell what happened to one request, by its id or its ticket (partition/offset).

    \b
      rendezvous explain UA1545-20130701-0515-EWR
      rendezvous explain 0/1234

    Exit 3 when it has no decision.
    """
    pipeline = place.pipeline(file)
    topics, cluster = Topics(pipeline.name), place.cluster()
    story = find(cluster, topics, which)
    if story is None:
        click.echo(f"{which}: no decision on {topics.decisions}", err=True)
        return 3
    gather(cluster, topics, story)
    if pipeline.enrich:
        story.joined = joined(cluster, topics, story)
    for line in told(story):
        click.echo(printable(line))
    return 0


def find(cluster: Cluster, topics: Topics, which: str) -> Story | None:
    """The first final decision of a request."""
    match = TICKET(which)
    with TopicReader(cluster, topics.decisions) as reader:
        for message, decision in first_finals(reader.to_end()):
            own = (decision.ticket.partition, decision.ticket.offset)
            if own == (int(match[1]), int(match[2])) if match else decision.request_id == which:
                return Story(decision, message.timestamp()[1])
    return None


def gather(cluster: Cluster, topics: Topics, story: Story) -> None:
    """Add the raw record and every score of the ticket."""
    ticket = story.decision.ticket
    with TopicReader(cluster, topics.raw) as reader:
        for message in reader.to_end({ticket.partition: ticket.offset}):
            if (message.partition(), message.offset()) == (ticket.partition, ticket.offset):
                story.raw_ms, story.value = message.timestamp()[1], message.value() or b""
                break
    with TopicReader(cluster, topics.scores) as reader:
        since = reader.at_time(story.raw_ms) if story.raw_ms else {}
        until_ms = story.raw_ms + story.decision.budget_ms + 60_000
        for message in reader.to_end({**dict.fromkeys(reader.partitions, 0), **since}):
            if message.partition() == ticket.partition:
                story.events += [(message.timestamp()[1], what) for what in _about(message, ticket.offset)]
            if message.timestamp()[1] > until_ms:
                break


def joined(cluster: Cluster, topics: Topics, story: Story) -> dict[str, bytes]:
    """What the tables said of it, by table: what was joined first is what models were given."""
    ticket = story.decision.ticket
    with TopicReader(cluster, topics.enriched) as reader:
        since = reader.at_time(story.raw_ms) if story.raw_ms else {}
        for message in reader.to_end({**dict.fromkeys(reader.partitions, 0), **since}):
            rows = dict(_rows(message)) if message.partition() == ticket.partition else {}
            if ticket.offset in rows:
                return rows[ticket.offset]
    return {}


def _rows(message: Message) -> Iterator[tuple[int, dict[str, bytes]]]:
    try:
        yield from rows_of(decode_enriched(message.value()))
    except UnreadableRecord:
        return


def _about(message: Message, offset: int) -> Iterator[str]:
    try:
        block = decode_scores(message.value())
    except UnreadableRecord:
        return
    if isinstance(block, ScoreBlock):
        for own, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
            if own == offset:
                yield f"{block.model} {block.version} scores {score:.4f}"
        yield from (f"{block.model} fails: {error.reason}" for error in block.errors if error.offset == offset)
    elif isinstance(block, NotAskedBlock) and offset in offsets_of(block.offsets):
        yield f"the router passes over {', '.join(block.models)}: {block.reason}"
    elif isinstance(block, RejectionBlock):
        yield from (f"the router rejects it: {row.reason}" for row in block.rows if row.offset == offset)


def told(story: Story) -> Iterator[str]:
    """The lines of the waterfall: each event at its age, the deadline among them."""
    decision = story.decision
    yield f"request {decision.request_id}, ticket {decision.ticket}, budget {decision.budget_ms} ms"
    yield f"  {_short(story.value)}"
    for table, record in story.joined.items():
        yield f"  {table}: {_short(record) if record else 'nothing'}"
    events = [(story.raw_ms, "raw: in the log"), *story.events]
    events.append((story.raw_ms + decision.budget_ms, "deadline"))
    score = "" if decision.score is None else f" {decision.score:.4f}"
    events.append((story.decided_ms, f"DECISION: {decision.outcome} {decision.model or '-'}{score}"))
    span_ms = max(1, max(at for at, _ in events) - story.raw_ms)
    for at_ms, what in sorted(events):
        age_ms = at_ms - story.raw_ms
        place_of = min(WIDTH - 1, max(0, round(WIDTH * age_ms / span_ms)))
        yield f"{age_ms:>7} ms |{'.' * place_of}*{' ' * (WIDTH - 1 - place_of)}| {what}"
    for model, names in (decision.needs or {}).items():
        yield f"{model} was given the score of {', '.join(names)}"
    yield f"why: {decision.reason}"


def _short(value: bytes) -> str:
    return f"{value[:200].decode(errors='replace')}{'...' if len(value) > 200 else ''}"
