"""A small file that is there whole or not at all, also after a crash: written beside, flushed, then renamed."""

import os
from pathlib import Path

from schemas.errors import ConfigurationRefused
from streams.kill_points import reached


def replace_file(path: Path, beside: Path, content: bytes, *, mode: int = 0o666, point: str = "") -> None:
    """Replace a file by way of another `beside` it; raises OSError, with the old one still there.

    `point` is the kill point between the two.
    """
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    reached(point)
    beside.replace(path)
    fsync(path.parent)


def refuse_special(path: Path) -> None:
    """Raise ConfigurationRefused for a device, a folder or a pipe: a file renamed onto it would take its place."""
    if path.exists() and not path.is_file():
        raise ConfigurationRefused(f"{path}: it is there, and no regular file; name a file that can be written")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file; raises ConfigurationRefused when it cannot be written, and leaves the old one then.

    A link stays, and the file that it names is replaced.
    """
    refuse_special(path)
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, beside, content)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationRefused(f"{path}: {error.strerror}; name a place that can be written") from error


def fsync(path: Path) -> None:
    """Make a file or a folder last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
