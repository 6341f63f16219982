"""A story of the demo, run in its short form as a person runs it."""

import subprocess
import sys
from pathlib import Path

from streams.kafka.clients import Cluster
from tests.broker.pipelines import environment

ROOT = Path(__file__).parents[2]


def output_of(story: str, cluster: Cluster, state: Path, within_s: float) -> str:
    """All that it printed; it has to end well, and in time."""
    done = subprocess.run(
        [sys.executable, "-m", f"deploy.flights.{story}", "--short"],
        cwd=ROOT,
        env={**environment(cluster, state), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-3_000:], done.stderr[-3_000:])
    return done.stdout
