"""The monitor's telling: each verdict on its topic once, and each change to whoever is told of changes."""

import asyncio
import logging
from collections import deque

from agents.webhook import Webhook, line_of
from schemas.errors import UnreadableRecord
from schemas.pipeline import MonitorSettings
from schemas.verdicts import Alarm, Reported, decode_verdict, encode_verdict
from streams.core.watching import later
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

logger = logging.getLogger(__name__)


class Telling:
    """The last verdict that lies on the topic, and those that are on their way to it."""

    _app: BatchApp

    def __init__(self, topic: str, cluster: Cluster, settings: MonitorSettings) -> None:
        self._topic = topic
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
        if self._last is not None and self._last.alarm is not None:
            self._tell(self._last)

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

    def _tell(self, report: Reported) -> None:
        """Tell people of a change: whoever supervises this process, and the webhook.

        A reminder of long ago is none: after a pause, or when the broker's clock has jumped, there are many at once.
        """
        if report.alarm is Alarm.REMINDER and self._app.producer.now_ms() - report.said_at_ms > self._remind_ms:
            return
        self.news.append(line_of(report))
        logger.warning("%s", line_of(report))
        if self._webhook is not None:
            self._app.add_future(self._webhook.post(report))

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
