"""Load one model in a process that may die of it: `python -m streams.models.trial < ATTEMPT`."""

import contextlib
import os
import resource
import sys
from pathlib import Path

from msgspec import json
from msgspec.structs import replace

from schemas.pipeline import Kind, Model
from streams.models.trying import Attempt

MEMORY_BYTES = 8 << 30
CPU_S = 60


def main() -> int:
    """Exit 0 when the model loads, and its file scores; else say why on stderr, in one line."""
    attempt = json.decode(sys.stdin.buffer.read(), type=Attempt)
    say = os.fdopen(os.dup(2), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _limit(attempt.model)
    from streams.models.artifact import ModelRefused
    from streams.models.loading import load, resolve

    model = attempt.model
    try:
        score = load(Path(attempt.folder), replace(model, prepare=""), attempt.features, tried=attempt.tried)
        if model.prepare:
            resolve(model.prepare, f"model {model.name}: prepare")
    except ModelRefused as error:
        print(" ".join(str(error).split()), file=say)
        return 1
    except MemoryError as error:
        print(f"model {model.name}: {model.artifact or model.callable}: out of memory: {error}", file=say)
        return 1
    if model.kind is Kind.PYTHON:
        return 0  # it may know what it is given, and raise on what is made up
    import numpy as np

    from streams.core.given import Given
    from streams.models.checked import score_rows

    width = len(attempt.features)
    rows = np.vstack([np.zeros(width), np.ones(width), np.full(width, 1e6)])
    _, reasons = score_rows(score, Given(rows))
    if reasons:
        reason = " ".join(next(iter(reasons.values())).split())
        print(f"model {model.name}: {model.artifact} {reason}; train or copy it again", file=say)
        return 1
    return 0


def _limit(model: Model) -> None:
    """A Python model may reserve more memory than it uses, as those do that drive other hardware."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        if model.kind is not Kind.PYTHON:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    sys.exit(main())
