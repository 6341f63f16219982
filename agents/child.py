"""One role as a child process: how to start it, how it is, and, by what it left behind, why it ended.

What is told from outside only: the exit code, what a scorer had in hand, the last line of its log, its silence.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.born import Born
from agents.in_hand import Doing, InHand, Left
from agents.status import APART_EXIT, WATCHDOG_EXIT, Status
from schemas.errors import ConfigurationRefused, Superseded
from schemas.pipeline import Quarantine
from streams.models.limits import MEMORY_EXIT

LOG_BYTES = 64 << 20
"""A log that is longer is cut to its end: a model prints as much as it likes, and the disk is the archive's too."""
KEPT_BYTES = 1 << 20
REFUSED = "refused"
STAY_DOWN = {Superseded.exit_code: "fenced", ConfigurationRefused.exit_code: REFUSED}
QUARANTINE = "quarantine"
DOWN = (*STAY_DOWN.values(), QUARANTINE)
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that others send, the kernel for one when memory is short: they may be no fault of the model."""
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

    `model` and `version` are whom it serves, if anybody. A scorer of rows that are `width` wide notes what it has
    `in_hand`, which is there as long as it is kept, and is stopped by the rule of `quarantine`. `environment` gives
    way to that of all roles. `role` is the part of `command` that follows `rendezvous`, where a nursery may bear it
    instead. `ended` is how its last life did, `reason` why it was not there last. Of its process now, `heard_s` is
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
    width: int | None = None
    in_hand: InHand | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)
    ended: str = ""
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
