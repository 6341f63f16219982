"""A model is loaded first where a crash is harmless: in a child process, with limits, that says what is wrong.

A damaged file may abort the process that loads it, and a model in Python may do anything: a child that dies is an
answer. What a model prints there is dropped; only the last word, ours, is heard.
"""

import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from msgspec import Struct, json

from schemas.pipeline import Kind, Model
from streams.models.artifact import ModelRefused, sum_of

TRIAL_S = 60

Tried = Callable[[Path, Model, tuple[str, ...], bytes], None]
"""Sees to it that these bytes were loaded by a child process before; raises ModelRefused."""


class Attempt(Struct, frozen=True):
    """What a child process is told to load; `tried` are the bytes it need not hand on to another child."""

    folder: str
    model: Model
    features: tuple[str, ...]
    tried: tuple[str, ...] = ()


def unless_tried(sums: Collection[str]) -> Tried:
    """Only what none of these sha256 names is tried."""

    def tried(folder: Path, model: Model, features: tuple[str, ...], content: bytes) -> None:
        digest = sum_of(content)
        if digest not in sums:
            try_in_child(Attempt(str(folder), model, features, (digest,)))

    return tried


def try_in_child(attempt: Attempt) -> None:
    """Load a model in a child process; raises ModelRefused with what it said, or how it died."""
    model = attempt.model
    what = f"model {model.name}: {model.artifact or model.callable}"
    command = [sys.executable, "-m", "streams.models.trial"]
    try:
        done = subprocess.run(command, input=json.encode(attempt), capture_output=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelRefused(f"{what} does not load in {TRIAL_S} s; load less, or beforehand") from error
    if done.returncode < 0:
        remedy = "mend it" if model.kind is Kind.PYTHON else "it is damaged; train or copy it again"
        raise ModelRefused(f"{what} aborts the loader (signal {-done.returncode}): {remedy}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelRefused(said[-1] if said else f"{what} ends the process that loads it, with {done.returncode}")
