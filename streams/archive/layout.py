"""Where files lie: `ROOT/data/topic=<name>/partition=<p>/<start>.parquet`, nothing else under `data`.

Temporary files, markers and notes lie in the sibling `ROOT/staging`, so that DuckDB, Polars, pandas and PyArrow
open the data tree while it is being written. `data-1`, `data-2` ... hold what was archived of topics that were
deleted and made anew since, with `staging-1` ... beside them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
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
        return sorted(path for path in self.data.glob("*.parquet") if SEGMENT(path.name))


def staging_of(tree: str) -> str:
    """The folder beside a tree of data."""
    return "staging" + tree.removeprefix("data")


def trees(root: Path) -> list[str]:
    """Every tree of data: the one of now first, then closed ones."""
    found = [path.name for path in root.glob("data*") if TREE(path.name)]
    return sorted(found, key=lambda name: int(name.removeprefix("data").removeprefix("-") or 0))


def partitions(root: Path) -> list[Layout]:
    """Every partition of every topic in every tree."""
    found = [
        Layout(
            root, unquote(path.parent.name.removeprefix("topic=")), int(path.name.removeprefix("partition=")), tree
        )
        for tree in trees(root)
        for path in (root / tree).glob("topic=*/partition=*")
        if path.name.removeprefix("partition=").isdecimal()
    ]
    return sorted(found, key=lambda layout: (layout.topic, layout.tree, layout.partition))
