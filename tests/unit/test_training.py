"""Live fields beside what models were trained on: said, with whom it concerns, and never an alarm."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from msgspec import json
from msgspec.structs import replace

from agents.beside import Beside
from agents.cli.verdict_lines import line_of
from agents.roster_watch import Moves
from schemas.pipeline import Feature, FeatureType, Pipeline
from streams.core.entitlement import always
from streams.core.fingerprint import Fingerprint, Software, prints_of
from streams.core.training import FEWEST, Training
from streams.core.watched_fields import WatchedFields
from streams.models.artifact import sum_of
from streams.models.fingerprints import SUFFIX, fingerprint_of, fingerprints_of, write_fingerprint
from tests.unit.small import pipeline
from tests.unit.test_watching import fresh
from tests.unit.test_webhook import REPORT

FEATURES = [
    Feature(name="x", type=FeatureType.NUMBER),
    Feature(name="colour", type=FeatureType.CATEGORY, vocabulary=("red", "green")),
]


def events(mean: float, count: int = 2_000, green: float = 0.5) -> list[dict[str, object]]:
    chance = np.random.default_rng(int(100 * mean) + count)
    return [
        {"x": float(chance.normal(mean)), "colour": "green" if chance.random() < green else "red"}
        for _ in range(count)
    ]


def fingerprint(model: str, rows: list[dict[str, object]], version: str = "1") -> Fingerprint:
    return Fingerprint(
        pipeline="small", model=model, version=version, sha256="", made_at_ms=0, source="", rows=len(rows),
        software=Software(python="3", libraries={}), features=FEATURES, fields=prints_of(FEATURES, rows),
    )  # fmt: skip


def test_a_field_that_differs_is_said_with_the_models_it_concerns():
    usual, older = events(0.0), events(1.0)
    training = Training({"a": fingerprint("a", usual), "b": fingerprint("b", usual), "c": fingerprint("c", older)})
    assert [(one.field, one.models) for one in training.beside(events(0.0, 1_000))] == [("x", ["c"])]
    both = [(one.field, one.models) for one in training.beside(events(1.0, 1_000, green=0.9))]
    assert sorted(both) == [("colour", ["a", "b"]), ("colour", ["c"]), ("x", ["a", "b"])]
    moved = training.beside(events(1.0, 1_000, green=0.5))
    assert [(one.field, one.models) for one in moved] == [("x", ["a", "b"])]
    assert moved[0].effect == pytest.approx(0.38, abs=0.06)
    assert moved[0].then == pytest.approx(0.0, abs=0.1)
    assert moved[0].now == pytest.approx(1.0, abs=0.1)


def test_few_requests_absent_fields_and_nothing_known_say_nothing():
    training = Training({"a": fingerprint("a", events(0.0))})
    assert training.beside(events(5.0, FEWEST - 1)) == []
    assert training.beside([{"other": 1}] * FEWEST) == []
    assert Training({}).beside(events(5.0, FEWEST)) == []
    [gone] = [one for one in training.beside([{"x": None, "colour": "red"}] * FEWEST) if one.field == "x"]
    assert gone.effect == 1.0


def test_only_what_fits_the_model_is_read_and_the_rest_is_said(tmp_path: Path):
    own = trained_pipeline()
    for name, content in (("a", json.encode(fingerprint("a", events(0.0)))), ("b", b"{"), ("c", None)):
        if content is not None:
            (tmp_path / f"{name}.txt{SUFFIX}").write_bytes(content)
    (tmp_path / f"d.txt{SUFFIX}").write_bytes(json.encode(fingerprint("d", events(0.0), version="0")))
    found, why = fingerprints_of(tmp_path, own)
    assert list(found) == ["a"]
    assert len(why) == 2
    assert "no fingerprint" in why[0]
    assert "of version 0, and d is 1" in why[1]


def trained_pipeline() -> Pipeline:
    small = pipeline()
    first = small.models[0]
    return replace(
        small, models=tuple(replace(first, name=name, version="1", artifact=f"{name}.txt") for name in "abcd")
    )


def test_software_file_and_features_that_are_not_as_in_training_are_in_the_next_verdict_and_again_when_they_change(
    tmp_path: Path,
):
    own, content = trained_pipeline(), b"a tree"
    own = replace(own, models=tuple(replace(model, sha256=sum_of(content)) for model in own.models))
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_bytes(content)
    for name in "ab":
        write_fingerprint(tmp_path, own.model(name), fingerprint_of(tmp_path, own, own.model(name), [], "here"))
    beside = Beside(own, WatchedFields(own, ()), tmp_path / "pipeline.toml", tmp_path, tmp_path / "reference.json")

    def said() -> list[tuple[str, list[str], str]]:
        found = beside.evidence(REPORT, fresh(), Moves((), always(own)))
        assert (found.verdict, found.severity, found.alarm) == (REPORT.verdict, REPORT.severity, REPORT.alarm)
        return [(one.what, one.models, one.training) for one in found.evidence.software]

    asyncio.run(beside.train(own))
    assert said() == [], "trained here, and nothing is changed"
    older = fingerprint_of(tmp_path, own, own.model("a"), [], "elsewhere")
    libraries = older.software.libraries | {"numpy": "1.0"}
    older = replace(older, software=replace(older.software, libraries=libraries), features=older.features[:1])
    for name in "ab":
        write_fingerprint(tmp_path, own.model(name), replace(older, model=name))
    asyncio.run(beside.look_again())
    assert said() == [
        ("numpy", ["a", "b"], "1.0"),
        ("features, in order", ["a", "b"], older.features[0].name),
    ]
    (tmp_path / "b.txt").write_bytes(b"another tree")
    asyncio.run(beside.look_again())
    assert [(what, models) for what, models, _ in said()][-1] == ("the file", ["b"])
    [*_, last] = beside.evidence(REPORT, fresh(), Moves((), always(own))).evidence.software
    assert "the pipeline says" in last.production
    assert "Not as in training of a: numpy is " in line_of(beside.evidence(REPORT, fresh(), Moves((), always(own))))
