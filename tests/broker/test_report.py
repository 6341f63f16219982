"""The report of a pipeline that runs: made anew from its archive and its topics, and equal to what is on these."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from msgspec import convert

from agents.cli.report_figures import Figures
from streams.archive.reader import read_partition
from streams.kafka.clients import Cluster
from tests.broker.pipelines import FILE, Outcome, Up, environment, good, outcome, send, until, up, write
from tests.unit.test_report import Elements

MODELS = {"good", "plain", "watcher"}


@contextmanager
def live(pipeline: Up, file: Path, out: Path) -> Iterator["subprocess.Popen[str]"]:
    """`rendezvous report --live` beside a pipeline."""
    (out.parent / "tmp").mkdir()
    more = {"RENDEZVOUS_CONFIG": str(file), "TMPDIR": str(out.parent / "tmp")}
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "report", "--live", "--every", "1", "-o", str(out)],
        env={**environment(pipeline.cluster, pipeline.state), **more},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def shown(out: Path) -> Figures | None:
    """The numbers of the page as it is now; there is always a whole one, once there is one."""
    return convert(Elements(out.read_text()).held["figures"], Figures) if out.exists() else None


def complete(out: Path, requests: int) -> bool:
    """Whether the page has come as far as this: all requests, and what every model said of each."""
    found = shown(out)
    return found is not None and found.overview.requests == requests == min(one.scored for one in found.models)


def agree(found: Figures | None, on_topics: Outcome) -> None:
    """The page's numbers against records read from the topics themselves."""
    assert found is not None
    all_, decisions = found.overview, on_topics.decisions
    used_ms = [on_topics.decided_at_ms[offset] - on_topics.raw_at_ms[offset] for offset in decisions]
    outcomes = Counter(str(one.outcome) for one in decisions.values())
    assert (all_.requests, all_.decided) == (len(on_topics.raw_at_ms), len(decisions))
    assert {word: count for word, count in all_.outcomes.items() if count} == outcomes
    assert all_.winners == Counter(one.model for one in decisions.values() if one.model)
    assert all_.late == sum(
        used > decisions[offset].budget_ms + 10 for offset, used in zip(decisions, used_ms, strict=True)
    )
    assert all_.latency_ms["p99"] == pytest.approx(np.quantile(used_ms, 0.99))
    assert all_.latency_ms["most"] == max(used_ms)
    assert {one.model: one.scored for one in found.models} == dict.fromkeys(MODELS, len(decisions))


@pytest.mark.timeout(240)
def test_a_live_page_has_what_is_not_archived_yet_and_its_numbers_are_those_on_the_topics(
    cluster: Cluster, tmp_path: Path, name: str
):
    # A file is closed every 300 records: of 500 requests the archive has 300, and the topics have the rest.
    text = FILE.replace("max_age_s = 1.0", "max_age_s = 3600.0\nmax_rows = 300")
    file, out = write(tmp_path, name, text=text), tmp_path / "now.html"
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        raw = send(cluster, pipeline.topics.raw, [good(number) for number in range(300)], 300)

        def kept(topic: str) -> int:
            return sum(1 for _ in read_partition(pipeline.archive, topic, 0))

        until(lambda: min(map(kept, (pipeline.topics.raw, pipeline.topics.decisions))) == 300, 30, "archived")
        with live(pipeline, file, out) as process:
            raw |= send(cluster, pipeline.topics.raw, [good(number) for number in range(300, 500)], 300)
            decided = outcome(pipeline, raw)
            until(lambda: complete(out, 500), 60, "all 500")
            agree(shown(out), decided)
            assert kept(pipeline.topics.raw) == kept(pipeline.topics.decisions) == 300, "the archive did not tell it"
            raw |= send(cluster, pipeline.topics.raw, [good(number) for number in range(500, 600)], 300)
            decided = outcome(pipeline, raw)
            until(lambda: complete(out, 600), 60, "all 600")
            assert "location.reload()" in out.read_text()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
            assert (process.returncode, len(said.strip().splitlines())) == (130, 1), said
        agree(shown(out), decided)
        assert "location.reload()" not in out.read_text(), "it is at rest"
        assert list((tmp_path / "tmp").iterdir()) == []
        assert kept(pipeline.topics.raw) in {300, 600}, "it was not touched"
