"""Models of the pipelines under test."""

import ctypes
import os
import signal
import time
from typing import Any

import numpy as np

from schemas.blocks import Matrix

POISON, SLOW, CRASH, SEGFAULT, LATE, NULL, TALK = -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0
BEYOND, COLD = 50.0, -9.0
FINE, RAISES, LEAKS, SEGFAULTS, HANGS = range(5)
"""What the last feature says of whose turn it is to be in trouble."""


def double(matrix: Matrix) -> Matrix:
    """Twice x; hangs, is late, raises or dies on the x that says so."""
    x = matrix[:, 0]
    if (x == CRASH).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (x == SEGFAULT).any():
        os.kill(os.getpid(), signal.SIGSEGV)
    if (x == SLOW).any():
        time.sleep(3)
    if (x == LATE).any():
        time.sleep(0.8)
    if (x == POISON).any():
        raise ValueError("poisoned")
    return np.where(x > 1e6, np.nan, 2 * x)


class LateStarter:
    """Its first real rows are no good; those of the warm-up are zeros. Raises on an x that is beyond all others."""

    def load(self, _: object) -> None:
        self.warm = False

    def predict(self, matrix: Matrix) -> Matrix:
        if (matrix[:, 0] == BEYOND).any():
            raise ValueError("beyond")
        said = np.full(len(matrix), 0.9 if self.warm else COLD)
        self.warm = self.warm or bool(matrix[:, 0].any())
        return said


class Homeless:
    """Is loaded where it is at home, and nowhere else: as a file that is on another host."""

    def load(self, _: object) -> None:
        """Raises KeyError elsewhere."""
        self.home = os.environ["AT_HOME"]

    def predict(self, matrix: Matrix) -> Matrix:
        """The same for every row."""
        return np.full(len(matrix), 0.5)


def as_told(matrix: Matrix) -> Matrix:
    """Of the first feature and the last."""
    return matrix[:, 0] + matrix[:, -1] / 100


def miscounted(matrix: Matrix) -> Matrix:
    """One score too few, and one too many once an x is above a half."""
    return np.zeros(len(matrix) + (1 if (matrix[:, 0] > 0.5).any() else -1))


def too_few(matrix: Matrix) -> Matrix:
    """One score too few."""
    return np.zeros(len(matrix) - 1)


def too_many(matrix: Matrix) -> Matrix:
    """One score too many."""
    return np.zeros(len(matrix) + 1)


def words(matrix: Matrix) -> list[str]:
    """Text that reads like numbers."""
    return [str(x) for x in matrix[:, 0]]


def not_a_number(matrix: Matrix) -> Matrix:
    """NaN for every row."""
    return np.full(len(matrix), np.nan)


def talker(matrix: Matrix) -> Matrix:
    """Prints a gigabyte, without the end of a line, on the x that says so."""
    if (matrix[:, 0] == TALK).any():
        for _ in range(1 << 10):
            print("a" * (1 << 20), end="")
    return matrix[:, 0]


class Endless:
    """Takes for ever to load."""

    def load(self, _: object) -> None:
        time.sleep(3600)

    def predict(self, matrix: Matrix) -> Matrix:
        return matrix[:, 0]


class Loud:
    """Prints a gigabyte while it is loaded, past Python too, and then fails."""

    def load(self, _: object) -> None:
        for _ in range(1 << 9):
            print("a" * (1 << 20))
            os.write(2, b"b" * (1 << 20))
        raise KeyError("weights")

    def predict(self, matrix: Matrix) -> Matrix:
        return matrix[:, 0]


def notes(events: list[dict[str, Any]]) -> list[float]:
    """How long the event's note is: nothing that is a feature."""
    return [len(event["note"]) for event in events]


class Framed:
    """By the features' names; there is nothing to load."""

    def load(self, path: str | None) -> None:
        assert path is None

    def predict(self, frame: Any) -> Any:
        return frame["x"] + frame["size"]


def one_more(matrix: Matrix) -> Matrix:
    """The score it needs, which is its last column, and one."""
    return matrix[:, -1] + 1


def second_opinion(events: list[dict[str, Any]]) -> list[float]:
    """The score of `good`, as the event says it; the rows of the warm-up have none."""
    return [event.get("good.score", 0.0) for event in events]


def derived(event: dict[str, object]) -> float:
    """A derived feature; fails on events that say so."""
    if event.get("explode"):
        raise ValueError("exploded")
    return 3.0


def heavy(event: dict[str, object]) -> float:
    """A derived feature that costs a millisecond: the router is the pipeline's narrowest place."""
    time.sleep(0.001)
    return 1.0


def touchy(matrix: Matrix) -> Matrix:
    """Follows a null pointer on the row that says so."""
    if (matrix[:, 0] == NULL).any():
        ctypes.string_at(0)
    return matrix[:, 0]


def cursed(matrix: Matrix) -> Matrix:
    """Follows a null pointer on every row but those of the warm-up."""
    if matrix[:, 0].any():
        ctypes.string_at(0)
    return matrix[:, 0]


def doomed(matrix: Matrix) -> Matrix:
    """Dies of its very first call."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return matrix[:, 0]


_kept: list[Matrix] = []


def leaky(matrix: Matrix) -> Matrix:
    """Keeps a megabyte of each block for ever."""
    _kept.append(np.ones(1 << 17))
    return matrix[:, 0]


def raises(matrix: Matrix) -> Matrix:
    """Raises on every row when it is its turn."""
    if RAISES in matrix[:, -1]:
        raise ValueError("its turn")
    return matrix[:, 0]


def leaks(matrix: Matrix) -> Matrix:
    """Leaks when it is its turn."""
    return leaky(matrix) if LEAKS in matrix[:, -1] else matrix[:, 0]


def segfaults(matrix: Matrix) -> Matrix:
    """Follows a null pointer when it is its turn."""
    if SEGFAULTS in matrix[:, -1]:
        ctypes.string_at(0)
    return matrix[:, 0]


def hangs(matrix: Matrix) -> Matrix:
    """Does not come back when it is its turn."""
    if HANGS in matrix[:, -1]:
        time.sleep(3600)
    return matrix[:, 0]


def steady(matrix: Matrix) -> Matrix:
    """A smooth score of both fields."""
    return 1 / (1 + np.exp(-matrix[:, 0] - 0.3 * matrix[:, 1]))


def failing(matrix: Matrix) -> Matrix:
    """Scores as `other` does, and raises as long as the switch is on."""
    if os.path.exists(os.environ["SWITCH"]):  # noqa: PTH110  (asked for each block)
        raise ValueError("switched")
    return other(matrix)


def other(matrix: Matrix) -> Matrix:
    """Another one; as soon as the file SWITCH is there it takes its first field for something else."""
    wrong = os.path.exists(os.environ.get("SWITCH", "/nowhere"))  # noqa: PTH110  (asked for each block)
    return 1 / (1 + np.exp((0.8 if wrong else -0.8) * matrix[:, 0] + 0.2 * matrix[:, 1]))


def watcher(matrix: Matrix) -> Matrix:
    """A coarser one."""
    return 1 / (1 + np.exp(-0.5 * matrix[:, 0] - 0.1 * matrix[:, 1]))
