"""Writes one partition: the files are the commit log, Kafka's offset is a hint.

The order is the proof: write, fsync, link under the final name (which fails if somebody was first), fsync the
folder, and only then commit. A crash before the link leaves a temporary file and an old offset; after it, a
file whose end is known at the next start.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct, json

from schemas.errors import RendezvousError
from streams.archive.layout import Layout
from streams.archive.segment import Columns, Footer, Record, read_footer, write_table
from streams.kill_points import reached


class DiskTrouble(RendezvousError):
    """The disk did not take a file: nothing was lost, nothing is committed, try again later."""


class LostRace(RendezvousError):
    """Another writer closed this file first: what was buffered is dropped, and read again after its end."""


class Limits(Struct, frozen=True):
    """A file is closed at whichever of these comes first."""

    max_rows: int
    max_bytes: int
    max_age_s: float


class Gap(Struct, frozen=True):
    """Offsets that were gone from the topic before they could be archived."""

    start: int
    end: int
    why: str


class PartitionWriter:
    """Buffers records of one partition and closes them into files. Not thread-safe; reads no clock."""

    def __init__(self, layout: Layout, limits: Limits, topic_id: str, writer: str) -> None:
        self.layout = layout
        self.next_offset = 0
        self.files = 0
        self.rows = 0
        self._limits = limits
        self._topic_id = topic_id
        self._writer = writer
        self._columns = Columns()
        self._opened_s: float | None = None
        self._make_folders()
        self._drop_own_leftovers()
        self.scan()

    def scan(self) -> int:
        """Look where the files end: that is where to read on. Returns the offset."""
        self._columns = Columns()
        self._opened_s = None
        ends = [read_footer(path).end for path in self.layout.segments()[-1:]]
        self.next_offset = max([*ends, *(gap.end for gap in self.gaps())], default=0)
        return self.next_offset

    def append(self, records: Iterable[Record], now_s: float) -> None:
        """Buffer records; what the files already hold is dropped."""
        append = self._columns.append
        following = self._columns.offsets[-1] + 1 if len(self._columns) else self.next_offset
        for record in records:
            if record.offset >= following:
                append(record)
        if self._opened_s is None and len(self._columns):
            self._opened_s = now_s

    def due(self, now_s: float) -> bool:
        """Whether the buffer should be closed into a file now."""
        columns, limits = self._columns, self._limits
        if self._opened_s is None:
            return False
        return (
            len(columns) >= limits.max_rows
            or columns.bytes >= limits.max_bytes
            or now_s - self._opened_s >= limits.max_age_s
        )

    @property
    def buffered(self) -> int:
        """Records not yet in a file."""
        return len(self._columns)

    def close_segment(self) -> int:
        """Close the buffer into a file; returns the offset after it, to commit.

        Raises DiskTrouble, with the buffer kept; LostRace, with the buffer dropped: read on from `scan`.
        """
        columns = self._columns
        if not len(columns):
            return self.next_offset
        footer = Footer(
            self.layout.topic,
            self.layout.partition,
            self.next_offset,
            columns.offsets[-1] + 1,
            len(columns),
            self._topic_id,
            self._writer,
        )
        try:
            won = self._place(columns, footer)
        except OSError as error:
            raise DiskTrouble(
                f"{self.layout.segment(footer.start)}: {os.strerror(error.errno or errno.EIO)}; "
                "the archive waits and tries again: free space or mend the disk"
            ) from error
        if not won:
            following = self.scan()
            raise LostRace(
                f"{self.layout.segment(footer.start)}: another writer was first; reading on from {following}"
            )
        self.files += 1
        self.rows += footer.count
        self.next_offset = footer.end
        self._columns = Columns()
        self._opened_s = None
        return footer.end

    def note_gap(self, end: int, why: str) -> None:
        """The topic begins at `end`, after what the files hold: mark what is missing, for every reader."""
        gap = Gap(self.next_offset, end, why)
        path = self.layout.staging / f"gap-{gap.start:019d}.json"
        temporary = path.with_suffix(f".{self._writer}.tmp")
        temporary.write_bytes(json.encode(gap))
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
        self.next_offset = end

    def gaps(self) -> list[Gap]:
        """The gaps that are marked."""
        return [json.decode(path.read_bytes(), type=Gap) for path in self.layout.staging.glob("gap-*.json")]

    def _place(self, columns: Columns, footer: Footer) -> bool:
        temporary = self.layout.staging / f"{footer.start:019d}.{self._writer}.tmp"
        try:
            write_table(columns.table(footer), temporary)
            reached("archive.written")
            _fsync(temporary)
            reached("archive.after_fsync")
            try:
                os.link(temporary, self.layout.segment(footer.start))
            except FileExistsError:
                return False
            reached("archive.after_link")
            _fsync(self.layout.data)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        self.layout.data.mkdir(parents=True, exist_ok=True, mode=0o750)
        self.layout.staging.mkdir(parents=True, exist_ok=True, mode=0o750)
        probe = self.layout.staging / f"probe.{self._writer}.tmp"
        linked = probe.with_suffix(".link")
        try:
            probe.write_bytes(b"")
            linked.unlink(missing_ok=True)
            os.link(probe, linked)
        except OSError as error:
            raise DiskTrouble(
                f"{self.layout.root}: this file system makes no hard links ({error.strerror}), which keep two "
                "writers from overwriting each other; put the archive on another one"
            ) from error
        finally:
            probe.unlink(missing_ok=True)
            linked.unlink(missing_ok=True)

    def _drop_own_leftovers(self) -> None:
        for path in self.layout.staging.glob(f"*.{self._writer}.tmp"):
            path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
