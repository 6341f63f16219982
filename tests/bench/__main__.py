"""`python -m tests.bench [--out FILE] [--quick]`: every figure, its bar, and the machine they were measured on."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from agents.settings import cache_dir
from deploy.flights.prepare import EVENTS, prepare
from schemas.blocks import Rows, encode_rows
from streams.kafka.clients import Cluster
from streams.kafka.local import VERSION, LocalBroker
from tests.bench import backtest
from tests.bench.archive import archive_figures
from tests.bench.replay import replay_ratio
from tests.bench.stages import Run, bench_file, flights, produce, put_through, running
from tests.bench.verify import verified
from tests.broker.pipelines import make_topic

BARS = {
    "agent_cpu_ratio": ("at most", 1.3),
    "block_row_gain": ("at least", 10.0),
    "pipeline_cpu_ratio": ("at most", 0.6),
    "latency_p50_ratio": ("at most", 1.3),
    "latency_p99_ratio": ("at most", 1.0),
    "on_time_share": ("at least", 0.9999),
    "verify_s_per_million": ("at most", 30.0),
    "replay_ratio": ("at least", 0.5),
    "backtest_ratio": ("at least", 0.8),
    "archive_write_ratio": ("at least", 0.7),
}
aside = Console(stderr=True, highlight=False)
Figures = dict[str, float]


class Bench:
    """One broker, its own cost, and the sizes of the runs."""

    def __init__(self, cluster: Cluster, broker: psutil.Process, folder: Path, *, quick: bool) -> None:
        self.cluster = cluster
        self.folder = folder
        self.rounds = 1 if quick else 3
        self.events = 20_000 if quick else 100_000
        self.preloaded = 5_000 if quick else 60_000
        self.checked = 50_000 if quick else 1_000_000
        self.warm_s, self.paced_s = (2, 4) if quick else (4, 12)
        self._broker = broker
        self.lines = EVENTS.read_bytes().splitlines()

    def broker_cpu_s(self) -> float:
        """The broker's CPU so far: a column of its own."""
        return sum(self._broker.cpu_times()[:2])

    def values(self, count: int, after: int = 0) -> list[bytes]:
        """So many flights after those sent before, each with an id of its own."""
        return flights(self.lines, count, after)


def agents(bench: Bench) -> Figures:
    """The agent alone, against a loop by hand; and blocks against one JSON per record."""
    value = json.dumps({"id": "x" * 24, "pad": "y" * 200, "numbers": [1.5] * 9}).encode().ljust(297, b" ")
    rng = np.random.default_rng(7)
    rows = [Rows("m", np.arange(64), np.arange(64), rng.random((64, 20))) for _ in range(8)]
    blocks = [encode_rows(block) for block in rows]
    lines = [row_json(number, row) for number, row in enumerate(np.concatenate([block.matrix for block in rows]))]
    preload(bench.cluster, "bench-json", [value] * bench.events)
    preload(bench.cluster, "bench-rows", [lines[n % len(lines)] for n in range(bench.events)])
    preload(bench.cluster, "bench-blocks", [blocks[n % 8] for n in range(bench.events // 16)])
    found: dict[str, list[float]] = {"by-hand": [], "agent": [], "rows-by-hand": [], "blocks": []}
    for number in range(-1, 5 if bench.rounds > 1 else 2):
        for kind, figures in found.items():
            topic = {"blocks": "bench-blocks", "rows-by-hand": "bench-rows"}.get(kind, "bench-json")
            count = bench.events // 16 if kind == "blocks" else bench.events
            cpu_s = one_loop(bench.cluster, kind, topic, count, number)
            if number >= 0:  # the first of each warms the broker
                figures.append(cpu_s / count / (64 if kind == "blocks" else 1) * 1e6)
    middle = {kind: statistics.median(figures) for kind, figures in found.items()}
    ratios = [ours / theirs for ours, theirs in zip(found["agent"], found["by-hand"], strict=True)]
    return {
        "by_hand_us_per_event": middle["by-hand"],
        "agent_us_per_event": middle["agent"],
        "row_by_hand_us": middle["rows-by-hand"],
        "block_us_per_row": middle["blocks"],
        "agent_cpu_ratio": statistics.median(ratios),
        "block_row_gain": middle["rows-by-hand"] / middle["blocks"],
    }


def row_json(number: int, features: np.ndarray) -> bytes:
    """One row as a record by hand: about 315 bytes."""
    row = {"id": number, "at_ms": 1_700_000_000_000, "deadline_ms": 1_700_000_000_200}
    return json.dumps(row | {"features": [round(feature, 9) for feature in features.tolist()]}).encode()


def preload(cluster: Cluster, topic: str, values: Sequence[bytes]) -> None:
    """Fill a topic of one partition."""
    for name in (topic, f"{topic}.out"):
        make_topic(cluster, name)
    produce(cluster, topic, values, linger_ms=5)


def one_loop(cluster: Cluster, kind: str, topic: str, count: int, number: int) -> float:
    """CPU seconds of one run, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.loops",
        kind,
        cluster.bootstrap,
        topic,
        str(count),
        f"{kind}{number}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    if done.returncode:
        raise RuntimeError(f"{kind}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["cpu_s"])


def against_by_hand(bench: Bench) -> Figures:
    """Router, three scorers and the join: ours and by hand, in turn."""
    found: dict[str, list[float]] = {}
    for number in range(bench.rounds):
        runs: dict[str, Run] = {}
        for kind in ("hand", "ours"):
            name = f"{kind}{number}"
            file = bench_file(bench.folder, name, ["full", "fast", "january"], "all", 600_000)
            with running(file, bench.cluster, bench.folder / "state", ours=kind == "ours") as stages:
                put_through(stages, bench.values(1000, stages.sent), 500)  # every model and connection is warm
                cpu_s, broker_s = stages.cpu_s(), bench.broker_cpu_s()
                run = put_through(stages, bench.values(bench.preloaded, stages.sent), None)
                note(found, f"{kind}_cpu_us", (stages.cpu_s() - cpu_s) / bench.preloaded * 1e6)
                note(found, f"{kind}_broker_cpu_us", (bench.broker_cpu_s() - broker_s) / bench.preloaded * 1e6)
                note(found, f"{kind}_preloaded_per_s", bench.preloaded / run.took_s)
                runs[kind] = run
                skip = 1000 * bench.warm_s
                paced = put_through(stages, bench.values(1000 * (bench.warm_s + bench.paced_s), stages.sent), 1000)
                p50, p99 = np.quantile(paced.latencies_ms(skip), [0.5, 0.99])
                note(found, f"{kind}_p50_ms", float(p50))
                note(found, f"{kind}_p99_ms", float(p99))
        check_equal(runs["hand"], runs["ours"])
    middle = {name: statistics.median(figures) for name, figures in found.items()}
    pairs = {"pipeline_cpu_ratio": "cpu_us", "latency_p50_ratio": "p50_ms", "latency_p99_ratio": "p99_ms"}
    for ratio, name in pairs.items():
        each = [ours / hand for ours, hand in zip(found[f"ours_{name}"], found[f"hand_{name}"], strict=True)]
        middle[ratio] = statistics.median(each)
    return middle


def check_equal(hand: Run, ours: Run) -> None:
    """A decision counts only with every model's score in it, and winner and scores as by hand, ticket by ticket."""
    for offset, theirs in hand.decisions.items():
        mine = ours.decisions[offset]
        scores = {name: seen.score for name, seen in mine.scores.items()}
        if (mine.model, scores) != (theirs.model, {name: seen.score for name, seen in theirs.scores.items()}):
            raise RuntimeError(f"ticket 0/{offset}: {mine} is not what was decided by hand: {theirs}")


def note(found: dict[str, list[float]], name: str, figure: float) -> None:
    """Keep a figure of one round."""
    found.setdefault(name, []).append(figure)


def whole(bench: Bench) -> Figures:
    """Four models, archiver, the default policy: latency at three rates, and flat out."""
    figures: Figures = {}
    file = bench_file(bench.folder, "whole", ["full", "fast", "rule", "january"], "first", 200)
    with running(file, bench.cluster, bench.folder / "state", ours=True, beside=["archiver"]) as stages:
        put_through(stages, bench.values(1000, stages.sent), 500)
        for rate in (100, 1000, 2000):
            skip = rate * bench.warm_s
            run = put_through(stages, bench.values(rate * (bench.warm_s + bench.paced_s), stages.sent), rate)
            p50, p99, p999 = np.quantile(run.latencies_ms(skip), [0.5, 0.99, 0.999])
            suffix = "" if rate == 1000 else f"_{rate}"
            figures |= {
                f"latency_p50_ms{suffix}": float(p50),
                f"latency_p99_ms{suffix}": float(p99),
                f"latency_p999_ms{suffix}": float(p999),
                f"on_time_share{suffix}": run.on_time_share(skip),
            }
    file = bench_file(bench.folder, "flat", ["full", "fast", "rule", "january"], "first", 600_000)
    with running(file, bench.cluster, bench.folder / "state", ours=True, beside=["archiver"]) as stages:
        put_through(stages, bench.values(1000, stages.sent), 500)
        run = put_through(stages, bench.values(bench.preloaded, stages.sent), None)
        figures["decisions_per_s"] = bench.preloaded / run.took_s
    return figures


def archive(bench: Bench) -> Figures:
    """The archive's writer, against a plain pyarrow writer given the same records."""
    preload(bench.cluster, "bench-archive", bench.values(bench.events))
    return archive_figures(bench.cluster, "bench-archive", 9 if bench.rounds > 1 else 3)


def checking(bench: Bench) -> Figures:
    """`rendezvous verify` over a million requests."""
    return verified(bench.cluster, bench.folder, bench.lines, bench.checked)


def replay(bench: Bench) -> Figures:
    """An archive replayed flat out, against a raw producer with the same records in memory."""
    values = bench.values(3 * bench.events)
    return replay_ratio(bench.cluster, bench.folder / "replay", values, 5 if bench.rounds > 1 else 1)


def past(bench: Bench) -> Figures:
    """A backtest's scoring against plain LightGBM, and what a request of an archive costs."""
    return backtest.measured(bench.lines, bench.folder, rounds=bench.rounds)


PARTS: Mapping[str, Callable[[Bench], Figures]] = {
    "agents": agents,
    "by-hand": against_by_hand,
    "whole": whole,
    "verify": checking,
    "replay": replay,
    "backtest": past,
    "archive": archive,
}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("faust-streaming", "confluent-kafka", "msgspec", "numpy", "lightgbm", "pyarrow")
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "kafka": VERSION,
        "load": os.getloadavg(),
        **{name: version(name) for name in packages},
    }


def holds(name: str, figure: float) -> bool:
    """Whether a figure keeps its bar."""
    word, bar = BARS[name]
    return figure <= bar if word == "at most" else figure >= bar


def show(figures: Mapping[str, float], about: Mapping[str, Any]) -> None:
    """A table on stdout."""
    table = Table("figure", "value", "bar", "", title=f"{about['cores']} cores, Python {about['python']}")
    for name, figure in figures.items():
        word, bar = BARS.get(name, ("", ""))
        kept = (
            "" if name not in BARS else "holds" if holds(name, figure) else f"misses: {figure / float(bar):.2f} of it"
        )
        table.add_row(name, f"{figure:,.4g}", f"{word} {bar}", kept)
    Console(highlight=False).print(table)
    Console(highlight=False).print(json.dumps(about))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--quick", is_flag=True, help="Short runs, to see that it works.")
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="This part; may be repeated.")
def main(out: Path | None, quick: bool, only: Sequence[str]) -> None:
    """Measure against hand-written loops and print every figure with its bar."""
    prepare()
    about = machine()
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        local = LocalBroker(Path(folder), cache_dir(os.environ), java_options=(), heap_mb=768)
        cluster = Cluster(local.start())
        try:
            running_broker = local.running()
            if running_broker is None:
                raise RuntimeError("the broker ended")
            java = psutil.Process(running_broker.pid).children()[0]
            bench = Bench(cluster, java, Path(folder), quick=quick)
            for part in [PARTS[name] for name in only or PARTS]:
                aside.print(f"measuring: {(part.__doc__ or '').splitlines()[0]}")
                figures |= part(bench)
                aside.print({name: round(figure, 4) for name, figure in figures.items()})
        finally:
            local.stop_if_started()
    show(figures, about)
    if out is not None:
        out.write_text(json.dumps({"figures": figures, "bars": BARS, "machine": about}, indent=2) + "\n")


if __name__ == "__main__":
    main()
