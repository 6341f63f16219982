"""labels + decisions -> tallies

Beside a bandit: holds labels against the scores of their requests and says how often each model was right. There is
one, since a label may lie in another partition than its request. Its last tally says what it has counted and where it
goes on; what it remembers of requests is read back from decisions.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import TopicPartition
from faust.types import TP

from schemas.pipeline import Pipeline
from schemas.tallies import Tally, encode_tally
from schemas.topics import Topics
from streams.core.learning import Learning
from streams.kafka.batch import Batch, Outgoing, Sending
from streams.kafka.clients import Cluster
from streams.kafka.edge import Position
from streams.kafka.reading import TopicReader
from streams.kafka.tally_log import TallyLog
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

logger = logging.getLogger(__name__)

TELL_S = 1.0
"""How often it looks whether there is a tally to tell, and at decisions when no label comes."""

CATCH_UP_S = 5.0
"""A label waits no longer for the decisions before it: the end of a transaction is shown to no reader."""


class Learner:
    """Counts by every label, and tells what it comes to."""

    def __init__(self, pipeline: Pipeline, cluster: Cluster) -> None:
        self._pipeline = pipeline
        self._cluster = cluster
        self._topics = Topics(pipeline.name)
        self._log = TallyLog(cluster, pipeline)
        self._decisions = TopicReader(cluster, self._topics.decisions)
        self._read: dict[int, int] = {}
        self._told: Tally | None = None
        self._learning: Learning | None = None
        self._lock = asyncio.Lock()
        self._sending = Sending()

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read labels on from where the last tally has counted them, whatever was committed; blocks."""
        self._learning = None  # it is made anew of what is there when reading begins
        self._told = self._log.read().last
        counted = self._told.labels if self._told else {}
        with TopicReader(self._cluster, self._topics.labels) as reader:
            bounds = reader.bounds()
        found = {}
        for place in committed:
            low, end = bounds[place.partition]
            following = counted.get(place.partition, low)
            if following > end:
                logger.error("%s ends before label %s, which was counted: was it made anew?", place.topic, following)
                following = low
            found[TP(place.topic, place.partition)] = max(low, following)
        return found

    async def begin(self, starts: Mapping[TP, int]) -> None:
        """Read back what is remembered: the last requests, and which of them had a label before."""
        async with self._lock:
            self._learning = await asyncio.to_thread(
                self._remembered, {tp.partition: at for tp, at in starts.items()}
            )

    def _remembered(self, starts: Mapping[int, int]) -> Learning:
        policy, told = self._pipeline.policy, self._told
        if told is not None:  # of a topic that was made anew, labels are counted from its beginning
            labels = {number: min(at, starts.get(number, at)) for number, at in told.labels.items()}
            told = Tally(counted=told.counted, labels=labels)
        learning = Learning(self._pipeline.labels.threshold, policy.remember, told)
        bounds = self._decisions.bounds()
        self._read = {number: max(low, end - policy.remember) for number, (low, end) in bounds.items()}
        self._decisions.start(self._read)
        self._catch_up(learning, within_s=float("inf"))
        with TopicReader(self._cluster, self._topics.labels) as reader:
            for message in reader.to_end():
                if (message.offset() or 0) < starts.get(message.partition() or 0, 0):
                    learning.recalled(message.value())
        return learning

    def _catch_up(self, learning: Learning, within_s: float = CATCH_UP_S) -> None:
        """Read the decisions that are there now: no label is older than its request's; blocks."""
        bounds = self._decisions.bounds()
        self._read = {number: max(low, self._read[number]) for number, (low, _) in bounds.items()}
        ends = {number: end for number, (_, end) in bounds.items()}
        deadline_s = time.monotonic() + within_s
        while any(self._read[number] < end for number, end in ends.items()) and time.monotonic() < deadline_s:
            for message in self._decisions.poll():
                learning.decided(message.value())
                self._read[message.partition() or 0] = (message.offset() or 0) + 1

    async def take(self, batch: Batch) -> None:
        """Count by a batch of labels."""
        async with self._lock:
            learning = self._learning
            if learning is None:
                return  # of an assignment that is over: it is read again
            await asyncio.to_thread(self._catch_up, learning)
            for message in batch.messages:
                learning.labelled(batch.partition, message.offset() or 0, message.value())
            reached("learner.after_read")

    async def tell(self, app: BatchApp) -> None:
        """Send a tally when there is one to tell and the broker has the one before; raises when it will not have it.

        Then the process ends, and the next one counts on from the last tally that is there.
        """
        async with self._lock:
            learning = self._learning
            await app.producer.resolve_failures(self._sending)
            if learning is None or self._sending.pending:
                return
            await asyncio.to_thread(self._catch_up, learning)
            tally = learning.due()
            if tally is None:
                return
            record = Outgoing(self._topics.tallies, encode_tally(tally), None, 0)
            await app.producer.send_batch(self._sending, [record])
            await app.producer.flush()
            reached("learner.after_send")

    def committable(self) -> Mapping[TP, Position]:
        """What is counted, as a figure of lag: where reading goes on is in the last tally."""
        labels = self._learning.labels if self._learning else {}
        return {TP(self._topics.labels, number): (at, "") for number, at in labels.items()}

    def figures(self) -> Mapping[str, float]:
        """What the status line shows."""
        learning = self._learning
        return {**learning.counts, "requests remembered": len(learning)} if learning else {}


def attach(app: BatchApp, pipeline: Pipeline, learner: Learner) -> None:
    """Put the learner's agent on the app."""

    @app.agent(app.topic(Topics(pipeline.name).labels), name="learner")
    async def at_work(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            await learner.take(batch)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, assigned: Iterable[TP], **__: Any) -> None:
        await learner.begin({tp: app.consumer.starts[tp] for tp in assigned})

    @app.task
    async def tell() -> None:
        while not app.should_stop:
            await asyncio.sleep(TELL_S)
            await learner.tell(app)
