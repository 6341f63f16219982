"""The weather at the airports: hourly reports, on a topic of their own beside the flights."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from confluent_kafka import KafkaException, Producer

from deploy.flights.source import HOUR_MS, hour_ms, table
from schemas.pipeline import Pipeline
from schemas.requests import Request
from schemas.topics import Topics
from streams.core.enrichment import Enrichment
from streams.kafka.clients import Cluster

HERE = Path(__file__).parent
REPORTS = HERE / "build" / "weather.jsonl"
TABLE = "weather"
FIELDS = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
BEFORE_MS = 3 * HOUR_MS
"""How far before its flights a feed begins: as old as a report may be."""


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One hour at one airport; what was not measured is absent."""

    origin: str
    from_ms: int
    temp: float | None = None
    dewp: float | None = None
    humid: float | None = None
    wind_speed: float | None = None
    precip: float | None = None
    pressure: float | None = None
    visib: float | None = None


encode = msgspec.json.encode
decode_report = msgspec.json.Decoder(Report).decode


def read_reports() -> list[Report]:
    """The whole year, in the order of time."""
    rows = table("weather.csv").to_pylist()
    found = [
        Report(
            row["origin"],
            hour_ms(row["month"], row["day"], row["hour"]),
            **{name: None if row[name] is None else float(row[name]) for name in FIELDS},
        )
        for row in rows
    ]
    return sorted(found, key=_from_ms)


def with_weather(requests: Sequence[Request], pipeline: Pipeline, asked_ms: Sequence[int]) -> list[Request]:
    """Requests joined with the weather as the router would, had the reports come as time went by."""
    enrichment, reports, taken = Enrichment(pipeline), read_reports(), 0
    joined: dict[int, Request] = {}
    for place in sorted(range(len(requests)), key=asked_ms.__getitem__):
        while taken < len(reports) and reports[taken].from_ms <= asked_ms[place]:
            enrichment.tables[TABLE].take(reports[taken].origin.encode(), encode(reports[taken]), 0)
            taken += 1
        (joined[place],) = enrichment.join([requests[place]])
    return [joined[place] for place in range(len(requests))]


class Feed:
    """Sends reports in the order of their time, each once."""

    def __init__(self, cluster: Cluster, pipeline: str, reports: Iterable[bytes], from_ms: int = 0) -> None:
        self._producer = Producer(cluster.producer_settings(linger_ms=2) | {"log_level": 0})
        self._topic = Topics(pipeline).table(TABLE)
        self._reports = [(decode_report(line), line) for line in reports]
        self._sent = bisect_left(self._reports, from_ms, key=lambda pair: pair[0].from_ms)

    def through(self, at_ms: float) -> None:
        """Send all that hold from this time (ms) or an earlier one on."""
        while self._sent < len(self._reports) and self._reports[self._sent][0].from_ms <= at_ms:
            report, line = self._reports[self._sent]
            self._producer.produce(self._topic, line, report.origin)
            self._sent += 1
        self._producer.poll(0)

    def end(self) -> None:
        """Wait until all that was sent is confirmed; raises KafkaException when it is not."""
        if left := self._producer.flush(30):
            raise KafkaException(f"{self._topic}: {left} reports are not confirmed after 30 s")


class Asked(msgspec.Struct, frozen=True):
    """When the question of an event is asked (ms)."""

    asked_ms: int


asked_of = msgspec.json.Decoder(Asked).decode


def feed_beside(cluster: Cluster, pipeline: str, lines: Sequence[bytes]) -> Feed:
    """The reports that these flights need, the first of which begin some hours before them."""
    first_ms = min(asked_of(line).asked_ms for line in lines)
    return Feed(cluster, pipeline, REPORTS.read_bytes().splitlines(), first_ms - BEFORE_MS)


def _from_ms(report: Report) -> int:
    return report.from_ms
