"""One event to many models: which models are asked for which requests, and the blocks they are sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from schemas.blocks import MAX_ROWS, NotAskedBlock, RowError, Rows, ScoreBlock, pack_offsets
from schemas.needs import Needing
from schemas.pipeline import Model, Pipeline, Role
from schemas.requests import Request
from streams.core.enrichment import event_of
from streams.core.entitlement import PerSpan, Spans, always
from streams.core.features import Derivation, FeatureTable

OVERLOADED = "the pipeline is overloaded"
REPEATED = "it repeats an earlier request"
RECENT = 0.2
NEVER = 2.0

EVENT_BYTES = 512 << 10
"""Bytes of events that one block carries, unless a single one is larger: what the topic takes is twice that."""


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """The models that are asked, each with its columns, and those of them that are sent no request past its deadline.

    `needs` are the models and versions whose scores some of them need, by who needs them; `lacking`, why some cannot
    be asked: what they need is not there. `limits` are the shares of the budget from which each is passed over.
    """

    models: list[tuple[Model, list[int]]]
    in_time_only: tuple[str, ...]
    needs: Mapping[str, tuple[tuple[str, str], ...]]
    lacking: Mapping[str, str]
    limits: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fan:
    """What one batch becomes: rows for each model, and which models were passed over for which requests.

    `needing` are rows that wait for scores first; `lacking` the errors of rows that would wait for nobody.
    """

    rows: list[tuple[Model, Rows]]
    not_asked: list[NotAskedBlock]
    asked: int
    needing: list[Needing] = field(default_factory=list)
    lacking: list[ScoreBlock] = field(default_factory=list)


class FanOut:
    """Asks models for what they can make.

    When events wait, shadows are passed over first, then challengers, then everybody: work on a request that will
    be late makes the next one late too, until all are (first come, first served, fails at once under overload). A
    request past its deadline is sent only to models that always want it (`expired = "score"`), and with them to a
    decoy. Who is asked for a
    request is said by the roster as of its log time, so that any router asks each model for the same requests. Pure:
    the time (ms, broker's clock) is an argument, and what a row costs is told by `took`.
    """

    def __init__(
        self, pipeline: Pipeline, derivations: Mapping[str, Derivation] | None = None, spans: Spans | None = None
    ) -> None:
        self._table = FeatureTable(pipeline.features, derivations, pipeline.enrich)
        self._tables = [table.name for table in pipeline.enrich]
        self._limits = {
            Role.SHADOW: pipeline.overload.shadows,
            Role.CHALLENGER: pipeline.overload.challengers,
        }
        self._everybody = pipeline.overload.everybody
        self._row_ms = 0.0
        self._audiences = PerSpan(spans or always(pipeline), self._audience)

    def entitle(self, spans: Spans) -> None:
        """More of the roster's history is known."""
        self._audiences.follow(spans)

    def _audience(self, pipeline: Pipeline) -> Audience:
        models = [(model, self._table.indices(pipeline.own_features_of(model))) for model in pipeline.models]
        versions = {model.name: model.version for model in pipeline.models if model.role is not Role.DECOY}
        needs, lacking = dict[str, tuple[tuple[str, str], ...]](), dict[str, str]()
        for model in pipeline.models:
            absent = [name for name in model.needs if name not in versions]
            if absent:
                lacking[model.name] = f"needs {', '.join(absent)}, which is not asked any more"
            elif model.needs:
                needs[model.name] = tuple((name, versions[name]) for name in model.needs)
        return Audience(
            models,
            _in_time_only(pipeline),
            needs,
            lacking,
            {model.name: self._limit(model, pipeline) for model in pipeline.models},
        )

    def _limit(self, model: Model, pipeline: Pipeline, seen: frozenset[str] = frozenset()) -> float:
        """Who is needed is passed over no earlier than those who need it."""
        own = self._limits.get(model.role, NEVER)
        others = [one for one in pipeline.models if model.name in one.needs and one.name not in seen]
        return max([own, *(self._limit(one, pipeline, seen | {model.name}) for one in others)])

    def fan(self, requests: Sequence[Request], now_ms: float) -> Fan:
        """Blocks for at most 256 requests. Raises what a derivation raises."""
        if len(requests) > MAX_ROWS:
            raise ValueError(f"{len(requests)} requests at once; a block holds {MAX_ROWS}")
        parts = [
            self._fan(list(part), audience, now_ms)
            for audience, part in groupby(requests, lambda request: self._audiences.at(request.at_ms))
        ]
        if len(parts) == 1:
            return parts[0]
        rows = [row for part in parts for row in part.rows]
        not_asked = [block for part in parts for block in part.not_asked]
        needing = [one for part in parts for one in part.needing]
        lacking = [block for part in parts for block in part.lacking]
        return Fan(rows, not_asked, sum(part.asked for part in parts), needing, lacking)

    def _fan(self, requests: Sequence[Request], audience: Audience, now_ms: float) -> Fan:
        live = self._in_time(requests, now_ms)
        ready_ms = now_ms + self._row_ms * len(live)
        waited = max(((ready_ms - request.at_ms) / request.budget_ms for request in live), default=0.0)
        asked = [one for one in audience.models if waited < audience.limits[one[0].name]]
        passed = tuple(model.name for model, _ in audience.models if waited >= audience.limits[model.name])
        rows = self._rows(requests, live, asked, audience.in_time_only)
        not_asked = []
        if passed and live:
            not_asked.append(NotAskedBlock(passed, pack_offsets([request.offset for request in live]), OVERLOADED))
        if len(live) < len(requests):
            chosen = {request.offset for request in live}
            left = [request.offset for request in requests if request.offset not in chosen]
            not_asked.append(NotAskedBlock(audience.in_time_only, pack_offsets(left), OVERLOADED))
        fan = Fan(rows, not_asked, len(live))
        return _coupled(fan, audience) if audience.needs or audience.lacking else fan

    def unasked(self, requests: Sequence[Request]) -> list[NotAskedBlock]:
        """What is said of requests that repeat others: they are given an answer, and no model is asked again."""
        parts = groupby(requests, lambda request: self._audiences.at(request.at_ms))
        return [
            NotAskedBlock(
                tuple(model.name for model, _ in audience.models),
                pack_offsets([request.offset for request in part]),
                REPEATED,
            )
            for audience, part in parts
        ]

    def took(self, elapsed_ms: float, asked: int) -> None:
        """How long the fan of this many requests took: an average over the last few."""
        if asked:
            self._row_ms += RECENT * (elapsed_ms / asked - self._row_ms)

    def _in_time(self, requests: Sequence[Request], now_ms: float) -> Sequence[Request]:
        """Those whose models can still answer: all, or the newest ones, as many as can be made ready."""
        share = self._everybody
        ready_ms = now_ms + self._row_ms * len(requests)
        if all(ready_ms - request.at_ms < share * request.budget_ms for request in requests):
            return requests
        chosen: list[Request] = []
        for request in reversed(requests):
            if now_ms + self._row_ms * (len(chosen) + 1) - request.at_ms < share * request.budget_ms:
                chosen.append(request)
        return chosen[::-1]

    def _rows(
        self,
        requests: Sequence[Request],
        live: Sequence[Request],
        asked: Sequence[tuple[Model, list[int]]],
        in_time_only: Sequence[str],
    ) -> list[tuple[Model, Rows]]:
        wanted = requests if any(model.name not in in_time_only for model, _ in asked) else live
        if not wanted or not asked:
            return []
        offsets = np.array([request.offset for request in wanted], dtype=np.int64)
        deadlines = np.array([request.at_ms + request.budget_ms for request in wanted], dtype=np.int64)
        matrix = self._table.matrix(wanted)
        places = None
        if len(wanted) != len(live):
            alive = {request.offset for request in live}
            places = np.array([request.offset in alive for request in wanted])
        takes_events = any(model.takes == "events" for model, _ in asked)
        joined = tuple(event_of(request, self._tables) for request in wanted) if takes_events else ()
        rows = []
        for model, columns in asked:
            chosen = matrix if len(columns) == matrix.shape[1] and columns == sorted(columns) else matrix[:, columns]
            events = joined if model.takes == "events" else ()
            own = Rows(model.name, offsets, deadlines, chosen, events)
            if places is not None and model.name in in_time_only:
                own = own.part(places)
            rows += [(model, part) for part in cut(own) if len(part.offsets)]
        return rows


def _in_time_only(pipeline: Pipeline) -> tuple[str, ...]:
    """Who is sent no request past its deadline. A decoy is, as soon as any model is: it records what models get."""
    late = any(model.late_rows == "score" for model in pipeline.models)
    return tuple(
        model.name
        for model in pipeline.models
        if model.late_rows != "score" and not (late and model.role is Role.DECOY)
    )


def _coupled(fan: Fan, audience: Audience) -> Fan:
    """The same with the rows of models that need others' scores put aside."""
    plain, needing, lacking = list[tuple[Model, Rows]](), list[Needing](), list[ScoreBlock]()
    for model, rows in fan.rows:
        if reason := audience.lacking.get(model.name):
            errors = tuple(RowError(offset, reason) for offset in rows.offsets.tolist())
            lacking.append(ScoreBlock(model.name, model.version, b"", b"", errors))
        elif pairs := audience.needs.get(model.name):
            needing.append(Needing(model.version, pairs, rows))
        else:
            plain.append((model, rows))
    return Fan(plain, fan.not_asked, fan.asked, needing, lacking)


def cut(rows: Rows) -> list[Rows]:
    """The same rows in blocks whose events are not too large for a record."""
    if sum(map(len, rows.events)) <= EVENT_BYTES:
        return [rows]
    parts, start, size = [], 0, 0
    for place, event in enumerate(rows.events):
        if size and size + len(event) > EVENT_BYTES:
            parts.append(rows.part(slice(start, place)))
            start, size = place, 0
        size += len(event)
    return [*parts, rows.part(slice(start, len(rows.offsets)))]
