"""Writes one partition: the files are the commit log, Kafka's offset is a hint.

The order is the proof: write, fsync, link under the final name (which fails if somebody was first), fsync the
folder, and only then commit. A crash before the link leaves a temporary file and an old offset; after it, a
file whose end is known at the next start.
"""

from collections.abc import Iterable

from msgspec import Struct

from schemas.errors import RendezvousError
from streams.archive.buffer import Columns, columns_of
from streams.archive.disk import DiskTrouble, trouble_named
from streams.archive.layout import Layout
from streams.archive.marks import Gap, put_end, put_gap, read_marks
from streams.archive.segment import Footer, Record, file_parts, read_footer
from streams.archive.store import store_of

__all__ = ["DiskTrouble", "Gap", "Limits", "LostRace", "PartitionWriter"]


class LostRace(RendezvousError):
    """Another writer closed this file first: what it holds is dropped from the buffer, the rest goes on after it."""


class Limits(Struct, frozen=True):
    """A file is closed at whichever of these comes first."""

    max_rows: int
    max_bytes: int
    max_age_s: float


class PartitionWriter:
    """Buffers records of one partition and closes them into files. Not thread-safe; reads no clock."""

    def __init__(self, layout: Layout, limits: Limits, topic_id: str, writer: str) -> None:
        self.layout = layout
        self.next_offset = 0
        self.reached = 0
        self.files = 0
        self.rows = 0
        self._limits = limits
        self._topic_id = topic_id
        self._writer = writer
        self._columns = Columns()
        self._opened_s: float | None = None
        self._store = store_of(layout.root)
        with trouble_named(layout.root):
            self._store.prepare(layout.data, layout.staging, writer)
        self.scan()

    def scan(self) -> int:
        """Look where the files end: that is where to read on. Returns the offset.

        `reached` is how far they had got before: less than that means that files are missing.
        """
        self._columns = Columns()
        self._opened_s = None
        return self._look()

    def _look(self) -> int:
        marks = read_marks(self.layout)
        ends = [read_footer(path).end for path in self.layout.segments()[-1:]]
        self.next_offset = max([*ends, *(gap.end for gap in marks.gaps), marks.retired])
        self.reached = marks.end
        return self.next_offset

    def append(self, records: Iterable[Record], now_s: float) -> None:
        """Buffer records; what the files already hold is dropped."""
        self.extend(columns_of(records), now_s)

    def extend(self, more: Columns, now_s: float) -> None:
        """Buffer records given as columns; what the files already hold is dropped."""
        more.cut_before(self._columns.offsets[-1] + 1 if len(self._columns) else self.next_offset)
        self._columns.extend(more)
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

    @property
    def buffered_bytes(self) -> int:
        """Their bytes."""
        return self._columns.bytes

    def close_segment(self) -> int:
        """Close the buffer into a file; returns the offset after it, to commit.

        Raises DiskTrouble, with the buffer kept; LostRace, with what the other writer's file holds dropped.
        """
        columns = self._columns
        if not len(columns):
            return self.next_offset
        last = columns.offsets[-1]
        footer = Footer(
            self.layout.topic,
            self.layout.partition,
            self.next_offset,
            last + 1,
            len(columns),
            self._topic_id,
            self._writer,
            last,
        )
        final = self.layout.segment(footer.start)
        with trouble_named(final):
            won = self._place(columns, footer)
        if not won:
            raise LostRace(f"{final}: another writer was first; going on from {self._give_way()}")
        self.files += 1
        self.rows += footer.count
        self.next_offset = footer.end
        self._columns = Columns()
        self._opened_s = None
        return footer.end

    def note_gap(self, end: int, why: str) -> None:
        """The topic begins at `end`, after what the files hold: mark what is missing, for every reader."""
        with trouble_named(self.layout.staging):
            put_gap(self.layout, Gap(self.next_offset, end, why), self._writer)
        self.next_offset = end

    def _give_way(self) -> int:
        """Go on after the other's file with what it does not hold."""
        following = self._look()
        self._columns.cut_before(following)
        if not len(self._columns):
            self._opened_s = None
        return following

    def _place(self, columns: Columns, footer: Footer) -> bool:
        final, parts = self.layout.segment(footer.start), file_parts(columns.table(), footer)
        if not self._store.create(final, self.layout.staging, self._writer, parts):
            return False
        put_end(self.layout, footer.end, self._writer)
        return True
