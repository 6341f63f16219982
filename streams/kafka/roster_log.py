"""The roster on Kafka: its history read, followed and added to, and what it comes to written beside it.

Whoever moves a model appends the move, reads the history back, and sees there whether it counts: the order of the log
decides between two who move at once, and every reader sees the same. Kafka needs no lock for that, and has none.
"""

import contextlib
import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.errors import ConfigurationRefused, KafkaUnreachable, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.roster import Began, Moved, Noted, Standing, decode_standing, definition_of, encode_roster
from schemas.topics import Topics
from streams.core.entitlement import History
from streams.core.moves import after
from streams.core.standings import TAKE_BACK, differing, standings
from streams.kafka.clients import Cluster
from streams.kafka.following import Folded
from streams.kafka.reading import TopicReader

CONFIRM_S = 10.0


class MoveRefused(ConfigurationRefused):
    """A move that may not be made from where the roster is, or that came second."""

    exit_code = 3


class RosterLog(Folded[History]):
    """The history of one pipeline's roster."""

    def __init__(self, cluster: Cluster, pipeline: Pipeline) -> None:
        topics = self._topics = Topics(pipeline.name)
        super().__init__(cluster, topics.roster_history, lambda: History(pipeline), _after)
        self._pipeline = pipeline

    def move(self, record: Moved) -> History:
        """Make a move and see that it counts; the first one writes down how the roster began.

        Raises MoveRefused when it may not be made, or when another was first; ConfigurationRefused as `agreed` does.
        """
        before = self.agreed()
        try:
            after(before.roster, record, self._pipeline, 0.0, before.position + 1)
        except UnreadableRecord as error:  # so that the history has no record of which one cannot say what it was
            raise MoveRefused(str(error)) from error
        if not before.begun:
            models = tuple(map(definition_of, self._pipeline.models))
            began = Began(models=models, who=record.who, at_ms=record.at_ms, why="the pipeline file")
            self._append(encode_roster(began))
        position = self._append(encode_roster(record))
        history = self.read()
        for refused, reason in history.refused:
            if refused == position:
                raise MoveRefused(reason)
        self._tell(history)
        return history

    def agreed(self) -> History:
        """Everything up to now; blocks.

        Raises ConfigurationRefused when by the pipeline file of now it comes to something else than when the moves
        were made.
        """
        told = self._standings()  # first: the history has then all that they tell of
        history = self.read()
        if reason := differing(history, told):
            raise ConfigurationRefused(
                f"{self._topics.roster}: {reason}. {TAKE_BACK}. A record there that another program wrote goes away "
                "with a null value under its key"
            )
        return history

    def _standings(self) -> list[Standing]:
        """The last word on each model; what is no standing says nothing of any."""
        found: dict[bytes | None, Standing] = {}
        with TopicReader(self._cluster, self._topics.roster) as reader:
            for message in reader.to_end():
                with contextlib.suppress(UnreadableRecord):
                    found[message.key()] = decode_standing(message.value())
        return list(found.values())

    def note(self, record: Noted) -> None:
        """Write down what befell a model. It is no move, and does not begin the roster."""
        self._append(encode_roster(record))
        history = self.read()
        if history.begun:  # before, nobody's standing is written
            self._tell(history)

    def _append(self, value: bytes) -> int:
        return self._send(self._topics.roster_history, {None: value})

    def _tell(self, history: History) -> None:
        """Write every model's standing: all of them, so that the last writer has said the last word on each."""
        values: dict[bytes | None, bytes] = {
            name.encode(): encode_roster(told) for name, told in standings(history).items()
        }
        self._send(self._topics.roster, values)

    def _send(self, topic: str, values: Mapping[bytes | None, bytes]) -> int:
        """Produce and see it confirmed; returns the last offset."""
        offsets: list[int] = []
        failed: list[KafkaError] = []

        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error)
            else:
                offsets.append(message.offset() or 0)

        producer = Producer(self._cluster.producer_settings())
        for key, value in values.items():
            producer.produce(topic, value, key, 0, on_delivery=report)
        deadline_s = time.monotonic() + CONFIRM_S
        while len(producer) and not failed and time.monotonic() < deadline_s:
            producer.poll(0.1)
        if failed:
            raise KafkaException(failed[0])
        if len(offsets) < len(values):
            producer.purge()
            raise KafkaUnreachable(
                f"{topic} has not confirmed within {CONFIRM_S:g} s; `rendezvous models ls` shows whether it was moved"
            )
        return max(offsets)


def _after(history: History, message: Message) -> History:
    history.take(message.value(), message.offset() or 0, message.timestamp()[1])
    return history
