"""Models of the pipelines under test."""

import os
import signal
import time

import numpy as np

from schemas.blocks import Matrix

POISON, SLOW, CRASH = -1.0, -2.0, -3.0


def double(matrix: Matrix) -> Matrix:
    """Twice x; hangs, raises or dies on the x that says so."""
    x = matrix[:, 0]
    if (x == CRASH).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (x == SLOW).any():
        time.sleep(3)
    if (x == POISON).any():
        raise ValueError("poisoned")
    return np.where(x > 1e6, np.nan, 2 * x)


def derived(event: dict[str, object]) -> float:
    """A derived feature; fails on events that say so."""
    if event.get("explode"):
        raise ValueError("exploded")
    return 3.0
