"""One pipeline as frozen values: what its TOML file says, with the defaults filled in.

The file is read, and its mistakes are collected, by `streams.pipeline_file`; a `Pipeline` that exists is
complete and consistent. Durations wear their unit; paths are as written, relative to the file.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

MAX_BUDGET_MS = 600_000
"""Ten minutes: a request that may wait longer is a batch job."""


SCORE_OF = ".score"

ModelKey = tuple[str, str]
"""A model's name and version."""


class Role(StrEnum):
    """What a model is for, from the first choice to the mere listener."""

    CHAMPION = "champion"  # the first choice
    CHALLENGER = "challenger"  # answers by the schedule, behind the champion
    SHADOW = "shadow"  # scores everything, never answers
    CANARY = "canary"  # an old, stable model on all of the traffic: the yardstick, never answers
    DECOY = "decoy"  # scores nothing, records what models are given

    @property
    def answers(self) -> bool:
        """Whether a score of this role may become a decision."""
        return self in (Role.CHAMPION, Role.CHALLENGER)


class Kind(StrEnum):
    """What a model is made of: a closed set, because loading a file may run what is in it."""

    LIGHTGBM = "lightgbm"  # a LightGBM text file, checked by sha256
    ONNX = "onnx"  # an ONNX file, checked by sha256, run by onnxruntime
    PYTHON = "python"  # a function, or a class with `load` and `predict`, named as "module:name"
    HTTP = "http"  # a model server that speaks the Open Inference Protocol, version 2
    EXTERNAL = "external"  # a program of yours, in any language, reads `model.<name>` and writes to `scores`
    CONSTANT = "constant"  # the same score for every row


class FeatureType(StrEnum):
    """How a feature's JSON value becomes a float64."""

    NUMBER = "number"  # a finite JSON number
    BOOLEAN = "boolean"  # false is 0, true is 1
    CATEGORY = "category"  # a string of the vocabulary; its place there is the number


class Feature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of the matrix that models see.

    `path` is where the value stands in the event (`a.b` is b inside a; default: the name). Without
    `default` the feature is required. `derive = "module:function"` computes it from the whole event
    instead, once, in the router.
    """

    name: str
    type: FeatureType
    path: str = ""
    vocabulary: tuple[str, ...] = ()
    default: float | bool | str | None = None
    derive: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The path as keys, from the outermost."""
        return tuple((self.path or self.name).split("."))


class Enrich(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table whose record is joined into each event, once, by the router, under the table's name.

    The table is the compacted topic `<pipeline>.<name>`, one JSON object by its key. `key` is the field of the event
    whose text, or whole number, is that key. The latest record counts; with `as_of` the one that held at the event's
    own time: the last whose field `since` is not after the event's field `as_of` (both ms, UTC), nor more than
    `max_age_hours` before it (default: `keep_hours`, for which the past is kept). In either way a record counts for
    requests whose log time is at least `after_ms` after its own. Features read it by their `path`, as
    `<name>.<field>`; their default is what they are where there is none. `state` says where the router holds it: in
    memory, or in a file on disk, for a table that is larger than memory should be.
    """

    name: str
    key: str
    as_of: str = ""
    since: str = ""
    keep_hours: float = 24.0
    max_age_hours: float | None = None
    after_ms: int = 500
    max_records: int = 1_000_000
    state: Literal["memory", "disk"] = "memory"


LateRows = Literal["skip", "spare", "score"]


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model: a name, a version, an artifact and a role.

    `sha256` is 64 hex digits, or the name of a file in `sha256sum` format beside the artifact.
    `features` empty means all of the pipeline's, in its order. `prepare` is `module:function` over the
    matrix, run by the scorer. `expired` says what becomes of rows whose deadline has passed (see `late_rows`).

    `takes` is what a Python model is given: the float64 matrix, a pandas frame with the features' names, or the
    events as dicts; an external one is sent the events beside the features. `url` ends in
    `/v2/models/<name>/infer`, and no call takes longer than `timeout_ms`, nor than its rows have left. `output`
    names the output that holds the scores, where a file or a server has several, and `column` which of its numbers.

    `needs` are models whose scores are part of its input: each is a feature `<name>.score`, after all others where
    `features` does not say otherwise, and a field of that name in an event.

    What the model may take for itself: `memory_mb` for its whole process (0: no limit), `threads` of the libraries
    it calls, `nice` (0 to 19: how far it stands behind other processes). `instances` processes share its partitions.
    """

    name: str
    version: str
    kind: Kind
    role: Role
    artifact: str = ""
    sha256: str = ""
    callable: str = ""
    takes: Literal["matrix", "frame", "events"] = "matrix"
    url: str = ""
    timeout_ms: int = 1_000
    output: str = ""
    column: int | None = None
    value: float | None = None
    features: tuple[str, ...] = ()
    prepare: str = ""
    needs: tuple[str, ...] = ()
    wire: Literal["blocks", "json"] = "blocks"
    expired: Literal["by-role", "skip", "spare", "score"] = "by-role"
    memory_mb: int = 0
    nice: int = 0
    threads: int = 1
    instances: int = 1

    @property
    def late_rows(self) -> LateRows:
        """What becomes of rows whose score would come too late for an answer.

        `skip`: they are left out. `spare`: they are scored after all others, when there is time. `score`: always, in
        the order of the log. By role, those who may answer skip, and who only watches has them in its spare time.
        """
        if self.expired == "by-role":
            return "skip" if self.role.answers else "spare"
        return self.expired

    @property
    def has_scorer(self) -> bool:
        """Whether a scorer process of ours runs it."""
        return self.role is not Role.DECOY and self.kind is not Kind.EXTERNAL

    @property
    def needed_features(self) -> tuple[str, ...]:
        """The scores it is given, as features, in the order of `needs`."""
        return tuple(map(score_feature, self.needs))


def score_feature(model: str) -> str:
    """The feature that a model's score is to those that need it."""
    return f"{model}{SCORE_OF}"


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Until this share of the budget is used, only these models (by name or role) may answer."""

    until: float
    accept: tuple[str, ...]


class PolicyKind(StrEnum):
    """Who answers a request, among those that may."""

    SCHEDULE = "schedule"  # a growing compromise: early in the budget only the most wanted, later others too
    FIRST = "first"  # whoever of champion and challengers is first
    BEST = "best"  # the most wanted of `order` that has come by the deadline; at once when nobody better can come
    WEIGHTED = "weighted"  # the model of the request's cohort (`cohorts`, by `by`); without it the schedule goes on
    COMBINE = "combine"  # several models together: `how` over the scores of `members`
    BANDIT = "bandit"  # the model drawn by how often each of `arms` was right by the labels so far; then the schedule
    RULES = "rules"  # the first of `rules` whose conditions the event fulfils has the schedule; else `steps`


class Cohort(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of all weights' sum, this share of users is answered by this model."""

    model: str
    weight: float


class Member(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model whose score is combined with others', and how much it counts."""

    model: str
    weight: float = 1.0


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an event must say: `field` (a path, as "a.b") compared with `value`; `in` compares with a list.

    It does not hold when the field is absent or of another type than the value.
    """

    field: str
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in"]
    value: float | bool | str | tuple[float | bool | str, ...]


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The schedule of events that fulfil every condition of `when`."""

    name: str
    when: tuple[Condition, ...]
    steps: tuple[Step, ...]


class Guard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score of this model below `min` or above `max` cannot win, and nobody waits for a better one of it."""

    model: str
    min: float | None = None
    max: float | None = None


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may answer, and when. A pure value: the same events, scores and times give the same decisions.

    `answer` is `first`: as soon as an acceptable score is there; or `all`: only when every model asked
    has answered or failed, and at the deadline at the latest. With `refine` the first acceptable answer leaves at
    once, not final, better ones follow as they come, and the final one when none can come, or at the deadline.

    `by` is the field of the event that keeps a user in a cohort (empty: the record's key); another `salt` deals
    the cohorts anew. A combination waits for all members until the share `until` of the budget, then takes at least
    `least` of them; a `vote` is the share of weights whose score is `threshold` or more. A bandit's `arms` are models
    by name (empty: all that may answer), and of the last `remember` requests the labels count.
    """

    kind: PolicyKind = PolicyKind.SCHEDULE
    answer: Literal["first", "all"] = "first"
    steps: tuple[Step, ...] = (
        Step(until=0.6, accept=("champion",)),
        Step(until=1.0, accept=("champion", "challenger")),
    )
    order: tuple[str, ...] = ("champion", "challenger")
    by: str = ""
    salt: str = ""
    cohorts: tuple[Cohort, ...] = ()
    how: Literal["mean", "median", "vote"] = "mean"
    members: tuple[Member, ...] = ()
    threshold: float = 0.5
    until: float = 0.8
    least: int = 1
    arms: tuple[str, ...] = ()
    remember: int = 200_000
    rules: tuple[Rule, ...] = ()
    guards: tuple[Guard, ...] = ()
    refine: bool = False


class RequestShape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a request's id and budget stand, and how long it may take.

    The budget is that of the header `budget-ms`, else of the field `budget` names, else `budget_ms`. The same
    id, key, payload and budget within `repeat_s` is a producer's repeat (0: never), given the first one's answer.
    """

    id: str = "request_id"
    budget: str = ""
    budget_ms: int = 200
    max_budget_ms: int = MAX_BUDGET_MS
    repeat_s: float = 60.0


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request is answered when nothing better is there at its deadline."""

    score: float | None = None


class Archive(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where what went in and came out is kept (default: in the state folder).

    A file is closed at `max_rows`, `max_bytes` or `max_age_s`, whichever comes first. Below the share `warn_free`
    of free disk the archiver raises an alarm, below `stop_free` it does not start. Files whose newest record is older
    than `retention_days` are deleted (0: never); small ones are merged up to `compact_bytes` (0: never). With
    `comparisons`, one record per request is kept of each hour that is over.
    """

    root: str = ""
    max_rows: int = 100_000
    max_bytes: int = 64 << 20
    max_age_s: float = 60.0
    warn_free: float = 0.15
    stop_free: float = 0.05
    retention_days: float = 0.0
    compact_bytes: int = 256 << 20
    comparisons: bool = False


class Output(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a decision carries over from its raw record, and where `reply-to` may send a copy.

    `headers` are names carried over beside `traceparent`. `reply_to_prefix` empty means that the header
    `reply-to` is not obeyed.
    """

    headers: tuple[str, ...] = ()
    reply_to_prefix: str = ""


class Overload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Age of an event when its models get it, as a share of the budget, from which they are no longer asked.

    Shadows first, then challengers; from `everybody` on no model is, because its answer would come too late.
    """

    shadows: float = 0.25
    challengers: float = 0.5
    everybody: float = 0.9


class Quarantine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scorer whose model made its process end `failures` times within `within_s` is not started again."""

    failures: int = 5
    within_s: float = 300.0


class BreakerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the champion is passed over: of its last `requests` scores more than this share were bad.

    Late is a score after `late_after` (a share of the budget), or none; an error is one it says it has none for; a
    guarded one is outside its guard. It comes back `well_s` later at the earliest, when none of the shares is passed.
    """

    late_share: float = 0.5
    error_share: float = 0.1
    guard_share: float = 0.1
    requests: int = 200
    late_after: float = 1.0
    well_s: float = 30.0


class Costs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer costs, in any unit: a score from the threshold on says yes."""

    false_yes: float = 1.0
    false_no: float = 1.0
    true_yes: float = 0.0
    true_no: float = 0.0


class LabelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How models are held against labels, and when a day of decisions is mature: then its figures stay as they are.

    `segments` are fields of the event (`a.b` is b inside a) by whose values figures are split. A day (UTC) is mature
    once it is over and the share `mature_share` of the labels that are `expected` (a share of its requests) is there,
    or `mature_days` have passed.
    """

    threshold: float = 0.5
    segments: tuple[str, ...] = ()
    expected: float = 1.0
    mature_share: float = 0.9
    mature_days: float = 30.0
    costs: Costs | None = None


class Promotion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model must have shown before it is promoted: the gates of `rendezvous models promote`.

    It has been shadow or challenger for `shadow_s`, over at least `requests` requests. Its scores lie between `min`
    and `max`, for the share `agreement` of them (0: it may differ) on the champion's side of `threshold`. 99 in 100
    came within `latency_share` of the budget; at most `error_rate` were errors. Where labels are archived, or given,
    its share of right answers is not below the champion's by more than `accuracy_loss`.
    """

    shadow_s: float = 60.0
    requests: int = 100
    agreement: float = 0.0
    threshold: float = 0.5
    latency_share: float = 0.8
    error_rate: float = 0.01
    accuracy_loss: float = 0.0
    min: float | None = None
    max: float | None = None


class MonitorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the monitor holds live requests against, and whom it tells.

    The first `reference_rows` requests are the reference; it watches every feature that is read from the event, and
    the `fields` named here beside them (`a.b` is b inside a). By the values of `segments` (features, or fields by
    their path) figures are split, and where a change lies in one of them alone that is said. `source` is such a field
    that says who sends: rate and gaps of each source are told, and who falls silent. `probes` records of the
    reference at least (0: none), and as many as show all of it, go down the live road again every `probe_s`, and
    after each move of the roster. After `window_s` without a verdict there is one on what there is. An alarm is
    cleared after `quiet_windows`, and said again every `remind_s` while it lasts; it is also posted to `webhook` as
    JSON, which has `webhook_s` to take it.
    """

    reference_rows: int = 20_000
    fields: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    source: str = ""
    probes: int = 64
    probe_s: float = 60.0
    window_s: float = 300.0
    quiet_windows: int = 3
    remind_s: float = 3_600.0
    webhook: str = ""
    webhook_s: float = 5.0

    @property
    def named(self) -> tuple[str, ...]:
        """Every field that is named here, once."""
        return tuple(dict.fromkeys((*self.fields, *self.segments, *filter(None, [self.source]))))


class KafkaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """librdkafka settings, passed on as they are."""

    consumer: dict[str, str | int | float | bool] = {}
    producer: dict[str, str | int | float | bool] = {}


class Pipeline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of one pipeline file.

    With `standby`, as is the rule, a second rendezvous answers what the first owes while it is dead.
    `replay` names the one run whose replayed records this pipeline takes (`streams.core.replay`); its name is then
    `replay.<run>.<name>`, and so are its topics. Empty, as in every live pipeline: replayed records are rejected.
    """

    name: str
    replay: str = ""
    partitions: int = 1
    replication: int = 1
    retention_hours: float = 168.0
    start: Literal["earliest", "latest"] = "earliest"
    record_cap_bytes: int = 256 << 10
    standby: bool = True
    request: RequestShape = RequestShape()
    features: tuple[Feature, ...] = ()
    enrich: tuple[Enrich, ...] = ()
    models: tuple[Model, ...] = ()
    policy: Policy = Policy()
    default: Answer = Answer()
    archive: Archive = Archive()
    output: Output = Output()
    overload: Overload = Overload()
    quarantine: Quarantine = Quarantine()
    labels: LabelSettings = LabelSettings()
    promotion: Promotion = Promotion()
    breaker: BreakerSettings | None = None
    monitor: MonitorSettings | None = None
    kafka: KafkaSettings = KafkaSettings()

    @property
    def tells_quality(self) -> bool:
        """Whether figures of mature days go to a topic: where the file says anything of its own under `[labels]`."""
        return self.labels != LabelSettings()

    def model(self, name: str) -> Model:
        """Return the model of that name; KeyError when the pipeline has none."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    def features_of(self, model: Model) -> tuple[str, ...]:
        """Names of the columns this model is given, in its order."""
        return model.features or (*(feature.name for feature in self.features), *model.needed_features)

    def own_features_of(self, model: Model) -> tuple[str, ...]:
        """Those of them that the router makes: all but the scores of others."""
        needed = model.needed_features
        return tuple(name for name in self.features_of(model) if name not in needed)

    @property
    def features_of_event(self) -> tuple[Feature, ...]:
        """Those that the producer's event holds: neither derived nor read from a table."""
        tables = {table.name for table in self.enrich}
        return tuple(one for one in self.features if not one.derive and one.parts[0] not in tables)
