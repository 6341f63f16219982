"""`rendezvous verify`: was every request answered once, and is the archive exact?"""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from confluent_kafka import Message

from agents.cli import place
from agents.cli.progress import progress
from schemas.dead_letters import origin_of
from schemas.decisions import decode_answer
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.marks import read_marks
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged
from streams.core.audit import Audit, Findings, digest_of, total
from streams.core.validator import Validator
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

GRACE_MS = 2_000
"""What a request is given after its deadline before it counts as lost."""

STRIDE = 1000
"""Records between two steps of the counter."""

T = TypeVar("T")

MEANING = {
    "accepted": "raw records",
    "decided": "with a final decision",
    "probes": "probes of the monitor's, which have one too",
    "lost": "without one",
    "second_finals": "second final records (harmless: the first counts)",
    "conflicting": "of them with another answer",
    "unknown": "final records of no raw record",
    "late": "decided later than budget + 10 ms",
    "worst_late_ms": "ms after the deadline, the worst",
    "recovered": "decided after a restart",
    "by_standby": "answered by the standby",
    "repeats": "repeats of another request",
    "unreadable": "records on decisions that are none",
    "order_errors": "log times more than 10 ms before one ahead of them",
    "dead_letters": "dead letters",
    "dead_letters_unknown": "of them from nowhere",
    "archived": "records in the archive",
    "archive_missing": "missing in the archive",
    "archive_differs": "differ from the topic",
    "archive_twice": "twice in the archive",
    "archive_unknown": "in the archive only",
    "archive_order": "out of order in the archive",
    "archive_forgotten": "taken out of the archive on request",
    "archive_retired": "older than the archive's retention",
    "behind": "newer than the archive (it closes files by age)",
}


@click.command(short_help="check that nothing is lost, doubled or late")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object.")
@click.option("--no-archive", is_flag=True, help="Only the topics; the archive is elsewhere.")
def verify(file: Path | None, as_json: bool, no_archive: bool) -> int:
    """Read raw, decisions, dead letters and archive to their ends and hold them against each other.

    \b
      rendezvous verify
      rendezvous verify --json | jq .lost

    Exit 3 when a request is lost, a decision or a dead letter belongs to nobody, log times are out of order, or the
    archive is not exact.
    """
    path = place.pipeline_path(file)
    pipeline = place.pipeline(path)
    root = None if no_archive else place.archive(pipeline, path.resolve().parent)
    found = audit(place.cluster(), pipeline, root)
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(found) | {"ok": found.ok}))
    else:
        for line in lines(found):
            click.echo(line)
    return 0 if found.ok else 3


def audit(cluster: Cluster, pipeline: Pipeline, root: Path | None) -> Findings:
    """Check every partition; `root` is the archive's, None to leave it out."""
    topics = Topics(pipeline.name)
    audits = _raw(cluster, topics.raw)
    _decisions(cluster, pipeline, audits)
    rest = _dead_letters(cluster, topics, audits)
    if root is not None:
        for number, one in audits.items():
            _archive(root, topics.raw, number, one)
    return total([rest, *(one.close(archive=root is not None) for one in audits.values())])


def _raw(cluster: Cluster, topic: str) -> dict[int, Audit]:
    """Every raw record."""
    with TopicReader(cluster, topic) as reader:
        audits = {number: Audit(low) for number, (low, _) in reader.bounds().items()}
        for message in _counted(reader.to_end(), "raw"):
            at_ms = message.timestamp()[1]
            digest = digest_of(at_ms, message.key(), message.value(), message.headers())
            audits[message.partition() or 0].accepted(message.offset() or 0, at_ms, digest)
    return audits


def _decisions(cluster: Cluster, pipeline: Pipeline, audits: Mapping[int, Audit]) -> None:
    """Every decision; and what comes after them, as long as a request without one has time left."""
    with TopicReader(cluster, Topics(pipeline.name).decisions) as reader:
        for message in _counted(_to_end(reader), "decisions"):
            _take(message, audits)
        since_ms = int(time.time() * 1e3) - pipeline.request.max_budget_ms - GRACE_MS
        until_s = time.monotonic() + _left_ms(cluster, pipeline, audits, since_ms) / 1e3
        while any(len(one.open(since_ms)) for one in audits.values()) and time.monotonic() < until_s:
            for message in reader.poll():
                _take(message, audits)


def _to_end(reader: TopicReader) -> Iterator[Message]:
    """Everything up to what is the end now, and what was read with it: the next poll goes on from there."""
    ends = {number: end for number, (low, end) in reader.bounds().items() if end > low}
    reader.start("beginning")
    while not reader.has_read(ends):
        yield from reader.poll()


def _left_ms(cluster: Cluster, pipeline: Pipeline, audits: Mapping[int, Audit], since_ms: int) -> float:
    """How long those requests of this log time on that have no decision may take, each by its own budget.

    Never more than that budget and the grace, should the broker's clock be ahead of ours.
    """
    open_ = {number: set(found.tolist()) for number, one in audits.items() if len(found := one.open(since_ms))}
    if not open_:
        return 0.0
    validator, left_ms = Validator(pipeline), 0.0
    with TopicReader(cluster, Topics(pipeline.name).raw) as reader:
        for message in reader.to_end({number: min(offsets) for number, offsets in open_.items()}):
            number, offset, at_ms = message.partition() or 0, message.offset() or 0, message.timestamp()[1]
            if offset in open_[number]:
                one = validator.read(message.value(), message.headers(), message.key(), number, offset, at_ms)
                left_ms = max(left_ms, one.budget_ms + GRACE_MS - max(0.0, time.time() * 1e3 - at_ms))
    return left_ms


def _take(message: Message, audits: Mapping[int, Audit]) -> None:
    """A record of decisions."""
    one = audits[message.partition() or 0]
    try:
        answer = decode_answer(message.value() or b"")
    except UnreadableRecord:
        one.findings.unreadable += 1
        return
    if answer.ticket.offset < one.end:  # later ones came while we read
        one.decided(answer, message.timestamp()[1])


def _dead_letters(cluster: Cluster, topics: Topics, audits: dict[int, Audit]) -> Findings:
    """How many there are, and whether what they name is there."""
    found = Findings()
    with TopicReader(cluster, topics.dead_letters) as reader:
        for message in _counted(reader.to_end(), "dead letters"):
            found.dead_letters += 1
            origin = origin_of(message.headers() or ())
            if origin is None:
                found.dead_letters_unknown += 1
            elif origin[0] == topics.raw and origin[1] in audits:
                audits[origin[1]].dead_letter(origin[2])
    return found


def _archive(root: Path, topic: str, number: int, one: Audit) -> None:
    end = one.end
    try:
        marks = read_marks(Layout(root, topic, number))
        one.taken_out(marks.retired, {mark.offset: int(mark.digest, 16) for mark in marks.forgotten})
        for record in _counted(read_partition(root, topic, number), f"archive {number}"):
            if record.offset < end:
                digest = digest_of(record.timestamp_ms, record.key, record.value, record.headers)
                one.archived(record.offset, digest)
    except ArchiveDamaged as error:
        one.findings.damaged.append(str(error))


def lines(found: Findings) -> Iterator[str]:
    """The findings for people; what says nothing is left out."""
    for name, meaning in MEANING.items():
        value = getattr(found, name)
        if value or name in ("accepted", "decided", "lost", "conflicting", "archived"):
            yield f"{value:>12,.0f}  {meaning}"
    for damage in found.damaged:
        yield f"damaged: {damage}"
    yield "every promise was kept" if found.ok else "NOT EXACT: see the counts above"


def _counted(records: Iterable[T], what: str) -> Iterator[T]:
    """The same records, with a counter on a terminal."""
    with progress(f"reading {what}", None) as advance:
        for number, record in enumerate(records, 1):
            if not number % STRIDE:
                advance(STRIDE)
            yield record
