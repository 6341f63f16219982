"""A SQL condition over the archive, judged by DuckDB, which may read the archive's files and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.replay.source import Numbers, Part, check_pages
from schemas.errors import ConfigurationRefused

EXTRA = "sql"
VIEW = """
create view raw as
select "partition"::bigint as "partition", kafka_offset, kafka_timestamp_ms, key, value, headers,
       try_cast(try(decode(value)) as json) as event
from read_parquet(?, hive_partitioning = true, union_by_name = true)
"""


def matches(parts: Sequence[Part], root: Path, condition: str) -> dict[int, Numbers]:
    """The offsets of each partition for which the condition holds; raises ConfigurationRefused.

    Columns: partition, kafka_offset, kafka_timestamp_ms, key and value (bytes), headers (a list of k and v), and
    `event`, the value as JSON (null when it is none).
    """
    duckdb = _duckdb()
    paths = [str(file.path) for part in parts for file in part.files]
    if not paths:
        return {}
    try:
        only = duckdb.SQLExpression(condition)
    except duckdb.Error as error:
        raise ConfigurationRefused(f"--where {condition!r}: not one SQL condition: {_first_line(error)}") from error
    with duckdb.connect(":memory:") as connection:
        _fence(connection, root)
        try:
            connection.execute(VIEW.replace("?", _literal(paths)))
            found = connection.table("raw").filter(only).select("partition", "kafka_offset").fetchnumpy()
        except duckdb.Error as error:
            check_pages(parts)  # a damaged file is named as such
            raise ConfigurationRefused(f"--where {condition!r}: {_first_line(error)}") from error
    numbers, offsets = np.asarray(found["partition"]), np.asarray(found["kafka_offset"], dtype=np.int64)
    return {int(number): offsets[numbers == number] for number in np.unique(numbers)}


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise ConfigurationRefused(
            f"--where needs DuckDB, which is not installed: pip install 'rendezvous-kafka[{EXTRA}]'"
        ) from error
    return duckdb


def _fence(connection: Any, root: Path) -> None:
    """No file outside the archive's data, no network, no extension, and no way to take that back."""
    connection.execute(f"set allowed_directories = [{_quoted(str(root.resolve() / 'data'))}]")
    for setting in (
        "set autoinstall_known_extensions = false",
        "set autoload_known_extensions = false",
        "set temp_directory = ''",
        "set enable_external_access = false",
        "set lock_configuration = true",
    ):
        connection.execute(setting)


def _literal(paths: Sequence[str]) -> str:
    return f"[{', '.join(_quoted(str(Path(path).resolve())) for path in paths)}]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
