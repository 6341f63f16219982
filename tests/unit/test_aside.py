"""A command in a process of its own: its end is told, and it has one."""

import asyncio

from agents.aside import run_aside


def test_what_a_command_said_and_how_it_ended():
    told = asyncio.run(run_aside(["--help"], 60))
    assert (told.code, b"rendezvous" in told.out) == (0, True)
    refused = asyncio.run(run_aside(["quality", "--no-such-option"], 60))
    assert (refused.code, "--no-such-option" in refused.why) == (2, True)


def test_what_is_not_done_in_time_is_ended():
    ended = asyncio.run(run_aside(["--help"], 0.01))
    assert (ended.code, ended.why) == (None, "it was not done within 0 s")
