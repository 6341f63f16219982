"""One scenario, one seed: a stream is drawn, the fault put in, every event watched, and the verdicts judged."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from streams.core.verdicts.events import Event
from streams.core.verdicts.reference import BLOCK, WINDOW
from streams.core.verdicts.watch import Watch
from streams.core.verdicts.words import Verdict, Word
from tests.bench.verdicts.flown import Flown
from tests.bench.verdicts.made import Made
from tests.bench.verdicts.scenarios import Scenario, Stream, Truth
from tests.bench.verdicts.world import REFERENCE, events, take

WORLDS = {"made": Made, "flights": Flown}
ROWS = BLOCK * WINDOW
AFTER = 6 * ROWS
PROBES = 64
PROBE_EVERY = 500
WITHIN = 3.0


@dataclass
class Played:
    """What a run came to. Delays in windows, from the onset to the first right verdict."""

    name: str
    tier: str
    world: str
    kind: str
    seed: int
    probes: bool
    right: bool = False
    delay: float | None = None
    first: str = ""
    windows: int = 0
    false_alarms: list[str] = field(default_factory=list)


def play(scenario: Scenario, world_name: str, kind: str, seed: int, *, probes: bool) -> Played:
    """Run a scenario; the onset lies anywhere in the third to fifth window after the reference."""
    world = WORLDS[world_name](seed)
    rng = np.random.default_rng([seed, len(scenario.name), sum(map(ord, scenario.name + world_name + kind))])
    onset = REFERENCE + int(rng.integers(2 * ROWS, 4 * ROWS))
    columns = {name: values.copy() for name, values in world.draw(rng, onset + AFTER, kind, 0.0).items()}
    stream = Stream(world, columns)
    truth = scenario.fault(stream, rng, onset)
    found = Played(scenario.name, scenario.tier, world_name, kind, seed, probes)
    watch = Watch(world.setting())
    for event in _events(stream, rng, onset, probes=probes):
        verdict = watch.offer(event)
        if verdict is not None:
            _judge(found, verdict, truth, onset)
    return found


def _judge(found: Played, verdict: Verdict, truth: Truth, onset: int) -> None:
    if verdict.said_at_event < onset:
        found.windows += 1
        if not verdict.quiet:
            found.false_alarms.append(_short(verdict))
        return
    if verdict.quiet:
        return
    right = is_right(verdict, truth)
    if not found.first:
        found.first = _short(verdict)
        found.right = right
    if right and found.delay is None:
        found.delay = (verdict.said_at_event + 1 - onset) / ROWS
        found.right = found.right and found.delay <= WITHIN


def is_right(verdict: Verdict, truth: Truth) -> bool:
    """The word, and whom it names."""
    if verdict.verdict is not truth.word:
        return False
    if truth.model is not None and verdict.model != truth.model:
        return False
    named = set((verdict.field or "").split(", "))
    return not truth.fields or bool(named & truth.fields)


def _short(verdict: Verdict) -> str:
    moved = verdict.evidence.moved[:1]
    why = f" [{moved[0].what} {moved[0].of} {moved[0].of_threshold}]" if moved else ""
    return f"{verdict.verdict} {verdict.model or verdict.field or ''}{why}"


def _events(stream: Stream, rng: np.random.Generator, onset: int, *, probes: bool) -> Iterator[Event]:
    world, count = stream.world, len(stream.columns["at_ms"])
    if stream.faster != 1.0:
        at = stream.columns["at_ms"]
        at[onset:] = at[onset] + (at[onset:] - at[onset]) / stream.faster
    met = (np.arange(count) >= onset) & (rng.random(count) < stream.share)
    scores = {}
    for name in world.models:
        scores[name] = _scores(stream, name, met)
    latency = {name: np.exp(2 + 0.4 * rng.normal(size=count)) for name in world.models}
    for values in latency.values():
        values[onset:] *= stream.slower
    deployed = {name for name in (*stream.files, *stream.own, *stream.bend)}
    after = {name: "2" if name in deployed else "1" for name in world.models}
    before = dict.fromkeys(world.models, "1")
    versions = [after if hit else before for hit in met.tolist()]
    asked = _probes(stream, rng, onset) if probes else None
    for place, event in enumerate(events(stream.columns, scores, latency, versions, world.fields)):
        if asked is not None and (place % PROBE_EVERY == 0 or (deployed and place == onset)):
            old, new = asked
            for key, (one, other) in enumerate(zip(old, new, strict=True)):
                live = place >= onset and rng.random() < stream.share
                yield Event(event.ts_ms, one.features, other.scores if live else one.scores, None, None, f"p{key}")
        yield event


def _scores(stream: Stream, model: str, met: np.ndarray) -> np.ndarray:
    """A model's scores: as ever, and otherwise for the events that meet the fault."""
    usual = stream.world.score(model, stream.columns)
    part = np.flatnonzero(met)
    if len(part) and (stream.road or model in stream.own or model in stream.files or model in stream.bend):
        usual = usual.copy()
        usual[part] = stream.score(model, take(stream.columns, part))
    return usual


def _probes(stream: Stream, rng: np.random.Generator, onset: int) -> tuple[list[Event], list[Event]]:
    """Frozen records of the reference, every category among them; answered as before, and as after the fault."""
    chosen = _stratified(stream, rng)
    columns = take(stream.columns, chosen)
    old = {name: stream.world.score(name, columns) for name in stream.world.models}
    new = {name: stream.score(name, columns) for name in stream.world.models}
    latency = {name: np.ones(len(chosen)) for name in old}
    fields = stream.world.fields
    return list(events(columns, old, latency, None, fields)), list(events(columns, new, latency, None, fields))


def _stratified(stream: Stream, rng: np.random.Generator) -> np.ndarray:
    head = {name: values[:REFERENCE] for name, values in stream.columns.items()}
    chosen: list[int] = []
    for name in stream.world.fields:
        if head[name].dtype == object:
            _, first = np.unique(head[name].astype(str), return_index=True)
            chosen += first.tolist()
    rest = rng.choice(REFERENCE, PROBES).tolist()
    return np.array(list(dict.fromkeys(chosen))[: 4 * PROBES - len(rest)] + rest)
