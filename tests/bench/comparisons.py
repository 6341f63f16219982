"""`rendezvous archive comparisons` over a million requests: how long, and how much memory; nothing else starts.

Four models, 1,000 requests a second, blocks of 16 rows. In the second run one of the models never answers, so that
each record is held as long as it may be. `python -m tests.bench.comparisons [REQUESTS]` prints the figures.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from schemas.blocks import TickBlock, encode_scores, score_block
from schemas.decisions import Decision, Outcome, ScoreSeen, Ticket, encode_decision
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from tests.unit.lived import START_MS
from tests.unit.small import TEXT, pipeline

BLOCK, PART = 16, 8_000
LIMITS = Limits(max_rows=100_000, max_bytes=64 << 20, max_age_s=3600)


def write(root: Path, count: int, silent: str) -> None:
    """An archive of so many requests; one model is `silent`."""
    topics, models = Topics("small"), [model for model in pipeline().models if model.name != silent]
    writers = [PartitionWriter(Layout(root, topic, 0), LIMITS, "", "bench") for topic in
               (topics.raw, topics.scores, topics.decisions)]  # fmt: skip
    positions = 0
    for start in range(0, count, PART):
        part = range(start, min(start + PART, count))
        raw = [Record(n, START_MS + n, 1, b"k", b'{"request_id":"r%d","x":%d}' % (n, n % 100), None) for n in part]
        scores, chance = [], np.random.default_rng(start)
        values = {model.name: chance.random(len(part)) for model in models}
        for first in range(0, len(part), BLOCK):
            for model in models:
                own = np.array(part[first : first + BLOCK])
                block = score_block(model.name, model.version, own, values[model.name][first : first + BLOCK])
                scores.append(Record(positions, int(own[-1]) + START_MS + 10, 1, None, encode_scores(block), None))
                positions += 1
        decisions = [_decision(n, {name: float(found[n - start]) for name, found in values.items()}) for n in part]
        for writer, records in zip(writers, (raw, scores, decisions), strict=True):
            writer.append(records, 0.0)
            if writer.due(0.0):
                writer.close_segment()
    end_ms = START_MS + count + 1_000  # as long as a rendezvous lives, ticks follow
    writers[1].append([Record(positions, end_ms, 1, None, encode_scores(TickBlock(0.0)), None)], 0.0)
    for writer in writers:
        writer.close_segment()


def _decision(offset: int, scores: dict[str, float]) -> Record:
    at_ms = START_MS + offset
    seen = {name: ScoreSeen(score, "1", 10) for name, score in scores.items()}
    decision = Decision(
        f"r{offset}", Ticket(0, offset), Outcome.PREFERRED, True, 0, "first", "1", scores["first"], seen, [], {}, {},
        100, 12.0, at_ms + 12, "the champion first answered after 10 ms",
    )  # fmt: skip
    return Record(offset, at_ms + 30, 1, b"k", encode_decision(decision), None)


def compared(folder: Path, root: Path, count: int) -> dict[str, float]:
    """Time the command itself, from its start to its end."""
    file, out = folder / "pipeline.toml", folder / "comparisons.parquet"
    file.write_text(TEXT)
    command: Iterable[str] = (
        *(sys.executable, "-m", "agents", "archive", "comparisons"),
        *("-P", str(file), "--root", str(root), "--out", str(out)),
    )
    started_s = time.monotonic()
    with subprocess.Popen([*command], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        _, code, used = os.wait4(child.pid, 0)
        child.returncode = code
    took_s = time.monotonic() - started_s
    if code or f"{count:,} rows" not in said:
        raise RuntimeError(f"not every request is in it: {said}")
    return {
        "seconds": took_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "requests_per_s": count / took_s,
        "peak_mb": used.ru_maxrss / 1024,
        "bytes_per_request": out.stat().st_size / count,
    }


def figures(count: int, silent: str) -> dict[str, float]:
    """One run. The archive is written by a process of its own: a child's peak begins with what its parent has held."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        writing = multiprocessing.get_context("spawn").Process(target=write, args=(folder / "archive", count, silent))
        writing.start()
        writing.join()
        if writing.exitcode:
            raise RuntimeError(f"the archive was not written: {writing.exitcode}")
        return compared(folder, folder / "archive", count)


def main(count: int) -> None:
    """Both runs."""
    for silent in ("", "mirror"):
        print(json.dumps({"silent": silent, "requests": count} | figures(count, silent)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
