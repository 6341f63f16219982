"""The labels that requests are held against: those of a file, else the archived ones."""

from collections.abc import Callable
from pathlib import Path

import click

from agents.cli.label import Reading
from agents.cli.past import read_labels_topic
from schemas.labels import MAX_OFFSET
from schemas.pipeline import Pipeline
from streams.archive.ranges import Period
from streams.core.labels import Labels

LabelsSince = Callable[[int], Labels]
"""The labels that came from a log time (ms) on."""

labels_option = click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="A file of labels as `label` takes it (the truth may be called label or late, too); else the archived ones.",
)


def labels_in(file: Path | None) -> Labels | None:
    """The labels of a file, as if they had come after every request; None without one.

    Raises ConfigurationRefused, with the line, when one is no label.
    """
    if file is None:
        return None
    given = Labels()
    for number, record in enumerate(Reading(file).whole()):
        given.take(0, number, MAX_OFFSET, record)
    return given


def labels_of(file: Path | None, root: Path, pipeline: Pipeline) -> LabelsSince:
    """The labels of a file, whenever they came; without one those that the archive at `root` holds.

    Raises ConfigurationRefused when the file is none; what it returns raises ArchiveDamaged.
    """
    given = labels_in(file)
    if given is None:
        return lambda since_ms: read_labels_topic(root, pipeline, Period(since_ms))
    return lambda _: given
