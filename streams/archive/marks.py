"""Notes beside the files, in `staging`: what is missing and why, and how far the archive had got.

Without them a missing file could not be told from records that never were there.
"""

from pathlib import Path
from typing import TypeVar

from msgspec import DecodeError, Struct, field, json

from streams.archive.disk import ArchiveBusy
from streams.archive.file import File, file_of
from streams.archive.layout import Layout, listed
from streams.archive.segment import ArchiveDamaged
from streams.archive.store import store_of

END = "end.json"
RETIRED = "retired.json"
Note = TypeVar("Note", bound=Struct)

READS = 3
"""How often a note is read that is replaced meanwhile."""


class Gap(Struct, frozen=True):
    """Offsets that were gone from the topic before they could be archived."""

    start: int
    end: int
    why: str


class End(Struct, frozen=True):
    """The files reach at least as far as this; the offset after the last record."""

    end: int


class Retired(Struct, frozen=True):
    """Files below this offset were deleted because they were older than the archive's retention."""

    end: int


class Forgotten(Struct, frozen=True):
    """A record that was taken out on request; `digest` is the hash of what it was (`streams.core.audit`).

    `altered`: it is still there, without what was to be forgotten.
    """

    offset: int
    digest: str
    why: str
    altered: bool = False


class Marks(Struct, frozen=True):
    """All notes of one partition."""

    gaps: list[Gap] = field(default_factory=list)
    end: int = 0
    retired: int = 0
    forgotten: list[Forgotten] = field(default_factory=list)

    def explain(self, start: int, end: int) -> bool:
        """Whether the offsets from `start` up to `end` are known to be missing."""
        start = max(start, self.retired)
        for gap in sorted(self.gaps, key=lambda gap: gap.start):
            if gap.start <= start < gap.end:
                start = gap.end
        return start >= end


def read_marks(layout: Layout) -> Marks:
    """The notes of one partition; raises ArchiveDamaged for one that cannot be read."""
    paths = sorted(path for path in listed(layout.staging) if path.name.endswith(".json"))

    def all_of(kind: type[Note], start: str) -> list[Note]:
        return [read_mark(path, kind) for path in paths if path.name.startswith(start)]

    end = max((mark.end for mark in all_of(End, END)), default=0)
    retired = max((mark.end for mark in all_of(Retired, RETIRED)), default=0)
    return Marks(all_of(Gap, "gap-"), end, retired, all_of(Forgotten, "forgotten-"))


def put_mark(folder: Path, name: str, mark: Struct, writer: str, seen: str | None = "") -> None:
    """Write one note so that it lasts, in the place of an older one, by `Store.put`."""
    store_of(folder).put(folder / name, json.encode(mark), writer, seen)


def put_gap(layout: Layout, gap: Gap, writer: str) -> None:
    """Note a gap."""
    put_mark(layout.staging, f"gap-{gap.start:019d}.json", gap, writer)


def put_end(layout: Layout, end: int, writer: str) -> None:
    """Note how far the files reach; a slow twin sets nothing back."""
    while True:
        there = File(layout.staging / END)
        seen = there.version
        if _end_of(there) >= end:
            return
        try:
            put_mark(layout.staging, END, End(end), writer, seen)
        except ArchiveBusy:
            continue  # somebody was quicker: look again
        return


def _end_of(there: File) -> int:
    try:
        return read_mark(there, End).end
    except ArchiveDamaged:  # not there yet, or to be written anew
        return 0


def put_retired(layout: Layout, end: int, writer: str, seen: str | None) -> None:
    """Note what retention takes away, before it does; `seen` is the version of the note that it was reckoned from."""
    put_mark(layout.staging, RETIRED, Retired(end), writer, seen)


def put_forgotten(layout: Layout, mark: Forgotten, writer: str) -> None:
    """Note what is taken out on request, before it is."""
    put_mark(layout.staging, f"forgotten-{mark.offset:019d}.json", mark, writer)


def read_mark(asked: Path | File, kind: type[Note]) -> Note:
    """One note; raises ArchiveDamaged.

    In a bucket, one that is replaced while it is read is an error of that read: it is read again.
    """
    file = file_of(asked, whole=True)
    path = file.path
    for left in reversed(range(READS)):
        try:
            with file.opened(whole=True) as note:
                return json.decode(note.read(), type=kind)
        except (DecodeError, OSError, UnicodeDecodeError) as error:
            if not left or not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
                raise ArchiveDamaged(f"{path}: no readable note ({error}); restore it from a copy") from error
    raise AssertionError("the last read returns or raises")
