"""The process that trials are forks of: it imports what every one of a kind needs, and forks one whenever asked.

`python -m streams.models.trial_fork KIND`, for `streams.models.trial_forks`. It has one thread and opens nothing, and
ends with whoever began it. It forks twice: one waits for the trial and answers how it ended.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys

from msgspec import json

from schemas.pipeline import Kind
from streams.models.attempt import Attempt, Done, Order


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
    order = json.decode(everything(asked), type=Order)
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


def everything(line: socket.socket) -> bytes:
    """What the other end says until it has said all."""
    with line.makefile("rb") as said:
        return said.read()


if __name__ == "__main__":
    sys.exit(main())
