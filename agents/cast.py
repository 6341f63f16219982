"""Who of the models has a process: a scorer starts for each that the roster adds, and drains when it is retired."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterable
from urllib.parse import quote

from confluent_kafka import KafkaException

from agents.child import Child
from agents.supervisor import Supervisor
from schemas.errors import RendezvousError
from schemas.pipeline import Model, Pipeline
from streams.core.entitlement import History
from streams.kafka.clients import Cluster
from streams.kafka.following import LOOK_S
from streams.kafka.roster_log import RosterLog

ANY = ""
Served = tuple[str, str]
"""A model and its version; a coupler serves every version of a name."""


class Cast:
    """Follows the roster and keeps a supervisor's scorers as it says; everybody else is left alone.

    Nothing is started for those that were `refused` before, until they are retired: then they may enter anew, mended.
    `trouble` is why the roster is not followed now, empty when it is.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Cluster,
        scorers_of: Callable[[Model], list[Child]],
        refused: Iterable[Served] = (),
    ) -> None:
        self.trouble = ""
        self._refused = set(refused)
        self._log = RosterLog(cluster, pipeline)
        self._scorers_of = scorers_of
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, supervisor: Supervisor) -> None:
        """Begin; what runs now is there already. What Kafka does is waited out, and the roster is read again then."""
        loop = asyncio.get_running_loop()

        def heard(history: History) -> None:
            self.trouble = ""
            if history.begun:
                roster = history.roster
                models = (*roster.scored(), *roster.others())
                loop.call_soon_threadsafe(lambda: supervisor.do(self._scored(models, supervisor)))

        def work() -> None:
            while not self._stop.is_set():
                try:
                    self._log.follow(heard, self._stop)
                except (RendezvousError, KafkaException) as error:
                    self._in_trouble(str(error))
                    self._stop.wait(LOOK_S)
                except Exception as error:
                    if not loop.is_closed():
                        loop.call_soon_threadsafe(supervisor.fail, error)
                    return

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _in_trouble(self, why: str) -> None:
        if why != self.trouble:  # said once, and shown for as long as it is so
            self.trouble = why
            with contextlib.suppress(OSError):
                sys.stderr.write(f"the roster is not followed until it can be read again: {why}\n")

    async def _scored(self, models: Iterable[Model], supervisor: Supervisor) -> None:
        self.scored(models, supervisor)

    def stop(self) -> None:
        """Follow no more; blocks for up to a look. To be called while there is a broker still."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(4 * LOOK_S)

    def scored(self, models: Iterable[Model], supervisor: Supervisor) -> None:
        """Start and drain what differs: a process is the same as long as whom it serves, and in which version, is."""
        wanted: dict[Served, Model] = {}
        there = list(models)
        self._refused &= {(model.name, model.version) for model in there}
        for model in there:
            if (model.name, model.version) in self._refused:
                continue
            wanted |= {(model.name, model.version): model} if model.has_scorer else {}
            wanted |= {(model.name, ANY): model} if model.needs else {}
        running = _running(supervisor)
        for served, children in running.items():
            for child in children if served not in wanted else ():
                child.leaving = True  # at once: the next move may come before the task begins
                supervisor.do(supervisor.drain(child))
        for served, model in wanted.items():
            if served not in running:
                for child in self._scorers_of(model):
                    if (child.model, child.version) == served:
                        supervisor.add(named_apart(child) if _has_another(supervisor, child) else child)


def named_apart(child: Child) -> Child:
    """The same under a name that says its version: the plain one is that of another version's process."""
    child.name = f"{child.name}@{child.version}"
    child.log = child.log.with_name(f"{quote(child.name, safe='@')}.log")
    return child


def _has_another(supervisor: Supervisor, child: Child) -> bool:
    """Whether a process of another version of its model is there, though it drains."""
    versions = {other.version for other in supervisor.children if other.model == child.model}
    return bool(child.version) and bool(versions - {child.version, ANY})  # a coupler is of all versions


def _running(supervisor: Supervisor) -> dict[Served, list[Child]]:
    """The scorers and couplers by whom they serve; who leaves is none any more."""
    found: dict[Served, list[Child]] = {}
    for child in supervisor.children:
        if child.model and not child.leaving:
            found.setdefault((child.model, child.version), []).append(child)
    return found
