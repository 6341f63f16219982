"""Labels held against the scores of their requests: how often each model was right. What a bandit learns by.

Of a request what counts is its first final decision: every model whose score stands in it had scored before the
answer left, and was right or wrong, whoever answered. Of its labels the last one counts, as everywhere: a correction
takes back what the one before has said. Reads no clock; what is remembered of requests is bounded.

Labels that were drawn (`streams.core.label_next`) weigh what they stand for, else a bandit would learn who is better
on disputed requests. Weights say in which proportion, not how much is known: the tally is that of so many equal
labels as would be as certain (Kish 1965: the square of the sum of weights over the sum of their squares).
"""

from collections import Counter, deque

from msgspec import Struct, json

from schemas.decisions import ScoreSeen, Ticket
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.labels import decode_label
from schemas.pipeline import ModelKey
from schemas.tallies import Counted, Tally

GROWN = 100
"""A tally is told when a hundredth of some model's labels is new, or corrected, since the last: a draw cannot feel
less, and the log of all tallies there ever were stays short (a few hundred records for each factor of ten)."""

Sides = tuple[tuple[ModelKey, bool], ...]
"""Each model that had scored, and whether it said yes."""


class _Said(Struct, frozen=True, gc=False):
    """What this needs of a decision; the rest is not decoded."""

    request_id: str
    ticket: Ticket
    final: bool
    scores: dict[str, ScoreSeen]
    duplicate_of: Ticket | None = None
    probe: bool = False


_decode = json.Decoder(_Said).decode


class Learning:
    """Takes decisions and labels, each in the order of its log, and tells what they come to.

    `before` is the last tally of an earlier life: its labels are counted, and only `recalled` to know which requests
    they spoke of. `remember` bounds the requests that a label can still speak of: the last so many.
    """

    def __init__(self, threshold: float, remember: int, before: Tally | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._threshold = threshold
        self._remember = remember
        self._requests: dict[Ticket, tuple[str, Sides]] = {}
        self._tickets: dict[str, Ticket] = {}
        self._order: deque[Ticket] = deque()
        self._truths: dict[Ticket, float] = {}
        self._same: dict[Sides, Sides] = {}
        self._next = dict(before.labels) if before else {}
        self._sums = {(one.model, one.version): list(_sums(one)) for one in before.counted} if before else {}
        self._told = self._weighed()
        self._moved: dict[ModelKey, float] = {}

    def __len__(self) -> int:
        """Requests that are remembered."""
        return len(self._requests)

    @property
    def labels(self) -> dict[int, int]:
        """The next offset of each partition of labels that was read."""
        return dict(sorted(self._next.items()))

    def decided(self, value: bytes | None) -> None:
        """A record of decisions. What is no decision, not final, second, a repeat's or a probe's, teaches nothing."""
        try:
            said = _decode(value or b"")
        except UNREADABLE:
            return
        if not said.final or said.duplicate_of is not None or said.probe or not said.scores:
            return
        if said.ticket in self._requests:
            return
        sides: Sides = tuple(
            ((model, seen.version), seen.score >= self._threshold) for model, seen in sorted(said.scores.items())
        )
        self._requests[said.ticket] = said.request_id, self._same.setdefault(sides, sides)
        self._tickets[said.request_id] = said.ticket
        self._order.append(said.ticket)
        if len(self._order) > self._remember:
            self._forget(self._order.popleft())

    def _forget(self, ticket: Ticket) -> None:
        request_id, _ = self._requests.pop(ticket)
        self._truths.pop(ticket, None)
        if self._tickets.get(request_id) == ticket:
            del self._tickets[request_id]

    def recalled(self, value: bytes | None) -> None:
        """A label that an earlier life has counted."""
        found = self._found(value)
        if found is not None:
            self._truths[found[0]] = found[1]

    def labelled(self, partition: int, offset: int, value: bytes | None) -> None:
        """A record of labels; one that was taken before changes nothing."""
        if offset < self._next.get(partition, 0):
            return
        self._next[partition] = offset + 1
        found = self._found(value)
        if found is None:
            self.counts["labels for nobody known, or none"] += 1
            return
        self.counts["labels"] += 1
        ticket, said = found
        before = self._truths.get(ticket)
        if before == said:
            return
        self._truths[ticket] = said
        for key, yes in self._requests[ticket][1]:
            sums = self._sums.setdefault(key, [0.0, 0.0, 0.0])
            if before is not None:
                sums[yes is not (before > 0)] -= abs(before)
                sums[2] -= before * before
            sums[yes is not (said > 0)] += abs(said)
            sums[2] += said * said
            self._moved[key] = self._moved.get(key, 0.0) + abs(said)

    def _found(self, value: bytes | None) -> tuple[Ticket, float] | None:
        """Whose label it is, of the requests that are remembered, and what it says: its weight, minus it for no."""
        try:
            label = decode_label(value)
        except UnreadableRecord:
            return None
        ticket = label.ticket or self._tickets.get(label.request_id or "")
        if ticket is None or ticket not in self._requests:
            return None
        if label.request_id not in (None, self._requests[ticket][0]):
            return None  # its ticket is another request's
        return ticket, label.weight if label.truth else -label.weight

    def due(self) -> Tally | None:
        """A tally, when there is more to tell than the last one told."""
        if not any(moved * GROWN > self._told.get(key, 0.0) for key, moved in self._moved.items()):
            return None
        self._moved.clear()
        self._told = self._weighed()
        counted = tuple(_counted(key, *sums) for key, sums in sorted(self._sums.items()))
        return Tally(counted=counted, labels=self.labels)

    def _weighed(self) -> dict[ModelKey, float]:
        return {key: right + wrong for key, (right, wrong, _) in self._sums.items()}


def _counted(key: ModelKey, right: float, wrong: float, squares: float) -> Counted:
    """What the sums come to in labels that weigh one."""
    total = right + wrong
    if squares == total:  # each weighs one
        return Counted(*key, round(right), round(wrong))
    worth = total / squares if squares > 0 else 0.0
    return Counted(*key, round(right * worth), round(wrong * worth), (right, wrong, squares))


def _sums(one: Counted) -> tuple[float, float, float]:
    return one.sums or (float(one.right), float(one.wrong), float(one.right + one.wrong))
