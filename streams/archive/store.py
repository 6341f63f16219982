"""Where an archive lies: a folder of this host, or a bucket of an object store, by what `archive.root` says.

Both speak pathlib's language (buckets by universal-pathlib over fsspec); what differs is how a file is made to last,
and how one of two writers wins. A module is a store: `disk` with its links and fsyncs, `bucket` with its conditional
put.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from schemas.errors import ConfigurationRefused
from streams.archive import disk


class Store(Protocol):
    """What the archive asks of the place where it lies."""

    def locked(self, path: Path, *, wait: bool = False) -> AbstractContextManager[Callable[[], None]]:
        """Alone with what this path stands for; raises ArchiveBusy, and what it yields does when that is over."""

    def prepare(self, data: Path, staging: Path, writer: str) -> None:
        """Make ready for a writer; raises OSError, DiskTrouble."""

    def create(self, final: Path, staging: Path, writer: str, parts: Iterable[bytes | memoryview]) -> bool:
        """A new file that lasts, whole; false when somebody was first."""

    def version(self, path: Path) -> str | None:
        """What tells this file from the next of its name; empty where locks are enough, None where there is none."""

    def put(self, path: Path, data: bytes, writer: str, seen: str | None = "") -> None:
        """A small file that lasts, in the place of an older one: of the version that was seen, else ArchiveBusy."""

    def workshop(self, staging: Path) -> AbstractContextManager[Path]:
        """A local folder for files on their way; on this host's own disk the one beside the data."""

    def replace(self, temporary: Path, final: Path, seen: str | None) -> None:
        """A finished local file takes another's name at once, and lasts; ArchiveBusy as above."""

    def remove(self, path: Path, seen: str | None) -> None:
        """Delete a file; ArchiveBusy as above."""

    def settle(self, folder: Path) -> None:
        """Make deletions in a folder last."""

    def free_share(self, path: Path) -> float:
        """The share of room that is free."""


def store_of(path: Path) -> Store:
    """The store that a path lies in."""
    if isinstance(path, Path):
        return disk
    from streams.archive import bucket

    return bucket


def open_root(root: str, folder: Path) -> Path:
    """An archive's root as a pipeline file names it: a path beside it, or `s3://bucket/prefix`.

    Any file system of fsspec will do; the conditions that keep two rewriters apart are those of S3.
    """
    if "://" not in root:
        return folder / root
    if root.startswith("file://"):  # the disk has links and locks, which fsspec does not
        return Path(unquote(urlsplit(root).path))
    try:
        from fsspec import register_implementation
        from upath import UPath

        from streams.archive.s3 import S3
    except ImportError as error:
        raise ConfigurationRefused(
            f"archive.root: {root} needs the packages of the extra s3; install rendezvous-kafka[s3]"
        ) from error
    register_implementation("s3", S3, clobber=True)
    try:
        # What others write must be seen: no listing is kept. UPath has pathlib's methods but is no Path.
        found = UPath(root, use_listings_cache=False)
        found.fs  # noqa: B018  made when it is first asked for, and what it needs may not be there
    except (ImportError, ValueError) as error:
        raise ConfigurationRefused(f"archive.root: {root}: {error}; s3:// is what is tested") from error
    return cast("Path", found)
