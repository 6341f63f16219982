"""What a bandit knew by when, for running the past again: the archived tallies, or what it would have learned.

A pipeline that was a bandit's has its tallies in the archive: those counted. For another, a bandit that is tried is
taken to have been switched on when the range begins: it learns by the archived labels and decisions, in the order of
their log times, as `agents.learner` does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge
from pathlib import Path

from schemas.pipeline import Pipeline, PolicyKind
from schemas.tallies import encode_tally
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.ranges import Period, read_period
from streams.archive.segment import Record
from streams.core.learned import NOTHING, Learned
from streams.core.learning import Learning
from streams.core.past import Way

TELL_MS = 1_000
"""As often as the learner looks."""


def taught(root: Path, pipeline: Pipeline, ways: Sequence[Way], period: Period) -> list[Way]:
    """The same ways, with what each bandit among them knew by when."""
    known: dict[int, Learned] = {}
    for way in ways:
        policy = way.pipeline.policy
        if policy.kind is PolicyKind.BANDIT and policy.remember not in known:
            known[policy.remember] = _archived(root, pipeline) or _learned(root, pipeline, period, policy.remember)
    return [
        replace(way, learned=known[way.pipeline.policy.remember])
        if way.pipeline.policy.kind is PolicyKind.BANDIT
        else way
        for way in ways
    ]


def _archived(root: Path, pipeline: Pipeline) -> Learned | None:
    topic = Topics(pipeline.name).tallies
    if not Layout(root, topic, 0).segments():
        return None
    learned = NOTHING
    for record in read_period(root, topic, 0, Period()):
        learned = learned.after(record.value, record.timestamp_ms)
    return learned


def _learned(root: Path, pipeline: Pipeline, period: Period, remember: int) -> Learned:
    topics, learned = Topics(pipeline.name), NOTHING
    learning, look_ms = Learning(pipeline.labels.threshold, remember), 0
    for log_ms, is_label, number, record in merge(
        *(_records(root, topics.decisions, 0, number, period) for number in range(pipeline.partitions)),
        *(_records(root, topics.labels, 1, number, period) for number in range(pipeline.partitions)),
        key=lambda found: found[:3],
    ):
        if log_ms >= look_ms:
            learned, look_ms = _looked(learning, learned, look_ms), log_ms + TELL_MS
        if is_label:
            learning.labelled(number, record.offset, record.value)
        else:
            learning.decided(record.value)
    return _looked(learning, learned, look_ms)


def _looked(learning: Learning, learned: Learned, at_ms: int) -> Learned:
    tally = learning.due()
    return learned.after(encode_tally(tally), at_ms) if tally else learned


def _records(
    root: Path, topic: str, is_label: int, number: int, period: Period
) -> Iterator[tuple[int, int, int, Record]]:
    for record in read_period(root, topic, number, period):
        yield record.timestamp_ms, is_label, number, record
