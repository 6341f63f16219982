"""What is remembered between verdicts: where windows begin, what was deployed, and the trouble that goes on."""

from collections.abc import Iterable

from msgspec import Struct

from streams.core.verdicts.reference import BLOCK, WINDOW
from streams.core.verdicts.trouble import Trouble


class Bounds(Struct, frozen=True):
    """Where a window begins."""

    event: int
    at_ms: float


NEAR, AFTER = 10 * BLOCK * WINDOW, BLOCK * WINDOW
"""A deploy is near what began up to so many events after it, or before it: beginnings are known roughly."""


class Deploy(Struct, frozen=True):
    """A model's version changed before this event, or (`takeover` is false) it came, went, or became the champion."""

    event: int
    model: str
    before: str
    after: str
    takeover: bool = True

    def __str__(self) -> str:
        """As the sentence has it."""
        return f"{self.model} {self.before} -> {self.after} at event {self.event}"


def near(deploys: Iterable[Deploy], since_event: int) -> list[Deploy]:
    """Those near the beginning of something, the nearest first."""
    found = [one for one in deploys if -NEAR <= one.event - since_event <= AFTER]
    return sorted(found, key=lambda one: abs(one.event - since_event))


class Said(Struct, frozen=True):
    """A trouble that was said and goes on, so that it keeps its beginning."""

    trouble: Trouble
    since_event: int
    since_ms: int


MOST = 16
"""Troubles whose beginnings are remembered until all is quiet."""


def known(said: list[Said], trouble: Trouble) -> Said | None:
    """The one of these that says the same, the last one first."""
    return next((one for one in reversed(said) if one.trouble.same(trouble)), None)


def remembered(said: list[Said], before: Said | None, last: Said) -> list[Said]:
    """The same with this one as the last, in the place of what it was `before`."""
    return [*(one for one in said if one is not before), last][-MOST:]
