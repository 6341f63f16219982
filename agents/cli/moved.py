"""Which models are and were in which role by when, for whoever reads the past: the archived history of the roster.

A way of answering that changes the models, or scores some itself, is run with the pipeline file's all the time: what
was moved while others were there says nothing of it. Any other changes nothing of who was there.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as with_changes

from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period
from streams.core.entitlement import History, Spans
from streams.core.past import Way
from streams.core.standings import TAKE_BACK, not_counting


def moved(root: Path, pipeline: Pipeline, ways: Sequence[Way]) -> list[Way]:
    """The same ways, each that has the pipeline's own models with the moves that were made of them.

    Raises ConfigurationRefused, as `history_of`.
    """
    history = history_of(root, pipeline)
    if history is None:
        return list(ways)
    return [
        replace(way, spans=_spans(history, way.pipeline))
        if way.pipeline.models == pipeline.models and not way.scored
        else way
        for way in ways
    ]


def history_of(root: Path, pipeline: Pipeline) -> History | None:
    """The archived moves; None where there are none.

    Raises ConfigurationRefused when by this pipeline file some of these moves would not count any more.
    """
    topic = Topics(pipeline.name).roster_history
    if not Layout(root, topic, 0).segments():
        return None
    history = History(pipeline)
    for record in read_period(root, topic, 0, Period()):
        history.take(record.value, record.offset, record.timestamp_ms)
    if reason := not_counting(history):
        raise ConfigurationRefused(f"{topic}: by this pipeline file {reason}. {TAKE_BACK}")
    return history


def as_moved(root: Path, pipeline: Pipeline) -> Pipeline:
    """The pipeline with the models that are asked after the archived moves, each in its role, its champion well.

    As it is where there are none. Raises ConfigurationRefused, as `history_of`.
    """
    history = history_of(root, pipeline)
    return history.roster.whole(pipeline) if history else pipeline


def _spans(history: History, of: Pipeline) -> Spans:
    found = history.spans.spans
    changed = tuple(replace(span, pipeline=with_changes(of, models=span.pipeline.models)) for span in found)
    return Spans(changed, history.spans.read)


def by_columns(way: Way) -> bool:
    """Whether one set of models answers all of it: the columns know no other."""
    return way.spans is None or [span.pipeline.models for span in way.spans.spans] == [way.pipeline.models]
