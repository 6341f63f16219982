"""What a pipeline's `[monitor]` must fulfil: pure checks, each with its remedy."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.pipeline import Pipeline
from streams.core.mistakes import PATH, Mistake, doubles
from streams.core.probing import MOST_PROBES

LEAST_ROWS, MOST_ROWS = 2_000, 200_000
LEAST_PROBES = 16
"""A few fields need no more; what they show is covered however few are asked for."""

LEAST_PROBE_S = 1.0
LEAST_WINDOW_S = 10.0
MOST_SEGMENTS = 4
"""Fields by which every figure is split: each costs 20 to 45 microseconds a request, and room in each verdict."""


def monitor_mistakes(pipeline: Pipeline) -> Iterator[Mistake]:
    """Every contradiction in `[monitor]`; none without it."""
    settings = pipeline.monitor
    if settings is None:
        return
    if not LEAST_ROWS <= settings.reference_rows <= MOST_ROWS:
        yield Mistake("monitor.reference_rows", "out of bounds", f"write {LEAST_ROWS} to {MOST_ROWS}; 20000 is usual")
    known = {feature.name for feature in pipeline.features}
    for path in settings.fields:
        if not PATH(path):
            yield Mistake("monitor.fields", f"{path!r} is no path", 'write "a" or "a.b"')
        elif path in known:
            yield Mistake("monitor.fields", f"{path!r} is a feature and is watched already", "remove it")
    yield from doubles("monitor.fields", settings.fields)
    for name in settings.segments:
        yield from _of_event(pipeline, "monitor.segments", name)
    yield from doubles("monitor.segments", settings.segments)
    if len(settings.segments) > MOST_SEGMENTS:
        yield Mistake("monitor.segments", f"{len(settings.segments)} of them", f"write {MOST_SEGMENTS} at most")
    if settings.source:
        yield from _of_event(pipeline, "monitor.source", settings.source)
    if settings.probes and not LEAST_PROBES <= settings.probes <= MOST_PROBES:
        yield Mistake("monitor.probes", "out of bounds", f"write {LEAST_PROBES} to {MOST_PROBES}, or 0 for none")
    if not settings.probe_s >= LEAST_PROBE_S:
        yield Mistake("monitor.probe_s", "too often", "write 60: once a minute")
    if not settings.window_s >= LEAST_WINDOW_S:
        yield Mistake("monitor.window_s", "too short", "write 300: five minutes")
    if settings.quiet_windows < 1:
        yield Mistake("monitor.quiet_windows", "must be positive", "write 3")
    for key in ("remind_s", "webhook_s"):
        if not getattr(settings, key) > 0:
            yield Mistake(f"monitor.{key}", "must be positive", "remove the key for its default")
    if settings.webhook and not _is_address(settings.webhook):
        yield Mistake("monitor.webhook", "is no address of a web server", 'write "https://host/path"')


def _of_event(pipeline: Pipeline, key: str, name: str) -> Iterator[Mistake]:
    """A field by whose values something is split: a feature that is not derived, or a path in the event."""
    features = {feature.name: feature for feature in pipeline.features}
    if name in features:
        if features[name].derive:
            yield Mistake(key, f"{name!r} is derived, and in no event", "name a field of the event")
    elif not PATH(name):
        yield Mistake(key, f"{name!r} is no path", 'write the name of a feature, "a" or "a.b"')
    elif name.split(".", maxsplit=1)[0] in {table.name for table in pipeline.enrich}:
        yield Mistake(key, f"{name!r} stands in a table", "name the feature that is read from it")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
