"""An archive with what its topics hold beyond it, for whoever looks at a pipeline while it runs.

Closed files are linked, not copied; of each partition what came after them is read from its topic and put into one
file more. So whoever can read an archive reads the last seconds too, and nothing has to be read in two ways.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

from confluent_kafka import Message

from agents.archiver import columns_of
from schemas.errors import ConfigurationRefused
from streams.archive.figures import FOLDER
from streams.archive.layout import Layout
from streams.archive.writer import Limits, PartitionWriter
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

NO_LIMIT = Limits(1 << 62, 1 << 62, float("inf"))
WRITER = "newest"
NOT_KEPT = "not archived, and no longer on the topic"


@contextmanager
def with_newest(root: Path, topics: Sequence[str], cluster: Cluster) -> Iterator[Path]:
    """The root of an archive that reaches up to now; it is gone with the block.

    The topics are read one after the other, raw first: what was made of a request by then is there, too. Raises
    KafkaException, ConfigurationRefused.
    """
    if not isinstance(root, Path):
        raise ConfigurationRefused(
            f"{root}: the newest records are put beside the files of a folder, and this is none; make the page again "
            "and again without --live"
        )
    with TemporaryDirectory(prefix="rendezvous-") as folder:
        for topic in topics:
            with TopicReader(cluster, topic) as reader:
                _put_together(root, Path(folder), reader)
        if (root / FOLDER).is_dir():  # what is stored of labels that are mature is told from there
            copytree(root / FOLDER, Path(folder) / FOLDER)
        yield Path(folder)


def _put_together(root: Path, whole: Path, reader: TopicReader) -> None:
    writers: dict[int, PartitionWriter] = {}
    for number, (low, _) in reader.bounds().items():
        _link(Layout(root, reader.topic, number), Layout(whole, reader.topic, number))
        writer = writers[number] = PartitionWriter(Layout(whole, reader.topic, number), NO_LIMIT, "", WRITER)
        if writer.next_offset < low:
            writer.note_gap(low, NOT_KEPT)
    found: dict[int, list[Message]] = {number: [] for number in writers}
    for message in reader.to_end({number: writer.next_offset for number, writer in writers.items()}):
        found[message.partition() or 0].append(message)
    for number, writer in writers.items():
        writer.extend(columns_of(found[number]), 0.0)
        writer.close_segment()


def _link(archived: Layout, whole: Layout) -> None:
    """The same files in another place, and the notes as they are after these were looked for."""
    whole.data.mkdir(parents=True)
    for path in archived.segments():
        (whole.data / path.name).symlink_to(path.resolve())
    whole.staging.mkdir(parents=True)
    for path in archived.staging.glob("*.json"):
        (whole.staging / path.name).write_bytes(path.read_bytes())
