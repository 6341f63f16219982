"""The nursery's process: it imports what every role needs, and forks one whenever `agents.born` asks.

It has one thread and opens nothing, so that what it forks is as good as new; and it forks twice, so that the role is
an orphan, which Linux gives to `up`.
"""

import fcntl
import gc
import importlib
import os
import socket
import sys
from collections.abc import Sequence

from msgspec import Struct, json
from setproctitle import setproctitle

MESSAGE_BYTES = 1 << 20
MOST_DESCRIPTORS = 8
EVERY_ROLE = ("agents.process", "agents.roles", "agents.cli.run")


class Order(Struct, frozen=True):
    """One role to be born: what follows `rendezvous`, its whole environment, the numbers of its descriptors."""

    arguments: list[str]
    environment: dict[str, str]
    descriptors: list[int]


def main() -> None:
    """Serve until `up` is gone; in each fork, be the role."""
    setproctitle("rendezvous nursery")
    line = socket.socket(fileno=os.dup(0))
    for module in EVERY_ROLE:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a fork would write to every page they share
    serve(line)
    line.close()
    from agents.cli import program

    program.main()


def serve(line: socket.socket) -> Order:
    """Fork whenever asked; returns, in the fork, what it is to be. Ends with the other end of the line."""
    while True:
        message, received, _, _ = socket.recv_fds(line, MESSAGE_BYTES, MOST_DESCRIPTORS)
        if not message:
            sys.exit(0)
        ours, theirs = os.pipe()
        between = os.fork()
        if between == 0:
            if (role := os.fork()) == 0:
                os.close(ours)
                os.close(theirs)
                order = json.decode(message, type=Order)
                _become(order, received)
                return order
            os.write(theirs, str(role).encode())
            os._exit(0)
        os.close(theirs)
        os.waitpid(between, 0)  # only now its child is a child of `up`
        with os.fdopen(ours, "rb") as told:
            pid = told.read()
        for descriptor in received:
            os.close(descriptor)
        line.send(pid)


def _become(order: Order, received: Sequence[int]) -> None:
    os.setpgrp()
    above = max([2, *order.descriptors]) + 1  # out of the way of the numbers that they are to have
    waiting = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(waiting, (0, 1, 2, *order.descriptors), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = ["rendezvous", *order.arguments]
    sys.orig_argv = [sys.executable, "-m", "agents", *order.arguments]
    setproctitle(" ".join(sys.argv))


if __name__ == "__main__":
    main()
