"""State from outside joined into requests, once, before fan-out: every model sees the same."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Raw, json
from msgspec.structs import replace

from schemas.enriched import EnrichedBlock, enriched_block
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.requests import Joined, Request
from streams.core.table import Table

_decode_object = json.Decoder(dict[str, Raw]).decode
_encode = json.Encoder().encode


class Enrichment:
    """The tables of one pipeline, in the order of its file; `kept` are those that are not held in memory."""

    def __init__(self, pipeline: Pipeline, kept: Mapping[str, Table] = MappingProxyType({})) -> None:
        self.tables = {one.name: kept.get(one.name) or Table(one, pipeline.features) for one in pipeline.enrich}

    def join(self, requests: Sequence[Request]) -> list[Request]:
        """The same requests, each with what the tables say of it."""
        tables = list(self.tables.values())
        return [replace(request, joined=tuple([table.find(request) for table in tables])) for request in requests]

    def given(self, request: Request, records: Mapping[str, bytes]) -> Request:
        """A request with what it brings along, by table; raises UnreadableRecord when tables hold nothing like it."""
        if records.keys() != self.tables.keys():
            own, brought = ", ".join(self.tables), ", ".join(records)
            raise UnreadableRecord(f"records of {brought or 'no table'}; the tables are {own}")
        return replace(request, joined=tuple([table.joined(records[name]) for name, table in self.tables.items()]))

    def block(self, requests: Sequence[Request]) -> EnrichedBlock:
        """What was joined into these requests, as it is kept."""
        columns = {
            name: [request.joined[place].record for request in requests] for place, name in enumerate(self.tables)
        }
        return enriched_block([request.offset for request in requests], columns)

    def rejoin(self, requests: Sequence[Request], kept: Mapping[int, Mapping[str, bytes]]) -> list[Request]:
        """Requests with what had been joined into them, by offset and table; what is not kept says nothing."""
        found = []
        for request in requests:
            records = kept.get(request.offset, {})
            joined = tuple([self._again(name, records.get(name, b"")) for name in self.tables])
            found.append(replace(request, joined=joined))
        return found

    def _again(self, name: str, record: bytes) -> Joined:
        """A record that was read once; by other features it may be none, and then it says nothing."""
        table = self.tables[name]
        try:
            return table.joined(record)
        except UnreadableRecord:
            return table.nothing


def event_of(request: Request, names: Sequence[str]) -> bytes:
    """The event as models that take events are given it: each table's record under its name, or nothing there."""
    if not names:
        return request.value
    event = _decode_object(request.value)
    for name, joined in zip(names, request.joined, strict=True):
        event.pop(name, None)  # a producer's own field of that name is not the table's word
        if joined.record:
            event[name] = Raw(joined.record)
    return _encode(event)
