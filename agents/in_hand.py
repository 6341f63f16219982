"""What a scorer has in its hands, in memory that outlives it: what ended it, and what its next life must be wary of.

The supervisor makes the memory and hands it down as a descriptor; it belongs to no disk, whose pauses would be the
model's. A scorer that is run by itself keeps it in a file of the state folder.
"""

import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from msgspec import msgpack
from msgspec.structs import replace

from schemas.blocks import MAX_ROWS, Rows, decode_rows, encode_rows
from schemas.errors import UNREADABLE, UnreadableRecord
from streams.core.suspects import Suspect, Suspects

HEAD = struct.Struct("<BqqI")
SIZE = struct.Struct("<I")
SUSPECTS_AT = 64
VALUE_AT = SUSPECTS_AT + (1 << 20)
"""Room for all suspects, each with the longest cause (`KEPT` and `CAUSE_CHARS` of `streams.core.suspects`)."""
ROW_ROOM = 1 << 10
"""Beside its columns a block has names and lengths."""


class Doing(IntEnum):
    """What a scorer is about."""

    NOTHING = 0  # whatever ends it now is not its model's doing
    LOADING = 1  # the model
    SCORING = 2  # the rows that are noted


@dataclass(frozen=True, slots=True)
class Left:
    """What a scorer was about when it ended: `offset` is that of the batch's first record, `rows` one block."""

    doing: Doing
    partition: int = 0
    offset: int = 0
    rows: bytes = b""

    @property
    def offsets(self) -> list[int]:
        """The raw offsets of the rows; none when it was scoring none."""
        try:
            return decode_rows(self.rows).offsets.tolist() if self.rows else []
        except UnreadableRecord:
            return []  # it ended while it took them


class InHand:
    """The memory itself. One scorer writes; its supervisor, or its next life, reads when it has ended."""

    def __init__(self, descriptor: int, memory: mmap.mmap) -> None:
        self.descriptor = descriptor
        self._memory = memory

    @classmethod
    def made(cls, width: int) -> "InHand":
        """New memory for a model of this many features."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("rendezvous-in-hand")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, _size(width))
        return cls.given(descriptor)

    @classmethod
    def given(cls, descriptor: int) -> "InHand":
        """What a supervisor has made."""
        return cls(descriptor, mmap.mmap(descriptor, 0))

    @classmethod
    def at(cls, path: Path, width: int) -> "InHand":
        """That of a file, made if there is none, or one of another model; raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(descriptor).st_size != _size(width):
            os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, _size(width))
        return cls.given(descriptor)

    def close(self) -> None:
        """Let it go, by whoever made it: its scorer is not started again."""
        self._memory.close()
        os.close(self.descriptor)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """The model is being loaded."""
        HEAD.pack_into(self._memory, 0, Doing.LOADING, 0, 0, 0)
        yield
        self.freed()

    def took(self, partition: int, offset: int, rows: Rows) -> None:
        """These rows are scored now. The words that say so come last: an end in between leaves nothing half said.

        Without their events, which have no bound here; raw has them, at these offsets.
        """
        value = encode_rows(replace(rows, events=()))
        self._memory[VALUE_AT : VALUE_AT + len(value)] = value
        HEAD.pack_into(self._memory, 0, Doing.SCORING, partition, offset, len(value))

    def freed(self) -> None:
        """Nothing is in hand."""
        self._memory[0] = Doing.NOTHING

    def left(self) -> Left:
        """What was in hand at the end of the process that had it."""
        doing, partition, offset, size = HEAD.unpack_from(self._memory, 0)
        if doing != Doing.SCORING:
            return Left(Doing.LOADING if doing == Doing.LOADING else Doing.NOTHING)
        return Left(Doing.SCORING, partition, offset, bytes(self._memory[VALUE_AT : VALUE_AT + size]))

    def suspects(self, now_s: float, cause: str = "") -> Suspects:
        """Those of all lives before; a life calls it once, at its start, and then nothing is in hand."""
        (size,) = SIZE.unpack_from(self._memory, SUSPECTS_AT)
        start = SUSPECTS_AT + SIZE.size
        try:
            known = msgpack.decode(self._memory[start : start + size], type=list[Suspect]) if size else []
        except UNREADABLE:
            known = []  # the process ended while it wrote them down
        left, found = self.left(), Suspects(known)
        if left.offsets:
            found = found.after_end(left.partition, left.offsets, now_s, cause)
            form = msgpack.encode(list(found))
            SIZE.pack_into(self._memory, SUSPECTS_AT, 0)
            self._memory[start : start + len(form)] = form
            SIZE.pack_into(self._memory, SUSPECTS_AT, len(form))
        self.freed()
        return found


def _size(width: int) -> int:
    return VALUE_AT + ROW_ROOM + MAX_ROWS * 8 * (width + 2)
