"""Wait for the best until the deadline: the budget is there to be used."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Best:
    """Of this order the most wanted that has come by the deadline; at once when nobody better can come."""

    order: tuple[str, ...]
    title: str = "the most wanted"

    def choose(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """Everybody ahead has failed, or the deadline is here."""
        for model in self.order:
            if model in scores:
                return model
            if share < 1 and model not in out:
                return None
        return None

    def offer(self, share: float, scores: Collection[str], out: Collection[str]) -> str | None:
        """The best so far."""
        return next((model for model in self.order if model in scores), None)

    def settled(self, model: str, scores: Collection[str], out: Collection[str]) -> bool:
        """When all that go before it are out."""
        return all(other in out for other in self.order[: self.order.index(model)])

    def rank(self, model: str, scores: Collection[str]) -> int:
        """Its place in the order; behind all of it when an earlier policy has chosen it."""
        return self.order.index(model) if model in self.order else len(self.order)

    @property
    def wanted(self) -> str:
        """The first of the order."""
        return self.order[0]

    @property
    def enough(self) -> int:
        """One may do."""
        return 0

    @property
    def first_change(self) -> float:
        """The deadline."""
        return 1.0

    def hopeless(self, out: Collection[str]) -> bool:
        """When all of the order are out."""
        return bool(out) and all(model in out for model in self.order)

    def next_change(self, share: float) -> float:
        """The deadline: time alone changes nothing before it."""
        return 1.0
