"""What a model may take of its machine: threads, priority, memory. Set before it is loaded.

Memory is bounded twice. The kernel refuses what would go far beyond the limit (`RLIMIT_DATA`, Linux: private memory
that can be written; Python and LightGBM raise then), and a thread looks at what is resident and ends the process
that has more, which catches a slow leak, and works on macOS too, where the kernel does not keep such limits.
`RLIMIT_AS` is no use: it counts what threads and allocators reserve and never touch (an empty scorer with 98 MB
resident has 767 MB of it, of which `RLIMIT_DATA` counts 168), and librdkafka aborts when it is short of it
(measured); `RLIMIT_RSS` has had no effect on Linux since 2.4.30.
"""

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Never

import psutil

from schemas.pipeline import Model
from streams.core.given import Given
from streams.models.checked import Score

logger = logging.getLogger(__name__)

MEMORY_EXIT = 78
LOOK_S = 0.1
MB = 1 << 20
ROOM = 256 * MB
"""What the threads of this process and their allocators may reserve beside what is resident: the kernel counts it."""
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Read by the libraries when they are loaded: they must stand in the environment before that."""


def thread_settings(model: Model) -> Mapping[str, str]:
    """What the environment of a scorer says of threads, unless it says something already."""
    return dict.fromkeys(THREADS, str(model.threads))


def limit(model: Model) -> None:
    """Take this model's place in the machine; from now on its memory is bounded."""
    if model.nice:
        os.nice(model.nice)
    if not model.memory_mb:
        return
    if sys.platform == "linux":
        # Beside what is resident now, the process has memory that it only reserved: that is not the model's.
        found = psutil.Process().memory_info()
        reserved = max(0, found.data - found.rss)
        most = model.memory_mb * MB + reserved + ROOM
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    threading.Thread(target=_watch, args=(model,), daemon=True).start()


def resident_mb() -> float:
    """What this process has in memory."""
    return psutil.Process().memory_info().rss / MB


def bounded(model: Model, score: Score) -> Score:
    """The same model, which ends its process when it is refused memory: a limit is no row's fault."""
    if not model.memory_mb:
        return score

    def within(given: Given) -> Any:
        try:
            return score(given)
        except MemoryError as error:
            over_limit(model, f"it was refused memory ({error})")

    return within


def over_limit(model: Model, found: str) -> Never:
    """End at once: what is not finished is read again by the next life."""
    logger.error("model %s: %s: over its memory limit of %s MB; ending", model.name, found, model.memory_mb)
    os._exit(MEMORY_EXIT)


def _watch(model: Model) -> None:
    process = psutil.Process()
    while (found := process.memory_info().rss) <= model.memory_mb * MB:
        time.sleep(LOOK_S)
    over_limit(model, f"{found / MB:,.0f} MB resident")
