"""Which archived raw records were the monitor's probes: a copy of the pipeline does not know their tokens.

It would take them for customers' requests. What their header says anybody can write; that the token counted is said
by the decisions, which are archived too. One of them that says so speaks for its token.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, json
from numpy.typing import NDArray

from schemas.decisions import Ticket
from schemas.errors import UNREADABLE
from schemas.probes import PROBE_MARK
from streams.archive.ranges import Period, read_period
from streams.archive.segment import ArchiveDamaged

AFTER_MS = 600_000
"""How long after the last of some records their decisions are looked for."""


class _Answered(Struct, frozen=True, gc=False):
    """What is read of a decision."""

    ticket: Ticket
    probe: bool = False


_decode = json.Decoder(_Answered).decode


class ArchivedProbes:
    """Of one pipeline.

    `unproved` counts records with the header that no archived decision speaks of; `why` may say why not.
    """

    def __init__(self, root: Path, decisions: str) -> None:
        self.unproved = 0
        self.why = ""
        self._root = root
        self._decisions = decisions
        self._tokens: set[str] = set()

    def among(self, partition: int, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Which rows of a batch of raw are probes, in the archive's columns."""
        marked = dict(_marked(batch))
        if marked and not self._tokens.issuperset(marked.values()):
            offsets, at_ms = (batch.column(number).to_numpy() for number in (0, 1))
            tokens = {int(offsets[row]): token for row, token in marked.items()}
            times = at_ms[list(marked)]
            answered = self._ask(partition, tokens, Period(int(times.min()), int(times.max()) + AFTER_MS))
            self.unproved += sum(
                token not in self._tokens and offset not in answered for offset, token in tokens.items()
            )
        found = np.zeros(len(batch), dtype=bool)
        found[[row for row, token in marked.items() if token in self._tokens]] = True
        return found

    def _ask(self, partition: int, tokens: dict[int, str], period: Period) -> set[int]:
        """Learn which tokens counted; the offsets that were answered. Goes no further than it must."""
        answered: set[int] = set()
        try:
            for record in read_period(self._root, self._decisions, partition, period):
                try:
                    said = _decode(record.value or b"")
                except UNREADABLE:
                    continue
                if said.ticket.partition == partition and said.ticket.offset in tokens:
                    answered.add(said.ticket.offset)
                    if said.probe:
                        self._tokens.add(tokens[said.ticket.offset])
                if self._tokens.issuperset(tokens.values()) or len(answered) == len(tokens):
                    break
        except ArchiveDamaged as error:  # of the decisions: what is replayed is whole
            self.why = str(error)
        return answered


def _marked(batch: pa.RecordBatch) -> Iterator[tuple[int, str]]:
    """Rows with a probe's header, and the token in it."""
    headers = batch.column(5)
    flat = headers.flatten()
    if not len(flat) or not pc.any(pc.equal(flat.field("k"), PROBE_MARK)).as_py():
        return
    for row, pairs in enumerate(headers.to_pylist()):
        value = next((pair["v"] for pair in pairs or () if pair["k"] == PROBE_MARK and pair["v"]), None)
        if value:
            yield row, value.decode(errors="replace").partition("/")[0]
