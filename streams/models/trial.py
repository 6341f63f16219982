"""Load one model, and score, in a process that may die of it: `python -m streams.models.trial < ATTEMPT`."""

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Any

from msgspec import json
from msgspec.structs import replace

from schemas.pipeline import Kind, Model
from streams.models.attempt import CPU_S, Attempt, Found

MEMORY_BYTES = 8 << 30
DIES_S = 5
"""Who goes on after SIGXCPU, which says why, is killed, which does not."""


def main() -> int:
    """What is to be tried is on stdin."""
    return told(json.decode(sys.stdin.buffer.read(), type=Attempt))


def told(attempt: Attempt) -> int:
    """Exit 0 when the model loads, and its file scores, the answer on stdout; else say why on stderr, in one line."""
    say, answer = os.fdopen(os.dup(2), "w"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _limit(attempt.model)
    from streams.models.artifact import ModelRefused
    from streams.models.loading import load, resolve

    model = attempt.model
    try:
        score = load(Path(attempt.folder), replace(model, prepare=""), attempt.features, tried=attempt.tried)
        prepare = resolve(model.prepare, f"model {model.name}: prepare") if model.prepare else None
    except ModelRefused as error:
        print(" ".join(str(error).split()), file=say)
        return 1
    except MemoryError as error:
        print(f"model {model.name}: {model.artifact or model.callable}: out of memory: {error}", file=say)
        return 1
    import numpy as np

    from streams.core.given import Given
    from streams.models.checked import score_rows

    width = len(attempt.features)
    if (
        model.artifact and model.kind is not Kind.PYTHON
    ):  # that may know what it is given, and raise on what is made up
        rows = np.vstack([np.zeros(width), np.ones(width), np.full(width, 1e6)])
        _, reasons = score_rows(score, Given(rows))
        if reasons:
            reason = " ".join(next(iter(reasons.values())).split())
            print(f"model {model.name}: {model.artifact} {reason}; train or copy it again", file=say)
            return 1
    found = Found([], {})
    if attempt.rows:

        def prepared(given: Given) -> Any:
            return score(replace(given, matrix=prepare(given.matrix)) if prepare else given)

        matrix = np.frombuffer(attempt.rows).reshape(-1, width).copy()
        scores, errors = score_rows(prepared, Given(matrix, attempt.events))
        found = Found(scores.tolist(), errors)
    answer.write(json.encode(found))
    answer.flush()
    return 0


def _limit(model: Model) -> None:
    """A Python model may reserve more memory than it uses, as those do that drive other hardware."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + DIES_S))
        if model.kind is not Kind.PYTHON:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    sys.exit(main())
