"""Comparisons that are kept, an hour a file: `ROOT/comparisons/pipeline=<p>/hour=<2026-11-27T02>.parquet`.

They are made of the archive and of nothing else, so an hour can be deleted at any time and is made anew: what is
forgotten on request takes its hours with it. What was noted as forgotten before an hour is begun is not read for it
(`streams.archive.reader`); what is noted later lets nothing be kept.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.disk import ArchiveBusy, trouble_named
from streams.archive.layout import Layout, encoded, listed
from streams.archive.marks import read_marks
from streams.archive.ranges import times_held
from streams.archive.store import store_of

FOLDER = "comparisons"
"""Beside the archive's records."""

HOUR = re.compile(r"hour=(.*)\.parquet").fullmatch
HOUR_MS = 3_600_000
SETTLE_MS = HOUR_MS
"""An hour is kept when the archive has raw so long beyond it: whatever came of its requests is there, too."""


def place_of(root: Path, pipeline: str, hour: int) -> Path:
    """The file of one hour, counted since 1970."""
    return _folder(root, pipeline) / f"hour={np.datetime64(hour, 'h')}.parquet"


def kept_hours(root: Path, pipeline: str) -> list[int]:
    """The hours that are kept, in order."""
    names = (HOUR(path.name) for path in listed(_folder(root, pipeline)))
    return sorted(int(np.datetime64(name[1], "h").astype(int)) for name in names if name)


def due_hours(root: Path, pipeline: Pipeline) -> list[int]:
    """The hours that are over, archived and not kept, in order. Raises ArchiveDamaged."""
    held = times_held(root, Topics(pipeline.name).raw, range(pipeline.partitions))
    if held is None:
        return []
    over = range(held[0] // HOUR_MS, (held[1] - SETTLE_MS) // HOUR_MS)
    return sorted(set(over) - set(kept_hours(root, pipeline.name)))


def keep_hour(root: Path, pipeline: Pipeline, hour: int, writer: str, write: Callable[[Path], int]) -> int:
    """Keep what is written of an hour into a file; returns its rows. Raises ArchiveBusy, DiskTrouble."""
    path, before = place_of(root, pipeline.name, hour), _forgotten(root, pipeline)
    store, staging = store_of(root), root / "staging" / FOLDER
    with trouble_named(path), store.locked(staging / "keeping.lock") as still_ours:
        store.prepare(path.parent, staging, writer)
        with store.workshop(staging) as folder:
            made = folder / f"{path.stem}.part"
            try:
                rows = write(made)
                still_ours()
                store.replace(made, path, store.version(path))
            finally:
                made.unlink(missing_ok=True)
    # Looked at when it has its name: who forgets after this finds the file, and deletes it.
    if _forgotten(root, pipeline) != before:
        drop_hours(root, pipeline.name, [hour])
        raise ArchiveBusy(f"{path}: a request was forgotten meanwhile; nothing is kept of it, run it again")
    return rows


def drop_hours(root: Path, pipeline: str, hours: Collection[int]) -> None:
    """Delete what is kept of these hours. Raises DiskTrouble."""
    store = store_of(root)
    for hour in sorted(set(hours).intersection(kept_hours(root, pipeline))):
        path = place_of(root, pipeline, hour)
        with trouble_named(path):
            store.remove(path, store.version(path))
            store.settle(path.parent)


def retire_hours(root: Path, pipeline: Pipeline, now_ms: float) -> int:
    """Delete the hours that are older than the archive's retention; returns how many."""
    days = pipeline.archive.retention_days
    oldest_ms = now_ms - days * 24 * HOUR_MS
    old = [hour for hour in kept_hours(root, pipeline.name) if days and (hour + 1) * HOUR_MS < oldest_ms]
    drop_hours(root, pipeline.name, old)
    return len(old)


def _folder(root: Path, pipeline: str) -> Path:
    return root / FOLDER / f"pipeline={encoded(pipeline)}"


def _forgotten(root: Path, pipeline: Pipeline) -> int:
    """How many records were taken out of what comparisons are made of."""
    topics = Topics(pipeline.name)
    return sum(
        len(read_marks(Layout(root, topic, number)).forgotten)
        for topic in (topics.raw, topics.scores, topics.decisions)
        for number in range(pipeline.partitions)
    )
