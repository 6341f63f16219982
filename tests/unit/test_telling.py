"""An alarm is told once, whatever ends its teller: what was taken is noted, and what was not is told again."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from agents import webhook
from agents.telling import Telling
from schemas.pipeline import MonitorSettings
from schemas.verdicts import Alarm, Reported
from streams.kafka.clients import Cluster
from tests.unit.test_webhook import REPORT, server

NEWER = replace(REPORT, window=1, alarm=Alarm.CLEARED)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSE_S", 0.0)


class Life:
    """One process of the monitor's; `last` is the record that lies on `verdicts`."""

    def __init__(self, folder: Path, address: str = "", last: Reported | None = None) -> None:
        settings = MonitorSettings(webhook=address)
        self.telling = Telling("fraud.verdicts", Cluster("127.0.0.1:1"), settings, folder / "monitor" / "taken")
        self.tasks: list[asyncio.Future[Any]] = []
        producer = SimpleNamespace(now_ms=lambda: REPORT.said_at_ms, send_batch=self._send)
        app = SimpleNamespace(producer=producer, add_future=lambda one: self.tasks.append(asyncio.ensure_future(one)))
        self.telling.open(app)  # type: ignore[arg-type]
        self.telling._told_last = lambda: last  # type: ignore[method-assign]

    async def _send(self, *_: object) -> None:
        return None

    def live(self, *reports: Reported, shown: bool = True) -> int:
        """Tell these; the lines that whoever supervises has taken."""

        async def lives() -> int:
            await self.telling.begin()
            for report in reports:
                await self.telling.say(report)
            lines = len(self.telling.news)
            if shown:
                self.telling.news.clear()
            await asyncio.gather(*self.tasks)
            self.telling.look()
            return lines

        return asyncio.run(lives())


def test_what_the_webhook_took_is_told_by_no_later_life(tmp_path: Path):
    with server(204) as (address, posted):
        assert Life(tmp_path, address).live(REPORT) == 1
        for _ in range(3):
            assert Life(tmp_path, address, REPORT).live() == 0
        assert Life(tmp_path, address, REPORT).live(NEWER) == 1
        assert Life(tmp_path, address, NEWER).live() == 0
    assert [one["alarm"] for one in posted] == ["raised", "cleared"]


def test_what_it_did_not_take_and_what_nobody_came_to_tell_is_told_by_the_next_life(tmp_path: Path):
    with server(500) as (address, refused):
        Life(tmp_path, address).live(REPORT)
        assert len(refused) == webhook.TRIES
    with server(204) as (address, posted):
        assert Life(tmp_path, address, REPORT).live() == 1
        assert Life(tmp_path, address, NEWER).live() == 1, "killed after it was written, before it was told"
    assert [one["alarm"] for one in posted] == ["raised", "cleared"]


def test_without_a_webhook_it_is_told_once_its_line_is_taken(tmp_path: Path):
    assert Life(tmp_path).live(REPORT, shown=False) == 1
    assert Life(tmp_path, last=REPORT).live() == 1, "nobody has its line"
    assert Life(tmp_path, last=REPORT).live() == 0


def test_an_alarm_that_was_taken_late_does_not_hide_that_a_newer_one_was_taken(tmp_path: Path):
    life = Life(tmp_path, "http://127.0.0.1:1/hook")

    async def lives() -> None:
        newer_taken = asyncio.Event()

        async def post(report: Reported) -> bool:
            if report.alarm is Alarm.RAISED:
                await newer_taken.wait()
            return True

        life.telling._webhook = SimpleNamespace(post=post)  # type: ignore[assignment]
        for report in (REPORT, NEWER):
            await life.telling.say(report)
        await life.tasks[1]
        newer_taken.set()
        await life.tasks[0]

    asyncio.run(lives())
    assert Life(tmp_path, last=NEWER).live() == 0


def test_a_note_that_cannot_be_read_or_written_is_said_and_costs_one_more_telling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "monitor").write_bytes(b"a file in the folder's place")
    with caplog.at_level(logging.WARNING):
        assert Life(tmp_path).live(REPORT) == 1
    assert "after a restart this alarm is told once more" in caplog.text
    (tmp_path / "monitor").unlink()
    (tmp_path / "monitor").mkdir()
    (tmp_path / "monitor" / "taken").write_bytes(b"{")
    with caplog.at_level(logging.WARNING):
        assert Life(tmp_path, last=REPORT).live() == 1
    assert "which alarm was taken last is not known" in caplog.text
    assert Life(tmp_path, last=REPORT).live() == 0
