"""Models in Python for the tests: what people write, and what goes wrong with it."""

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from schemas.blocks import Matrix


class Scaled:
    """Reads one number from its file."""

    def load(self, path: Path | None) -> None:
        self.factor = float(path.read_text()) if path else 1.0
        self.path = path

    def predict(self, matrix: Matrix) -> Matrix:
        return matrix[:, 0] * self.factor


class NoPredict:
    def load(self, path: Path | None) -> None: ...


class Broken(Scaled):
    def load(self, path: Path | None) -> None:
        raise KeyError("weights")


class Slow(Scaled):
    def load(self, path: Path | None) -> None:
        time.sleep(100)


class Dying(Scaled):
    def load(self, path: Path | None) -> None:
        os.kill(os.getpid(), 11)


class Busy(Scaled):
    """Goes on until it is stopped, for a second instead of a minute."""

    def load(self, path: Path | None) -> None:
        soft_s, hard_s = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1 + hard_s - soft_s))
        while True:
            pass


class Where(Scaled):
    """Says in which folder and environment it is loaded, and with what beside it."""

    def load(self, path: Path | None) -> None:
        raise KeyError(str(Path.cwd()), os.environ.get("TOLD"), "lightgbm" in sys.modules, sys.stdin.read())


class Leaving(Scaled):
    def load(self, path: Path | None) -> None:
        sys.exit(3)


class Talkative(Scaled):
    """Prints a gigabyte past Python, without a line's end, and then has nothing to show for it."""

    def load(self, path: Path | None) -> None:
        for _ in range(1 << 9):
            os.write(1, b"a" * (1 << 20))
            os.write(2, b"b" * (1 << 20))
        raise KeyError("weights")


def by_name(frame: Any) -> Any:
    return frame["a"] + 10 * frame["b"]


def by_event(events: list[dict[str, Any]]) -> list[float]:
    return [event["payment"]["amount"] / 2 for event in events]


def by_x(events: list[dict[str, Any]]) -> list[float]:
    return [event["x"] / 100 for event in events]


def plain(matrix: Matrix) -> Matrix:
    return np.zeros(len(matrix))


def length(events: list[dict[str, Any]]) -> list[float]:
    return [len(event["note"]) for event in events]


class Kept:
    """Scores by the length of its file."""

    def load(self, path: Path) -> None:
        """Raises OSError."""
        self.size = len(path.read_bytes())

    def predict(self, matrix: Matrix) -> Matrix:
        """The same for every row."""
        return np.full(len(matrix), float(self.size))


def hanging(matrix: Matrix) -> Matrix:
    time.sleep(100)
    return matrix[:, 0]


def dying(matrix: Matrix) -> Matrix:
    os.kill(os.getpid(), 11)
    return matrix[:, 0]


def leaving(matrix: Matrix) -> Matrix:
    os._exit(0)
    return matrix[:, 0]


def talking(matrix: Matrix) -> Matrix:
    print("I am loud", flush=True)
    os.write(1, b"past Python too")
    return matrix[:, 0] * os.getpid()


def odd(matrix: Matrix) -> Matrix:
    return np.where(matrix[:, 0] > 0, np.nan, 0.5)
