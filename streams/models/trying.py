"""A model is loaded first where a crash is harmless: in a child process, with limits, that says what is wrong.

A damaged file may abort the process that loads it, and a model in Python may do anything: a child that dies is an
answer. What a model prints there is dropped; only the last word, ours, is heard. A model that is added to a running
pipeline scores there too.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from msgspec import DecodeError, Struct, json

from schemas.pipeline import Kind, Model
from streams.models.artifact import ModelRefused, sum_of

TRIAL_S = 60.0
"""Who tries longer would add a model that its scorer then refuses: that tries it for so long."""

CPU_S = 60
"""Processor time, of all threads together."""

Tried = Callable[[Path, Model, tuple[str, ...], bytes], None]
"""Sees to it that these bytes were loaded by a child process before; raises ModelRefused."""


class Attempt(Struct, frozen=True):
    """What a child process is told to load; `tried` are the bytes it need not hand on to another child.

    `rows` are scored then: float64, one row of the features after the other; `events` are theirs (JSON), for a model
    that takes them. All of it may take `within_s`.
    """

    folder: str
    model: Model
    features: tuple[str, ...]
    tried: tuple[str, ...] = ()
    rows: bytes = b""
    events: tuple[bytes, ...] = ()
    within_s: float = TRIAL_S


class Found(Struct, frozen=True):
    """What a child process answers: the scores of the rows, and the reason of each that has none, by its place."""

    scores: list[float | None]
    errors: dict[int, str]


def unless_tried(sums: Collection[str]) -> Tried:
    """Only what none of these sha256 names is tried."""

    def tried(folder: Path, model: Model, features: tuple[str, ...], content: bytes) -> None:
        digest = sum_of(content)
        if digest not in sums:
            try_in_child(Attempt(str(folder), model, features, (digest,)))

    return tried


def try_in_child(attempt: Attempt) -> Found:
    """Load a model in a child process, and score there; raises ModelRefused with what it said, or how it died."""
    model = attempt.model
    what = f"model {model.name}: {model.artifact or model.callable or model.kind}"
    command, within_s = [sys.executable, "-m", "streams.models.trial"], attempt.within_s
    try:
        done = subprocess.run(command, input=json.encode(attempt), capture_output=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired as error:
        does = "load and score" if attempt.rows else "load"
        raise ModelRefused(f"{what} does not {does} in {within_s:g} s; load less, or beforehand") from error
    if done.returncode == -signal.SIGXCPU:
        raise ModelRefused(f"{what} takes more than {CPU_S} s of processor time to load; load less, or beforehand")
    if done.returncode < 0:
        remedy = "mend it" if model.kind is Kind.PYTHON else "it is damaged; train or copy it again"
        raise ModelRefused(f"{what} aborts the loader (signal {-done.returncode}): {remedy}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelRefused(said[-1] if said else f"{what} ends the process that loads it, with {done.returncode}")
    try:
        return json.decode(done.stdout, type=Found)
    except DecodeError as error:
        raise ModelRefused(f"{what} ends the process that loads it, without a word; mend it") from error
