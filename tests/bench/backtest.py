"""A backtest's scoring against plain LightGBM over the same matrix, and what a request of an archive costs.

`backtest_ratio` is (rows per CPU second of the backtest's scoring) / (rows per CPU second of LightGBM). Plain
LightGBM: one `Booster.predict(matrix, num_threads=1)` over the whole prepared matrix. The backtest: the same rows, in
the chunks and by the function that `streams.core.past` scores with: scored, every score checked, packed. In
`backtest_ratio_cut` they are also cut into the blocks that the log would have had, one request a millisecond, as the
core is given them. Reading, validating and making features are in neither; they are in `backtest_us_per_request`,
which is everything that `rendezvous backtest --model` does, for two ways of answering.
`python -m tests.bench.backtest` prints these figures alone.
"""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import lightgbm
import numpy as np

from agents.cli.columns import read_columns
from agents.cli.past import UNCHANGED, read_past
from deploy.flights.prepare import EVENTS, HERE, LOG_MS, PIPELINE, prepare
from deploy.flights.weather import asked_of, with_weather
from schemas.blocks import MAX_ROWS, Matrix
from schemas.enriched import encode_enriched
from schemas.pipeline import Pipeline
from schemas.requests import Request
from streams.archive.ranges import Period
from streams.archive.segment import Record
from streams.candidate_file import with_budget
from streams.core.enrichment import Enrichment
from streams.core.features import FeatureTable
from streams.core.given import Given
from streams.core.lead import LEAD_MS
from streams.core.past import CHUNK, Way
from streams.core.scored_past import Scored, by_log_time, scored_block
from streams.core.validator import Validator
from streams.models.candidate import scoring_of
from streams.pipeline_file import load
from tests.unit.lived import play

BUDGETS = (20, 50, 100, 200)


def measured(lines: Sequence[bytes], folder: Path, *, rounds: int = 5, archived: int = 20_000) -> dict[str, float]:
    """Every figure; CPU seconds of this process."""
    pipeline = load(PIPELINE)
    score_rows, columns = scoring_of(HERE, pipeline, pipeline.model("full"))
    scored = Scored("2013-h1", score_rows, columns, 10)
    booster = lightgbm.Booster(model_file=str(HERE / "models" / "full.txt"))
    requests = _requests(pipeline, lines)
    matrix = FeatureTable(pipeline.features, {}, pipeline.enrich).matrix(requests)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        plain_s = _cpu_s(lambda: booster.predict(matrix, num_threads=1))
        scored_s = _cpu_s(lambda: _score(scored, matrix, cut=False))
        cut_s = _cpu_s(lambda: _score(scored, matrix, cut=True))
        figures = {
            "predict_us_per_row": plain_s / len(matrix) * 1e6,
            "backtest_scoring_us_per_row": scored_s / len(matrix) * 1e6,
            "backtest_ratio": plain_s / scored_s,
            "backtest_ratio_cut": plain_s / cut_s,
        }
        for name, figure in figures.items():
            found.setdefault(name, []).append(figure)
    middle = {name: statistics.median(figures) for name, figures in found.items()}
    return middle | _whole(pipeline, lines[:archived], requests[:archived], folder, scored)


def _score(scored: Scored, matrix: Matrix, *, cut: bool) -> None:
    offsets = np.arange(len(matrix), dtype=np.int64)
    for start in range(0, len(matrix), CHUNK):
        own = offsets[start : start + CHUNK]
        block, failed = scored_block("full", scored, own, Given(matrix[start : start + CHUNK]))
        for _ in by_log_time(block, failed, own, own) if cut else ():
            pass


def _whole(
    pipeline: Pipeline, lines: Sequence[bytes], requests: Sequence[Request], folder: Path, scored: Scored
) -> dict[str, float]:
    """An archive's range, read and run: `backtest --model`, and `simulate` without and with a sweep."""
    own = random.Random(1)
    scores = {model.name: [own.random() for _ in lines] for model in pipeline.models}
    lived = play(
        pipeline,
        lines,
        latency_ms=lambda dice, _: 5 + dice.expovariate(1 / 8),
        score=lambda model, offset: scores[model][offset],
        rate=1.0,
    )
    lived.enriched = _kept(pipeline, requests, lived.raw)
    root = lived.write(folder / "lived", pipeline.name, rows=100_000)
    unchanged = Way(UNCHANGED, pipeline)
    candidate = Way("candidate", pipeline, {"full": scored})
    sweep = [unchanged, *(Way(str(budget), with_budget(pipeline, budget)) for budget in BUDGETS)]
    runs: dict[str, Callable[[], object]] = {
        "backtest_us_per_request": lambda: read_past(root, pipeline, [unchanged, candidate], Period(), None, LEAD_MS),
        "simulate_us_per_request": lambda: read_columns(root, pipeline, [unchanged], Period(), None, LEAD_MS),
        "simulate_sweep_of_4_us_per_request": lambda: read_columns(root, pipeline, sweep, Period(), None, LEAD_MS),
    }
    return {name: _cpu_s(run) / len(lines) * 1e6 for name, run in runs.items()}


def _requests(pipeline: Pipeline, lines: Sequence[bytes]) -> list[Request]:
    """The events as the router has them, the weather joined in."""
    validator = Validator(pipeline)
    found = [validator.read(line, None, None, 0, offset, LOG_MS) for offset, line in enumerate(lines)]
    requests = [request for request in found if isinstance(request, Request)]
    return with_weather(requests, pipeline, [asked_of(line).asked_ms for line in lines])


def _kept(pipeline: Pipeline, requests: Sequence[Request], raw: Sequence[Record]) -> list[Record]:
    """What the router would have written of them on `enriched`."""
    enrichment, starts = Enrichment(pipeline), range(0, len(requests), MAX_ROWS)
    values = [encode_enriched(enrichment.block(requests[start : start + MAX_ROWS]))[0] for start in starts]
    return [
        Record(place, raw[start].timestamp_ms, 1, None, value, None)
        for place, (start, value) in enumerate(zip(starts, values, strict=True))
    ]


def _cpu_s(run: Callable[[], object]) -> float:
    started_s = time.process_time()
    run()
    return time.process_time() - started_s


if __name__ == "__main__":
    prepare()
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(measured(EVENTS.read_bytes().splitlines(), Path(made)), indent=2))
