"""The program: how it ends."""

import os
import subprocess
import sys

import pytest

from agents.cli import program


@pytest.mark.parametrize("words", [["--help"], ["models", "--help"]])
def test_a_pipe_that_nobody_reads_any_more_is_no_failure(words: list[str]):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as unread:
        call = [sys.executable, "-m", "agents", *words]
        done = subprocess.run(call, stdout=unread, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_broken_pipe_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def ends(**_: object) -> None:
        try:
            raise BrokenPipeError("a socket")
        except BrokenPipeError:
            sys.exit(1)  # as click does

    monkeypatch.setattr(program.program, "main", ends)
    with pytest.raises(BrokenPipeError, match="a socket"):
        program.main()
