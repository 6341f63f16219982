"""The frozen reference as a file in the state folder, beside the archive."""

from pathlib import Path

from msgspec import ValidationError, json

from schemas.errors import UNREADABLE, ConfigurationRefused
from streams.core.frozen_reference import FrozenReference
from streams.state_file import write_atomically

FORMAT = 1
INSTEAD = "set one with `rendezvous reference set --since ... --until ...`"


def read_reference(path: Path) -> FrozenReference | None:
    """The reference that is set; None when none is; raises ConfigurationRefused when it cannot be read."""
    try:
        found = json.decode(path.read_bytes(), type=FrozenReference)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationRefused(f"{path}: {error.strerror}; {INSTEAD}") from error
    except (*UNREADABLE, ValidationError) as error:
        raise ConfigurationRefused(f"{path}: no reference: {error}; {INSTEAD}") from error
    if found.format != FORMAT or found.since_ms >= found.until_ms:
        raise ConfigurationRefused(f"{path}: a reference of format {found.format} that ends before it begins, or of "
                                   f"another format than {FORMAT}; {INSTEAD}")  # fmt: skip
    return found


def write_reference(path: Path, found: FrozenReference) -> None:
    """Set it; raises ConfigurationRefused when the file cannot be written."""
    write_atomically(path, json.format(json.encode(found), indent=1) + b"\n")
