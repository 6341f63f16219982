"""All roles of a pipeline as child processes: started, watched, started again, stopped.

A role that ends is started again, at once the first time and then with growing pauses; its crash loop is its
own. A role that was fenced (another process has its name) or refused (its configuration is wrong) stays down. So
does a scorer whose model has made it end too often (`schemas.pipeline.Quarantine`): it is in quarantine until this
program starts anew.

A role has a watchdog of its own, which is a thread of it: it does not see that the whole process stands still, or
that a model keeps the interpreter to itself. So a role that says nothing for long is ended here (`Hung`).
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
STOOD_STILL = 3.0
"""Looks that a look may come late: after more, this program itself stood still (SIGSTOP, a laptop that slept)."""
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
WAYS_OUT = (
    "Mend the model, then start the pipeline anew; or add it mended under another version (`rendezvous models add`), "
    "promote or roll back to another, and retire this one"
)
LOG_TAIL_BYTES = 4096
REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class Hung:
    """When a role is taken for hung, in seconds: it has been silent for so long, or a scorer before its first word.

    What a role says is that it runs, or that it is starting: while the broker is away, too. Before that a scorer
    loads its model, and the others read what they need to know, for as long as that takes.
    """

    silent_s: float = 45.0
    loading_s: float = 120.0


@dataclass
class Child:
    """One role: how to start it, and how it is.

    `model` and `version` are whom it serves, if anybody. A scorer notes what it has `in_hand`, and is stopped by the
    rule of `quarantine`. `environment` gives way to that of all roles. `role` is the part of `command` that follows
    `rendezvous`, where a nursery may bear it instead. `reason` is why it ended last. Of its process now, `heard_s` is
    when it said something last, or was started, by the supervisor's clock; `spoke`, whether it ever did; and `hung`,
    why it was ended for silence.
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
    heard_s: float = 0.0
    spoke: bool = False
    hung: str = ""
    model: str = ""
    version: str = ""

    @property
    def pid(self) -> int | None:
        """The process now running, if any."""
        return self.process.pid if self.process and self.process.returncode is None else None


HUNG = Hung()

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
        hung: Hung = HUNG,
    ) -> None:
        self._hung = hung
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
        self._tasks += [asyncio.create_task(self._cut_logs()), asyncio.create_task(self._end_the_hung())]

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

    async def _end_the_hung(self) -> None:
        clock = asyncio.get_running_loop().time
        looked_s = clock()
        while True:
            await asyncio.sleep(LOOK_S)
            before_s, looked_s = looked_s, clock()
            stood_still = looked_s - before_s > STOOD_STILL * LOOK_S
            for child in self.children:
                if stood_still:  # this program did, and heard nobody meanwhile: they have all the time again
                    child.heard_s = looked_s
                elif child.pid and child.process and (why := hung(child, looked_s, self._hung)):
                    child.hung = why
                    child.process.kill()

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
            child.reason = reason_of(code, left, last_line(child.log), child.hung)
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
            log.write(f"{child.name} is in quarantine: {child.reason}. {WAYS_OUT}\n")
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
        child.heard_s, child.spoke, child.hung = asyncio.get_running_loop().time(), False, ""
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
            child.heard_s, child.spoke = asyncio.get_running_loop().time(), True


def hung(child: Child, now_s: float, rule: Hung) -> str:
    """Why a child is taken for hung; empty when it is not."""
    silent_s = now_s - child.heard_s
    if child.spoke:
        return f"it said nothing for {rule.silent_s:g} s" if silent_s > rule.silent_s else ""
    if child.in_hand and silent_s > rule.loading_s:
        return f"it was starting for {rule.loading_s:g} s without a word"
    return ""


def to_blame(code: int, left: Left) -> bool:
    """Whether a scorer's model made it end: by its own doing, or while it was loaded or had rows in hand."""
    own_signal = code < 0 and -code not in FROM_OUTSIDE
    return code == MEMORY_EXIT or own_signal or left.doing is not Doing.NOTHING


def reason_of(code: int, left: Left, said: str, hung: str = "") -> str:
    """Why a process ended, in a person's words; `said` is the last line of its log, `hung` why it was ended here."""
    if hung:
        how = f"by its supervisor, because {hung}"
    elif code < 0:
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
