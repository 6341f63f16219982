"""raw -> model.<name>

Reads each request once, joins into it what the tables say, builds the matrix, and sends every model its own block,
one that needs others' scores by way of its coupler; what was joined is kept on `enriched`. A request that repeats
another is answered as that one was: no model is asked again. The monitor's probes bring along what is joined into
them, so that they are the same each time. What cannot be read goes to the dead letters with its original bytes; the
rendezvous rejects it by the same validator.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from faust.types import TP

from agents.roster_watch import RosterWatch, TokenWatch
from agents.table_watch import TableWatch
from schemas.blocks import (
    NotAskedBlock,
    RejectionBlock,
    RowError,
    ScoresBlock,
    encode_json_rows,
    encode_rows,
    encode_scores,
)
from schemas.dead_letters import DeadLetter
from schemas.enriched import encode_enriched
from schemas.errors import UnreadableRecord
from schemas.needs import encode_needing
from schemas.pipeline import Pipeline
from schemas.probes import JOINED_MARK, NO_TOKENS, Tokens, joined_of
from schemas.requests import Rejection, Request
from schemas.topics import Topics
from streams.core.enrichment import Enrichment
from streams.core.fan_out import Fan, FanOut
from streams.core.features import Derivation
from streams.core.repeats import Firsts
from streams.core.table import Table
from streams.core.validator import Validator
from streams.kafka.batch import Batch, Outgoing
from streams.kafka.clients import Cluster
from streams.kafka.records import read_record
from streams.kafka.transport import BatchApp
from streams.kill_points import reached
from streams.table_file import TableFile

Refused = tuple[str, RowError]
"""A request that only the router could refuse, and a short name of why."""


def attach(
    app: BatchApp,
    pipeline: Pipeline,
    cluster: Cluster,
    derivations: Mapping[str, Derivation],
    files: Mapping[str, TableFile] = MappingProxyType({}),
) -> Callable[[], Mapping[str, float]]:
    """Put the router's agent on the app; returns the figures it shows. `files` hold the tables that are on disk."""
    topics = Topics(pipeline.name)
    validator = Validator(pipeline)
    fan_out = FanOut(pipeline, derivations)
    kept = {
        table.name: Table(table, pipeline.features, file, file.kept.standing if file.kept else None)
        for table in pipeline.enrich
        if (file := files.get(table.name))
    }
    enrichment = Enrichment(pipeline, kept)

    def died(error: Exception) -> None:
        app.add_future(app.crash(error))

    roster = RosterWatch(pipeline, cluster, fan_out.entitle, died)
    tables = TableWatch(pipeline.name, enrichment, cluster, died, files)
    tokens = NO_TOKENS

    def announced(known: Tokens) -> None:
        nonlocal tokens
        tokens = known

    probes = TokenWatch(pipeline, cluster, announced, died) if pipeline.enrich and pipeline.monitor else None

    firsts: dict[int, Firsts] = {}

    @app.on_partitions_assigned.connect(weak=False)
    async def begin(_: Any, __: Iterable[TP], **___: Any) -> None:
        firsts.clear()
        await roster.begin()
        await tables.begin()
        if probes is not None:
            await probes.begin()

    @app.agent(app.topic(topics.raw), name="router")
    async def router(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  Faust's own signature
        producer = app.producer
        async for batch in batches:
            requests, rejections = read(batch, validator)
            reached("router.after_read")
            kept: list[Outgoing] = []
            refused: list[Refused] = []
            if pipeline.enrich and requests:
                requests, refused = join(enrichment, requests, tokens)
                kept = enriched(enrichment, requests, batch.partition, topics)
            known = firsts.setdefault(batch.partition, Firsts(batch.partition, pipeline.request.repeat_s))
            requests, repeats = known.apart(requests)
            started_ms = producer.now_ms()
            try:
                fan = fan_out.fan(requests, started_ms)
            except Exception as error:
                requests, failed = sort_out(requests, fan_out, error)
                refused += [("derive", row) for row in failed]
                fan = fan_out.fan(requests, producer.now_ms())
            fan_out.took(producer.now_ms() - started_ms, fan.asked)
            said = fan.not_asked + fan_out.unasked(repeats)
            await producer.send_batch(batch, kept + outgoing(fan, said, batch.partition, topics))
            reached("router.after_send")
            if rejections or refused:
                await refuse(app, batch, rejections, refused, topics)

    return tables.figures


def read(batch: Batch, validator: Validator) -> tuple[list[Request], list[Rejection]]:
    """Requests and rejections of one batch of raw records."""
    requests: list[Request] = []
    rejections: list[Rejection] = []
    for message in batch.messages:
        found = read_record(message, validator)
        if isinstance(found, Rejection):
            rejections.append(found)
        else:
            requests.append(found)
    return requests, rejections


def join(enrichment: Enrichment, requests: Sequence[Request], tokens: Tokens) -> tuple[list[Request], list[Refused]]:
    """Requests with what the tables say, or what they bring along: who has no token that is known brings nothing.

    A probe whose records are none is refused: by what the tables say now its answer would tell nothing of the code.
    """
    given: dict[int, Request] = {}
    refused: list[Refused] = []
    for request in requests:
        if request.headers and tokens.probe_of(request.headers) is not None:
            try:
                records = joined_of(request.headers)
                if records is not None:
                    given[request.offset] = enrichment.given(request, records)
            except UnreadableRecord as error:
                row = RowError(request.offset, f"the header {JOINED_MARK} of a probe: {error}")
                refused.append(("probe", row))
    out = {row.offset for _, row in refused}
    rest = enrichment.join([one for one in requests if one.offset not in given and one.offset not in out])
    joined = {one.offset: one for one in rest} | given
    return [joined[one.offset] for one in requests if one.offset not in out], refused


def enriched(enrichment: Enrichment, requests: Sequence[Request], partition: int, topics: Topics) -> list[Outgoing]:
    """What was joined into these requests, to be kept: sent before what models are given."""
    values = encode_enriched(enrichment.block(requests)) if requests else []
    return [Outgoing(topics.enriched, value, None, partition) for value in values]


def outgoing(fan: Fan, not_asked: Sequence[NotAskedBlock], partition: int, topics: Topics) -> list[Outgoing]:
    """The records a fan becomes, and who was not asked."""
    records = []
    for model, rows in fan.rows:
        topic = topics.model(model.name)
        values = encode_json_rows(rows) if model.wire == "json" else [encode_rows(rows)]
        records += [Outgoing(topic, value, None, partition) for value in values]
    for needing in fan.needing:
        records.append(Outgoing(topics.needs(needing.rows.model), encode_needing(needing), None, partition))
    said: list[ScoresBlock] = [*not_asked, *fan.lacking]
    return records + [Outgoing(topics.scores, encode_scores(block), None, partition) for block in said]


def sort_out(requests: list[Request], fan_out: FanOut, error: Exception) -> tuple[list[Request], list[RowError]]:
    """Requests a derivation can be run on, and the reasons of those it cannot."""
    good, refused = [], []
    for request in requests:
        try:
            fan_out.fan([request], request.at_ms)
        except Exception as own:
            refused.append(RowError(request.offset, f"a derived feature failed: {own!r}"))
        else:
            good.append(request)
    if not refused:
        raise error
    return good, refused


async def refuse(
    app: BatchApp, batch: Batch, rejections: list[Rejection], refused: list[Refused], topics: Topics
) -> None:
    """Keep what cannot be read, and tell the rendezvous of what only the router could notice."""
    reasons = {rejection.offset: (rejection.error, rejection.reason) for rejection in rejections}
    reasons |= {row.offset: (name, row.reason) for name, row in refused}
    for message in batch.messages:
        if message.offset() in reasons:
            name, reason = reasons[message.offset()]
            place = (batch.topic, batch.partition, message.offset())
            letter = DeadLetter(*place, "router", name, reason, given=message.headers())
            await app.producer.dead_letter(batch, letter, message.key(), message.value())
    if refused:
        block = encode_scores(RejectionBlock(tuple(row for _, row in refused)))
        await app.producer.send_batch(batch, [Outgoing(topics.scores, block, None, batch.partition)])
