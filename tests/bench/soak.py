"""`python -m tests.bench.soak [--minutes N]`: the whole pipeline at 1,000/s, and the memory of each role.

The monitor is one of them, with its segments, its sources and its probes, as the demo has it.
"""

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from agents.settings import cache_dir
from deploy.flights.prepare import EVENTS, prepare
from schemas.verdicts import decode_verdict
from streams.kafka.clients import Cluster
from streams.kafka.local import LocalBroker
from streams.kafka.reading import TopicReader
from tests.bench.stages import Stages, bench_file, flights, put_through, running

RATE, ROUND_S = 1000, 30
FLAT_MB = 16.0
"""What a role may have more at the end than after its first two minutes."""


def memory_mb(stages: Stages) -> dict[str, float]:
    """Resident memory of each process."""
    return {name: process.memory_info().rss / 1e6 for name, process in stages.processes.items()}


def said(stages: Stages) -> Counter[str]:
    """How often each word was the verdict."""
    with TopicReader(stages.cluster, stages.topics.verdicts) as reader:
        starts = {number: low for number, (low, _) in reader.bounds().items()}
        return Counter(str(decode_verdict(message.value()).verdict) for message in reader.to_end(starts))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", type=float, default=10.0, show_default=True, help="How long to send.")
def main(minutes: float) -> None:
    """Send at 1,000/s, print each role's memory by the half minute, exit 3 when one keeps growing."""
    prepare()
    lines = EVENTS.read_bytes().splitlines()
    seen: list[dict[str, float]] = []
    on_time: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        local = LocalBroker(Path(folder), cache_dir(os.environ), java_options=(), heap_mb=768)
        cluster = Cluster(local.start())
        try:
            file = bench_file(Path(folder), "soak", ["full", "fast", "rule", "january"], "first", 200)
            beside = ["archiver", "monitor"]
            with running(file, cluster, Path(folder) / "state", ours=True, beside=beside) as stages:
                for _ in range(max(1, round(minutes * 60 / ROUND_S))):
                    on_time.append(
                        put_through(stages, flights(lines, RATE * ROUND_S, stages.sent), RATE).on_time_share()
                    )
                    seen.append(memory_mb(stages))
                    shown = ", ".join(f"{name} {mb:.0f}" for name, mb in seen[-1].items())
                    Console(stderr=True, highlight=False).print(f"on time {on_time[-1]:.4%}; MB: {shown}")
                verdicts = said(stages)
        finally:
            local.stop_if_started()
    table = Table("role", "after 2 minutes, MB", "at the end, MB", "most, MB")
    settled = seen[min(3, len(seen) - 1)]
    for name, mb in settled.items():
        table.add_row(name, f"{mb:.1f}", f"{seen[-1][name]:.1f}", f"{max(one[name] for one in seen):.1f}")
    Console(highlight=False).print(table)
    told = ", ".join(f"{count} {word}" for word, count in verdicts.items()) or "none"
    Console(highlight=False).print(f"verdicts of the monitor: {told}")
    sys.exit(3 if any(seen[-1][name] - mb > FLAT_MB for name, mb in settled.items()) else 0)


if __name__ == "__main__":
    main()
