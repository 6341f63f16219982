"""What makes a raw record a probe of the monitor: a token in its header, whose sum lies on `probes`.

The monitor makes the token and writes its sum there before it sends the first probe; only it may write there. So
nobody else can take a request out of what is counted, and the monitor needs no right to forge a score or a decision.
"""

from hashlib import sha256

from msgspec import Struct, json

from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.requests import Headers

PROBE_MARK = "rv-probe"
"""The header: `<token>/<which probe>`."""


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


def marked(token: str, which: str) -> Headers:
    """The headers of a probe."""
    return [(PROBE_MARK, f"{token}/{which}".encode())]


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
