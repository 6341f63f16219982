"""Where the monitor reads on: where its snapshot belongs, else where the pipeline begins."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from faust.types import TP
from msgspec.structs import replace

from agents.actor import Place
from agents.monitor import Monitor
from agents.roles import build
from agents.snapshot import SnapshotFile
from schemas.decisions import Ticket
from schemas.errors import ConfigurationRefused
from schemas.minutes import Minute, decode_minute
from schemas.pipeline import Enrich, MonitorSettings
from schemas.topics import Topics
from streams.core.gathering import Gathered, Places
from streams.core.watching import Watching
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline

SETTINGS = MonitorSettings(probes=0)
SMALL = replace(pipeline(), monitor=SETTINGS)
TOPICS = Topics("small")
LOGS = (TOPICS.raw, TOPICS.scores, TOPICS.decisions)
CLUSTER = Cluster("127.0.0.1:1")


def positions(folder: Path, start: str = "earliest", of: str = "mine") -> tuple[dict[TP, int], Monitor]:
    monitor = Monitor(replace(SMALL, start=start), SETTINGS, CLUSTER, SnapshotFile(folder, of))
    found = monitor.positions([TopicPartition(topic, 0, 77) for topic in LOGS])
    return dict(found), monitor


def test_at_first_it_reads_from_where_the_pipeline_begins(tmp_path: Path):
    assert positions(tmp_path)[0] == {TP(topic, 0): OFFSET_BEGINNING for topic in LOGS}
    found, monitor = positions(tmp_path, "latest")
    assert found == {}
    assert monitor.committable() == {}


def test_it_goes_on_where_its_snapshot_belongs_whatever_was_committed(tmp_path: Path):
    SnapshotFile(tmp_path, "mine").write({0: Places(5, 7, 9)}, Watching(SMALL, MonitorSettings(remind_s=7), ("x",)))
    found, monitor = positions(tmp_path)
    assert found == dict(zip((TP(topic, 0) for topic in LOGS), (5, 7, 9), strict=True))
    assert {tp: offset for tp, (offset, _) in monitor.committable().items()} == found
    assert monitor._watching.settings == SETTINGS, "what the file says now of alarms counts"


def test_a_snapshot_that_is_lost_is_counted_and_all_is_learnt_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    SnapshotFile(tmp_path, "another").write({0: Places(5, 7, 9)}, Watching(SMALL, SETTINGS, ("x",)))
    found, monitor = positions(tmp_path)
    assert found == {TP(topic, 0): OFFSET_BEGINNING for topic in LOGS}
    assert monitor.lost_snapshots == 1
    assert "learnt anew" in caplog.text


@pytest.mark.parametrize(
    ("own", "number", "says"),
    [(pipeline(), 0, "write a \\[monitor\\] table"), (SMALL, 1, "a pipeline has one monitor")],
)
def test_there_is_one_where_the_file_asks_for_it(own: object, number: int, says: str, tmp_path: Path):
    place = Place(own, tmp_path, CLUSTER, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationRefused, match=says):
        build("monitor", place, number=number)


def test_where_events_are_enriched_that_is_read_too(tmp_path: Path):
    enriched = replace(SMALL, enrich=(Enrich(name="weather", key="colour"),))
    monitor = Monitor(enriched, SETTINGS, CLUSTER, SnapshotFile(tmp_path, "mine"))
    assert monitor.topics == (*LOGS, TOPICS.enriched)
    SnapshotFile(tmp_path, "mine").write({0: Places(5, 7, 9, 11)}, Watching(SMALL, SETTINGS, ("x",)))
    places = [TopicPartition(topic, 0, 77) for topic in monitor.topics]
    assert list(monitor.positions(places).values()) == [5, 7, 9, 11]


def test_a_batch_that_waited_while_its_partition_was_let_go_is_not_gathered_after_it():
    taken: list[object] = []
    reading = SimpleNamespace(gatherings={0: object()}, take=lambda batch, keep: taken.append(batch) or False)

    async def rebalanced() -> None:
        monitor: Any = object.__new__(Monitor)
        monitor._lock, monitor._reading = asyncio.Lock(), reading
        monitor._watching = SimpleNamespace(probing=SimpleNamespace(choosing=False))
        batch: Any = SimpleNamespace(partition=0)
        async with monitor._lock:
            stale = asyncio.ensure_future(monitor.take(batch))
            await asyncio.sleep(0)
            reading.gatherings = {0: object()}
        await stale
        assert taken == []
        await monitor.take(batch)

    asyncio.run(rebalanced())
    assert len(taken) == 1, "one of the partition as it is now"


class Shell:
    """A monitor over requests that are handed on as they stand here, up to `frontier_ms`; `sent` is what it wrote."""

    def __init__(self, folder: Path, requests: Iterable[Gathered] = ()) -> None:
        self.monitor = monitor = Monitor(SMALL, SETTINGS, CLUSTER, SnapshotFile(folder, "mine"))
        self.requests = deque(requests)
        self.frontier_ms = 0.0
        self.asked_ms: list[float] = []
        self.sent: list[Outgoing] = []
        self.confirmed = True
        producer = SimpleNamespace(send_batch=self._send, flush=self._none, resolve_failures=self._none)
        app: Any = SimpleNamespace(producer=producer)
        monitor._app = app
        monitor._telling.open(app)
        monitor.positions(())
        monitor._kept_s = time.monotonic()
        reading: Any = SimpleNamespace(
            gatherings={0: 1}, pace=lambda _: None, settle=self._settle, places=lambda: {0: Places(7, 7, 7)}
        )
        reading.hand_on = lambda: self.requests.popleft() if self.requests else None
        self.reading = monitor._reading = reading

    async def _send(self, batch: Sending, records: list[Outgoing]) -> None:
        self.sent += records
        batch.pending += 0 if self.confirmed else len(records)

    async def _none(self, *_: object) -> None:
        return None

    async def _settle(self, _: object, due_ms: float) -> None:
        self.asked_ms.append(due_ms)
        self.reading.frontier_ms = self.frontier_ms

    def look(self) -> list[Minute]:
        """What it has written by now."""
        asyncio.run(self.monitor.look())
        return self.minutes

    @property
    def minutes(self) -> list[Minute]:
        assert {(one.topic, one.partition) for one in self.sent} <= {(TOPICS.minutes, 0)}
        assert len({one.key for one in self.sent}) == len(self.sent)
        return [decode_minute(one.value) for one in self.sent]


def asked(first_ms: int, count: int) -> list[Gathered]:
    expected = {"first": "1"}
    return [
        Gathered(Ticket(0, number), first_ms + number, first_ms + number + 2_000, expected, {}, None, {"first": 0.5})
        for number in range(count)
    ]


def test_a_minute_is_written_when_it_is_over_be_it_that_nobody_asks_any_more(tmp_path: Path):
    shell = Shell(tmp_path, [*asked(60_000, 30), *asked(119_999, 5)])
    assert [(one.at_ms, one.asked) for one in shell.look()] == [(60_000, 31)]
    shell.frontier_ms = 179_999.0
    assert len(shell.look()) == 1
    assert shell.asked_ms[-1] == 180_000, "how far the log reaches is asked then"
    shell.frontier_ms = 180_000.0
    assert [(one.at_ms, one.asked) for one in shell.look()] == [(60_000, 31), (120_000, 4)]


def test_who_is_killed_goes_on_in_the_middle_of_a_minute_and_none_is_skipped_that_the_broker_does_not_have(
    tmp_path: Path,
):
    first = Shell(tmp_path, asked(60_000, 30))
    first.look()
    asyncio.run(first.monitor.keep())
    first.confirmed, first.requests = False, deque([*asked(60_030, 10), *asked(120_000, 10)])
    assert [one.asked for one in first.look()] == [40]
    first.reading.places = lambda: {0: Places(8, 8, 8)}
    asyncio.run(first.monitor.keep())
    second = Shell(tmp_path, [*asked(60_030, 10), *asked(120_000, 10)])
    assert second.look() == first.minutes, "written again, in the same words"
