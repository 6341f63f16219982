"""Labels as they came, joined with the requests they speak of: the last one in the log counts, the rest is counted.

Whoever learns the truth may send it late, again, wrong and then right, for requests nobody knows; none of it is an
error, and none of it passes unsaid (`Labels.counts`, `Truths.counts`). Reads no clock: a label "from the future" is
one that says it was known after the broker had it.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.blocks import Matrix, Offsets
from schemas.errors import UnreadableRecord
from schemas.labels import Label, decode_label
from streams.core.quality import Truth

FUTURE_MS = 60_000
"""Clocks differ: a truth may be known so long after the broker's time of its own record."""

UNKNOWN = -1

UNREADABLE, FUTURE = "that are none (unreadable)", "from the future"
UNMATCHED, MISMATCHED = "for no request of the range", "whose id is not that of their ticket"
EARLY = "older than their request"
REPEATED, CORRECTED, CONTRADICTING = "repeated", "corrected", "contradicting, though not known later"


@dataclass(frozen=True, slots=True)
class Truths:
    """What is known of n requests, row by row.

    `truth` is 1, 0, or -1 where nobody has said; `weight` is the label's, 0 without one; `log_ms` is the log time of
    the label that counts, 0 without one. `counts` has how many labels were what, by the words above.
    """

    truth: Truth
    weight: Matrix
    log_ms: Offsets
    counts: Counter[str]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows with a label."""
        return self.truth != UNKNOWN


class Labels:
    """What lies on `labels`, of every partition."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._labels: list[Label] = []
        self._partitions, self._offsets, self._log_ms = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        """Labels that can be read and are not from the future."""
        return len(self._labels)

    def take(self, partition: int, offset: int, log_ms: int, value: bytes | None) -> None:
        """Add a record, in any order; what is no label is passed over and counted."""
        try:
            label = decode_label(value)
        except UnreadableRecord:
            self.counts[UNREADABLE] += 1
            return
        if label.known_at_ms is not None and label.known_at_ms > log_ms + FUTURE_MS:
            self.counts[FUTURE] += 1
            return
        self._labels.append(label)
        self._partitions.append(partition)
        self._offsets.append(offset)
        self._log_ms.append(log_ms)

    def join(self, partitions: Offsets, offsets: Offsets, ids: Sequence[str], at_ms: Offsets) -> Truths:
        """The truth of n requests: their tickets, ids and log times (ms).

        Labels are taken in the order of their log (log time, then partition and offset). One that names an id speaks
        of every request that had this id and was in the log before it; one that names a ticket, of that one alone.
        """
        truths = _Join(partitions, offsets, ids, at_ms)
        log_ms = np.array(self._log_ms, dtype=np.int64)
        order = np.lexsort(
            (np.array(self._offsets, dtype=np.int64), np.array(self._partitions, dtype=np.int64), log_ms)
        )
        for place in order.tolist():
            truths.take(self._labels[place], int(log_ms[place]))
        found = truths.found
        found.counts.update(self.counts)
        return found


class _Join:
    def __init__(self, partitions: Offsets, offsets: Offsets, ids: Sequence[str], at_ms: Offsets) -> None:
        count = len(ids)
        self._ids = ids
        self._at_ms = at_ms.tolist()
        self._by_id: dict[str, list[int]] = {}
        for row, request_id in enumerate(ids):
            self._by_id.setdefault(request_id, []).append(row)
        self._by_ticket = {
            ticket: row for row, ticket in enumerate(zip(partitions.tolist(), offsets.tolist(), strict=True))
        }
        self._known_at_ms: dict[int, int] = {}
        self.found = Truths(
            np.full(count, UNKNOWN, dtype=np.int8), np.zeros(count), np.zeros(count, dtype=np.int64), Counter()
        )

    def take(self, label: Label, log_ms: int) -> None:
        """The next label in the order of the log."""
        rows = self._rows(label)
        if isinstance(rows, str):
            self.found.counts[rows] += 1
            return
        rows = [row for row in rows if self._at_ms[row] <= log_ms]
        if not rows:
            self.found.counts[EARLY] += 1
            return
        words = {self._put(row, label, log_ms) for row in rows}
        self.found.counts["labels"] += 1
        self.found.counts.update(word for word in words if word)

    def _rows(self, label: Label) -> list[int] | str:
        if label.ticket is None:
            return self._by_id.get(label.request_id or "", []) or UNMATCHED
        row = self._by_ticket.get((label.ticket.partition, label.ticket.offset))
        if row is None:
            return UNMATCHED
        return [row] if label.request_id in (None, self._ids[row]) else MISMATCHED

    def _put(self, row: int, label: Label, log_ms: int) -> str:
        """Write the label into its row; says what it did to the one before."""
        found, truth = self.found, int(label.truth)
        before = int(found.truth[row])
        earlier_ms, later_ms = self._known_at_ms.get(row), label.known_at_ms
        found.truth[row], found.weight[row], found.log_ms[row] = truth, label.weight, log_ms
        if later_ms is None:
            self._known_at_ms.pop(row, None)
        else:
            self._known_at_ms[row] = later_ms
        if before == UNKNOWN:
            return ""
        if before == truth:
            return REPEATED
        backwards = earlier_ms is not None and later_ms is not None and later_ms <= earlier_ms
        return CONTRADICTING if backwards else CORRECTED
