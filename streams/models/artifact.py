"""A model's file: opened once, checked by sha256 on that very descriptor, only then read."""

import hashlib
import os
import re
import stat
from pathlib import Path

from msgspec.structs import replace

from schemas.errors import RendezvousError
from schemas.pipeline import Model

MAX_BYTES = 512 << 20
HEX = re.compile(r"[0-9a-f]{64}").fullmatch


class ModelRefused(RendezvousError):
    """A model that cannot be trusted or loaded; the others run without it."""

    exit_code = 5


def open_artifact(folder: Path, model: Model) -> bytes:
    """The bytes of a model's file under `folder`; raises ModelRefused with what is wrong."""
    path, content = _content(folder, model)
    digest = sum_of(content)
    expected = _expected(folder, model)
    if digest != expected:
        raise ModelRefused(
            f"model {model.name}: {path} has sha256 {digest}, the pipeline says {expected}; "
            "restore the file, or write the new sum if the change is yours"
        )
    return content


def sum_to_trust(folder: Path, model: Model) -> str:
    """The sha256 that a new model's file is to have: as `model` says, else as the file beside it, else as it is.

    Raises ModelRefused when it has another.
    """
    beside = folder / f"{model.artifact}.sha256"
    if not model.sha256 and beside.is_file():
        model = replace(model, sha256=f"{model.artifact}.sha256")
    if model.sha256:
        return sum_of(open_artifact(folder, model))
    return sum_of(_content(folder, model)[1])


def _content(folder: Path, model: Model) -> tuple[Path, bytes]:
    path = _inside(folder, model, model.artifact)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ModelRefused(f"model {model.name}: {path}: {error.strerror}; make or name the file") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        os.close(descriptor)
        raise ModelRefused(f"model {model.name}: {path} is no regular file of at most 512 MB; name one")
    with os.fdopen(descriptor, "rb") as file:
        return path, file.read(MAX_BYTES + 1)


def sum_of(content: bytes) -> str:
    """The sha256 of a model's file, in hex digits."""
    return hashlib.sha256(content).hexdigest()


def _expected(folder: Path, model: Model) -> str:
    if HEX(model.sha256):
        return model.sha256
    path = _inside(folder, model, model.sha256)
    neither = (
        f"model {model.name}: sha256 {model.sha256!r} is neither 64 hex digits nor a readable file; write one of them"
    )
    if not path.is_file():  # of a pipe one would wait for the other end
        raise ModelRefused(neither)
    try:
        word = path.read_text().split()[:1]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(neither) from error
    if not word or not HEX(word[0]):
        raise ModelRefused(f"model {model.name}: {path} does not begin with a sha256; write it with sha256sum")
    return word[0]


def _inside(folder: Path, model: Model, name: str) -> Path:
    root = folder.resolve()
    path = root / name
    if "\0" in name or not path.parent.resolve().is_relative_to(root):
        raise ModelRefused(f"model {model.name}: {name!r} lies outside {root}; keep models beside the pipeline file")
    return path
