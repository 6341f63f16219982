"""One scenario, one seed: a stream is drawn, the fault put in, every event watched, and the verdicts judged."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from streams.core.probing import CANDIDATES, Candidate, Probe, choose
from streams.core.verdicts.events import Event
from streams.core.verdicts.reference import BLOCK, WINDOW
from streams.core.verdicts.watch import Watch
from streams.core.verdicts.words import Verdict, Word
from tests.bench.verdicts.flown import Flown
from tests.bench.verdicts.made import Made
from tests.bench.verdicts.scenarios import Scenario, Stream, Truth
from tests.bench.verdicts.world import INDEPENDENT, REFERENCE, Columns, World, events, take

WORLDS = {"made": Made, "flights": Flown}
ROWS = BLOCK * WINDOW
AFTER = 6 * ROWS
PROBES = 64
DAY_MS = 86_400_000.0
PROBE_EVERY = 500
RENEWED_EVERY = 10 * ROWS
WITHIN = 3.0
RESCALED = "rescaled, order unchanged"


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


class Stage:
    """A world's reference, watched once: every scenario goes on from here, with a copy of the watch."""

    def __init__(self, world_name: str, kind: str, seed: int, *, probes: bool) -> None:
        self.world_name, self.kind, self.seed, self.probes = world_name, kind, seed, probes
        self.world = WORLDS[world_name](seed)
        rng = np.random.default_rng([seed, sum(map(ord, world_name + kind))])
        self.columns = self.world.draw(rng, REFERENCE, kind, 0.0)
        self.asked = _stratified(self.world, self.columns) if probes else None
        self.watch = Watch(self.world.setting())
        self._rng = rng
        for event in self.reference_events(self.asked):
            self.watch.offer(event)

    def reference_events(self, asked: Columns | None = None) -> Iterator[Event]:
        """The reference, with rounds of probes when any are asked."""
        return _events(Stream(self.world, self.columns), asked, deepcopy(self._rng), REFERENCE)

    @property
    def end_day(self) -> float:
        """The day on which what follows begins."""
        last = float(self.columns["at_ms"][-1]) / DAY_MS
        return last if self.kind == INDEPENDENT or (self.world_name == "made") else float(np.ceil(last))

    def rng(self, name: str) -> np.random.Generator:
        """For what follows the reference, in this scenario."""
        return np.random.default_rng([self.seed, 1, sum(map(ord, name + self.world_name + self.kind)), len(name)])


def play(stage: Stage, scenario: Scenario) -> Played:
    """Run a scenario until it is named; the onset lies anywhere in the third or fourth window after the reference."""
    onset, truth, stream, rng = _drawn(stage, scenario)
    found = Played(scenario.name, scenario.tier, stage.world_name, stage.kind, stage.seed, stage.probes)
    watch = deepcopy(stage.watch)
    for event in _events(stream, stage.asked, rng, onset):
        verdict = watch.offer(event)
        if verdict is not None:
            _judge(found, verdict, truth, REFERENCE + onset)
            if found.delay is not None:
                break
    return found


def played_events(stage: Stage, scenario: Scenario) -> tuple[int, Iterator[Event]]:
    """The onset of a scenario, and its events, the same that `play` sees."""
    onset, _, stream, rng = _drawn(stage, scenario)
    return onset, _events(stream, None, rng, onset)


def _drawn(stage: Stage, scenario: Scenario) -> tuple[int, Truth, Stream, np.random.Generator]:
    rng = stage.rng(scenario.name)
    onset = int(rng.integers(2 * ROWS, 4 * ROWS))
    drawn = stage.world.draw(rng, onset + AFTER, stage.kind, stage.end_day)
    stream = Stream(stage.world, {name: values.copy() for name, values in drawn.items()})
    truth = scenario.fault(stream, rng, onset)
    if stream.faster != 1.0:
        stream.columns = _faster(stage, rng, stream.columns, onset, stream.faster)
    return onset, truth, stream, rng


def _faster(stage: Stage, rng: np.random.Generator, columns: Columns, onset: int, rate: float) -> Columns:
    """From the onset on as many times the events, at the same times of day."""
    often = stage.world.draw(rng, int(rate * (onset + 2 * ROWS)) + AFTER, stage.kind, stage.end_day, rate)
    later = np.flatnonzero(often["at_ms"] > columns["at_ms"][onset - 1])[:AFTER]
    return {name: np.concatenate([values[:onset], often[name][later]]) for name, values in columns.items()}


def live(stage: Stage, count: int) -> Iterator[Event]:
    """Quiet events after the reference. Every tenth window a model is deployed, and answers as ever: no alarm."""
    rng = stage.rng("quiet")
    drawn = stage.world.draw(rng, count, stage.kind, stage.end_day)
    stream = Stream(stage.world, drawn, renewed_every=RENEWED_EVERY)
    return _events(stream, stage.asked, rng, count)


def quiet(stage: Stage, windows: int) -> Played:
    """Nothing happens for so many windows."""
    found = Played("quiet", "quiet", stage.world_name, stage.kind, stage.seed, stage.probes)
    count = windows * ROWS
    watch = deepcopy(stage.watch)
    for event in live(stage, count):
        verdict = watch.offer(event)
        if verdict is not None:
            _judge(found, verdict, Truth(Word.HEALTHY), REFERENCE + count)
    return found


def _judge(found: Played, verdict: Verdict, truth: Truth, onset: int) -> None:
    if verdict.said_at_event < onset - 1:  # probes are asked between two events
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
    """The word, and whom it names; and "rescaled, order unchanged" is said where it is so, and nowhere else."""
    if verdict.verdict is not truth.word:
        return False
    if truth.model is not None and verdict.model != truth.model:
        return False
    if (RESCALED in verdict.sentence) is not truth.rescaled:
        return False
    named = set((verdict.field or "").split(", "))
    return not truth.fields or bool(named & truth.fields)


def _short(verdict: Verdict) -> str:
    moved = verdict.evidence.moved[:1]
    why = f" [{moved[0].what} {moved[0].of} {moved[0].of_threshold}]" if moved else ""
    rescaled = ", rescaled" if verdict.rescaled else ""
    return f"{verdict.verdict} {verdict.model or verdict.field or ''}{rescaled}{why}"


def _events(stream: Stream, asked: Columns | None, rng: np.random.Generator, onset: int) -> Iterator[Event]:
    """Events with their scores, and rounds of probes between them."""
    world, count = stream.world, len(stream.columns["at_ms"])
    met = (np.arange(count) >= onset) & (rng.random(count) < stream.share)
    scores = {name: _scores(stream, name, met) for name in world.models}
    latency = {name: np.exp(2 + 0.4 * rng.normal(size=count)) for name in world.models}
    for values in latency.values():
        values[onset:] *= stream.slower
    deployed = {*stream.files, *stream.own, *stream.bend}
    versions = _versions(stream, deployed, met)
    old, new = _probes(stream, asked) if asked is not None else ([], [])
    for place, event in enumerate(events(stream.columns, scores, latency, versions, world.fields)):
        if place % PROBE_EVERY == 0 or (deployed and place == onset):
            for key, (one, other) in enumerate(zip(old, new, strict=True)):
                live = place >= onset and rng.random() < stream.share
                yield Event(event.ts_ms, one.features, other.scores if live else one.scores, None, None, f"p{key}")
        yield event


def _versions(stream: Stream, deployed: set[str], met: np.ndarray) -> list[dict[str, str]]:
    """Of each event: where it meets the fault those deployed have another; without one they take turns, if at all."""
    names = list(stream.world.models)
    if stream.renewed_every:
        turns = -(-len(met) // stream.renewed_every)
        each = [
            {name: str(1 + (turn + place) // len(names)) for place, name in enumerate(names)} for turn in range(turns)
        ]
        return [each[place // stream.renewed_every] for place in range(len(met))]
    after = {name: "2" if name in deployed else "1" for name in names}
    before = dict.fromkeys(names, "1")
    return [after if hit else before for hit in met.tolist()]


def _scores(stream: Stream, model: str, met: np.ndarray) -> np.ndarray:
    """A model's scores: as ever, and otherwise for the events that meet the fault."""
    usual = stream.world.score(model, stream.columns)
    part = np.flatnonzero(met)
    if len(part) and (stream.road or model in stream.own or model in stream.files or model in stream.bend):
        usual = usual.copy()
        usual[part] = stream.score(model, take(stream.columns, part))
    return usual


def _probes(stream: Stream, asked: Columns) -> tuple[list[Event], list[Event]]:
    """The probes as they are answered before the fault, and after it."""
    world = stream.world
    latency = {name: np.ones(len(asked["at_ms"])) for name in world.models}
    return (
        list(events(asked, {name: world.score(name, asked) for name in world.models}, latency, None, world.fields)),
        list(events(asked, {name: stream.score(name, asked) for name in world.models}, latency, None, world.fields)),
    )


def _stratified(world: World, columns: Columns) -> Columns:
    """Records of the reference, as the monitor chooses them."""
    shown = events(take(columns, slice(CANDIDATES)), {}, {}, None, world.fields)
    candidates = [Candidate(Probe(None, b"%d" % place), one.features) for place, one in enumerate(shown)]
    return take(columns, np.array([int(one.value) for one in choose(candidates, PROBES)]))
