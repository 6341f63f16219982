"""An object store under the archive: an object is there whole or not at all, and a conditional put lets one win.

`If-None-Match: *` on the put (on its completion, when it goes up in parts) takes the place of the exclusive link:
whoever is second is refused. A lock is an object of that kind that names its process: it is taken from one of this
host that is dead, so that what was killed can be run again at once, and from any other when it is an hour old.
"""

import errno
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.exceptions import BotoCoreError
from msgspec import DecodeError, Struct, ValidationError, json

from streams.archive.disk import ArchiveBusy
from streams.kill_points import reached

LOCK_S = 3600.0
WAIT_S = 30.0


class Holder(Struct, frozen=True):
    """The process that a lock names. Numbers are used again, `life` is not."""

    host: str
    pid: int
    life: str

    @property
    def dead(self) -> bool:
        """Whether it is of this host and not there any more."""
        if self.host != OURS.host:
            return False
        if self.pid == OURS.pid:
            return self.life != OURS.life
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's: it lives
            return False
        return False


OURS = Holder(socket.gethostname(), os.getpid(), uuid.uuid4().hex)


@contextmanager
def _as_disk() -> Iterator[None]:
    """A store that cannot be reached is a disk that takes nothing."""
    try:
        yield
    except BotoCoreError as error:
        raise OSError(errno.EIO, str(error)) from error


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Alone with what this object stands for; raises ArchiveBusy."""
    deadline_s = time.monotonic() + (WAIT_S if wait else 0.0)
    while not _created(path, json.encode(OURS)):
        if _age_s(path) > LOCK_S or _left(path):
            path.unlink(missing_ok=True)
        elif time.monotonic() > deadline_s:
            raise ArchiveBusy(
                f"{path}: another process compacts or rewrites here; try again when it is done, or in an hour if it "
                "died"
            )
        else:
            time.sleep(0.2)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def prepare(data: Path, staging: Path, writer: str) -> None:
    """There are no folders, and no temporary objects."""


def create(final: Path, staging: Path, writer: str, parts: Iterable[bytes | memoryview]) -> bool:
    """A new object, whole; false when somebody was first."""
    whole = b"".join(parts)
    reached("archive.written")
    won = _created(final, whole)
    reached("archive.after_link")
    return won


def put(path: Path, data: bytes, writer: str) -> None:
    """A small object, in the place of an older one."""
    with _as_disk():
        path.write_bytes(data)


@contextmanager
def workshop(staging: Path) -> Iterator[Path]:
    """A local folder for files on their way."""
    with TemporaryDirectory(prefix="rendezvous-") as folder:
        yield Path(folder)


def replace(temporary: Path, final: Path) -> None:
    """A finished file goes up in another's place."""
    with _as_disk():
        _fs(final).put_file(str(temporary), _key(final))


def settle(folder: Path) -> None:
    """What is deleted is deleted."""


def free_share(path: Path) -> float:
    """There is always room."""
    return 1.0


def _created(path: Path, data: bytes) -> bool:
    with _as_disk():
        try:
            _fs(path).pipe_file(_key(path), data, mode="create")
        except FileExistsError:
            return False
        return True


def _left(path: Path) -> bool:
    """Whether a dead process of this host has left this lock."""
    try:
        with _as_disk():
            return json.decode(path.read_bytes(), type=Holder).dead
    except (FileNotFoundError, DecodeError, ValidationError):  # let go meanwhile, or an older version's
        return False


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _fs(path: Any) -> Any:
    return path.fs


def _key(path: Any) -> str:
    return str(path.path)
