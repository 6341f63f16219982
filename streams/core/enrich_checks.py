"""What the [[enrich]] tables, and the features read from them, must fulfil: pure checks, each with its remedy."""

from collections.abc import Iterator

from schemas.pipeline import Enrich, Pipeline
from schemas.topics import CATALOGUE
from streams.core.mistakes import NAME, PATH, Mistake, doubles

MAX_TABLES = 8
"""What they say of one event fits into a block."""

MAX_AFTER_MS = 60_000
TAKEN = {word for entry in CATALOGUE for word in entry.what.split(".")}


def enrich_mistakes(pipeline: Pipeline) -> Iterator[Mistake]:
    """Every contradiction in the tables."""
    yield from doubles("enrich", (table.name for table in pipeline.enrich))
    if len(pipeline.enrich) > MAX_TABLES:
        yield Mistake(
            "enrich", f"{len(pipeline.enrich)} tables; at most {MAX_TABLES} are allowed", "join some of them"
        )
    for place, table in enumerate(pipeline.enrich):
        key = f"enrich[{place}] ({table.name})"
        yield from _own(key, table)
        yield from _paths(key, table, pipeline)
        yield from _features(key, table, pipeline)


def _own(key: str, table: Enrich) -> Iterator[Mistake]:
    if not NAME(table.name):
        yield Mistake(f"{key}.name", f"{table.name!r} cannot end a topic's name", "use a-z 0-9 and -, at most 63")
    if table.name in TAKEN:
        yield Mistake(f"{key}.name", f"{table.name!r} is a topic of every pipeline", "choose another name")
    if table.max_age_hours is not None and not table.as_of:
        yield Mistake(f"{key}.max_age_hours", "has no meaning without as_of", "remove it")
    if bool(table.as_of) != bool(table.since):
        lacking = "since" if table.as_of else "as_of"
        yield Mistake(f"{key}.{lacking}", "missing: times of event and record are compared", f"write {lacking}")
    for name in ("key", "as_of", "since"):
        path = getattr(table, name)
        if (path or name == "key") and not PATH(path):
            yield Mistake(f"{key}.{name}", f"{path!r} is no path", 'write "a" or "a.b"')
    if not 0 < table.keep_hours < 1e6:
        yield Mistake(f"{key}.keep_hours", "must be positive, and under a century", "write 24 to begin with")
    if table.max_age_hours is not None and not 0 < table.max_age_hours <= table.keep_hours:
        wrong = f"{table.max_age_hours} is out of bounds: what is older than keep_hours is not there"
        yield Mistake(f"{key}.max_age_hours", wrong, f"write a number above 0, at most {table.keep_hours:g}")
    if not 0 <= table.after_ms <= MAX_AFTER_MS:
        yield Mistake(f"{key}.after_ms", f"{table.after_ms} is out of bounds", f"write 0 to {MAX_AFTER_MS}")
    if table.max_records < 1:
        yield Mistake(f"{key}.max_records", "must be positive", "remove the key for its default")


def _paths(key: str, table: Enrich, pipeline: Pipeline) -> Iterator[Mistake]:
    """Keys and times come from the event alone; and what the rendezvous reads does, for it knows no table."""
    tables = {one.name for one in pipeline.enrich}
    for name in ("key", "as_of"):
        parts = tuple(getattr(table, name).split("."))
        if parts[0] in tables:
            yield Mistake(f"{key}.{name}", "stands in a table, not in the event", "name a field of the event")
        for other in pipeline.features_of_event:
            if other.parts != parts and (
                other.parts[: len(parts)] == parts or parts[: len(other.parts)] == other.parts
            ):
                yield Mistake(
                    f"{key}.{name}", f"its path and that of {other.name} run through each other", "mend one"
                )
    read = {
        "request.id": pipeline.request.id,
        "request.budget": pipeline.request.budget,
        "policy.by": pipeline.policy.by,
    }
    read |= {f"policy.rules ({rule.name})": one.field for rule in pipeline.policy.rules for one in rule.when}
    read |= {f"labels.segments ({path})": path for path in pipeline.labels.segments}
    for where, path in read.items():
        if path.split(".")[0] == table.name:
            yield Mistake(where, f"{path!r} stands in a table, which only models see", "name a field of the event")


def _features(key: str, table: Enrich, pipeline: Pipeline) -> Iterator[Mistake]:
    found = [one for one in pipeline.features if not one.derive and one.parts[0] == table.name]
    for feature in found:
        if len(feature.parts) == 1:
            instead = f'write path = "{table.name}.<field>"'
            yield Mistake(f"features ({feature.name})", f"{table.name} is a table, not a value", instead)
        if feature.default is None:
            wrong = f"{table.name} may say nothing of an event, and no default is declared"
            yield Mistake(f"features ({feature.name}).default", wrong, "write what it is then")
    reads = any(one.derive for one in pipeline.features) or any(one.takes == "events" for one in pipeline.models)
    if not found and not reads:
        yield Mistake(key, "no feature reads it", f'write path = "{table.name}.<field>" in one')
