"""What `backtest` and `simulate` share: the range, the labels, the archive read through every way of answering."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import inf
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from agents.cli.moved import moved
from agents.cli.taught import taught
from agents.cli.when import instant
from schemas.blocks import Matrix, Offsets
from schemas.decisions import Decision, decode_decision
from schemas.errors import ConfigurationRefused, NothingInRange, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.ranges import Period, iso, read_period, require, times_held
from streams.archive.segment import Record
from streams.core.answers import NOBODY, Answered, Answers, Names
from streams.core.labels import Labels
from streams.core.past import Past, Way, needs_enriched
from streams.core.quality import Truth

HAPPENED, UNCHANGED = "happened", "unchanged"
"""What was answered, and what the pipeline as it is answers when it is run again."""

DECISIONS_AFTER_MS = 600_000
"""How long after the range decisions are looked for: a rendezvous that was away decides late."""


def told_apart(names: Iterable[str]) -> list[str]:
    """Names of ways that are tried, in their order, each its own, and none that of what is always there."""
    taken = [HAPPENED, UNCHANGED]
    for name in names:
        own = name
        while own in taken:
            own += "'"
        taken.append(own)
    return taken[2:]


class Moment(click.ParamType):
    """A time of the log, as `agents.cli.when` reads it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds since the epoch."""
        return value if isinstance(value, int) else instant(str(value), f"--{param.name}" if param else "time")


def period_of(since: int | None, until: int | None) -> Period:
    """The range of a command; raises UsageError when it ends before it starts."""
    try:
        return Period(since, until)
    except ConfigurationRefused as error:
        raise click.UsageError(str(error)) from error


def reaching(period: Period, until_ms: int) -> Period:
    """From where a period begins up to a log time, and never nothing.

    The last request that is read may be one of before the period: its partition has been idle since.
    """
    return Period(period.since_ms, max(until_ms, (period.since_ms or 0) + 1))


@dataclass
class Seen:
    """Every request of a range, and what each way of answering made of it; rows are equal in all columns.

    `weight` is how many requests each one's label stands for.
    """

    period: Period
    partitions: Offsets = field(default_factory=lambda: np.zeros(0, np.int64))
    offsets: Offsets = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: list[str] = field(default_factory=list)
    at_ms: Offsets = field(default_factory=lambda: np.zeros(0, np.int64))
    budgets_ms: Offsets = field(default_factory=lambda: np.zeros(0, np.int64))
    truth: Truth = field(default_factory=lambda: np.zeros(0, np.int8))
    weight: Matrix = field(default_factory=lambda: np.zeros(0))
    names: Names = field(default_factory=Names)
    happened: Answers | None = None
    ways: dict[str, Answers] = field(default_factory=dict)
    scores: dict[str, Matrix] = field(default_factory=dict)
    own: dict[str, dict[str, Matrix]] = field(default_factory=dict)
    left_out: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def read_past(
    root: Path, pipeline: Pipeline, ways: Sequence[Way], period: Period, labels: Labels | None, lead_ms: float
) -> Seen:
    """Run the range through every way; raises what is wrong with the archive, naming file and range."""
    topics = Topics(pipeline.name)
    numbers = require(root, topics.raw, pipeline.partitions)
    require(root, topics.scores, pipeline.partitions)
    seen = Seen(period)
    ways = moved(root, pipeline, taught(root, pipeline, ways, period))
    parts = [_partition(root, pipeline, number, ways, seen, lead_ms) for number in numbers]
    return join(root, pipeline, seen, parts, labels)


@dataclass
class Part:
    """One partition's rows."""

    number: int
    offsets: Offsets
    ids: list[str]
    at_ms: Offsets
    budgets_ms: Offsets
    happened: Answers
    ways: dict[str, Answers]
    scores: dict[str, Matrix]
    own: dict[str, dict[str, Matrix]]
    probes: NDArray[np.bool_] | None = None

    def cut(self, seen: Seen, scores_end_ms: int, enriched_end: float = inf) -> "Part":
        """Only what lies in the range and was answered before what is archived beside raw ends; no probes."""
        rows = self.at_ms >= (seen.period.since_ms or 0)
        if self.probes is not None:
            rows &= ~self.probes
        whole = _complete(self.at_ms, list(self.ways.values()), scores_end_ms)
        whole &= self.offsets <= enriched_end
        seen.left_out += int((rows & ~whole).sum())
        rows &= whole
        return Part(
            self.number,
            self.offsets[rows],
            list(compress(self.ids, rows)),
            self.at_ms[rows],
            self.budgets_ms[rows],
            self.happened.only(rows),
            {name: answers.only(rows) for name, answers in self.ways.items()},
            {name: column[rows] for name, column in self.scores.items()},
            {way: {name: column[rows] for name, column in own.items()} for way, own in self.own.items()},
        )


def _partition(
    root: Path, pipeline: Pipeline, number: int, ways: Sequence[Way], seen: Seen, lead_ms: float
) -> Part | None:
    past = through_core(root, pipeline, number, ways, seen, lead_ms)
    if not past.variants:
        return None
    seen.counts.update(past.counts)
    offsets, probes = past.asked.offsets, set[int]()
    return Part(
        number,
        offsets,
        past.asked.ids,
        past.asked.at_ms,
        past.asked.budgets_ms,
        live_answers(root, Topics(pipeline.name).decisions, number, seen.period, past, seen.names, probes),
        {variant.way.name: variant.answered.rows(offsets) for variant in past.variants},
        {name: column.rows(offsets)[0] for name, column in past.scores.items()},
        {
            variant.way.name: {name: column.rows(offsets)[0] for name, column in variant.own_scores.items()}
            for variant in past.variants
        },
        np.isin(offsets, list(probes)),
    ).cut(seen, past.scores_end_ms, past.enriched_end)


def through_core(
    root: Path, pipeline: Pipeline, number: int, ways: Sequence[Way], seen: Seen, lead_ms: float
) -> Past:
    """One partition's range through the core, in every way."""
    topics, period = Topics(pipeline.name), seen.period
    before_ms = horizon_ms(pipeline, ways)
    past = Past(pipeline, number, ways, lead_ms, seen.names)
    following = Period(period.since_ms)
    past.run(
        read_period(root, topics.raw, number, period, before_ms),
        read_period(root, topics.scores, number, following, before_ms),
        read_period(root, topics.enriched, number, following, before_ms) if needs_enriched(pipeline, ways) else (),
    )
    for variant in past.variants:
        seen.counts[f"blocks not trusted by {variant.way.name}: another version of a model?"] += variant.untrusted
    return past


def horizon_ms(pipeline: Pipeline, ways: Sequence[Way]) -> int:
    """What lies before the range is read so far back that a repeat finds its first."""
    return int(1e3 * max(one.request.repeat_s for one in (pipeline, *(way.pipeline for way in ways))))


def _complete(at_ms: Offsets, answers: Sequence[Answers], scores_end_ms: int) -> np.ndarray:
    """Rows before the first that is decided, in any way, after the end of the archived scores."""
    open_ = np.zeros(len(at_ms), dtype=bool)
    for one in answers:
        open_ |= ~(at_ms + one.used_ms <= scores_end_ms)
    whole = np.ones(len(at_ms), dtype=bool)
    if open_.any():
        whole[int(open_.argmax()) :] = False
    return whole


def live_answers(
    root: Path, topic: str, number: int, period: Period, past: Past, names: Names, probes: set[int]
) -> Answers:
    """What really happened: archived decisions; time used is that to the decision's log time.

    The offsets of the monitor's probes are added to `probes`.
    """
    answered = Answered(names)
    for record, decision in live_decisions(root, topic, number, period, past.raw_end_ms):
        answered.take(decision, record.timestamp_ms)
        if decision.probe:
            probes.add(decision.ticket.offset)
    rows = answered.rows(past.asked.offsets)
    return Answers(rows.outcome, rows.model, rows.score, rows.used_ms - past.asked.at_ms)


def live_decisions(
    root: Path, topic: str, number: int, period: Period, raw_end_ms: int, before_ms: int = 0
) -> Iterator[tuple[Record, Decision]]:
    """Archived decisions of a range, in the order of their log; nothing when none are archived."""
    for record in read_period(root, topic, number, reaching(period, raw_end_ms + DECISIONS_AFTER_MS), before_ms):
        try:
            yield record, decode_decision(record.value or b"")
        except UnreadableRecord:
            continue


def join(root: Path, pipeline: Pipeline, seen: Seen, found: Sequence[Part | None], labels: Labels | None) -> Seen:
    """Put the partitions one after the other; raises ConfigurationRefused when they hold nothing of the range."""
    parts = [part for part in found if part is not None and part.ids]
    topic = Topics(pipeline.name).raw
    if not parts and seen.left_out:
        raise ConfigurationRefused(
            f"{root}: what is archived beside raw ends before the first of {seen.left_out} requests in {seen.period} "
            "is answered; wait until the archiver has closed its file, or choose an earlier range"
        )
    if not parts:
        numbers = range(pipeline.partitions)
        raise NothingInRange(f"{root}: no request of {topic} in {seen.period}; {held(root, topic, numbers)}")
    for part in parts:
        seen.ids += part.ids
    seen.partitions = np.concatenate([np.full(len(part.ids), part.number) for part in parts])
    seen.offsets = np.concatenate([part.offsets for part in parts])
    seen.at_ms = np.concatenate([part.at_ms for part in parts])
    seen.budgets_ms = np.concatenate([part.budgets_ms for part in parts])
    seen.truth, seen.weight = _truth(root, pipeline, seen, labels)
    happened = Answers.joined([part.happened for part in parts])
    seen.happened = happened if (happened.outcome != NOBODY).any() else None
    seen.ways = {name: Answers.joined([part.ways[name] for part in parts]) for name in parts[0].ways}
    seen.scores = _joined([part.scores for part in parts], parts)
    seen.own = {name: _joined([part.own[name] for part in parts], parts) for name in parts[0].own}
    return seen


def _truth(root: Path, pipeline: Pipeline, seen: Seen, labels: Labels | None) -> tuple[Truth, Matrix]:
    """By the labels that are given, else by those that are archived; and what each of them stands for."""
    given = read_labels_topic(root, pipeline, seen.period) if labels is None else labels
    found = given.join(seen.partitions, seen.offsets, seen.ids, seen.at_ms)
    return found.truth, found.weight


def read_labels_topic(root: Path, pipeline: Pipeline, period: Period) -> Labels:
    """Archived labels from the beginning of the period on: none is older than its request."""
    labels, topic = Labels(), Topics(pipeline.name).labels
    for number in range(pipeline.partitions):
        for record in read_period(root, topic, number, Period(period.since_ms), DECISIONS_AFTER_MS):
            labels.take(number, record.offset, record.timestamp_ms, record.value)
    return labels


def _joined(columns: Sequence[Mapping[str, Matrix]], parts: Sequence[Part]) -> dict[str, Matrix]:
    models = sorted({model for column in columns for model in column})
    return {
        model: np.concatenate(
            [column.get(model, np.full(len(part.ids), np.nan)) for column, part in zip(columns, parts, strict=True)]
        )
        for model in models
    }


def held(root: Path, topic: str, numbers: Sequence[int]) -> str:
    """The times an archive holds of a topic, as a sentence."""
    found = times_held(root, topic, numbers)
    return f"it holds {iso(found[0])} to {iso(found[1])}" if found else "it holds none at all"
