"""What the monitor knows, on disk, with the places in the log that it belongs to: one file, whole at every moment.

Written beside, fsynced, renamed. One that is damaged, or of another program, pipeline or topic, is no reason to stop:
it is said, and everything is learnt anew from the log. The models' first answers to probes are carried over.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, msgpack

import streams.core.verdicts
from schemas.errors import UNREADABLE, RendezvousError, UnreadableRecord
from schemas.pipeline import Pipeline
from streams.core.first_answers import FirstAnswers, decode_first, encode_first
from streams.core.gathering import Places
from streams.core.kept_state import decode_state, encode_state
from streams.core.watching import Watching
from streams.state_file import replace_file

KEPT = (
    "streams.core.verdicts",
    "streams.core.watched",
    "streams.core.watching",
    "streams.core.attendance",
    "streams.core.sources",
    "streams.core.deployed",
    "streams.core.alarms",
    "streams.core.probing",
    "streams.core.first_answers",
    "streams.core.score_figures",
    "streams.core.group_figures",
    "streams.core.minutes",
    "schemas.verdicts",
    "schemas.decisions",
    "schemas.pipeline",
)
"""Modules whose objects are in a snapshot."""


class SnapshotLost(RendezvousError):
    """There is a snapshot that cannot be used, but for the first answers to probes in it, where these are whole."""

    def __init__(self, why: str, first_answers: FirstAnswers | None = None) -> None:
        super().__init__(why)
        self.first_answers = first_answers


class Snapshot(Struct, frozen=True):
    """`state` has come so far that it goes on at `places`, by raw partition; `of` says what it is a state of.

    `first` are the first answers to probes, which a program reads that cannot read the state. Each has its `sum`.
    """

    of: str
    places: dict[int, Places]
    state: bytes
    sum: str
    first: bytes = b""
    first_sum: str = ""


class SnapshotFile:
    """The monitor's file. `of` is made by `of_what`."""

    def __init__(self, folder: Path, of: str) -> None:
        self.path = folder / "snapshot"
        self._of = of

    def read(self) -> tuple[Mapping[int, Places], Any] | None:
        """Places and state; None before the first. Raises SnapshotLost, and puts the file aside."""
        try:
            value = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotLost(f"{self.path}: {error.strerror}") from error
        try:
            return self._read(value)
        except (*UNREADABLE, UnreadableRecord) as error:
            aside = self.path.with_suffix(".lost")
            self.path.replace(aside)
            why = f"{self.path} cannot be used ({error}); it is kept as {aside.name}"
            raise SnapshotLost(why, _first_in(value)) from error

    def _read(self, value: bytes) -> tuple[Mapping[int, Places], Any]:
        snapshot = msgpack.decode(value, type=Snapshot)
        if _sum(snapshot.state) != snapshot.sum:
            raise UnreadableRecord("damaged: its sum is another")
        if snapshot.of != self._of:
            raise UnreadableRecord("of another program, pipeline file or topic")
        return snapshot.places, decode_state(snapshot.state, KEPT)

    def write(self, places: Mapping[int, Places], state: Watching) -> None:
        """Replace it; raises OSError, with the old one still there."""
        value = encode_state(state, KEPT)
        first = encode_first(state.first_answers())
        snapshot = Snapshot(self._of, dict(places), value, _sum(value), first, _sum(first))
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        content = msgpack.encode(snapshot)  # with raw records in it, for nobody else to read
        point = "monitor.snapshot_written"
        replace_file(self.path, self.path.with_suffix(".tmp"), content, mode=0o600, point=point)


def _sum(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _first_in(value: bytes) -> FirstAnswers | None:
    """What can be carried out of a snapshot that cannot be used; None when that is not whole, or not there."""
    try:
        snapshot = msgpack.decode(value, type=Snapshot)
        return decode_first(snapshot.first) if _sum(snapshot.first) == snapshot.first_sum else None
    except (*UNREADABLE, UnreadableRecord):
        return None


def of_what(pipeline: Pipeline, topic_ids: Mapping[str, str]) -> str:
    """A digest of what a state depends on beside the log: the program, what is watched, this life of the topics."""
    settings = pipeline.monitor
    rows = settings.reference_rows if settings else 0
    fields = (settings.fields, settings.segments, settings.source) if settings else ()
    found = hashlib.sha256(
        msgpack.encode((pipeline.name, pipeline.request, pipeline.features, pipeline.enrich, rows, fields))
    )
    for name, topic_id in sorted(topic_ids.items()):
        found.update(f"{name}={topic_id}\n".encode())
    for path in sources():
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def sources() -> Sequence[Path]:
    """The program's files that say what a state is."""
    verdicts = Path(streams.core.verdicts.__path__[0])
    own = [
        verdicts.parent / f"{name}.py"
        for name in (
            "watching",
            "watched",
            "alarms",
            "gathering",
            "blame",
            "attendance",
            "absences",
            "sources",
            "silences",
            "event_fields",
            "risen",
            "deployed",
            "newcomers",
            "thin",
            "probing",
            "first_answers",
            "score_figures",
            "group_figures",
            "minutes",
            "buckets",
            "watched_fields",
        )
    ]
    return [*sorted(verdicts.glob("*.py")), *(path for path in own if path.exists())]
