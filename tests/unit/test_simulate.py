"""Schedules over archived scores: the columns give the core's answers, and a sweep says what a budget costs."""

import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from schemas.blocks import NotAskedBlock, decode_scores, encode_scores, pack_offsets
from schemas.pipeline import Pipeline, Policy, RequestShape, Step
from streams.archive.segment import Record
from streams.candidate_file import only_models
from streams.core.answers import Answers, Names
from streams.core.past import Past, Way
from streams.core.simulate import Recorded, Said, answers, cannot
from tests.unit.lived import LEAD_MS, Lived, play
from tests.unit.small import pipeline

BASE = pipeline(request=RequestShape(budget_ms=200, repeat_s=1.0))
WORDS = ("champion", "challenger", "first", "second")
_steps = st.lists(
    st.tuples(st.sampled_from([0.05, 0.2, 1 / 3, 0.5, 0.6, 0.85]), st.sets(st.sampled_from(WORDS), min_size=1)),
    max_size=3,
    unique_by=lambda step: step[0],
)


@st.composite
def changed(draw: st.DrawFn) -> Pipeline:
    """A pipeline with other steps, another budget, and perhaps fewer models."""
    steps = [
        Step(until=until, accept=tuple(sorted(words))) for until, words in sorted(draw(_steps), key=lambda s: s[0])
    ]
    steps.append(Step(until=1.0, accept=("champion", "challenger")))
    of = replace(BASE, policy=Policy(steps=tuple(steps)))
    of = replace(of, request=replace(of.request, budget_ms=draw(st.sampled_from([1, 4, 7, 20, 37, 60, 200, 611]))))
    if draw(st.booleans()) and not any("second" in step.accept for step in steps):
        of = only_models(of, draw(st.sampled_from([("first", "mirror"), ("first",)])))
    return of


def lived(seed: int, count: int = 120) -> Lived:
    """Whole milliseconds collide, models fail and are passed over, requests repeat and name budgets."""
    dice = random.Random(seed)

    def latency(own: random.Random, _: str) -> float | None:
        chance = own.random()
        took = float(own.choice((1, 4, 12, 20, 30, 60, 120, 230)))
        return None if chance < 0.1 else -took if chance < 0.3 else took

    values = []
    for n in range(count):
        number = n // 2 if n % 7 == 0 else n
        named = f',"limits":{{"ms":{50 + number % 3}}}' if number % 5 == 0 else ""
        values.append(b"{" if n % 31 == 30 else f'{{"request_id":"r{number}","x":{number}{named}}}'.encode())
    found = play(BASE, values, seed, latency, rate=dice.choice((0.1, 1.0)))
    for record in found.raw[::9]:
        block = NotAskedBlock(("second", "mirror", "unknown"), pack_offsets([record.offset]), "overloaded")
        log_ms = record.timestamp_ms + dice.choice((0, 5, 40))
        found.scores.append(Record(0, log_ms, 1, None, encode_scores(block), None))
    found.scores.sort(key=lambda one: (one.timestamp_ms, dice.random()))
    found.scores = [replace(one, offset=place) for place, one in enumerate(found.scores)]
    return found


def by_core(ways: Sequence[Pipeline], found: Lived, names: Names) -> list[Answers]:
    past = Past(BASE, 0, [Way(str(place), way) for place, way in enumerate(ways)], LEAD_MS, names)
    past.run(iter(found.raw), iter(found.scores))
    return [variant.answered.rows(past.asked.offsets) for variant in past.variants]


def recorded(found: Lived, names: Names) -> Recorded:
    one = Recorded(BASE, names)
    for record in found.raw:
        one.request_seen(record.offset, record.timestamp_ms)
    for record in found.scores:
        one.scores_offered(record.offset, record.timestamp_ms, decode_scores(record.value))
    for record in found.decisions:
        one.decided(json.decode(record.value or b"", type=Said), record.timestamp_ms)
    return one


LIVES = {seed: lived(seed) for seed in range(8)}


@settings(max_examples=150, deadline=None)
@given(seed=st.sampled_from(sorted(LIVES)), way=changed())
def test_the_columns_give_the_answers_of_the_core(seed: int, way: Pipeline):
    found, names = LIVES[seed], Names()
    one = recorded(found, names)
    table = one.table(BASE.request.budget_ms)
    (core,) = by_core([way], found, names)
    if why := cannot(way, BASE, table, one.rejections, LEAD_MS):
        assert why == "a step ends within the time that an answer takes to leave"
        return
    columns = answers(way, BASE, table, LEAD_MS, names)
    for name in ("outcome", "model", "score", "used_ms"):
        ours, theirs = getattr(columns, name), getattr(core, name)
        wrong = np.flatnonzero(~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))))
        assert not len(wrong), (name, wrong[:5], ours[wrong][:5], theirs[wrong][:5])
