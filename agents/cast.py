"""Who of the models has a process: a scorer starts for each that the roster adds, and drains when it is retired."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from agents.supervisor import Child, Supervisor
from schemas.errors import RendezvousError
from schemas.pipeline import Model, Pipeline
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from streams.kafka.following import LOOK_S
from streams.kafka.roster_log import RosterLog

OF_A_MODEL = ("scorer", "coupler")


class Cast:
    """Follows the roster and keeps a supervisor's scorers as it says; everybody else is left alone."""

    def __init__(self, pipeline: Pipeline, cluster: Cluster, scorers_of: Callable[[Model], list[Child]]) -> None:
        self._log = RosterLog(cluster, pipeline)
        self._scorers_of = scorers_of
        self._tasks: set[asyncio.Task[None]] = set()
        self._now: dict[str, tuple[Model, list[Child]]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, supervisor: Supervisor) -> None:
        """Begin; what runs now is there already."""
        loop = asyncio.get_running_loop()

        def heard(history: History) -> None:
            if history.begun:
                loop.call_soon_threadsafe(self.scored, history.roster.scored(), supervisor)

        def work() -> None:
            try:
                self._log.follow(heard, self._stop)
            except RendezvousError as error:
                sys.stderr.write(f"the roster is not followed any more: {error}\n")

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; blocks for up to a look. To be called while there is a broker still."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(4 * LOOK_S)

    def scored(self, models: Iterable[Model], supervisor: Supervisor) -> None:
        """Start and drain what differs: a model is the same as long as its name and version are."""
        wanted = {model.name: model for model in models if model.has_scorer or model.needs}
        for name, children in _running(supervisor).items():
            before = self._now.get(name)
            if name not in wanted or (before is not None and before[0].version != wanted[name].version):
                self._now.pop(name, None)
                for child in children:
                    child.leaving = True  # at once: the next move may come before the task begins
                    self._task(supervisor.drain(child))
        for name, model in wanted.items():
            if name not in self._now:
                here = _running(supervisor).get(name, [])
                started = [] if here else self._scorers_of(model)
                for child in started:
                    supervisor.add(child)
                self._now[name] = (model, here or started)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _running(supervisor: Supervisor) -> dict[str, list[Child]]:
    """The scorers by model, its coupler among them; an instance is `scorer.<name>.<number>`."""
    found: dict[str, list[Child]] = {}
    for child in supervisor.children:
        words = child.name.split(".")
        if words[0] in OF_A_MODEL and not child.leaving:  # who leaves is none any more
            found.setdefault(words[1], []).append(child)
    return found
