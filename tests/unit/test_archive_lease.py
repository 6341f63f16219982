"""The lock in a bucket: taken from the dead of any host without a clock, and who stood still does no harm."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from streams.archive import compaction, lease, objects, retention, rewriting
from streams.archive.compaction import TARGET_BYTES, merge, runs
from streams.archive.disk import ArchiveBusy
from streams.archive.file import File
from streams.archive.forgetting import forget
from streams.archive.inspection import troubles
from streams.archive.layout import Layout
from streams.archive.lease import Holder, Lease, LockLost, here
from streams.archive.marks import read_marks
from streams.archive.reader import read_partition
from streams.archive.retention import DAY_MS, retire
from streams.archive.rewriting import Hold
from streams.archive.store import open_root, store_of
from tests.broker.commands import python
from tests.conftest import credentials
from tests.unit.test_archive_bucket_kills import there
from tests.unit.test_archive_upkeep import (
    COMPACT,
    FORGET,
    RETIRE,
    TOPIC,
    WANTED,
    archived,
    assert_forgotten,
    killed,
    later,
    raws,
    whole,
)

RENEW_S, LEASE_S, LOOK_S = 0.1, 3.0, 0.05
SHORT_S = 1.0
"""A lease where no holder lives: nobody is busy enough to be taken for dead, and what is waited for is requests."""
ELSEWHERE = "import socket; socket.gethostname = lambda: 'elsewhere'\n"
WAITS = f"""
import os, socket
from streams.archive import compaction, forgetting, lease, retention, rewriting
lease.RENEW_S, lease.LEASE_S, lease.LOOK_S = {RENEW_S}, {LEASE_S}, {LOOK_S}

def reached(point):
    if point == POINT:
        with socket.create_connection(ADDRESS) as told:
            told.sendall(str(os.getpid()).encode())
            told.recv(1)

for module in (compaction, forgetting, retention, rewriting):
    module.reached = reached
"""


@pytest.fixture
def root(s3: str, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """A bucket of its own, and leases that are short."""
    for variable, value in credentials(s3).items():
        monkeypatch.setenv(variable, value)
    for constant in ("RENEW_S", "LEASE_S", "LOOK_S"):
        monkeypatch.setattr(lease, constant, globals()[constant])
    found = open_root(f"s3://{name}/archive", Path())
    found.fs.mkdir(name)  # type: ignore[attr-defined]
    return found


@contextmanager
def standing_still(code: str, root: Path, point: str) -> Iterator[Callable[[], str]]:
    """This work in a process that is stopped at a point; call it to let it go on, and to hear what it died of."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        ThreadPoolExecutor() as beside,
        pytest.MonkeyPatch.context() as patch,
    ):
        listening.settimeout(60)
        words = f"POINT, ADDRESS = {point!r}, {listening.getsockname()!r}" + WAITS + there(code, root)
        child = beside.submit(python, words, os.environ, within_s=120)
        told, _ = listening.accept()
        with told:
            pid = int(told.recv(20))
            os.kill(pid, signal.SIGSTOP)
            patch.setattr(lease, "LEASE_S", SHORT_S)

            def go_on() -> str:
                told.close()
                os.kill(pid, signal.SIGCONT)
                return child.result().stderr

            try:
                yield go_on
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def state(root: Path) -> list[tuple[str, str | None]]:
    """Every object of data, and what it holds."""
    return [(str(path), objects.version(path)) for path in sorted((root / "data").rglob("*.parquet"))]


def test_a_lock_is_kept_by_one_and_free_after(root: Path):
    lock = root / "staging" / "lock"
    with store_of(root).locked(lock) as still_ours:
        still_ours()
        with pytest.raises(ArchiveBusy, match="another process"), store_of(root).locked(lock):
            pass
    with store_of(root).locked(lock):
        pass


def test_a_living_holder_of_another_host_is_seen_to_move(root: Path):
    lock = root / "staging" / "lock"
    theirs = Holder("elsewhere", 7, "theirs")
    with Lease(lock, theirs, objects.put(lock, json.encode(theirs)) or "", time.monotonic()).kept():
        began_s = time.monotonic()
        with pytest.raises(ArchiveBusy, match="7 on elsewhere"), store_of(root).locked(lock):
            pass
        assert time.monotonic() - began_s < LEASE_S


def ask_for_s(seconds: float, still_ours: Callable[[], None]) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        still_ours()


@pytest.mark.parametrize("conditions", [True, False])
def test_a_holder_is_told_that_another_has_taken_over_and_lets_nothing_go_that_is_not_its_own(
    root: Path, name: str, conditions: bool
):
    lock = (root if conditions else open_root(f"memory://{name}", Path())) / "staging" / "lock"
    with store_of(root).locked(lock) as still_ours:
        objects.put(lock, json.encode(Holder("elsewhere", 7, "theirs")))
        with pytest.raises(LockLost, match="stood still, and another one may have gone on"):
            ask_for_s(30, still_ours)
    assert json.decode(objects.fetch(lock).data, type=Holder).life == "theirs"


def test_a_dead_process_of_this_host_is_known_by_its_number_and_one_of_another_by_its_standing_still(root: Path):
    lock = root / "staging" / "lock"
    ours = here()
    for holder, at_once in (
        (Holder(ours, os.getpid(), "an earlier life"), True),
        (Holder(ours, 1 << 22, "beyond the kernel's last number"), True),
        (Holder(ours, 1, "init lives, and does not renew"), False),
        (Holder("elsewhere", 1 << 22, "nobody here can tell"), False),
    ):
        objects.put(lock, json.encode(holder))
        began_s = time.monotonic()
        with store_of(root).locked(lock):
            assert (time.monotonic() - began_s < LEASE_S) == at_once, holder
    lock.write_bytes(b"by an older version")
    with store_of(root).locked(lock, wait=True):
        assert json.decode(objects.fetch(lock).data)["host"] == ours


@pytest.mark.parametrize("point", ["compact.written", "compact.after_replace"])
def test_what_was_killed_on_another_host_is_run_again_when_its_lease_is_over(
    root: Path, tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lease, "LEASE_S", SHORT_S)
    layout = archived(root, TOPIC, raws(20), 5)
    assert killed(ELSEWHERE + there(COMPACT, root), point, tmp_path)
    began_s = time.monotonic()
    later(layout)
    assert time.monotonic() - began_s > SHORT_S
    assert list(read_partition(root, TOPIC, 0)) == raws(20)
    assert (len(layout.segments()), list(troubles(layout))) == (2, [])


@pytest.mark.parametrize("point", ["compact.written", "compact.after_replace"])
def test_a_compaction_that_stood_still_and_comes_back_changes_nothing(root: Path, point: str):
    layout = archived(root, TOPIC, raws(20), 5)
    with standing_still(COMPACT, root, point) as go_on:
        later(layout)
        retire(layout, 2_000 + DAY_MS, 1, "w")
        after = state(root)
        assert "LockLost" in go_on()
    assert state(root) == after
    assert list(read_partition(root, TOPIC, 0)) == raws(20)
    assert list(troubles(layout)) == []


def test_a_deletion_by_age_that_stood_still_and_comes_back_deletes_nothing(root: Path):
    layout = archived(root, TOPIC, raws(30), 5)
    with standing_still(RETIRE, root, "retire.after_delete") as go_on:
        (merged,) = later(layout)
        assert (merged.start, merged.end) == (5, 25), "three files were old, one is gone, and two are in this one now"
        assert "LockLost" in go_on()
    assert [record.offset for record in read_partition(root, TOPIC, 0)][-15:] == list(range(15, 30))
    assert list(troubles(layout)) == []


@pytest.mark.parametrize("point", ["forget.written", "forget.after_replace"])
def test_a_forget_that_stood_still_and_comes_back_undoes_nothing(root: Path, point: str):
    found = whole(root)
    with standing_still(FORGET, root, point) as go_on:
        list(forget(root, "small", WANTED, "w", dry_run=False))
        for layout in found.values():
            later(layout)
        after = state(root)
        assert "LockLost" in go_on()
    assert state(root) == after
    assert_forgotten(found)


def meddling(monkeypatch: pytest.MonkeyPatch, module: Any, point: str, other: Callable[[], object]) -> None:
    """Somebody else is at work just when this point is passed, and whoever passes it does not ask."""

    def reached(passed: str) -> None:
        if passed == point:
            monkeypatch.undo()
            other()

    monkeypatch.setattr(Lease, "check", lambda _: None)
    monkeypatch.setattr(module, "reached", reached)


def merge_all(layout: Layout) -> None:
    other = Hold(layout, lambda: None)
    for run in runs(other, time.time() + 1e6, TARGET_BYTES):
        merge(other, run)


def test_between_the_asking_and_the_step_a_file_that_is_another_now_is_not_overwritten(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    layout = archived(root, TOPIC, raws(20), 5)
    meddling(monkeypatch, rewriting, "compact.written", lambda: merge_all(layout))
    with pytest.raises(LockLost, match=r"0.parquet: another process has changed it meanwhile"):
        list(compaction.compact(layout, time.time() + 1e6, target_bytes=2 * layout.segments()[0].stat().st_size + 10))
    assert [path.name for path in layout.segments()] == [f"{0:019d}.parquet", f"{15:019d}.parquet"]
    assert list(read_partition(root, TOPIC, 0)) == raws(20)


def test_between_the_asking_and_the_step_a_file_that_is_another_now_is_not_deleted(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    layout = archived(root, TOPIC, raws(20), 5)

    def seen_and_merged(asked: Path | File, read: Callable[[Path | File], Any] = retention.read_footer) -> Any:
        found = read(asked)
        if read_marks(layout).retired and isinstance(asked, File) and asked.path == layout.segments()[-2]:
            monkeypatch.undo()
            merge_all(layout)
        return found

    monkeypatch.setattr(Lease, "check", lambda _: None)
    monkeypatch.setattr(retention, "read_footer", seen_and_merged)
    with pytest.raises(LockLost, match=r"0.parquet: another process has changed it meanwhile"):
        retire(layout, 6_000 + DAY_MS, 1, "w")
    assert [record.offset for record in read_partition(root, TOPIC, 0)][-10:] == list(range(10, 20))


def test_a_note_of_what_retention_took_is_never_set_back(root: Path, monkeypatch: pytest.MonkeyPatch):
    layout = archived(root, TOPIC, raws(20), 5)

    def read_and_overtaken(layout: Layout) -> Any:
        found = read_marks(layout)
        retention.put_retired(layout, 10, "other", None)
        return found

    monkeypatch.setattr(retention, "read_marks", read_and_overtaken)
    with pytest.raises(LockLost, match=r"retired.json: another process has changed it"):
        retire(layout, 6_000 + DAY_MS, 1, "w")
    assert read_marks(layout).retired == 10


def test_a_put_whose_answer_was_lost_is_known_for_ones_own(root: Path, monkeypatch: pytest.MonkeyPatch):
    put = objects.put

    def lost(path: Path, data: bytes, seen: str | None = "") -> str | None:
        put(path, data, seen)
        return None  # the client tried again, and was refused by what it had put itself

    monkeypatch.setattr(objects, "put", lost)
    with store_of(root).locked(root / "staging" / "lock") as still_ours:
        monkeypatch.setattr(lease, "RENEW_S", -1.0)
        still_ours()
        still_ours()


def test_a_process_number_of_another_namespace_says_nothing_although_the_hosts_are_of_one_name():
    assert Holder(here(), 1 << 22, "beyond the kernel's last number").gone
    assert not Holder(here().rsplit(maxsplit=1)[0] + " pid:[1]", 1 << 22, "of a container").gone
