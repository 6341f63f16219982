"""A seal over a whole Parquet file: sixteen bytes between its pages and its footer, where no reader looks.

Parquet's checksums cover pages only. The seal holds a CRC-32 of all that lies before it and one of the footer after
it, so that a flipped bit anywhere is found, also in a name, a statistic or the footer's length.
"""

from binascii import crc32
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import BinaryIO

_MAGIC = b"rv-seal1"
_FORM = Struct("<8sII")
_LENGTH = Struct("<I")
_END = 8
"""Parquet ends with the footer's length and four letters."""

_CHUNK = 1 << 20


def sealed(data: memoryview) -> Iterator[memoryview]:
    """A whole Parquet file as the parts to write, its seal among them."""
    place = len(data) - _END - _LENGTH.unpack(data[-_END:-4])[0]
    head, tail = data[:place], data[place:]
    yield from (head, memoryview(_FORM.pack(_MAGIC, crc32(head), crc32(tail))), tail)


def seal_file(path: Path) -> None:
    """Put the seal into a finished file that was written piece by piece."""
    with path.open("r+b") as file:
        place, tail = _tail(file)
        file.seek(0)
        head = _crc_of(file, place)
        file.write(_FORM.pack(_MAGIC, head, crc32(tail)) + tail)


def reach(end: bytes) -> int:
    """How many of a file's last bytes hold its footer and its seal, by those that are here."""
    return _FORM.size + _END + (_LENGTH.unpack(end[-_END:-4])[0] if len(end) >= _END else 0)


def footer_is_whole(file: BinaryIO) -> bool | None:
    """Whether the footer is as it was sealed; None where there is no seal."""
    place, tail = _tail(file)
    found = _seal(file, place)
    return None if found is None else found[1] == crc32(tail)


def pages_are_whole(file: BinaryIO) -> bool:
    """Whether all before the seal is as it was; true where there is no seal."""
    place, _ = _tail(file)
    found = _seal(file, place)
    file.seek(0)
    return found is None or _crc_of(file, place - _FORM.size) == found[0]


def _tail(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and all from there; a length that cannot be is no footer."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END))
    end = file.read(_END)
    length = _LENGTH.unpack(end[:4])[0] if len(end) == _END else size
    place = max(0, size - _END - length)
    file.seek(place)
    return place, file.read()


def _seal(file: BinaryIO, place: int) -> tuple[int, int] | None:
    if place < _FORM.size:
        return None
    file.seek(place - _FORM.size)
    magic, head, tail = _FORM.unpack(file.read(_FORM.size))
    return (head, tail) if magic == _MAGIC else None


def _crc_of(file: BinaryIO, length: int) -> int:
    """The sum over so many bytes from where the file is read."""
    found = 0
    while length > 0 and (part := file.read(min(length, _CHUNK))):
        found, length = crc32(part, found), length - len(part)
    return found
