"""What became of flights: a label for each, sent when it has landed by the clock of the events."""

from collections.abc import Sequence
from math import inf

import msgspec
from confluent_kafka import KafkaException, Producer

from deploy.flights.prepare import LABELS, Label
from deploy.flights.weather import asked_of
from schemas import labels
from schemas.topics import Topics
from streams.kafka.clients import Cluster


class Flown(msgspec.Struct, frozen=True):
    """Which request an event is."""

    request_id: str


decode_label = msgspec.json.Decoder(Label).decode
decode_flown = msgspec.json.Decoder(Flown).decode


class Landings:
    """Labels of these flights in the order in which they land, each sent once."""

    def __init__(self, cluster: Cluster, pipeline: str, lines: Sequence[bytes]) -> None:
        self._producer = Producer(cluster.producer_settings(linger_ms=2) | {"log_level": 0})
        self._topic = Topics(pipeline).labels
        self._lines = lines
        flown = {decode_flown(line).request_id for line in lines}
        every = map(decode_label, LABELS.read_bytes().splitlines())
        self._labels = sorted((one for one in every if one.request_id in flown), key=lambda one: one.landed_ms)
        self.sent = 0

    def after(self, decided: int) -> None:
        """So many flights were decided: the last one's time is the clock's. A label never comes before its flight."""
        if decided:
            self._through(asked_of(self._lines[decided - 1]).asked_ms)

    def end(self) -> None:
        """Who is still in the air lands; raises KafkaException when not all labels are confirmed."""
        self._through(inf)
        if left := self._producer.flush(30):
            raise KafkaException(f"{self._topic}: {left} labels are not confirmed after 30 s")

    def _through(self, at_ms: float) -> None:
        while self.sent < len(self._labels) and self._labels[self.sent].landed_ms <= at_ms:
            one = self._labels[self.sent]
            value = labels.encode_label(labels.Label(one.late, one.request_id))
            self._producer.produce(self._topic, value, one.request_id)
            self.sent += 1
        self._producer.poll(0)
