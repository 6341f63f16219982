"""What a pipeline's values must fulfil among themselves: pure checks, each with its remedy."""

import math
import re
from collections.abc import Iterator

from schemas.pipeline import MAX_BUDGET_MS, BreakerSettings, Feature, FeatureType, Pipeline, Role
from schemas.topics import topics_of
from streams.core.enrich_checks import enrich_mistakes
from streams.core.mistakes import CALLABLE, NAME, PATH, Mistake, doubles
from streams.core.model_checks import model_mistakes, resource_mistakes
from streams.core.monitor_checks import monitor_mistakes
from streams.core.needs_checks import needs_mistakes
from streams.core.policy_checks import policy_mistakes
from streams.core.replay import RUN, prefix_of

MIN_CAP, MAX_CAP = 1 << 10, 8 << 20
OURS = {
    "bootstrap.servers": "the cluster is named by KAFKA_BOOTSTRAP_SERVERS",
    "group.id": "each role has its own group",
    "group.instance.id": "each process has its own name",
    "group.protocol": "a killed role would be without partitions for 42 s",
    "partition.assignment.strategy": "only `range` keeps partition numbers together",
    "enable.auto.commit": "commits follow finished work",
    "enable.auto.offset.store": "commits follow finished work",
    "enable.idempotence": "records would be lost or doubled",
    "acks": "a decision counts when all replicas have it",
    "message.timeout.ms": "a slow broker must be waited for",
    "transactional.id": "nothing here runs in transactions",
}
SECURITY = ("security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.")


def mistakes_of(pipeline: Pipeline) -> list[Mistake]:
    """Every contradiction in a pipeline; empty when there is none."""
    checks = (
        _whole,
        _budget,
        _features,
        enrich_mistakes,
        _models,
        needs_mistakes,
        policy_mistakes,
        _limits,
        _labels,
        _promotion,
        monitor_mistakes,
        _kafka,
    )
    return [mistake for check in checks for mistake in check(pipeline)]


def _whole(pipeline: Pipeline) -> Iterator[Mistake]:
    fence = prefix_of(pipeline.replay) if pipeline.replay else ""
    if fence and not RUN(pipeline.replay):
        yield Mistake("replay", f"{pipeline.replay!r} names no run", "use a-z 0-9 and -, at most 32")
    if fence and not pipeline.name.startswith(fence):
        yield Mistake("replay", "a live pipeline takes no replay", f'write name = "{fence}{pipeline.name}"')
    elif not NAME(pipeline.name.removeprefix(fence)):
        yield Mistake("name", f"{pipeline.name!r} cannot begin a topic's name", "use a-z 0-9 and -, at most 63")
    else:
        longest = max((topic.name for topic in topics_of(pipeline)), key=len)
        if len(longest) > 249:
            yield Mistake("name", f"topic {longest} is longer than 249", "shorten the name")
    if not 1 <= pipeline.partitions <= 1000:
        yield Mistake("partitions", f"{pipeline.partitions} is impossible", "write 1 to 1000; 1 does for one machine")
    if pipeline.replication < 1:
        yield Mistake("replication", f"{pipeline.replication} is impossible", "write 1, or 3 on a cluster")
    if pipeline.retention_hours <= 0:
        yield Mistake("retention_hours", "must be positive", "write 168 for a week")
    if not MIN_CAP <= pipeline.record_cap_bytes <= MAX_CAP:
        yield Mistake(
            "record_cap_bytes",
            f"{pipeline.record_cap_bytes} is out of bounds",
            f"write {MIN_CAP} to {MAX_CAP}",
        )


def _budget(pipeline: Pipeline) -> Iterator[Mistake]:
    shape = pipeline.request
    if not 1 <= shape.max_budget_ms <= MAX_BUDGET_MS:
        yield Mistake("request.max_budget_ms", "out of bounds", f"write 1 to {MAX_BUDGET_MS}")
    if not 1 <= shape.budget_ms <= shape.max_budget_ms:
        yield Mistake(
            "request.budget_ms",
            f"{shape.budget_ms} ms leaves no time, or more than the maximum of {shape.max_budget_ms}",
            "write 200 to begin with",
        )
    for key, path in (("id", shape.id), ("budget", shape.budget)):
        if path and not PATH(path):
            yield Mistake(f"request.{key}", f"{path!r} is no path", 'write "a" or "a.b"')
    if not shape.id:
        yield Mistake("request.id", "empty", 'write the field of the id, as "request_id"; it may be absent in events')


def _features(pipeline: Pipeline) -> Iterator[Mistake]:
    yield from doubles("features", (feature.name for feature in pipeline.features))
    for place, feature in enumerate(pipeline.features):
        yield from _feature(f"features[{place}] ({feature.name})", feature)
    plain = [feature for feature in pipeline.features if not feature.derive]
    paths = {feature.parts: feature.name for feature in plain}
    own = tuple(pipeline.request.id.split("."))
    for parts, name in [*paths.items(), (own, "request.id")]:
        for length in range(1, len(parts)):
            if parts[:length] in paths:
                other = paths[parts[:length]]
                yield Mistake(f"features ({name})", f"its path runs through the value of {other}", "mend one path")


def _feature(key: str, feature: Feature) -> Iterator[Mistake]:
    if not feature.name or feature.name != feature.name.strip():
        yield Mistake(key, "no name", "name the feature")
    if feature.derive and not CALLABLE(feature.derive):
        yield Mistake(f"{key}.derive", f"{feature.derive!r} is no callable", 'write "module:function"')
    if not feature.derive and not PATH(".".join(feature.parts)):
        yield Mistake(f"{key}.path", f"{feature.path!r} is no path", 'write "a" or "a.b"')
    if feature.type is FeatureType.CATEGORY:
        yield from _category(key, feature)
        return
    if feature.vocabulary:
        yield Mistake(f"{key}.vocabulary", f"a {feature.type} has none", 'remove it, or write type = "category"')
    wanted: type | tuple[type, ...] = bool if feature.type is FeatureType.BOOLEAN else (int, float)
    if feature.default is not None and (
        not isinstance(feature.default, wanted)
        or (feature.type is FeatureType.NUMBER and isinstance(feature.default, bool))
    ):
        yield Mistake(f"{key}.default", f"{feature.default!r} is no {feature.type}", f"write a {feature.type}")


def _category(key: str, feature: Feature) -> Iterator[Mistake]:
    if feature.derive:
        return
    if not feature.vocabulary:
        yield Mistake(f"{key}.vocabulary", "missing for a category", 'write vocabulary = ["A", "B"]')
    yield from doubles(f"{key}.vocabulary", feature.vocabulary)
    if feature.default is not None and feature.default not in feature.vocabulary:
        yield Mistake(f"{key}.default", f"{feature.default!r} is not in the vocabulary", "add it there")


def _models(pipeline: Pipeline) -> Iterator[Mistake]:
    if not pipeline.models:
        yield Mistake("models", "there is none", 'write at least one [[models]] with role = "champion"')
        return
    yield from doubles("models", (model.name for model in pipeline.models))
    champions = [model.name for model in pipeline.models if model.role is Role.CHAMPION]
    if len(champions) != 1:
        found = ", ".join(champions) or "none"
        yield Mistake("models", f"one champion is needed, found {found}", 'write role = "champion" once')
    known = {feature.name for feature in pipeline.features}
    for place, model in enumerate(pipeline.models):
        key = f"models[{place}] ({model.name})"
        yield from model_mistakes(key, model, known)
        yield from resource_mistakes(key, model, pipeline.partitions)


def _limits(pipeline: Pipeline) -> Iterator[Mistake]:
    for key in ("max_rows", "max_bytes", "max_age_s"):
        if getattr(pipeline.archive, key) <= 0:
            yield Mistake(f"archive.{key}", "must be positive", "remove the key for its default")
    for key in ("retention_days", "compact_bytes"):
        if getattr(pipeline.archive, key) < 0:
            yield Mistake(f"archive.{key}", "must not be negative", "write 0 for never")
    for key in ("warn_free", "stop_free"):
        if not 0 <= getattr(pipeline.archive, key) < 1:
            yield Mistake(f"archive.{key}", "is a share of the disk", "write a number from 0 to under 1")
    for key in ("shadows", "challengers"):
        if not 0 < getattr(pipeline.overload, key) <= 1:
            yield Mistake(f"overload.{key}", "is a share of the budget", "write a number above 0, at most 1")
    for key in ("failures", "within_s"):
        if getattr(pipeline.quarantine, key) <= 0:
            yield Mistake(f"quarantine.{key}", "must be positive", "remove the key for its default")
    yield from _breaker(pipeline.breaker)
    prefix = pipeline.output.reply_to_prefix
    if prefix and not re.fullmatch(r"[A-Za-z0-9._-]{3,200}", prefix):
        yield Mistake("output.reply_to_prefix", f"{prefix!r} begins no topic", "use letters, digits, . _ -")
    elif prefix and (own := [topic.name for topic in topics_of(pipeline) if topic.name.startswith(prefix)]):
        yield Mistake(
            "output.reply_to_prefix",
            f"{prefix!r} begins {own[0]} too: whoever sends an event could write there",
            f'write a longer one, as "{pipeline.name}.replies."',
        )
    if pipeline.default.score is not None and not math.isfinite(pipeline.default.score):
        yield Mistake("default.score", "not finite", "write a number, or remove it")


def _breaker(rule: BreakerSettings | None) -> Iterator[Mistake]:
    if rule is None:
        return
    for key in ("late_share", "error_share", "guard_share"):
        if not 0 <= getattr(rule, key) <= 1:
            yield Mistake(f"breaker.{key}", "is a share", "write a number from 0 to 1; 1 is never")
    if not 0 < rule.late_after <= 1:
        yield Mistake("breaker.late_after", "is a share of the budget", "write a number above 0, at most 1")
    if rule.requests < 1 or rule.well_s < 0:
        yield Mistake("breaker", "requests must be positive, well_s not negative", "remove the key for its default")


def _labels(pipeline: Pipeline) -> Iterator[Mistake]:
    settings = pipeline.labels
    for key in ("expected", "mature_share"):
        if not 0 < getattr(settings, key) <= 1:
            yield Mistake(f"labels.{key}", "is a share", "write a number above 0, at most 1")
    if not settings.mature_days > 0:
        yield Mistake("labels.mature_days", "must be positive", "write 30 to begin with")
    if not math.isfinite(settings.threshold):
        yield Mistake("labels.threshold", "not finite", "write the score from which on an answer means yes")
    for path in settings.segments:
        if not PATH(path):
            yield Mistake("labels.segments", f"{path!r} is no path", 'write "a" or "a.b"')
    yield from doubles("labels.segments", settings.segments)
    if settings.costs is not None:
        for key in settings.costs.__struct_fields__:
            if not math.isfinite(getattr(settings.costs, key)):
                yield Mistake(f"labels.costs.{key}", "not finite", "write what such an answer costs")


def _promotion(pipeline: Pipeline) -> Iterator[Mistake]:
    gates = pipeline.promotion
    for key in ("shadow_s", "requests", "accuracy_loss"):
        if not 0 <= getattr(gates, key) < math.inf:
            yield Mistake(f"promotion.{key}", "must not be negative", "write 0 for no such gate")
    for key in ("agreement", "error_rate"):
        if not 0 <= getattr(gates, key) <= 1:
            yield Mistake(f"promotion.{key}", "is a share", "write a number from 0 to 1")
    if not 0 < gates.latency_share < math.inf:
        yield Mistake("promotion.latency_share", "is a share of the budget", "write a number above 0")
    if any(bound is not None and not math.isfinite(bound) for bound in (gates.threshold, gates.min, gates.max)):
        yield Mistake("promotion", "a bound is not finite", "write a number")
    if gates.min is not None and gates.max is not None and gates.min > gates.max:
        yield Mistake("promotion", f"no score lies between {gates.min} and {gates.max}", "write min below max")


def _kafka(pipeline: Pipeline) -> Iterator[Mistake]:
    for side in ("consumer", "producer"):
        for setting in getattr(pipeline.kafka, side):
            if setting in OURS:
                yield Mistake(f"kafka.{side}.{setting}", f"is not yours to set: {OURS[setting]}", "remove it")
            elif setting.startswith(SECURITY):
                reason = "here it would reach some clients and not others"
                yield Mistake(f"kafka.{side}.{setting}", reason, "set KAFKA_SASL_*, KAFKA_SSL_*")
