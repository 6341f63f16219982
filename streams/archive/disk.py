"""The local disk under the archive: whole files or none, and how much room is left."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import RendezvousError
from streams.kill_points import reached
from streams.state_file import fsync

STALE_S = 3600.0
"""A temporary file of another host is left alone for so long; closing a file takes seconds."""


WRITER = "~"
"""Before the writer in a temporary file's name. No host has it in its name, no file of ours either."""


class DiskTrouble(RendezvousError):
    """The disk did not take a file: nothing was lost, nothing is committed, try again later."""


class ArchiveBusy(RendezvousError):
    """Another process has this part of the archive in hand."""


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[Callable[[], None]]:
    """Alone with what this file stands for; raises ArchiveBusy. The lock ends with the process, however it ends.

    And only then: who stands still has it, and there is nothing to ask before a step.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield _still_ours
    except BlockingIOError as error:
        raise ArchiveBusy(f"{path}: another process compacts or rewrites here; try again when it is done") from error
    finally:
        os.close(descriptor)


def _still_ours() -> None:
    """The kernel keeps a lock as long as the process lives."""


@contextmanager
def trouble_named(path: Path) -> Iterator[None]:
    """What the operating system refuses is told as DiskTrouble."""
    try:
        yield
    except OSError as error:
        why = error.strerror or repr(error)
        raise DiskTrouble(
            f"{path}: {why}; nothing is lost, the archive waits and tries again: free space or mend the disk"
        ) from error


def prepare(data: Path, staging: Path, writer: str) -> None:
    """Make the folders, see whether they can do what is needed, and remove what was left half done."""
    for folder in (data, staging):
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    probe_links(staging, writer)
    drop_leftovers(staging, writer)


def create(final: Path, staging: Path, writer: str, parts: Iterable[bytes | memoryview]) -> bool:
    """A new file that lasts, whole; false when somebody was first."""
    temporary = staging / _temporary(final.stem, writer)
    try:
        write_whole(temporary, parts, "archive")
        return link_new(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def version(path: Path) -> str | None:
    """Locks are enough here."""
    return ""


def put(path: Path, data: bytes, writer: str, seen: str | None = "") -> None:
    """A small file that lasts, in the place of an older one."""
    temporary = path.parent / _temporary(path.name, writer)
    try:
        write_whole(temporary, [data], "mark")
        replace(temporary, path, seen)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def workshop(staging: Path) -> Iterator[Path]:
    """The folder beside the data, where a file can take another's name at once; what was left there is removed.

    For whoever is alone there: it may be another's work.
    """
    for path in staging.glob("*.part*"):
        path.unlink()
    yield staging


def write_whole(path: Path, parts: Iterable[bytes | memoryview], stage: str) -> None:
    """Write and fsync one file. A short write goes on until the disk takes the rest or says why it does not.

    `stage` names its kill points.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        reached(f"{stage}.written")
        os.fsync(descriptor)
        reached(f"{stage}.after_fsync")
    finally:
        os.close(descriptor)


def link_new(temporary: Path, final: Path) -> bool:
    """Give a file its name unless somebody was first; either way the name that is there now will last."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        # Whoever was first may have died before this.
        fsync(final.parent)
        return False
    reached("archive.after_link")
    fsync(final.parent)
    return True


def replace(temporary: Path, final: Path, seen: str | None = "") -> None:
    """A finished file takes another's name at once, and lasts."""
    fsync(temporary)
    temporary.replace(final)
    fsync(final.parent)


def remove(path: Path, seen: str | None) -> None:
    """Delete a file; `settle` makes it last."""
    path.unlink()


def settle(folder: Path) -> None:
    """Make deletions in a folder last."""
    fsync(folder)


def probe_links(folder: Path, writer: str) -> None:
    """Raise DiskTrouble where there are no hard links, which keep two writers from overwriting each other."""
    probe = folder / _temporary("probe", writer)
    linked = probe.with_suffix(".link")
    try:
        probe.write_bytes(b"")
        linked.unlink(missing_ok=True)
        os.link(probe, linked)
    except OSError as error:
        raise DiskTrouble(
            f"{folder}: this file system makes no hard links ({error.strerror}), which keep two writers from "
            "overwriting each other; put the archive on another one"
        ) from error
    finally:
        probe.unlink(missing_ok=True)
        linked.unlink(missing_ok=True)


def drop_leftovers(folder: Path, writer: str) -> None:
    """Remove temporary files of this writer, of dead ones on this host, and of whoever left them long ago."""
    host = writer.rpartition("-")[0]
    for path in folder.glob("*.tmp"):
        name = path.name.removesuffix(".tmp").rpartition(WRITER)[2]
        if name == writer or _dead(name, host) or _stale(path):
            path.unlink(missing_ok=True)


def _temporary(name: str, writer: str) -> str:
    return f"{name}{WRITER}{writer}.tmp"


def free_share(path: Path) -> float:
    """The share of the disk that is free for us."""
    found = shutil.disk_usage(path)
    return found.free / found.total


def _dead(name: str, host: str) -> bool:
    theirs, _, pid = name.rpartition("-")
    if not host or theirs != host or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return False
