"""An object store under the archive: an object is there whole or not at all, and a conditional put lets one win.

`If-None-Match: *` on the put (on its completion, when it goes up in parts) takes the place of the exclusive link:
whoever is second is refused. What replaces or deletes an object does so with `If-Match`, so that who stood still and
comes back changes nothing that somebody else has changed since. The lock is a lease (`streams.archive.lease`).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from streams.archive import objects
from streams.archive.lease import LockLost, locked
from streams.archive.objects import version
from streams.kill_points import reached

__all__ = ["create", "free_share", "locked", "prepare", "put", "remove", "replace", "settle", "version", "workshop"]


def prepare(data: Path, staging: Path, writer: str) -> None:
    """There are no folders, and no temporary objects."""


def create(final: Path, staging: Path, writer: str, parts: Iterable[bytes | memoryview]) -> bool:
    """A new object, whole; false when somebody was first."""
    whole = b"".join(parts)
    reached("archive.written")
    won = objects.put(final, whole, None) is not None
    reached("archive.after_link")
    return won


def put(path: Path, data: bytes, writer: str, seen: str | None = "") -> None:
    """A small object, in the place of the one that was seen; raises LockLost when that is another now."""
    if objects.put(path, data, seen) is None:
        raise _overtaken(path)


@contextmanager
def workshop(staging: Path) -> Iterator[Path]:
    """A local folder for files on their way."""
    with TemporaryDirectory(prefix="rendezvous-") as folder:
        yield Path(folder)


def replace(temporary: Path, final: Path, seen: str | None) -> None:
    """A finished file goes up in the place of the one that was seen; raises LockLost when that is another now."""
    if not objects.put_file(temporary, final, seen):
        raise _overtaken(final)


def remove(path: Path, seen: str | None) -> None:
    """Delete the object that was seen; raises LockLost when it is another now, or gone."""
    if seen is None or not objects.delete(path, seen):
        raise _overtaken(path)


def settle(folder: Path) -> None:
    """What is deleted is deleted."""


def free_share(path: Path) -> float:
    """There is always room."""
    return 1.0


def _overtaken(path: Path) -> LockLost:
    return LockLost(f"{path}: another process has changed it meanwhile, and it was left as it is; run it again")
