"""Requests answered by the live core itself, from columns: the few of a simulation that columns cannot do.

By a schedule each request is answered by its own events alone: some can be run without the others, and without their
records. Nothing but budget and times is known of them, so no policy that looks at the event may come here.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf

import numpy as np

from schemas.blocks import NotAskedBlock, Offsets, RowError, ScoreBlock, ScoresBlock, pack_offsets, pack_scores
from schemas.pipeline import Pipeline
from schemas.requests import Headers, Request
from streams.core.answers import Answered, Answers, Names
from streams.core.log_order import LogOrder
from streams.core.pending import Reply
from streams.core.recorded import Table, Times
from streams.core.rendezvous import Rendezvous
from streams.core.validator import minted
from streams.core.watermark import Checkpoint

PART = 10_000
"""So many at a time: a decision is a large object."""

REFINE: Headers = [("refine", b"1")]


def one_by_one(
    pipeline: Pipeline, table: Table, rows: Offsets, budgets: Offsets, lead_ms: float, names: Names
) -> Answers:
    """The answers of these rows of a table; `budgets` (ms) are those of all its rows."""
    answered = Answered(names)
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        for reply in _run(pipeline, table, part, budgets, lead_ms):
            answered.take(reply.decision, reply.decision.used_ms)
    return answered.rows(table.offsets[rows])


def _run(pipeline: Pipeline, table: Table, rows: Offsets, budgets: Offsets, lead_ms: float) -> list[Reply]:
    core = Rendezvous(pipeline, 0, Checkpoint(int(table.offsets[rows[0]]), 0), lead_ms)
    order = LogOrder(core)
    columns = (table.offsets[rows], table.at_ms[rows], budgets[rows], table.refined[rows])
    order.requests_seen(
        # Ids that nobody repeats: what repeats another request is no business of the core here.
        Request(offset, minted(0, offset), at_ms, budget_ms, None, REFINE if refined else None, None, b"")
        for offset, at_ms, budget_ms, refined in zip(*(column.tolist() for column in columns), strict=True)
    )
    for position, log_ms, block in sorted(_blocks(pipeline, table, rows), key=lambda one: one[0]):
        order.scores_offered(log_ms, partial(core.scores_offered, block, position, log_ms))
    order.close("raw", "scores")
    return order.run() + order.through(inf)


def _blocks(pipeline: Pipeline, table: Table, rows: Offsets) -> Iterator[tuple[int, int, ScoresBlock]]:
    """Position, log time and block of everything that lies on scores about these rows, a block for each."""
    versions = {model.name: model.version for model in pipeline.models}

    def scored(model: str, offset: int, score: float) -> ScoresBlock:
        return ScoreBlock(model, versions[model], pack_offsets([offset]), pack_scores([score]))

    def failed(model: str, offset: int, _: float) -> ScoresBlock:
        return ScoreBlock(model, versions[model], b"", b"", (RowError(offset, "no score"),))

    def not_asked(model: str, offset: int, _: float) -> ScoresBlock:
        return NotAskedBlock((model,), pack_offsets([offset]), "passed over")

    for made, source in ((scored, table.scores), (failed, table.failed), (not_asked, table.not_asked)):
        for model in versions.keys() & source.keys():
            yield from _of_model(partial(made, model), table.offsets, rows, source[model])


def _of_model(
    made: Callable[[int, float], ScoresBlock], offsets: Offsets, rows: Offsets, times: Times
) -> Iterator[tuple[int, int, ScoresBlock]]:
    scores, log_ms, positions = times
    some = rows[~np.isnan(scores[rows])]
    columns = (positions[some], log_ms[some], offsets[some], scores[some])
    for position, at_ms, offset, score in zip(*(column.tolist() for column in columns), strict=True):
        yield position, at_ms, made(offset, score)
