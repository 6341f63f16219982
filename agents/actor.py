"""A role that is ready to start, and where it works: what `roles` makes and `process` runs."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.pipeline import Pipeline
from streams.kafka.clients import Cluster
from streams.kafka.transport import BatchApp


@dataclass(frozen=True, slots=True)
class Place:
    """Where a role works: the pipeline, the folder of its file, the cluster, the archive.

    `tried`: sha256 of the model files that a child process has loaded before. `in_hand`: the descriptor of the
    scorer's memory that its supervisor holds, and `after` what ended its life before; without a supervisor it lies in
    `notes`. `rostered`: its models are the roster's, which is told of a new one that it is there. `watched` is the
    folder of the monitor's snapshot, `file` the pipeline's own, `tables` the folder of those tables that are held on
    disk.
    """

    pipeline: Pipeline
    folder: Path
    cluster: Cluster
    archive: Path
    tried: frozenset[str] = frozenset()
    in_hand: int | None = None
    after: str = ""
    notes: Path = Path()
    rostered: bool = False
    watched: Path = Path()
    file: Path = Path()
    tables: Path = Path()


@dataclass(frozen=True, slots=True)
class Actor:
    """A role ready to start.

    `figures` are shown beside rate and lag. `stuck` is asked once a second, on the loop: true for long enough means
    that the process must end. `news` are lines for whoever supervises, taken out as they are told.
    """

    app: BatchApp
    figures: Callable[[], Mapping[str, float]]
    stuck: Callable[[], bool]
    news: deque[str] = field(default_factory=deque)


def no_progress(app: BatchApp, busy: Callable[[], bool] = lambda: False) -> Callable[[], bool]:
    """There is work, or work in hand, and none of it was taken since the last look."""
    return unmoved(lambda: app.consumer.taken_records, lambda: app.consumer.lag() > 0 or busy())


def unmoved(done: Callable[[], object], work: Callable[[], bool]) -> Callable[[], bool]:
    """What is `done` is what it was at the last look, and there is work."""
    seen: object = None

    def stuck() -> bool:
        nonlocal seen
        before, seen = seen, done()
        return before == seen and work()

    return stuck
