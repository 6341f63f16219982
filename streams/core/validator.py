"""Raw bytes -> a request, or a rejection that names the field.

The router and the rendezvous call the same validator, so that a malformed request is rejected even when the
router is dead. The pipeline's features become one msgspec type, built once: JSON is checked and decoded in
one pass, and what no feature names is skipped.
"""

import re
from typing import Annotated, Any

from msgspec import DecodeError, Meta, json

from schemas.pipeline import Pipeline
from schemas.requests import UNREADABLE_NAME, Headers, Rejection, Request
from streams.core.event_shape import Fields, Unfit, check_form, event_type, field_of, getter, plain
from streams.core.replay import MARKS, RUN_MARK, original_of, replay_prefix

MAX_HEADERS = 32
MAX_HEADER_BYTES = 8 << 10
MAX_ID = 128

_id_form = re.compile(r"[A-Za-z0-9._:-]+").fullmatch


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
        fields: Fields = {feature.parts: field_of(feature) for feature in pipeline.features_of_event}
        self._id_parts = tuple(self._shape.id.split("."))
        id_type = Annotated[str, Meta(min_length=1, max_length=self._max_id)]
        fields.setdefault(self._id_parts, (id_type | None, None))
        if self._shape.budget:
            fields.setdefault(tuple(self._shape.budget.split(".")), (float | None, None))
        for table in pipeline.enrich:
            for path in filter(None, (table.key, table.as_of)):
                fields.setdefault(tuple(path.split(".")), (Any, None))
        self._decode = json.Decoder(event_type(fields)).decode
        self._id = getter(self._id_parts)
        self._budget_field = getter(tuple(self._shape.budget.split("."))) if self._shape.budget else None

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
                raise Unfit("request-id", f"{self._shape.id}: only A-Z a-z 0-9 . _ : - are allowed")
        except Unfit as refusal:
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
            raise Unfit("replay", f"header {RUN_MARK}: replayed by run {run!r}; this pipeline takes {takes}")

    def _minted(self, headers: Headers | None, partition: int, offset: int) -> str:
        """A replayed record without an id is known by its original's ticket, as its first answer was."""
        original = original_of(headers) if self._run and headers else None
        return self._minted_prefix + minted(*original) if original else minted(partition, offset)

    def _event(self, value: bytes | None) -> Any:
        if not value:
            raise Unfit("empty", f"the value is {'null' if value is None else 'empty'}: expected a JSON object")
        if len(value) > self._cap:
            raise Unfit("too-large", f"the value has {len(value)} bytes; the cap is {self._cap}")
        check_form(value)
        try:
            return self._decode(value)
        except (DecodeError, RecursionError) as error:
            raise Unfit("invalid", plain(error)) from error

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
            raise Unfit("budget", f"{where}: must be a number of ms from 1 to {self._shape.max_budget_ms}")
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


def _checked_header(headers: Headers, name: str) -> bytes | None:
    if headers[0][0] == UNREADABLE_NAME:
        raise Unfit("headers", "the name of a header is not UTF-8: none of them can be read")
    if len(headers) > MAX_HEADERS:
        raise Unfit("headers", f"{len(headers)} headers; at most {MAX_HEADERS} are allowed")
    size = sum(len(key) + len(value or b"") for key, value in headers)
    if size > MAX_HEADER_BYTES:
        raise Unfit("headers", f"headers of {size} bytes; at most {MAX_HEADER_BYTES} are allowed")
    return header(headers, name)


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
