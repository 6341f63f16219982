"""A mistake in a pipeline: where, what is wrong, what to write instead."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}").fullmatch
CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*").fullmatch
PATH = re.compile(r"[^.\s]+(\.[^.\s]+)*").fullmatch


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to mend: where, what is wrong, what to write instead."""

    key: str
    wrong: str
    instead: str

    def __str__(self) -> str:
        """As the person who wrote the file reads it."""
        return f"{self.key}: {self.wrong}; {self.instead}"


def doubles(key: str, names: Iterable[str]) -> Iterator[Mistake]:
    """Each name that stands more than once."""
    for name, count in Counter(names).items():
        if count > 1:
            yield Mistake(key, f"{name!r} stands {count} times", "keep one, or rename")
