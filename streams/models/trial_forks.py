"""Trials as forks of a process that has imported what every one needs (`trial_fork`), for whoever tries `several`.

An interpreter, numpy and LightGBM are half a second of processor time. A trial is as good as an interpreter of its
own: its limits, its death and its output are its own, and it sees the environment and the folder of whoever asked.
LightGBM is imported for its own files alone: without data frames, which a model in Python may want.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from msgspec import DecodeError, json

from schemas.pipeline import Kind
from streams.models.attempt import Attempt, Done, Order
from streams.models.limits import THREADS
from streams.models.trial_fork import everything

LINUX = sys.platform == "linux"
ENDS_S = 1.0
IMPORTS_S = 30.0
"""One that takes longer to import than this, or was stopped, is given up."""


class Forks:
    """What a process holds of the one that forks its trials of one kind; any of its threads may ask."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lock = Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, attempt: Attempt) -> Done | None:
        """Wait for a trial with our environment; None where there was none: it must be an interpreter of its own."""
        order = json.encode(Order(attempt, os.getcwd(), dict(os.environ)))  # noqa: PTH109  as the system names it
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                if not self._handed(theirs):
                    return None
            ours.settimeout(attempt.within_s + IMPORTS_S)
            try:
                ours.sendall(order)
                ours.shutdown(socket.SHUT_WR)
                return json.decode(everything(ours), type=Done)
            except (OSError, DecodeError):  # it is gone, or hangs: the next one begins another
                self.end()
                return None

    def _handed(self, asked: socket.socket) -> bool:
        with self._lock:
            try:
                if self._line is None:
                    self._begin()
                if self._line is not None:
                    socket.send_fds(self._line, [b"1"], [asked.fileno()])
            except OSError:
                self._close()
            return self._line is not None

    def _begin(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.models.trial_fork", self._kind],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**dict.fromkeys(THREADS, "1"), **os.environ},
            )

    def end(self) -> None:
        """Let it go. It ends when its trials have, and a trial that nobody waits for is killed."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._line:
            self._line.close()
        if self._process:
            try:
                self._process.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._line = self._process = None


_forks: dict[str, Forks] = {}


@contextmanager
def several() -> Iterator[None]:
    """Until this is over trials are forks: each of the two processes is begun with the first that it is for."""
    if _forks or not LINUX:
        yield
        return
    _forks.update({kind: Forks(kind) for kind in ("", Kind.LIGHTGBM.value)})
    try:
        yield
    finally:
        for forks in _forks.values():
            forks.end()
        _forks.clear()


def forked(attempt: Attempt) -> Done | None:
    """A trial in a fork, with our own environment; None where it must be an interpreter of its own."""
    forks = _forks.get(Kind.LIGHTGBM.value if attempt.model.kind == Kind.LIGHTGBM else "")
    return forks.ask(attempt) if forks else None
