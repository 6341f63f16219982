"""Tables that are made of an archive, for SQL: one Parquet file, whole or not there, written group by group."""

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigurationRefused
from streams.archive.disk import replace
from streams.state_file import refuse_special


def write_derived(out: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> int:
    """Write the groups as they come, and hold none of them. Returns the rows; raises ConfigurationRefused.

    What making them raises leaves nothing behind either.
    """
    refuse_special(out)
    temporary, count = out.with_name(f".{out.name}.{os.getpid()}.tmp"), 0
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in groups:
                writer.write_table(group)
                count += len(group)
        replace(temporary, out)
    except OSError as error:
        raise ConfigurationRefused(
            f"{out}: {error}; nothing is left of it: name a file that can be written"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count
