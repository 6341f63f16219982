"""Figures of mature days, kept beside the archive for ever: `ROOT/quality/pipeline=<p>/day=<d>/by=<field>.parquet`.

A file is written once and never again, whoever computes: labels that come later do not change a day that was told.
Beside it a file `told` notes that the day is on the topic; `told.by=<field>` notes it of the day split by a field.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streams.archive import seal
from streams.archive.disk import trouble_named
from streams.archive.file import File
from streams.archive.layout import encoded, listed
from streams.archive.segment import UNREADABLE, WRITING, ArchiveDamaged
from streams.archive.store import store_of
from streams.core.judged import Judged, day_name

FOLDER = "quality"
"""Beside the archive's records: what was stored for ever."""

ALL = "all"
TOLD = "told"

_ESTIMATE = pa.struct([pa.field(name, pa.float64()) for name in ("value", "low", "high")])
_BIN = pa.struct(
    [
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("rows", pa.int64()),
        pa.field("score", pa.float64()),
        pa.field("truth", _ESTIMATE),
    ]
)
_MEASURES = pa.struct(
    [
        pa.field("scored", pa.int64()),
        pa.field("labelled", pa.int64()),
        pa.field("coverage", pa.float64()),
        *(pa.field(name, _ESTIMATE) for name in ("base", "accuracy", "auc", "log_loss", "brier", "cost")),
        pa.field("calibration", pa.list_(_BIN)),
        pa.field("calibration_error", _ESTIMATE),
        pa.field("note", pa.string()),
    ]
)
TABLE = pa.schema(
    [
        pa.field("day", pa.string(), nullable=False),
        pa.field("field", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("requests", pa.int64(), nullable=False),
        pa.field("labelled", pa.int64(), nullable=False),
        pa.field("coverage", pa.float64()),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("measures", _MEASURES, nullable=False),
    ]
)


def place_of(root: Path, pipeline: str, day: str, field: str) -> Path:
    """The file of one day, for all its requests or split by a field."""
    name = f"by={encoded(field) if field else ALL}.parquet"
    return root / FOLDER / f"pipeline={encoded(pipeline)}" / f"day={day}" / name


def stored_days(root: Path, pipeline: str, field: str) -> list[int]:
    """The days that are stored, as numbers since 1970."""
    days = _days_with(root, pipeline, place_of(root, pipeline, "x", field).name)
    return sorted(int(np.datetime64(day, "D").astype(int)) for day in days)


def untold_days(root: Path, pipeline: str, field: str) -> list[str]:
    """Stored days that are not noted as told, the oldest first."""
    told = _days_with(root, pipeline, _note_of(field))
    return [day for day in map(day_name, stored_days(root, pipeline, field)) if day not in told]


def _days_with(root: Path, pipeline: str, name: str) -> set[str]:
    """The days in whose folder a file of this name lies."""
    folders = listed(root / FOLDER / f"pipeline={encoded(pipeline)}")
    days = [folder for folder in folders if folder.name.startswith("day=")]
    return {day.name.removeprefix("day=") for day in days if any(path.name == name for path in listed(day))}


def _note_of(field: str) -> str:
    return f"{TOLD}.by={encoded(field)}" if field else TOLD


def note_told(root: Path, pipeline: str, day: str, field: str, writer: str) -> None:
    """Note, for good, that a stored day is on the topic. Raises DiskTrouble."""
    path = place_of(root, pipeline, day, field).with_name(_note_of(field))
    store, staging = store_of(root), root / "staging" / FOLDER
    with trouble_named(path):
        store.prepare(path.parent, staging, writer)
        store.create(path, staging, writer, [b"on the topic\n"])


def read_figures(path: Path) -> list[Judged] | None:
    """What was stored, marked as such; None when nothing is; raises ArchiveDamaged."""
    try:
        with File(path).opened(whole=True) as file:
            if not (seal.footer_is_whole(file) and seal.pages_are_whole(file)):
                raise ValueError("it is not as it was sealed")
            rows = pq.ParquetFile(file, page_checksum_verification=True).read().to_pylist()
        return [msgspec.convert({**_as_now(row), "stored": True}, Judged) for row in rows]
    except FileNotFoundError:
        return None
    except (*UNREADABLE, msgspec.ValidationError) as error:
        raise ArchiveDamaged(
            f"{path}: no readable figures ({error!r}); restore it from a copy, or delete it to have the day computed "
            "anew from the labels of now"
        ) from error


def _as_now(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it would be written now: a day stored before the calibration error had an interval has none."""
    error = row["measures"]["calibration_error"]
    if isinstance(error, dict):
        return row
    return {**row, "measures": {**row["measures"], "calibration_error": {"value": error}}}


def store_figures(root: Path, pipeline: str, writer: str, found: Sequence[Judged]) -> list[Judged]:
    """Store a day's figures unless somebody has; returns what is stored now. Raises DiskTrouble."""
    path = place_of(root, pipeline, found[0].day, found[0].field)
    store, staging = store_of(root), root / "staging" / FOLDER
    rows = [msgspec.to_builtins(one) for one in found]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLE), sink, **WRITING)
    with trouble_named(path):
        store.prepare(path.parent, staging, writer)
        store.create(path, staging, writer, seal.sealed(memoryview(sink.getvalue())))
    return read_figures(path) or list(found)
