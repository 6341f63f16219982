"""The rendezvous pipeline as one would write it by hand: plain confluent-kafka loops, one JSON per event.

`python -m tests.bench.by_hand STAGE BOOTSTRAP NAME FILE [MODEL]`; prints `ready` when it has its partitions. The same
models, features, client versions and settings as ours; commits only past confirmed outputs. It waits for every score
and has no deadline, no policy, no explanation beyond the scores: what it leaves out is in its favour.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas.decisions import Decision, Outcome, ScoreSeen, Ticket, encode_decision
from schemas.pipeline import Pipeline
from schemas.requests import Request
from schemas.topics import Topics
from streams.core.enrichment import Enrichment
from streams.core.features import FeatureTable
from streams.core.validator import Validator
from streams.kafka.clients import Cluster
from streams.pipeline_file import load

Out = tuple[str, bytes, bytes | None]


class Row(msgspec.Struct):
    """One event for one model."""

    offset: int
    at_ms: int
    features: list[float]


class Score(msgspec.Struct):
    """One model's score of one event."""

    model: str
    version: str
    offset: int
    score: float


def loop(cluster: Cluster, group: str, topics: Sequence[str], work: Callable[[list[Message]], Iterable[Out]]) -> None:
    """Poll one, then what is there; work; produce; commit past what is confirmed."""
    settings = cluster.consumer_settings(group, f"{group}.0") | {"auto.offset.reset": "earliest"}
    consumer, producer = Consumer(settings), Producer(cluster.producer_settings(linger_ms=1))
    pending, committed_s = 0, 0.0
    last: dict[str, int] = {}

    def delivered(error: object, _: Message) -> None:
        nonlocal pending
        if error is not None:
            raise RuntimeError(str(error))
        pending -= 1

    consumer.subscribe(list(topics), on_assign=lambda *_: print("ready", flush=True))
    while True:
        messages = consumer.consume(1, 0.1)
        if messages:
            messages += consumer.consume(1023, 0)
        for topic, value, key in work(messages):
            while True:
                try:
                    producer.produce(topic, value, key, 0, delivered)
                except BufferError:
                    producer.poll(0.005)
                else:
                    break
            pending += 1
        for message in messages:
            last[message.topic() or ""] = message.offset() or 0
        producer.poll(0)
        if pending == 0 and last and time.monotonic() - committed_s > 0.25:
            committed_s = time.monotonic()
            places = [TopicPartition(topic, 0, offset + 1) for topic, offset in last.items()]
            consumer.commit(offsets=places, asynchronous=True)
            last.clear()


def router(pipeline: Pipeline) -> Callable[[list[Message]], Iterable[Out]]:
    """Raw JSON -> one JSON per model."""
    topics, validator, enrichment = Topics(pipeline.name), Validator(pipeline), Enrichment(pipeline)
    table = FeatureTable(pipeline.features, {}, pipeline.enrich)
    encode = msgspec.json.Encoder().encode
    targets = [topics.model(model.name) for model in pipeline.models]

    def work(messages: list[Message]) -> Iterable[Out]:
        requests = enrichment.join([_request(message, validator) for message in messages])
        if requests:
            for request, features in zip(requests, table.matrix(requests).tolist(), strict=True):
                value = encode(Row(request.offset, request.at_ms, features))
                for target in targets:
                    yield target, value, None

    return work


def scorer(pipeline: Pipeline, folder: Path, name: str) -> Callable[[list[Message]], Iterable[Out]]:
    """One JSON per event -> one JSON score per event, the model asked once per pass."""
    import lightgbm

    model = pipeline.model(name)
    booster = lightgbm.Booster(model_file=str(folder / model.artifact))
    decode, encode = msgspec.json.Decoder(Row).decode, msgspec.json.Encoder().encode
    target = Topics(pipeline.name).scores

    def work(messages: list[Message]) -> Iterable[Out]:
        rows = [decode(message.value() or b"") for message in messages]
        if rows:
            scores = booster.predict(np.array([row.features for row in rows]), num_threads=1).tolist()
            for row, score in zip(rows, scores, strict=True):
                yield target, encode(Score(name, model.version, row.offset, score)), None

    return work


def joiner(pipeline: Pipeline) -> Callable[[list[Message]], Iterable[Out]]:
    """Raw and scores -> one decision when every score is there."""
    topics, validator = Topics(pipeline.name), Validator(pipeline)
    decode = msgspec.json.Decoder(Score).decode
    champion, wanted = pipeline.models[0].name, len(pipeline.models)
    requests: dict[int, Request] = {}
    scores: dict[int, dict[str, ScoreSeen]] = {}

    def decided(offset: int) -> Out:
        request, seen = requests.pop(offset), scores.pop(offset)
        now_ms = time.time() * 1e3
        winner = seen[champion]
        decision = Decision(
            request_id=request.request_id,
            ticket=Ticket(0, offset),
            outcome=Outcome.PREFERRED,
            final=True,
            revision=0,
            model=champion,
            version=winner.version,
            score=winner.score,
            scores=seen,
            missing=[],
            failed={},
            not_asked={},
            budget_ms=request.budget_ms,
            used_ms=round(now_ms - request.at_ms, 1),
            decided_at_ms=int(now_ms),
            reason="the champion answered",
        )
        return topics.decisions, encode_decision(decision), request.key

    def work(messages: list[Message]) -> Iterable[Out]:
        for message in messages:
            if message.topic() == topics.raw:
                request = _request(message, validator)
                offset = request.offset
                requests[offset] = request
            else:
                score = decode(message.value() or b"")
                offset = score.offset
                seen = ScoreSeen(score.score, score.version, 0)
                scores.setdefault(offset, {})[score.model] = seen
            if offset in requests and len(scores.get(offset, ())) == wanted:
                yield decided(offset)

    return work


def _request(message: Message, validator: Validator) -> Request:
    at_ms, offset = message.timestamp()[1], message.offset() or 0
    found = validator.read(message.value(), message.headers(), message.key(), 0, offset, at_ms)
    if not isinstance(found, Request):
        raise TypeError(found.reason)
    return found


def main(stage: str, bootstrap: str, file: str, model: str = "") -> None:
    """Run one stage for ever."""
    pipeline, cluster = load(Path(file)), Cluster(bootstrap)
    topics = Topics(pipeline.name)
    group = f"{pipeline.name}.{stage}{model}"
    if stage == "router":
        loop(cluster, group, [topics.raw], router(pipeline))
    elif stage == "scorer":
        loop(cluster, group, [topics.model(model)], scorer(pipeline, Path(file).parent, model))
    else:
        loop(cluster, group, [topics.raw, topics.scores], joiner(pipeline))


if __name__ == "__main__":
    main(*sys.argv[1:])
