"""When a process must end; and what a model prints, which is no business of the status line's."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents import child
from agents.process import LOOK_S, Progress, apart
from streams.kafka.transport import BatchApp


def an_app(*, started: bool, joined: bool, answered: bool) -> BatchApp:
    producer: Any = SimpleNamespace(answered=lambda: answered)
    return cast(
        "BatchApp", SimpleNamespace(started=started, consumer=SimpleNamespace(joined=joined), producer=producer)
    )


@pytest.mark.parametrize(
    ("started", "joined", "answered", "is_apart"),
    [(True, False, True, True), (True, False, False, False), (True, True, True, False), (False, False, True, False)],
)
def test_a_member_is_apart_when_kafka_answers_and_its_group_does_not(
    started: bool, joined: bool, answered: bool, is_apart: bool
):
    assert apart(an_app(started=started, joined=joined, answered=answered)) == is_apart


def test_what_a_model_prints_goes_to_the_log_and_the_status_to_the_supervisor():
    program = """if True:
        import os
        from agents.process import status_line
        print("before")
        line = status_line()
        print("a model's word")
        os.write(1, b"a library's word")
        line.write("status")
        line.flush()
        """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"before\nstatus"
    assert b"a model's word" in done.stderr
    assert b"a library's word" in done.stderr


def test_a_log_that_grows_too_long_is_cut_to_its_end_under_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(child, "LOG_BYTES", 10_000)
    monkeypatch.setattr(child, "KEPT_BYTES", 100)
    log = tmp_path / "scorer.log"
    assert child.cut(log) == 0
    writer = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(writer, b"a" * 10_000)
    assert child.cut(log) == 0
    os.write(writer, b"the end")
    assert child.cut(log) == 10_007
    os.write(writer, b", and on")
    os.close(writer)
    assert log.read_bytes() == b"... 10007 bytes were written here; this is the end of them\n" + (
        b"a" * 93 + b"the end, and on"
    )


def test_the_watchdog_knows_work_without_progress_and_a_loop_that_does_not_turn():
    progress = Progress()
    assert not progress.stuck(1e9), "it has not begun"
    progress.saw(100.0, stuck=False)
    assert not progress.stuck(100.0 + LOOK_S)
    assert progress.stuck(100.0 + 3 * LOOK_S), "the loop hangs in a call"
    progress.saw(104.0, stuck=True)
    assert progress.stuck(104.0)
