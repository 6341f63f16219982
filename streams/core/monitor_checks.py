"""What a pipeline's `[monitor]` must fulfil: pure checks, each with its remedy."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.pipeline import Pipeline
from streams.core.mistakes import PATH, Mistake, doubles

LEAST_ROWS, MOST_ROWS = 2_000, 200_000
LEAST_PROBES, MOST_PROBES = 16, 256
LEAST_PROBE_S = 1.0
LEAST_WINDOW_S = 10.0
MOST_SEGMENTS = 4
"""Fields by which every figure is split: each costs a few microseconds a request, and room in each verdict."""


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
    yield from _segments(pipeline, settings.segments)
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


def _segments(pipeline: Pipeline, segments: tuple[str, ...]) -> Iterator[Mistake]:
    derived = {feature.name for feature in pipeline.features if feature.derive}
    features, tables = {feature.name for feature in pipeline.features}, {table.name for table in pipeline.enrich}
    for name in segments:
        if name in derived:
            yield Mistake("monitor.segments", f"{name!r} is derived, and in no event", "name a field of the event")
        elif name not in features and not PATH(name):
            yield Mistake("monitor.segments", f"{name!r} is no path", 'write the name of a feature, "a" or "a.b"')
        elif name not in features and name.split(".")[0] in tables:
            yield Mistake("monitor.segments", f"{name!r} stands in a table", "name the feature that is read from it")
    yield from doubles("monitor.segments", segments)
    if len(segments) > MOST_SEGMENTS:
        yield Mistake("monitor.segments", f"{len(segments)} of them", f"write {MOST_SEGMENTS} at most")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
