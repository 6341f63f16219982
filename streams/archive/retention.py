"""Files that are older than the archive's retention, deleted whole, and never the last of a topic that goes on.

The note comes first: a file that is gone by retention is no gap, also when the deletion was killed in the middle.
"""

from pathlib import Path

from msgspec import Struct

from streams.archive.disk import trouble_named
from streams.archive.layout import NOW, Layout
from streams.archive.marks import RETIRED, put_retired, read_marks
from streams.archive.rewriting import alone
from streams.archive.segment import read_batches, read_footer
from streams.archive.store import store_of
from streams.kill_points import reached

DAY_MS = 86_400_000


class Gone(Struct, frozen=True):
    """What was deleted: so many files, up to this offset."""

    files: int
    end: int


def retire(layout: Layout, now_ms: float, days: float, writer: str) -> Gone:
    """Delete files whose newest record is older than so many days; raises ArchiveDamaged, ArchiveBusy."""
    with alone(layout) as hold, trouble_named(layout.data):
        hold.see(layout.staging / RETIRED)
        end = before = read_marks(layout).retired
        for path in _deletable(layout):
            footer = read_footer(path)
            if footer.end > end:
                if _newest_ms(layout, footer.start) >= now_ms - days * DAY_MS:
                    break
                end = footer.end
        if end > before:
            hold.still_ours()
            put_retired(layout, end, writer, hold.seen(layout.staging / RETIRED))
            reached("retire.marked")
        old = [path for path in _deletable(layout) if read_footer(hold.see(path, whole=False)).end <= end]
        for path in old:
            hold.delete(path)
            reached("retire.after_delete")
        store_of(layout.root).settle(layout.data)
    return Gone(len(old), end)


def _deletable(layout: Layout) -> list[Path]:
    """All but the last, which says where reading goes on; in the tree of a life that is over, nothing does."""
    return layout.segments()[:-1] if layout.tree == NOW else layout.segments()


def _newest_ms(layout: Layout, start: int) -> int:
    """By the records themselves: nothing is deleted on the word of a footer."""
    batches = read_batches(layout.segment(start), ("kafka_timestamp_ms",))
    return max((int(batch.column(1).to_numpy().max()) for batch in batches), default=0)
