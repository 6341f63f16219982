"""`rendezvous verify`: was every request answered once, and is the archive exact?"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from agents.cli import place
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
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

GRACE_S = 2.0
"""What the last request is given after its deadline before it counts as lost."""

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
    audits, last_ms = _raw(cluster, topics.raw)
    # Requests that were sent just now have until their deadline.
    wait_ms = pipeline.request.budget_ms
    time.sleep(max(0.0, min((last_ms + wait_ms) / 1e3 + GRACE_S - time.time(), wait_ms / 1e3 + GRACE_S)))
    _decisions(cluster, topics.decisions, audits)
    rest = _dead_letters(cluster, topics, audits)
    if root is not None:
        for number, one in audits.items():
            _archive(root, topics.raw, number, one)
    return total([rest, *(one.close(archive=root is not None) for one in audits.values())])


def _raw(cluster: Cluster, topic: str) -> tuple[dict[int, Audit], int]:
    """Every raw record; and the last log time."""
    last_ms = 0
    with TopicReader(cluster, topic) as reader:
        audits = {number: Audit(low) for number, (low, _) in reader.bounds().items()}
        for message in _counted(reader.to_end(), "raw"):
            at_ms = message.timestamp()[1]
            digest = digest_of(at_ms, message.key(), message.value(), message.headers())
            audits[message.partition() or 0].accepted(message.offset() or 0, at_ms, digest)
            last_ms = max(last_ms, at_ms)
    return audits, last_ms


def _decisions(cluster: Cluster, topic: str, audits: dict[int, Audit]) -> None:
    ends = {number: one.end for number, one in audits.items()}
    with TopicReader(cluster, topic) as reader:
        for message in _counted(reader.to_end(), "decisions"):
            number = message.partition() or 0
            try:
                answer = decode_answer(message.value() or b"")
            except UnreadableRecord:
                audits[number].findings.unreadable += 1
                continue
            if answer.ticket.offset < ends[number]:  # later ones came while we read
                audits[number].decided(answer, message.timestamp()[1])


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
    with _progress(what) as advance:
        for number, record in enumerate(records, 1):
            if not number % STRIDE:
                advance()
            yield record


@contextmanager
def _progress(what: str) -> Iterator[Callable[[], None]]:
    """A counter on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn(f"reading {what}"), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda: progress.advance(task, STRIDE)
