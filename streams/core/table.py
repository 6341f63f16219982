"""State from outside: what a table's records say of a key, and which of them counts for a request.

Which one counts is a question of log times alone, never of when a process had read it: a record counts for requests
whose log time is at least `after_ms` after its own. So a router that starts again, or a second one, gives a request
what the first gave it, as long as it reads no further behind than that, and what is younger than `RECENT_MS` is not
compacted away. Beyond that two routers may differ; what models were given stands on `enriched` for good.
"""

from bisect import bisect_left, bisect_right, insort_right
from collections import deque
from typing import Any, Final, Protocol

from msgspec import DecodeError, Struct, json

from schemas.errors import UnreadableRecord
from schemas.pipeline import Enrich, Feature
from schemas.requests import Joined, Request
from schemas.topics import TABLE_CAP
from streams.core.event_shape import Fields, Number, Unfit, check_form, event_type, field_of, getter, plain

RECENT_MS: Final = 60_000
"""For so long (log time) a record that was replaced still counts for requests that are older than its successor."""

PURGED_AT_ONCE: Final = 16
"""Deletions that are carried out with each record: a hundred thousand at once would hold everybody."""

HOUR_MS: Final = 3_600_000
ALWAYS: Final = float("-inf")


class Version(Struct, frozen=True, gc=False):
    """What a record says of its key: since when that holds (ms), when it came into the log, as which of all.

    Of one that is kept on disk only the record itself is there: what requests are given is made of it when asked for.
    """

    since_ms: float
    log_ms: int
    number: int
    joined: Joined | bytes


class Keeping(Protocol):
    """Where the versions of each key are kept, in the order of their own time."""

    def get(self, key: bytes) -> list[Version] | None:
        """Those of one key; None when there are none. To be changed only by `put`."""

    def put(self, key: bytes, versions: list[Version]) -> None:
        """Keep these in their place; none at all forgets the key."""


class InMemory:
    """Keeps them as they are."""

    def __init__(self) -> None:
        self._versions: dict[bytes, list[Version]] = {}

    def get(self, key: bytes) -> list[Version] | None:
        """Those of one key."""
        return self._versions.get(key)

    def put(self, key: bytes, versions: list[Version]) -> None:
        """Keep these, or forget the key."""
        if versions:
            self._versions[key] = versions
        else:
            self._versions.pop(key, None)


class Standing(Struct, frozen=True):
    """How far a table is, beside what it keeps of its keys: enough to go on from there.

    `deletions` are the keys that were deleted a while ago, with the numbers and log times of those records.
    """

    log_ms: int
    number: int
    records: int
    deletions: tuple[tuple[int, int, bytes], ...]


class Table:
    """The records of one table, by key. Pure; holds at most `max_records`, in memory 0.5 KB each beside their bytes.

    Latest: a key has its last record, and those it replaced within `RECENT_MS`. As of event time: its records of the
    last `keep_hours` before the one that came last, by their own time, and those after it. Where two have the same
    time, the later in the log counts.
    """

    def __init__(
        self,
        enrich: Enrich,
        features: tuple[Feature, ...],
        keeping: Keeping | None = None,
        standing: Standing | None = None,
    ) -> None:
        own = [one for one in features if one.parts[0] == enrich.name and not one.derive]
        fields: Fields = {one.parts[1:]: field_of(one) for one in own}
        shape = event_type(fields)
        since_of = tuple(enrich.since.split(".")) if enrich.since else ()
        self.name = enrich.name
        self.nothing = Joined(shape())
        self.records = standing.records if standing else 0
        self.missing = 0
        self._decode = json.Decoder(shape).decode
        self._decode_since = json.Decoder(event_type({since_of: (Number, ...)})).decode if since_of else None
        self._since = getter(since_of) if since_of else None
        self._key = getter(enrich.key.split("."))
        self._as_of = getter(enrich.as_of.split(".")) if enrich.as_of else None
        self._keep_ms = enrich.keep_hours * HOUR_MS
        self._max_age_ms = self._keep_ms if enrich.max_age_hours is None else enrich.max_age_hours * HOUR_MS
        self._after_ms = enrich.after_ms
        self._max_records = enrich.max_records
        self._keeping = keeping or InMemory()
        self._in_memory = isinstance(self._keeping, InMemory)
        self._deletions = deque(standing.deletions if standing else ())
        self._deleted: dict[bytes, list[tuple[int, int]]] = {}
        for number, at_ms, deleted in self._deletions:
            self._deleted.setdefault(deleted, []).append((number, at_ms))
        self._log_ms = standing.log_ms if standing else 0
        self._number = standing.number if standing else 0

    def take(self, key: bytes | None, value: bytes | None, log_ms: int) -> None:
        """One record, in the order of the log; without a value it deletes its key.

        Raises UnreadableRecord for one of another shape, or one too many: what was known stays.
        """
        self._log_ms, self._number = max(log_ms, self._log_ms), self._number + 1
        self._purge(self._log_ms - RECENT_MS)
        if not key:
            raise UnreadableRecord("a record without a key is nobody's")
        if value is None:
            if self._keeping.get(key):
                self._deleted.setdefault(key, []).append((self._number, self._log_ms))
                self._deletions.append((self._number, self._log_ms, key))
            return
        if not value:
            raise UnreadableRecord("the value is empty: expected a JSON object, or null to delete the key")
        joined = self.joined(value)
        kept = joined if self._in_memory else joined.record
        version = Version(self._since_ms(value), self._log_ms, self._number, kept)
        versions, before = list(self._keeping.get(key) or ()), self.records
        self._insert(versions, version)
        if self.records > self._max_records and not self._has_room(versions):
            self.records = before
            raise UnreadableRecord(f"it is full with {before} records: raise max_records, or lower keep_hours")
        self._keeping.put(key, versions)

    def standing(self) -> Standing:
        """How far this is, for whoever keeps it."""
        return Standing(self._log_ms, self._number, self.records, tuple(self._deletions))

    def joined(self, record: bytes) -> Joined:
        """A record as requests are given it; the empty one says nothing. Raises UnreadableRecord."""
        if not record:
            return self.nothing
        if len(record) > TABLE_CAP:
            raise UnreadableRecord(f"it has {len(record)} bytes; the cap is {TABLE_CAP}")
        try:
            check_form(record)
            return Joined(self._decode(record), record.strip())
        except (DecodeError, RecursionError) as error:
            raise UnreadableRecord(plain(error)) from error
        except Unfit as error:
            raise UnreadableRecord(error.reason) from error

    def find(self, request: Request) -> Joined:
        """What counts for a request; `nothing` when no record does, which is counted."""
        found = self._find(request)
        if found is None:
            self.missing += 1
            return self.nothing
        return found

    def _find(self, request: Request) -> Joined | None:
        key = key_of(self._key(request.fields))
        versions = self._keeping.get(key) if key else None
        if key is None or not versions:
            return None
        log_ms = request.at_ms - self._after_ms
        at_ms: float | None = log_ms if self._as_of is None else time_of(self._as_of(request.fields))
        if at_ms is None:
            return None
        oldest_ms = ALWAYS if self._as_of is None else at_ms - self._max_age_ms
        gone = max((number for number, deleted_ms in self._deleted.get(key, ()) if deleted_ms <= log_ms), default=0)
        for place in range(bisect_right(versions, at_ms, key=_since_of) - 1, -1, -1):
            version = versions[place]
            if version.since_ms < oldest_ms:
                return None
            if version.log_ms <= log_ms and version.number > gone:
                return version.joined if isinstance(version.joined, Joined) else self.joined(version.joined)
        return None

    def _since_ms(self, value: bytes) -> float:
        """Since when a record holds; raises UnreadableRecord when it does not say so."""
        if self._decode_since is None or self._since is None:
            return self._log_ms
        try:
            return float(self._since(self._decode_since(value)))
        except (DecodeError, RecursionError) as error:
            raise UnreadableRecord(plain(error)) from error

    def _insert(self, versions: list[Version], version: Version) -> None:
        before = len(versions)
        insort_right(versions, version, key=_since_of)
        if self._as_of is None:
            first = bisect_right(versions, float(self._log_ms - RECENT_MS), key=_since_of) - 1
        else:
            self._drop_replaced(versions, version)
            # Seen from this record, not from the newest: one with a time far ahead spoils nothing for those after it.
            first = bisect_left(versions, version.since_ms - self._keep_ms, key=_since_of)
        del versions[: max(0, first)]
        self.records += len(versions) - before

    def _drop_replaced(self, versions: list[Version], version: Version) -> None:
        """Of records of the same time only those that count for somebody: whose successor is young."""
        first = bisect_left(versions, version.since_ms, key=_since_of)
        end = bisect_right(versions, version.since_ms, key=_since_of)
        while end - first > 1 and versions[first + 1].log_ms < self._log_ms - RECENT_MS:
            del versions[first]
            end -= 1

    def _has_room(self, versions: list[Version]) -> bool:
        """Whether one too many is kept all the same: a key that is known has its latest record."""
        return self._as_of is None and len(versions) > 1

    def _purge(self, before_ms: int) -> None:
        """Let go of what was deleted before this log time."""
        for _ in range(PURGED_AT_ONCE):
            if not self._deletions or self._deletions[0][1] >= before_ms:
                return
            number, deleted_ms, key = self._deletions.popleft()
            versions = self._keeping.get(key) or []
            left = [version for version in versions if version.number > number]
            self.records += len(left) - len(versions)
            if len(left) < len(versions):
                self._keeping.put(key, left)
            self._deleted[key].remove((number, deleted_ms))
            if not self._deleted[key]:
                del self._deleted[key]


def key_of(value: Any) -> bytes | None:
    """A field of the event as the key of a record; None when it cannot be one."""
    if isinstance(value, str):
        return value.encode() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return b"%d" % value if value == value // 1 else None


def time_of(value: Any) -> float | None:
    """A field of the event as a time (ms); None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def _since_of(version: Version) -> float:
    return version.since_ms
