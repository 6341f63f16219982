"""Named places at which a test may kill this process: `RENDEZVOUS_KILL=point:n:marker`.

At the n-th pass of the point the process sends itself SIGKILL, once: the marker file says that it has. Unset,
a point is a call of an empty function.
"""

import os
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "RENDEZVOUS_KILL"

_passes: Counter[str] = Counter()
_point, _, _rest = os.environ.get(VARIABLE, "").partition(":")
_nth, _, _marker = _rest.partition(":")


def reached(point: str) -> None:
    """Die here if this is the pass that was named."""
    if point != _point:
        return
    _passes[point] += 1
    if _passes[point] >= int(_nth):
        try:
            Path(_marker).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
