"""What `roster` says of each model, held against what its history comes to by the pipeline file of now."""

from collections.abc import Iterable, Mapping

import pytest
from msgspec.structs import replace

from schemas.errors import ConfigurationRefused, UnreadableRecord
from schemas.pipeline import Feature, FeatureType, Kind, Model, Pipeline, Policy, PolicyKind, Role
from schemas.roster import (
    Began,
    Moved,
    Noted,
    Standing,
    State,
    decode_standing,
    definition_of,
    encode_roster,
)
from streams.core.entitlement import History
from streams.core.standings import differing, standings
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import MoveRefused, RosterLog
from tests.unit.small import pipeline
from tests.unit.test_roster import move, promoted, staged

NOW = pipeline()
BEFORE = replace(NOW, features=(*NOW.features, Feature(name="rain", type=FeatureType.NUMBER)))
OLD = Model(name="old", version="1", kind=Kind.CONSTANT, value=0.3, role=Role.SHADOW, features=("x", "rain"))
LIFE = (
    staged(OLD),
    move("old", State.STAGED, State.WARMING),
    move("old", State.WARMING, State.SHADOW),
    promoted("old", State.SHADOW, "first"),
    promoted("second", State.CHALLENGER, "old"),
    move("old", State.CHALLENGER, State.RETIRED),
)


WHY = "; by it these do not count: record 1 (models[4] (old).features: 'rain' is not declared"


def history(of: Pipeline, moves: Iterable[Moved | Noted] = LIFE) -> History:
    """As whoever has this file reads it."""
    found = History(of)
    began = Began(models=tuple(map(definition_of, NOW.models)), who="ann", at_ms=1)
    for position, record in enumerate((began, *moves)):
        found.take(encode_roster(record), position, 1_000.0 * position)
    return found


def told(found: History, *, as_of: bool = True) -> list[Standing]:
    """What is written of each model when it has come to this."""
    written = list(standings(found).values())
    return written if as_of else [replace(one, as_of=-1) for one in written]


@pytest.mark.parametrize("as_of", [True, False])
def test_a_file_by_which_old_moves_do_not_count_any_more_is_found_out(as_of: bool):
    standings = told(history(BEFORE), as_of=as_of)
    assert differing(history(BEFORE), standings) == ""
    edited = history(NOW)
    assert (history(BEFORE).roster.champion, edited.roster.champion) == ("second", "first"), "nobody would know"
    said = differing(edited, standings)
    assert said.startswith("first 1 is challenger, and by this pipeline file first 1 is champion" + WHY)


def test_it_is_said_of_which_model_by_which_record_and_why():
    (of_old,) = [one for one in told(history(BEFORE)) if one.model == "old"]
    said = differing(history(NOW), [of_old])
    assert said.startswith("old 1 is retired, and by this pipeline file it is not there" + WHY)
    assert "rain" in said


def test_nobody_moves_a_model_and_nothing_starts_by_such_a_file(monkeypatch: pytest.MonkeyPatch):
    log, sent = RosterLog(Cluster("nowhere:9"), NOW), list[str]()
    monkeypatch.setattr(log, "_standings", lambda: told(history(BEFORE)))
    monkeypatch.setattr(log, "read", lambda: history(NOW))
    monkeypatch.setattr(log, "_send", lambda topic, _: sent.append(topic))
    with pytest.raises(
        ConfigurationRefused, match=r"small\.roster: first 1 is .*Take back what was changed in the file"
    ):
        log.move(promoted("mirror", State.SHADOW, "first"))
    assert sent == []
    monkeypatch.setattr(log, "read", lambda: history(BEFORE))
    assert log.agreed().roster.champion == "second"


def test_a_record_by_another_program_is_named_with_the_way_to_be_rid_of_it(monkeypatch: pytest.MonkeyPatch):
    log, standings = RosterLog(Cluster("nowhere:9"), NOW), told(history(BEFORE))
    monkeypatch.setattr(log, "_standings", lambda: standings)
    monkeypatch.setattr(log, "read", lambda: history(BEFORE))
    standings.append(replace(standings[0], model="nobody"))
    with pytest.raises(ConfigurationRefused, match=r"small\.roster: nobody 1 is .* it is not there.*a null value"):
        log.agreed()
    standings.pop()
    assert log.agreed().roster.champion == "second"


def test_a_move_that_this_file_refuses_is_not_even_written(monkeypatch: pytest.MonkeyPatch):
    together = replace(NOW, policy=Policy(kind=PolicyKind.COMBINE, least=2))
    log, sent = RosterLog(Cluster("nowhere:9"), together), list[str]()
    monkeypatch.setattr(log, "_standings", list)
    monkeypatch.setattr(log, "read", lambda: history(together, ()))
    monkeypatch.setattr(log, "_send", lambda topic, _: sent.append(topic))
    with pytest.raises(MoveRefused, match="1 models would be left to combine, and the policy needs 2"):
        log.move(move("second", State.CHALLENGER, State.RETIRED))
    assert sent == []


def test_a_feature_that_no_model_ever_had_may_come_and_go():
    other = replace(NOW, features=(*NOW.features, Feature(name="wind", type=FeatureType.NUMBER)))
    moves = (promoted("second", State.CHALLENGER, "first"),)
    assert differing(history(NOW, moves), told(history(other, moves))) == ""


def test_a_move_that_did_not_count_and_does_now_is_found_out_too():
    standings = told(history(NOW))
    assert differing(history(NOW), standings) == ""
    assert "champion" in differing(history(BEFORE), standings)


@pytest.mark.parametrize("read", range(len(LIFE) + 1))
@pytest.mark.parametrize("as_of", [True, False])
def test_what_was_written_before_later_moves_is_no_difference(read: int, as_of: bool):
    assert differing(history(BEFORE), told(history(BEFORE, LIFE[:read]), as_of=as_of)) == ""


def test_a_standing_is_read_as_it_was_written_and_one_of_before_says_no_as_of():
    (first, *_) = told(history(BEFORE))
    assert decode_standing(encode_roster(first)) == first
    older = encode_roster(first).replace(b',"as_of":6', b"")
    newer = encode_roster(first).replace(b'"model"', b'"mood":{"fine":1},"model"')
    assert decode_standing(newer) == first
    assert b"as_of" not in older
    assert decode_standing(older) == replace(first, as_of=-1)
    on_a_terminal = encode_roster(replace(first, version="\x1b[2J"))
    for nonsense in (None, b"", b"[]", b'{"model":"x"}', b"\xff", on_a_terminal):
        with pytest.raises(UnreadableRecord, match="no model's standing"):
            decode_standing(nonsense)


BESIDE = replace(NOW.model("second"), version="2", value=0.6)
DOUBLE = (
    staged(BESIDE),
    move("second", State.STAGED, State.WARMING, "2"),
    move("second", State.WARMING, State.SHADOW, "2"),
)


def noted(version: str, *, refused: bool = False, quarantined: bool = True) -> Noted:
    why = f"version {version} ended 5 times"
    return Noted(
        model="second", version=version, quarantined=quarantined, who="up", at_ms=1, why=why, refused=refused
    )


def test_the_version_beside_and_who_is_given_up_are_told_to_whoever_reads_the_standings_alone():
    alone = standings(history(NOW, DOUBLE))["second"]
    assert alone.beside is not None
    assert (alone.version, alone.state, alone.beside.version, alone.beside.state) == (
        "1",
        State.CHALLENGER,
        "2",
        State.SHADOW,
    )
    assert (alone.beside.position, alone.beside.since_ms, alone.beside.as_of) == (3, 3_000, 3)
    assert decode_standing(encode_roster(alone)) == alone
    given_up = standings(history(NOW, (*DOUBLE, noted("1"), noted("2", refused=True))))["second"]
    assert given_up.beside is not None
    assert (given_up.quarantine, given_up.refused) == ("version 1 ended 5 times", "")
    assert (given_up.beside.quarantine, given_up.beside.refused) == ("", "version 2 ended 5 times")
    again = (*DOUBLE, noted("1"), noted("2"), noted("1", quarantined=False))
    well = standings(history(NOW, (*again, move("second", State.SHADOW, State.RETIRED, "2"))))["second"]
    assert (well.quarantine, well.beside) == ("", None)


@pytest.mark.parametrize("begun", [True, False])
def test_a_quarantine_is_told_as_a_move_is_and_not_before_there_is_a_roster(
    monkeypatch: pytest.MonkeyPatch, begun: bool
):
    log, sent = RosterLog(Cluster("nowhere:9"), NOW), list[tuple[str, Mapping[bytes | None, bytes]]]()
    monkeypatch.setattr(log, "read", lambda: history(NOW, (noted("1"),)) if begun else History(NOW))
    monkeypatch.setattr(log, "_send", lambda topic, values: sent.append((topic, values)) or 0)
    log.note(noted("1"))
    assert [topic for topic, _ in sent] == ["small.roster-history", "small.roster"][: 1 + begun]
    if begun:
        assert decode_standing(sent[1][1][b"second"]).quarantine == "version 1 ended 5 times"
