"""A new model arrives: its scorer, once it has loaded the model and has its partitions, says so on the roster.

The scorer says it, whoever has started it, because only it knows: a model that cannot be loaded stays warming.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from faust.types import TP

from schemas.pipeline import Model
from schemas.roster import State, move_of
from streams.kafka.roster_log import MoveRefused, RosterLog
from streams.kafka.transport import BatchApp

logger = logging.getLogger(__name__)


def loads(log: RosterLog, model: Model) -> None:
    """Say that a process has the model now and loads it; blocks."""
    _step(log, model, State.STAGED, State.WARMING, "a process loads it")


def arrives(app: BatchApp, log: RosterLog, model: Model) -> None:
    """Say that it is a shadow now, as soon as this app has its partitions."""
    said = False

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(_: Any, __: Iterable[TP], **___: Any) -> None:
        nonlocal said
        if not said:
            said = True
            why = "its process has scored for practice and has its partitions"
            app.add_future(asyncio.to_thread(_step, log, model, State.WARMING, State.SHADOW, why))


def _step(log: RosterLog, model: Model, before: State, to: State, why: str) -> None:
    """Make this move where it is still to be made."""
    member = log.read().roster.of(model.name, model.version)
    if member is None or member.state is not before:
        return
    try:
        log.move(move_of(member.model, before, to, f"scorer {model.name}", why, int(time.time() * 1e3)))
    except MoveRefused as refused:  # another process of this model was first, or it was retired meanwhile
        logger.info("%s", refused)
