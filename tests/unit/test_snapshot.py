"""The monitor's file: whole or said to be lost, and of one program, pipeline and topic only."""

from pathlib import Path

import pytest
from msgspec import msgpack
from msgspec.structs import replace

from agents.snapshot import Snapshot, SnapshotFile, SnapshotLost, of_what
from schemas.pipeline import MonitorSettings
from streams.core.gathering import Places
from streams.core.watching import Watching
from tests.unit.small import pipeline

PIPELINE = replace(pipeline(), monitor=MonitorSettings())
PLACES = {0: Places(5, 7, 9), 1: Places(1, 2, 3)}


def state() -> Watching:
    return Watching(PIPELINE, MonitorSettings(), ("x",))


def test_what_was_written_is_read_and_nobody_else_may_read_it(tmp_path: Path):
    file = SnapshotFile(tmp_path / "monitor", "mine")
    assert file.read() is None
    file.write(PLACES, state())
    found = file.read()
    assert found is not None
    assert found[0] == PLACES
    assert vars(found[1]).keys() == vars(state()).keys()
    assert file.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_damaged_one_is_said_and_put_aside(tmp_path: Path, cut: int):
    file = SnapshotFile(tmp_path, "mine")
    file.write(PLACES, state())
    file.path.write_bytes(file.path.read_bytes()[:cut])
    with pytest.raises(SnapshotLost, match=r"kept as snapshot.lost"):
        file.read()
    assert file.read() is None
    assert (tmp_path / "snapshot.lost").exists()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.7, 0.999])
def test_a_flipped_bit_in_the_state_never_passes(tmp_path: Path, share: float):
    file = SnapshotFile(tmp_path, "mine")
    file.write(PLACES, state())
    snapshot = msgpack.decode(file.path.read_bytes(), type=Snapshot)
    value = bytearray(snapshot.state)
    value[int(share * len(value))] ^= 4
    file.path.write_bytes(msgpack.encode(replace(snapshot, state=bytes(value))))
    with pytest.raises(SnapshotLost, match="its sum is another"):
        file.read()


def test_one_of_another_program_pipeline_or_topic_is_not_taken(tmp_path: Path):
    ids = {"small.raw": "a", "small.scores": "b"}
    own = of_what(PIPELINE, ids)
    assert own == of_what(PIPELINE, dict(reversed(ids.items())))
    assert own == of_what(replace(PIPELINE, monitor=MonitorSettings(webhook="http://a/b", remind_s=7)), ids)
    others = [
        of_what(PIPELINE, ids | {"small.raw": "anew"}),
        of_what(replace(PIPELINE, features=PIPELINE.features[1:]), ids),
        of_what(replace(PIPELINE, monitor=MonitorSettings(reference_rows=3_000)), ids),
    ]
    assert own not in others
    SnapshotFile(tmp_path, own).write(PLACES, state())
    with pytest.raises(SnapshotLost, match="another program, pipeline file or topic"):
        SnapshotFile(tmp_path, others[0]).read()
