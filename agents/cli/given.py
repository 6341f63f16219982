"""What a person hands over: the lines of a file (.jsonl, .csv, .parquet, or stdin) as JSON values, and how fast.

A CSV says of no cell whether it is text: one that reads as a JSON number or boolean is taken for one, but not in
the columns a caller names as text, where "12e34" and "0017" are ids.
"""

import csv
import sys
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from math import inf, nan
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas.errors import UNREADABLE, ConfigurationRefused
from schemas.pipeline import FeatureType, Pipeline


class Rate(click.ParamType):
    """Records per second."""

    name = "rate"

    def convert(self, value: "str | float", param: click.Parameter | None, ctx: click.Context | None) -> float:
        """A number above 0; what is none would be as fast as it goes, or never."""
        try:
            rate = float(value)
        except ValueError:
            rate = nan
        if not 0 < rate < inf:
            self.fail(f"{value}: write a number above 0", param, ctx)
        return rate


def read_values(file: Path, as_text: Collection[str] = ()) -> Iterator[bytes]:
    """The JSON values of a file, by its ending; the columns `as_text` of a CSV as they stand.

    Raises ConfigurationRefused, naming the file, when it is not there or cannot be read to its end.
    """
    try:
        yield from _values(file, as_text)
    except OSError as error:
        raise ConfigurationRefused(
            f"{file}: {error.strerror or error}; name a file that is there, or - for stdin"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationRefused(f"{file}: no UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise ConfigurationRefused(f"{file}: no CSV: {error}; mend it, or write .jsonl") from error


def _values(file: Path, as_text: Collection[str]) -> Iterator[bytes]:
    if str(file) == "-":
        yield from (line.rstrip(b"\r\n") for line in sys.stdin.buffer if line.strip())
    elif file.suffix == ".parquet":
        yield from map(_encode, _parquet_rows(file))
    elif file.suffix == ".csv":
        yield from map(_encode, _csv_rows(file, as_text))
    elif file.suffix in (".jsonl", ".ndjson", ".json"):
        with file.open("rb") as raw:
            yield from (line.removesuffix(b"\n") for line in raw if line.strip())
    else:
        raise click.UsageError(f"{file}: what is a {file.suffix or 'nameless'} file? Use .jsonl, .csv or .parquet")


def texts_of(pipeline: Pipeline, table: str | None = None, key: str | None = None) -> set[str]:
    """The fields that are text to the pipeline, whatever a CSV's cell looks like: id, key and categories."""
    own = f"{table}." if table else ""
    paths = [".".join(one.parts) for one in pipeline.features if one.type is FeatureType.CATEGORY]
    texts = {path.removeprefix(own) for path in paths if path.startswith(own)}
    return texts | {key or ""} | ({pipeline.request.id} if table is None else set())


def limited(values: Iterable[bytes], count: int | None) -> Iterable[bytes]:
    """The first so many, or all."""
    return values if count is None else islice(values, count)


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
    except ArrowException as error:
        raise ConfigurationRefused(f"{file}: no Parquet that can be read: {error}; write it again") from error


def _csv_rows(file: Path, as_text: Collection[str]) -> Iterator[dict[str, Any]]:
    """A CSV's words as JSON would have them; an empty cell is absent. A byte order mark is no part of the head."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        for row in rows:
            if None in row:
                raise ConfigurationRefused(
                    f"{file}:{rows.line_num}: more cells than the head has; quote the commas within cells"
                )
            yield {name: text if name in as_text else _word(text) for name, text in row.items() if text}


def _word(text: str) -> Any:
    """A whole number stays one, to its last digit: as a float it would be another above 2**53, and 3 would be 3.0."""
    try:
        return msgspec.json.decode(
            text.lower() if text.lower() in ("true", "false") else text, type=int | float | bool
        )
    except UNREADABLE:
        return text


_encode = msgspec.json.Encoder().encode
