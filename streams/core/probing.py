"""Which raw records are the probes: frozen, and stratified, so that every category and every null pattern occurs.

A model is a function of its input: whoever answers the same record otherwise than before has changed. The records
are chosen among the first requests, the rare first, and as many as that takes.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from msgspec import Struct, json

from schemas.decisions import Ticket
from schemas.probes import JOINED_CAP
from streams.core.replay import IdField

CANDIDATES = 2_000
CANDIDATE_BYTES = 8 << 20
SHARES = 8
"""The parts, equally full, into which a number's values are cut."""

MOST_PROBES = 256
"""However much there is to show: each is a request on the live road, again and again."""

Facet = tuple[str, object]


class Probe(Struct, frozen=True):
    """One frozen record: the producer's key and value, and what was joined into it, by table."""

    key: bytes | None
    value: bytes
    joined: dict[str, bytes] = {}

    @property
    def bytes(self) -> int:
        """How many."""
        return len(self.value) + sum(map(len, self.joined.values()))


class Candidate(Struct, frozen=True):
    """A record that may become a probe, with the fields that are watched."""

    probe: Probe
    fields: dict[str, Any]


class Probing:
    """Takes raw records until there are enough, then holds the chosen ones for ever."""

    def __init__(self, count: int) -> None:
        self.count = count  # at least; 0 for none
        self.candidates: list[Candidate] = []
        self.bytes = 0
        self.seen: dict[int, int] = {}
        self.probes: list[Probe] = []
        self.name = ""

    @property
    def chosen(self) -> bool:
        """Whether there are probes to send."""
        return bool(self.probes)

    @property
    def choosing(self) -> bool:
        """Whether requests are wanted."""
        return bool(self.count) and not self.probes

    def take_over(self, probes: Sequence[Probe], name: str) -> None:
        """Go on with those that were chosen before, under the name that they have."""
        self.probes, self.name, self.candidates = list(probes), name, []

    def offer(self, ticket: Ticket, probe: Probe, fields: dict[str, Any]) -> None:
        """A request, in the order of its partition; one that was offered before is not again."""
        if self.chosen or not self.count or ticket.offset <= self.seen.get(ticket.partition, -1):
            return
        self.seen[ticket.partition] = ticket.offset
        if sum(map(len, probe.joined.values())) > JOINED_CAP:
            return
        self.candidates.append(Candidate(probe, fields))
        self.bytes += probe.bytes
        if len(self.candidates) >= CANDIDATES or self.bytes >= CANDIDATE_BYTES:
            self.probes = choose(self.candidates, self.count)
            self.candidates = []
            parts = [part for one in self.probes for part in (one.value, *one.joined.values())]
            self.name = blake2b(b"".join(parts), digest_size=4).hexdigest()


def choose(candidates: Sequence[Candidate], least: int) -> list[Probe]:
    """One that has it for each facet, the rarest first, 256 at most; then others, by their hash, up to `least`."""
    facets = _facets([one.fields for one in candidates])
    order = sorted(range(len(candidates)), key=lambda place: blake2b(candidates[place].probe.value).digest())
    having: dict[Facet, list[int]] = {}
    for place in order:
        for facet in facets[place]:
            having.setdefault(facet, []).append(place)
    chosen: dict[int, None] = {}
    covered: set[Facet] = set()
    for facet in sorted(having, key=lambda one: (len(having[one]), repr(one))):
        if len(chosen) >= MOST_PROBES:
            break
        if facet not in covered:
            place = having[facet][0]
            chosen[place] = None
            covered |= facets[place]
    for place in order:
        if len(chosen) >= least:
            break
        chosen[place] = None
    return [candidates[place].probe for place in chosen]


def _facets(rows: Sequence[dict[str, Any]]) -> list[set[Facet]]:
    """What each row shows: its words, which part of a number's range, its pattern of nulls."""
    found: list[set[Facet]] = [{("nulls", tuple(name for name in row if row[name] is None))} for row in rows]
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        numbers = sorted(value for value in values if _is_number(value))
        edges = [numbers[len(numbers) * part // SHARES] for part in range(1, SHARES)] if numbers else []
        words = Counter(value for value in values if isinstance(value, str | bool))
        for own, value in zip(found, values, strict=True):
            if _is_number(value):
                own.add((name, sum(value >= edge for edge in edges)))
            elif isinstance(value, str | bool):
                if len(words) < len(rows) / 2:  # else every value is new, and shows nothing
                    own.add((name, str(value)))
            else:
                own.add((name, type(value).__name__))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Renaming:
    """Gives a probe an id of its own where its payload has one: no answer can be mistaken for a customer's."""

    def __init__(self, path: str) -> None:
        self._id = IdField(path)

    def renamed(self, value: bytes, request_id: str) -> bytes:
        """The payload, no other byte changed; as it is when it has no id."""
        place = self._id.place(value)
        if place is None:
            return value
        return value[: place[0]] + json.encode(request_id) + value[place[1] :]
