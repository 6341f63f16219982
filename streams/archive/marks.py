"""Notes beside the files, in `staging`: what is missing and why, and how far the archive had got.

Without them a missing file could not be told from records that never were there.
"""

from pathlib import Path
from typing import TypeVar

from msgspec import DecodeError, Struct, field, json

from streams.archive.disk import replace_durably, write_whole
from streams.archive.layout import Layout
from streams.archive.segment import ArchiveDamaged

END = "end.json"
Note = TypeVar("Note", bound=Struct)


class Gap(Struct, frozen=True):
    """Offsets that were gone from the topic before they could be archived."""

    start: int
    end: int
    why: str


class End(Struct, frozen=True):
    """The files reach at least as far as this; the offset after the last record."""

    end: int


class Marks(Struct, frozen=True):
    """All notes of one partition."""

    gaps: list[Gap] = field(default_factory=list)
    end: int = 0

    def explain(self, start: int, end: int) -> bool:
        """Whether the offsets from `start` up to `end` are known to be missing."""
        for gap in sorted(self.gaps, key=lambda gap: gap.start):
            if gap.start <= start < gap.end:
                start = gap.end
        return start >= end


def read_marks(layout: Layout) -> Marks:
    """The notes of one partition; raises ArchiveDamaged for one that cannot be read."""
    gaps = [_read(path, Gap) for path in layout.staging.glob("gap-*.json")]
    ends = [_read(path, End).end for path in layout.staging.glob(END)]
    return Marks(gaps, max(ends, default=0))


def put_mark(folder: Path, name: str, mark: Struct, writer: str) -> None:
    """Write one note so that it lasts, in the place of an older one of its name."""
    temporary = folder / f"{name}.{writer}.tmp"
    try:
        write_whole(temporary, [json.encode(mark)], "mark")
        replace_durably(temporary, folder / name)
    finally:
        temporary.unlink(missing_ok=True)


def put_gap(layout: Layout, gap: Gap, writer: str) -> None:
    """Note a gap."""
    put_mark(layout.staging, f"gap-{gap.start:019d}.json", gap, writer)


def put_end(layout: Layout, end: int, writer: str) -> None:
    """Note how far the files reach."""
    put_mark(layout.staging, END, End(end), writer)


def _read(path: Path, kind: type[Note]) -> Note:
    try:
        return json.decode(path.read_bytes(), type=kind)
    except (DecodeError, OSError, UnicodeDecodeError) as error:
        raise ArchiveDamaged(f"{path}: no readable note ({error}); restore it from a copy") from error
