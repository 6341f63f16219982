"""The monitor's telling: each verdict on its topic once, and each change to whoever is told of changes.

An alarm that was taken is noted beside the snapshot: no restart tells it again. It counts as taken when the webhook
took it; where there is none, when whoever supervises this process has its line.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, json

from agents.webhook import Webhook, line_of
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.pipeline import MonitorSettings
from schemas.verdicts import Alarm, Reported, decode_verdict, encode_verdict
from streams.core.watching import later
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.transport import BatchApp
from streams.kill_points import reached
from streams.state_file import replace_file

logger = logging.getLogger(__name__)


class Taken(Struct, frozen=True):
    """The last alarm that people were told of."""

    watch: str
    window: int
    alarm: Alarm | None


def taken_of(report: Reported) -> Taken:
    """What names its alarm."""
    return Taken(report.watch, report.window, report.alarm)


class Telling:
    """The last verdict that lies on the topic, and those that are on their way to it; `noted` is its own file."""

    _app: BatchApp

    def __init__(self, topic: str, cluster: Cluster, settings: MonitorSettings, noted: Path) -> None:
        self._topic = topic
        self._noted = noted
        self._alarm: Reported | None = None
        self._cluster = cluster
        self._webhook = Webhook(settings.webhook, settings.webhook_s) if settings.webhook else None
        self._remind_ms = settings.remind_s * 1e3
        self._last: Reported | None = None
        self._sending = Sending()
        self.news: deque[str] = deque()
        self.windows = 0

    def open(self, app: BatchApp) -> None:
        """Send with this app from now on."""
        self._app = app

    async def begin(self) -> None:
        """Learn what was told last; who was killed may not have come to tell people of it."""
        self._last = await asyncio.to_thread(self._told_last)
        if self._last is None or self._last.alarm is None:
            return
        if await asyncio.to_thread(self._read_noted) != taken_of(self._last):
            self._tell(self._last)

    def _read_noted(self) -> Taken | None:
        """None when nothing is noted that can be read: then the last alarm is told once more."""
        try:
            return json.decode(self._noted.read_bytes(), type=Taken)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            logger.warning("%s: which alarm was taken last is not known: %s", self._noted, error)
            return None

    def _told_last(self) -> Reported | None:
        """The last record on `verdicts`; blocks."""
        with TopicReader(self._cluster, self._topic) as reader:
            ends = {number: max(low, end - 1) for number, (low, end) in reader.bounds().items()}
            last = None
            for message in reader.to_end(ends):
                try:
                    last = decode_verdict(message.value())
                except UnreadableRecord as error:
                    logger.warning("%s/%s: %s", self._topic, message.offset(), error)
            return last

    async def say(self, report: Reported) -> None:
        """Write it, unless it lies there: after a restart windows are judged again."""
        if not later(report, self._last):
            return
        reached("monitor.before_send")
        self._last = report
        self.windows += 1
        record = Outgoing(self._topic, encode_verdict(report), None, 0)
        await self._app.producer.send_batch(self._sending, [record])
        reached("monitor.after_send")
        if report.alarm is not None:
            self._tell(report)

    async def write(self, records: Sequence[Outgoing]) -> None:
        """Write what nobody is alarmed by; it is `confirmed` with the verdicts."""
        await self._app.producer.send_batch(self._sending, records)

    def _tell(self, report: Reported) -> None:
        """Tell people of a change: whoever supervises this process, and the webhook.

        A reminder of long ago is none: after a pause, or when the broker's clock has jumped, there are many at once.
        """
        if report.alarm is Alarm.REMINDER and self._app.producer.now_ms() - report.said_at_ms > self._remind_ms:
            return
        self._alarm = report
        self.news.append(line_of(report))
        logger.warning("%s", line_of(report))
        if self._webhook is not None:
            self._app.add_future(self._post(self._webhook, report))

    async def _post(self, webhook: Webhook, report: Reported) -> None:
        if await webhook.post(report) and report is self._alarm:  # a later one may have been taken before it
            self._note(report)

    def look(self) -> None:
        """Without a webhook: has the last alarm been taken by now?"""
        if self._webhook is None and self._alarm is not None and not self.news:
            self._note(self._alarm)

    def _note(self, report: Reported) -> None:
        self._alarm = None
        try:
            self._noted.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            replace_file(self._noted, self._noted.with_suffix(".tmp"), json.encode(taken_of(report)), mode=0o600)
        except OSError as error:
            logger.error("%s: %s; after a restart this alarm is told once more", self._noted, error.strerror)

    async def confirmed(self) -> bool:
        """Whether the broker has all that was said; waits for it."""
        await self._app.producer.flush()
        if self._sending.pending:
            return False
        await self._app.producer.resolve_failures(self._sending)
        return True

    @property
    def untold(self) -> int:
        """Alarms that the webhook did not take."""
        return self._webhook.failures if self._webhook is not None else 0
