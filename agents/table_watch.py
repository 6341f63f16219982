"""What the router knows of the tables: all of them before it takes raw, and every record as it comes."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from confluent_kafka import Message

from schemas.errors import UnreadableRecord
from schemas.topics import Topics
from streams.core.enrichment import Enrichment
from streams.kafka.clients import Cluster
from streams.kafka.following import follow
from streams.table_file import TableFile

logger = logging.getLogger(__name__)


class TableWatch:
    """Keeps an enrichment's tables as their topics are.

    A thread follows each; no consumer group does, since every router has to read all of it. The tables themselves are
    touched on the event loop alone. Those that have one of the `files` are read on from where that is.
    """

    def __init__(
        self,
        pipeline: str,
        enrichment: Enrichment,
        cluster: Cluster,
        died: Callable[[Exception], None],
        files: Mapping[str, TableFile] = MappingProxyType({}),
    ) -> None:
        self.refused: Counter[str] = Counter()
        self._topics = Topics(pipeline)
        self._enrichment = enrichment
        self._cluster = cluster
        self._died = died
        self._files = files
        self._whole: dict[str, asyncio.Event] = {}

    async def begin(self) -> None:
        """Follow the tables, and wait until everything is read that was there when that began."""
        loop = asyncio.get_running_loop()
        for name in self._enrichment.tables:
            if name not in self._whole:
                self._whole[name] = asyncio.Event()
                threading.Thread(target=self._follow, args=(name, loop), daemon=True).start()
        for whole in self._whole.values():
            await whole.wait()

    def figures(self) -> Mapping[str, float]:
        """What the status line shows of each table."""
        shown: dict[str, float] = {}
        for name, table in self._enrichment.tables.items():
            shown[f"{name} records"] = table.records
            shown[f"without {name}"] = table.missing
            shown |= {f"{name} refused": self.refused[name]} if self.refused[name] else {}
        return shown

    def _follow(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        def told(messages: Sequence[Message], whole: bool) -> None:  # noqa: FBT001  a listener's own signature
            # Waited for: a thread that reads ahead of the loop would fill the memory with what it has read.
            asyncio.run_coroutine_threadsafe(self._take(name, messages, whole=whole), loop).result()

        file = self._files.get(name)
        known = {0: file.kept.following} if file and file.kept else {}
        if known:
            logger.info("%s: %s goes on from %s", self._topics.table(name), file.path if file else "", known[0])
        try:
            follow(self._cluster, self._topics.table(name), told, threading.Event(), known)
        except Exception as error:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._died, error)

    async def _take(self, name: str, messages: Sequence[Message], *, whole: bool) -> None:
        table = self._enrichment.tables[name]
        for message in messages:
            try:
                table.take(message.key(), message.value(), message.timestamp()[1])
            except UnreadableRecord as error:
                self._refuse(name, message, error)
        file = self._files.get(name)
        if file and messages:
            file.commit((messages[-1].offset() or 0) + 1, table.standing(), time.time())
        if whole:
            self._whole[name].set()

    def _refuse(self, name: str, message: Message, error: UnreadableRecord) -> None:
        self.refused[name] += 1
        if self.refused[name] == 1:
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            logger.warning(
                "%s: passed over, what was known of key %r stays: %s (said once; further ones are counted)",
                place,
                (message.key() or b"")[:64],
                error,
            )
