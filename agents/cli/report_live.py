"""`rendezvous report --live`: a page that is made anew while its pipeline runs, and shows itself anew.

Each time the whole page is made, from what is archived and what the topics hold beyond it, and takes the old one's
place at once. Who types in it is not disturbed; a page that nobody makes anew any more says so.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from confluent_kafka import KafkaException

from agents.archiver import topics_of
from agents.cli.newest import with_newest
from agents.cli.races import Archived
from schemas.errors import ConfigurationRefused, RendezvousError
from schemas.pipeline import Pipeline
from streams.archive.ranges import iso
from streams.archive.segment import Vanished
from streams.kafka.clients import Cluster, explained
from streams.state_file import write_atomically

MISSED = 3
"""After so many times its pause without a new one, a page is old."""

TRIES = 3
"""A compaction may take files away while a page is read from them: then it is put together anew."""


def keep_up(
    made: Callable[[Archived], str],
    root: Path,
    pipeline: Pipeline,
    cluster: Cluster,
    out: Path | None,
    every_s: float,
) -> None:
    """Make the page until interrupted, behind all other processes; `made` takes the archive as it is by then."""
    os.nice(19)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def turn() -> str:
        return of_newest(made, root, topics_of(pipeline), cluster)

    if out is not None:
        click.echo(f"{out}: made anew every {every_s:g} s; open it in a browser. Ctrl-C ends it", err=True)
    turns(turn, out, every_s)


def of_newest(made: Callable[[Archived], str], root: Path, topics: Sequence[str], cluster: Cluster) -> str:
    """What is made of the archive and its topics by now; raises what `with_newest` and `made` do."""
    for left in reversed(range(TRIES)):
        try:
            with with_newest(root, topics, cluster) as whole:
                return made(whole)
        except Vanished:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def turns(
    turn: Callable[[], str], out: Path | None, every_s: float, pause: Callable[[float], None] = time.sleep
) -> None:
    """Turn after turn, at most half of the time at work; raises KeyboardInterrupt, with the last page at rest.

    What goes wrong at the first turn ends it. Later it is said once, the page stays as it was, and it is tried again.
    """
    page, said, first = "", "", True
    try:
        while True:
            began_s = time.monotonic()
            try:
                page = turn()
                if out is not None:
                    period_s = max(every_s, 2 * (time.monotonic() - began_s))
                    write_atomically(out, reloading(page, time.time() * 1e3, period_s).encode())
                said = ""
            except (RendezvousError, KafkaException, OSError) as error:
                known = error
                if isinstance(error, KafkaException):
                    known = explained(error)
                elif isinstance(error, OSError):  # where it is put together, before it is the page
                    known = ConfigurationRefused(f"the newest records have no place: {error}; TMPDIR names another")
                if first:
                    raise known from error
                if said != str(known):
                    click.echo(f"not made anew, and tried again: {known}", err=True)
                said = str(known)
            first = False
            took_s = time.monotonic() - began_s
            pause(max(every_s - took_s, took_s))
    finally:
        if out is not None and page:
            write_atomically(out, page.encode())


def reloading(page: str, made_ms: float, every_s: float) -> str:
    """The page with a line on how new it is, and a script that loads it again."""
    line = (
        f'<p id="made" class="note" data-made-ms="{made_ms:.0f}" data-every-s="{every_s:g}">Made at '
        f"{iso(int(made_ms))}, and anew every {every_s:g} s. <b></b></p>"
    )
    return page.replace("<body>", f"<body>{line}<script>{SCRIPT % MISSED}</script>", 1)


SCRIPT = """
(() => {
  const line = document.getElementById('made'), every = 1000 * line.dataset.everyS;
  const look = () => {
    const age = Date.now() - line.dataset.madeMs;
    line.lastElementChild.textContent = age < %d * every ? '' :
      `${Math.round(age / 1000).toLocaleString('en')} s ago: rendezvous report --live has ended, or is stuck.`;
  };
  look();
  setInterval(() => { if (document.activeElement?.id !== 'which') location.reload(); }, every);
})();
"""
