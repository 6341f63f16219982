"""An archive with what its topics hold beyond it, for whoever looks at a pipeline while it runs.

Closed files are linked, not copied; of each partition what came after them is read from its topic and put into files
of its own. So whoever can read an archive reads the last seconds too, and nothing has to be read in two ways. When
the archiver has been away for long that would be the whole topic: no more than the newest records are read, and what
is left out is said.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

from confluent_kafka import Message

from agents.archiver import columns_of
from agents.cli.races import Archived
from schemas.errors import ConfigurationRefused
from streams.archive.figures import FOLDER
from streams.archive.layout import Layout
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

MOST = 500_000
"""Records of a partition that are read from its topic, the newest."""

IN_MEMORY = Limits(100_000, 32 << 20, float("inf"))
"""Of one partition; what is more goes to a file, and what follows into the next."""

AT_ONCE = 1_000
WRITER = "newest"
NOT_KEPT = "not archived, and no longer on the topic"
LEFT_OUT = "not archived yet, and more than a page that is made again and again reads from a topic"


@contextmanager
def with_newest(root: Path, topics: Sequence[str], cluster: Cluster) -> Iterator[Archived]:
    """An archive that reaches up to now; it is gone with the block.

    The topics are read one after the other, raw first: what was made of a request by then is there, too. A file that
    a compaction takes away meanwhile is missing in it (`Vanished`): it has to be made anew. Raises KafkaException,
    ConfigurationRefused.
    """
    if not isinstance(root, Path):
        raise ConfigurationRefused(
            f"{root}: the newest records are put beside the files of a folder, and this is none; make the page again "
            "and again without --live"
        )
    with TemporaryDirectory(prefix="rendezvous-") as folder:
        begins_ms, left_out = 0, Counter[str]()
        for topic in topics:
            with TopicReader(cluster, topic) as reader:
                begins_ms = max(begins_ms, _put_together(root, Path(folder), reader, left_out))
        if (root / FOLDER).is_dir():  # what is stored of labels that are mature is told from there
            copytree(root / FOLDER, Path(folder) / FOLDER)
        yield Archived(Path(folder), begins_ms, left_out)


def _put_together(root: Path, whole: Path, reader: TopicReader, left_out: Counter[str]) -> int:
    """One topic; returns the log time from which on all of it is there, 0 when nothing was left out."""
    writers: dict[int, PartitionWriter] = {}
    cut: set[int] = set()
    for number, (low, end) in reader.bounds().items():
        _link(Layout(root, reader.topic, number), Layout(whole, reader.topic, number))
        writer = writers[number] = PartitionWriter(Layout(whole, reader.topic, number), IN_MEMORY, "", WRITER)
        if writer.next_offset < low:
            writer.note_gap(low, NOT_KEPT)
        if (more := end - MOST - writer.next_offset) > 0:
            left_out[f"offsets of {reader.topic}/{number} {LEFT_OUT}: the archiver is so far behind"] = more
            writer.note_gap(end - MOST, LEFT_OUT)
            cut.add(number)
    begins_ms = 0
    buffered: dict[int, list[Message]] = {number: [] for number in writers}
    for message in reader.to_end({number: writer.next_offset for number, writer in writers.items()}):
        number = message.partition() or 0
        if number in cut:
            begins_ms = max(begins_ms, message.timestamp()[1])
            cut.remove(number)
        buffered[number].append(message)
        if len(buffered[number]) >= AT_ONCE:
            _take(writers[number], buffered[number])
    for number, writer in writers.items():
        _take(writer, buffered[number])
        writer.close_segment()
    return begins_ms


def _take(writer: PartitionWriter, messages: list[Message]) -> None:
    """Hand records over, and close a file when the next one is due."""
    writer.extend(columns_of(messages), 0.0)
    messages.clear()
    if writer.due(0.0):
        writer.close_segment()


def _link(archived: Layout, whole: Layout) -> None:
    """The same files in another place, and the notes as they are after these were looked for."""
    whole.data.mkdir(parents=True)
    for path in archived.segments():
        (whole.data / path.name).symlink_to(path.resolve())
    whole.staging.mkdir(parents=True)
    for path in archived.staging.glob("*.json"):
        (whole.staging / path.name).write_bytes(path.read_bytes())
