"""Where a change lies: one value of a declared field is named when it moved alone, and never when others did too."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from msgspec.structs import replace

from streams.core.verdicts.events import Event, Model, Setting, read_setting
from streams.core.verdicts.watch import Watch
from streams.core.verdicts.words import Verdict, Word
from tests.bench.verdicts.made import Made
from tests.bench.verdicts.world import INDEPENDENT, events

ROWS = 4_000
ONSET = ROWS + 1_000
EVENTS = 3_000
Change = Callable[[Event], Event]


@pytest.fixture(scope="module")
def stream() -> list[Event]:
    """Quiet events, the reference among them."""
    world, chance, count = Made(11), np.random.default_rng(11), ROWS + EVENTS
    columns = world.draw(chance, count, INDEPENDENT, 15_000.0)
    scores = {name: world.score(name, columns) for name in world.models}
    took_ms = dict.fromkeys(world.models, np.full(count, 5.0))
    return list(events(columns, scores, took_ms, None, world.fields))


def learnt(stream: list[Event], *segments: str) -> Watch:
    """A watch that has learnt its reference."""
    models = {name: Model(role, "1") for name, role in Made.models.items()}
    found = Watch(Setting(models, ROWS, Made.fields, segments))
    for event in stream[:ROWS]:
        found.offer(event)
    return found


@pytest.fixture(scope="module")
def watch(stream: list[Event]) -> Watch:
    return learnt(stream, "country", "device")


def told(watch: Watch, stream: list[Event], change: Change) -> list[Verdict]:
    """Verdicts on what follows the reference, changed from the onset on."""
    own = deepcopy(watch)
    changed = [*stream[ROWS:ONSET], *map(change, stream[ONSET:])]
    return [verdict for event in changed if (verdict := own.offer(event)) is not None]


def where(field: str, values: tuple[str, ...], change: Change) -> Change:
    return lambda event: change(event) if event.features[field] in values else event


def kilometres(event: Event) -> Event:
    return replace(event, features=event.features | {"amount": event.features["amount"] * 1.609})


def as_text(event: Event) -> Event:
    return replace(event, features=event.features | {"age": "old"})


def missing(event: Event) -> Event:
    return replace(event, features=event.features | {"amount": None})


def turned(event: Event) -> Event:
    return replace(event, scores=event.scores | {"champion": 1 - event.scores["champion"]})


def frequent(stream: list[Event], field: str) -> list[str]:
    values = [event.features[field] for event in stream]
    return sorted(set(values), key=lambda value: -values.count(value))


@pytest.mark.parametrize(
    ("change", "word", "field", "model"),
    [
        (kilometres, Word.DATA, "amount", None),
        (as_text, Word.DATA, "age", None),
        (missing, Word.DATA, "amount", None),
        (turned, Word.CODE, None, "champion"),
    ],
)
@pytest.mark.parametrize("declared", ["country", "device"])
def test_a_change_that_lies_in_one_value_alone_names_it(
    watch: Watch, stream: list[Event], declared: str, change: Change, word: Word,
    field: str | None, model: str | None,
):  # fmt: skip
    value = frequent(stream, declared)[0]
    found = [one for one in told(watch, stream, where(declared, (value,), change)) if not one.quiet]
    assert {(one.verdict, one.field, one.model) for one in found} == {(word, field, model)}
    assert found[-1].confined
    assert found[-1].segment == f"{declared} is {value}"
    assert f"(only where {declared} is {value})" in found[-1].sentence


@pytest.mark.parametrize("change", [kilometres, as_text, missing, turned])
def test_a_change_of_all_or_of_several_values_is_confined_to_none(watch: Watch, stream: list[Event], change: Change):
    few = tuple(frequent(stream, "country")[:3])
    for of_some in (change, where("country", few, change)):
        found = [one for one in told(watch, stream, of_some) if not one.quiet]
        assert found
        assert not any(one.confined for one in found), [one.sentence for one in found]


def test_it_explains_verdicts_and_makes_none(watch: Watch, stream: list[Event]):
    """The same windows have the same words with declared fields and without, and a quiet one names nothing."""
    plain = learnt(stream)
    for change in (lambda event: event, kilometres, turned):
        with_them, without = told(watch, stream, change), told(plain, stream, change)
        words = [(one.window, one.verdict, one.severity, one.said_at_event) for one in with_them]
        assert words == [(one.window, one.verdict, one.severity, one.said_at_event) for one in without]
        assert not any(one.quiet and one.segment for one in with_them)


@pytest.mark.parametrize("now", ["XX", 7])
def test_of_a_field_that_changed_itself_no_value_is_named(watch: Watch, stream: list[Event], now: object):
    value = frequent(stream, "country")[0]

    def renamed(event: Event) -> Event:
        return replace(event, features=event.features | {"country": now})

    found = [one for one in told(watch, stream, where("country", (value,), renamed)) if not one.quiet]
    assert {(one.verdict, one.field) for one in found} == {(Word.DATA, "country")}
    assert not any(one.confined for one in found), [one.segment for one in found]


def test_a_file_may_declare_fields_that_it_has():
    first = {"models": {"a": {}}, "reference_rows": 9, "features": ["x", "y"]}
    assert read_setting(first | {"segments": ["y"]}).segments == ("y",)
    for wrong in (["z"], "x", [1]):
        with pytest.raises(ValueError, match="segments is no list of names that features has"):
            read_setting(first | {"segments": wrong})
