"""An alarm is posted once; a server that does not take it is named by its host only, and harms nothing."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from msgspec.structs import asdict

from agents import webhook
from agents.webhook import Webhook, line_of
from schemas.decisions import Ticket
from schemas.verdicts import Alarm, Reported, Severity, Word
from tests.unit.test_alarms import BARE

REPORT = Reported(
    **asdict(BARE)
    | {
        "verdict": Word.CODE,
        "severity": Severity.PAGE,
        "sentence": "full changed, the input did not.",
        "model": "full",
    },
    pipeline="fraud",
    watch="0/0@0",
    from_ticket=Ticket(0, 20_000),
    said_at_ticket=Ticket(0, 20_250),
    since_ticket=Ticket(0, 20_100),
    alarm=Alarm.RAISED,
    alarmed=Word.CODE,
)


@contextmanager
def server(status: int, wait_s: float = 0) -> Iterator[tuple[str, list[Any]]]:
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(wait_s)
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = Thread(target=found.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.server_port}/hook/secret", taken
        finally:
            found.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSE_S", 0.0)


def test_an_alarm_is_posted_once_as_a_sentence_and_as_its_verdict():
    with server(204) as (address, taken):
        assert asyncio.run(Webhook(address, 5).post(REPORT))
    [posted] = taken
    assert (
        posted["text"]
        == "fraud raised: page: code: full changed, the input did not. (since 0/20100)"
        == line_of(REPORT)
    )
    assert (posted["alarm"], posted["verdict"]["model"]) == ("raised", "full")


@pytest.mark.parametrize(("status", "says"), [(500, "it answers 500"), (302, "it answers 302")])
def test_one_that_does_not_take_it_is_asked_again_and_named_without_its_secret(
    caplog: pytest.LogCaptureFixture, status: int, says: str
):
    with server(status) as (address, taken), caplog.at_level(logging.ERROR):
        hook = Webhook(address, 5)
        assert not asyncio.run(hook.post(REPORT))
    assert len(taken) == 2
    assert hook.failures == 1
    assert says in caplog.text
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_one_that_hangs_is_given_its_time_and_no_more(caplog: pytest.LogCaptureFixture):
    with server(200, wait_s=20) as (address, _):
        started_s = time.monotonic()
        assert not asyncio.run(Webhook(address, 0.2).post(REPORT))
        assert time.monotonic() - started_s < 10
    assert "no answer in 0.2 s" in caplog.text


def test_one_that_is_not_there_is_said(caplog: pytest.LogCaptureFixture):
    assert not asyncio.run(Webhook("http://127.0.0.1:1/hook", 5).post(REPORT))
    assert "did not take an alarm: ClientConnectorError" in caplog.text
