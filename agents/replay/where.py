"""A SQL condition over archived records, judged by DuckDB, which is handed them and may read nothing itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from agents.replay.source import Numbers, Part
from schemas.errors import ConfigurationRefused

EXTRA = "sql"
COLUMNS = """
{partition}::bigint as "partition", kafka_offset, kafka_timestamp_ms, key, value, headers,
try_cast(try(decode(value)) as json) as event
"""

NAMES = (
    "partition, kafka_offset, kafka_timestamp_ms, key, value, headers and event (JSON), as event->>'carrier' = 'UA'"
)


def matches(parts: Sequence[Part], condition: str) -> dict[int, Numbers]:
    """The offsets of each partition for which the condition holds; raises ConfigurationRefused, ArchiveDamaged.

    Columns: partition, kafka_offset, kafka_timestamp_ms, key and value (bytes), headers (a list of k and v), and
    `event`, the value as JSON (null when it is none). A record is judged by itself: there is no table to ask.
    """
    duckdb = _duckdb()
    try:
        only = duckdb.SQLExpression(condition)
    except duckdb.Error as error:
        raise ConfigurationRefused(f"--where {condition!r}: not one SQL condition: {_first_line(error)}") from error
    with duckdb.connect(":memory:") as connection:
        _fence(connection)

        def judged(batch: pa.RecordBatch, partition: int) -> Numbers:
            columns = COLUMNS.format(partition=partition)
            try:
                records = connection.from_arrow(pa.Table.from_batches([batch])).project(columns)
                found = records.filter(only).project("kafka_offset").fetchnumpy()["kafka_offset"]
            except duckdb.Error as error:
                raise ConfigurationRefused(
                    f"--where {condition!r}: {_first_line(error)}; a condition is SQL over {NAMES}"
                ) from error
            return np.asarray(found, dtype=np.int64)

        return {
            part.number: np.concatenate(
                [np.empty(0, np.int64), *(judged(batch, part.number) for batch in part.batches())]
            )
            for part in parts
        }


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise ConfigurationRefused(
            f"--where needs DuckDB, which is not installed: pip install 'rendezvous-kafka[{EXTRA}]'"
        ) from error
    return duckdb


def _fence(connection: Any) -> None:
    """No file, no network, no extension, and no way to take that back."""
    for setting in (
        "set autoinstall_known_extensions = false",
        "set autoload_known_extensions = false",
        "set temp_directory = ''",
        "set enable_external_access = false",
        "set lock_configuration = true",
    ):
        connection.execute(setting)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
