"""What one version of a model did in a minute, as it lies on `minutes`: counts, and sketches that add up."""

from msgspec import Struct, json

from schemas.errors import UNREADABLE, UnreadableRecord

MINUTE_MS = 60_000
COARSEST = 19
"""Bits of a bucket's number."""


class Buckets(Struct, frozen=True):
    """How often values fell into which bucket; two such are one when the counts of equal buckets are added.

    `at` are the buckets' numbers, ascending: the first one, then each one's distance from the one before; `of` are
    their counts. A bucket's number is the upper 19 bits of a float64 with its sign turned, so that numbers are in the
    values' order; `coarser` says how many bits less these have (`streams.core.buckets`).
    """

    at: list[int]
    of: list[int]
    coarser: int = 0


class MinuteFigures(Struct, frozen=True, kw_only=True):
    """Of the requests that it was `asked`: counts, its scores, and the ms from raw's log time to that of each.

    `failed` lie on `scores` as an error, `skipped` were not asked of it after all; what is neither of them nor
    `scored` gave no sign in time. `late` are those of the scored that came after the deadline; `won` are its answers.
    """

    asked: int
    scored: int
    failed: int
    skipped: int
    late: int
    won: int
    scores: Buckets
    took_ms: Buckets


class Minute(Struct, frozen=True, kw_only=True):
    """One version of a model in the minute of raw's log time that begins at `at_ms`; probes are not counted.

    With all its requests (`field` and the one value are empty), or split by the values of a declared field
    (`(others)`: beyond the first 20). Of records with the same key the one with the most requests counts: one that
    was written again after a restart is the same, or knows less because the log began later.
    """

    at_ms: int
    model: str
    version: str
    field: str
    values: dict[str, MinuteFigures]

    @property
    def asked(self) -> int:
        """Requests, over all values."""
        return sum(one.asked for one in self.values.values())


_encoder = json.Encoder()
_decoder = json.Decoder(Minute)


def key_of(minute: Minute) -> bytes:
    """What it is of, as JSON: minute, model, version and field."""
    return _encoder.encode([minute.at_ms, minute.model, minute.version, minute.field])


def encode_minute(minute: Minute) -> bytes:
    """One JSON object, UTF-8."""
    return _encoder.encode(minute)


def decode_minute(value: bytes | None) -> Minute:
    """Read a minute; raises UnreadableRecord when it is none. Fields not known here are ignored."""
    try:
        found = _decoder.decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"not a minute: {error}") from error
    for one in found.values.values():
        for buckets in (one.scores, one.took_ms):
            if len(buckets.at) != len(buckets.of) or not 0 <= buckets.coarser < COARSEST:
                raise UnreadableRecord("not a minute: its buckets and their counts are not as many")
    return found
