"""Roles that are forked: as good as processes of their own, for those who start, watch and end them."""

import asyncio
import errno
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import psutil
import pytest

from agents.born import Born, Nursery
from streams.models.limits import THREADS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are given to `up` by Linux alone")

READS = ("verdicts", "--from-scores", "/dev/stdin")
"""A command that waits for its stdin, as a supervised role waits for the end of its supervisor."""


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    begun = Nursery(os.environ, dict.fromkeys(THREADS, "1"))
    begun.begin()
    try:
        yield begun
    finally:
        begun.end()


@pytest.fixture(scope="module")
def shared() -> Iterator[Nursery]:
    """One for all that leave it as it was: it imports what every role needs."""
    begun = Nursery(os.environ, dict.fromkeys(THREADS, "1"))
    begun.begin()
    yield begun
    begun.end()


async def born(begun: Nursery, *arguments: str, log: int = 2, **more: str) -> Born:
    found = await begun.bear(arguments, {**os.environ, **more}, log, ())
    assert found is not None
    return found


def title(role: Born) -> str:
    return " ".join(psutil.Process(role.pid).cmdline()).strip()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def test_a_role_is_our_child_with_its_words_its_log_and_its_exit_code(shared: Nursery):
    async def run() -> None:
        with tempfile.TemporaryFile() as log:
            role = await born(shared, "check", "no-such.toml", log=log.fileno())
            assert psutil.Process(role.pid).ppid() == os.getpid()
            assert await role.wait() == 5
            log.seek(0)
            assert b"no-such.toml" in log.read()
        said = await (await born(shared, "--version")).stdout.read()
        assert said.startswith(b"rendezvous, version")

    asyncio.run(run())


def test_a_killed_role_tells_its_signal_and_one_that_runs_is_named_in_ps(shared: Nursery):
    async def run() -> None:
        role = await born(shared, *READS)
        await until(lambda: title(role) == " ".join(("rendezvous", *READS)))
        assert os.getpgid(role.pid) == role.pid, "a Ctrl-C on the terminal is the supervisor's alone"
        role.kill()
        assert await role.wait() == -signal.SIGKILL
        role.send_signal(signal.SIGTERM)  # to nobody, whoever has the number now

    asyncio.run(run())


def test_descriptors_keep_their_numbers(shared: Nursery):
    """The memory that a scorer is handed is named by its number."""

    async def run() -> None:
        with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
            held = [first.fileno(), second.fileno()]
            role = await shared.bear(READS, os.environ, 2, held)
            assert role is not None
            await until(lambda: title(role) == " ".join(("rendezvous", *READS)))
            there = [os.stat(f"/proc/{role.pid}/fd/{number}").st_ino for number in held]  # noqa: PTH116  no disk
            assert there == [os.fstat(number).st_ino for number in held]
            role.kill()
            await role.wait()

    asyncio.run(run())


def test_when_the_nursery_is_killed_its_roles_live_on_and_another_is_begun(capfd: pytest.CaptureFixture[str]):
    async def run() -> None:
        async with nursery() as begun:
            role = await born(begun, *READS)
            assert begun.pid is not None
            os.kill(begun.pid, signal.SIGKILL)
            assert await begun.bear(READS, os.environ, 2, ()) is None, "this one is started as before"
            again = await born(begun, *READS)
            assert role.returncode is None
            for each in (role, again):
                each.kill()
                assert await each.wait() == -signal.SIGKILL

    asyncio.run(run())
    assert "the nursery is gone" in capfd.readouterr().err


def test_a_nursery_that_hangs_is_given_up_and_another_is_begun(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    async def run() -> None:
        async with nursery() as begun:
            roles = [await born(begun, *READS)]
            assert begun.pid is not None
            os.kill(begun.pid, signal.SIGSTOP)
            with monkeypatch.context() as hasty:
                hasty.setattr("agents.born.BEARS_S", 0.2)
                async with asyncio.timeout(30):
                    assert await begun.bear(READS, os.environ, 2, ()) is None, "this one is started as before"
            roles.append(await born(begun, *READS))
            for each in roles:
                each.kill()
                await each.wait()

    asyncio.run(run())
    assert "the nursery is gone (it hangs); another is begun" in capfd.readouterr().err


@pytest.mark.parametrize("refused", ["os.pidfd_open", "asyncio.unix_events._UnixSelectorEventLoop.add_reader"])
def test_a_role_that_cannot_be_watched_is_ended_and_nothing_of_it_is_left(
    monkeypatch: pytest.MonkeyPatch, refused: str, shared: Nursery
):
    def no_more(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def run() -> None:
        others = {one.pid for one in psutil.Process().children()}
        role = await born(shared, *READS)
        held = psutil.Process().num_fds()
        with monkeypatch.context() as short:
            short.setattr(refused, no_more)
            with pytest.raises(OSError, match="Too many open files"):
                await shared.bear(READS, os.environ, 2, ())
        await asyncio.sleep(0)  # the loop lets go of a pipe in its next round
        assert psutil.Process().num_fds() == held
        assert {one.pid for one in psutil.Process().children()} == {shared.pid, role.pid} | others
        role.kill()
        await role.wait()

    asyncio.run(run())


def test_a_model_with_more_threads_is_not_forked_and_nobody_is_where_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
):
    async def run() -> None:
        async with nursery() as begun:
            assert await begun.bear(READS, {**os.environ, "OMP_NUM_THREADS": "4"}, 2, ()) is None
        monkeypatch.setenv("RENDEZVOUS_NURSERY", "0")
        async with nursery() as begun:
            assert begun.pid is None
            assert await begun.bear(READS, os.environ, 2, ()) is None

    asyncio.run(run())
