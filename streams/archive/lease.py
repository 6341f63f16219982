"""A lock in an object store: an object that names its holder, who renews it as long as they live.

No clocks are compared. The holder puts it anew every RENEW_S; whoever wants it watches, and takes it over when it has
not moved for LEASE_S by their own monotonic clock. Both are puts on the condition that the object is as it was seen,
so one wins. A holder that stood still asks before its next step, and is told that it is none any more.

Between the asking and the step it may stand still too: so each step is itself a put or deletion of what was seen
(`streams.archive.rewriting`). A dead process of this host is known at once by its number.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from msgspec import DecodeError, Struct, ValidationError, json
from msgspec.structs import replace

from streams.archive import objects
from streams.archive.disk import ArchiveBusy, DiskTrouble

RENEW_S = 10.0
LEASE_S = 60.0
WAIT_S = 90.0
"""How long who waits goes on: longer than a lease, so that a dead holder's is taken over."""
LOOK_S = 0.5

_held: set[str] = set()
"""The lives that this process has now."""


class LockLost(ArchiveBusy):
    """Somebody else has taken over what this process had in hand."""


class Holder(Struct, frozen=True):
    """Who holds a lock. Numbers of processes are used again, `life` is not; it is empty when the lock is free."""

    host: str
    pid: int
    life: str
    beat: int = 0

    @property
    def gone(self) -> bool:
        """Whether it let go, or is of this host and not there any more."""
        if not self.life:
            return True
        if self.host != here():
            return False
        if self.pid == os.getpid():
            return self.life not in _held
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's: it lives
            return False
        return False


@cache
def here() -> str:
    """Who shares our process numbers: containers may share a host's name and not those."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return socket.gethostname()


class Lease:
    """A lock that is held, since `began_s` at the earliest."""

    def __init__(self, path: Path, holder: Holder, seen: str, began_s: float) -> None:
        self._path, self._holder, self._seen, self._renewed_s = path, holder, seen, began_s
        self._one = threading.Lock()
        self._done = threading.Event()
        self._lost = False

    def check(self) -> None:
        """Raise LockLost when it is another's; renews it when that is overdue, for then it may be."""
        if time.monotonic() - self._renewed_s > 2 * RENEW_S or self._lost:
            self.renew()

    def renew(self) -> None:
        """Say that the holder lives; raises LockLost, OSError, DiskTrouble."""
        with self._one:
            began_s = time.monotonic()
            holder = replace(self._holder, beat=self._holder.beat + 1)
            seen = None if self._lost or self._taken_unseen() else _put(self._path, holder, self._seen)
            if seen is None:
                self._lost = True
                raise LockLost(
                    f"{self._path}: this process stood still, and another one may have gone on with its work; no "
                    "file is half done: run it again"
                )
            self._holder, self._seen, self._renewed_s = holder, seen, began_s

    def _taken_unseen(self) -> bool:
        """Where the store takes no conditions, whether another's name stands there."""
        found = None if self._seen else _holder(_look(self._path)[1])
        return found is not None and found.life != self._holder.life

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew it beside the work, and let it go after."""
        beside = threading.Thread(target=self._keep, name="lease", daemon=True)
        beside.start()
        try:
            yield
        finally:
            self._done.set()
            beside.join()
            self._let_go()

    def _keep(self) -> None:
        while not self._done.wait(RENEW_S):
            try:
                self.renew()
            except LockLost:
                return  # `check` says it where the work is
            except (OSError, DiskTrouble):
                continue  # the store is away: tried again, and overdue for `check`

    def _let_go(self) -> None:
        try:
            if not self._lost:
                objects.put(self._path, json.encode(Holder("", 0, "")), self._seen)
        except (OSError, DiskTrouble):
            return  # the store is away: who comes next waits until the lease is over


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[Callable[[], None]]:
    """Alone with what this object stands for; raises ArchiveBusy. Call what it yields before each step: LockLost."""
    ours = Holder(here(), os.getpid(), uuid.uuid4().hex)
    _held.add(ours.life)
    try:
        lease = _taken(path, ours, wait=wait)
        with lease.kept():
            yield lease.check
    finally:
        _held.discard(ours.life)


def _taken(path: Path, ours: Holder, *, wait: bool) -> Lease:
    until_s = time.monotonic() + WAIT_S
    known: bytes | None = None
    moved, since_s = False, 0.0
    while True:
        now_s = time.monotonic()
        seen, found = _look(path)
        if found != known:
            moved, known, since_s = known is not None and found is not None, found, now_s
        holder = _holder(found)
        if holder is None or holder.gone or now_s - since_s > LEASE_S:
            if (won := _put(path, ours, seen)) is not None:
                return Lease(path, ours, won, now_s)
        elif now_s > until_s or (not wait and (moved or holder.life in _held)):
            raise ArchiveBusy(
                f"{path}: another process ({holder.pid} on {holder.host}) compacts or rewrites here; try again when "
                "it is done"
            )
        time.sleep(LOOK_S)


def _put(path: Path, holder: Holder, seen: str | None) -> str | None:
    """A put that was refused may be the repeat of our own whose answer was lost."""
    data = json.encode(holder)
    won = objects.put(path, data, seen)
    if won is None:
        there, found = _look(path)
        won = there if found == data else None
    return won


def _look(path: Path) -> tuple[str | None, bytes | None]:
    try:
        found = objects.fetch(path)
    except FileNotFoundError:
        return None, None
    return found.version, found.data


def _holder(found: bytes | None) -> Holder | None:
    """Who is named there; of an older version's, nobody that we know."""
    try:
        return json.decode(found, type=Holder) if found is not None else None
    except (DecodeError, ValidationError):
        return Holder("?", 0, "of another version")
