"""archive -> replay.<run>.<pipeline>.raw

One run: looked at before anything is sent, sent in order and in time, checkpointed, and gone on with after a kill.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from agents.replay.checkpoint import Checkpoint, CheckpointFile
from agents.replay.probes import ArchivedProbes
from agents.replay.source import Advance, NothingThere, Part, Source, parts_of
from agents.replay.where import matches
from schemas.errors import ConfigurationRefused, RendezvousError
from schemas.pipeline import Pipeline
from schemas.topics import Topics, topics_of
from streams.archive.segment import ArchiveDamaged
from streams.core.replay import IdField, check_target, of_run, replay_prefix
from streams.core.replay_order import Order, Pace, Run, Schedule, Selection, in_order
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.replaying import Replayer, come_to, ends_of
from streams.kill_points import reached

Show = Callable[[int], AbstractContextManager[Advance]]
"""Given how many records will be read: a place to say how many were."""

CHECKPOINT_S = 2.0
LOOK_ROWS = 512
"""A paced run is handed over in pieces, so that its checkpoints come in time."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a replay was asked for; `asked` are the words of the selection as they were written."""

    run: str
    pipeline: Pipeline
    archive: Path
    selection: Selection
    asked: dict[str, list[str]]
    order: Order
    pace: Pace
    target: str
    forced: bool = False
    allow_gaps: bool = False


class Reach(Struct):
    """Which records of one partition were sent, by their original offsets."""

    first: int
    last: int
    records: int = 0


class Report(Struct, kw_only=True):
    """What a replay did, or would do.

    `probes` of the monitor are left out; `unproved` are records with a probe's header that no archived decision
    speaks of: they are sent as requests, and `why` may say what is wrong with the decisions.
    """

    run: str
    source: str
    target: str
    order: str
    selected: int = 0
    probes: int = 0
    unproved: int = 0
    why: str = ""
    sent: int = 0
    before: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    behind_s: float = 0.0
    partitions: dict[int, Reach] = {}
    gaps: list[str] = []
    unknown_ids: list[str] = []
    dry_run: bool = False


class Cut(RendezvousError):
    """A replay ended before its end: says what was sent, and how to go on."""

    def __init__(self, cause: RendezvousError, report: Report) -> None:
        reach = ", ".join(f"{number}/{one.last}" for number, one in sorted(report.partitions.items())) or "nothing"
        super().__init__(
            f"{cause}\nat least {report.sent:,} records of {report.source} are in {report.target}, up to {reach}, "
            "but not all. Mend the cause and run the same command again: it goes on after the last one there"
        )
        self.exit_code = cause.exit_code


class Replay:
    """One run of one pipeline's archive."""

    def __init__(self, asked: Asked, cluster: Cluster | None, folder: Path) -> None:
        self._asked = asked
        self._cluster = cluster
        self._source_topic = Topics(asked.pipeline.name).raw
        self._file = CheckpointFile(folder, asked.run, asked.pipeline.name)
        self._id = IdField(asked.pipeline.request.id)
        self.report = Report(run=asked.run, source=self._source_topic, target=asked.target, order=asked.order)
        self.report.partitions = {}
        check_target(asked.run, asked.target, forced=asked.forced)

    def look(self) -> Report:
        """Say what would be sent, reading all of it; without a cluster, as if the target were empty."""
        old = self._old()
        selection = old.selection if old else self._asked.selection
        target_id = self._target_id() if self._cluster else ""
        following = self._following(old, target_id) if target_id else {}
        source, parts = self._source(selection)
        for run in self._runs(source, parts, following, lambda _: None):
            self._note(run)
        return self._done(source, dry_run=True)

    def go(self, show: Show) -> Report:
        """Send everything that is not in the target yet; raises Cut when it stops on the way."""
        if self._cluster is None:
            raise ConfigurationRefused("no cluster to replay to")
        with self._file.held():
            old = self._old()
            selection = old.selection if old else self._asked.selection
            source, parts = self._source(selection)
            target_id = self._make_target(parts)
            following = self._following(old, target_id)
            state = Checkpoint(
                run=self._asked.run,
                source=self._source_topic,
                target=self._asked.target,
                target_id=target_id,
                asked=self._asked.asked,
                selection=selection,
                following=following,
                target_ends=ends_of(self._cluster, self._asked.target),
            )
            self._file.write(state)
            try:
                with show(sum(part.rows for part in parts)) as advance:
                    self._send(source, parts, state, advance)
            except RendezvousError as error:
                raise Cut(error, self.report) from error
        return self._done(source, dry_run=False)

    def _send(self, source: Source, parts: list[Part], state: Checkpoint, advance: Advance) -> None:
        asked, cluster = self._asked, self._cluster
        assert cluster is not None
        replayer = Replayer(cluster, asked.run, self._source_topic, asked.target)
        started_s = kept_s = time.monotonic()
        schedule = None if asked.pace.flat_out else Schedule(asked.pace, started_s)
        try:
            for run in self._runs(source, parts, state.following, advance):
                for piece in [run] if schedule is None else _pieces(run, asked.pace):
                    replayer.send(piece, schedule)
                    reached("replay.after_send")
                    self._note(piece)
                    if time.monotonic() - kept_s >= CHECKPOINT_S:
                        self._keep(replayer, state)
                        kept_s = time.monotonic()
        finally:
            # Whatever ended it: what was sent is confirmed before it is spoken of.
            replayer.flush()
            self.report.seconds = time.monotonic() - (schedule.started_s if schedule else started_s)
            self.report.behind_s = schedule.worst_s if schedule else 0.0
        self._keep(replayer, state)

    def _keep(self, replayer: Replayer, state: Checkpoint) -> None:
        """Confirmed first, written down then."""
        assert self._cluster is not None
        replayer.flush()
        reached("replay.before_checkpoint")
        sent = {number: one.last + 1 for number, one in self.report.partitions.items()}
        ends = ends_of(self._cluster, self._asked.target)
        self._file.write(structs.replace(state, following=state.following | sent, target_ends=ends))
        reached("replay.after_checkpoint")

    def _runs(
        self, source: Source, parts: list[Part], following: Mapping[int, int], advance: Advance
    ) -> Iterator[Run]:
        return in_order(
            self._asked.order, [source.chunks(part, following.get(part.number, 0), advance) for part in parts]
        )

    def _source(self, selection: Selection) -> tuple[Source, list[Part]]:
        parts = self._checked(parts_of(self._asked.archive, self._source_topic, selection))
        found = matches(parts, selection.where) if selection.where else None
        self._probes = ArchivedProbes(self._asked.archive, Topics(self._asked.pipeline.name).decisions)
        return Source(selection, self._id, found, replay_prefix(self._asked.run), self._probes), parts

    def _checked(self, parts: list[Part]) -> list[Part]:
        """Nothing is sent out of a range with a hole in it, unless that is what is wanted."""
        missing = [hole for part in parts for hole in part.missing]
        if missing and not self._asked.allow_gaps:
            raise ArchiveDamaged(
                "\n".join([*missing, "restore the files, or say --allow-gaps to go on without them"])
            )
        self.report.gaps = [*missing, *(hole for part in parts for hole in part.explained)]
        return parts

    def _old(self) -> Checkpoint | None:
        """The run's last checkpoint; raises ConfigurationRefused when it was asked for something else."""
        old, asked = self._file.read(), self._asked
        if old is not None and (old.asked, old.source, old.target) != (asked.asked, self._source_topic, asked.target):
            raise ConfigurationRefused(
                f"run {asked.run} was asked for {_words(old.asked)} of {old.source} to {old.target}, and now for "
                f"{_words(asked.asked)} to {asked.target}: choose another --run, or remove {self._file.path}"
            )
        return old

    def _target_id(self) -> str:
        """The target's topic id; empty when it is not there."""
        assert self._cluster is not None
        admin = Admin(self._cluster)
        if self._asked.target not in admin.partitions():
            return ""
        return admin.topic_ids([self._asked.target])[self._asked.target]

    def _make_target(self, parts: list[Part]) -> str:
        """Make the target if it is ours, check it if it is not; returns its id."""
        assert self._cluster is not None
        asked, admin = self._asked, Admin(self._cluster)
        highest = max((part.number for part in parts), default=0)
        topic = topics_of(of_run(asked.pipeline, asked.run))[0]
        if asked.target == topic.name:
            if highest >= topic.partitions:
                raise ConfigurationRefused(
                    f"{asked.archive} holds partition {highest} of {self._source_topic}, the pipeline says "
                    f"{topic.partitions} partitions: a replay keeps the partition. Write partitions = {highest + 1}"
                )
            admin.ensure([topic])
        else:
            found = admin.partitions().get(asked.target, 0)
            if found <= highest:
                raise ConfigurationRefused(
                    f"{asked.target} has {found} partitions, the archive has {highest + 1}: a replay keeps the "
                    "partition. Make the topic with as many"
                )
        return self._target_id()

    def _following(self, old: Checkpoint | None, target_id: str) -> dict[int, int]:
        """Where to go on: by the checkpoint, and by what the target holds beyond it."""
        assert self._cluster is not None
        same = old is not None and old.target_id == target_id
        kept, ends = (old.following, old.target_ends) if old is not None and same else ({}, {})
        numbers = sorted(ends_of(self._cluster, self._asked.target))
        tail = come_to(self._cluster, self._asked.target, self._asked.run, self._source_topic, numbers, ends)
        return {number: max(kept.get(number, 0), tail.get(number, 0)) for number in {*kept, *tail}}

    def _note(self, run: Run) -> None:
        chunk, start, stop = run
        if stop > start:
            reach = self.report.partitions.setdefault(
                chunk.partition, Reach(chunk.offsets[start], chunk.offsets[start])
            )
            reach.last = chunk.offsets[stop - 1]
            reach.records += stop - start
            self.report.sent += stop - start

    def _done(self, source: Source, *, dry_run: bool) -> Report:
        report = self.report
        report.selected, report.dry_run = source.selected, dry_run
        report.probes, report.unproved, report.why = source.left_out, self._probes.unproved, self._probes.why
        report.before = source.selected - report.sent
        report.rate = report.sent / report.seconds if report.seconds else 0.0
        report.unknown_ids = sorted(set(self._asked.selection.ids) - source.found_ids)
        if not source.selected:
            raise NothingThere(
                f"{self._asked.archive}: no record of {self._source_topic} fits {_words(self._asked.asked)}"
                + (f", but {source.left_out:,} probes of the monitor's" if source.left_out else "")
            )
        return report


def _pieces(run: Run, pace: Pace) -> Iterator[Run]:
    """A paced run in pieces of about a second at most."""
    chunk, start, stop = run
    size = LOOK_ROWS if pace.rate is None else max(1, min(LOOK_ROWS, int(pace.rate)))
    while start < stop:
        end = min(stop, start + size)
        if pace.speed is not None:
            limit_ms = chunk.at_ms[start] + int(1000 * pace.speed)
            end = next((place for place in range(start + 1, end) if chunk.at_ms[place] > limit_ms), end)
        yield chunk, start, end
        start = end


def _words(asked: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {' '.join(words)}" for name, words in asked.items()) or "all of it"
