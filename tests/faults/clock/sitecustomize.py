"""Loaded by Python at its start: a wall clock that is wrong, or jumps, in the role that `FAULT_CLOCK` names.

`FAULT_CLOCK=role:seconds:after`: from `after` seconds after the start the clock is `seconds` off.
"""

import os
import sys
import time

_role, _seconds, _after = os.environ.get("FAULT_CLOCK", "::").split(":")

if _role and "run" in sys.orig_argv and _role in sys.orig_argv:
    _wall, _monotonic, _began = time.time, time.monotonic, time.monotonic()
    time.time = lambda: _wall() + (float(_seconds) if _monotonic() - _began >= float(_after) else 0.0)
