"""Where files lie: `ROOT/data/topic=<name>/partition=<p>/<start>.parquet`, nothing else under `data`.

Temporary files, markers and notes lie in the sibling `ROOT/staging`, so that DuckDB, Polars, pandas and PyArrow
open the data tree while it is being written.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

SEGMENT = re.compile(r"(\d{19})\.parquet").fullmatch


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

    @property
    def data(self) -> Path:
        """Complete files only."""
        return self.root / "data" / f"topic={encoded(self.topic)}" / f"partition={self.partition}"

    @property
    def staging(self) -> Path:
        """Everything that is not a complete file; on the same file system."""
        return self.root / "staging" / encoded(self.topic) / str(self.partition)

    def segment(self, start: int) -> Path:
        """The file whose first offset is `start`."""
        return self.data / f"{start:019d}.parquet"

    def segments(self) -> list[Path]:
        """All files, by start offset."""
        if not self.data.is_dir():
            return []
        return sorted(path for path in self.data.iterdir() if SEGMENT(path.name))
