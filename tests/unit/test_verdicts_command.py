"""`rendezvous verdicts --from-scores`: files in, verdicts out, and nothing in a file that makes it crash."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agents.cli.verdicts import verdicts
from schemas.errors import RendezvousError, UnreadableRecord
from tests.bench.verdicts.made import Made
from tests.bench.verdicts.world import INDEPENDENT, events

ROWS = 3000
SETTING = {
    "models": {name: {"role": role, "version": "1"} for name, role in Made.models.items()},
    "reference_rows": ROWS,
    "features": list(Made.fields),
}


@pytest.fixture(scope="module")
def lines() -> list[str]:
    world, chance = Made(5), np.random.default_rng(5)
    columns = world.draw(chance, ROWS + 2300, INDEPENDENT, 15_000.0)
    scores = {name: world.score(name, columns) for name in world.models}
    latency = {name: np.full(ROWS + 2300, 5.0) for name in world.models}
    return [
        json.dumps({"ts_ms": one.ts_ms, "features": one.features, "scores": one.scores})
        for one in events(columns, scores, latency, None, world.fields)
    ]


def run(file: Path, *options: str) -> Result:
    return CliRunner().invoke(verdicts, ["--from-scores", str(file), *options], catch_exceptions=False)


def written(folder: Path, lines: list[str]) -> Path:
    file = folder / "scores.jsonl"
    file.write_text("\n".join([json.dumps(SETTING), *lines]) + "\n")
    return file


def test_one_verdict_a_window_as_json_and_as_text(tmp_path: Path, lines: list[str]):
    file = written(tmp_path, lines)
    found = [json.loads(line) for line in run(file, "--json").stdout.splitlines()]
    assert [one["verdict"] for one in found] == ["healthy", "healthy", "too-few"]
    assert [one["from_event"] for one in found] == [3000, 4000, 5000]
    assert found[2]["events"] == 300
    text = run(file).stdout.splitlines()
    assert len(text) == 3
    assert "healthy: Nothing moved." in text[0]
    assert "2011-01-2" in text[0]


def given(lines: list[str], change: Callable[[int, dict[str, Any]], list[dict[str, Any]]]) -> list[str]:
    """What becomes of each line; the live ones are those from 0 on."""
    return [json.dumps(new) for place, line in enumerate(lines) for new in change(place - ROWS, json.loads(line))]


def alarms(file: Path) -> list[dict[str, Any]]:
    """The verdicts of a file that are no silence."""
    every = map(json.loads, run(file, "--json").stdout.splitlines())
    return [one for one in every if one["verdict"] not in ("healthy", "too-few")]


@pytest.mark.parametrize("of_each", [False, True])
def test_latencies_are_read_of_the_event_or_of_each_model(tmp_path: Path, lines: list[str], of_each: bool):
    dice = np.random.default_rng(8)

    def timed(slower: float, place: int, event: dict[str, Any]) -> list[dict[str, Any]]:
        usual_ms = float(np.exp(2 + 0.4 * dice.normal()))
        slow_ms = usual_ms * (slower if place >= 500 else 1)
        took = dict.fromkeys(Made.models, usual_ms) | {"shadow": slow_ms} if of_each else slow_ms
        return [event | {"latency_ms": took}]

    assert alarms(written(tmp_path, given(lines, partial(timed, 1.0)))) == []
    found = alarms(written(tmp_path, given(lines, partial(timed, 3.0))))
    assert {one["verdict"] for one in found} == {"traffic"}
    assert found[0]["evidence"]["moved"][0]["what"] == "latency"
    assert found[0]["evidence"]["moved"][0]["of"] == ("shadow" if of_each else "all")


def test_versions_are_read_and_a_deploy_is_named_beside_what_it_changed(tmp_path: Path, lines: list[str]):
    def deployed(place: int, event: dict[str, Any]) -> list[dict[str, Any]]:
        new = place >= 500
        scores = event["scores"] | ({"champion": event["scores"]["champion"] ** 2} if new else {})
        return [
            event | {"scores": scores, "versions": dict.fromkeys(scores, "1") | {"champion": "2" if new else "1"}}
        ]

    found = alarms(written(tmp_path, given(lines, deployed)))
    assert {(one["verdict"], one["model"]) for one in found} == {("code", "champion")}
    assert found[0]["deploys"] == [f"champion 1 -> 2 at event {ROWS + 500}"]


@pytest.mark.parametrize("named", [False, True])
def test_probes_are_read_by_their_name_or_by_their_input_and_are_no_events(
    tmp_path: Path, lines: list[str], named: bool
):
    asked = [json.loads(line) for line in lines[:20]]

    def probed(place: int, event: dict[str, Any]) -> list[dict[str, Any]]:
        if place % 500:
            return [event]
        answers = {"champion": 0.5} if place >= 1500 else {}
        return [
            one
            | {"ts_ms": event["ts_ms"], "probe": f"p{key}" if named else True}
            | {"scores": one["scores"] | (answers if key < 5 else {})}
            for key, one in enumerate(asked)
        ] + [event]

    every = [json.loads(line) for line in run(written(tmp_path, given(lines, probed)), "--json").stdout.splitlines()]
    assert [(one["verdict"], one["model"]) for one in every[:2]] == [("healthy", None), ("code", "champion")]
    assert every[1]["evidence"]["probes"].startswith("changed: champion")
    assert [(one["from_event"], one["events"]) for one in every[:2]] == [(3000, 1000), (4000, 500)]
    assert every[1]["probes"] == 40, "two rounds"


def test_garbage_between_the_lines_is_counted_and_changes_nothing(tmp_path: Path, lines: list[str]):
    usual = run(written(tmp_path, lines), "--json").stdout
    garbage = ["{", "[]", "null", '{"scores": 3}', "\x00\x01", "[" * 100_000, "", '{"features": {}, "scores": []}']
    spoiled = lines.copy()
    for place, line in enumerate(garbage):
        spoiled.insert(100 + 700 * place, line)
    done = run(written(tmp_path, spoiled), "--json")
    assert done.stdout == usual
    assert "3 lines are no events: no JSON" in done.stderr
    assert "lines are no events: no JSON object" in done.stderr


@pytest.mark.filterwarnings("error")
def test_a_reference_with_huge_numbers_and_events_that_nobody_scored_is_learnt_without_a_warning(
    tmp_path: Path, lines: list[str]
):
    name = Made.fields[0]
    spoiled = lines.copy()
    for place in range(40):
        event = json.loads(lines[place])
        event["features"][name] = (1e308, -1e308)[place % 2]
        event["scores"] = {} if place % 3 == 0 else dict.fromkeys(event["scores"], 1e308)
        spoiled[place] = json.dumps(event)
    done = run(written(tmp_path, spoiled), "--json")
    assert "Warning" not in done.stderr
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["healthy", "healthy", "too-few"]


def test_nan_as_others_write_it_is_read_and_counted(tmp_path: Path, lines: list[str]):
    spoiled = lines.copy()
    for place in range(ROWS + 100, ROWS + 140):
        event = json.loads(lines[place])
        event["scores"]["champion"] = float("nan")
        spoiled[place] = json.dumps(event)
    found = [json.loads(line) for line in run(written(tmp_path, spoiled), "--json").stdout.splitlines()]
    assert found[0]["verdict"] == "healthy"
    assert any("40 of 1000 scores are no finite numbers" in note for note in found[0]["notes"])


def test_a_file_that_ends_in_its_reference_says_so(tmp_path: Path, lines: list[str]):
    done = run(written(tmp_path, lines[:100]))
    assert done.stdout == ""
    assert "100 events: the reference of 3,000 is not complete" in done.stderr


@pytest.mark.parametrize(("text", "match"), [("", "is empty"), ("garbage\n", "line 1"), ("{}\n", "names no models")])
def test_a_file_without_a_setting_is_refused(tmp_path: Path, text: str, match: str):
    file = tmp_path / "scores.jsonl"
    file.write_text(text)
    with pytest.raises(UnreadableRecord, match=match):
        run(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(RendezvousError, match="cannot be read"):
        run(tmp_path / "none.jsonl")
