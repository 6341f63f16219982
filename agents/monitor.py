"""raw + scores + decisions + roster -> verdicts

Gathers each request with its scores and its decision, in the order of the log, and judges every window of them. It is
on nobody's road: when it is dead, nothing but verdicts is missing, and they come when it is back. What it knows is a
function of the log, and is kept with the places it belongs to: a window is told once, whatever is killed when.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition
from faust.types import TP

from agents.prober import Prober
from agents.roster_watch import Moves, MovesWatch, TokenWatch
from agents.snapshot import SnapshotFile, SnapshotLost
from agents.webhook import Webhook, line_of
from schemas.blocks import TickBlock, decode_scores
from schemas.decisions import Ticket
from schemas.errors import UnreadableRecord
from schemas.pipeline import MonitorSettings, Pipeline
from schemas.probes import NO_TOKENS, Tokens
from schemas.requests import Request
from schemas.topics import Topics
from schemas.verdicts import Reported, decode_verdict, encode_verdict
from streams.core.entitlement import always
from streams.core.gathering import LOGS, Gathering, Places, ahead, decode_outcome, in_log_order
from streams.core.validator import Validator
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching, later
from streams.kafka.batch import Batch, Outgoing, Sending
from streams.kafka.clients import Cluster
from streams.kafka.edge import Position
from streams.kafka.reading import TopicReader
from streams.kafka.records import read_record
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

logger = logging.getLogger(__name__)

LOOK_S = 0.5
SKEW_MS = 200.0
"""How far this process's idea of the broker's clock may be from it."""

SNAPSHOT_S = 10.0
AT_ONCE = 256
NOTHING = TickBlock(0.0)


class Monitor:
    """The state of one pipeline's monitor, and its way to Kafka."""

    _app: BatchApp
    _roster: MovesWatch
    _probes: TokenWatch
    _prober: Prober

    def __init__(self, pipeline: Pipeline, settings: MonitorSettings, cluster: Cluster, file: SnapshotFile) -> None:
        topics = Topics(pipeline.name)
        self._pipeline = pipeline
        self._settings = settings
        self._cluster = cluster
        self._file = file
        self._topics = {"raw": topics.raw, "scores": topics.scores, "decisions": topics.decisions}
        self._logs = {topic: log for log, topic in self._topics.items()}
        self._verdicts = topics.verdicts
        self._validator = Validator(pipeline)
        self._fields = WatchedFields(pipeline, settings.fields)
        self._webhook = Webhook(settings.webhook, settings.webhook_s) if settings.webhook else None
        self._tokens = NO_TOKENS
        self._moves = Moves((), always(pipeline))
        self._gatherings: dict[int, Gathering] = {}
        self._watching = self._new()
        self._kept: dict[int, Places] = {}
        self._kept_s = 0.0
        self._last: Reported | None = None
        self._sending = Sending()
        self._lock = asyncio.Lock()
        self.news: deque[str] = deque()
        self.windows = 0
        self.lost_snapshots = 0

    def _new(self) -> Watching:
        return Watching(self._pipeline, self._settings, self._fields.names)

    def open(self, app: BatchApp) -> None:
        """Work on this app from now on."""
        self._app = app

        def died(error: Exception) -> None:
            app.add_future(app.crash(error))

        self._roster = MovesWatch(self._pipeline, self._cluster, self._moved, died)
        self._probes = TokenWatch(self._pipeline, self._cluster, self._announced, died)
        self._prober = Prober(self._pipeline, app, self._settings.probe_s)

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read on where the snapshot belongs; without one from the beginning, if the pipeline begins there."""
        self._watching, self._kept = self._new(), {}
        try:
            found = self._file.read()
        except SnapshotLost as error:
            self.lost_snapshots += 1
            logger.error("%s: everything is learnt anew, from the log", error)
            found = None
        if found is not None:
            self._kept, self._watching = dict(found[0]), found[1]
            self._watching.follow(self._settings)
        starts = {}
        for place in committed:
            known = self._kept.get(place.partition)
            log = self._logs[place.topic]
            if known is not None:
                starts[TP(place.topic, place.partition)] = int(getattr(known, log))
            elif self._pipeline.start == "earliest":
                starts[TP(place.topic, place.partition)] = OFFSET_BEGINNING
        return starts

    async def begin(self, starts: Mapping[TP, int]) -> None:
        """Take over partitions: learn what was told last and who is entitled, then gather."""
        await self._app.producer.flush()
        self._last, *_ = await asyncio.gather(
            asyncio.to_thread(self._told_last), self._probes.begin(), self._roster.begin()
        )
        numbers = sorted({tp.partition for tp in starts})
        self._gatherings = {number: self._gathering(number, starts) for number in numbers}
        self._kept_s = time.monotonic()
        if self._last is not None and self._last.alarm is not None:
            self._tell(self._last)  # who was killed may not have come to it

    def end(self) -> None:
        """Let go of every partition."""
        self._gatherings = {}

    def _gathering(self, number: int, starts: Mapping[TP, int]) -> Gathering:
        places = Places(*(starts[TP(self._topics[log], number)] for log in LOGS))
        gathering = Gathering(self._pipeline, number, places)
        gathering.entitle(self._moves.spans)
        return gathering

    def _told_last(self) -> Reported | None:
        """The last record on `verdicts`; blocks."""
        with TopicReader(self._cluster, self._verdicts) as reader:
            ends = {number: max(low, end - 1) for number, (low, end) in reader.bounds().items()}
            last = None
            for message in reader.to_end(ends):
                try:
                    last = decode_verdict(message.value())
                except UnreadableRecord as error:
                    logger.warning("%s/%s: %s", self._verdicts, message.offset(), error)
            return last

    def _moved(self, moves: Moves) -> None:
        self._moves = moves
        for gathering in self._gatherings.values():
            gathering.entitle(moves.spans)

    def _announced(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def take(self, batch: Batch) -> None:
        """Gather one batch of any of the logs, and judge what is whole."""
        async with self._lock:
            gathering = self._gatherings.get(batch.partition)
            if gathering is None:
                return
            log = self._logs[batch.topic]
            if log == "raw":
                self._take_raw(gathering, batch)
            elif log == "scores":
                self._take_scores(gathering, batch)
            else:
                self._take_decisions(gathering, batch)
            await self._go_on()
            self._pace()

    def _take_raw(self, gathering: Gathering, batch: Batch) -> None:
        for message in batch.messages:
            found, value = read_record(message, self._validator), message.value()
            fields = self._fields.of(found, value)
            probe = self._tokens.probe_of(found.headers)
            gathering.requested(found, fields, probe)
            if probe is None and value and isinstance(found, Request):
                self._watching.probing.offer(Ticket(batch.partition, found.offset), found.key, value, fields)

    def _take_scores(self, gathering: Gathering, batch: Batch) -> None:
        for message in batch.messages:
            try:
                block = decode_scores(message.value())
            except UnreadableRecord:  # a dead letter of the rendezvous'
                block = NOTHING
            gathering.scored(block, message.offset() or 0, message.timestamp()[1])

    def _take_decisions(self, gathering: Gathering, batch: Batch) -> None:
        for message in batch.messages:
            position, log_ms = message.offset() or 0, message.timestamp()[1]
            try:
                outcome = decode_outcome(message.value())
            except UnreadableRecord:
                gathering.passed(position, log_ms)
                continue
            gathering.decided(outcome, position, log_ms)

    async def _go_on(self) -> None:
        """Judge every request whose turn it is."""
        for number in count(1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # there may be many: the status line has its turn
            gathering = in_log_order(self._gatherings.values())
            if gathering is None:
                return
            one = gathering.hand_on()
            if self._watching.moved(self._moves.entries, one.at_ms):
                self._prober.ask()
            report = self._watching.offer(one, self._moves.spans.at(one.at_ms))
            if report is not None:
                if not report.quiet and report.evidence.probes == "none":
                    self._prober.ask()  # is it the code, or what it is given?
                await self._say(report)

    def _pace(self) -> None:
        """Read on only what is not far ahead of the rest."""
        far = ahead(self._gatherings.values())
        self._app.consumer.leave_alone(frozenset(TP(self._topics[log], number) for number, log in far))

    async def _say(self, report: Reported) -> None:
        if not later(report, self._last):
            return
        reached("monitor.before_send")
        self._last = report
        self.windows += 1
        record = Outgoing(self._verdicts, encode_verdict(report), None, 0)
        await self._app.producer.send_batch(self._sending, [record])
        reached("monitor.after_send")
        if report.alarm is not None:
            self._tell(report)

    def _tell(self, report: Reported) -> None:
        """Tell people of a change: whoever supervises this process, and the webhook."""
        self.news.append(line_of(report))
        logger.warning("%s", line_of(report))
        if self._webhook is not None:
            self._app.add_future(self._webhook.post(report))

    async def look(self) -> None:
        """Go on although nothing came, and keep what is known now and then."""
        await self._settle()
        async with self._lock:
            await self._go_on()
            self._pace()
            if self._gatherings and self._settings.probes:
                await self._prober.announce()
                await self._prober.look(self._watching.probing)
            if time.monotonic() - self._kept_s >= SNAPSHOT_S:
                await self._keep()

    async def _settle(self) -> None:
        """Ask how far the logs reach when somebody waits for what may never come."""
        asked_ms = self._app.producer.now_ms() - SKEW_MS
        gatherings = dict(self._gatherings)
        if not any(gathering.overdue(asked_ms) for gathering in gatherings.values()):
            return
        places = {TP(topic, number): log for number in gatherings for log, topic in self._topics.items()}
        try:
            bounds = await self._app.consumer.bounds(places)
        except KafkaException as error:  # nobody answers: what waits goes on waiting
            logger.warning("how far the logs reach is not known: %s", error.args[0])
            return
        for tp, (first, following) in bounds.items():
            gatherings[tp.partition].bounded(places[tp], first, following, asked_ms)

    async def keep(self) -> None:
        """Write the snapshot, at the end of this process."""
        async with self._lock:
            if self._gatherings:
                await self._keep()

    async def _keep(self) -> None:
        await self._app.producer.flush()
        if self._sending.pending:  # it is not said to be told before the broker has it
            return
        await self._app.producer.resolve_failures(self._sending)
        places = {number: gathering.places() for number, gathering in self._gatherings.items()}
        self._kept_s = time.monotonic()
        if places == self._kept:
            return
        try:
            self._file.write(places, self._watching)
        except OSError as error:
            logger.error("%s: no snapshot is kept: %s; the last one still counts", self._file.path, error.strerror)
            return
        self._kept = places

    def committable(self) -> Mapping[TP, Position]:
        """Where the snapshot goes on: it is what counts, and the group's own offsets follow it."""
        return {
            TP(topic, number): (int(getattr(places, log)), "")
            for number, places in self._kept.items()
            for log, topic in self._topics.items()
            if getattr(places, log) >= 0
        }

    def read_all(self) -> bool:
        """Whether every log was read to its end, as of the last fetch."""
        return all(
            self._app.consumer.highwater(TP(topic, number)) <= max(0, getattr(gathering.read_to(), log))
            for number, gathering in self._gatherings.items()
            for log, topic in self._topics.items()
        )

    def figures(self) -> Mapping[str, float]:
        """What the status line shows."""
        shown: dict[str, float] = {
            "verdicts": self.windows,
            "waiting": sum(one.waiting for one in self._gatherings.values()),
        }
        if self._settings.probes:
            shown["rounds of probes"] = self._prober.rounds
        if self.lost_snapshots:
            shown["snapshots lost"] = self.lost_snapshots
        if self._webhook is not None and self._webhook.failures:
            shown["alarms the webhook did not take"] = self._webhook.failures
        return shown


def attach(app: BatchApp, pipeline: Pipeline, monitor: Monitor) -> None:
    """Put the monitor's agent on the app."""
    topics = Topics(pipeline.name)
    monitor.open(app)

    @app.agent(app.topic(topics.raw, topics.scores, topics.decisions), name="monitor")
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
    seen = -1

    def looked() -> bool:
        nonlocal seen
        before, seen = seen, app.consumer.taken_records
        return before == seen and not monitor.read_all()

    return looked
