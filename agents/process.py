"""One role in one process: signals, the parent's death, the status line, the watchdog, the exit code.

Status goes to stdout as one JSON line a second when somebody supervises; logs go to stderr.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from msgspec import json

from agents.actor import Actor
from agents.status import APART_EXIT, WATCHDOG_EXIT, Status
from schemas.errors import RendezvousError, Superseded
from streams.core.log_clock import ClockAlarm
from streams.kafka.loop import RecordLoop
from streams.kafka.transport import BatchApp

logger = logging.getLogger(__name__)

STATUS_S = 0.5
LOOK_S = 1.0
STUCK_S = 30.0
APART_S = 20.0
"""How long a member may be without a place in its group although Kafka answers: librdkafka may lose the group's
coordinator for good when a broker stood still (seen, 2.16.1), and a new process finds it at once."""
STOP_S = 4.5
GC_OBJECTS = 20_000
SWITCH_S = 0.001
"""What a thread does beside the loop (a file of the archive) gives the interpreter back soon; the default is 5 ms."""


def status_line() -> IO[str]:
    """The pipe to the supervisor, for nobody but the status: what else is printed from now on goes to the log.

    To be asked for before a model is loaded: it may print, in Python or in C, and as much as it likes.
    """
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def run(actor: Actor, status: IO[str] | None = None) -> int:
    """Run until a signal, an error, or the end of the parent; returns the exit code.

    With a place for its status it is supervised: it ends when its parent does.
    """
    sys.setswitchinterval(SWITCH_S)
    spare_the_collector()
    loop = RecordLoop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(_run(actor, status))


def spare_the_collector() -> None:
    """Leave out what lives as long as the process: a full collection of the libraries takes 50 ms (measured).

    What is made from now on is collected as ever, only less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 50)


async def _run(actor: Actor, line: IO[str] | None) -> int:
    loop, app = asyncio.get_running_loop(), actor.app
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if line:
        _thread(_watch_parent, lambda: loop.call_soon_threadsafe(stop.set))
    progress = Progress()
    _thread(_watch_progress, actor, progress)
    _thread(_watch_clock, actor)
    await app.start()
    tasks = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(app.wait_until_stopped())]
    look = asyncio.ensure_future(_look(actor, progress))
    status = asyncio.ensure_future(_report(actor, line)) if line else None
    await asyncio.wait([*tasks, look], return_when=asyncio.FIRST_COMPLETED)
    reason = app.crash_reason or (look.exception() if look.done() else None)
    look.cancel()
    if status:
        status.cancel()
    _thread(_end_in_time)
    if isinstance(reason, Superseded):
        # Its work may be another's: nothing may be finished, sent or committed any more.
        return _exit_code(reason)
    await app.stop()
    for task in tasks:
        task.cancel()
    return _exit_code(reason) if reason else 0


def _exit_code(reason: BaseException) -> int:
    if isinstance(reason, RendezvousError):
        logger.error("%s", reason)
        return reason.exit_code
    logger.error("ended by %r", reason, exc_info=reason)
    return 1


async def _report(actor: Actor, line: IO[str]) -> None:
    consumer = actor.app.consumer
    while True:
        state = "running" if consumer.assignment() and not actor.app.rebalancing else "starting"
        status = Status(state, round(consumer.rate, 1), consumer.lag(), dict(actor.figures()))
        while actor.news:
            line.write(f"{actor.news.popleft()}\n")  # what is no status is shown as it is
        line.write(json.encode(status).decode() + "\n")
        line.flush()
        await asyncio.sleep(STATUS_S if state == "running" else STATUS_S / 10)


def _watch_parent(gone: Callable[[], object]) -> None:
    """The supervisor holds the other end of stdin: its end is ours."""
    while os.read(0, 4096):
        pass
    gone()
    _end_in_time()


def _end_in_time() -> None:
    """What is not finished by now is read again: end, whatever hangs."""
    time.sleep(STOP_S)
    os._exit(1)


class Progress:
    """What the loop last saw of its own work: the watchdog's thread reads only this, for to look changes things."""

    def __init__(self) -> None:
        self._seen: tuple[float, bool] | None = None

    def saw(self, at_s: float, *, stuck: bool) -> None:
        """The loop looked, at this time of the monotonic clock."""
        self._seen = at_s, stuck

    def stuck(self, now_s: float) -> bool:
        """Whether there is work and none was done; a loop that does not come to look is stuck itself."""
        if self._seen is None:
            return False
        at_s, stuck = self._seen
        return stuck or now_s - at_s > 2 * LOOK_S


async def _look(actor: Actor, progress: Progress) -> None:
    while True:
        progress.saw(time.monotonic(), stuck=_started(actor) and actor.stuck())
        await asyncio.sleep(LOOK_S)


def _watch_progress(actor: Actor, progress: Progress) -> None:
    stuck_s, apart_s = 0, 0
    while True:
        time.sleep(LOOK_S)
        apart_s = apart_s + 1 if apart(actor.app) else 0
        if apart_s >= APART_S:
            logger.error(
                "Kafka answers, and for %s s its group has no place for this member: ending, to be started again",
                apart_s,
            )
            os._exit(APART_EXIT)
        stuck_s = stuck_s + 1 if progress.stuck(time.monotonic()) else 0
        if stuck_s >= STUCK_S:
            logger.error("there is work and no progress for %s s: ending, to be started again", stuck_s)
            os._exit(WATCHDOG_EXIT)


def _watch_clock(actor: Actor) -> None:
    """Say so when this host's clock jumps or is wrong; waiting times do not depend on it."""
    alarm = ClockAlarm(time.time() * 1e3, time.monotonic() * 1e3)
    while True:
        time.sleep(1)
        clock = actor.app.producer.clock
        if warning := alarm.looked(time.time() * 1e3, time.monotonic() * 1e3, clock.at_ms(time.monotonic() * 1e3)):
            logger.warning("%s", warning)


def apart(app: BatchApp) -> bool:
    """Whether this member belongs to no group although a broker answers; blocks for half a second if none does."""
    return bool(app.started and not app.consumer.joined and app.producer.answered())


def _started(actor: Actor) -> bool:
    return bool(actor.app.started and actor.app.consumer.assignment())


def _thread(work: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()
