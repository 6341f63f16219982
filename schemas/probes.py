"""What makes a raw record a probe of the monitor: a token in its header, whose sum lies on `probes`.

The monitor makes the token and writes its sum there before it sends the first probe; only it may write there. So
nobody else can take a request out of what is counted, and the monitor needs no right to forge a score or a decision.
"""

from collections.abc import Mapping
from hashlib import sha256

from msgspec import Struct, json

from schemas.enriched import decode_enriched, encode_enriched, enriched_block, rows_of
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.requests import Headers

PROBE_MARK = "rv-probe"
"""The header: `<token>/<which probe>`."""

JOINED_MARK = "rv-joined"
"""The header with what was joined into the record when it was frozen: a block of `enriched` with one row.

A probe is given the same each time, whatever its tables say now. It counts with a token that is known only.
"""

JOINED_CAP = 6 << 10
"""Bytes of records that are joined into one probe: with its token they fit into what a request's headers may hold.

A request into which more was joined becomes no probe.
"""

JOINED_ROOM = 1 << 10


class TokenSum(Struct, frozen=True):
    """A token of the monitor's, by its sha256 (hex)."""

    sum: str


_encoder = json.Encoder()
_decoder = json.Decoder(TokenSum)


def encode_token(token: str) -> tuple[bytes, bytes]:
    """Key and value of its record on `probes`."""
    found = sum_of(token)
    return found.encode(), _encoder.encode(TokenSum(found))


def decode_token(value: bytes | None) -> TokenSum:
    """Read a token's record; raises UnreadableRecord when it is none."""
    try:
        return _decoder.decode(value or b"")
    except UNREADABLE as error:
        raise UnreadableRecord(f"no token of a monitor: {error}") from error


def sum_of(token: str) -> str:
    """What is known of a token without knowing it."""
    return sha256(token.encode()).hexdigest()


def marked(token: str, which: str, joined: Mapping[str, bytes] | None = None) -> Headers:
    """The headers of a probe; `joined` is by table, an empty record for one that says nothing."""
    own: Headers = [(PROBE_MARK, f"{token}/{which}".encode())]
    if not joined:
        return own
    columns = {name: [record] for name, record in joined.items()}
    return [*own, (JOINED_MARK, encode_enriched(enriched_block([0], columns))[0])]


def joined_of(headers: Headers | None) -> dict[str, bytes] | None:
    """What a probe brings along, by table; None when it brings nothing. Raises UnreadableRecord."""
    value = next((value for name, value in headers or () if name == JOINED_MARK), None)
    if value is None:
        return None
    if len(value) > JOINED_CAP + JOINED_ROOM:
        raise UnreadableRecord(f"{len(value)} bytes; at most {JOINED_CAP + JOINED_ROOM} are allowed")
    rows = list(rows_of(decode_enriched(value)))
    if len(rows) != 1:
        raise UnreadableRecord(f"{len(rows)} rows; a probe is one")
    return rows[0][1]


class Tokens(Struct, frozen=True):
    """Every token that counts, by its sum; `read` is how many records there were, those that are none included."""

    sums: frozenset[str] = frozenset()
    read: int = 0

    def after(self, value: bytes | None) -> "Tokens":
        """The same with the next record of `probes`; what is none changes nothing."""
        try:
            return Tokens(self.sums | {decode_token(value).sum}, self.read + 1)
        except UnreadableRecord:
            return Tokens(self.sums, self.read + 1)

    def probe_of(self, headers: Headers | None) -> str | None:
        """Which probe a raw record is; None for an ordinary request, one with an unknown token too."""
        for name, value in headers or ():
            if name == PROBE_MARK and value:
                token, _, which = value.decode(errors="replace").partition("/")
                return which if sum_of(token) in self.sums else None
        return None


NO_TOKENS = Tokens()
