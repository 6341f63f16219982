"""All roles of a pipeline as child processes: started, watched, started again, stopped.

A role that ends is started again, at once the first time and then with growing pauses; its crash loop is its
own. A role that was fenced (another process has its name) or refused (its configuration is wrong) stays down. So
does a scorer whose model has made it end too often (`schemas.pipeline.Quarantine`): it is in quarantine until this
program starts anew.

What the system refuses when a role is started (a process, a descriptor, room for its log) may pass: it is tried again
like any end. What nobody foresaw is not borne in silence: a role without its keeper would stay down for ever, so this
program is over then, and whoever keeps it starts it anew.

A role has a watchdog of its own, which is a thread of it: it does not see that the whole process stands still, or
that a model keeps the interpreter to itself. So a role that says nothing for long is ended here (`Hung`).

A role is a process group, and no session: a terminal's Ctrl-C does not reach it, yet Linux may schedule sessions
against each other (autogroups). Then niceness counts within a session alone, and whoever is awake seldom in a session
that is busy waits: 100 to 900 ms for a place in the broker's log, where 30 are the most in one session.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from msgspec import json

from agents.born import Born, Nursery
from agents.child import DOWN, QUARANTINE, REFUSED, STAY_DOWN, Child, Hung, cut, hung, last_line, reason_of, to_blame
from agents.in_hand import Doing, InHand, Left
from agents.status import Status
from schemas.errors import UNREADABLE
from streams.core.quarantine import Ends

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)
FORGIVEN_S = 30.0
STOP_S = 4.5
LOOK_S = 1.0
STOOD_STILL = 3.0
"""Looks that a look may come late: after more, this program itself stood still (SIGSTOP, a laptop that slept)."""
DRAIN_S = 10.0
"""What a child that is not asked any more may still have to do; what is left then is of no use to anybody."""
IDLE_S = 0.5
IDLE_LOOKS = 3
WAYS_OUT = (
    "Mend the model, then start the pipeline anew; or add it mended under another version (`rendezvous models add`), "
    "promote or roll back to another, and retire this one"
)

PATIENT = Hung()

GaveUp = Callable[[Child, Left], Awaitable[None]]
"""Told of a scorer that is in quarantine or refused, and of what it had in hand at its last end."""


async def tell_nobody(child: Child, left: Left) -> None:
    """What stands in the child's status and log is enough."""


class Supervisor:
    """Keeps children alive until told to stop.

    `over` is set when it cannot go on; `stop` raises why. Whoever has another reason to stop may set it too.
    """

    def __init__(
        self,
        children: Sequence[Child],
        environment: Mapping[str, str],
        gave_up: GaveUp = tell_nobody,
        nursery: Nursery | None = None,
        hung: Hung = PATIENT,
    ) -> None:
        self._hung = hung
        self.children = list(children)
        self._environment = dict(environment)
        self._nursery = nursery
        self._gave_up = gave_up
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self.over = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether every role that does not stay down is at work."""
        return all(child.state in ("running", *DOWN) for child in self.children)

    async def start(self) -> None:
        """Start all children; returns at once."""
        for work in (*map(self._keep, self.children), self._cut_logs(), self._end_the_hung()):
            self.do(work)

    def add(self, child: Child) -> None:
        """Start one more."""
        self.children.append(child)
        self.do(self._keep(child))

    def do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this meanwhile, until it ends, is cancelled, or all is stopped; an error of it is the end of all."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Be over by this error."""
        self._error = self._error or error
        self.over.set()

    async def drain(self, child: Child, within_s: float = DRAIN_S) -> None:
        """End one child once it has done what waits for it, and forget it; bounded. It is not started again."""
        child.leaving = True
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        idle = 0
        while idle < IDLE_LOOKS and loop.time() < deadline_s:
            idle = idle + 1 if child.pid is None or child.status.lag == 0 else 0
            await asyncio.sleep(IDLE_S)
        _send(child, signal.SIGTERM)
        if child.pid and child.process:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.process.wait(), STOP_S)
        _send(child, signal.SIGKILL)
        self.children.remove(child)

    async def stop(self) -> None:
        """End all children within 5 s: they drain what they can; what is not finished is read again.

        Raises what this program is over by.
        """
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
        if self._error:
            raise self._error

    async def _cut_logs(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for child in self.children:
                try:
                    size = cut(child.log)
                except OSError as error:
                    _say(f"{child.name}: {child.log} is too long, and cannot be cut: {error}\n")
                    continue
                if size:
                    _say(f"{child.name}: {child.log} had {size >> 20} MB, its end was kept\n")

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
                elif child.pid and (why := hung(child, looked_s, self._hung)):
                    child.hung = why
                    _send(child, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            _send(child, number)

    async def _keep(self, child: Child) -> None:
        try:
            await self._keep_alive(child)
        finally:
            if child.in_hand:
                child.in_hand.close()

    async def _keep_alive(self, child: Child) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        ends = Ends(child.quarantine)
        while not (self._stopping or child.leaving):
            started_s = clock()
            try:
                code = await self._run(child)
            except OSError as error:
                child.reason = f"before it began: {error}"
            else:
                if self._stopping or child.leaving:
                    break
                if await self._stays_down(child, code, ends, clock()):
                    return
            failures = 0 if clock() - started_s > FORGIVEN_S else failures + 1
            child.restarts += 1
            child.state = "restarting"
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else 0.0)
        child.state = "stopped"

    async def _stays_down(self, child: Child, code: int, ends: Ends, now_s: float) -> bool:
        left = child.in_hand.left() if child.in_hand else Left(Doing.NOTHING)
        child.ended = child.reason = reason_of(code, left, last_line(child.log), child.hung)
        if code in STAY_DOWN:
            child.state = STAY_DOWN[code]
            if child.in_hand and child.state == REFUSED:
                await self._gave_up(child, left)
            return True
        if to_blame(code, left) and ends.another(now_s):
            await self._give_up(child, left)
            return True
        return False

    async def _give_up(self, child: Child, left: Left) -> None:
        rule = child.quarantine
        child.reason = f"ended {rule.failures} times within {rule.within_s:g} s, at last {child.reason}"
        child.state = QUARANTINE
        try:
            with child.log.open("a") as log:
                log.write(f"{child.name} is in quarantine: {child.reason}. {WAYS_OUT}\n")
        except OSError as error:
            _say(f"{child.name} is in quarantine, which its log does not say: {error}\n")
        await self._gave_up(child, left)

    async def _run(self, child: Child) -> int:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        more: tuple[str, ...] = ()
        descriptors: tuple[int, ...] = ()
        if child.width is not None and child.in_hand is None:
            child.in_hand = InHand.made(child.width)
        if child.in_hand:
            more = (f"--in-hand={child.in_hand.descriptor}", f"--after={child.ended}")
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
                process_group=0,
            )
        if child not in self.children:
            _send(child, signal.SIGKILL)  # it was let go while it was born: nobody else would end it
        child.state = "starting"
        child.heard_s, child.spoke, child.hung = asyncio.get_running_loop().time(), False, ""
        await self._follow(child, child.process)
        return await child.process.wait()

    async def _follow(self, child: Child, process: asyncio.subprocess.Process | Born) -> None:
        if process.stdout is None:
            raise RuntimeError(f"{child.name} was started without a status line")
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                _say(f"{child.name}: said a line that is too long for any status, which was passed over\n")
                continue
            if not line:
                return
            try:
                child.status = json.decode(line, type=Status)
            except UNREADABLE:
                _say(f"{child.name}: {line.decode(errors='replace')}")
                continue
            child.state = child.status.state
            child.heard_s, child.spoke = asyncio.get_running_loop().time(), True


def _send(child: Child, number: signal.Signals) -> None:
    if child.pid and child.process:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(number)


def _say(what: str) -> None:
    """To whoever reads; that nobody does any more must cost no role its keeper."""
    with contextlib.suppress(OSError):
        sys.stderr.write(what)
