"""Scenarios: what is done to a stream from a known event on, and what would be the right verdict."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streams.core.verdicts.words import Word
from tests.bench.verdicts.flown import Flown
from tests.bench.verdicts.world import CLUSTERED, Columns, World

CORE, HARD = "core", "hard"


@dataclass(frozen=True)
class Truth:
    """The right answer: a word, and any one of these fields, or this model; and whether its order is as it was."""

    word: Word
    fields: frozenset[str] = frozenset()
    model: str | None = None
    rescaled: bool = False


View = Callable[[Columns], np.ndarray]


@dataclass
class Stream:
    """Events, the raw fields as they are shown; and what happens, from the onset on, on the road to the models."""

    world: World
    columns: Columns
    road: dict[str, View] = field(default_factory=dict)  # fields as shared feature code gives them to every model
    own: dict[str, dict[str, View]] = field(default_factory=dict)  # and as one model's own code gives them
    files: dict[str, str] = field(default_factory=dict)  # another file that answers for a model
    bend: dict[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)  # what is done to its scores
    share: float = 1.0  # of the requests that meet the fault
    faster: float = 1.0
    slower: float = 1.0
    renewed_every: int = 0  # after so many events, again and again, one model is deployed that answers as ever

    def score(self, model: str, columns: Columns) -> np.ndarray:
        """The scores of these events after the onset."""
        seen = dict(columns)
        for views in (self.road, self.own.get(model, {})):
            seen |= {name: view(seen) for name, view in views.items()}
        scores = self.world.score(self.files.get(model, model), seen)
        return self.bend[model](scores) if model in self.bend else scores


Fault = Callable[[Stream, np.random.Generator, int], Truth]


@dataclass(frozen=True)
class Scenario:
    """A fault by name, its tier, and what it is played on."""

    name: str
    tier: str
    fault: Fault
    kinds: tuple[str, ...] = ()


def _numeric(world: World) -> str:
    return "distance" if isinstance(world, Flown) else "amount"


def _shift(named: str, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def fault(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
        name = named or _numeric(stream.world)
        stream.columns[name][onset:] = change(stream.columns[name][onset:])
        return Truth(Word.DATA, frozenset([name]))

    return fault


def sudden(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """Half a standard deviation, at once."""
    name = "dewp" if isinstance(stream.world, Flown) else "age"
    values = stream.columns[name]
    values[onset:] += 0.5 * np.nanstd(values[:onset])
    return Truth(Word.DATA, frozenset([name]))


def _ramp(length: int, sizes: float) -> Fault:
    def fault(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
        name = "wind_speed" if isinstance(stream.world, Flown) else "load"
        values = stream.columns[name]
        ramp = np.clip(np.arange(len(values) - onset) / length, 0, 1)
        values[onset:] += sizes * np.nanstd(values[:onset]) * ramp
        return Truth(Word.DATA, frozenset([name]))

    return fault


def missing(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """5 % of a field is null."""
    name = "humid" if isinstance(stream.world, Flown) else "distance"
    values = stream.columns[name]
    values[onset:][rng.random(len(values) - onset) < 0.05] = np.nan
    return Truth(Word.DATA, frozenset([name]))


def new_category(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """3 % of events have a word that was never there."""
    name = "dest" if isinstance(stream.world, Flown) else "merchant"
    values = stream.columns[name]
    values[onset:][rng.random(len(values) - onset) < 0.03] = "NEW"
    return Truth(Word.DATA, frozenset([name]))


def outliers(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """1 % of a field is a hundred times too large."""
    name = _numeric(stream.world)
    values = stream.columns[name]
    hit = rng.random(len(values) - onset) < 0.01
    values[onset:][hit] = (values[onset:][hit] + 50) * 100
    return Truth(Word.DATA, frozenset([name]))


def joined_wrongly(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """One of two related fields comes from another event: no margin moves."""
    one, other = ("dewp", "temp") if isinstance(stream.world, Flown) else ("distance", "amount")
    values = stream.columns[one]
    values[onset:] = rng.permutation(values[onset:])
    return Truth(Word.DATA, frozenset([one, other]))


def _file(model: str, file: str) -> Fault:
    def fault(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
        world = stream.world
        name = world.canary if model == "canary" else world.changed_model
        stream.files[name] = file
        return Truth(Word.CANARY if model == "canary" else Word.CODE, model=name)

    return fault


def swapped(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """The file of another model."""
    name = stream.world.changed_model
    stream.files[name] = "fast" if isinstance(stream.world, Flown) else "other"
    return Truth(Word.CODE, model=name)


def wrong_order(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """Two features of one model change places."""
    one, other = ("hour", "weekday") if isinstance(stream.world, Flown) else ("age", "load")
    name = stream.world.changed_model
    stream.own[name] = {one: lambda columns: columns[other], other: lambda columns: columns[one]}
    return Truth(Word.CODE, model=name)


def _rescaled(power: float) -> Fault:
    def fault(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
        def bend(scores: np.ndarray) -> np.ndarray:
            inside = np.clip(scores, 1e-9, 1 - 1e-9)
            return 1 / (1 + np.exp(-(power * np.log(inside / (1 - inside)) + 0.2 * (power - 1))))

        name = stream.world.changed_model
        stream.bend[name] = bend
        return Truth(Word.CODE, model=name, rescaled=True)

    return fault


def shared_bug(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """Shared feature code gives every model something else than raw says."""
    if isinstance(stream.world, Flown):
        stream.road["hour"] = lambda columns: np.minimum(columns["hour"] + 4, 23)  # the wrong time zone
    else:
        stream.road["amount"] = lambda columns: columns["amount"] / 10  # a decimal point
    return Truth(Word.UPSTREAM)


def rare_encoder(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """One category of a few percent is encoded as another, for one model."""
    world = stream.world
    name = "carrier" if isinstance(world, Flown) else "country"
    values = stream.columns[name]
    words, counts = np.unique(values.astype(str), return_counts=True)
    head = {one: column[:200] for one, column in stream.columns.items()}
    score = {
        word: world.score(world.changed_model, {**head, name: np.full(200, word, object)}).mean() for word in words
    }
    often = [word for word, count in zip(words, counts, strict=True) if 0.02 <= count / len(values) <= 0.15]
    pairs = [(one, other) for one in often for other in words]
    one, other = max(pairs, key=lambda pair: abs(score[pair[0]] - score[pair[1]]))
    stream.own[world.changed_model] = {name: lambda columns: np.where(columns[name] == one, other, columns[name])}
    return Truth(Word.CODE, model=world.changed_model)


def one_replica(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """Half of the requests meet a replica with another file."""
    stream.share = 0.5
    return swapped(stream, rng, onset)


def season(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """The flights from late October on, whole days, a week apart: winter comes."""
    if isinstance(stream.world, Flown):
        pool = stream.world.pool
        days = np.unique(pool.day[np.isin(pool.columns["month"], (11, 12))])[::2]
        later = stream.world.days(days, len(stream.columns["hour"]) - onset, 0.0)
        for name in stream.columns:
            if name != "at_ms":
                stream.columns[name][onset:] = later[name]
        return Truth(Word.DATA)
    names = ("age", "load", "amount")
    ramp = np.clip(np.arange(len(stream.columns["age"]) - onset) / 4000, 0, 1)
    for name in names:
        values = stream.columns[name]
        values[onset:] = values[onset:] * (1 + 0.5 * ramp)
    return Truth(Word.DATA)


def faster(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """Five times the rate."""
    stream.faster = 5.0
    return Truth(Word.TRAFFIC)


def slower(stream: Stream, rng: np.random.Generator, onset: int) -> Truth:
    """Every model takes three times as long."""
    stream.slower = 3.0
    return Truth(Word.TRAFFIC)


KILOMETRES = _shift("distance", lambda values: values * 1.609344)
SCENARIOS = (
    Scenario("sudden shift of a field", CORE, sudden),
    Scenario("gradual shift of a field", CORE, _ramp(3000, 1.5)),
    Scenario("miles become kilometres", CORE, KILOMETRES),
    Scenario("5 % missing", CORE, missing),
    Scenario("new category", CORE, new_category),
    Scenario("1 % outliers", CORE, outliers),
    Scenario("model file swapped", CORE, swapped),
    Scenario("wrong feature order", CORE, wrong_order),
    Scenario("recalibrated, order kept", CORE, _rescaled(1.6)),
    Scenario("bug in shared feature code", CORE, shared_bug),
    Scenario("canary's file changed", CORE, _file("canary", "renewed")),
    Scenario("traffic x5", CORE, faster),
    Scenario("latency x3", CORE, slower),
    Scenario("wrong join of two fields", HARD, joined_wrongly),
    Scenario("slow ramp of a field", HARD, _ramp(8000, 1.5)),
    Scenario("retrained twin", HARD, _file("model", "twin")),
    Scenario("rare encoder fault", HARD, rare_encoder),
    Scenario("small recalibration", HARD, _rescaled(1.15)),
    Scenario("one replica of two", HARD, one_replica),
    Scenario("slow season", HARD, season, (CLUSTERED,)),
    Scenario("file swapped, clustered days", HARD, swapped, (CLUSTERED,)),
    Scenario("shared bug, clustered days", HARD, shared_bug, (CLUSTERED,)),
    Scenario("canary's file, clustered days", HARD, _file("canary", "renewed"), (CLUSTERED,)),
    Scenario("kilometres, clustered days", HARD, KILOMETRES, (CLUSTERED,)),
    Scenario("5 % missing, clustered days", HARD, missing, (CLUSTERED,)),
)
