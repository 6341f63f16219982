"""A small file that is there whole or not at all, also after a crash: written beside, flushed, then renamed."""

import os
from pathlib import Path

from schemas.errors import ConfigurationRefused


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file; raises ConfigurationRefused when it cannot be written, and leaves the old one then."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationRefused(f"{path}: {error.strerror}; name a place that can be written") from error
