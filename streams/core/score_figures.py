"""What models did since the last verdict, in figures: with all requests, and with those of each declared segment.

Pure; probes are not counted.
"""

from collections.abc import Sequence

from schemas.pipeline import Pipeline, Role
from schemas.verdicts import ModelFigures, SegmentFigures
from streams.core.event_fields import OTHERS, as_segment
from streams.core.gathering import Gathered
from streams.core.group_figures import Group, deeds_of
from streams.core.latest import Latest
from streams.core.verdicts.confined import nearly_all

NEWEST = 10_000
"""Requests whose scores are remembered between two verdicts, of which there is one in 1,000."""

NEWEST_OF_PART = 1_000
"""The same, of those with one value of a declared field."""

MOST_VALUES = 20
"""Values of a declared field that are told apart; the rest are `OTHERS` together."""


class ScoreFigures:
    """Those of all models since the last verdict, and the same by the values of each declared field.

    Each version is by itself: one may take over from another in between. Which models there are is said by each
    request's own pipeline. Of a field the first values that ever came are told apart, so that what is told of one can
    be followed from window to window.
    """

    def __init__(self, segments: Sequence[str] = ()) -> None:
        self.whole = Group(NEWEST)
        self.values: dict[str, dict[str, None]] = {name: {} for name in segments}
        self.parts: dict[str, dict[str, Group]] = {name: {} for name in segments}

    def take(self, one: Gathered, pipeline: Pipeline) -> None:
        """One request that is no probe."""
        threshold = pipeline.promotion.threshold
        deeds = deeds_of(one, threshold)
        scores = one.scores
        beside = [(role, scores[name] >= threshold) for role, name in _yardsticks.of(pipeline) if name in scores]
        self.whole.take(one, deeds, beside)
        for name, groups in self.parts.items():
            value = self._value(name, one.fields.get(name))
            group = groups.get(value)
            if group is None:
                group = groups[value] = Group(NEWEST_OF_PART)
            group.take(one, deeds, beside)

    def _value(self, name: str, given: object) -> str:
        """What a value is called: itself while there are few, else one of the others."""
        value, known = as_segment(given), self.values[name]
        if value not in known:
            if len(known) >= MOST_VALUES:
                return OTHERS
            known[value] = None
        return value

    def where(self, model: str, kind: str) -> str | None:
        """The one value of a declared field at which nearly all of a model's answers are missing (`attendance`).

        None when they are missing elsewhere, too, or chance may have put them there.
        """
        total, asked = self.whole.missed(model, kind)
        found = []
        for name, groups in self.parts.items():
            for value, group in groups.items():
                count, of = group.missed(model, kind)
                if value != OTHERS and nearly_all(count, total, of / max(asked, 1)):
                    found.append((of, f"{name} is {value}"))
        return min(found)[1] if found else None  # the smallest says most

    def told(self) -> tuple[dict[str, ModelFigures], dict[str, dict[str, SegmentFigures]]]:
        """By "model version"; and by field and value. Begins anew."""
        segments = {
            name: {
                value: SegmentFigures(
                    requests=group.requests,
                    answers=dict(group.answers),
                    winners=dict(group.winners),
                    models=group.told(),
                )
                for value, group in sorted(groups.items(), key=lambda pair: -pair[1].requests)
            }
            for name, groups in self.parts.items()
        }
        whole, self.whole = self.whole.told(), Group(NEWEST)
        self.parts = {name: {} for name in self.parts}
        return whole, segments


def _beside(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Champion and canary, by role and name."""
    return [(str(one.role), one.name) for one in pipeline.models if one.role in (Role.CHAMPION, Role.CANARY)]


_yardsticks = Latest(_beside)
