"""Loaded by Python at its start: a wall clock that is wrong, or jumps, in the roles that `FAULT_CLOCK` names.

`FAULT_CLOCK=role:seconds:after`, several by commas: from `after` seconds after the start the clock is `seconds` off.
"""

import os
import sys
import time

_named = [clock.split(":") for clock in os.environ.get("FAULT_CLOCK", "::").split(",")]
_own = [clock for clock in _named if "run" in sys.orig_argv and clock[0] in sys.orig_argv]

if _own:
    _, _seconds, _after = _own[0]
    _wall, _monotonic, _began = time.time, time.monotonic, time.monotonic()
    time.time = lambda: _wall() + (float(_seconds) if _monotonic() - _began >= float(_after) else 0.0)
