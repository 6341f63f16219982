"""What was joined into archived requests, read beside them: a router that was killed wrote some of it twice."""

from collections.abc import Iterator, Mapping

from schemas.enriched import decode_enriched, rows_of
from schemas.errors import UnreadableRecord


class EnrichedPast:
    """One partition's records of `enriched`, in the order of their log; of two for one request the first counts.

    That is the one that was sent just before what models were given first.
    """

    def __init__(self, records: Iterator[bytes | None]) -> None:
        self.last = -1
        self.unreadable = 0
        self._records = records
        self._held: dict[int, Mapping[str, bytes]] = {}
        self._given = -1

    def through(self, offset: int) -> Mapping[int, Mapping[str, bytes]]:
        """Records by table of every request up to this offset that was not asked for before."""
        while self.last <= offset and (value := next(self._records, b"")) != b"":
            self._take(value)
        found = {own: records for own, records in self._held.items() if own <= offset}
        self._held = {own: records for own, records in self._held.items() if own > offset}
        self._given = max(self._given, offset)
        return found

    def _take(self, value: bytes | None) -> None:
        try:
            block = decode_enriched(value)
        except UnreadableRecord:
            self.unreadable += 1
            return
        for offset, records in rows_of(block):
            self.last = max(self.last, offset)
            if offset > self._given:
                self._held.setdefault(offset, records)
