"""A table's records in a file: one SQLite database, written by one process, a cache of its topic and no more.

SQLite comes with Python, keeps the records and the place they were read up to in one transaction, and needs little
memory however many keys there are; as a cache it may skip every fsync (a process that is killed loses nothing by
that, a host that goes down at most the file). Its pages have no checksums, so each value has one. Whatever is wrong
with the file, it is said, and the table is read from its topic again.
"""

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from msgspec import MsgspecError, Struct, msgpack

from schemas.errors import ConfigurationRefused, RendezvousError
from streams.core.table import Standing, Version

logger = logging.getLogger(__name__)

FORMAT = 1
CACHE_KB = 16 << 10
TOO_OLD_S = 12 * 3600.0
"""A deletion is compacted away a day after it was written (`delete.retention.ms`): who has not looked for half of
that may have missed one."""

SETTINGS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = OFF",
    f"cache_size = -{CACHE_KB}",
)
TABLES = (
    "CREATE TABLE versions (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE kept (value BLOB NOT NULL)",
)

_decode_versions = msgpack.Decoder(list[tuple[float, int, int, bytes]]).decode
_encode = msgpack.Encoder().encode


class TableDamaged(RendezvousError):
    """A file that is not what was written; whoever meets it ends, and the next life reads the topic again."""


class Kept(Struct, frozen=True, array_like=True):
    """What the file is of, and how far: `following` is the offset to read on from, `at_s` when that was written."""

    format: int
    what: bytes
    following: int
    at_s: float
    standing: Standing


_decode_kept = msgpack.Decoder(Kept).decode


class TableFile:
    """One table's versions by key (`streams.core.table.Keeping`); `what` says of which topic and shape they are.

    A file of something else, an old one and a damaged one are put aside, and begun anew: `kept` is None then.
    """

    def __init__(self, path: Path, what: bytes, now_s: float) -> None:
        self.path = path
        self._what = what
        self.kept: Kept | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            reason = self._open(now_s) if path.exists() else ""
            if self.kept is None:
                if reason:
                    logger.warning("%s: %s: it is put aside, and the table read from its topic again", path, reason)
                self._begin()
        except (OSError, sqlite3.OperationalError) as error:
            refuse_full_disk(path, error)
            raise ConfigurationRefused(f"{path}: {error}; name a place that can be written") from error

    def _open(self, now_s: float) -> str:
        """Take over what is there; returns why it cannot be, empty when it can."""
        try:
            self._connect()
            check = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
            row = self._database.execute("SELECT value FROM kept").fetchone()
            kept = _decode_kept(_checked(row[0])) if row else None
        except (sqlite3.DatabaseError, MsgspecError, TableDamaged) as error:
            refuse_full_disk(self.path, error)
            if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
                raise RendezvousError(f"{self.path}: another process has it: end that router first") from error
            return f"damaged ({error})"
        if check != "ok":
            return f"damaged ({check})"
        if kept is None or kept.format != FORMAT:
            return "of another version of this program"
        if kept.what != self._what:
            return "of another topic, or of features and [[enrich]] that are changed since"
        if now_s - kept.at_s > TOO_OLD_S:
            return "so old that the topic may have forgotten what was deleted since"
        self.kept = kept
        return ""

    def _connect(self) -> None:
        # Used on one thread at a time: the event loop's, once the role has begun.
        self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for setting in SETTINGS:
            self._database.execute(f"PRAGMA {setting}")
        self._execute = self._database.execute

    def _begin(self) -> None:
        if hasattr(self, "_database"):
            self._database.close()
        for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm", f"{self.path.name}-journal"):
            self.path.with_name(name).unlink(missing_ok=True)
        self._connect()
        for table in TABLES:
            self._execute(table)

    def get(self, key: bytes) -> list[Version] | None:
        """The versions of a key; raises TableDamaged when they are not what was written."""
        with self._whole():
            row = self._execute("SELECT value FROM versions WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            return [Version(*version) for version in _decode_versions(_checked(row[0]))]
        return None

    def put(self, key: bytes, versions: list[Version]) -> None:
        """Keep these, or forget the key; it lasts from the next `commit` on."""
        with self._whole():
            if not self._database.in_transaction:
                self._execute("BEGIN")
            if not versions:
                self._execute("DELETE FROM versions WHERE key = ?", (key,))
                return
            rows = [(one.since_ms, one.log_ms, one.number, one.joined) for one in versions]
            self._execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", (key, _summed(_encode(rows))))

    def commit(self, following: int, standing: Standing, now_s: float) -> None:
        """Keep what was put together with how far that is: both, or neither."""
        with self._whole():
            if not self._database.in_transaction:
                self._execute("BEGIN")
            self._execute("DELETE FROM kept")
            kept = Kept(FORMAT, self._what, following, now_s, standing)
            self._execute("INSERT INTO kept VALUES (?)", (_summed(_encode(kept)),))
            self._execute("COMMIT")

    def close(self) -> None:
        """Let go of it; what was not committed is read again."""
        self._database.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is wrong with the file is said, and the file is gone for the next life."""
        try:
            yield
        except (sqlite3.DatabaseError, MsgspecError, TableDamaged) as error:
            refuse_full_disk(self.path, error)
            self._database.close()
            self.path.unlink(missing_ok=True)
            raise TableDamaged(
                f"{self.path}: damaged ({error}): it is deleted, and the table read from its topic again"
            ) from error


def refuse_full_disk(path: Path, error: Exception) -> None:
    """Raise RendezvousError where it is the disk that is full or fails, and not the file that is damaged."""
    if isinstance(error, OSError):
        takes_nothing = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    else:
        takes_nothing = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR"))
    if takes_nothing:
        raise RendezvousError(f"{path}: {error}: free space; the router is started again") from error


def _summed(value: bytes) -> bytes:
    return crc32(value).to_bytes(4, "little") + value


def _checked(value: bytes) -> bytes:
    if crc32(value[4:]).to_bytes(4, "little") != value[:4]:
        raise TableDamaged("a value is not what was written")
    return value[4:]
