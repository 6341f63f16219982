"""What a replay knows of itself, on disk: what it was asked for, and where it had come to.

The target's own tail is the truth about what was sent; the file says where to look for it, and holds a run to one
selection. Written beside, fsynced, renamed: it is whole at every moment.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, json

from schemas.errors import UNREADABLE, ConfigurationRefused, RendezvousError
from streams.core.replay_order import Selection
from streams.state_file import replace_file


class NotKept(RendezvousError):
    """The disk did not take the checkpoint: the replay stops where it is."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """Where a run had come to: source offsets to go on from, target offsets before which nothing need be looked for.

    `asked` is the selection as it was written (`--since 2h` means the same instant when the run goes on),
    `target_id` the target's topic id: another one means that it was made anew, and is empty.
    """

    run: str
    source: str
    target: str
    target_id: str
    asked: dict[str, list[str]]
    selection: Selection
    following: dict[int, int] = {}
    target_ends: dict[int, int] = {}


class CheckpointFile:
    """One run's file."""

    def __init__(self, folder: Path, run: str, pipeline: str) -> None:
        self.path = folder / f"{run}.{pipeline}.json"

    def read(self) -> Checkpoint | None:
        """The last checkpoint; None before the first. Raises ConfigurationRefused when it cannot be read."""
        try:
            return json.decode(self.path.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            raise ConfigurationRefused(
                f"{self.path}: no readable checkpoint ({error}); remove it, and the run goes on by its target's tail"
            ) from error

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace it; raises NotKept, with the old one still there."""
        try:
            temporary, point = self.path.with_suffix(".tmp"), "replay.checkpoint_written"
            replace_file(self.path, temporary, json.encode(checkpoint), point=point)
        except OSError as error:
            why = os.strerror(error.errno or errno.EIO)
            raise NotKept(f"{self.path}: the checkpoint is not written: {why}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else runs this run meanwhile; raises ConfigurationRefused, NotKept."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise NotKept(f"{self.path}: no checkpoint can be kept: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationRefused(
                    f"{self.path}: another process is at this run; wait for it, or choose another --run"
                ) from error
            yield
