"""An upgrade forgets what the monitor knew, but not what models answered first: a change that comes with it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import msgpack
from msgspec.structs import replace

from agents.monitor import Monitor
from agents.snapshot import Snapshot, SnapshotFile, SnapshotLost
from schemas.decisions import Ticket
from schemas.errors import UnreadableRecord
from schemas.pipeline import MonitorSettings
from schemas.verdicts import Reported, Word
from streams.core.first_answers import FirstAnswers, OfModel, decode_first, encode_first
from streams.core.gathering import Gathered, Places
from streams.core.probing import Probe
from streams.core.watching import Watching
from streams.kafka.clients import Cluster
from tests.unit.test_watching import PIPELINE, ROWS, stream, told

COUNT = 16
SETTINGS = MonitorSettings(reference_rows=ROWS, probes=COUNT)
PROBES = [Probe(None, b"%d" % number, {}) for number in range(COUNT)]
PLACES = {0: Places(5, 7, 9)}


def asked(at: int, moved: str = "") -> Iterator[Gathered]:
    """A round of the probes; `moved` answers each a little otherwise."""
    for number, one in enumerate(stream(COUNT)):
        scores = {name: score + 0.001 * (name == moved) for name, score in one.scores.items()}
        yield replace(one, ticket=Ticket(0, at), at_ms=10 * at, probe=f"kept-{number}", scores=scores)


def lived(watching: Watching, moved: str = "", windows: int = 1) -> list[Reported]:
    """A reference, and windows after it, with a round of probes in each thousand."""
    found = []
    for first in range(0, ROWS + 1_000 * windows, 500):
        found += told(watching, asked(first, moved))
        found += told(watching, stream(500, first))
    return found


def fresh() -> Watching:
    return Watching(PIPELINE, SETTINGS, ("x",))


def before(folder: Path) -> SnapshotFile:
    """The snapshot of a life in which all was well, as the program of then wrote it."""
    watching = fresh()
    watching.probing.take_over(PROBES, "kept")
    assert {one.verdict for one in lived(watching)} == {Word.HEALTHY}
    SnapshotFile(folder, "the program before").write(PLACES, watching)
    return SnapshotFile(folder, "this program")


def upgraded(folder: Path) -> Monitor:
    pipeline = replace(PIPELINE, monitor=SETTINGS)
    monitor = Monitor(pipeline, SETTINGS, Cluster("127.0.0.1:1"), before(folder))
    assert monitor.positions([]) == {}
    return monitor


def test_a_change_of_code_that_comes_with_an_upgrade_is_told_and_not_acquitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    watching = upgraded(tmp_path)._watching
    assert "probes are held against their first answers still" in caplog.text
    assert (watching.probing.probes, watching.probing.name, watching.judging) == (PROBES, "kept", None)
    [first, *_] = lived(watching, moved="second")
    assert (first.verdict, first.model, first.evidence.probes) == (Word.CODE, "second", "changed: second")
    assert "16 of 16 probes answered otherwise" in first.sentence


def test_an_upgrade_that_changes_no_answer_changes_no_verdict(tmp_path: Path):
    found = lived(upgraded(tmp_path)._watching, windows=2)
    assert [one.verdict for one in found] == [Word.HEALTHY] * 2
    assert not any(one.evidence.probes.startswith("changed") for one in found)


def test_they_survive_upgrade_after_upgrade_though_no_request_came_between(tmp_path: Path):
    watching = upgraded(tmp_path)._watching
    SnapshotFile(tmp_path, "one more program").write(PLACES, watching)
    with pytest.raises(SnapshotLost) as lost:
        SnapshotFile(tmp_path, "the next").read()
    assert lost.value.first_answers == watching.first_answers() == watching.carried
    again = fresh()
    again.carry(lost.value.first_answers)
    assert lived(again, moved="second")[0].model == "second"


def test_without_a_snapshot_there_is_nothing_to_hold_against_and_as_many_probes_have_to_be_asked_for(tmp_path: Path):
    file = before(tmp_path)
    file.path.unlink()
    assert file.read() is None
    found = FirstAnswers(COUNT, "kept", PROBES, {"first": OfModel({"kept-0": 0.5})})
    more = Watching(PIPELINE, replace(SETTINGS, probes=2 * COUNT), ("x",))
    more.carry(found)
    assert (more.carried, more.probing.probes) == (None, [])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_flipped_bit_in_them_never_passes(tmp_path: Path, share: float):
    file = before(tmp_path)
    snapshot = msgpack.decode(file.path.read_bytes(), type=Snapshot)
    value = bytearray(snapshot.first)
    value[int(share * len(value))] ^= 4
    file.path.write_bytes(msgpack.encode(replace(snapshot, first=bytes(value))))
    with pytest.raises(SnapshotLost) as lost:
        file.read()
    assert lost.value.first_answers is None


def test_a_damaged_state_costs_the_state_alone_and_one_from_before_they_were_kept_has_none(tmp_path: Path):
    file = before(tmp_path)
    snapshot = msgpack.decode(file.path.read_bytes(), type=Snapshot)
    file.path.write_bytes(msgpack.encode(replace(snapshot, state=snapshot.state[:-1])))
    with pytest.raises(SnapshotLost, match="its sum is another") as lost:
        file.read()
    assert lost.value.first_answers is not None
    old = {"of": snapshot.of, "places": snapshot.places, "state": snapshot.state, "sum": snapshot.sum}
    file.path.write_bytes(msgpack.encode(old))
    with pytest.raises(SnapshotLost, match="another program") as lost:
        file.read()
    assert lost.value.first_answers is None


def test_what_a_later_program_adds_is_passed_over_and_what_is_none_is_refused():
    found = FirstAnswers(COUNT, "kept", PROBES, {"first": OfModel({"kept-0": 0.5}, 0.1, fails=True)})
    plain = msgpack.decode(encode_first(found)) | {"more": 1}
    assert decode_first(msgpack.encode(plain)) == found
    assert decode_first(b"") is None
    with pytest.raises(UnreadableRecord, match="no first answers"):
        decode_first(b"\xc1")


def test_a_reference_that_is_set_before_any_request_is_held_against_them_too():
    watching = fresh()
    first = {"first": OfModel({"kept-0": 0.5})}
    watching.carry(FirstAnswers(COUNT, "kept", PROBES, first))
    other = fresh()
    told(other, stream(ROWS))
    assert other.judging is not None
    watching.refer("set", other.judging)
    assert watching.carried is None
    assert watching.judging.watch.probes.answers["first"].first == {"kept-0": 0.5}
