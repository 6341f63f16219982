"""What a model may take: a process of its own shows what becomes of one that takes more."""

import os
import subprocess
import sys

import pytest

from streams.models.limits import MEMORY_EXIT, THREADS, thread_settings
from tests.unit.small import pipeline

PROGRAM = """
import sys, time, numpy as np
from msgspec.structs import replace
from streams.models import limits
from tests.unit.small import pipeline
model = replace(pipeline().model("first"), memory_mb=200, nice=3)
limits.limit(model)
kept = []
def leak(matrix):
    kept.append(np.ones(4 << 17))
    time.sleep(0.005)
    return matrix[:, 0]
def ask(matrix):
    return np.ones(1 << 30)
def modest(matrix):
    return matrix[:, 0]
score = limits.bounded(model, {"leak": leak, "ask": ask, "modest": modest}[sys.argv[1]])
for _ in range(400):
    score(np.ones((2, 2)))
import os
print(os.nice(0))
"""


def run(kind: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, kind], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_modest_model_stands_back_and_is_left_alone():
    done = run("modest")
    assert (done.returncode, done.stdout.strip()) == (0, str(min(19, os.nice(0) + 3)))


@pytest.mark.parametrize(
    ("kind", "says"), [("leak", "MB resident: over its memory limit of 200 MB"), ("ask", "it was refused memory")]
)
def test_a_model_over_its_limit_ends_its_process_and_says_so(kind: str, says: str):
    done = run(kind)
    assert done.returncode == MEMORY_EXIT, done.stderr
    assert "model first" in done.stderr
    assert says in done.stderr


def test_threads_are_said_in_every_librarys_own_word():
    settings = thread_settings(pipeline().model("first"))
    assert set(settings) == set(THREADS)
    assert set(settings.values()) == {"1"}
