"""Tests: unit, laws, and those on real Kafka (broker). Several processes of them run at a time.

So each has one thread of OpenBLAS, as roles have. It reads that when numpy is loaded, which is after this package; by
itself it takes a thread for each core, and those wait for each other by spinning: a hundred equations cost 18 times as
much CPU on busy cores.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
