"""What overtook its request: kept until raw is read as far.

Raw and scores are read side by side, so scores are often ahead: of many requests while a rendezvous catches up. A
block that lies wholly ahead is kept as it came and joined when raw reaches it, which costs nothing per row; only the
rest of a block that raw has reached in part is kept row by row.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from msgspec import Struct

from schemas.blocks import NotAskedBlock, RejectionBlock, ScoreBlock
from schemas.decisions import ScoreSeen

LIMIT = 100_000
"""Offsets a score may be ahead of the reading of raw: no offset from outside may size anything."""

Block = ScoreBlock | RejectionBlock | NotAskedBlock


class Failed(Struct, frozen=True, gc=False):
    """Why a version has no score."""

    reason: str
    version: str


What = ScoreSeen | Failed
"""A score whose `age_ms` is still its log time, or why there is none."""


class Held:
    """Blocks and rows of one partition, by the raw offset they wait for."""

    def __init__(self) -> None:
        self.since: int | None = None
        self._blocks: list[tuple[int, int, int, Block]] = []
        self._rows: dict[int, list[tuple[str, What]]] = {}

    def keep(self, block: Block, until: int, position: int, log_ms: int) -> None:
        """Keep a block that lies at `position` until raw was read beyond offset `until`."""
        heappush(self._blocks, (until, position, log_ms, block))
        self._note(position)

    def keep_row(self, offset: int, position: int, model: str, what: What) -> None:
        """Keep what one model said of one request."""
        self._rows.setdefault(offset, []).append((model, what))
        self._note(position)

    def reached(self, next_raw: int) -> Iterable[tuple[Block, int, int]]:
        """The blocks that waited for an offset below `next_raw`, with their positions and log times."""
        blocks = self._blocks
        while blocks and blocks[0][0] < next_raw:
            _, position, log_ms, block = heappop(blocks)
            yield block, position, log_ms
        self._forget()

    def take(self, offset: int) -> list[tuple[str, What]]:
        """What models said of this request, in the order in which they did."""
        if offset not in self._rows:
            return []
        found = self._rows.pop(offset)
        self._forget()
        return found

    def drop(self, first: int, end: int) -> int:
        """Rows for the offsets from `first` to before `end` belong to no request: how many they were."""
        hole: Iterable[int] = range(first, end)
        if end - first > len(self._rows):
            hole = [offset for offset in self._rows if first <= offset < end]
        dropped = sum(len(self._rows.pop(offset, ())) for offset in hole)
        self._forget()
        return dropped

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return self.since is not None

    def _note(self, position: int) -> None:
        if self.since is None:
            self.since = position

    def _forget(self) -> None:
        if not self._rows and not self._blocks:
            self.since = None
