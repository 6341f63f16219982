"""Trials that are forks: where and with what each runs, and what becomes of it when somebody dies. (And test_kinds.)"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from msgspec import json
from msgspec.structs import replace

from schemas.pipeline import Kind, Model, Role
from streams.models import trial_forks
from streams.models.artifact import ModelRefused
from streams.models.attempt import Attempt, Order
from streams.models.trial_forks import forked, several
from streams.models.trying import try_in_child
from tests.unit import python_models
from tests.unit.test_diff import trained

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every trial is an interpreter")

MODEL = Model(name="m", version="1", kind=Kind.PYTHON, role=Role.CHAMPION, callable="tests.unit.python_models:Where")


@pytest.fixture
def begun() -> Iterator[None]:
    with several():
        yield


def children() -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.ZombieProcess):  # another test's, that nobody waited for
            if "streams.models.trial_fork" in one.cmdline():
                found.append(one)
    return found


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def refusal(model: Model = MODEL) -> str:
    with pytest.raises(ModelRefused) as caught:
        try_in_child(Attempt(".", model, ("a",)))
    return str(caught.value)


@pytest.mark.usefixtures("begun")
def test_a_fork_sees_the_folder_and_the_environment_of_who_asks_and_no_lightgbm_beside_a_model_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lightgbm = replace(MODEL, kind=Kind.LIGHTGBM, artifact="m.txt", sha256="m.txt.sha256")
    trained(tmp_path / "m.txt")
    assert forked(Attempt(str(tmp_path), lightgbm, ("x", "late"), (_sum(tmp_path),))).code == 0
    assert f"KeyError('{Path.cwd()}', None, False, '')" in refusal()
    (tmp_path / "own.py").write_text(Path(python_models.__file__).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLD", "so")
    assert f"KeyError('{tmp_path}', 'so', False, '')" in refusal(replace(MODEL, callable="own:Where"))
    assert len(children()) == 2


def _sum(folder: Path) -> str:
    return (folder / "m.txt.sha256").read_text().split()[0]


def test_forks_end_with_what_they_were_begun_for_and_a_lone_trial_is_an_interpreter():
    assert forked(Attempt(".", MODEL, ("a",))) is None
    with several():
        with several():
            assert "KeyError" in refusal()
        assert len(children()) == 1
        assert "KeyError" in refusal()
    assert children() == []


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_process_is_gone_or_hangs_the_trial_is_an_interpreter_and_another_is_begun(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    refusal()
    (first,) = children()
    first.send_signal(number)
    monkeypatch.setattr(trial_forks, "IMPORTS_S", 0.5)
    attempt = Attempt(".", MODEL, ("a",), within_s=0.5)
    assert forked(attempt) is None
    monkeypatch.undo()
    assert "KeyError" in refusal()
    (again,) = children()
    assert again.pid != first.pid


@pytest.mark.usefixtures("begun")
def test_a_trial_that_nobody_waits_for_any_more_is_killed():
    refusal()
    (process,) = children()
    slow = replace(MODEL, callable="tests.unit.python_models:Slow")
    ours, theirs = socket.socketpair()
    with theirs:
        assert trial_forks._forks[""]._handed(theirs)
    ours.sendall(json.encode(Order(Attempt(".", slow, ("a",)), str(Path.cwd()), dict(os.environ))))
    ours.shutdown(socket.SHUT_WR)
    until(lambda: len(process.children(recursive=True)) == 2)
    trial = next(one for one in process.children(recursive=True) if one.parent() != process)
    ours.close()
    until(lambda: not trial.is_running())
