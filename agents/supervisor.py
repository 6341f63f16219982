"""All roles of a pipeline as child processes: started, watched, started again, stopped.

A role that ends is started again, at once the first time and then with growing pauses; its crash loop is its
own. A role that was fenced (another process has its name) or refused (its configuration is wrong) stays down. So
does a scorer whose model has made it end too often (`schemas.pipeline.Quarantine`): it is in quarantine until this
program starts anew.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import DecodeError, json

from agents.born import Born, Nursery
from agents.in_hand import Doing, InHand, Left
from agents.status import APART_EXIT, WATCHDOG_EXIT, Status
from schemas.errors import ConfigurationRefused, Superseded
from schemas.pipeline import Quarantine
from streams.core.quarantine import Ends
from streams.models.limits import MEMORY_EXIT

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
FORGIVEN_S = 30.0
STOP_S = 4.5
LOG_BYTES = 64 << 20
"""A log that is longer is cut to its end: a model prints as much as it likes, and the disk is the archive's too."""
KEPT_BYTES = 1 << 20
LOOK_S = 1.0
DRAIN_S = 10.0
"""What a child that is not asked any more may still have to do; what is left then is of no use to anybody."""
IDLE_S = 0.5
IDLE_LOOKS = 3
REFUSED = "refused"
STAY_DOWN = {Superseded.exit_code: "fenced", ConfigurationRefused.exit_code: REFUSED}
QUARANTINE = "quarantine"
DOWN = (*STAY_DOWN.values(), QUARANTINE)
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that others send, the kernel for one when memory is short: they may be no fault of the model."""
LOG_TAIL_BYTES = 4096
REASON_CHARS = 300


@dataclass
class Child:
    """One role: how to start it, and how it is.

    `model` and `version` are whom it serves, if anybody. A scorer notes what it has `in_hand`, and is stopped by the
    rule of `quarantine`. `environment` gives way to that of all roles. `role` is the part of `command` that follows
    `rendezvous`, where a nursery may bear it instead. `reason` is why it ended last.
    """

    name: str
    command: Sequence[str]
    log: Path
    role: Sequence[str] = ()
    state: str = "starting"
    status: Status = field(default_factory=lambda: Status("starting", 0.0, 0))
    restarts: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    in_hand: InHand | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)
    reason: str = ""
    process: asyncio.subprocess.Process | Born | None = None
    leaving: bool = False  # for good
    model: str = ""
    version: str = ""

    @property
    def pid(self) -> int | None:
        """The process now running, if any."""
        return self.process.pid if self.process and self.process.returncode is None else None


GaveUp = Callable[[Child, Left], Awaitable[None]]
"""Told of a scorer that is in quarantine or refused, and of what it had in hand at its last end."""


async def tell_nobody(child: Child, left: Left) -> None:
    """What stands in the child's status and log is enough."""


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

    def __init__(
        self,
        children: Sequence[Child],
        environment: Mapping[str, str],
        gave_up: GaveUp = tell_nobody,
        nursery: Nursery | None = None,
    ) -> None:
        self.children = list(children)
        self._environment = dict(environment)
        self._nursery = nursery
        self._gave_up = gave_up
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether every role that does not stay down is at work."""
        return all(child.state in ("running", *DOWN) for child in self.children)

    async def start(self) -> None:
        """Start all children; returns at once."""
        self._tasks = [asyncio.create_task(self._keep(child)) for child in self.children]
        self._tasks.append(asyncio.create_task(self._cut_logs()))

    def add(self, child: Child) -> None:
        """Start one more."""
        self.children.append(child)
        self._tasks.append(asyncio.create_task(self._keep(child)))

    async def drain(self, child: Child, within_s: float = DRAIN_S) -> None:
        """End one child once it has done what waits for it, and forget it; bounded. It is not started again."""
        child.leaving = True
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        idle = 0
        while idle < IDLE_LOOKS and loop.time() < deadline_s:
            idle = idle + 1 if child.pid is None or child.status.lag == 0 else 0
            await asyncio.sleep(IDLE_S)
        if child.pid and child.process:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.process.wait(), STOP_S)
        if child.pid and child.process:
            child.process.kill()
        self.children.remove(child)

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
        ends = Ends(child.quarantine)
        while not (self._stopping or child.leaving):
            started_s = clock()
            code = await self._run(child)
            if self._stopping or child.leaving:
                break
            left = child.in_hand.left() if child.in_hand else Left(Doing.NOTHING)
            child.reason = reason_of(code, left, last_line(child.log))
            if code in STAY_DOWN:
                child.state = STAY_DOWN[code]
                if child.in_hand and child.state == REFUSED:
                    await self._gave_up(child, left)
                return
            if to_blame(code, left) and ends.another(clock()):
                await self._give_up(child, left)
                return
            failures = 0 if clock() - started_s > FORGIVEN_S else failures + 1
            child.restarts += 1
            child.state = "restarting"
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else 0.0)
        child.state = "stopped"

    async def _give_up(self, child: Child, left: Left) -> None:
        rule = child.quarantine
        child.reason = f"ended {rule.failures} times within {rule.within_s:g} s, at last {child.reason}"
        child.state = QUARANTINE
        with child.log.open("a") as log:
            log.write(
                f"{child.name} is in quarantine: {child.reason}. Mend the model, then start the pipeline anew\n"
            )
        await self._gave_up(child, left)

    async def _run(self, child: Child) -> int:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        more: tuple[str, ...] = ()
        descriptors: tuple[int, ...] = ()
        if child.in_hand:
            more = (f"--in-hand={child.in_hand.descriptor}", f"--after={child.reason}")
            descriptors = (child.in_hand.descriptor,)
        environment = {**child.environment, **self._environment}
        with child.log.open("ab") as log:
            child.process = None
            if child.role and self._nursery:
                child.process = await self._nursery.bear([*child.role, *more], environment, log.fileno(), descriptors)
            child.process = child.process or await asyncio.create_subprocess_exec(
                *child.command,
                *more,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                pass_fds=descriptors,
                start_new_session=True,
            )
        child.state = "starting"
        await self._follow(child, child.process)
        return await child.process.wait()

    async def _follow(self, child: Child, process: asyncio.subprocess.Process | Born) -> None:
        if process.stdout is None:
            raise RuntimeError(f"{child.name} was started without a status line")
        async for line in process.stdout:
            try:
                child.status = json.decode(line, type=Status)
            except DecodeError:
                sys.stderr.write(f"{child.name}: {line.decode(errors='replace')}")
                continue
            child.state = child.status.state


def to_blame(code: int, left: Left) -> bool:
    """Whether a scorer's model made it end: by its own doing, or while it was loaded or had rows in hand."""
    own_signal = code < 0 and -code not in FROM_OUTSIDE
    return code == MEMORY_EXIT or own_signal or left.doing is not Doing.NOTHING


def reason_of(code: int, left: Left, said: str) -> str:
    """Why a process ended, in a person's words; `said` is the last line of its log."""
    if code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        how = f"by {name}"
    elif code == WATCHDOG_EXIT:
        how = "by its watchdog (no progress)"
    elif code == APART_EXIT:
        how = "because its group had no place for it"
    elif code == MEMORY_EXIT:
        how = "by its memory limit"
    else:
        how = f"with exit code {code}"
    about = {Doing.LOADING: " while it loaded its model", Doing.SCORING: f" on {rows_in_words(left)}"}
    tail = f": {said}"[:REASON_CHARS] if said and code >= 0 else ""
    return f"{how}{about.get(left.doing, '')}{tail}"


def rows_in_words(left: Left) -> str:
    """Which requests a scorer had in hand."""
    offsets = left.offsets
    if not offsets:
        return "some rows"
    if len(offsets) == 1:
        return f"the row of raw {left.partition}/{offsets[0]}"
    return f"{len(offsets)} rows of raw {left.partition}/{min(offsets)} to {max(offsets)}"


def last_line(log: Path) -> str:
    """What a process said last; empty when it said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
