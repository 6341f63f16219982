"""The past of a roster that moved is answered again by who was entitled then."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from agents.cli.columns import read_columns
from agents.cli.golden import golden_check
from agents.cli.moved import by_columns, moved
from agents.cli.past import UNCHANGED, read_past
from agents.cli.races import read_races
from agents.cli.report_figures import Figures, figures
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Feature, FeatureType, Pipeline, Policy, PolicyKind, Role, Step
from schemas.roster import LEAD_MS as ROSTER_LEAD_MS
from schemas.roster import Moved, State
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.ranges import Period
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.entitlement import History
from streams.core.lead import LEAD_MS
from streams.core.past import Way
from tests.unit.lived import START_MS, play
from tests.unit.small import pipeline
from tests.unit.test_roster import NEW, move, promoted, records, staged

PATIENT = Policy(steps=(Step(until=1.0, accept=("champion",)),))
OF = pipeline(policy=PATIENT)
VALUES = [json.dumps({"request_id": f"r{n}", "x": 0.5}).encode() for n in range(400)]
PROMOTED_MS = START_MS + 300 - ROSTER_LEAD_MS
MOVES = (
    promoted("second", State.CHALLENGER, "first"),
    move("second", State.CHAMPION, State.PASSED_OVER),
)


@pytest.fixture
def history() -> History:
    found = History(OF)
    for position, value in enumerate(records(*MOVES)):
        assert found.take(value, position, at_ms(position)) == ""
    return found


def at_ms(position: int) -> int:
    return (START_MS - 10_000, PROMOTED_MS, PROMOTED_MS + 300)[position] if position < 3 else PROMOTED_MS + position


@pytest.fixture
def root(tmp_path: Path, history: History) -> Path:
    lived = play(OF, VALUES, latency_ms=lambda dice, _: dice.uniform(1, 20), spans=history.spans)
    return lived.write(tmp_path, OF.name)


def keep(root: Path, moves: Sequence[Moved] = MOVES) -> None:
    writer = PartitionWriter(Layout(root, Topics(OF.name).roster_history, 0), Limits(9, 1 << 26, 60.0), "id", "w")
    rows = [Record(n, at_ms(n), 1, None, value, None) for n, value in enumerate(records(*moves))]
    writer.append(rows, 0.0)
    writer.close_segment()


def test_the_golden_check_follows_the_archived_moves(root: Path):
    assert not golden_check(root, OF, Period()).ok, "without them the first champion would have answered all"
    keep(root)
    found = golden_check(root, OF, Period())
    assert found.ok, found.mismatches[:3]
    assert found.compared > 200


def test_simulation_and_backtest_do_and_a_candidate_with_other_models_does_not(root: Path):
    keep(root)
    alone = replace(OF, models=tuple(model for model in OF.models if model.role is not Role.CHALLENGER))
    hasty = replace(OF, policy=Policy(steps=(Step(until=1.0, accept=("champion", "challenger")),)))
    ways = [Way(UNCHANGED, OF), Way("hasty", hasty), Way("alone", alone)]
    seen = read_past(root, OF, ways, Period(), None, LEAD_MS)
    columns, slow = read_columns(root, OF, ways, Period(), None, LEAD_MS)
    for name in (UNCHANGED, "hasty", "alone"):
        assert (seen.ways[name].model == columns.ways[name].model).all()
    assert slow == dict.fromkeys((UNCHANGED, "hasty"), "models were moved meanwhile")
    before, after = seen.at_ms < START_MS + 300, seen.at_ms >= START_MS + 300
    champion, second = seen.names.code("first"), seen.names.code("second")
    assert set(seen.ways[UNCHANGED].model[before]) == {champion}
    promoted_rows = after & (seen.at_ms < START_MS + 600)
    assert set(seen.ways[UNCHANGED].model[promoted_rows]) == {second}
    assert champion not in set(seen.ways[UNCHANGED].model[seen.at_ms >= START_MS + 600]), "it is a challenger now"
    assert set(seen.ways["alone"].model) == {champion}


def test_a_roster_that_began_and_moved_nobody_is_the_files(root: Path, history: History):
    (way,) = moved(root, OF, [Way(UNCHANGED, OF)])
    assert way.spans is None
    writer = PartitionWriter(Layout(root, Topics(OF.name).roster_history, 0), Limits(9, 1 << 26, 60.0), "id", "w")
    writer.append([Record(0, START_MS, 1, None, next(records()), None)], 0.0)
    writer.close_segment()
    (way,) = moved(root, OF, [Way(UNCHANGED, OF)])
    assert way.spans is not None
    assert by_columns(way)


RAIN = Feature(name="rain", type=FeatureType.NUMBER, default=0.0)
BEFORE = replace(OF, features=(*OF.features, RAIN))
OLD = replace(NEW, version="1", features=("x", "rain"))
LIFE = (
    staged(OLD),
    move(OLD.name, State.STAGED, State.WARMING),
    move(OLD.name, State.WARMING, State.SHADOW),
    promoted(OLD.name, State.SHADOW, "first"),
)


def test_a_file_by_which_an_archived_move_would_not_count_is_refused_as_up_refuses_it(root: Path):
    keep(root, LIFE)
    (way,) = moved(root, BEFORE, [Way(UNCHANGED, BEFORE)])
    assert way.spans is not None
    assert way.spans.spans[-1].pipeline.model(OLD.name).role is Role.CHAMPION
    said = (
        r"small\.roster-history: by this pipeline file these do not count: record 1 \(models.*'rain' is not declared"
    )
    ways = [Way(UNCHANGED, OF), Way("alone", replace(OF, models=OF.models[:1]))]
    for run in (
        lambda: read_past(root, OF, ways, Period(), None, LEAD_MS),
        lambda: read_columns(root, OF, ways, Period(), None, LEAD_MS),
        lambda: golden_check(root, OF, Period()),
    ):
        with pytest.raises(ConfigurationRefused, match=said) as refused:
            run()
        assert "Take back what was changed in the file" in str(refused.value)
        assert (refused.value.exit_code, len(str(refused.value).splitlines())) == (5, 1)


def test_a_candidates_policy_changes_nothing_of_who_was_there(root: Path):
    gone = (*MOVES, move("second", State.PASSED_OVER, State.CHAMPION), promoted("first", State.CHALLENGER, "second"))
    keep(root, (*gone, move("second", State.CHALLENGER, State.RETIRED)))
    together = replace(OF, policy=Policy(kind=PolicyKind.COMBINE, least=2))
    plain, combined = moved(root, OF, [Way(UNCHANGED, OF), Way("together", together)])
    assert plain.spans is not None
    assert combined.spans is not None
    assert [span.pipeline.models for span in combined.spans.spans] == [
        span.pipeline.models for span in plain.spans.spans
    ]
    assert "second" not in {model.name for model in combined.spans.spans[-1].pipeline.models}
    assert {span.pipeline.policy.kind for span in combined.spans.spans} == {PolicyKind.COMBINE}


def test_a_report_knows_the_moves_too_and_says_where_the_file_contradicts_them(root: Path):
    def told(of: Pipeline = OF) -> Figures:
        return figures(root, of, Period(), read_races(root, of, Period()))

    def roles(found: Figures) -> dict[str, str]:
        return {one.model: one.role for one in found.models}

    assert {one.other for one in told().pairs} == {"first 1", "yardstick 1"}
    keep(root, (*MOVES, move("mirror", State.SHADOW, State.RETIRED)))
    found = told()
    assert roles(found) == {
        "first": "challenger",
        "second": "passed-over",
        "yardstick": "canary",
        "mirror": "was shadow",
    }
    assert list(roles(found))[-1] == "mirror"
    assert {one.other for one in found.pairs} == {"second 1", "yardstick 1"}
    fewer = replace(OF, features=OF.features[:1])
    assert any("roles are those of the pipeline file: small.roster-history" in note for note in told(fewer).notes)
    assert roles(told(fewer)) == {
        "first": "champion",
        "second": "challenger",
        "mirror": "shadow",
        "yardstick": "canary",
    }
