"""Where files lie: `ROOT/data/topic=<name>/partition=<p>/<start>.parquet`, nothing else under `data`.

Temporary files, markers and notes lie in the sibling `ROOT/staging`, so that DuckDB, Polars, pandas and PyArrow
open the data tree while it is being written. `data-1`, `data-2` ... hold what was archived of topics that were
deleted and made anew since, with `staging-1` ... beside them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

SEGMENT = re.compile(r"(\d{19})\.parquet").fullmatch
TREE = re.compile(r"data(-\d+)?").fullmatch
NOW = "data"


def encoded(topic: str) -> str:
    """A topic's name as a folder: everything but letters, digits, `_` and `-` percent-encoded, a dot inside kept."""
    kept = quote(topic, safe="")
    return "".join("%2E" if letter == "." and place == 0 else letter for place, letter in enumerate(kept)).replace(
        "~", "%7E"
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one topic's partition under an archive's root."""

    root: Path
    topic: str
    partition: int
    tree: str = NOW

    @property
    def data(self) -> Path:
        """Complete files only."""
        return self.root / self.tree / f"topic={encoded(self.topic)}" / f"partition={self.partition}"

    @property
    def staging(self) -> Path:
        """Everything that is not a complete file; on the same file system."""
        return self.root / staging_of(self.tree) / encoded(self.topic) / str(self.partition)

    def segment(self, start: int) -> Path:
        """The file whose first offset is `start`."""
        return self.data / f"{start:019d}.parquet"

    def segments(self) -> list[Path]:
        """All files, by start offset."""
        return sorted(path for path in listed(self.data) if SEGMENT(path.name))


def listed(folder: Any) -> list[Path]:
    """What lies in a folder, in no order; nothing where there is no folder. One request of an object store.

    A glob there asks two or three times for each level, and looks a level too deep.
    """
    if isinstance(folder, Path):
        return list(folder.glob("*"))
    try:
        names = (str(found).rpartition("/")[2] for found in folder.fs.ls(folder.path, detail=False))
        return [folder / name for name in names if name]  # an object `folder/` may stand for the folder
    except FileNotFoundError:
        return []


def staging_of(tree: str) -> str:
    """The folder beside a tree of data."""
    return "staging" + tree.removeprefix("data")


def trees(root: Path) -> list[str]:
    """Every tree of data: the one of now first, then closed ones."""
    found = [path.name for path in listed(root) if TREE(path.name)]
    return sorted(found, key=lambda name: int(name.removeprefix("data").removeprefix("-") or 0))


def topic_folders(root: Path, tree: str = NOW) -> list[Path]:
    """The folders of every topic in one tree."""
    return [path for path in listed(root / tree) if path.name.startswith("topic=")]


def topic_of(folder: Path) -> str:
    """The topic whose folder this is."""
    return unquote(folder.name.removeprefix("topic="))


def partitions(root: Path, topic: str | None = None, tree: str | None = None) -> list[Layout]:
    """Every partition of every topic, or of one, in every tree, or in one."""
    found = [
        Layout(root, topic_of(folder), int(number), one)
        for one in (trees(root) if tree is None else [tree])
        for folder in (topic_folders(root, one) if topic is None else [root / one / f"topic={encoded(topic)}"])
        for path in listed(folder)
        if path.name.startswith("partition=") and (number := path.name.removeprefix("partition=")).isdecimal()
    ]
    return sorted(found, key=lambda layout: (layout.topic, layout.tree, layout.partition))
