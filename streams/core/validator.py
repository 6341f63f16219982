"""Raw bytes -> a request, or a rejection that names the field.

The router and the rendezvous call the same validator, so that a malformed request is rejected even when the
router is dead. The pipeline's features become one msgspec type, built once: JSON is checked and decoded in
one pass, and what no feature names is skipped.
"""

import re
from operator import attrgetter
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, defstruct, json

from schemas.pipeline import Feature, FeatureType, Pipeline
from schemas.requests import Headers, Rejection, Request
from streams.core.replay import MARKS, RUN_MARK, original_of, replay_prefix

MAX_DEPTH = 16
MAX_HEADERS = 32
MAX_HEADER_BYTES = 8 << 10
MAX_NUMBER = 1e15
"""Beyond it a float64 no longer holds every integer; no measurement is that large."""

MAX_ID = 128

_id_form = re.compile(r"[A-Za-z0-9._:-]+").fullmatch
_Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]


class _Refusal(Exception):
    """Why a record is no request: a short name, and a sentence."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


class Validator:
    """Reads raw records of one pipeline; replayed ones only if it names their run.

    What a replay adds (our headers, and the run in front of the id) counts against no limit: a replayed record is
    rejected exactly when the original was.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._shape = pipeline.request
        self._run = pipeline.replay
        self._minted_prefix = replay_prefix(pipeline.replay) if pipeline.replay else ""
        self._cap = pipeline.record_cap_bytes + len(self._minted_prefix)
        self._max_id = MAX_ID + len(self._minted_prefix)
        fields: dict[tuple[str, ...], tuple[Any, Any]] = {
            feature.parts: _field(feature) for feature in pipeline.features if not feature.derive
        }
        self._id_parts = tuple(self._shape.id.split("."))
        id_type = Annotated[str, Meta(min_length=1, max_length=self._max_id)]
        fields.setdefault(self._id_parts, (id_type | None, None))
        if self._shape.budget:
            fields.setdefault(tuple(self._shape.budget.split(".")), (float | None, None))
        event_type = _event_type(fields)
        self._decode = json.Decoder(event_type).decode
        self._id = _getter(self._id_parts)
        self._budget_field = _getter(tuple(self._shape.budget.split("."))) if self._shape.budget else None

    def read(
        self,
        value: bytes | None,
        headers: Headers | None,
        key: bytes | None,
        partition: int,
        offset: int,
        at_ms: int,
    ) -> Request | Rejection:
        """Check one raw record; never raises for what a producer sent."""
        try:
            if headers:
                self._check_fence(headers)
            event = self._event(value)
            budget_ms = self._budget_ms(event, headers)
            request_id = self._id(event) or self._minted(headers, partition, offset)
            if _id_form(request_id) is None or len(request_id) > self._max_id:
                raise _Refusal("request-id", f"{self._shape.id}: only A-Z a-z 0-9 . _ : - are allowed")
        except _Refusal as refusal:
            request_id = self._echo(value) or self._minted(headers, partition, offset)
            budget = self._shape.budget_ms
            return Rejection(offset, request_id, at_ms, budget, key, headers, refusal.error, refusal.reason)
        return Request(offset, request_id, at_ms, budget_ms, key, headers, event, value or b"")

    def _check_fence(self, headers: Headers) -> None:
        """A record of the past is no request of today, unless this pipeline was made for its run."""
        own = self._run.encode()
        marks = [value or b"" for name, value in headers if name == RUN_MARK]
        if marks and not (own and all(mark == own for mark in marks)):
            run = next(mark for mark in marks if not own or mark != own)[:64].decode(errors="replace")
            takes = f"only run {self._run!r}" if self._run else "none"
            raise _Refusal("replay", f"header {RUN_MARK}: replayed by run {run!r}; this pipeline takes {takes}")

    def _minted(self, headers: Headers | None, partition: int, offset: int) -> str:
        """A replayed record without an id is known by its original's ticket, as its first answer was."""
        original = original_of(headers) if self._run and headers else None
        return self._minted_prefix + minted(*original) if original else minted(partition, offset)

    def _event(self, value: bytes | None) -> Any:
        if not value:
            raise _Refusal("empty", f"the value is {'null' if value is None else 'empty'}: expected a JSON object")
        if len(value) > self._cap:
            raise _Refusal("too-large", f"the value has {len(value)} bytes; the cap is {self._cap}")
        if not value.isascii():
            _check_utf8(value)
        if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
            _check_depth(value)
        try:
            return self._decode(value)
        except (DecodeError, RecursionError) as error:
            raise _Refusal("invalid", _plain(error)) from error

    def _budget_ms(self, event: Any, headers: Headers | None) -> int:
        if self._run and headers:
            headers = [pair for pair in headers if pair[0] not in MARKS]
        text = _checked_header(headers, "budget-ms") if headers else None
        if text is not None:
            where, budget = "header budget-ms", _number(text)
        elif self._budget_field and (budget := self._budget_field(event)) is not None:
            where = self._shape.budget
        else:
            return self._shape.budget_ms
        if budget is None or not 1 <= budget <= self._shape.max_budget_ms:
            raise _Refusal("budget", f"{where}: must be a number of ms from 1 to {self._shape.max_budget_ms}")
        return int(budget)

    def _echo(self, value: bytes | None) -> str | None:
        """The producer's id of a record that is refused for another reason, when it can be read at all."""
        try:
            found = json.decode(value or b"")
        except (DecodeError, RecursionError, UnicodeDecodeError):
            return None
        for part in self._id_parts:
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, str) and len(found) <= self._max_id and _id_form(found) else None


def minted(partition: int, offset: int) -> str:
    """The request id of a record whose producer gave none: its ticket."""
    return f"{partition}-{offset}"


def header(headers: Headers | None, name: str) -> bytes | None:
    """The last value of a header, None when it is absent."""
    found = None
    for key, value in headers or ():
        if key == name:
            found = value
    return found


def _field(feature: Feature) -> tuple[Any, Any]:
    """Type and default of a feature in the event type; with a default, null is absent."""
    kinds: dict[FeatureType, Any] = {FeatureType.NUMBER: _Number, FeatureType.BOOLEAN: bool}
    if feature.default is not None:
        return kinds.get(feature.type, str) | None, None
    if feature.type is FeatureType.CATEGORY:
        return Literal[feature.vocabulary], ...
    return kinds[feature.type], ...


def _event_type(fields: dict[tuple[str, ...], tuple[Any, Any]]) -> type[Struct]:
    """One msgspec type for (nested) paths; attributes are numbered, because a key may be any text."""
    nested: dict[str, dict[tuple[str, ...], tuple[Any, Any]]] = {}
    own: dict[str, tuple[Any, Any]] = {}
    for parts, field in fields.items():
        if len(parts) == 1:
            own[parts[0]] = field
        else:
            nested.setdefault(parts[0], {})[parts[1:]] = field
    for key, inner in nested.items():
        inner_type = _event_type(inner)
        optional = all(default is None for _, default in inner.values())
        own[key] = (inner_type, inner_type()) if optional else (inner_type, ...)
    names = {key: attribute(key) for key in own}
    members: list[Any] = [
        (names[key], kind) if default is ... else (names[key], kind, default) for key, (kind, default) in own.items()
    ]
    return defstruct(
        "Event",
        members,
        rename={name: key for key, name in names.items()},
        kw_only=True,
        frozen=True,
        gc=False,
    )


def attribute(key: str) -> str:
    """The attribute that holds a JSON key: any text, made an identifier."""
    return "f_" + key.encode().hex()


def _getter(parts: tuple[str, ...]) -> Any:
    return attrgetter(".".join(map(attribute, parts)))


def _check_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise _Refusal("utf-8", f"byte {error.start} is not UTF-8") from error


def _check_depth(value: bytes) -> None:
    """Walk the brackets outside strings; only records with many brackets come here."""
    depth = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', value):
        first = token[0][0]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _Refusal("depth", f"nested deeper than {MAX_DEPTH} at byte {token.start()}")
        elif first in b"]}":
            depth -= 1


def _checked_header(headers: Headers, name: str) -> bytes | None:
    if len(headers) > MAX_HEADERS:
        raise _Refusal("headers", f"{len(headers)} headers; at most {MAX_HEADERS} are allowed")
    size = sum(len(key) + len(value or b"") for key, value in headers)
    if size > MAX_HEADER_BYTES:
        raise _Refusal("headers", f"headers of {size} bytes; at most {MAX_HEADER_BYTES} are allowed")
    return header(headers, name)


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plain(error: Exception) -> str:
    """Msgspec's message, its `$.a.b` turned into the field's name in front."""
    message = str(error)
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH}"
    before, at, path = message.partition(" - at `$")
    return f"{path.strip('.`')}: {before}" if at else message
