"""model.<name> -> scores

One process per model. Rows whose deadline has passed are skipped and counted, unless the model wants them;
a row without a finite score is an error of that row. A model that raises or crashes stays its own problem.
"""

from confluent_kafka import Message

from schemas.blocks import Rows, decode_rows, encode_scores
from schemas.dead_letters import DeadLetter
from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline
from schemas.topics import Topics
from streams.core.scoring import Scoring
from streams.kafka.batch import Batch, Outgoing
from streams.kafka.transport import BatchApp
from streams.kill_points import reached


def attach(app: BatchApp, pipeline: Pipeline, model: Model, scoring: Scoring) -> None:
    """Put the scorer of one model on the app."""
    topics = Topics(pipeline.name)

    @app.agent(app.topic(topics.model(model.name)), name="scorer")
    async def scorer(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        async for batch in batches:
            rows = [block for block in [await readable(app, batch, m) for m in batch.messages] if block]
            reached("scorer.before_score")
            found = [scoring.score(call, app.producer.now_ms()) for call in scoring.calls(rows)]
            await app.producer.send_batch(
                batch, [Outgoing(topics.scores, encode_scores(b), None, batch.partition) for b in found if b]
            )
            reached("scorer.after_send")


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
