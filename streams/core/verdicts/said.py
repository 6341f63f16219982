"""What is remembered between verdicts: where windows begin, what was deployed, and the trouble that goes on."""

from msgspec import Struct

from streams.core.verdicts.trouble import Trouble


class Bounds(Struct, frozen=True):
    """Where a window begins."""

    event: int
    at_ms: float


class Deploy(Struct, frozen=True):
    """A model's version changed before this event."""

    event: int
    model: str
    before: str
    after: str

    def __str__(self) -> str:
        """As the sentence has it."""
        return f"{self.model} {self.before} -> {self.after} at event {self.event}"


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
