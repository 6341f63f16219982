"""A command of this program in a process of its own: it gives way to all others, and there is an end to its patience.

For work that takes room and time: whoever asks for it goes on meanwhile, whatever becomes of it.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from schemas.pipeline import Pipeline


class Ended(Struct, frozen=True):
    """How it ended; `code` is None when it was not done in time. `why` is the last it said on stderr."""

    code: int | None
    out: bytes
    why: str


def words_of(pipeline: Pipeline, file: Path, *words: str) -> list[str]:
    """The words of a command about this very pipeline, a run's copy too; `file` is its own."""
    run = ["--replay", pipeline.replay] if pipeline.replay else []
    return [*run, *words, "-P", str(file)]


async def run_aside(words: Sequence[str], within_s: float) -> Ended:
    """`rendezvous WORDS`; it is killed when its time is over, and when whoever waits for it is stopped."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agents", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        preexec_fn=_stand_back,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), within_s)
    except TimeoutError:
        return Ended(None, b"", f"it was not done within {within_s:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = err.decode(errors="replace").strip().splitlines() or [f"it ended with {process.returncode}"]
    return Ended(process.returncode, out, lines[-1])


def _stand_back() -> None:
    os.nice(19)
