"""The checker of every promise: raw, decisions, dead letters and archive of a pipeline, held against each other.

One partition at a time, by offset; records are fed in log order. Reads no clock and does no I/O.
"""

from array import array
from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
from msgspec import Struct

from schemas.blocks import Offsets
from schemas.decisions import Answer, Decision
from schemas.requests import Headers

GRACE_MS = 10

HOLE, NONE = -(1 << 63), 0
"""In the columns: no raw record has this offset; no final decision of it was read."""


class Findings(Struct, kw_only=True):
    """Counts; `ok` when nothing promised was broken.

    `late` are final decisions more than 10 ms beyond the budget, by the broker's log times. A second final record
    is harmless, because every reader takes the first; `conflicting` are those that say something else.
    `unknown` are final records of tickets that no raw record has; `behind` are records newer than the archive.
    `order_errors` are records of raw or decisions whose log time is more than 10 ms before that of a record ahead of
    them in their partition: deadlines, and what was there by a deadline, are read from log times. `archive_order` are
    records whose offset is below that of one ahead of them in the archive. A dead letter's origin is unknown when its
    headers do not name a place, or a place in raw that holds no record. `archive_forgotten` and `archive_retired`
    were taken out of the archive on request, and by its retention. `probes` are the monitor's own requests: they are
    accepted and have to be decided and archived as any, and are counted here instead of under `decided`.
    """

    accepted: int = 0
    decided: int = 0
    lost: int = 0
    second_finals: int = 0
    conflicting: int = 0
    unknown: int = 0
    late: int = 0
    worst_late_ms: float = 0.0
    probes: int = 0
    recovered: int = 0
    by_standby: int = 0
    repeats: int = 0
    unreadable: int = 0
    order_errors: int = 0
    dead_letters: int = 0
    dead_letters_unknown: int = 0
    archived: int = 0
    archive_missing: int = 0
    archive_differs: int = 0
    archive_twice: int = 0
    archive_unknown: int = 0
    archive_order: int = 0
    archive_forgotten: int = 0
    archive_retired: int = 0
    behind: int = 0
    damaged: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether every promise was kept. A second record is none of them, whatever it says: the first one counts."""
        return not (
            self.lost
            or self.unknown
            or self.order_errors
            or self.dead_letters_unknown
            or self.archive_missing
            or self.archive_differs
            or self.archive_twice
            or self.archive_unknown
            or self.archive_order
            or self.damaged
        )


class Audit:
    """What was read of one partition, in columns by offset: 25 bytes for each raw record, whatever its size.

    `first` is the oldest offset raw still has. Only raw's own offsets, which the broker gave, size a column.
    """

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.findings = Findings()
        self._raw_ms = array("q")
        self._digests = array("Q")
        self._answers = array("q")
        self._archived = bytearray()
        self._raw_log_ms = self._decisions_log_ms = 0
        self._archived_to = -1
        self._retired = 0
        self._forgotten: Mapping[int, int] = {}

    @property
    def end(self) -> int:
        """The offset after the last raw record."""
        return self.first + len(self._raw_ms)

    def accepted(self, offset: int, at_ms: int, digest: int) -> None:
        """A raw record, in offset order, before any decision."""
        if offset != self.first + len(self._raw_ms):
            self._add_hole(offset)
        self._raw_ms.append(at_ms)
        self._digests.append(digest)
        self._answers.append(NONE)
        self._archived.append(0)
        found = self.findings
        found.accepted += 1
        found.order_errors += at_ms < self._raw_log_ms - GRACE_MS
        self._raw_log_ms = max(at_ms, self._raw_log_ms)

    def _add_hole(self, offset: int) -> None:
        """Offsets that raw does not have: a transaction's own records."""
        count = offset - self.end
        self._raw_ms.extend(array("q", [HOLE]) * count)
        self._digests.extend(array("Q", [0]) * count)
        self._answers.extend(array("q", [NONE]) * count)
        self._archived.extend(bytes(count))

    def decided(self, decision: Decision | Answer, log_ms: int) -> None:
        """A record of decisions, in offset order."""
        found, place = self.findings, decision.ticket.offset - self.first
        found.order_errors += log_ms < self._decisions_log_ms - GRACE_MS
        self._decisions_log_ms = max(log_ms, self._decisions_log_ms)
        if not decision.final or place < 0:  # below: its raw record is gone by retention
            return
        if place >= len(self._raw_ms) or self._raw_ms[place] == HOLE:
            found.unknown += 1
            return
        answer = hash((decision.outcome, decision.model, decision.version, decision.score)) or NONE + 1
        if self._answers[place] != NONE:
            found.second_finals += 1
            found.conflicting += self._answers[place] != answer
            return
        self._answers[place] = answer
        if decision.probe:
            found.probes += 1
            return
        found.decided += 1
        found.recovered += decision.recovered
        found.by_standby += decision.standby
        found.repeats += decision.duplicate_of is not None
        late_ms = log_ms - self._raw_ms[place] - decision.budget_ms
        found.late += late_ms > GRACE_MS
        found.worst_late_ms = max(found.worst_late_ms, late_ms)

    def open(self, since_ms: int) -> Offsets:
        """Offsets of raw records of this log time on that no final decision was read of."""
        raw_ms = np.frombuffer(self._raw_ms, np.int64)
        return self.first + np.flatnonzero((raw_ms >= since_ms) & (np.frombuffer(self._answers, np.int64) == NONE))

    def dead_letter(self, offset: int) -> None:
        """A dead letter that says it comes from this offset of raw."""
        place = offset - self.first
        if 0 <= place < len(self._raw_ms):  # later ones came while we read
            self.findings.dead_letters_unknown += self._raw_ms[place] == HOLE

    def archived(self, offset: int, digest: int) -> None:
        """A record of the archive, as a reader meets it."""
        found, place = self.findings, offset - self.first
        if place < 0:
            return
        found.archived += 1
        found.archive_order += offset < self._archived_to
        self._archived_to = max(offset, self._archived_to)
        if place >= len(self._raw_ms) or self._raw_ms[place] == HOLE:
            found.archive_unknown += 1
        elif self._archived[place]:
            found.archive_twice += 1
        else:
            self._archived[place] = 1
            found.archive_differs += self._digests[place] != digest

    def taken_out(self, retired: int, forgotten: Mapping[int, int]) -> None:
        """What the archive was told to let go: all before an offset, and records by offset and digest."""
        self._retired, self._forgotten = retired, forgotten

    def close(self, *, archive: bool = True) -> Findings:
        """Everything was read."""
        found = self.findings
        found.lost = found.accepted - found.decided - found.probes
        if archive:
            absent = [
                place
                for place, (at_ms, there) in enumerate(zip(self._raw_ms, self._archived, strict=True))
                if not there and at_ms != HOLE
            ]
            kept = [place for place in absent if self.first + place >= self._retired]
            found.archive_retired = len(absent) - len(kept)
            absent = [place for place in kept if self._forgotten.get(self.first + place) != self._digests[place]]
            found.archive_forgotten = len(kept) - len(absent)
            found.behind = sum(self.first + place > self._archived_to for place in absent)
            found.archive_missing = len(absent) - found.behind
        return found


def digest_of(at_ms: int, key: bytes | None, value: bytes | None, headers: Headers | None) -> int:
    """What must be equal in topic and archive: timestamp, key, value and headers (BLAKE2b, 8 bytes)."""
    key_size, value_size = -1 if key is None else len(key), -1 if value is None else len(value)
    form = b"%d %d %d " % (at_ms, key_size, value_size) + (key or b"") + (value or b"")
    for name, data in headers or ():
        form += b"%d %d " % (len(name), -1 if data is None else len(data)) + name.encode() + (data or b"")
    return int.from_bytes(blake2b(form, digest_size=8).digest())


def total(findings: list[Findings]) -> Findings:
    """All partitions together."""
    result = Findings()
    for found in findings:
        for name in found.__struct_fields__:
            value = getattr(found, name)
            old = getattr(result, name)
            setattr(result, name, max(old, value) if name == "worst_late_ms" else old + value)
    return result
