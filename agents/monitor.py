"""raw + scores + decisions + enriched + roster + quality -> verdicts + minutes

Gathers each request with its scores, its decision and what was joined into it, in the order of the log, and judges
every window of them; what each model did in a minute is written when that is over. It is on nobody's road: when it is
dead, nothing but these is missing, and they come when it is back. What it knows is a function of the log, and is kept
with the places it belongs to: a window is told once, whatever is killed when, and a minute again in the same words.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from confluent_kafka import TopicPartition
from faust.types import TP

from agents.actor import unmoved
from agents.beside import Beside
from agents.prober import Prober
from agents.reading import Reading
from agents.roster_watch import Moves, MovesWatch, QualityWatch, TokenWatch
from agents.snapshot import SnapshotFile, SnapshotLost
from agents.telling import Telling
from schemas.minutes import Minute, encode_minute, key_of
from schemas.pipeline import MonitorSettings, Pipeline
from schemas.topics import Topics
from schemas.verdicts import Reported
from streams.core.entitlement import always
from streams.core.gathering import Gathered, Places
from streams.core.mature_days import NO_DAYS, MatureDays, with_labels
from streams.core.probing import Probe
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching
from streams.kafka.batch import Batch, Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.edge import Position
from streams.kafka.transport import BatchApp

logger = logging.getLogger(__name__)

LOOK_S = 0.5
SNAPSHOT_S = 10.0
AT_ONCE = 256
TAKEN = "taken"
"""Beside the snapshot: which alarm people were told of last."""


class Monitor:
    """The state of one pipeline's monitor: what it reads is judged, and what it judges is told and kept."""

    _app: BatchApp
    _roster: MovesWatch
    _probes: TokenWatch
    _quality: QualityWatch | None
    _prober: Prober

    def __init__(
        self,
        pipeline: Pipeline,
        settings: MonitorSettings,
        cluster: Cluster,
        file: SnapshotFile,
        beside: Callable[[WatchedFields], Beside] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._cluster = cluster
        self._file = file
        self._fields = WatchedFields(pipeline, settings.named)
        self._beside = beside(self._fields) if beside is not None else None
        self._reading = Reading(pipeline, self._fields)
        topics = Topics(pipeline.name)
        self._minutes = topics.minutes
        self._telling = Telling(topics.verdicts, cluster, settings, file.path.with_name(TAKEN))
        self._moves = Moves((), always(pipeline))
        self._mature = NO_DAYS
        self._watching = self._new()
        self._kept: dict[int, Places] = {}
        self._kept_s = 0.0
        self._lock = asyncio.Lock()
        self.lost_snapshots = 0

    def _new(self) -> Watching:
        return Watching(self._pipeline, self._settings, self._fields.names)

    @property
    def topics(self) -> tuple[str, ...]:
        """What is read, partition by partition."""
        return tuple(self._reading.topics.values())

    @property
    def news(self) -> deque[str]:
        """Lines for whoever supervises this process."""
        return self._telling.news

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app
        self._telling.open(app)

        def died(error: Exception) -> None:
            app.add_future(app.crash(error))

        self._roster = MovesWatch(self._pipeline, self._cluster, self._moved, died)
        self._probes = TokenWatch(self._pipeline, self._cluster, self._reading.announced, died)
        tells = self._pipeline.tells_quality
        self._quality = QualityWatch(self._pipeline, self._cluster, self._matured, died) if tells else None
        self._prober = Prober(self._pipeline, app, self._settings.probe_s)

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read on where the snapshot belongs; without one from the beginning, if the pipeline begins there."""
        self._watching, self._kept = self._new(), {}
        try:
            found = self._file.read()
        except SnapshotLost as error:
            self.lost_snapshots += 1
            carried = "; probes are held against their first answers still" if error.first_answers else ""
            logger.error("%s: everything is learnt anew, from the log%s", error, carried)
            self._watching.carry(error.first_answers)
            found = None
        if found is not None:
            self._kept, self._watching = dict(found[0]), found[1]
            self._watching.follow(self._settings)
        return self._reading.starts(committed, self._kept)

    async def begin(self, starts: Mapping[TP, int]) -> None:
        """Take over partitions: learn what was told last and who is entitled, then gather."""
        await self._app.producer.flush()
        await asyncio.gather(self._telling.begin(), self._probes.begin(), self._roster.begin())
        if self._quality is not None:
            await self._quality.begin()
        await self._refer()
        await self._train(self._app.producer.now_ms())
        self._reading.begin(starts, self._moves.spans)
        self._kept_s = time.monotonic()

    async def _refer(self) -> None:
        if self._beside is not None:
            await self._beside.look_again()
            now_ms = self._app.producer.now_ms()
            if await self._beside.refer(lambda: self._watching, self._moves, self._reading.tokens, now_ms):
                self._prober.ask()  # what is answered now is what is usual by it

    async def _train(self, at_ms: float) -> None:
        if self._beside is not None:
            await self._beside.train(self._moves.spans.at(at_ms))

    def end(self) -> None:
        """Let go of every partition."""
        self._reading.gatherings = {}

    def _moved(self, moves: Moves) -> None:
        self._prober.moved(moves.entries[len(self._moves.entries) :])
        self._moves = moves
        self._reading.entitle(moves.spans)

    def _matured(self, known: MatureDays) -> None:
        self._mature = known

    async def take(self, batch: Batch) -> None:
        """Gather one batch of any of the logs, and judge what is whole.

        One that waited while its partition was let go is read again; gathered now, it would hide what lies before it.
        """
        gathering = self._reading.gatherings.get(batch.partition)
        async with self._lock:
            if self._reading.gatherings.get(batch.partition) is not gathering:
                return
            if self._reading.take(batch, keep=self._watching.probing.choosing):
                self._watching.unreadable(self._reading.unreadable())
                await self._go_on()
                self._reading.pace(self._app)

    async def _go_on(self) -> None:
        """Judge every request whose turn it is."""
        for number in count(1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # there may be many: the status line has its turn
            one = self._reading.hand_on()
            if one is None:
                return
            if self._watching.due_ms < one.at_ms:
                await self._expire(one.at_ms)
            if minutes := self._watching.minutes.take(one):
                await self._write(minutes)
            self._offer_as_probe(one)
            if self._watching.moved(self._moves.entries, one.at_ms):
                await self._train(one.at_ms)
            report = self._watching.offer(one, self._moves.spans.at(one.at_ms))
            if report is not None:
                await self._say(report)

    async def _expire(self, until_ms: float) -> None:
        """Say what is due by the log's time, however little has come."""
        for report in self._watching.expire(until_ms, self._moves.spans):
            await self._say(report)

    async def _write(self, minutes: Sequence[Minute]) -> None:
        records = [Outgoing(self._minutes, encode_minute(one), key_of(one), 0) for one in minutes]
        await self._telling.write(records)

    async def _say(self, report: Reported) -> None:
        if not report.quiet and report.evidence.probes == "none":
            self._prober.ask()  # is it the code, or what it is given?
        if self._beside is not None:
            report = self._beside.evidence(report, self._watching, self._moves)
        models = [model.name for model in self._moves.spans.at(report.said_at_ms).models]
        await self._telling.say(with_labels(report, self._mature, models))

    def _offer_as_probe(self, one: Gathered) -> None:
        """With what was joined into it, so that it can be given the same again."""
        if one.record is not None and one.joined is not None:
            self._watching.probing.offer(one.ticket, Probe(*one.record, dict(one.joined)), one.fields)

    async def look(self) -> None:
        """Go on although nothing came, and keep what is known now and then."""
        self._telling.look()
        await self._reading.settle(self._app, min(self._watching.due_ms, self._watching.minutes.due_ms))
        async with self._lock:
            await self._go_on()
            await self._expire(self._reading.frontier_ms)
            if minutes := self._watching.minutes.expire(self._reading.frontier_ms):
                await self._write(minutes)
            self._reading.pace(self._app)
            if self._reading.gatherings and self._settings.probes:
                await self._prober.announce()
                await self._prober.look(self._watching.probing)
            if time.monotonic() - self._kept_s >= SNAPSHOT_S:
                self._app.add_future(self._refer())  # nobody waits for it: it takes as long as its window is
                await self._keep()

    async def keep(self) -> None:
        """Write the snapshot, at the end of this process."""
        async with self._lock:
            if self._reading.gatherings:
                await self._keep()

    async def _keep(self) -> None:
        if not await self._telling.confirmed():  # it is not said to be told before the broker has it
            return
        places = self._reading.places()
        self._kept_s = time.monotonic()
        if places == self._kept:
            return
        self._watching.minutes.fold()
        try:
            self._file.write(places, self._watching)
        except OSError as error:
            logger.error("%s: no snapshot is kept: %s; the last one still counts", self._file.path, error.strerror)
            return
        self._kept = places

    def committable(self) -> Mapping[TP, Position]:
        """Where the snapshot goes on."""
        return self._reading.committable(self._kept)

    def read_all(self) -> bool:
        """Whether every log was read to its end, as of the last fetch."""
        return self._reading.read_all(self._app)

    def figures(self) -> Mapping[str, float]:
        """What the status line shows."""
        shown: dict[str, float] = {
            "verdicts": self._telling.windows,
            "waiting": sum(one.waiting for one in self._reading.gatherings.values()),
        }
        if self._settings.probes:
            shown["rounds of probes"] = self._prober.rounds
        if self.lost_snapshots:
            shown["snapshots lost"] = self.lost_snapshots
        if self._telling.untold:
            shown["alarms the webhook did not take"] = self._telling.untold
        return shown


def attach(app: BatchApp, monitor: Monitor) -> None:
    """Put the monitor's agent on the app."""
    monitor.open(app)

    @app.agent(app.topic(*monitor.topics), name="monitor")
    async def at_work(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await monitor.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, assigned: Iterable[TP], **__: Any) -> None:
        await monitor.begin({tp: app.consumer.starts[tp] for tp in assigned})

    @app.on_partitions_revoked.connect(weak=False)
    async def end(_: Any, __: Iterable[TP], **___: Any) -> None:
        monitor.end()

    @app.task
    async def look() -> None:
        while not app.should_stop:
            await asyncio.sleep(LOOK_S)
            await monitor.look()


def stuck(app: BatchApp, monitor: Monitor) -> Callable[[], bool]:
    """There are records to read, and none was taken since the last look; what was not kept yet is no sign."""
    return unmoved(lambda: app.consumer.taken_records, lambda: not monitor.read_all())
