"""`models retire --delete-topic`: a topic goes when nobody needs it any more, and stays gone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from agents.cli import moves, place, run, topic_end, topics, up
from agents.cli.topic_end import StillNeeded, end_topics
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Kind, Model, Pipeline, Role
from schemas.roster import LEAD_MS, Moved, State
from schemas.topics import Topic
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from tests.unit.small import TEXT, pipeline
from tests.unit.test_roster import NEW, history, move, staged

NOWHERE = Cluster("nowhere:9")
SECOND_ENDS = (move("second", State.CHALLENGER, State.RETIRED),)
TOPIC, RAW = "small.model.second", "small.raw"
SCORER, ROUTER = "small.scorer.second.1", "small.router"
NEWER = staged(Model(name="second", version="2", kind=Kind.CONSTANT, value=1.0, role=Role.SHADOW), State.RETIRED)


@dataclass
class World:
    """A cluster as the command asks it: by topic its end, by group and topic what is committed, who reads."""

    ends: dict[str, int] = field(default_factory=lambda: {RAW: 100, TOPIC: 40})
    first_after: int = 90
    committed: dict[tuple[str, str], int] = field(default_factory=lambda: {(ROUTER, RAW): 90, (SCORER, TOPIC): 40})
    readers: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    moves: list[Moved] = field(default_factory=lambda: list(SECOND_ENDS))
    deleted: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    now_s: float = 0.0
    later: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)
    at_deletion: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        """Time goes on, and with it what was to come."""
        self.now_s += seconds
        for at_s, happens in [one for one in self.later if one[0] <= self.now_s]:
            self.later.remove((at_s, happens))
            happens()

    def history(self) -> History:
        return history(*self.moves)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()

    class Reader:
        def __init__(self, _: Cluster, topic: str) -> None:
            self.topic, self.partitions = topic, [0]

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def bounds(self) -> dict[int, tuple[int, int]]:
            return {0: (0, found.ends[self.topic])}

        def at_time(self, _: int) -> dict[int, int]:
            return {0: found.first_after}

    class Groups:
        def __init__(self, _: Cluster) -> None: ...

        def readers(self, names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
            return {name: found.readers.get(name, {}) for name in names}

        def committed(self, group: str, topic: str, _: Sequence[int]) -> dict[int, int]:
            at = found.committed.get((group, topic))
            return {} if at is None else {0: at}

    class Admin:
        def __init__(self, _: Cluster) -> None: ...

        def partitions(self) -> dict[str, int]:
            return dict.fromkeys(found.ends, 1)

        def delete(self, names: Sequence[str]) -> None:
            found.deleted += names
            found.at_deletion()

        def ensure(self, wanted: Sequence[Topic]) -> None:
            found.made += [topic.name for topic in wanted]

    monkeypatch.setattr(topic_end, "TopicReader", Reader)
    monkeypatch.setattr(topic_end, "Groups", Groups)
    monkeypatch.setattr(topic_end, "Admin", Admin)
    monkeypatch.setattr(RosterLog, "read", lambda _: found.history())
    monkeypatch.setattr(topic_end.time, "monotonic", lambda: found.now_s)
    monkeypatch.setattr(topic_end.time, "sleep", found.sleep)
    return found


def ended(within_s: float = 60, of: Pipeline | None = None, *, force: bool = False) -> list[str]:
    return end_topics(NOWHERE, of or pipeline(), "second", within_s, force=force)


def test_a_topic_goes_when_its_move_counts_its_rows_are_sent_and_read_and_its_reader_is_gone(world: World):
    world.committed = {(ROUTER, RAW): 70, (SCORER, TOPIC): 10}
    world.readers = {TOPIC: {SCORER: ["/10.0.0.7"]}}
    world.later += [
        (5, lambda: world.committed.update({(ROUTER, RAW): 95})),
        (10, lambda: world.committed.update({(SCORER, TOPIC): 40})),
        (15, lambda: world.readers.clear()),
    ]
    assert ended() == world.deleted == [TOPIC]
    assert world.now_s == 15


def test_nothing_goes_before_the_move_counts(world: World):
    assert ended(0) == [TOPIC]
    assert LEAD_MS / 1e3 < world.now_s <= LEAD_MS / 1e3 + 2 * topic_end.LOOK_S


@pytest.mark.parametrize("force", [False, True])
def test_what_still_needs_it_is_said_with_figures_and_it_stays(world: World, force: bool):
    world.committed = {(ROUTER, RAW): 70, (SCORER, TOPIC): 10}
    world.readers = {TOPIC: {SCORER: ["/10.0.0.7"], "java": ["/10.0.0.8"]}}
    with pytest.raises(StillNeeded) as refused:
        ended(2, force=force)
    assert str(refused.value) == (
        "small.model.second stays: the router is still to read 20 requests of small.raw, which came before that "
        "counted; java reads small.model.second (/10.0.0.8), 40 records wait for it; small.scorer.second.1 reads "
        "small.model.second (/10.0.0.7), 30 records wait for it. Wait for it, or start who is missing, and say "
        "`models retire second --delete-topic` again"
    )
    assert refused.value.exit_code == 3
    assert (world.deleted, 2 <= world.now_s <= 3) == ([], True)


def test_rows_that_nobody_will_ever_read_go_by_force_only(world: World):
    world.committed[SCORER, TOPIC] = 10
    with pytest.raises(
        StillNeeded, match=r"30 records of small.model.second wait for small.scorer.second.1, of which"
    ):
        ended(2)
    assert world.deleted == []
    assert ended(2, force=True) == world.deleted == [TOPIC]


def test_a_router_that_never_committed_may_read_all_of_it(world: World):
    del world.committed[ROUTER, RAW]
    with pytest.raises(StillNeeded, match="the router is still to read 90 requests"):
        ended(2, force=True)
    assert world.deleted == []


def test_the_topic_where_rows_wait_for_scores_goes_too_and_its_coupler_is_waited_for(world: World):
    waiting = "small.needs.second"
    world.ends[waiting] = 7
    world.committed["small.coupler.second", waiting] = 5
    with pytest.raises(StillNeeded, match=r"2 records of small.needs.second wait for small.coupler.second, of which"):
        ended(2)
    world.committed["small.coupler.second", waiting] = 7
    assert ended() == [TOPIC, waiting]


def test_a_name_that_comes_again_while_it_is_waited_for_keeps_its_topic(world: World):
    world.readers = {TOPIC: {SCORER: ["/10.0.0.7"]}}
    world.later.append((3, lambda: world.moves.append(NEWER)))
    with pytest.raises(StillNeeded, match="second 2 is staged: its topic stays"):
        ended()
    assert (world.deleted, world.now_s) == ([], 3)


def test_a_name_that_comes_again_at_the_very_moment_has_its_topic_made_anew(world: World):
    world.at_deletion = lambda: world.moves.append(NEWER)
    with pytest.raises(StillNeeded, match="second 2 was added meanwhile: small.model.second was made anew"):
        ended()
    assert (world.deleted, world.made) == ([TOPIC], [TOPIC])


def test_what_is_gone_is_gone(world: World):
    del world.ends[TOPIC]
    assert ended() == []
    assert world.now_s == 0


# The command ------------------------------------------------------------------------------------------------


@pytest.fixture
def made(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Moved]:
    """Moves that the command made."""
    found: list[Moved] = []

    def make(_: RosterLog, one: Moved) -> None:
        found.append(one)
        world.moves.append(one)

    monkeypatch.setattr(RosterLog, "move", make)
    monkeypatch.setattr(moves, "look", lambda _: (pipeline(), NOWHERE, world.history()))
    return found


def retire(*words: str) -> Result:
    return CliRunner().invoke(moves.retire, list(words), standalone_mode=False)


def test_a_model_is_retired_and_its_topic_deleted_at_once_or_later(world: World, made: list[Moved]):
    world.moves = []
    done = retire("second", "--delete-topic")
    assert done.output == "second 1 is retired\nsmall.model.second is deleted\n"
    assert [one.after for one in made] == [State.RETIRED]
    again = retire("second", "--delete-topic", "--json")
    assert '{"model":"second","deleted":["small.model.second"]}' in again.output
    assert len(made) == 1, "it is retired once"
    assert "second is retired" in str(retire("second").exception)


@pytest.mark.parametrize("name", ["first", "yardstick"])
def test_who_may_not_be_retired_keeps_the_topic(world: World, made: list[Moved], name: str):
    world.moves, world.ends = [], {RAW: 100, f"small.model.{name}": 1}
    done = retire(name, "--delete-topic")
    assert isinstance(done.exception, ConfigurationRefused)
    assert (made, world.deleted) == ([], [])


@pytest.mark.parametrize("version", ["1", "2"])
def test_two_versions_of_a_name_have_one_topic_which_stays(world: World, made: list[Moved], version: str):
    world.moves = [
        staged(replace(NEW, name="second", version="2", features=("late", "x"))),
        move("second", State.STAGED, State.WARMING, "2"),
        move("second", State.WARMING, State.SHADOW, "2"),
    ]
    done = retire("second", "--version", version, "--delete-topic")
    other = {"1": "2", "2": "1"}[version]
    assert str(done.exception).startswith(f"second {other} reads the same topic: it stays")
    assert (made, world.deleted) == ([], [])


# Nobody makes it anew ---------------------------------------------------------------------------------------


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The topics that a start makes, or asks for."""
    found: list[str] = []

    class Admin:
        def __init__(self, _: Cluster) -> None: ...

        def ensure(self, wanted: Sequence[Topic]) -> list[str]:
            found.extend(topic.name for topic in wanted)
            return []

        require = ensure

        def check_rights(self, *_: object) -> None: ...

        def partitions(self) -> dict[str, int]:
            return {"small.roster-history": 1}

    without = replace(pipeline(), models=tuple(one for one in pipeline().models if one.name != "second"))
    monkeypatch.setattr(up, "Admin", Admin)
    monkeypatch.setattr("streams.kafka.admin.Admin", Admin)
    monkeypatch.setattr(Cluster, "check_reachable", lambda *_: None)
    monkeypatch.setattr(place, "cluster", lambda: NOWHERE)
    monkeypatch.setattr(place, "rostered", lambda *_: without)
    return found


def test_no_start_makes_or_misses_the_topic_of_a_model_that_is_retired(looked_at: list[str], tmp_path: Path):
    up._look(NOWHERE, pipeline(), standby=False)
    assert {"small.raw", "small.model.first"} <= set(looked_at)
    assert TOPIC not in looked_at
    looked_at.clear()
    run._look(NOWHERE, pipeline(), "router", "")
    assert {"small.raw", "small.model.first"} <= set(looked_at)
    assert TOPIC not in looked_at
    (tmp_path / "small.toml").write_text(TEXT)
    done = CliRunner().invoke(topics.topics, ["-P", str(tmp_path / "small.toml")])
    assert "small.model.first" in done.output
    assert TOPIC not in done.output
