"""One model raises, leaks, dies or hangs: what the others' answers and scores take meanwhile, without it and with it.

The faulty models run side by side in one pipeline. A field of the event says whose turn it is, so a stretch without
trouble comes right before each fault's own, and the log says which request was of which.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.kafka.clients import Cluster
from tests.broker.models import FINE, HANGS, LEAKS, RAISES, SEGFAULTS
from tests.broker.pipelines import Up, until, up, write
from tests.faults.conftest import LONG, Note
from tests.faults.flow import Place, flow, score_ages_ms
from tests.faults.load import Load, assert_kept, findings, plain

FAULTS = {"raises": RAISES, "leaks": LEAKS, "segfaults": SEGFAULTS, "hangs": HANGS}
ENDED = {"leaks": "by its memory limit", "segfaults": "by SIGSEGV"}
OTHERS = ("good", "plain", "watcher")
UNTOUCHED = ("router", "rendezvous", "archiver", *(f"scorer.{model}" for model in (*OTHERS, "raises")))

RATE, STRETCH_S = 200, 15 if LONG else 1
TURNS = """
[[features]]
name = "trouble"
type = "number"
"""
MODEL = """
[[models]]
name = "{0}"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:{0}"
"""
FAULTY = "".join(map(MODEL.format, ("raises", "segfaults", "hangs", "leaks"))) + "memory_mb = 150\n"
SOON = "" if LONG else "[quarantine]\nfailures = 2\n"


class Stretches:
    """Whose turn it was in each stretch of the load, and of which stretch each request is."""

    def __init__(self) -> None:
        self.turns = [FINE]
        self._of: list[int] = []

    def value(self, number: int) -> dict[str, Any]:
        """What the load sends; called once for each number."""
        stretch = len(self.turns) - 1
        self._of.append(stretch)
        return plain(number) | {"trouble": self.turns[stretch]}

    def places(self, load: Load) -> list[list[Place]]:
        """Where the requests of each stretch are, in their order."""
        found: list[list[Place]] = [[] for _ in self.turns]
        for place, request_id in sorted(load.acknowledged.items()):
            found[self._of[int(request_id.rsplit("-", 1)[1])]].append(place)
        return found


def becomes(pipeline: Up, model: str) -> str:
    """Wait for what becomes of a model in trouble, and say it."""

    def state() -> dict[str, Any]:
        return dict(pipeline.status["roles"][f"scorer.{model}"])

    if model == "raises":
        until(lambda: state()["figures"]["failed"] > 0, 30, "its rows are errors")
        return "its rows failed, it ran on"
    if model == "hangs":
        if not LONG:
            return "nobody waited for it"
        until(lambda: state()["restarts"] >= 1, 90, "it is ended, and started again")
        return f"ended {state()['reason'].split(' on ')[0]}, started again"
    until(lambda: state()["state"] == "quarantine", 60, f"one that {model} is in quarantine")
    why = state()["reason"]
    assert f"at last {ENDED[model]}" in why
    assert state()["restarts"] >= 1
    return f"started again {state()['restarts']} times, then in quarantine"


@pytest.mark.timeout(400)
def test_a_model_in_trouble_costs_its_neighbours_nothing(cluster: Cluster, tmp_path: Path, name: str, note: Note):
    # A budget that a busy machine keeps: a router that is late does not ask shadows.
    file = write(tmp_path, name, budget_ms=5_000, more=TURNS + FAULTY + SOON)
    stretches, became = Stretches(), dict[str, str]()
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        with Load(cluster, pipeline.topics.raw, RATE, stretches.value) as load:
            load.wait(1)
            for model, turn in FAULTS.items():
                for whose in (FINE, turn):
                    stretches.turns.append(whose)
                    end = load.sent + STRETCH_S * RATE
                    until(lambda end=end: load.sent >= end, 3 * STRETCH_S + 30, "the stretch is over")
                became[model] = becomes(pipeline, model)
        found = findings(pipeline, file, load)
        assert [pipeline.restarts(role) for role in UNTOUCHED] == [0] * len(UNTOUCHED)
        went = flow(cluster, name)
        ages_ms = score_ages_ms(cluster, name, went.asked_ms)
    assert_kept(found)
    places = stretches.places(load)
    for number, model in enumerate(FAULTS):
        without, with_it = places[2 * number + 1 : 2 * number + 3]
        assert sum(place in ages_ms[model] for place in without) >= 0.5 * len(without), "it was well until then"
        assert with_it[-1] not in ages_ms[model], "it was in trouble"
        assert sum(went.answers[place].model == "good" for place in with_it) >= 0.9 * len(with_it)
        equal = [part[: STRETCH_S * RATE] for part in (without, with_it)]
        answers = [p99_ms(went.answers[place].used_ms for place in part) for part in equal]
        scores = [
            p99_ms(of[place] for of in map(ages_ms.__getitem__, OTHERS) for place in part if place in of)
            for part in equal
        ]
        figures = f"answers {answers[0]:.0f} -> {answers[1]:.0f} ms, scores {scores[0]:.0f} -> {scores[1]:.0f}"
        note(
            f"one model {model}",
            f"{STRETCH_S} s without it, {STRETCH_S} s with it; the others' p99: {figures}; {became[model]}",
            found,
        )
        if LONG:
            assert all(worse <= 2 * before + 10 for before, worse in (answers, scores)), figures


def p99_ms(times_ms: Iterable[float]) -> float:
    return float(np.percentile(list(times_ms), 99))
