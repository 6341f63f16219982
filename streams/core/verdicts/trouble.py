"""What is wrong, and with whom: two verdicts of one word may speak of two troubles, each with its own beginning."""

import re

from msgspec import Struct

from streams.core.verdicts.words import Verdict, Word

NAMED = frozenset((Word.CODE, Word.CANARY))
"""Words that name one model: another one is another trouble."""


RANGE = re.compile(r" is (from|above|below|[-.\d])")
"""A segment that is part of a number's range: it wavers with its neighbours, and is no place of its own."""


class Trouble(Struct, frozen=True):
    """The word, and the models, fields and segment that are meant, as far as they are known."""

    word: Word
    models: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    segment: str | None = None

    def same(self, other: "Trouble") -> bool:
        """Whether the other one may be this one again, seen a little otherwise.

        Of several fields or models that move together the strongest is not always the same: one in common is enough.
        What one of the two does not say is no difference.
        """
        if self.word is not other.word or (self.word in NAMED and self.models != other.models):
            return False
        if self.segment and other.segment and self.segment != other.segment:
            return False
        return _meet(self.models, other.models) and _meet(self.fields, other.fields)

    def refined(self, again: "Trouble") -> "Trouble":
        """The same, with what was not known of it before."""
        return Trouble(
            self.word, self.models or again.models, self.fields or again.fields, self.segment or again.segment
        )


def trouble_of(verdict: Verdict) -> Trouble:
    """What a verdict speaks of."""
    exact = verdict.confined or not RANGE.search(verdict.segment or "")
    segment = verdict.segment if verdict.segment and exact else None
    return Trouble(verdict.verdict, _names(verdict.model), _names(verdict.field), segment)


def _names(text: str | None) -> frozenset[str]:
    return frozenset(text.split(", ")) if text else frozenset()


def _meet(some: frozenset[str], others: frozenset[str]) -> bool:
    return not some or not others or bool(some & others)
