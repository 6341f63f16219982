"""The order of durability: what lasts before what. No machine is made to crash here, but the calls can be watched."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from agents.replay.checkpoint import Checkpoint, CheckpointFile
from streams.archive.forgetting import forget
from streams.archive.retention import DAY_MS, retire
from streams.core.replay_order import Selection
from tests.unit.test_archive_shelf import RAW, buffer, shelf
from tests.unit.test_archive_upkeep import TOPIC, WANTED, archived, later, plain, raws

Calls = list[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is done to files, in its order: `fsync data`, `link tmp`: the call, and the file's suffix or the folder."""
    found: Calls = []

    def watch(owner: Any, name: str, which: Callable[..., Path]) -> None:
        call = getattr(owner, name)

        def watched(*arguments: Any, **more: Any) -> Any:
            path = which(*arguments)
            if path.exists():
                found.append(f"{name} {path.suffix.strip('.') or path.name.partition('=')[0]}")
            return call(*arguments, **more)

        monkeypatch.setattr(owner, name, watched)

    watch(os, "fsync", lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink())
    watch(os, "link", lambda source, _: Path(source))
    watch(Path, "replace", lambda source, _: source)
    watch(Path, "unlink", lambda path, **_: path)
    return found


def test_a_file_then_its_name_then_the_folder_last_and_only_then_is_there_something_to_commit(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
):
    found, committable = shelf(tmp_path), []
    buffer(found, RAW, 0, 5)
    calls.clear()
    for name in ("fsync", "link"):
        call = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, call=call: (committable.append(dict(found.committable())), call(*given))
        )
    asyncio.run(found.close_all())
    assert calls[:3] == ["fsync tmp", "link tmp", "fsync partition"]
    assert not any(committable)
    assert found.committable() == {RAW: (5, "")}


def test_a_merged_file_lasts_in_its_place_before_the_others_go(tmp_path: Path, calls: Calls):
    layout = archived(tmp_path, TOPIC, raws(20), 5)
    calls.clear()
    later(layout)
    assert calls == ["fsync part", "replace part", "fsync partition", *["unlink parquet"] * 2, "fsync partition"]


def test_the_note_of_what_goes_by_age_lasts_before_it_goes(tmp_path: Path, calls: Calls):
    layout = archived(tmp_path, TOPIC, raws(20), 5)
    calls.clear()
    retire(layout, 6_000 + DAY_MS, 1, "w")
    assert calls == ["fsync tmp", "fsync tmp", "replace tmp", "fsync 0", "unlink parquet", "fsync partition"]


def test_the_note_of_what_is_forgotten_lasts_before_its_file_is_written_anew(tmp_path: Path, calls: Calls):
    archived(tmp_path, TOPIC, [plain(n, b'{"request_id": "r7"}' if n == 2 else None) for n in range(5)], 5)
    calls.clear()
    list(forget(tmp_path, "small", WANTED, "w", dry_run=False))
    noted = ["fsync tmp", "fsync tmp", "replace tmp", "fsync 0"]
    assert calls == [*noted, "fsync part", "replace part", "fsync partition"]


def test_a_checkpoint_lasts_before_it_takes_the_old_ones_place(tmp_path: Path, calls: Calls):
    checkpoint = Checkpoint(run="r", source="a", target="b", target_id="i", asked={}, selection=Selection())
    CheckpointFile(tmp_path, "r", "small").write(checkpoint)
    assert calls == ["fsync tmp", "replace tmp", f"fsync {tmp_path.name}"]


def test_pages_carry_checksums_that_any_parquet_reader_can_hold_them_against(tmp_path: Path):
    records = [plain(n, random.Random(n).randbytes(200)) for n in range(100)]
    (path,) = archived(tmp_path, TOPIC, records, 100).segments()
    whole = path.read_bytes()
    values = pq.read_metadata(path).row_group(0).column(4)
    end = values.data_page_offset + values.total_compressed_size
    for place in range(end - 15_000, end, 997):  # a page, not the header before it
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(OSError, match="CRC"):
            pq.ParquetFile(path, page_checksum_verification=True).read()
