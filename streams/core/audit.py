"""The checker of every promise: raw, decisions and archive of a pipeline, held against each other.

One partition at a time, by offset; records are fed in log order. Reads no clock and does no I/O.
"""

from dataclasses import dataclass, field
from hashlib import blake2b

from msgspec import Struct

from schemas.decisions import Decision
from schemas.requests import Headers

GRACE_MS = 10


class Findings(Struct, kw_only=True):
    """Counts; `ok` when nothing promised was broken.

    `late` are final decisions more than 10 ms beyond the budget, by the broker's log times. A second final record
    is harmless, because every reader takes the first; `conflicting` are those that say something else.
    `unknown` are decisions of tickets that no raw record has; `behind` are records newer than the archive.
    """

    accepted: int = 0
    decided: int = 0
    lost: int = 0
    second_finals: int = 0
    conflicting: int = 0
    unknown: int = 0
    late: int = 0
    worst_late_ms: float = 0.0
    recovered: int = 0
    by_standby: int = 0
    repeats: int = 0
    unreadable: int = 0
    archived: int = 0
    archive_missing: int = 0
    archive_differs: int = 0
    archive_twice: int = 0
    archive_unknown: int = 0
    archive_order: int = 0
    behind: int = 0
    damaged: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether every promise was kept. A second record is none of them, whatever it says: the first one counts."""
        return not (
            self.lost
            or self.unknown
            or self.archive_missing
            or self.archive_differs
            or self.archive_twice
            or self.archive_unknown
            or self.archive_order
            or self.damaged
        )


@dataclass(slots=True)
class Audit:
    """What was read of one partition; `first` is the oldest offset raw still has."""

    first: int = 0
    raw: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    finals: dict[int, tuple[object, ...]] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    _archived: set[int] = field(default_factory=set)
    _last: int = -1

    def accepted(self, offset: int, at_ms: int, digest: bytes) -> None:
        """A raw record, in offset order, before any decision."""
        self.raw[offset] = (at_ms, digest)
        self.findings.accepted += 1

    def decided(self, decision: Decision, log_ms: int) -> None:
        """A record of decisions, in offset order."""
        if not decision.final:
            return
        found, offset = self.findings, decision.ticket.offset
        answer = (decision.outcome, decision.model, decision.version, decision.score)
        if offset in self.finals:
            found.second_finals += 1
            found.conflicting += self.finals[offset] != answer
            return
        if offset < self.first:
            return  # its raw record is gone by retention
        self.finals[offset] = answer
        if offset not in self.raw:
            found.unknown += 1
            return
        found.decided += 1
        found.recovered += decision.recovered
        found.by_standby += decision.standby
        found.repeats += decision.duplicate_of is not None
        late_ms = log_ms - self.raw[offset][0] - decision.budget_ms
        found.late += late_ms > GRACE_MS
        found.worst_late_ms = max(found.worst_late_ms, late_ms)

    def archived(self, offset: int, digest: bytes) -> None:
        """A record of the archive, as a reader meets it."""
        found = self.findings
        if offset < self.first:
            return
        found.archived += 1
        found.archive_order += offset < self._last
        self._last = max(offset, self._last)
        if offset in self._archived:
            found.archive_twice += 1
        elif offset not in self.raw:
            found.archive_unknown += 1
        else:
            found.archive_differs += self.raw[offset][1] != digest
        self._archived.add(offset)

    def close(self, *, archive: bool = True) -> Findings:
        """Everything was read."""
        found = self.findings
        found.lost = len(self.raw.keys() - self.finals.keys())
        if archive:
            absent = self.raw.keys() - self._archived
            found.behind = sum(offset > self._last for offset in absent)
            found.archive_missing = len(absent) - found.behind
        return found


def digest_of(at_ms: int, key: bytes | None, value: bytes | None, headers: Headers | None) -> bytes:
    """What must be equal in topic and archive: timestamp, key, value and headers (BLAKE2b, 16 bytes)."""
    found = blake2b(digest_size=16)
    for part in (key, value, *(part for name, data in headers or () for part in (name.encode(), data))):
        found.update(b"-" if part is None else b"%d:" % len(part))
        found.update(part or b"")
    found.update(b"@%d" % at_ms)
    return found.digest()


def total(findings: list[Findings]) -> Findings:
    """All partitions together."""
    result = Findings()
    for found in findings:
        for name in found.__struct_fields__:
            value = getattr(found, name)
            old = getattr(result, name)
            setattr(result, name, max(old, value) if name == "worst_late_ms" else old + value)
    return result
