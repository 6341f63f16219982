"""Whose fault is it, while flights go by: `make blame`.

At 1,000 flights a second the monitor learns what is usual. Then a feed sends kilometres for miles, later a model's
own code changes under its name and version; each time the verdict names the culprit, and says when all is well again.
It ends with the report, which explains both. Exit 0 only when they did. The short form (`--short`) is the same faults
on fewer flights, with models of a tenth of the flights, which the tests run.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np

from deploy.flights import rule
from deploy.flights.prepare import BUILD, EVENTS, PIPELINE, prepare
from deploy.flights.run import console, rendezvous, up
from deploy.flights.story import Flights
from schemas.blocks import Matrix
from streams.kafka.clients import Cluster, cluster_of

STATE = BUILD / "blame"
BLAME = PIPELINE.parent / "blame.toml"
REPORT = BUILD / "blame-report.html"
SWITCH = BUILD / "blame-switch"
PLANTED = (("data", "field", "distance"), ("code", "model", "rule"))
"""The faults: the word that is due, and whom it has to name."""

WITHIN_S = 90


@dataclass(frozen=True, slots=True)
class Pace:
    """How long it takes: `rate` flights a second, of which so many are the monitor's reference.

    Models are trained on one flight in `every`. The last fault goes on until `seen` windows name it.
    """

    rate: float
    reference_rows: int
    every: int
    seen: int


WHOLE = Pace(rate=1000.0, reference_rows=10_000, every=1, seen=3)
"""Of three windows, the last fault is more than a line in the report."""

SHORT = Pace(rate=300.0, reference_rows=4_000, every=10, seen=1)

KM = 1.609344


def late(matrix: Matrix) -> Matrix:
    """The rule of thumb, until somebody mends its code: then it takes visibility for rain."""
    return rule.late(matrix[:, [0, 2, 1]] if SWITCH.exists() else matrix)


def shuffled() -> list[bytes]:
    """Flights of two months in any order: in their own, each thousand would have another day's weather."""
    lines = EVENTS.read_bytes().splitlines()
    return [lines[place] for place in np.random.default_rng(1).permutation(len(lines))]


class Feed:
    """Flights as their source sends them: in miles, until it does not."""

    def __init__(self) -> None:
        self.metric = False

    def __call__(self, line: bytes) -> bytes:
        """One event, as it is sent."""
        if not self.metric:
            return line
        event = json.loads(line)
        event["distance"] = round(event["distance"] * KM, 1)
        return json.dumps(event, separators=(",", ":")).encode()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rate", type=float, help="Flights per second.  [default: 1000; with --short 300]")
@click.option("--short", is_flag=True, help="The same faults on fewer flights: whom it blames, not how well.")
def main(rate: float | None, *, short: bool) -> None:
    """Plant two faults, one after the other, and see whom the monitor blames."""
    pace = SHORT if short else WHOLE
    pace = replace(pace, rate=rate or pace.rate)
    name = f"flights-blame-{int(time.time())}"
    write_pipeline(name, pace, short=short)
    prepare(BLAME, pace.every)
    SWITCH.unlink(missing_ok=True)
    if not cluster_of(os.environ):
        shutil.rmtree(STATE, ignore_errors=True)
        os.environ["RENDEZVOUS_STATE"] = str(STATE)
    feed = Feed()
    try:
        with up(BLAME) as about:
            cluster = cluster_of(os.environ) or Cluster(about["bootstrap"])
            with Flights(cluster, name, pace.rate, shuffled(), feed):
                tell(about, feed, pace)
            rendezvous_says(about, "verdicts", "--alarms")
    finally:
        SWITCH.unlink(missing_ok=True)
    write_report(about)


def write_pipeline(name: str, pace: Pace, *, short: bool) -> None:
    """The flights' pipeline under a name of its own, with code that can be changed while it runs."""
    text = PIPELINE.read_text().replace('name = "flights" ', f'name = "{name}" ', 1)
    text = text.replace("deploy.flights.rule:late", "deploy.flights.blame:late")
    if short:
        text = text.replace('"models/', '"models/short/')
        text = text.replace("reference_rows = 10_000 ", f"reference_rows = {pace.reference_rows} ", 1)
    BLAME.write_text(text)


def tell(about: Mapping[str, Any], feed: Feed, pace: Pace) -> None:
    """The scenes, one after the other."""
    scene("the monitor learns what is usual")
    until(about, lambda said: any(one["verdict"] == "healthy" for one in said), "a healthy window")
    scene("a feed sends kilometres for miles")
    feed.metric = True
    until(about, named(*PLANTED[0]), "the field is named")
    scene("the feed is mended")
    feed.metric = False
    until(about, cleared, "all is well again")
    scene("the code of one model is changed, under the same name and version")
    SWITCH.touch()
    until(about, named(*PLANTED[1]), "the model is named")
    until(about, named(*PLANTED[1], windows=pace.seen), f"{pace.seen} windows say so")


def named(word: str, key: str, culprit: str, windows: int = 1) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether some of the last verdicts say so, and people were told."""

    def so(said: list[dict[str, Any]]) -> bool:
        found = [one for one in said[-2 - windows :] if one["verdict"] == word and one[key] == culprit]
        return len(found) >= windows and found[-1]["alarmed"] == word

    return so


def cleared(said: list[dict[str, Any]]) -> bool:
    """Whether nothing is wrong any more."""
    return bool(said) and said[-1].get("alarmed") is None


def scene(what: str) -> None:
    """Say what goes on now."""
    console.print(f"\n[bold]{what}[/]")


def until(about: Mapping[str, Any], true: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
    """Wait for a verdict and show it; exits when it does not come."""
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        done = rendezvous(about, "verdicts", "--json", file=BLAME)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        if true(said):
            break
        if time.monotonic() > deadline_s:
            sys.exit(f"not within {WITHIN_S} s: {what}; the last verdicts: {said[-3:]} {done.stderr}")
        time.sleep(0.5)
    console.print(f"  {said[-1]['verdict']}: {said[-1]['sentence']}", markup=False, soft_wrap=True)


def write_report(about: Mapping[str, Any]) -> None:
    """The page, from what the archiver has closed when it was stopped; exits when it does not explain a fault."""
    done = rendezvous(about, "report", "--archive", about["archive"], "-o", str(REPORT), "--json", file=BLAME)
    if done.returncode:
        sys.exit(f"`rendezvous report` ended with {done.returncode} {done.stderr}")
    told = [one["shown"] for one in json.loads(done.stdout)["verdicts"]["troubles"]]
    for word, key, culprit in PLANTED:
        if not any(one["verdict"] == word and one[key] == culprit for one in told):
            sys.exit(f"{REPORT} does not say that {culprit} is to blame ({word}): it has {told}")
    console.print(f"\n[bold]the report, which explains both[/]: {REPORT} (open it in a browser)")


def rendezvous_says(about: Mapping[str, Any], *words: str) -> None:
    """A command as a person types it, and what it prints."""
    console.print(f"\n[bold]$ rendezvous {' '.join(words)}[/]")
    console.print(rendezvous(about, *words, file=BLAME).stdout.rstrip(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
