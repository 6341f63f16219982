"""The bench of verdicts counts what it says it counts."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from streams.core.verdicts.telling import BARE
from streams.core.verdicts.words import Verdict, Word
from tests.bench.verdicts import __main__ as bench
from tests.bench.verdicts import flown
from tests.bench.verdicts.__main__ import BARS, figures, missed
from tests.bench.verdicts.flown import Flown, Pool, features, matrix
from tests.bench.verdicts.made import Made
from tests.bench.verdicts.playing import REFERENCE, Played, _judge, _scores, _versions, is_right
from tests.bench.verdicts.public import Heard, _alarms, _delay, compared
from tests.bench.verdicts.scenarios import CORE, HARD, SCENARIOS, Stream, Truth
from tests.bench.verdicts.world import INDEPENDENT, KINDS, take

ONSET = REFERENCE + 2300


def said(word: Word, at: int, **named: str) -> Verdict:
    return replace(BARE, verdict=word, said_at_event=at, **named)


def judged(*verdicts: Verdict) -> Played:
    found = Played("x", CORE, "made", "daily", 1, probes=False)
    for verdict in verdicts:
        _judge(found, verdict, Truth(Word.DATA, frozenset(["age"])), ONSET)
    return found


def test_the_first_alarm_after_the_onset_has_to_be_right_and_what_came_before_is_false():
    healthy = said(Word.HEALTHY, REFERENCE + 999)
    early, right = said(Word.DATA, ONSET - 300, field="age"), said(Word.DATA, ONSET + 499, field="age, other")
    found = judged(healthy, early, right)
    assert (found.right, found.delay, found.windows, len(found.false_alarms)) == (True, 0.5, 2, 1)
    found = judged(said(Word.CODE, ONSET + 100, model="a"), right)
    assert (found.right, found.delay, found.first) == (False, 0.5, "code a")
    found = judged(said(Word.DATA, ONSET + 3001, field="age"))
    assert (found.right, found.delay) == (False, pytest.approx(3.002))
    assert judged(healthy).delay is None


@pytest.mark.parametrize(
    ("verdict", "truth", "right"),
    [
        (said(Word.CODE, 0, model="a"), Truth(Word.CODE, model="a"), True),
        (said(Word.CODE, 0, model="b"), Truth(Word.CODE, model="a"), False),
        (said(Word.CANARY, 0, model="a"), Truth(Word.CODE, model="a"), False),
        (said(Word.DATA, 0), Truth(Word.DATA, frozenset(["age"])), False),
        (said(Word.DATA, 0, field="age"), Truth(Word.DATA), True),
        (said(Word.UPSTREAM, 0), Truth(Word.UPSTREAM), True),
    ],
)
def test_right_is_the_word_and_whom_it_names(verdict: Verdict, truth: Truth, right: bool):
    assert is_right(verdict, truth) is right


@pytest.mark.parametrize("name", ["recalibrated, order kept", "small recalibration"])
def test_a_recalibration_counts_only_when_it_is_said_that_the_order_is_unchanged(name: str):
    world = Made(1)
    stream = Stream(world, world.draw(np.random.default_rng(1), 100, INDEPENDENT, 0.0))
    truth = next(one for one in SCENARIOS if one.name == name).fault(stream, np.random.default_rng(2), 50)
    changed = said(Word.CODE, 0, model=truth.model, sentence="champion changed, the input did not")
    rescaled = replace(changed, sentence="champion is rescaled, order unchanged: x1.2", rescaled=True)
    assert (is_right(changed, truth), is_right(rescaled, truth)) == (False, True)
    swapped = Truth(Word.CODE, model=truth.model)
    assert (is_right(changed, swapped), is_right(rescaled, swapped)) == (True, False)


def test_figures_are_shares_medians_and_alarms_by_the_thousand():
    played = [
        Played("a", CORE, "made", "daily", 1, probes=True, right=True, delay=0.2, windows=3),
        Played("b", CORE, "made", "daily", 1, probes=True, right=False, delay=None, windows=2, false_alarms=["x"]),
        Played("c", HARD, "made", "clustered", 1, probes=True, right=True, delay=1.0, windows=2),
        Played("quiet", "quiet", "made", "daily", 1, probes=True, windows=245),
        Played("a", CORE, "made", "daily", 1, probes=False, right=True, delay=0.4, windows=3),
    ]
    found = figures(played)["with_probes"]
    assert (found["core"], found["hard"], found["never_named"]) == (0.5, 1.0, 1)
    assert (found["worst_delay"], found["median_delay"]) == (9.0, 1.0)
    assert found["false_alarms_per_1000"] == {"independent": 0.0, "daily": 4.0, "clustered": 0.0}
    assert found["quiet_windows"]["daily"] == 250


def fine() -> dict[str, Any]:
    """Figures that reach every bar."""
    mode = {"core": 1.0, "hard": 0.95, "worst_delay": 2.5, "median_delay": 0.2}
    alarms = {"false_alarms_per_1000": {"independent": 0.0, "daily": 1.0, "clustered": 9.9}}
    return deepcopy({"with_probes": mode | alarms, "us_per_event": 19.0}) | deepcopy({"without": mode | alarms})


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (("with_probes", "core"), 0.996, "core, with probes: 0.996, and the bar is at least 1"),
        (("without", "core"), 0.96, "core, by statistics alone: 0.96, and the bar is at least 0.97"),
        (("without", "hard"), 0.89, "hard, by statistics alone: 0.89, and the bar is at least 0.9"),
        (("with_probes", "worst_delay"), 3.89, "worst delay, with probes: 3.89, and the bar is at most 3"),
        (("without", "worst_delay"), 9.0, "worst delay, by statistics alone: 9, and the bar is at most 3"),
        (("with_probes", "median_delay"), 0.6, "median delay, with probes: 0.6, and the bar is at most 0.5"),
        (("us_per_event",), 21.0, "us per event: 21, and the bar is at most 20"),
        (
            ("without", "false_alarms_per_1000", "daily"),
            1.2,
            "false alarms per 1,000 quiet windows, daily, by statistics alone: 1.2, and the bar is at most 1",
        ),
    ],
)
def test_a_bar_that_is_missed_is_named_with_its_figure(place: tuple[str, ...], value: float, line: str):
    assert missed(fine()) == []
    found = inner = fine()
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    assert missed(found) == [line]


@pytest.mark.parametrize(("us", "code"), [(19.0, 0), (20.1, 3)])
def test_the_bench_ends_with_3_when_a_bar_is_missed(
    us: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    played = [
        Played(one.name, one.tier, "made", kind, 1, probes=probes, right=True, delay=0.2, windows=3)
        for one in SCENARIOS
        for kind in KINDS
        for probes in (True, False)
    ]
    monkeypatch.setattr(bench, "pool", lambda: None)
    monkeypatch.setattr(bench, "_each", lambda *_: [played])
    monkeypatch.setattr(bench, "cost", lambda: {"us_per_event": us, "wall_us_per_event": 2 * us})
    monkeypatch.setattr(bench, "public", lambda _: {})
    said = CliRunner().invoke(bench.main, ["--out", str(tmp_path / "figures.json")])
    assert said.exit_code == code, said.output
    assert ("missed: us per event: 20.1" in said.stderr) is (code == 3)
    assert (tmp_path / "figures.json").exists()


def test_there_are_the_scenarios_that_were_asked_for_and_every_figure_has_its_bar():
    assert len({one.name for one in SCENARIOS}) >= 16
    assert {one.tier for one in SCENARIOS} == {CORE, HARD}
    assert set(KINDS) <= set(BARS)


def test_quiet_streams_have_deploys_that_change_nothing():
    world = Made(1)
    columns = world.draw(np.random.default_rng(1), 90, INDEPENDENT, 0.0)
    stream = Stream(world, columns, renewed_every=20)
    found = _versions(stream, set(), np.zeros(90, bool))
    assert found[0] == found[19] == dict.fromkeys(world.models, "1")
    turns = [sum(version == "2" for version in found[20 * turn].values()) for turn in range(5)]
    assert turns == [0, 1, 2, 3, 4]
    met = np.arange(90) >= 50
    assert not (_scores(stream, "champion", met) - world.score("champion", columns)).any()


class Counted:
    """A file that answers a row's sum, and counts the rows it is asked for."""

    rows = 0

    def predict(self, inputs: np.ndarray, num_threads: int) -> np.ndarray:
        self.rows += len(inputs) * num_threads
        return inputs.sum(1)


def test_a_flight_is_scored_once_and_again_only_where_a_fault_has_touched_it(monkeypatch: pytest.MonkeyPatch):
    columns = {
        one.name: np.array(["", *one.vocabulary[:3]], object) if one.vocabulary else np.array([np.nan, 1.0, 2.0, 3.0])
        for one, _ in features()
    }
    file: Any = Counted()
    monkeypatch.setattr(flown, "pool", lambda: Pool(columns, np.zeros(4, int), {"full": file}))
    world = Flown(1)
    drawn = take(world.pool.columns, np.array([3, 0, 3, 1]))
    every = matrix(drawn).sum(1)
    assert (world.score("full", drawn) == every).all()
    assert (world.score("full", drawn) == every).all()
    assert file.rows == 3
    for name, value in (("hour", 7.0), ("carrier", "NEW"), ("wind_speed", np.nan)):
        touched = drawn | {name: drawn[name].copy()}
        touched[name][2] = value
        assert (world.score("full", touched) == matrix(touched).sum(1)).all()
    assert file.rows == 6


class Above:
    """Finds a change at every value above one."""

    def __init__(self) -> None:
        self.drift_detected = False

    def update(self, value: float) -> None:
        self.drift_detected = value > 1


def test_a_public_detector_is_timed_from_the_onset_and_what_it_said_before_is_no_merit():
    def delay(*columns: Sequence[float]) -> float | None:
        return _delay([Above() for _ in columns], columns, 3)

    quiet = [0.0] * 8
    assert list(_alarms(Above(), [0, 2, float("nan"), 3])) == [1, 3]
    assert delay(quiet, [9, 9, 9, 0, 0, 9, 0, 0]) == 0.003
    assert delay([0, 0, 0, 0, 2, 0, 0, 0], [0, 0, 0, 0, 0, 9, 0, 0]) == 0.002
    assert delay(quiet, [9, 9, 9, 0, 0, 0, 0, 0]) is None


def test_public_detectors_are_counted_over_all_their_streams():
    every = [
        Heard("ADWIN", "made", "daily", 1, {"a": 0.5, "b": None}, 100, 90),
        Heard("ADWIN", "flights", "daily", 1, {"a": 1.5}, 100, 0),
    ]
    found = compared(every, ("daily",))["ADWIN"]
    assert (found["faults"], found["found"], found["median_delay"]) == (3, 2, 1.0)
    assert found["false_alarms_per_1000"] == {"daily": 450.0}
