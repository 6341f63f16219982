"""Trials as forks of a process that has imported what every one needs: `python -m streams.models.trial_forks KIND`.

An interpreter, numpy and LightGBM are half a second of processor time, and whoever tries one model often tries
`several`. A trial is as good as an interpreter of its own: its limits, its death and its output are its own, and it
sees the environment and the folder of whoever asked. LightGBM is imported for its own files alone: without data
frames, which a model in Python may want.

The process has one thread and opens nothing. It ends with whoever began it.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

from msgspec import DecodeError, Struct, json

from schemas.pipeline import Kind
from streams.models.attempt import Attempt
from streams.models.limits import THREADS

LINUX = sys.platform == "linux"
ENDS_S = 1.0
IMPORTS_S = 30.0
"""One that takes longer to import than this, or was stopped, is given up."""


class Order(Struct, frozen=True):
    """One trial, where and with which environment."""

    attempt: Attempt
    folder: str
    environment: dict[str, str]


class Done(Struct, frozen=True):
    """How a trial ended: -N by signal N, None when its time was over; and what it said."""

    code: int | None
    out: bytes
    err: bytes


class Forks:
    """What a process holds of the one that forks its trials of one kind; any of its threads may ask."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lock = Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, attempt: Attempt, environment: Mapping[str, str]) -> Done | None:
        """Wait for a trial; None where there was none: it must be an interpreter of its own."""
        order = json.encode(Order(attempt, os.getcwd(), dict(environment)))  # noqa: PTH109  as the system names it
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                if not self._handed(theirs):
                    return None
            ours.settimeout(attempt.within_s + IMPORTS_S)
            try:
                ours.sendall(order)
                ours.shutdown(socket.SHUT_WR)
                return json.decode(_all(ours), type=Done)
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
                [sys.executable, "-m", "streams.models.trial_forks", self._kind],
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
    return forks.ask(attempt, os.environ) if forks else None


def main() -> int:
    """Serve until whoever asks is gone; in each fork, be the trial."""
    line = socket.socket(fileno=os.dup(0))
    from streams.models import trial
    from streams.models.checked import score_rows  # noqa: F401  what every trial imports
    from streams.models.loading import load  # noqa: F401

    if sys.argv[1] == Kind.LIGHTGBM:
        from streams.models.trees import import_lightgbm

        with contextlib.suppress(ImportError, OSError):  # the trial says why
            import_lightgbm()
    gc.collect()
    gc.freeze()  # a collection in a fork would write to every page they share
    asked = _serve(line)
    line.close()
    return trial.told(_minded(asked))


def _serve(line: socket.socket) -> socket.socket:
    """Fork whenever asked; returns, in the fork, where the order is read. Ends with the other end of the line."""
    while True:
        _, received, _, _ = socket.recv_fds(line, 1, 1)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG if received else 0)[0]:
                pass
        if not received:
            os._exit(0)
        if os.fork() == 0:
            return socket.socket(fileno=received[0])
        os.close(received[0])


def _minded(asked: socket.socket) -> Attempt:
    """Fork the trial and answer how it ended; returns in the trial alone. Who asks no more has it killed."""
    order = json.decode(_all(asked), type=Order)
    said = [os.memfd_create(name) for name in ("out", "err")]
    trial = os.fork()
    if trial == 0:
        asked.close()
        _become(order, said)
        return order.attempt
    code = _waited(trial, asked, order.attempt.within_s)
    out, err = (os.pread(number, os.fstat(number).st_size, 0) for number in said)
    asked.sendall(json.encode(Done(code, out, err)))
    os._exit(0)


def _waited(trial: int, asked: socket.socket, within_s: float) -> int | None:
    ends = select.poll()
    ends.register(os.pidfd_open(trial), select.POLLIN)
    ends.register(asked, 0)  # that the other end was closed is always told
    found = ends.poll(within_s * 1e3)
    if not any(event & select.POLLIN for _, event in found):
        os.kill(trial, signal.SIGKILL)
        os.waitpid(trial, 0)
        return None
    return os.waitstatus_to_exitcode(os.waitpid(trial, 0)[1])


def _become(order: Order, said: list[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, own in enumerate((nothing, *said)):
        os.dup2(own, number)
    os.chdir(order.folder)
    sys.path[0] = order.folder  # as `python -m` has it
    os.environ.clear()
    os.environ.update(order.environment)


def _all(line: socket.socket) -> bytes:
    with line.makefile("rb") as said:
        return said.read()


if __name__ == "__main__":
    sys.exit(main())
