"""What an agent sees: a stream of batches.

Iterating asks for the next batch, and asking for the next is what finishes the one in hand. An iterator object
instead of Faust's generator: nothing is acknowledged when the agent raises, and nothing is left to the
garbage collector.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from faust.streams import Stream
from faust.topics import Topic

from streams.kafka.batch import Batch


class Inbox:
    """Batches on their way to one agent, and the one in its hands."""

    def __init__(self) -> None:
        self._waiting: deque[Batch] = deque()
        self._arrived = asyncio.Event()
        self.in_hand: Batch | None = None

    def put(self, batch: Batch) -> None:
        """Hand a batch to the agent, after those that wait."""
        self._waiting.append(batch)
        self._arrived.set()

    def put_back(self, batches: list[Batch]) -> None:
        """Hand batches to the agent before all that wait: they are tried again in their place."""
        self._waiting.extendleft(reversed(batches))
        self._arrived.set()

    def drain(self) -> list[Batch]:
        """Take back what waits: it is read again, here or elsewhere."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def get(self) -> Batch:
        """Wait for the next batch."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        self.in_hand = self._waiting.popleft()
        return self.in_hand


class BatchTopic(Topic):
    """A Faust topic whose agents are handed batches.

    The agent iterates a clone of the topic it was declared with; every clone has an inbox of its own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inbox = Inbox()


class BatchStream(Stream[Batch]):
    """A Faust stream over batches."""

    def __aiter__(self) -> AsyncIterator[Batch]:
        """Iterate over batches; a second call (the agent was started again) goes on where the first was."""
        return _Batches(self)

    @property
    def inbox(self) -> Inbox:
        """Where the consumer puts this stream's batches."""
        channel = self.channel
        if not isinstance(channel, BatchTopic):
            raise TypeError(f"{channel!r} is no topic of this transport")
        return channel.inbox


class _Batches(AsyncIterator[Batch]):
    """The agent's side of the inbox."""

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream
        self._inbox = stream.inbox
        self._consumer = stream.app.consumer
        self._since_turn = 0

    async def __anext__(self) -> Batch:
        if not self._stream.started:
            await self._stream.maybe_start()
        in_hand, self._inbox.in_hand = self._inbox.in_hand, None
        if in_hand is not None:
            self._consumer.taken(in_hand)
        # The loop gets a turn although the inbox is never empty: timers and delivery reports live there.
        self._since_turn += 1
        if self._since_turn % 4 == 0:
            await asyncio.sleep(0)
        while True:
            batch = await self._inbox.get()
            if batch.generation == self._consumer.generation:
                return batch
