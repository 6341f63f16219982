"""`python -m tests.bench.verdicts [--out FILE] [--quick]`: right cause, delay, false alarms and cost, against the bars.

Exit code 3 when a bar is missed; standard error says which, and by what.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from streams.core.verdicts.watch import Watch
from tests.bench.verdicts.flown import pool
from tests.bench.verdicts.playing import Played, Stage, live, play, quiet
from tests.bench.verdicts.public import Heard, compared, heard
from tests.bench.verdicts.scenarios import CORE, HARD, SCENARIOS
from tests.bench.verdicts.world import CLUSTERED, DAILY, INDEPENDENT, KINDS

SEEDS = 5
FIRST_SEED = 9800  # thresholds were tuned on seeds below 1,000; what went wrong on 9000 to 9705 was looked into
QUIET_WINDOWS = {INDEPENDENT: 300, DAILY: 300, CLUSTERED: 310}  # of each of ten references, with and without probes
PUBLIC_WINDOWS = 100
NEVER = 9.0
COST_EVENTS = 40_000
BARS: dict[str, tuple[str, float]] = {
    "with_probes.core": ("at least", 1.0),
    "without.core": ("at least", 0.97),
    "with_probes.hard": ("at least", 0.9),
    "without.hard": ("at least", 0.9),
    "worst_delay": ("at most", 3.0),
    "median_delay": ("at most", 0.5),
    "independent": ("at most", 1.0),
    "daily": ("at most", 1.0),
    "clustered": ("at most", 10.0),
    "us_per_event": ("at most", 20.0),
}
MODES = {"with_probes": "with probes", "without": "by statistics alone"}
Job = tuple[str, str, int, bool, int]
aside = Console(stderr=True, highlight=False)


def run(job: Job) -> list[Played]:
    """One reference: its quiet windows and every scenario that is played on this kind of data."""
    world, kind, seed, probes, windows = job
    stage = Stage(world, kind, seed, probes=probes)
    found = [play(stage, one) for one in SCENARIOS if kind in (one.kinds or (INDEPENDENT, DAILY))]
    return [*found, quiet(stage, windows)]


def jobs(seeds: Sequence[int], share: float) -> list[Job]:
    """The long ones first."""
    return [
        (world, kind, seed, probes, max(int(QUIET_WINDOWS[kind] * share), 1))
        for world in ("flights", "made")
        for kind in reversed(KINDS)
        for seed in seeds
        for probes in (True, False)
    ]


def cost() -> dict[str, float]:
    """Microseconds an event takes, of this process's CPU time and by the wall clock; the reference is none of it.

    On quiet independent flights with four models and 13 fields. The bar is on CPU time, which others on the machine
    touch only through its caches; the wall clock says how long one would have waited beside them.
    """
    stage = Stage("flights", INDEPENDENT, 1, probes=False)
    rows = list(live(stage, COST_EVENTS))
    best = wall = float("inf")
    for _ in range(3):
        watch = _copy(stage.watch)
        started, began = time.process_time(), time.perf_counter()
        for event in rows:
            watch.offer(event)
        best, wall = min(best, time.process_time() - started), min(wall, time.perf_counter() - began)
    return {"us_per_event": best / len(rows) * 1e6, "wall_us_per_event": wall / len(rows) * 1e6}


def _copy(watch: Watch) -> Watch:
    from copy import deepcopy

    return deepcopy(watch)


def figures(played: Sequence[Played]) -> dict[str, Any]:
    """What is held against the bars."""
    found: dict[str, Any] = {}
    for name, probes in (("with_probes", True), ("without", False)):
        mine = [one for one in played if one.probes is probes]
        faults = [one for one in mine if one.tier in (CORE, HARD)]
        delays = [NEVER if one.delay is None else one.delay for one in faults]
        core = [NEVER if one.delay is None else one.delay for one in faults if one.tier == CORE]
        found[name] = {
            "core": _share(faults, CORE),
            "hard": _share(faults, HARD),
            "runs": {tier: sum(one.tier == tier for one in faults) for tier in (CORE, HARD)},
            "worst_delay": max(delays),
            "median_delay": float(np.median(delays)),
            "worst_delay_core": max(core),
            "median_delay_core": float(np.median(core)),
            "never_named": sum(one.delay is None for one in faults),
            "false_alarms_per_1000": {kind: _false(mine, kind) for kind in KINDS},
            "quiet_windows": {kind: _windows(mine, kind) for kind in KINDS},
        }
    return found


def missed(found: dict[str, Any]) -> list[str]:
    """The bars that figures do not reach, a line each."""
    every = [line for name in BARS for line in _held(name, found)]
    return [
        f"{what}: {value:.4g}, and the bar is {word} {bar:g}"
        for what, value, (word, bar) in every
        if (value < bar if word == "at least" else value > bar)
    ]


def _held(name: str, found: dict[str, Any]) -> list[tuple[str, float, tuple[str, float]]]:
    """What a bar is held against: one figure, or that of both modes."""
    mode, _, figure = name.rpartition(".")
    if name == "us_per_event":
        return [("us per event", found[name], BARS[name])]
    modes = [mode] if mode else list(MODES)
    if figure in KINDS:
        what = f"false alarms per 1,000 quiet windows, {figure}"
        return [(f"{what}, {MODES[one]}", found[one]["false_alarms_per_1000"][figure], BARS[name]) for one in modes]
    return [(f"{figure.replace('_', ' ')}, {MODES[one]}", found[one][figure], BARS[name]) for one in modes]


def _share(played: Sequence[Played], tier: str) -> float:
    mine = [one.right for one in played if one.tier == tier]
    return sum(mine) / max(len(mine), 1)


def _windows(played: Sequence[Played], kind: str) -> int:
    return sum(one.windows for one in played if one.kind == kind)


def _false(played: Sequence[Played], kind: str) -> float:
    alarms = sum(len(one.false_alarms) for one in played if one.kind == kind)
    return round(1000 * alarms / max(_windows(played, kind), 1), 2)


def show(played: Sequence[Played], found: dict[str, Any]) -> None:
    """A line a scenario, then each figure beside its bar."""
    table = Table("scenario", "tier", "probes", "right", "median delay", "worst", "said instead")
    for scenario in SCENARIOS:
        for probes in (True, False):
            mine = [one for one in played if one.name == scenario.name and one.probes is probes]
            delays = [one.delay for one in mine if one.delay is not None]
            worst = "never" if len(delays) < len(mine) else f"{max(delays):.2f}"
            wrong = sorted({one.first or "nothing" for one in mine if not one.right})
            table.add_row(
                scenario.name,
                scenario.tier,
                "yes" if probes else "no",
                f"{sum(one.right for one in mine)} of {len(mine)}",
                f"{np.median(delays):.2f}" if delays else "-",
                worst,
                "; ".join(wrong)[:70],
            )
    out = Console(highlight=False, width=150)
    out.print(table)
    table = Table("figure", "with probes", "without", "bar")
    for name in (
        "core",
        "hard",
        "worst_delay",
        "median_delay",
        "worst_delay_core",
        "median_delay_core",
        "never_named",
    ):
        bars = sorted({f"{word} {bar:g}" for key, (word, bar) in BARS.items() if key.split(".")[-1] == name})
        table.add_row(name, *(f"{found[mode][name]:.3g}" for mode in ("with_probes", "without")), "; ".join(bars))
    for kind in KINDS:
        row = [
            f"{found[mode]['false_alarms_per_1000'][kind]:g} of {found[mode]['quiet_windows'][kind]:,}"
            for mode in ("with_probes", "without")
        ]
        table.add_row(f"false alarms per 1,000, {kind}", *row, f"{BARS[kind][0]} {BARS[kind][1]:g}")
    table.add_row("us of CPU per event", f"{found['us_per_event']:.1f}", "", "at most 20")
    table.add_row("us by the wall clock per event", f"{found['wall_us_per_event']:.1f}", "", "")
    out.print(table)
    if found["public"]:
        out.print(beside(found["public"]))


def beside(public: Mapping[str, Mapping[str, Any]]) -> Table:
    """Detectors that know no cause, on the same streams: what was found, how soon, and at which price."""
    table = Table("public detector", "faults found", "median delay", *(f"false per 1,000, {kind}" for kind in KINDS))
    for name, one in public.items():
        false = [f"{one['false_alarms_per_1000'][kind]:g} of {one['quiet_windows'][kind]}" for kind in KINDS]
        table.add_row(name, f"{one['found']} of {one['faults']}", f"{one['median_delay']:.2f}", *false)
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--quick", is_flag=True, help="One seed and few quiet windows, to see that it works.")
@click.option("--seed", default=FIRST_SEED, show_default=True, help="The first of the seeds.")
@click.option("--share", default=1.0, show_default=True, help="Of the quiet windows: fewer are sooner over.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="A folder with a file for each job: what is there is not run again.",
)
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, help="How many at once.")
def main(out: Path | None, quick: bool, seed: int, share: float, keep: Path | None, processes: int) -> None:
    """Play every scenario and many quiet windows, and print causes, delays and false alarms against the bars."""
    started_s = time.monotonic()
    pool()
    todo = jobs(range(seed, seed + (1 if quick else SEEDS)), 0.05 if quick else share)
    played: list[Played] = []
    for number, part in enumerate(_each(todo, processes, keep), 1):
        played += part
        aside.print(f"{number} of {len(todo)} references, {time.monotonic() - started_s:.0f} s")
    found = figures(played)
    found |= cost()
    found["public"] = {} if quick else public(seed)
    found["took_s"] = round(time.monotonic() - started_s)
    show(played, found)
    if out is not None:
        runs = [asdict(one) for one in played]
        out.write_text(
            json.dumps({"figures": found, "bars": BARS, "seeds": [seed, SEEDS], "runs": runs}, indent=2) + "\n"
        )
    short = missed(found)
    for line in short:
        aside.print(f"missed: {line}")
    sys.exit(3 if short else 0)


def public(seed: int) -> dict[str, Any]:
    """What public detectors make of the first reference of each kind."""
    every: list[Heard] = []
    for world, kind in product(("flights", "made"), KINDS):
        every += heard(Stage(world, kind, seed, probes=False), PUBLIC_WINDOWS)
        aside.print(f"public detectors: {world}, {kind}")
    return compared(every, KINDS)


def _each(todo: Sequence[Job], processes: int, keep: Path | None) -> Iterator[list[Played]]:
    """The jobs' runs as they are done; one process alone is this one, so that it can be paused as a whole."""
    one = partial(kept, keep) if keep else run
    if processes == 1:
        yield from map(one, todo)
        return
    with get_context("fork").Pool(processes) as workers:
        yield from workers.imap_unordered(one, todo, chunksize=1)


def kept(folder: Path, job: Job) -> list[Played]:
    """The runs of a job, from its file when it has one."""
    file = folder / f"{'-'.join(map(str, job))}.json"
    if file.exists():
        return [Played(**one) for one in json.loads(file.read_text())]
    found = run(job)
    folder.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".part").write_text(json.dumps([asdict(one) for one in found]))
    file.with_suffix(".part").rename(file)
    return found


if __name__ == "__main__":
    main()
