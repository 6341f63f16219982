"""model.<name> -> scores

One process per model, or several that share its partitions. Rows whose deadline has passed are skipped and counted,
unless the model wants them, in the role that the roster gives it now; a row without a finite score is an error of
that row. A model that raises or crashes stays its own problem: what it has in its hands is noted, so that its next
life knows what to be wary of.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Message
from faust.types import TP

from agents.in_hand import InHand
from agents.roster_watch import RosterWatch
from schemas.blocks import Rows, ScoreBlock, decode_rows, encode_rows, encode_scores
from schemas.dead_letters import DeadLetter
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.core.scoring import Scoring
from streams.kafka.batch import Batch, Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.transport import BatchApp
from streams.kill_points import reached

ROW_ENDS_PROCESS = "EndsProcess"
ASK_MS = 1000.0
"""Who finds rows late asks the broker for its time so often: its own may have come off it."""


def attach(app: BatchApp, pipeline: Pipeline, cluster: Cluster, scoring: Scoring, in_hand: InHand) -> None:
    """Put the scorer of one model on the app."""
    topics = Topics(pipeline.name)

    def died(error: Exception) -> None:
        app.add_future(app.crash(error))

    roster = RosterWatch(pipeline, cluster, scoring.entitle, died)

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, __: Iterable[TP], **___: Any) -> None:
        roster.follow()

    @app.agent(app.topic(topics.model(scoring.model.name)), name="scorer")
    async def scorer(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        producer, asked_ms, skipped = app.producer, 0.0, 0
        async for batch in batches:
            rows = [block for block in [await readable(app, batch, m) for m in batch.messages] if block]
            reached("scorer.before_score")
            waiting = rows_behind(app, batch, rows) if scoring.late_rows(producer.now_ms()) == "spare" else 0
            work = scoring.work(rows, batch.partition, waiting)
            for row, reason in work.condemned:
                origin = (batch.topic, batch.partition, first_offset(batch))
                letter = DeadLetter(*origin, "scorer", ROW_ENDS_PROCESS, reason)
                await producer.dead_letter(batch, letter, None, encode_rows(row))
            await send(app, batch, topics, work.refused)
            while (chosen := work.take(started_ms := producer.now_ms())) is not None:
                in_hand.took(batch.partition, first_offset(batch), chosen)
                try:
                    block = scoring.block(chosen, started_ms)
                finally:
                    in_hand.freed()
                scoring.took(producer.now_ms() - started_ms, len(chosen.offsets))
                # Each at once: the rows after it may take long.
                await send(app, batch, topics, [block])
            if scoring.skipped > skipped and producer.now_ms() - asked_ms > ASK_MS:
                skipped, asked_ms = scoring.skipped, producer.now_ms()
                await producer.ask_time()  # are they late, or is the clock wrong?
            reached("scorer.after_send")


async def send(app: BatchApp, batch: Batch, topics: Topics, blocks: Sequence[ScoreBlock]) -> None:
    """Put scores where the rows' partition is."""
    records = [Outgoing(topics.scores, encode_scores(block), None, batch.partition) for block in blocks]
    if records:
        await app.producer.send_batch(batch, records)


def rows_behind(app: BatchApp, batch: Batch, rows: Sequence[Rows]) -> int:
    """About how many rows wait behind this batch: as many in a record as in its own."""
    return max(0, app.consumer.lag() - len(batch)) * sum(len(block.offsets) for block in rows) // len(batch)


def first_offset(batch: Batch) -> int:
    """Where a batch begins in its partition."""
    return batch.messages[0].offset() or 0


async def readable(app: BatchApp, batch: Batch, message: Message) -> Rows | None:
    """The rows of one record; None when it is none, and then it is a dead letter."""
    value = message.value()
    try:
        return decode_rows(value)
    except UnreadableRecord as error:
        offset = message.offset()
        letter = DeadLetter(batch.topic, batch.partition, offset, "scorer", "UnreadableRecord", str(error))
        await app.producer.dead_letter(batch, letter, message.key(), value)
        return None
