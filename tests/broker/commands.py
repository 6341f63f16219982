"""The program run to its end, as a person runs it, in a process that is there at once.

An interpreter and what the program imports are half a second of processor time and more, and the tests on Kafka run
it two hundred times: so one process imports for all of them, and each command is a fork of it. So is what a test
writes down in Python, to be killed at a point. What is to be timed or left running is an interpreter of its own.
"""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory
from threading import Lock

from agents.cli.program import COMMANDS, main
from agents.nursery import EVERY_ROLE
from streams import kill_points

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        __name__,
        *EVERY_ROLE,
        *sorted({place.partition(":")[0] for place in COMMANDS.values()}),
        "streams.archive.forgetting",
        "streams.archive.s3",  # what a bucket takes is imported only where there is one, and is half a second too
        "pandas",  # PyArrow imports it, where it is installed, for the first array that becomes one of numpy
    ]
)
_one = Lock()
"""Whoever starts a process looks at all the others, and an end can be read once."""


def begin() -> None:
    """Let it import already, while something else is waited for."""
    forkserver.ensure_running()


def rendezvous(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    text: str = "",
    folder: Path | None = None,
    nice: int = 0,
    within_s: float = 60,
) -> "CompletedProcess[str]":
    """`rendezvous WORDS` with `text` on its stdin, in this folder; raises TimeoutExpired when it does not end."""
    return _ended(_run, list(words), environment, text, folder, nice, within_s)


def python(code: str, environment: Mapping[str, str], *, within_s: float = 60) -> "CompletedProcess[str]":
    """`python -c CODE`, which dies at the kill points that this environment names; raises TimeoutExpired."""
    return _ended(_execute, [code], environment, "", None, 0, within_s)


def _ended(
    become: Callable[[list[str]], None],
    words: list[str],
    environment: Mapping[str, str],
    text: str,
    folder: Path | None,
    nice: int,
    within_s: float,
) -> "CompletedProcess[str]":
    with TemporaryDirectory() as kept:
        given, out, err = (Path(kept) / name for name in ("in", "out", "err"))
        given.write_text(text)
        process = FORKS.Process(
            target=_be, args=(become, words, dict(environment), folder or Path.cwd(), nice, (given, out, err))
        )
        with _one:
            process.start()
        ended = wait([process.sentinel], within_s)
        if not ended:
            process.kill()
        with _one:
            process.join()
        if not ended:
            raise TimeoutExpired(words, within_s, out.read_bytes(), err.read_bytes())
        return CompletedProcess(words, process.exitcode or 0, out.read_text(), err.read_text())


def _be(
    become: Callable[[list[str]], None],
    words: list[str],
    environment: dict[str, str],
    folder: Path,
    nice: int,
    files: tuple[Path, Path, Path],
) -> None:
    """In the fork: take the program's place, and be it."""
    given, *said = files
    os.dup2(os.open(given, os.O_RDONLY), 0)
    for number, file in enumerate(said, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  as long as the process
    os.chdir(folder)
    os.nice(nice)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(kill_points)  # it looks at the environment once
    become(words)


def _run(words: list[str]) -> None:
    sys.argv = ["rendezvous", *words]
    sys.orig_argv = [sys.executable, "-m", "agents", *words]
    main()


def _execute(words: list[str]) -> None:
    (code,) = words
    exec(code, {"__name__": "__main__"})
