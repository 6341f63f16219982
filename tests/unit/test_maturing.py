"""The archiver's upkeep stores days that have become mature, once and for ever."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from faust.types import TP

from agents import archiver
from agents.archiver import Shelf
from agents.compared_hours import ComparedHours
from agents.maturing import Maturing
from agents.told_days import ToldDays
from streams.archive.disk import DiskTrouble
from streams.archive.figures import place_of, read_figures
from streams.core.judged import DAY_MS, SETTLE_MS, day_name, look_again_ms, over_ms
from tests.unit.small import TEXT, pipeline
from tests.unit.test_quality import DAY_START_MS, SETTINGS, archived, label, told, truth_of

DAY = DAY_START_MS // DAY_MS
BY_COLOUR = SETTINGS.replace(', "limits.ms"', "")
NOW_S = over_ms(DAY) / 1e3 + 60


def maturing(tmp_path: Path, settings: str = BY_COLOUR) -> Maturing:
    file = tmp_path / "p.toml"
    file.write_text(TEXT + settings)
    return Maturing(pipeline(TEXT + settings), file, tmp_path / "archive")


def labelled(tmp_path: Path, count: int = 200) -> Path:
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(count)}, over_ms(DAY))
    return root


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "archive" / "quality").rglob("*.parquet"))


def test_a_mature_day_is_stored_without_being_asked_for_and_once(tmp_path: Path):
    root = labelled(tmp_path)
    found = maturing(tmp_path)
    assert asyncio.run(found.store(NOW_S)) == [day_name(DAY)]
    assert [file.name for file in files(tmp_path)] == ["by=all.parquet", "by=colour.parquet"]
    stored = read_figures(place_of(root, "small", day_name(DAY), "")) or []
    assert {row.state for row in stored} == {"mature"}
    bytes_then = [file.read_bytes() for file in files(tmp_path)]
    label(root, {f"r{number}": not truth_of(number) for number in range(200)}, DAY_START_MS + 3 * DAY_MS)
    assert asyncio.run(found.store(NOW_S + 40 * 86_400)) == []
    assert maturing(tmp_path).due(NOW_S * 1e3 + 40 * DAY_MS) == [], "nor after a restart"
    assert [file.read_bytes() for file in files(tmp_path)] == bytes_then
    days = told(tmp_path)["days"]
    assert {row["model"]: row["measures"]["accuracy"]["value"] for row in days} == {
        row.model: row.measures.accuracy.value for row in stored
    }


def test_a_day_is_due_when_it_is_over_and_labels_have_come(tmp_path: Path):
    archived(tmp_path)
    assert maturing(tmp_path).due(NOW_S * 1e3) == [], "who sends no labels has nothing to wait for"
    label(tmp_path / "archive", {"r0": True}, over_ms(DAY))
    assert maturing(tmp_path).due(NOW_S * 1e3) == [DAY]
    assert maturing(tmp_path).due(over_ms(DAY) - 1) == []
    assert Maturing(pipeline(), tmp_path / "p.toml", tmp_path / "nothing").due(NOW_S * 1e3) == []


def test_a_day_that_is_not_mature_is_looked_at_ever_more_seldom_and_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    labelled(tmp_path, 10)
    looks: list[int] = []

    async def judged(_: Maturing, day: int, field: str) -> None:
        looks.append(hour)
        assert (day, field) == (DAY, ""), "its segments are not asked for while the whole is not stored"

    monkeypatch.setattr(Maturing, "_judge", judged)
    found = maturing(tmp_path)
    for hour in range(1, 33 * 24):
        asyncio.run(found.store((DAY_START_MS + DAY_MS) / 1e3 + hour * 3_600))
    assert looks[:4] == [1, 2, 3, 4]
    assert len(looks) < 40
    assert 30 * 24 + 1 in looks, "the first hour in which it is mature whatever came"
    assert not files(tmp_path)


def test_a_look_is_a_quarter_of_the_age_away_but_not_beyond_the_last_day():
    end_ms = (DAY + 1) * DAY_MS
    assert look_again_ms(DAY, end_ms + 8 * DAY_MS, 30) == end_ms + 10 * DAY_MS
    assert look_again_ms(DAY, end_ms + 28 * DAY_MS, 30) == end_ms + 30 * DAY_MS + SETTLE_MS
    assert look_again_ms(DAY, end_ms + 40 * DAY_MS, 30) == end_ms + 50 * DAY_MS


def test_a_command_that_fails_is_said_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    labelled(tmp_path)
    found = maturing(tmp_path)
    (tmp_path / "p.toml").write_text("name = 1")
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(found.store(NOW_S)) == []
    assert any("its figures could not be told: " in record.message for record in caplog.records)


class Tasks:
    """An app that only takes the archiver's tasks; it stops after one round."""

    def __init__(self) -> None:
        self.tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        connect = SimpleNamespace(connect=lambda **_: lambda function: function)
        self.on_partitions_assigned = self.on_partitions_revoked = connect
        self.rounds = iter([False, True])
        self.producer = None

    def agent(self, *_: object, **__: object) -> Callable[[Any], Any]:
        return lambda function: function

    def topic(self, *_: object) -> None:
        return None

    def task(self, function: Any) -> Any:
        self.tasks[function.__name__] = function
        return function

    @property
    def should_stop(self) -> bool:
        return next(self.rounds)


@pytest.mark.parametrize("error", [DiskTrouble("away"), OSError(5, "away")])
def test_a_disk_or_bucket_that_is_away_ends_no_upkeep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
):
    def away(*_: object) -> NoReturn:
        raise error

    async def later(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(archiver, "UPKEEP_FIRST_S", 0.0)
    of = pipeline()
    shelf, app = Shelf(of, tmp_path, dict, "w"), Tasks()
    shelf.writer(TP("small.raw", 0))
    maturing, told, compared = Maturing(of, tmp_path, tmp_path), ToldDays(of, tmp_path, "w"), SimpleNamespace()
    monkeypatch.setattr(shelf, "keep_up", away)
    for one, name in ((maturing, "store"), (told, "tell"), (compared, "keep")):
        monkeypatch.setattr(one, name, later, raising=False)
    archiver.attach(app, of, shelf, maturing, told, compared)  # type: ignore[arg-type]
    asyncio.run(app.tasks["keep_up"]())
    app.rounds = iter([False, True])
    asyncio.run(app.tasks["store_mature_days"]())
    assert [record.message for record in caplog.records] == [str(error)] * 4


@pytest.mark.parametrize(("partition", "stores"), [(0, True), (1, False)])
def test_of_several_archivers_the_one_with_the_first_partition_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition: int, stores: bool
):
    asked = []

    class Asked(Maturing):
        async def store(self, now_s: float) -> list[str]:
            asked.append(now_s)
            return []

    monkeypatch.setattr(archiver, "UPKEEP_FIRST_S", 0.0)
    of = pipeline(partitions=2)
    shelf, app = Shelf(of, tmp_path, dict, "w"), Tasks()
    shelf.writer(TP("small.raw", partition))
    compared = ComparedHours(of, tmp_path, tmp_path)
    archiver.attach(app, of, shelf, Asked(of, tmp_path, tmp_path), ToldDays(of, tmp_path, "w"), compared)  # type: ignore[arg-type]
    asyncio.run(app.tasks["store_mature_days"]())
    assert bool(asked) is stores
