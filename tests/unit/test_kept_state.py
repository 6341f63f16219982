"""A watch that is kept and read back goes on as if nothing had been; what is none of ours makes no object."""

import json
import sys
from collections import Counter, deque

import numpy as np
import pytest
from msgspec import msgpack

from schemas.errors import UnreadableRecord
from schemas.verdicts import Word
from streams.core.kept_state import decode_state, encode_state
from streams.core.verdicts.events import Event, Model, Setting
from streams.core.verdicts.watch import Watch
from tests.bench.verdicts.made import Made
from tests.bench.verdicts.world import INDEPENDENT, events

ROWS = 2_000
MODULES = ("streams.core.verdicts", "schemas.verdicts")


@pytest.fixture(scope="module")
def stream() -> tuple[Setting, list[Event]]:
    world, chance = Made(5), np.random.default_rng(5)
    count = ROWS + 3_300
    columns = world.draw(chance, count, INDEPENDENT, 15_000.0)
    scores = {name: world.score(name, columns) for name in world.models}
    scores["champion"][ROWS + 1_500 :] = 1 - scores["champion"][ROWS + 1_500 :]
    latency = {name: np.full(count, 5.0) for name in world.models}
    found = list(events(columns, scores, latency, None, world.fields))
    found[ROWS + 1_000].versions = {"shadow": "2"}  # bets on it go on while the watch is kept
    for number in range(50, len(found), 60):  # probes between them, sometimes the same again
        found[number].probe = str(number % 7)
    models = {name: Model(role, "1") for name, role in world.models.items()}
    return Setting(models, ROWS, tuple(world.fields)), found


def told(setting: Setting, found: list[Event], kept_at: set[int]) -> list[bytes]:
    watch, said = Watch(setting), []
    for number, event in enumerate(found):
        if number in kept_at:
            watch = decode_state(encode_state(watch, MODULES), MODULES)
        verdict = watch.offer(event)
        if verdict is not None:
            said.append(msgpack.encode(verdict))
    return said


def test_a_watch_that_was_kept_says_what_it_would_have_said(stream: tuple[Setting, list[Event]]):
    setting, found = stream
    usual = told(setting, found, set())
    assert {json.loads(json.dumps(msgpack.decode(one)))["verdict"] for one in usual} >= {"healthy", "code"}
    assert (
        told(setting, found, {0, 777, ROWS - 1, ROWS + 33, ROWS + 40, ROWS + 700, ROWS + 1_700, len(found) - 1})
        == usual
    )


def test_values_of_every_kind_come_back_as_they_were():
    shared = [1.5, float("inf")]
    state = [
        {"a": (1, None, b"\x00"), 2: {3}, True: frozenset((4,))},
        Counter(x=2),
        deque([1, 2], maxlen=2),
        np.arange(6.0).reshape(2, 3),
        np.float64(0.1),
        np.bool_(True),
        slice(1, None),
        Word.CODE,
        shared,
        shared,
    ]
    found = decode_state(encode_state(state, MODULES), MODULES)
    assert [type(one) for one in found] == [type(one) for one in state]
    assert found[2].maxlen == 2
    assert np.array_equal(found[3], state[3])
    assert found[:3] + found[4:] == state[:3] + state[4:]
    assert found[8] is found[9], "what is shared is shared again"


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1, 10**400, (1 << 64) - 1, -(1 << 63)])
def test_an_integer_of_any_size_in_somebodys_event_keeps_nothing_from_being_kept(value: int):
    assert decode_state(encode_state({"x": value}, MODULES), MODULES) == {"x": value}


def test_a_strangers_object_is_not_kept():
    with pytest.raises(TypeError, match="cannot be kept"):
        encode_state([sys], MODULES)
    with pytest.raises(TypeError, match="cannot be kept"):
        encode_state(np.array([None]), MODULES)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        msgpack.encode(["object", "subprocess:Popen", {}]),
        msgpack.encode(["object", "streams.core.verdicts.watch:np", {}]),
        msgpack.encode(["struct", "streams.core.verdictsother:Model", {}]),
        msgpack.encode(["struct", "streams.core.verdicts.events:Model", {"nothing": 1}]),
        msgpack.encode(["enum", "schemas.verdicts:Word", "sunny"]),
        msgpack.encode(["array", "<f8", [3], b"\x00" * 8]),
        msgpack.encode(["array", "|O", [1], b"\x00" * 8]),
        msgpack.encode(["again", 7]),
        msgpack.encode(["magic"]),
        msgpack.encode([[]]),
    ],
)
def test_what_is_none_of_ours_is_refused(value: bytes):
    with pytest.raises(UnreadableRecord, match="no state of this program"):
        decode_state(value, MODULES)
