"""Comparisons as a table that SQL can read: one row per request, what every model said of it as a list in the row."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.decisions import Decision, TraceStep
from streams.archive.derived import write_derived
from streams.core.comparison import Comparison

GROUP = 4_096
"""Rows that are held at a time, and lie together in the file."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


ANSWER = [
    pa.field("outcome", pa.string()),
    pa.field("winner", pa.string()),
    pa.field("version", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("used_ms", pa.float64()),
]
SAID = pa.struct(
    [
        _required("model", pa.string()),
        _required("version", pa.string()),
        pa.field("role", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("took_ms", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("not_asked", pa.string()),
        _required("late", pa.bool_()),
        _required("seen", pa.bool_()),
    ]
)
STEP = pa.struct([_required("at_ms", pa.float64()), _required("what", pa.string()), pa.field("chosen", pa.string())])
TABLE = pa.schema(
    [
        _required("partition", pa.int32()),
        _required("raw_offset", pa.int64()),
        _required("request_id", pa.string()),
        _required("log_time_ms", pa.int64()),
        _required("budget_ms", pa.int64()),
        *ANSWER,
        pa.field("decided_ms", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("branch", pa.string()),
        pa.field("duplicate_of", pa.int64()),
        pa.field("recovered", pa.bool_()),
        pa.field("standby", pa.bool_()),
        _required("models", pa.list_(SAID)),
        pa.field("again", pa.struct(ANSWER)),
        pa.field("as_written", pa.bool_()),
        _required("trace", pa.list_(STEP)),
    ]
)


def write_comparisons(found: Iterable[Comparison], out: Path) -> int:
    """Write the table; it is whole or not there. Returns its rows; raises ConfigurationRefused."""
    return write_derived(out, TABLE, _grouped(found))


def _grouped(found: Iterable[Comparison]) -> Iterator[pa.Table]:
    records = iter(found)
    while rows := list(islice(records, GROUP)):
        yield table_of(rows)


def table_of(rows: Sequence[Comparison]) -> pa.Table:
    """Comparisons as a table of the declared columns."""
    decisions = [row.decision for row in rows]
    columns = [
        [row.partition for row in rows],
        [row.offset for row in rows],
        [row.request_id for row in rows],
        [row.at_ms for row in rows],
        [row.budget_ms for row in rows],
        *_answers(decisions),
        [row.decided_ms for row in rows],
        [one and one.reason for one in decisions],
        [one and one.branch for one in decisions],
        [one and one.duplicate_of and one.duplicate_of.offset for one in decisions],
        [one and one.recovered for one in decisions],
        [one and one.standby for one in decisions],
        _models(rows),
        _again([row.again for row in rows]),
        [row.as_written for row in rows],
        _traces([row.again.trace if row.again and row.again.trace else [] for row in rows]),
    ]
    return pa.table(
        [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, TABLE, strict=True)
        ],
        schema=TABLE,
    )


def _answers(decisions: Sequence[Decision | None]) -> list[list[Any]]:
    return [
        [one and str(one.outcome) for one in decisions],
        [one and one.model for one in decisions],
        [one and one.version for one in decisions],
        [one and one.score for one in decisions],
        [one and one.used_ms for one in decisions],
    ]


def _again(decisions: Sequence[Decision | None]) -> pa.Array:
    arrays = [pa.array(column, field.type) for column, field in zip(_answers(decisions), ANSWER, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=ANSWER, mask=pa.array([one is None for one in decisions]))


def _models(rows: Sequence[Comparison]) -> pa.Array:
    keys = [key for row in rows for key in row.said]
    said = [one for row in rows for one in row.said.values()]
    columns: list[list[Any]] = [
        [model for model, _ in keys],
        [version for _, version in keys],
        [one.role or None for one in said],
        [one.score for one in said],
        [one.took_ms for one in said],
        [one.error for one in said],
        [one.not_asked for one in said],
        [one.late for one in said],
        [one.seen for one in said],
    ]
    return _lists([len(row.said) for row in rows], SAID, columns)


def _traces(traces: Sequence[Sequence[TraceStep]]) -> pa.Array:
    steps = list(chain.from_iterable(traces))
    columns: list[list[Any]] = [
        [one.at_ms for one in steps],
        [one.what for one in steps],
        [one.chosen for one in steps],
    ]
    return _lists([len(trace) for trace in traces], STEP, columns)


def _lists(lengths: Sequence[int], kind: pa.StructType, columns: Sequence[Sequence[Any]]) -> pa.Array:
    """Flat columns and where each row's begin: a dictionary per element would cost more than all the rest."""
    fields = list(kind)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.ListArray.from_arrays(
        pa.array(starts), pa.StructArray.from_arrays(arrays, fields=fields), type=pa.list_(kind)
    )
