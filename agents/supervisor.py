"""All roles of a pipeline as child processes: started, watched, started again, stopped.

A role that ends is started again, at once the first time and then with growing pauses; its crash loop is its
own. A role that was fenced (another process has its name) or refused (its configuration is wrong) stays down.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import DecodeError, json

from agents.process import Status
from schemas.errors import ConfigurationRefused, Superseded

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
FORGIVEN_S = 30.0
STOP_S = 4.5
LOG_BYTES = 64 << 20
"""A log that is longer is cut to its end: a model prints as much as it likes, and the disk is the archive's too."""
KEPT_BYTES = 1 << 20
LOOK_S = 1.0
STAY_DOWN = {Superseded.exit_code: "fenced", ConfigurationRefused.exit_code: "refused"}


@dataclass
class Child:
    """One role: how to start it, and how it is."""

    name: str
    command: Sequence[str]
    log: Path
    state: str = "starting"
    status: Status = field(default_factory=lambda: Status("starting", 0.0, 0))
    restarts: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process now running, if any."""
        return self.process.pid if self.process and self.process.returncode is None else None


def cut(log: Path) -> int:
    """Keep the end of a log that is too long; returns how long it was, 0 when nothing was cut.

    Whoever writes to it appends, and goes on.
    """
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= LOG_BYTES:
        return 0
    with log.open("r+b") as file:
        file.seek(-KEPT_BYTES, os.SEEK_END)
        kept = file.read(KEPT_BYTES)
        file.seek(0)
        file.truncate()
        file.write(f"... {size} bytes were written here; this is the end of them\n".encode() + kept)
    return size


class Supervisor:
    """Keeps children alive until told to stop."""

    def __init__(self, children: Sequence[Child], environment: Mapping[str, str]) -> None:
        self.children = list(children)
        self._environment = dict(environment)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether every role that is not refused is at work."""
        return all(child.state in ("running", *STAY_DOWN.values()) for child in self.children)

    async def start(self) -> None:
        """Start all children; returns at once."""
        self._tasks = [asyncio.create_task(self._keep(child)) for child in self.children]
        self._tasks.append(asyncio.create_task(self._cut_logs()))

    async def stop(self) -> None:
        """End all children within 5 s: they drain what they can; what is not finished is read again."""
        self._stopping = True
        self._signal(signal.SIGTERM)
        alive = [child.process.wait() for child in self.children if child.pid and child.process]
        if alive:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*alive), STOP_S)
        self._signal(signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cut_logs(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for child in self.children:
                if size := cut(child.log):
                    sys.stderr.write(f"{child.name}: {child.log} had {size >> 20} MB, its end was kept\n")

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.pid and child.process:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(number)

    async def _keep(self, child: Child) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            started_s = clock()
            code = await self._run(child)
            if self._stopping:
                break
            if code in STAY_DOWN:
                child.state = STAY_DOWN[code]
                return
            failures = 0 if clock() - started_s > FORGIVEN_S else failures + 1
            child.restarts += 1
            child.state = "restarting"
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else 0.0)
        child.state = "stopped"

    async def _run(self, child: Child) -> int:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with child.log.open("ab") as log:
            child.process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        child.state = "starting"
        await self._follow(child, child.process)
        return await child.process.wait()

    async def _follow(self, child: Child, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            raise RuntimeError(f"{child.name} was started without a status line")
        async for line in process.stdout:
            try:
                child.status = json.decode(line, type=Status)
            except DecodeError:
                sys.stderr.write(f"{child.name}: {line.decode(errors='replace')}")
                continue
            child.state = child.status.state
