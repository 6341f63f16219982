"""Named places at which a test may kill this process: `RENDEZVOUS_KILL=point:n:marker`, several by commas.

At the n-th pass of a point the process sends itself SIGKILL, once: the marker file says that it has. Unset, a
point is a call that returns at once.
"""

import os
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "RENDEZVOUS_KILL"
POINTS = (
    "router.after_read",
    "router.after_send",
    "scorer.before_score",
    "scorer.after_send",
    "rendezvous.after_request_read",
    "rendezvous.before_send",
    "rendezvous.after_send_before_commit",
    "rendezvous.in_recovery",
    "standby.after_request_read",
    "standby.before_send",
    "standby.after_send_before_commit",
    "standby.in_recovery",
    "archive.written",
    "archive.after_fsync",
    "archive.after_link",
    "archive.before_commit",
)
REPLAY_POINTS = (
    "replay.after_send",
    "replay.before_checkpoint",
    "replay.checkpoint_written",
    "replay.after_checkpoint",
)
"""Of a command, not of a role: `up` never comes by."""
MONITOR_POINTS = (
    "monitor.before_send",
    "monitor.after_send",
    "monitor.snapshot_written",
)
"""Of a role that only a pipeline with `[monitor]` has."""
LEARNER_POINTS = ("learner.after_read", "learner.after_send")
"""Of a role that stands beside a bandit only."""
BY_HAND = (
    "compact.written",
    "compact.after_replace",
    "compact.after_delete",
    "retire.marked",
    "retire.after_delete",
    "forget.marked",
    "forget.written",
    "forget.after_replace",
    "mark.written",
    "mark.after_fsync",
)
"""Points that are passed on command, not while a pipeline runs."""

_passes: Counter[str] = Counter()


def _wanted(text: str) -> dict[str, tuple[int, Path]]:
    found = (entry.split(":", 2) for entry in text.split(",") if entry)
    return {point: (int(nth), Path(marker)) for point, nth, marker in found}


_deadly = _wanted(os.environ.get(VARIABLE, ""))


def reached(point: str) -> None:
    """Die here if this is the pass that was named."""
    if point not in _deadly:
        return
    nth, marker = _deadly[point]
    _passes[point] += 1
    if _passes[point] >= nth:
        del _deadly[point]
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
