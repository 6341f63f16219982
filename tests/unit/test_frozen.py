"""The reference that a person sets, as the monitor takes it: learnt from the archive, or refused in one line."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from agents.frozen import Frozen, said_of
from schemas.pipeline import MonitorSettings, Pipeline
from schemas.probes import NO_TOKENS
from streams.archive.ranges import Period, read_period
from streams.core.entitlement import always
from streams.core.frozen_reference import FrozenReference, misfits
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching
from streams.reference_file import write_reference
from tests.unit.lived import START_MS, play
from tests.unit.small import pipeline
from tests.unit.test_watching import stream

PIPELINE = pipeline()
MODELS = {model.name: model.version for model in PIPELINE.models if model.role != "decoy"}
FIELDS = WatchedFields(PIPELINE, ())
ROWS = 2_600


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = np.random.default_rng(4)
    values = [b'{"request_id":"r%d","x":%.6f}' % (number, chance.normal()) for number in range(ROWS)]
    lived = play(PIPELINE, values, latency_ms=lambda *_: 1.0, score=lambda model, place: place % 97 / 97, rate=0.2)
    return lived.write(tmp_path_factory.mktemp("frozen") / "archive", "small", rows=5_000)


def reference(**changes: object) -> FrozenReference:
    found = FrozenReference(
        pipeline="small", since_ms=START_MS, until_ms=START_MS + 1_000_000, set_at_ms=START_MS, by="anna",
        requests=ROWS, models=MODELS, features=["x", "colour", "late"],
    )  # fmt: skip
    return replace(found, **changes)


def looked_at(
    archive: Path, folder: Path, found: FrozenReference, now: Pipeline = PIPELINE
) -> tuple[Frozen, Watching]:
    write_reference(folder / "reference.json", found)
    watching = Watching(PIPELINE, MonitorSettings(reference_rows=50_000), FIELDS.names)
    frozen = Frozen(PIPELINE, FIELDS, folder / "reference.json", archive)
    taken = frozen.look(watching, now, always(now), NO_TOKENS)
    if taken is not None:
        watching.refer(*taken)
    return frozen, watching


def test_what_was_set_is_learnt_from_the_archive_and_judged_by_at_once(archive: Path, tmp_path: Path):
    first = next(read_period(archive, "small.decisions", 0, Period()))
    asked = next(read_period(archive, "small.raw", 0, Period()))
    assert first.timestamp_ms > asked.timestamp_ms
    frozen, watching = looked_at(archive, tmp_path, found := reference(since_ms=first.timestamp_ms))
    assert watching.judging is not None
    assert watching.judging.watch.reference is not None
    assert watching.judging.watch.place == ROWS, "those that were asked before the window and decided in it too"
    assert set(watching.judging.watch.reference.models) == set(MODELS)
    assert frozen.look(watching, PIPELINE, always(PIPELINE), NO_TOKENS) is None, "once"
    reports = [report for one in stream(1_000, ROWS) if (report := watching.offer(one, PIPELINE)) is not None]
    assert reports, "without learning anything of its own first"
    assert reports[0].evidence.reference == f"2,600 requests, {said_of(found)}"
    assert reports[0].watch == f"0/{ROWS}@{10 * ROWS}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": {**MODELS, "first": "0"}}, "model first is 1 now, and was 0 in it"),
        ({"models": {"first": "1"}}, "did not score in it"),
        ({"features": ["x", "colour"]}, "the features differ: late"),
        ({"since_ms": START_MS - 86_400_000}, "the archive does not hold all of it any more"),
        ({"requests": 300_000}, "at most 200,000 are learnt from"),
        ({"until_ms": START_MS + 100}, "requests; at least 2,000 are needed"),
    ],
)
def test_one_that_does_not_fit_is_refused_in_one_line_and_the_monitor_learns_its_own(
    archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: Mapping[str, object], says: str
):
    _, watching = looked_at(archive, tmp_path, reference(**changes))
    [line] = [record.message for record in caplog.records]
    assert line.startswith("the reference that is set is not used: ")
    assert says in line
    assert (watching.judging, watching.reference) == (None, "")


def test_nothing_set_and_a_damaged_file_are_no_reference(
    archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    watching = Watching(PIPELINE, MonitorSettings(), FIELDS.names)
    frozen = Frozen(PIPELINE, FIELDS, tmp_path / "reference.json", archive)
    for content, lines in ((None, 0), (b"{", 1), (b"[1]", 2)):
        if content is not None:
            (tmp_path / "reference.json").write_bytes(content)
        for _ in range(2):
            assert frozen.look(watching, PIPELINE, always(PIPELINE), NO_TOKENS) is None
        assert len(caplog.records) == lines, "each is said once"


def test_references_from_before_features_were_noted_are_not_held_against_them():
    held = (START_MS, START_MS + 10)
    assert misfits(reference(features=[]), MODELS, held, ["other"]) == []
    assert misfits(reference(), MODELS, held, ["late", "x", "colour"]) == []
