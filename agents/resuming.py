"""Where a desk reads on: raw at the low watermark of what is decided, the scores' place in the commit's metadata."""

from collections.abc import Mapping, Sequence

from confluent_kafka import TopicPartition
from faust.types import TP
from msgspec import Struct, json

from schemas.errors import UNREADABLE
from schemas.topics import Topics
from streams.core.rendezvous import Rendezvous
from streams.core.watermark import Checkpoint
from streams.kafka.edge import Position


class Resume(Struct, frozen=True):
    """The metadata of raw's commit: where its scores begin, and the log time before which all is decided."""

    scores: int
    at_ms: float = 0.0


class Resuming:
    """What one desk has committed, and commits."""

    def __init__(self, topics: Topics) -> None:
        self.since_ms: dict[int, float] = {}
        """By partition, the log time before which all was decided by an earlier life."""
        self._topics = topics

    def start(self, number: int, starts: Mapping[TP, int]) -> Checkpoint:
        """Where the core of a partition begins."""
        raw, scores = TP(self._topics.raw, number), TP(self._topics.scores, number)
        return Checkpoint(starts[raw], starts[scores], self.since_ms.get(number, 0.0))

    def committable(self, cores: Mapping[int, Rendezvous]) -> Mapping[TP, Position]:
        """Raw at the low watermark of requests without a confirmed decision, with the scores' place beside."""
        found: dict[TP, Position] = {}
        for number, core in cores.items():
            checkpoint = core.checkpoint()
            metadata = json.encode(Resume(checkpoint.scores, checkpoint.at_ms)).decode()
            found[TP(self._topics.raw, number)] = (checkpoint.raw, metadata)
            found[TP(self._topics.scores, number)] = (checkpoint.scores, "")
        return found

    def positions(self, committed: Sequence[TopicPartition]) -> Mapping[TP, int]:
        """Read scores from where the commit of raw says, not from where scores were read to."""
        found: dict[TP, int] = {}
        for place in committed:
            if place.topic == self._topics.raw and place.offset >= 0 and place.metadata:
                try:
                    resume = json.decode(place.metadata, type=Resume)
                except UNREADABLE:
                    continue
                found[TP(self._topics.scores, place.partition)] = resume.scores
                self.since_ms[place.partition] = resume.at_ms
        return found
