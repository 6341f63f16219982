"""`rendezvous verify`: was every request answered once, and is the archive exact?"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from agents.cli import place
from schemas.decisions import decode_decision
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.reader import read_partition
from streams.archive.segment import ArchiveDamaged
from streams.core.audit import Audit, Findings, digest_of, total
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

GRACE_S = 2.0
"""What the last request is given after its deadline before it counts as lost."""

MEANING = {
    "accepted": "raw records",
    "decided": "with a final decision",
    "lost": "without one",
    "second_finals": "second final records (harmless: the first counts)",
    "conflicting": "of them with another answer",
    "unknown": "decisions of no raw record",
    "late": "decided later than budget + 10 ms",
    "worst_late_ms": "ms after the deadline, the worst",
    "recovered": "decided after a restart",
    "by_standby": "answered by the standby",
    "repeats": "repeats of another request",
    "unreadable": "records on decisions that are none",
    "archived": "records in the archive",
    "archive_missing": "missing in the archive",
    "archive_differs": "differ from the topic",
    "archive_twice": "twice in the archive",
    "archive_unknown": "in the archive only",
    "archive_order": "out of order in the archive",
    "behind": "newer than the archive (it closes files by age)",
}


@click.command(short_help="check that nothing is lost, doubled or late")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object.")
@click.option("--no-archive", is_flag=True, help="Only the topics; the archive is elsewhere.")
def verify(file: Path | None, as_json: bool, no_archive: bool) -> int:
    """Read raw, decisions and archive to their ends and hold them against each other.

    \b
      rendezvous verify
      rendezvous verify --json | jq .lost

    Exit 3 when a request is lost, a decision belongs to nobody, or the archive is not exact.
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
    audits: dict[int, Audit] = {}
    last_ms, wait_ms = 0, pipeline.request.budget_ms
    with TopicReader(cluster, topics.raw) as reader, _progress("raw") as advance:
        for number, (low, _) in reader.bounds().items():
            audits[number] = Audit(low)
        for message in reader.to_end():
            advance()
            at_ms = message.timestamp()[1]
            digest = digest_of(at_ms, message.key(), message.value(), message.headers())
            audits[message.partition() or 0].accepted(message.offset() or 0, at_ms, digest)
            last_ms = max(last_ms, at_ms)
    # Requests that were sent just now have until their deadline.
    time.sleep(max(0.0, min((last_ms + wait_ms) / 1e3 + GRACE_S - time.time(), wait_ms / 1e3 + GRACE_S)))
    with TopicReader(cluster, topics.decisions) as reader, _progress("decisions") as advance:
        ends = {number: max(one.raw, default=-1) for number, one in audits.items()}
        for message in reader.to_end():
            advance()
            number = message.partition() or 0
            try:
                decision = decode_decision(message.value() or b"")
            except UnreadableRecord:
                audits[number].findings.unreadable += 1
                continue
            if decision.ticket.offset <= ends[number]:  # later ones came while we read
                audits[number].decided(decision, message.timestamp()[1])
    if root is not None:
        for number, one in audits.items():
            _archive(root, topics.raw, number, one, ends[number])
    return total([one.close(archive=root is not None) for one in audits.values()])


def _archive(root: Path, topic: str, number: int, one: Audit, end: int) -> None:
    try:
        with _progress(f"archive {number}") as advance:
            for record in read_partition(root, topic, number):
                advance()
                if record.offset <= end:
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
        yield lambda: progress.advance(task)
