"""One file of the archive, to be asked several things: of an object, one request answers them all, of one version.

It is fetched when it is first asked, and kept as long as this is: make another to see what is there by then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from streams.archive import objects, seal

TAIL_BYTES = 256 << 10
"""What is fetched of an object at once to see its footer: a small one is here whole, then."""


class File:
    """A file of this host or of a bucket; `whole` says what an object is fetched for. Raises OSError, DiskTrouble.

    One of this host is opened and looked at whenever it is asked.
    """

    def __init__(self, path: Path, *, whole: bool = True) -> None:
        self.path = path
        self._whole = whole
        self._found: objects.Found | None = None

    @contextmanager
    def opened(self, *, whole: bool = False) -> Iterator[BinaryIO]:
        """To be read: the `whole` of it, or at least its footer and its seal."""
        if isinstance(self.path, Path):
            with self.path.open("rb") as file:
                yield file
        else:
            yield BytesIO(self._fetched(whole=whole).data)

    @property
    def version(self) -> str | None:
        """What tells it from the next of its name, as `Store.version`."""
        if isinstance(self.path, Path):
            return ""  # locks are enough there
        try:
            return self._fetched().version
        except FileNotFoundError:
            return None

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.path.stat().st_size if isinstance(self.path, Path) else self._fetched().bytes

    @property
    def modified_s(self) -> float:
        """When it was written, by the clock of where it lies."""
        return self.path.stat().st_mtime if isinstance(self.path, Path) else self._fetched().modified_s

    def _fetched(self, *, whole: bool = False) -> objects.Found:
        whole = whole or self._whole
        if self._found is None or (whole and len(self._found.data) < self._found.bytes):
            self._found = objects.fetch(self.path) if whole else _end_of(self.path)
        return self._found


def file_of(file: Path | File, *, whole: bool) -> File:
    """The file to ask; a path is asked once."""
    return file if isinstance(file, File) else File(file, whole=whole)


def _end_of(path: Path) -> objects.Found:
    """As much of its end as holds footer and seal, out of one answer: it may be another file by the next."""
    found = objects.fetch(path, TAIL_BYTES)
    while len(found.data) < (needed := min(found.bytes, seal.reach(found.data))):
        found = objects.fetch(path, needed)
    return found
