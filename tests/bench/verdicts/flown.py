"""The real flights of 2013 as a world: models are the demo's, trained on its first half; events are of the second."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from inspect import getsource

import lightgbm
import msgspec
import numpy as np

from deploy.flights.prepare import BUILD, COMMON, MODELS, PIPELINE, Event, prepare, read_flights, requests_of
from deploy.flights.rule import late
from deploy.flights.weather import FIELDS
from schemas.pipeline import Feature
from streams.pipeline_file import load
from tests.bench.verdicts.world import CLUSTERED, DAILY, Columns, World, take

WORDS = ("carrier", "origin", "dest")
NUMBERS = ("month", "weekday", "hour", "minute", "distance", *FIELDS)
DAY_MS = 86_400_000.0
SUMMER = (7, 8, 9)
decode_weather = msgspec.json.Decoder(dict[str, object]).decode
A_DAY = 10_000  # flights, on days as busy as to have a daily cycle within ten windows


class Pool:
    """Flights of the second half of the year as columns, day by day; and files that models might be swapped for.

    A column `row` says which flight each is.
    """

    def __init__(self, columns: Columns, day: np.ndarray, boosters: dict[str, lightgbm.Booster]) -> None:
        self.columns, self.day, self.boosters = columns | {"row": np.arange(len(day))}, day, boosters
        self.starts = np.r_[np.searchsorted(day, np.arange(day.max() + 1)), len(day)]
        self._known = {name: np.full(len(day), np.nan) for name in boosters}

    def score(self, file: str, rows: np.ndarray) -> np.ndarray:
        """Scores of these flights as they are: a flight that is drawn again is not scored again."""
        known = self._known[file]
        new = np.unique(rows[np.isnan(known[rows])])
        if len(new):
            known[new] = self.boosters[file].predict(matrix(take(self.columns, new)), num_threads=1)
        return known[rows]

    def as_they_are(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which of these flights no fault has touched, in any feature."""
        found = np.ones(len(columns["row"]), bool)
        for one, _ in features():
            flown, seen = self.columns[one.name][columns["row"]], columns[one.name]
            found &= (flown == seen) | ((flown != flown) & (seen != seen))  # noqa: PLR0124  (NaN in both)
        return found


@lru_cache(maxsize=1)
def features() -> tuple[tuple[Feature, dict[str, int]], ...]:
    """The pipeline's features, and the place of each word."""
    return tuple((one, {word: place for place, word in enumerate(one.vocabulary)}) for one in load(PIPELINE).features)


def make_pool() -> Pool:
    """Read the year, train what a model might be swapped for on its first half, keep the second."""
    pairs = sorted(read_flights(), key=lambda pair: pair[0].request_id.split("-", 1)[1])
    labels = np.array([label.late for _, label in pairs])
    months = np.array([event.month for event, _ in pairs])
    whole = columns_of([event for event, _ in pairs])
    boosters = {name: lightgbm.Booster(model_file=MODELS / f"{name}.txt") for name in ("full", "fast", "january")}
    train = months <= 6
    inputs, first, target = matrix(take(whole, train)), months[train], labels[train]
    boosters["twin"] = trained(inputs[first >= 2], target[first >= 2], 31, 100)
    boosters["renewed"] = trained(inputs[first == 6], target[first == 6], 15, 30)
    rows = np.flatnonzero(months > 6)
    day = np.array([pairs[row][0].request_id.split("-", 2)[1] for row in rows])
    columns = take(whole, rows)
    order = np.lexsort((columns["minute"], columns["hour"], day))
    _, days = np.unique(day[order], return_inverse=True)
    return Pool(take(columns, order), days, boosters)


def trained(inputs: np.ndarray, target: np.ndarray, leaves: int, trees: int) -> lightgbm.Booster:
    """A model as the demo trains them."""
    return lightgbm.train({**COMMON, "num_leaves": leaves}, lightgbm.Dataset(inputs, target), trees)


def matrix(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The features as the pipeline's table has them."""
    found = []
    for one, table in features():
        values = columns[one.name]
        if table:
            found.append(np.array([table.get(word, 0) for word in values.tolist()], float))
        else:
            default = one.default if isinstance(one.default, int | float) else 0.0
            found.append(np.where(np.isnan(values), default, values))
    return np.stack(found, 1)


def columns_of(events: Sequence[Event]) -> Columns:
    """Columns of flights; NaN where weather is not known."""
    found: Columns = {name: np.array([getattr(event, name) for event in events], object) for name in WORDS}
    for name in NUMBERS:
        if name not in FIELDS:
            found[name] = np.array([getattr(event, name) for event in events], float)
    weather = [decode_weather(one.joined[0].record or b"{}") for one in requests_of(events, load(PIPELINE))]
    return found | {name: np.array([told.get(name) for told in weather], float) for name in FIELDS}


@lru_cache(maxsize=1)
def pool() -> Pool:
    """Read and trained once; kept beside the demo's files."""
    prepare()
    source = "".join(map(getsource, (make_pool, trained, matrix, columns_of)))
    made_by = hashlib.sha256(source.encode() + (BUILD / "made-by").read_bytes()).hexdigest()[:16]
    file = BUILD / f"verdicts-{made_by}.npz"
    if not file.exists():
        made = make_pool()
        texts = {f"booster {name}": np.array(booster.model_to_string()) for name, booster in made.boosters.items()}
        columns = {name: made.columns[name].astype(str if name in WORDS else float) for name in (*WORDS, *NUMBERS)}
        part = file.with_suffix(".part.npz")
        np.savez(part, day=made.day, **texts, **columns)
        part.rename(file)
    with np.load(file) as saved:
        columns = {name: saved[name].astype(object) if name in WORDS else saved[name] for name in (*WORDS, *NUMBERS)}
        names = [name for name in saved.files if name.startswith("booster ")]
        boosters = {name.split()[1]: lightgbm.Booster(model_str=str(saved[name])) for name in names}
        return Pool(columns, saved["day"], boosters)


class Flown(World):
    """A seed draws other flights, or other days."""

    fields = tuple(
        name for name in (*WORDS, *NUMBERS) if name not in ("month", "weekday")
    )  # the calendar moves by itself
    models = {"full": "champion", "fast": "challenger", "rule": "challenger", "january": "canary"}
    changed_model, canary = "full", "january"

    def __init__(self, seed: int) -> None:
        self.pool = pool()

    def draw(self, rng: np.random.Generator, count: int, kind: str, start_day: float, rate: float = 1.0) -> Columns:
        """Single flights by chance, flights of the right hour by chance, or whole days by chance."""
        pool = self.pool
        if kind == CLUSTERED:
            return self.days(rng.choice(self._summer_days(), 2 + count // 600), count, start_day)
        rows = np.flatnonzero(np.isin(pool.columns["month"], SUMMER))
        a_day = int(A_DAY * rate)
        days = -(-count // a_day)
        chosen = rng.choice(rows, days * a_day if kind == DAILY else count)
        found = take(pool.columns, chosen)
        if kind == DAILY:
            clock = (found["hour"] * 60 + found["minute"] + rng.random(len(chosen))) / 1440
            found["at_ms"] = (start_day + np.arange(len(chosen)) // a_day + clock) * DAY_MS
            return take(take(found, np.argsort(found["at_ms"], kind="stable")), slice(count))
        found["at_ms"] = (start_day + np.cumsum(rng.exponential(size=count)) / (20_000 * rate)) * DAY_MS
        return found

    def _summer_days(self) -> np.ndarray:
        return np.unique(self.pool.day[np.isin(self.pool.columns["month"], SUMMER)])

    def days(self, days: Sequence[int] | np.ndarray, count: int, start_day: float) -> Columns:
        """Whole days, one after the other."""
        starts, rows, at_ms = self.pool.starts, [], []
        columns = self.pool.columns
        for number, day in enumerate(days):
            mine = np.arange(starts[day], starts[day + 1])
            rows.append(mine)
            at_ms.append((start_day + number + (columns["hour"][mine] + columns["minute"][mine] / 60) / 24) * DAY_MS)
        chosen = np.concatenate(rows)[:count]
        found = {name: values[chosen] for name, values in columns.items()}
        found["at_ms"] = np.concatenate(at_ms)[:count]
        return found

    def score(self, model: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """A booster's score, or the rule's; LightGBM is asked only for flights that are not as they were."""
        if model == "rule":
            seen = np.nan_to_num(
                np.stack([columns["hour"], columns["precip"], np.nan_to_num(columns["visib"], nan=10.0)], 1)
            )
            return late(seen)
        known = self.pool.as_they_are(columns)
        found = np.empty(len(known))
        found[known] = self.pool.score(model, columns["row"][known])
        if not known.all():
            found[~known] = self.pool.boosters[model].predict(matrix(take(columns, ~known)), num_threads=1)
        return found
