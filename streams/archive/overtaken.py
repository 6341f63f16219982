"""Who looks at files that a compaction merges meanwhile: a file that went lies in an earlier one, so look again.

Twice the same file is a loss, or a folder's listing that does not change, and told as such.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from streams.archive.segment import Vanished

Found = TypeVar("Found")


class Overtaken:
    """Remembers the file that went last."""

    def __init__(self) -> None:
        self._gone: Path | None = None

    def look_again(self, error: Vanished) -> None:
        """Returns when the folder is to be listed anew; raises the error when that has been done for this file."""
        if error.path == self._gone:
            raise error from None
        self._gone = error.path


def undisturbed(look: Callable[[], Found]) -> Found:
    """What is found by one look from its listing to its end, in which no file went. Raises Vanished."""
    overtaken = Overtaken()
    while True:
        try:
            return look()
        except Vanished as error:
            overtaken.look_again(error)
