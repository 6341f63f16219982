"""What a model has shown beside the champion: the last decisions and both models' scores, joined by ticket."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.cli.decisions import first_finals
from agents.cli.known import LabelsSince
from schemas.blocks import ScoreBlock, decode_scores, offsets_of, scores_of
from schemas.decisions import Decision, Outcome, Ticket
from schemas.errors import UnreadableRecord
from schemas.pipeline import Model, Pipeline
from schemas.requests import Request
from schemas.roster import Began, State
from schemas.topics import Topics
from streams.core.coupling import with_scores
from streams.core.enriched_past import EnrichedPast
from streams.core.enrichment import Enrichment, event_of
from streams.core.entitlement import History
from streams.core.features import FeatureTable
from streams.core.gates import Shown
from streams.core.given import Given
from streams.core.validator import Validator
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.records import read_record
from streams.models.loading import resolve

LOOKED_AT = 2_000
"""Decisions of each partition that are looked at, if the gates do not need more."""

SETTLED_MS = 1_000
"""How long after its deadline a request's scores are waited for before it is judged."""


@dataclass(slots=True)
class Asked:
    """One request that both were asked for."""

    request_id: str
    at_ms: int
    budget_ms: int
    score: float | None = None
    scored_ms: int | None = None
    failed: bool = False
    champion: float | None = None


def asked_of(
    cluster: Cluster, pipeline: Pipeline, history: History, candidate: Model, last: int
) -> dict[Ticket, Asked]:
    """What the model made of the last requests that it and the champion were asked for, by ticket.

    One that stands beside another version of its name is given what that is given.
    """
    topics, roster = Topics(pipeline.name), history.roster
    champion = roster.members[roster.champion].model
    asked = dict(_asked(cluster, topics, history, candidate, last))
    if asked:
        since_ms = min(one.at_ms for one in asked.values())
        with TopicReader(cluster, topics.scores) as reader:
            for message in reader.to_end(reader.at_time(since_ms)):
                try:
                    block = decode_scores(message.value())
                except UnreadableRecord:
                    continue
                if isinstance(block, ScoreBlock):
                    _take(asked, block, message.partition() or 0, message.timestamp()[1], candidate, champion)
    return asked


def shown(asked: Mapping[Ticket, Asked], labels: LabelsSince) -> list[Shown]:
    """The same, held against the labels that came since the first of these requests."""
    if not asked:
        return []
    every = list(asked.values())
    at_ms = np.array([one.at_ms for one in every], dtype=np.int64)
    truths = labels(int(at_ms.min())).join(
        np.array([ticket.partition for ticket in asked], dtype=np.int64),
        np.array([ticket.offset for ticket in asked], dtype=np.int64),
        [one.request_id for one in every],
        at_ms,
    )
    return [
        Shown(
            budget_ms=one.budget_ms,
            score=one.score,
            age_ms=None if one.scored_ms is None else max(0, one.scored_ms - one.at_ms),
            failed=one.failed,
            champion=one.champion,
            label=bool(truth) if known else None,
            weight=weight if known else 1.0,
        )
        for one, truth, known, weight in zip(
            every, truths.truth.tolist(), truths.known.tolist(), truths.weight.tolist(), strict=True
        )
    ]


def enough(look: Callable[[int], list[Shown]], needed: int, there: int) -> list[Shown]:
    """What was shown on the last decisions: on so many of each partition that `needed` requests are among them.

    Not each of them counts (a repeat, one that nobody could read): so it may have to look again, further back, but
    for no more than are `there`.
    """
    last = max(LOOKED_AT, needed)
    found = look(last)
    while len(found) < needed and last < there:
        last *= 4
        found = look(last)
    return found


def decided_since(cluster: Cluster, pipeline: Pipeline, history: History, model: Model) -> int:
    """How many decisions a partition has, at most, since this model has been scoring what the champion scores."""
    with TopicReader(cluster, Topics(pipeline.name).decisions) as reader:
        starts = reader.at_time(int(_since_ms(history, model, 0.0)))
        return max(end - max(low, starts[number]) for number, (low, end) in reader.bounds().items())


def beside_s(history: History, model: Model, oldest_ms: float) -> float:
    """How long a model has been scoring what the champion scores; since `oldest_ms` where no record says it."""
    return max(0.0, time.time() - _since_ms(history, model, oldest_ms) / 1e3)


def _since_ms(history: History, model: Model, oldest_ms: float) -> float:
    """The log time since which this version has been scoring."""
    since_ms = oldest_ms
    for entry in history.entries:
        record = entry.record
        if isinstance(record, Began):
            since_ms = entry.log_ms
        elif (record.model, record.version) == (model.name, model.version) and (
            getattr(record, "before", None) is State.WARMING
        ):
            since_ms = entry.from_ms
    return since_ms


def oldest_ms(cluster: Cluster, pipeline: Pipeline) -> float:
    """The log time of the oldest decision there is; now, when there is none."""
    with TopicReader(cluster, Topics(pipeline.name).decisions) as reader:
        for message in reader.to_end():
            return float(message.timestamp()[1])
    return time.time() * 1e3


def recent(cluster: Cluster, pipeline: Pipeline, count: int, needs: Sequence[str] = ()) -> Given:
    """The last requests on raw as models are given them, features and events; fewer where there are fewer.

    After them the scores of the models it `needs`, of those requests that were decided when all of these were there.
    """
    topics, validator = Topics(pipeline.name), Validator(pipeline)
    with TopicReader(cluster, topics.raw) as reader:
        starts = {number: max(low, end - count) for number, (low, end) in reader.bounds().items()}
        read = [(message.partition() or 0, read_record(message, validator)) for message in reader.to_end(starts)]
    requests = [(number, request) for number, request in read if isinstance(request, Request)][-count:]
    requests.sort(key=lambda one: one[0])  # as they are joined
    if not requests:
        return Given(np.zeros((0, len(pipeline.features) + len(needs))))
    joined = _joined(cluster, pipeline, requests) if pipeline.enrich else [request for _, request in requests]
    derivations = {f.name: resolve(f.derive, f"feature {f.name}: derive") for f in pipeline.features if f.derive}
    matrix = FeatureTable(pipeline.features, derivations, pipeline.enrich).matrix(joined)
    events = [event_of(request, [table.name for table in pipeline.enrich]) for request in joined]
    if not needs:
        return Given(matrix, tuple(events))
    tickets = [Ticket(number, request.offset) for number, request in requests]
    scores = _needed(cluster, topics, min(request.at_ms for _, request in requests), needs)
    whole = [place for place, ticket in enumerate(tickets) if ticket in scores]
    needed = [scores[tickets[place]] for place in whole]
    columns = np.array(needed, dtype=np.float64).reshape(-1, len(needs))
    told = [
        with_scores(events[place], dict(zip(needs, own, strict=True)))
        for place, own in zip(whole, needed, strict=True)
    ]
    return Given(np.hstack([matrix[whole], columns]), tuple(told))


def _needed(cluster: Cluster, topics: Topics, since_ms: int, needs: Sequence[str]) -> dict[Ticket, list[float]]:
    """The scores of these models by ticket, where all of them were there when it was decided."""
    with TopicReader(cluster, topics.decisions) as reader:
        decisions = [decision for _, decision in first_finals(reader.to_end(reader.at_time(since_ms)))]
    return {
        decision.ticket: [decision.scores[name].score for name in needs]
        for decision in decisions
        if all(name in decision.scores for name in needs)
    }


def _joined(cluster: Cluster, pipeline: Pipeline, requests: Sequence[tuple[int, Request]]) -> list[Request]:
    """Requests, by partition, with what the router joined into them."""
    values: dict[int, list[bytes | None]] = {}
    with TopicReader(cluster, Topics(pipeline.name).enriched) as reader:
        for message in reader.to_end(reader.at_time(min(request.at_ms for _, request in requests))):
            values.setdefault(message.partition() or 0, []).append(message.value())
    enrichment, found = Enrichment(pipeline), list[Request]()
    for number in sorted({number for number, _ in requests}):
        own = [request for partition, request in requests if partition == number]
        kept = EnrichedPast(iter(values.get(number, []))).through(max(request.offset for request in own))
        found += enrichment.rejoin(own, kept)
    return found


def _asked(
    cluster: Cluster, topics: Topics, history: History, candidate: Model, last: int
) -> Iterator[tuple[Ticket, Asked]]:
    now_ms = time.time() * 1e3
    beside = candidate.name in history.roster.beside and history.roster.beside[candidate.name].model == candidate
    since_ms = _since_ms(history, candidate, 0.0) if beside else 0.0
    with TopicReader(cluster, topics.decisions) as reader:
        starts = {number: max(low, end - last) for number, (low, end) in reader.bounds().items()}
        for _, decision in first_finals(reader.to_end(starts)):
            at_ms = decision.decided_at_ms - int(decision.used_ms)
            if (
                at_ms >= since_ms
                and _counts(decision, history.spans.at(at_ms), candidate, beside=beside)
                and at_ms + decision.budget_ms + SETTLED_MS < now_ms
            ):
                yield decision.ticket, Asked(decision.request_id, at_ms, decision.budget_ms)


def _counts(decision: Decision, pipeline: Pipeline, candidate: Model, *, beside: bool) -> bool:
    """Whether this version of the model was asked: not for a repeat, not for what nobody could read.

    Whoever stands beside another version is asked whatever that is asked.
    """
    if decision.outcome is Outcome.REJECTED or decision.duplicate_of or candidate.name in decision.not_asked:
        return False
    found = [model for model in pipeline.models if model.name == candidate.name]
    return any(beside or model.version == candidate.version for model in found)


def _take(
    asked: Mapping[Ticket, Asked], block: ScoreBlock, partition: int, log_ms: int, candidate: Model, champion: Model
) -> None:
    made = (block.model, block.version)
    own, other = made == (candidate.name, candidate.version), made == (champion.name, champion.version)
    if not (own or other):
        return
    for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
        one = asked.get(Ticket(partition, offset))
        if one is not None and own and one.score is None:
            one.score, one.scored_ms = score, log_ms
        if one is not None and other:
            one.champion = score
    for error in block.errors if own else ():
        if (one := asked.get(Ticket(partition, error.offset))) is not None:
            one.failed = True
