"""The labels a promotion is held against: those of a file, else the archived ones."""

from collections.abc import Callable
from pathlib import Path

from agents.cli.past import read_labels, read_labels_topic
from schemas.labels import MAX_OFFSET, Label, encode_label
from schemas.pipeline import Pipeline
from streams.archive.ranges import Period
from streams.core.labels import Labels

LabelsSince = Callable[[int], Labels]
"""The labels that came from a log time (ms) on."""


def labels_of(file: Path | None, root: Path, pipeline: Pipeline) -> LabelsSince:
    """The labels of a file (JSONL), whenever they came; without one those that the archive at `root` holds.

    Raises ConfigurationRefused when the file is none; what it returns raises ArchiveDamaged.
    """
    if file is None:
        return lambda since_ms: read_labels_topic(root, pipeline, Period(since_ms))
    given = Labels()
    for number, (request_id, truth) in enumerate(read_labels(file).items()):
        given.take(0, number, MAX_OFFSET, encode_label(Label(truth, request_id)))
    return lambda _: given
