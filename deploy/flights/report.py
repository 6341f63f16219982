"""What the demo prints about a run: pure figures from decisions, times and labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.decisions import Decision
from schemas.pipeline import Pipeline
from streams.core.quality import quality

GRACE_MS = 10


@dataclass
class Run:
    """What was seen of one run, by ticket; times are log times of the broker (ms).

    `starts` are the ends of raw before it: decisions of earlier requests are not this run's.
    """

    sent: int = 0
    starts: Mapping[int, int] = field(default_factory=dict)
    raw_at_ms: dict[tuple[int, int], int] = field(default_factory=dict)
    decided_at_ms: dict[tuple[int, int], int] = field(default_factory=dict)
    decisions: dict[tuple[int, int], Decision] = field(default_factory=dict)
    second_finals: int = 0
    scores: dict[str, dict[tuple[int, int], float]] = field(default_factory=dict)

    def take(self, decision: Decision, log_ms: int) -> None:
        """The final decision of a ticket is the first one."""
        ticket = (decision.ticket.partition, decision.ticket.offset)
        if not decision.final or decision.ticket.offset < self.starts.get(decision.ticket.partition, 0):
            return
        if ticket in self.decisions:
            self.second_finals += 1
            return
        self.decisions[ticket] = decision
        self.decided_at_ms[ticket] = log_ms

    def latencies_ms(self) -> np.ndarray:
        """From raw's log time to the final decision's."""
        both = self.raw_at_ms.keys() & self.decided_at_ms.keys()
        return np.array([self.decided_at_ms[ticket] - self.raw_at_ms[ticket] for ticket in both], dtype=float)

    def lost(self) -> int:
        """Requests without a final decision."""
        return len(self.raw_at_ms.keys() - self.decisions.keys()) + max(0, self.sent - len(self.raw_at_ms))

    def on_time_share(self) -> float:
        """Decisions by budget + 10 ms."""
        on_time = [
            self.decided_at_ms[ticket] - self.raw_at_ms[ticket] <= decision.budget_ms + GRACE_MS
            for ticket, decision in self.decisions.items()
            if ticket in self.raw_at_ms
        ]
        return float(np.mean(on_time)) if on_time else 0.0

    def outcomes(self) -> Counter[str]:
        """How many were answered how."""
        return Counter(str(decision.outcome) for decision in self.decisions.values())

    def winners(self) -> Counter[str]:
        """How many each model answered."""
        return Counter(decision.model or "(nobody)" for decision in self.decisions.values())

    def quality(self, pipeline: Pipeline, labels: Mapping[str, bool]) -> list[tuple[str, str, int, float, float]]:
        """Model, role, rows, accuracy at 0.5 and AUC, over the requests that have score and label."""
        truth = {
            ticket: labels[decision.request_id]
            for ticket, decision in self.decisions.items()
            if decision.request_id in labels
        }
        rows = []
        for model in pipeline.models:
            found = self.scores.get(model.name, {})
            tickets = [ticket for ticket in found if ticket in truth]
            scores = np.array([found[ticket] for ticket in tickets])
            late = np.array([truth[ticket] for ticket in tickets], dtype=np.int8)
            one = quality(scores, late, np.ones(len(tickets)), 0.5)
            accuracy, area = (float("nan") if share is None else share for share in (one.accuracy, one.auc))
            rows.append((model.name, str(model.role), one.labelled, accuracy, area))
        return rows


def quantiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """p50, p99, p99.9 and the worst."""
    if not len(values):
        return dict.fromkeys(("p50", "p99", "p99.9", "worst"), float("nan"))
    found = np.quantile(values, [0.5, 0.99, 0.999, 1.0])
    return dict(zip(("p50", "p99", "p99.9", "worst"), map(float, found), strict=True))
