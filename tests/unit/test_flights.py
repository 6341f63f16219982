"""The demo: a model that is refused is named at once, and no flight is counted that was sent before."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from deploy.flights import run as running


def test_a_refused_model_ends_the_demo_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "READY_S", 0)
    runs = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    about = {"refused": {"fast": "model fast: models/fast.txt is damaged"}, "roles": {}}
    try:
        with pytest.raises(SystemExit, match=r"refused a model.*models/fast\.txt is damaged"):
            running._await_ready(runs, about)
    finally:
        runs.communicate(b"\n")


def test_flights_that_were_sent_to_warm_up_are_not_counted():
    found = CliRunner().invoke(running.main, ["--events", str(running.MOST + 1)])
    assert found.exit_code == 2
    assert "1<=x<=35000" in found.stderr
