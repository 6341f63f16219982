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

from msgspec import DecodeError, json

from schemas.pipeline import Kind, Model
from streams.models.artifact import ModelRefused, sum_of
from streams.models.attempt import CPU_S, Attempt, Done, Found
from streams.models.trial_forks import forked

Tried = Callable[[Path, Model, tuple[str, ...], bytes], None]
"""Sees to it that these bytes were loaded by a child process before; raises ModelRefused."""


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
    done = forked(attempt) or _interpreted(attempt)
    if done.code is None:
        does = "load and score" if attempt.rows else "load"
        raise ModelRefused(f"{what} does not {does} in {attempt.within_s:g} s; load less, or beforehand")
    if done.code == -signal.SIGXCPU:
        raise ModelRefused(f"{what} takes more than {CPU_S} s of processor time to load; load less, or beforehand")
    if done.code < 0:
        remedy = "mend it" if model.kind is Kind.PYTHON else "it is damaged; train or copy it again"
        raise ModelRefused(f"{what} aborts the loader (signal {-done.code}): {remedy}")
    if done.code:
        said = done.err.decode(errors="replace").strip().splitlines()
        raise ModelRefused(said[-1] if said else f"{what} ends the process that loads it, with {done.code}")
    try:
        return json.decode(done.out, type=Found)
    except DecodeError as error:
        raise ModelRefused(f"{what} ends the process that loads it, without a word; mend it") from error


def _interpreted(attempt: Attempt) -> Done:
    """The same in an interpreter of its own."""
    command, given = [sys.executable, "-m", "streams.models.trial"], json.encode(attempt)
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=attempt.within_s, check=False)
    except subprocess.TimeoutExpired:
        return Done(None, b"", b"")
    return Done(done.returncode, done.stdout, done.stderr)
