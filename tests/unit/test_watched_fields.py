"""What the monitor watches of an event: the raw values, before any feature code; of unreadable ones what there is."""

import json
from typing import Any

from msgspec.structs import replace

from schemas.pipeline import Enrich, Feature, FeatureType, MonitorSettings
from schemas.requests import Rejection
from streams.core.validator import Validator
from streams.core.watched_fields import WatchedFields
from tests.unit.small import pipeline

SMALL = pipeline()


def fields(event: object, *more: str, raw: bytes | None = None) -> tuple[dict[str, Any], bool]:
    value = json.dumps(event).encode() if raw is None else raw
    found = Validator(SMALL).read(value, None, None, 0, 0, 1_000)
    return WatchedFields(SMALL, more).of(found, value), isinstance(found, Rejection)


def test_values_are_the_events_own_and_what_is_absent_is_none():
    assert fields({"x": 1, "colour": "red", "box": {"late": True}}) == (
        {"x": 1, "colour": "red", "late": True},
        False,
    )
    assert fields({"x": 1.5, "colour": "no word of ours"})[0] == {"x": 1.5, "colour": "no word of ours", "late": None}


def test_more_fields_are_read_by_their_path():
    found, _ = fields({"x": 1, "who": {"tenant": "a"}, "n": [1]}, "who.tenant", "who.other", "n", "x.y")
    assert {name: found[name] for name in ("who.tenant", "who.other", "n", "x.y")} == {
        "who.tenant": "a",
        "who.other": None,
        "n": [1],
        "x.y": None,
    }


def test_a_feature_that_is_named_again_is_read_once():
    settings = MonitorSettings(fields=("who",), segments=("colour", "who", "box.late"))
    assert settings.named == ("who", "colour", "box.late")
    assert WatchedFields(SMALL, settings.named).names == ("x", "colour", "late", "who", "box.late")


def test_of_a_request_that_cannot_be_read_there_is_what_it_has():
    assert fields({"x": "one", "colour": 3, "box": 7}, "who") == (
        {"x": "one", "colour": 3, "late": None, "who": None},
        True,
    )
    for raw in (b"", b"no json", b"[1]", b"\xff"):
        assert fields(None, raw=raw) == ({"x": None, "colour": None, "late": None}, True)


def test_a_derived_feature_is_no_raw_field():
    derived = pipeline(features=(*SMALL.features, Feature(name="d", type=FeatureType.NUMBER, derive="a:b")))
    assert WatchedFields(derived, ("who",)).names == ("x", "colour", "late", "who")


def test_what_tables_say_is_watched_like_the_events_own():
    wind = Feature(name="wind", type=FeatureType.NUMBER, path="weather.wind.speed", default=1.0)
    own = replace(
        SMALL,
        features=(*SMALL.features, wind),
        enrich=(Enrich(name="weather", key="colour"), Enrich(name="t", key="x")),
    )
    watched = WatchedFields(own, ("who",))
    assert watched.names == ("x", "colour", "late", "who", "wind")
    for record, value in (
        (b'{"wind": {"speed": 7}}', 7),
        (b'{"wind": {"speed": "much"}}', "much"),
        (b'{"wind": 3}', None),
        (b"", None),
    ):
        for _ in range(2):
            assert watched.joined({"weather": record, "t": b"{}"}) == {"wind": value}
    assert watched.joined({}) == {"wind": None}


def test_one_feature_is_read_as_several_are():
    of = pipeline()
    one = replace(of, features=of.features[:1], models=of.models[:1])
    request = Validator(one).read(b'{"x": 3}', None, None, 0, 0, 1_000)
    assert WatchedFields(one, ()).of(request, b'{"x": 3}') == {"x": 3.0}
