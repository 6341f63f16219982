"""What a role tells its supervisor: a line of status while it runs, and the exit code by which it ends itself."""

from msgspec import Struct

WATCHDOG_EXIT = 76
"""There was work and no progress."""
APART_EXIT = 74
"""Its group had no place for it."""


class Status(Struct, frozen=True, omit_defaults=True):
    """What a role says of itself: `rate` in records per second, `lag` in records."""

    state: str
    rate: float
    lag: int
    figures: dict[str, float] = {}
