"""When answers flowed: the log times of requests and of their first final decisions, after something was broken."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from schemas.blocks import ScoreBlock, decode_scores, offsets_of
from schemas.decisions import Decision, decode_decision
from schemas.topics import Topics
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

GRACE_MS = 10

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """By ticket, on the broker's clock: when it was asked, when it was answered, and what."""

    asked_ms: dict[Place, int]
    answered_ms: dict[Place, int]
    answers: dict[Place, Decision]

    def of(self, places: Iterable[Place]) -> "Flow":
        """The same of these requests alone."""
        asked_ms = {place: self.asked_ms[place] for place in sorted(places)}
        answered_ms = {place: self.answered_ms[place] for place in asked_ms if place in self.answered_ms}
        return Flow(asked_ms, answered_ms, {place: self.answers[place] for place in answered_ms})

    @property
    def late_ms(self) -> list[float]:
        """How long after its deadline each answer was in the log; negative is before it."""
        return [
            at_ms - self.asked_ms[place] - self.answers[place].budget_ms for place, at_ms in self.answered_ms.items()
        ]

    @property
    def decided(self) -> int:
        """How many have an answer."""
        return len(self.answers)

    @property
    def late(self) -> int:
        """How many were answered too late."""
        return sum(ms > GRACE_MS for ms in self.late_ms)

    @property
    def worst_late_ms(self) -> float:
        """How late the latest was."""
        return max(self.late_ms, default=0.0)

    def again_s(self, since_ms: float) -> float:
        """How long after this moment a request that came after it had its answer, for the first time."""
        asked = (place for place, at_ms in self.asked_ms.items() if at_ms >= since_ms)
        return (min(self.answered_ms[place] for place in asked if place in self.answered_ms) - since_ms) / 1e3

    def in_time_s(self, since_ms: float) -> float:
        """How long after this moment the last request came that was answered late, of those that came after it."""
        late = [
            at_ms
            for place, at_ms in self.asked_ms.items()
            if at_ms >= since_ms
            and place in self.answered_ms
            and self.answered_ms[place] - at_ms > self.answers[place].budget_ms + GRACE_MS
        ]
        return (max(late, default=since_ms) - since_ms) / 1e3

    def longest_gap_s(self) -> float:
        """The longest time without an answer."""
        times = sorted(self.answered_ms.values())
        return max((late - early for early, late in pairwise(times)), default=0) / 1e3


def flow(cluster: Cluster, name: str) -> Flow:
    """Read raw and decisions to their ends."""
    found = Flow({}, {}, {})
    with TopicReader(cluster, Topics(name).raw) as reader:
        for message in reader.to_end():
            found.asked_ms[message.partition() or 0, message.offset() or 0] = message.timestamp()[1]
    with TopicReader(cluster, Topics(name).decisions) as reader:
        for message in reader.to_end():
            decision = decode_decision(message.value() or b"")
            place = (decision.ticket.partition, decision.ticket.offset)
            if decision.final and place not in found.answers:
                found.answers[place] = decision
                found.answered_ms[place] = message.timestamp()[1]
    return found


def score_ages_ms(cluster: Cluster, name: str, asked_ms: Mapping[Place, int]) -> dict[str, dict[Place, int]]:
    """By model: how old each request was when its score was in the log; a score that was written twice counts once."""
    found: dict[str, dict[Place, int]] = {}
    with TopicReader(cluster, Topics(name).scores) as reader:
        for message in reader.to_end():
            block = decode_scores(message.value())
            if isinstance(block, ScoreBlock):
                ages, partition = found.setdefault(block.model, {}), message.partition() or 0
                for offset in offsets_of(block.offsets):
                    place = (partition, offset)
                    ages.setdefault(place, message.timestamp()[1] - asked_ms[place])
    return found
