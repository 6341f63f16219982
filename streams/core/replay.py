"""What keeps the past from being taken for the present: the three walls of a replay, and what it adds to a record.

1. Headers: `rv-replay` names the run, `rv-src` the original's place. A pipeline that does not name the run rejects.
2. The request id, where it stands in the payload, becomes `rp:<run>:<original id>`: no answer can be mistaken.
3. Targets lie under `replay.<run>.`; any other is refused unless it is forced.

They are independent: each holds when the other two are gone. Everything else of a record is kept: key, partition,
the value's other bytes, the headers in their order, and the original timestamp in `rv-orig-ts`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import Raw, Struct, defstruct, json, structs

from schemas.errors import UNREADABLE, ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.requests import Headers

RUN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}").fullmatch
RUN_MARK: Final = "rv-replay"
SOURCE_MARK: Final = "rv-src"
TIME_MARK: Final = "rv-orig-ts"
MARKS: Final = frozenset((RUN_MARK, SOURCE_MARK, TIME_MARK))

Rewrite = Callable[[bytes | None], bytes | None]


def prefix_of(run: str) -> str:
    """What every topic of a run begins with."""
    return f"replay.{run}."


def replay_prefix(run: str) -> str:
    """What every request id of a run begins with."""
    return f"rp:{run}:"


def of_run(pipeline: Pipeline, run: str) -> Pipeline:
    """The same pipeline behind the fence: it takes this run's records, and answers nobody but its own topics."""
    check_run(run)
    if pipeline.replay:
        raise ConfigurationRefused(f"{pipeline.name} is a replay's already; name the pipeline it was made from")
    return structs.replace(
        pipeline,
        name=prefix_of(run) + pipeline.name,
        replay=run,
        start="earliest",
        # A copy to the topic that a producer named once would reach a live consumer; the live archive is its own.
        output=structs.replace(pipeline.output, reply_to_prefix=""),
        archive=structs.replace(pipeline.archive, root=""),
    )


def check_run(run: str) -> None:
    """Raise ConfigurationRefused unless this can name a run."""
    if not RUN(run):
        raise ConfigurationRefused(f"run {run!r}: a run's name ends up in topics; use a-z 0-9 and -, at most 32")


def check_target(run: str, target: str, *, forced: bool) -> None:
    """Wall 3: raise ConfigurationRefused for a target outside the run's own topics."""
    if not target.startswith(prefix_of(run)) and not forced:
        raise ConfigurationRefused(
            f"{target} does not lie under {prefix_of(run)}: whoever reads it would meet the past among live records. "
            f"Leave --to out, or say --force if you mean it (a live rendezvous will answer them `rejected`)"
        )


class Mark(Struct, frozen=True):
    """Where a replayed record comes from, by its headers."""

    run: str
    topic: str
    partition: int
    offset: int


def source_of(headers: Headers | None) -> Mark | None:
    """The mark of a replayed record; None when it has none that can be read. The last of repeated headers counts."""
    found = {name: value for name, value in headers or () if name in MARKS and value is not None}
    if RUN_MARK not in found or SOURCE_MARK not in found:
        return None
    topic, _, place = found[SOURCE_MARK].decode(errors="replace").partition("/")
    partition, _, offset = place.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        return None
    return Mark(found[RUN_MARK].decode(errors="replace"), topic, int(partition), int(offset))


def original_of(headers: Headers | None) -> tuple[int, int] | None:
    """Partition and offset of the original, for a replayed record."""
    mark = source_of(headers)
    return None if mark is None else (mark.partition, mark.offset)


class IdField:
    """Where the request id stands in a JSON payload: `a.b` is b inside a."""

    def __init__(self, path: str) -> None:
        self._parts = path.split(".")
        self._key = json.encode(self._parts[-1])
        self._heads = (b"{%s:" % self._key + _QUOTE, b"{%s: " % self._key + _QUOTE) if len(self._parts) == 1 else ()
        kind: Any = Raw
        for part in reversed(self._parts):
            kind = defstruct("Event", [("f", kind, Raw() if kind is Raw else None)], rename={"f": part}, gc=False)
        self._decode = json.Decoder(kind).decode

    def place(self, value: bytes) -> tuple[int, int] | None:
        """Where the id's JSON text begins and ends; None when the payload is no JSON or has no such field."""
        text = self._text(value)
        if not text:
            return None
        start = value.find(text)
        if value.find(text, start + 1) < 0 and value.count(self._key) == 1 and b"\\" not in value:
            return start, start + len(text)
        # The same text or key may stand elsewhere too: the decoder's view into the payload tells which one counts.
        start = _address(text) - _address(value)
        return start, start + len(text)

    def read(self, value: bytes | None) -> str | None:
        """The id as text; None when there is none."""
        place = self.place(value) if value else None
        if value is None or place is None or not value.startswith(_QUOTE, place[0]):
            return None
        try:
            return str(json.decode(value[place[0] : place[1]]))
        except UNREADABLE:
            return None

    def rewriter(self, prefix: str) -> Rewrite:
        """Wall 2: puts the prefix in front of the id, and changes no other byte; without an id, none at all.

        Most payloads plainly begin with their id: they need not be parsed.
        """
        inserted, find = prefix.encode(), self.place
        heads, key = self._heads, self._key
        short = len(heads[0]) if heads else 0

        def rewrite(value: bytes | None) -> bytes | None:
            if value and value.startswith(heads) and value.count(key) == 1 and b"\\" not in value:
                cut = short if value.startswith(_QUOTE, short - 1) else short + 1
                return value[:cut] + inserted + value[cut:]
            place = find(value) if value else None
            if value is None or place is None or not value.startswith(_QUOTE, place[0]):
                return value
            cut = place[0] + 1
            return value[:cut] + inserted + value[cut:]

        return rewrite

    def _text(self, value: bytes) -> Any:
        try:
            found = self._decode(value)
            for _ in self._parts:
                found = found.f
        except (*UNREADABLE, AttributeError):
            return None  # no request: it is replayed as it is, and rejected again
        return memoryview(found)


_QUOTE = b'"'


def _address(text: Any) -> int:
    import numpy as np

    return int(np.frombuffer(text, dtype=np.uint8).__array_interface__["data"][0])
