"""Labels of the demo come when their flights have landed, by the clock of the events."""

from pathlib import Path

import pytest
from msgspec import json

from deploy.flights import landing
from deploy.flights.landing import Landings
from deploy.flights.prepare import Label
from schemas.labels import decode_label
from streams.kafka.clients import Cluster

HOUR_MS = 3_600_000


class Sent:
    """A producer that remembers."""

    def __init__(self, _: object) -> None:
        self.records: list[tuple[str, bytes, str]] = []

    def produce(self, topic: str, value: bytes, key: str) -> None:
        self.records.append((topic, value, key))

    def poll(self, _: float) -> None:
        """Nothing is to be confirmed."""

    def flush(self, _: float) -> int:
        return 0


@pytest.fixture
def landings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landings:
    """Four flights, one an hour; the first is in the air for two and a half hours, and of a fifth there is a label."""
    lines = [json.encode({"request_id": f"f{n}", "asked_ms": n * HOUR_MS}) for n in range(4)]
    hours = {"f0": 3.5, "f1": 2.5, "f2": 3.0, "f3": 9.0, "other": 1.0}
    labels = [Label(name, name == "f1", int(after * HOUR_MS)) for name, after in hours.items()]
    (tmp_path / "labels.jsonl").write_bytes(b"\n".join(map(json.encode, labels)))
    monkeypatch.setattr(landing, "LABELS", tmp_path / "labels.jsonl")
    monkeypatch.setattr(landing, "Producer", Sent)
    return Landings(Cluster("nowhere:1"), "small", lines)


def landed(landings: Landings) -> list[str]:
    return [key for _, _, key in landings._producer.records]


def test_a_label_comes_when_its_flight_has_landed_and_each_once(landings: Landings):
    landings.after(0)
    landings.after(3)
    assert landed(landings) == [], "two hours have gone by, and all are in the air"
    landings.after(4)
    assert landed(landings) == ["f1", "f2"]
    landings.after(4)
    landings.end()
    assert landed(landings) == ["f1", "f2", "f0", "f3"]


def test_what_is_sent_are_labels_of_these_flights(landings: Landings):
    landings.end()
    topic, value, key = landings._producer.records[0]
    assert (topic, key) == ("small.labels", "f1")
    assert (decode_label(value).request_id, decode_label(value).truth) == ("f1", True)
    assert landings.sent == 4
