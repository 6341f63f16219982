"""Roles that are there at once: one process has imported what every role needs, and forks.

What a role imports is 0.7 s of processor time, and a pipeline has seven roles on the cores that its models need: so
imported once, a pipeline is up in half the time, and a role that was killed reads again before it is missed.

A role is a child of `up`, not of the nursery: the nursery forks twice, and Linux gives `up` the orphan
(`PR_SET_CHILD_SUBREAPER`). Its end is seen as that of any child, and the nursery may die with nobody noticing:
the next role is an interpreter of its own then, and another nursery is begun. So it is where the environment is not
the nursery's (a model with more threads: libraries read that when they are loaded), on other systems, and always with
`RENDEZVOUS_NURSERY=0`.

The nursery has one thread and opens nothing: what it forks is as good as new.
"""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from msgspec import json

from agents.nursery import MESSAGE_BYTES, Order
from agents.settings import forks

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
LINUX = sys.platform == "linux"
BEARS_S = 30.0
"""A nursery that imports while others have the cores takes some of it (10 s were seen). One that takes more (stopped,
swapped out) is given up: all that are to start wait for it, one after the other."""


class Born:
    """A forked role, with what the supervisor asks of an asyncio process. `watch` is its pidfd."""

    def __init__(
        self, pid: int, watch: int, stdin: int, stdout: asyncio.StreamReader, pipe: asyncio.ReadTransport
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self._pipe = pipe
        self.returncode: int | None = None
        self._stdin = stdin
        self._ended = asyncio.Event()
        self._watch = watch
        asyncio.get_running_loop().add_reader(self._watch, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watch)
        os.close(self._watch)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._stdin)
        self._ended.set()

    async def wait(self) -> int:
        """Its exit code, once it has ended; -N when signal N ended it. What it said is to be read before."""
        await self._ended.wait()
        self._pipe.close()
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _end(pid: int) -> None:
    """End a child that nobody could watch; nobody has waited for it, so the number is still its own."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class Nursery:
    """What `up` holds of its nursery.

    `settings` are the variables that libraries read when they are loaded, unless `environment` says other values: a
    role that wants yet others is not born here.
    """

    def __init__(self, environment: Mapping[str, str], settings: Mapping[str, str]) -> None:
        self._environment = {**settings, **environment}
        self._settings = {name: self._environment[name] for name in settings}
        self._lock = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Its process, where there is one."""
        return self._process.pid if self._process else None

    def begin(self) -> None:
        """Start the process; it imports while other things are done. Nothing where it cannot be."""
        if not LINUX or not forks(self._environment) or ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0):
            return
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setblocking(False)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agents.nursery"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=self._environment,
                process_group=0,
            )

    def end(self) -> None:
        """Let it go, at once. Roles that it bore live on."""
        if self._line and self._process:
            self._line.close()
            self._process.kill()
            self._process.wait()
        self._line = self._process = None

    async def bear(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: int, descriptors: Sequence[int]
    ) -> Born | None:
        """Fork one role; None where it must be an interpreter of its own. `log`: the descriptor of its stderr.

        Raises OSError where the system refuses what is needed to hold it: then there is no such role.
        """
        if self._line is None or any(environment.get(name, own) != own for name, own in self._settings.items()):
            return None
        order = Order(list(arguments), dict(environment), list(descriptors))
        with ExitStack() as ours, ExitStack() as its:
            stdin, stdin_ours = os.pipe()
            its.callback(os.close, stdin)
            ours.callback(os.close, stdin_ours)
            stdout_ours, stdout = os.pipe()
            its.callback(os.close, stdout)
            said = ours.enter_context(os.fdopen(stdout_ours, "rb"))
            try:
                async with self._lock, asyncio.timeout(BEARS_S):
                    pid = await self._asked(json.encode(order), [stdin, stdout, log, *descriptors])
            except OSError as error:  # a timeout is one
                sys.stderr.write(f"the nursery is gone ({str(error) or 'it hangs'}); another is begun\n")
                self.end()
                self.begin()
                return None
            ours.callback(_end, pid)
            watch = os.pidfd_open(pid)
            ours.callback(os.close, watch)
            reader = asyncio.StreamReader()
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), said
            )
            ours.callback(pipe.close)
            role = Born(pid, watch, stdin_ours, reader, pipe)
            ours.pop_all()  # the role holds them now
            return role

    async def _asked(self, message: bytes, descriptors: Sequence[int]) -> int:
        if self._line is None:
            raise ConnectionError("not begun")
        socket.send_fds(self._line, [message], descriptors)
        answer = await asyncio.get_running_loop().sock_recv(self._line, 64)
        if not answer:
            raise ConnectionError("it ended")
        return int(answer)
