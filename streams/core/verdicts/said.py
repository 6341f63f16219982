"""What is remembered between verdicts: where windows begin, what was deployed, and the trouble that goes on."""

from msgspec import Struct

from streams.core.verdicts.cause import Finding
from streams.core.verdicts.words import Word


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
    """The last alarm, so that the same trouble keeps its beginning."""

    word: Word
    models: list[int]
    since_event: int
    since_ms: int

    def same(self, finding: Finding) -> bool:
        """Whether a finding says it again."""
        named = finding.word in (Word.CODE, Word.CANARY)
        return self.word is finding.word and (not named or self.models == finding.models)
