"""Which models were in which role by when, for running the past again: the archived history of the roster.

A way of answering that changes the models, or scores some itself, is run with the pipeline file's all the time: what
was moved while others were there says nothing of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period
from streams.core.entitlement import History
from streams.core.past import Way


def moved(root: Path, pipeline: Pipeline, ways: Sequence[Way]) -> list[Way]:
    """The same ways, each that has the pipeline's own models with the moves that were made of them."""
    return [
        replace(way, spans=history.spans)
        if way.pipeline.models == pipeline.models and not way.scored and (history := history_of(root, way.pipeline))
        else way
        for way in ways
    ]


def history_of(root: Path, pipeline: Pipeline) -> History | None:
    """The archived moves, as they count by this pipeline; None where there are none."""
    topic = Topics(pipeline.name).roster_history
    if not Layout(root, topic, 0).segments():
        return None
    history = History(pipeline)
    for record in read_period(root, topic, 0, Period()):
        history.take(record.value, record.offset, record.timestamp_ms)
    return history


def by_columns(way: Way) -> bool:
    """Whether one set of models answers all of it: the columns know no other."""
    return way.spans is None or [span.pipeline.models for span in way.spans.spans] == [way.pipeline.models]
