"""A live run, played: a desk that reads late, wakes late and has a clock of its own; and the archive it leaves."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from schemas.blocks import RowError, ScoreBlock, TickBlock, encode_scores, score_block
from schemas.decisions import encode_decision
from schemas.pipeline import Pipeline, Role
from schemas.requests import Headers
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.entitlement import Spans
from streams.core.lead import LEAD_MS
from streams.core.learned import NOTHING, Learned
from streams.core.rendezvous import Rendezvous
from streams.core.validator import Validator

START_MS = 1_764_000_000_000


@dataclass
class Lived:
    """The logs of one partition; `enriched` is for whoever has tables to fill."""

    raw: list[Record] = field(default_factory=list)
    scores: list[Record] = field(default_factory=list)
    decisions: list[Record] = field(default_factory=list)
    enriched: list[Record] = field(default_factory=list)

    def write(self, root: Path, pipeline: str, partition: int = 0, rows: int = 1000) -> Path:
        """As the archiver would."""
        topics = Topics(pipeline)
        for topic, records in (
            (topics.raw, self.raw),
            (topics.scores, self.scores),
            (topics.decisions, self.decisions),
            (topics.enriched, self.enriched),
        ):
            writer = PartitionWriter(Layout(root, topic, partition), Limits(rows, 1 << 26, 60.0), "id", "w")
            for start in range(0, len(records), rows):
                writer.append(records[start : start + rows], 0.0)
                writer.close_segment()
        return root


def play(
    pipeline: Pipeline,
    values: Sequence[bytes],
    seed: int = 1,
    latency_ms: Callable[[random.Random, str], float | None] = lambda dice, model: dice.expovariate(1 / 30),
    score: Callable[[str, int], float] | None = None,
    rate: float = 0.5,
    partition: int = 0,
    headers: Callable[[int], Headers | None] = lambda _: None,
    learned: Learned = NOTHING,
    spans: Spans | None = None,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> Lived:
    """Requests at `rate` per ms; a latency of None is a model that never answers, a negative one an error.

    `beside` are other versions of some models, which are sooner, and say another number.
    """
    dice = random.Random(seed)
    own = random.Random(seed + 1)
    lived = Lived()
    at_ms = float(START_MS)
    for offset, value in enumerate(values):
        at_ms += dice.expovariate(rate)
        lived.raw.append(Record(offset, int(at_ms), 1, b"k", value, headers(offset)))
    blocks: list[tuple[float, ScoreBlock | TickBlock]] = []
    for record in lived.raw:
        for model in pipeline.models:
            took = latency_ms(dice, model.name) if model.role is not Role.DECOY else None
            if took is None:
                continue
            one = np.array([record.offset])
            found = score(model.name, record.offset) if score else round(own.random(), 6)
            block = score_block(model.name, model.version, one, np.array([found]))
            if took < 0:
                block = ScoreBlock(model.name, model.version, b"", b"", (RowError(record.offset, "raised"),))
            blocks.append((record.timestamp_ms + abs(took), block))
            if model.name in beside:
                other = score_block(model.name, beside[model.name], one, np.array([0.5 + found / 2]))
                blocks.append((record.timestamp_ms + abs(took) / 2, other))
    blocks += [(tick, TickBlock(0.0)) for tick in range(START_MS, int(at_ms) + 2_000, 500)]
    blocks.sort(key=lambda pair: pair[0])
    for position, (log_ms, block) in enumerate(blocks):
        lived.scores.append(Record(position, int(log_ms), 1, None, encode_scores(block), None))
    _answer(pipeline, lived, [block for _, block in blocks], dice, partition, learned, spans)
    return lived


def _answer(
    pipeline: Pipeline,
    lived: Lived,
    blocks: Sequence[ScoreBlock | TickBlock],
    dice: random.Random,
    partition: int,
    learned: Learned,
    spans: Spans | None,
) -> None:
    core = Rendezvous(pipeline, partition, lead_ms=LEAD_MS, spans=spans, learned=learned)
    validator = Validator(pipeline)
    raw, scores, now = 0, 0, float(START_MS)
    while now < lived.scores[-1].timestamp_ms + 1_000:
        now += dice.choice((1, 3, 5, 60 if dice.random() < 0.05 else 2))
        clock = now + dice.uniform(-2, 2)
        replies = []
        for which in dice.sample(("raw", "scores"), 2):
            if which == "raw":
                upto = now - dice.choice((0, 1, 12))
                batch = []
                while raw < len(lived.raw) and lived.raw[raw].timestamp_ms <= upto:
                    one = lived.raw[raw]
                    batch.append(
                        validator.read(one.value, one.headers, one.key, partition, one.offset, one.timestamp_ms)
                    )
                    raw += 1
                replies += core.requests_seen(batch, clock)
            else:
                upto = now - dice.choice((0, 1, 6))
                while scores < len(lived.scores) and lived.scores[scores].timestamp_ms <= upto:
                    log_ms = lived.scores[scores].timestamp_ms
                    replies += core.scores_offered(blocks[scores], scores, log_ms, clock)
                    scores += 1
        if dice.random() < 0.8:
            replies += core.due(clock)
        for reply in replies:
            record = Record(len(lived.decisions), int(now) + 1, 1, b"k", encode_decision(reply.decision), None)
            lived.decisions.append(record)
