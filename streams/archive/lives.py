"""The lives of a topic: deleted and made anew, its offsets begin again, and so does its tree of files.

What was archived of the life before is closed as `data-<n>`; offsets of two lives never share a folder.
"""

from pathlib import Path

from msgspec import Struct

from schemas.errors import ConfigurationRefused
from streams.archive.disk import trouble_named
from streams.archive.layout import NOW, encoded, partitions
from streams.archive.marks import put_mark, read_mark
from streams.archive.segment import read_footer
from streams.archive.store import store_of
from streams.state_file import fsync

LIFE = "life.json"


class Life(Struct, frozen=True):
    """Which life of the topic the files are of: the id that Kafka gave it."""

    topic_id: str


def settle(root: Path, topic: str, topic_id: str, writer: str) -> int | None:
    """Close the tree of an earlier life if there is one; returns its number. Any number of archivers may call it."""
    notes = root / "staging" / encoded(topic)
    with trouble_named(root), store_of(root).locked(root / "staging" / "lives.lock", wait=True) as still_ours:
        seen = store_of(root).version(notes / LIFE)
        known = _known(root, topic, notes)
        number = _close(root, topic) if known and known != topic_id else None
        if known != topic_id or not (notes / LIFE).exists():
            if isinstance(root, Path):
                notes.mkdir(parents=True, exist_ok=True, mode=0o750)
            still_ours()
            put_mark(notes, LIFE, Life(topic_id), writer, seen)
    return number


def _known(root: Path, topic: str, notes: Path) -> str | None:
    if (notes / LIFE).exists():
        return read_mark(notes / LIFE, Life).topic_id
    for held in partitions(root, topic, NOW):
        for path in held.segments()[-1:]:
            return read_footer(path).topic_id
    return None


def _close(root: Path, topic: str) -> int:
    """Move notes, then files: whoever is killed between the two finds the number again by what is not there yet."""
    if not isinstance(root, Path):
        raise ConfigurationRefused(
            f"{topic} was made anew, and an object store moves no folder at once: move {root}/data/topic="
            f"{encoded(topic)} to data-1 and staging/{encoded(topic)} to staging-1, or name another archive.root"
        )
    data, notes = Path(f"topic={encoded(topic)}"), Path(encoded(topic))
    number = 1
    while (root / f"data-{number}" / data).exists() or (
        (root / f"staging-{number}" / notes).exists() and (root / "staging" / notes).exists()
    ):
        number += 1
    for tree, part in (("staging", notes), ("data", data)):
        old, new = root / tree / part, root / f"{tree}-{number}" / part
        if old.exists():
            new.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            old.rename(new)
            fsync(new.parent)
            fsync(old.parent)
    return number
