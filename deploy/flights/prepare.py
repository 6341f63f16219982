"""Prepare the demo: real flights of 2013 become events, weather and labels, and four models are trained.

`python -m deploy.flights.prepare`. Deterministic: the same events and models every time. Cancelled flights have no
arrival, so no answer, and are left out.
"""

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np

from deploy.flights.source import HOUR_MS, hour_ms, table
from deploy.flights.weather import BEFORE_MS, REPORTS, read_reports, with_weather
from schemas.blocks import Matrix
from schemas.pipeline import Pipeline
from schemas.requests import Request
from streams.core.enrichment import event_of
from streams.core.features import FeatureTable
from streams.core.validator import Validator
from streams.models.fingerprints import fingerprint_of, write_fingerprint
from streams.pipeline_file import load

HERE = Path(__file__).parent
PIPELINE = HERE / "flights.toml"
MODELS = HERE / "models"
BUILD = HERE / "build"
EVENTS = BUILD / "events.jsonl"
LABELS = BUILD / "labels.jsonl"
REPORT = BUILD / "report.html"

MADE_BY = [*(HERE / f"{name}.py" for name in ("prepare", "weather", "source")), PIPELINE]

LATE_MIN = 15
MINUTE_MS = 60_000
TRAIN_MONTHS = range(1, 7)
DEMO_EVENTS = 40_000
LOG_MS = 3_600_000
"""Any log time that is late enough for all reports to count."""

COMMON = {
    "objective": "binary",
    "learning_rate": 0.1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "seed": 2013,
    "verbose": -1,
}
TRAINED = {
    "full": (TRAIN_MONTHS, {"num_leaves": 31}, 100),
    "fast": (TRAIN_MONTHS, {"num_leaves": 15}, 20),
    "january": (range(1, 2), {"num_leaves": 15}, 30),
}


class Event(msgspec.Struct, frozen=True):
    """One flight, as it is known an hour before it leaves: `asked_ms` is then."""

    request_id: str
    month: int
    weekday: int
    hour: int
    minute: int
    carrier: str
    origin: str
    dest: str
    distance: float
    asked_ms: int


class Label(msgspec.Struct, frozen=True):
    """What became of it, known when it has landed (ms, the clock of `asked_ms`)."""

    request_id: str
    late: bool
    landed_ms: int


def prepare(file: Path = PIPELINE, every: int = 1) -> None:
    """Make events and labels, and the models of this pipeline, unless they are there and made by this very code.

    The models are trained on one flight in `every`, and lie where the pipeline says: others in another folder.
    """
    pipeline = load(file)
    made_by = hashlib.sha256(b"".join(path.read_bytes() for path in MADE_BY)).hexdigest()
    demo, models = (folder / "made-by" for folder in (BUILD, file_of(pipeline, "full").parent))
    absent = [stamp for stamp in (demo, models) if not stamp.exists() or stamp.read_text() != made_by]
    if not absent:
        return
    started_s = time.monotonic()
    say("reading the flights of 2013")
    flights = sorted(read_flights(), key=lambda pair: pair[0].request_id.split("-", 1)[1])
    for stamp in absent:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        if stamp == demo:
            write_demo([pair for pair in flights if pair[0].month not in TRAIN_MONTHS][:DEMO_EVENTS])
        else:
            train([pair for pair in flights if pair[0].month in TRAIN_MONTHS][::every], pipeline)
        stamp.write_text(made_by)
    say(f"prepared in {time.monotonic() - started_s:.0f} s\n")


def file_of(pipeline: Pipeline, name: str) -> Path:
    """Where a model's file lies, and those of others that are trained."""
    return HERE / pipeline.model(name).artifact


def read_flights() -> Iterator[tuple[Event, Label]]:
    """Every flight that arrived."""
    seen: dict[str, int] = {}
    for row in table("flights.csv.zip").to_pylist():
        if row["arr_delay"] is None:
            continue
        month, day, hour, minute = row["month"], row["day"], row["hour"], row["minute"]
        name = f"{row['carrier']}{row['flight']}-2013{month:02}{day:02}-{hour:02}{minute:02}-{row['origin']}"
        seen[name] = seen.get(name, 0) + 1
        request_id = name if seen[name] == 1 else f"{name}.{seen[name]}"
        leaves_ms = hour_ms(month, day, hour) + minute * MINUTE_MS
        flies_min = row["dep_delay"] + row["air_time"]
        weekday = int(np.datetime64(f"2013-{month:02}-{day:02}").astype(int) + 3) % 7
        event = Event(
            request_id,
            month,
            weekday,
            hour,
            minute,
            row["carrier"],
            row["origin"],
            row["dest"],
            float(row["distance"]),
            leaves_ms - HOUR_MS,
        )
        yield event, Label(request_id, row["arr_delay"] > LATE_MIN, leaves_ms + int(flies_min) * MINUTE_MS)


def write_demo(flights: Sequence[tuple[Event, Label]]) -> None:
    """Later flights as they depart, and their weather: what the demo sends; and by what it is judged."""
    encode = msgspec.json.encode
    EVENTS.write_bytes(b"".join(encode(event) + b"\n" for event, _ in flights))
    LABELS.write_bytes(b"".join(encode(label) + b"\n" for _, label in flights))
    asked_ms = [event.asked_ms for event, _ in flights]
    first_ms, last_ms = min(asked_ms) - BEFORE_MS, max(asked_ms)
    needed = [one for one in read_reports() if first_ms <= one.from_ms <= last_ms]
    REPORTS.write_bytes(b"".join(encode(report) + b"\n" for report in needed))


def train(flights: Sequence[tuple[Event, Label]], pipeline: Pipeline) -> None:
    """Train on what the router would have sent: the same validator, the same matrix."""
    requests = requests_of([event for event, _ in flights], pipeline)
    matrix = FeatureTable(pipeline.features, {}, pipeline.enrich).matrix(requests)
    late = np.array([label.late for _, label in flights])
    tables = [one.name for one in pipeline.enrich]
    months = np.array([event.month for event, _ in flights])
    for name, (wanted, settings, trees) in TRAINED.items():
        rows = np.isin(months, list(wanted))
        train_one(name, matrix[rows], late[rows], pipeline, settings, trees)
        events = [msgspec.json.decode(event_of(request, tables)) for request in compress(requests, rows)]
        source = f"the flights of 2013, months {wanted.start} to {wanted.stop - 1}"
        model = pipeline.model(name)
        write_fingerprint(HERE, model, fingerprint_of(HERE, pipeline, model, events, source))


def training_data(flights: Sequence[tuple[Event, Label]], pipeline: Pipeline) -> tuple[Matrix, np.ndarray]:
    """The matrix of these flights, and which of them were late."""
    return matrix_of([event for event, _ in flights], pipeline), np.array([label.late for _, label in flights])


def train_one(
    name: str, matrix: Matrix, late: np.ndarray, pipeline: Pipeline, settings: Mapping[str, Any], trees: int
) -> Path:
    """Train one model, and write it and its sum; returns its file."""
    say(f"training {name}: {trees} trees")
    names = [feature.name for feature in pipeline.features]
    booster = lightgbm.train({**COMMON, **settings}, lightgbm.Dataset(matrix, late, feature_name=names), trees)
    text = booster.model_to_string().encode()
    path = file_of(pipeline, "full").with_name(f"{name}.txt")
    path.write_bytes(text)
    digest = hashlib.sha256(text).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    return path


def matrix_of(events: Sequence[Event], pipeline: Pipeline) -> Matrix:
    """The matrix of these events, by the road of a request; exits when one would be rejected."""
    return FeatureTable(pipeline.features, {}, pipeline.enrich).matrix(requests_of(events, pipeline))


def requests_of(events: Sequence[Event], pipeline: Pipeline) -> list[Request]:
    """These events as requests, joined with the weather; exits when one would be rejected."""
    validator = Validator(pipeline)
    requests = []
    for offset, event in enumerate(events):
        found = validator.read(msgspec.json.encode(event), None, None, 0, offset, LOG_MS)
        if not isinstance(found, Request):
            sys.exit(f"{event.request_id} would be rejected: {found.reason}; mend {PIPELINE}")
        requests.append(found)
    return with_weather(requests, pipeline, [event.asked_ms for event in events])


def say(what: str) -> None:
    """Progress, to stderr."""
    sys.stderr.write(f"flights: {what}\n")


if __name__ == "__main__":
    prepare()
