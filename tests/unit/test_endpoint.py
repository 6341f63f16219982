"""A model behind HTTP: a server that is slow, dead, or answers nonsense stays its own problem."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.pipeline import Kind, Model, Role
from streams.core.blame import ERROR, TIMED_OUT, blame
from streams.core.given import Given
from streams.models.checked import score_rows
from streams.models.endpoint import Endpoint
from tests.unit.servers import FORM, Reply, Server, answer, doubled, says, served

MODEL = Model(name="m", version="1", kind=Kind.HTTP, role=Role.CHAMPION, url="http://127.0.0.1:9/v2/models/d/infer")
ROWS = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])


class Asking:
    """Endpoints that are let go of at the end."""

    def __init__(self) -> None:
        self.made: list[Endpoint] = []

    def at(self, url: str, **changes: Any) -> Endpoint:
        self.made.append(Endpoint(replace(MODEL, url=url, **changes), 2))
        return self.made[-1]


@pytest.fixture
def asking() -> Iterator[Asking]:
    found = Asking()
    yield found
    for endpoint in found.made:
        endpoint.close()


def scored(endpoint: Endpoint, rows: np.ndarray = ROWS, left_ms: float = 2_000) -> tuple[list[float], dict[int, str]]:
    scores, reasons = score_rows(endpoint, Given(rows, (), left_ms))
    return scores.tolist(), reasons


def test_blocks_are_scored_over_one_connection_by_the_servers_own_names(asking: Asking):
    with served(Server()) as server:
        endpoint = asking.at(server.url)
        for _ in range(5):
            assert scored(endpoint) == ([2.0, 4.0, 6.0], {})
        assert len(server.connections) == 1
        assert len(server.asked) == 5
        assert server.asked[0] == {
            "inputs": [{"name": "x", "datatype": "FP64", "shape": [3, 2], "data": ROWS.ravel().tolist()}]
        }
        endpoint.close()


def test_a_named_output_and_column_are_asked_for_and_read(asking: Asking):
    def both(request: dict[str, Any]) -> Reply:
        assert request["outputs"] == [{"name": "p"}]
        data = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
        return answer({"name": "p", "datatype": "FP32", "shape": [3, 2], "data": data})

    with served(Server(infer=both)) as server:
        assert scored(asking.at(server.url, output="p", column=1)) == ([0.1, 0.2, 0.3], {})


def refused_with_7(request: dict[str, Any]) -> Reply:
    if 7.0 in request["inputs"][0]["data"]:
        return 400, b'{"error": "seven is unlucky"}'
    return doubled(request)


def test_of_a_block_that_the_server_refuses_one_row_is_lost(asking: Asking):
    rows = np.array([[float(n), 0.0] for n in range(16)])
    with served(Server(infer=refused_with_7)) as server:
        scores, reasons = scored(asking.at(server.url), rows)
    assert reasons == {7: "the server said 400: seven is unlucky"}
    assert blame(reasons[7]) == ERROR
    assert [score for row, score in enumerate(scores) if row != 7] == [2.0 * n for n in range(16) if n != 7]


def test_a_server_that_is_slow_costs_what_the_rows_had_left_and_is_asked_once(asking: Asking):
    hang = threading.Event()

    def slow(request: dict[str, Any]) -> Reply:
        hang.wait(20)
        return doubled(request)

    with served(Server(infer=slow)) as server:
        endpoint = asking.at(server.url)
        started_s = time.monotonic()
        _, reasons = scored(endpoint, left_ms=150)
        took_s = time.monotonic() - started_s
        assert set(reasons.values()) == {"the server did not answer within the 150 ms that were left"}
        assert set(map(blame, reasons.values())) == {TIMED_OUT}
        assert len(reasons) == 3
        assert took_s < 10, "far under what the server would have taken"
        assert len(server.asked) == 1
        hang.set()
        assert scored(endpoint) == ([2.0, 4.0, 6.0], {}), "and the next block is scored"


def test_a_server_that_drips_is_given_up_all_the_same(asking: Asking):
    with served(Server(drip_s=0.02)) as server:
        _, reasons = scored(asking.at(server.url), left_ms=300)
    assert "did not answer within the 300 ms" in reasons[0]


def test_no_call_takes_longer_than_the_pipeline_file_allows(asking: Asking):
    with served(Server(drip_s=0.05)) as server:
        _, reasons = scored(asking.at(server.url, timeout_ms=120), left_ms=600_000)
        assert "within the 120 ms" in reasons[0]


def test_rows_without_time_are_not_sent(asking: Asking):
    with served(Server()) as server:
        assert scored(asking.at(server.url), left_ms=0)[1] == dict.fromkeys(
            range(3), "no time was left to ask for it"
        )
        assert server.asked == []


def test_halves_are_not_sent_beyond_the_time(asking: Asking):
    def refused(request: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return 500, b"{}"

    with served(Server(infer=refused)) as server:
        started_s = time.monotonic()
        _, reasons = scored(asking.at(server.url), np.zeros((64, 2)), left_ms=300)
        took_s = time.monotonic() - started_s
    assert len(reasons) == 64
    assert len(server.asked) < 20, "127 without a limit"
    assert took_s < 3, "64 rows of 50 ms would take longer"


def test_a_dead_server_is_named_and_found_again_when_it_is_back(asking: Asking):
    with served(Server()) as server:
        endpoint = asking.at(server.url)
        assert scored(endpoint)[1] == {}
    _, reasons = scored(endpoint)
    assert "the server is not reached" in reasons[0]
    with served(Server(port=server.port)):
        assert scored(endpoint) == ([2.0, 4.0, 6.0], {})


def test_a_connection_that_was_cut_meanwhile_costs_nothing(asking: Asking):
    with served(Server()) as server:
        endpoint = asking.at(server.url)
        assert scored(endpoint)[1] == {}
    with served(Server(port=server.port)):
        assert scored(endpoint) == ([2.0, 4.0, 6.0], {})


def test_a_server_that_is_busy_is_asked_again(asking: Asking):
    replies = [(503, b'{"error": "loading"}'), (429, b""), None]

    def busy(request: dict[str, Any]) -> Reply:
        return replies.pop(0) or doubled(request)

    with served(Server(infer=busy)) as server:
        assert scored(asking.at(server.url)) == ([2.0, 4.0, 6.0], {})
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((200, b"<html>"), "nonsense: JSON is malformed"),
        ((200, b""), "nonsense: Input data was truncated"),
        ((200, b"\xff\xfe"), "nonsense"),
        ((200, b"[" * 100_000), "nonsense"),
        ((200, b"{}"), "nonsense: Object missing required field `outputs`"),
        (answer(), "nonsense: which output holds the scores is not said"),
        (answer({"name": "y", "shape": [3], "data": [1.0]}), "nonsense: cannot reshape"),
        (answer({"name": "y", "shape": [1], "data": [1.0]}), "returned (1,) for 3 rows: one score per row"),
        (answer({"name": "y", "shape": [4], "data": [1.0] * 4}), "returned (4,) for 3 rows: one score per row"),
        (answer({"name": "y", "shape": [3], "data": ["1", 1.0, 1.0]}), "returned '1': a number is needed"),
        (answer({"name": "y", "shape": [3], "data": [None, 1.0, 1.0]}), "returned None: a number is needed"),
        ((200, b'{"outputs": [{"name": "y", "shape": [3], "data": [NaN, 1, 1]}]}'), "nonsense: JSON is malformed"),
        ((200, b'{"outputs": [{"name": "y", "shape": [3], "data": [1e999, 1, 1]}]}'), "nonsense"),
        ((200, b"0" * (9 << 20)), "more than 8 MB"),
        ((302, b""), "the server said 302"),
        ((404, b'{"error": "no such model"}'), "the server said 404: no such model"),
        ((418, b"\xff teapot"), "the server said 418"),
    ],
)
def test_what_is_no_answer_is_said(asking: Asking, reply: Reply, says: str):
    with served(Server(infer=lambda _: reply)) as server:
        _, reasons = scored(asking.at(server.url))
        assert says in reasons[0]
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"\x16\x03\x01\x02\x00" * 30],
)
def test_what_is_no_http_is_said(asking: Asking, content: bytes):
    with says(content) as url:
        _, reasons = scored(asking.at(url))
    assert len(reasons) == 3
    assert reasons[0].startswith("the server ")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([], "takes nothing; one input of n x 2 FP32 or FP64 is needed"),
        ([{"name": "x", "datatype": "FP64", "shape": [-1, 3]}], "takes x FP64 [-1, 3]; one input of n x 2"),
        ([{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}], "takes x BYTES"),
        ([{"name": n, "datatype": "FP32", "shape": [-1, 1]} for n in "ab"], "takes a FP32 [-1, 1], b FP32"),
    ],
)
def test_a_model_of_other_features_is_not_asked(asking: Asking, inputs: list[dict[str, Any]], says: str):
    with served(Server(form=lambda: (200, json.dumps(FORM | {"inputs": inputs}).encode()))) as server:
        _, reasons = scored(asking.at(server.url))
        assert says in reasons[0]
        assert server.asked == []


def test_a_server_with_another_model_is_asked_anew_what_it_takes(asking: Asking):
    """Version 2 takes float32 under another name, and refuses what version 1 took."""
    second = json.dumps(FORM | {"inputs": [{"name": "z", "datatype": "FP32", "shape": [-1, 2]}]}).encode()

    def of_the_second(request: dict[str, Any]) -> Reply:
        return doubled(request) if request["inputs"][0]["name"] == "z" else (400, b'{"error": "no input z"}')

    with served(Server()) as server:
        endpoint = asking.at(server.url)
        assert scored(endpoint)[1] == {}
        server.form, server.infer = lambda: (200, second), of_the_second
        assert scored(endpoint, ROWS[:2] * 0.1)[0] == [2 * float(np.float32(0.1)), 2 * float(np.float32(0.2))]
