"""The past on its way back to Kafka: records with their marks, and where a replay that was cut short had come to."""

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from schemas.errors import RendezvousError
from schemas.requests import Headers
from streams.core.replay import RUN_MARK, SOURCE_MARK, TIME_MARK, source_of
from streams.core.replay_order import Run, Schedule
from streams.kafka.admin import TIMEOUT_S, answer_of
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader

FLUSH_S = 0.5
FULL_S = 0.05
MIN_SLEEP_S = 0.002
LINGER_MS = 5
QUEUED = 50_000
LOOK_BACK = 500


class NotTaken(RendezvousError):
    """The target does not take a record."""


class Replayer:
    """Sends runs of archived records to one topic, marked, each to the partition it was in."""

    def __init__(self, cluster: Cluster, run: str, source: str, target: str) -> None:
        self.sent = 0
        self.target = target
        self._run = run.encode()
        self._source = source.encode()
        self._failures: list[str] = []
        # The topic's own limit: a record that is too large for it is refused here, before any that follows is sent.
        own = {
            "queue.buffering.max.messages": QUEUED,
            "delivery.report.only.error": True,
            "message.max.bytes": _limit(cluster, target),
        }
        settings = cluster.producer_settings(LINGER_MS) | own
        self._producer = Producer(settings | {"on_delivery": self._failed})

    def send(self, run: Run, schedule: Schedule | None) -> None:
        """Hand over one run, each record when it is due; raises NotTaken when the target refused one.

        A schedule begins when the first record is confirmed: before that an idempotent producer waits for its id,
        half a second and more, and would then send all that was due meanwhile at once.
        """
        chunk, start, stop = run
        produce, target, partition = self._producer.produce, self.target, chunk.partition
        source, mark = b"%s/%d/" % (self._source, partition), (RUN_MARK, self._run)
        originals = chunk.headers
        for place in range(start, stop):
            if schedule is not None:
                self._wait(schedule, chunk.at_ms[place])
            headers: Headers = [
                mark,
                (SOURCE_MARK, b"%s%d" % (source, chunk.offsets[place])),
                (TIME_MARK, b"%d" % chunk.at_ms[place]),
            ]
            if originals is not None and (own := originals[place]):
                headers = own + headers
            value, key = chunk.values[place], chunk.keys[place]
            try:
                produce(target, value, key, partition, headers=headers)
            except (BufferError, KafkaException):
                self._try_again(value, key, partition, headers)
            if schedule is not None and not self.sent:
                self.flush()
                schedule.started_s = time.monotonic()
            self.sent += 1
        self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Wait until the broker has confirmed all that was sent; raises NotTaken."""
        while self._producer.flush(FLUSH_S):
            self._check()
        self._check()

    def _wait(self, schedule: Schedule, at_ms: int) -> None:
        """Sleep rather than poll: librdkafka rounds a wait of under a millisecond down to none."""
        due_s = schedule.due_s(at_ms)
        while (remaining_s := due_s - time.monotonic()) > 0:
            self._producer.poll(0)
            time.sleep(min(max(remaining_s, MIN_SLEEP_S), FLUSH_S))
        schedule.sent(due_s, time.monotonic())

    def _try_again(self, value: bytes | None, key: bytes | None, partition: int, headers: Headers) -> None:
        while True:
            try:
                self._producer.produce(self.target, value, key, partition, headers=headers)
            except BufferError:
                self._producer.poll(FULL_S)
                self._check()
            except KafkaException as error:
                raise NotTaken(f"{self.target}: {error.args[0].str()}: {_place(headers)}") from error
            else:
                return

    def _failed(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(f"{message.topic()}/{message.partition()} does not take a record: {error.str()}")

    def _check(self) -> None:
        if self._failures:
            raise NotTaken(self._failures[0])


def _limit(cluster: Cluster, topic: str) -> int:
    """The largest record that a topic takes."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = AdminClient(cluster.settings())
    (described,) = client.describe_configs([resource], request_timeout=TIMEOUT_S).values()
    return int(answer_of(described)["max.message.bytes"].value)


def _place(headers: Headers) -> str:
    return f"record {(dict(headers)[SOURCE_MARK] or b'').decode()}"


def come_to(
    cluster: Cluster, target: str, run: str, source: str, partitions: Sequence[int], since: Mapping[int, int]
) -> dict[int, int]:
    """The source offset after the last record of this run in each target partition, read from the target's tail.

    `since` are target offsets before which nothing need be looked for. Partitions without a record are left out.
    """
    found: dict[int, int] = {}
    with TopicReader(cluster, target) as reader:
        bounds = reader.bounds()
        floors = {number: max(bounds[number][0], since.get(number, 0)) for number in partitions}
        ends = {number: bounds[number][1] for number in partitions}
        back = LOOK_BACK
        while wanted := [number for number in partitions if number not in found and floors[number] < ends[number]]:
            begins = {number: max(floors[number], ends[number] - back) for number in wanted}
            starts = {number: end for number, (_, end) in reader.bounds().items()} | begins
            for message in reader.to_end(starts):
                mark = source_of(message.headers())
                number = message.partition() or 0
                if mark is not None and (mark.run, mark.topic, mark.partition) == (run, source, number):
                    found[number] = mark.offset + 1
            ends |= begins
            back *= 8
    return found


def ends_of(cluster: Cluster, target: str) -> dict[int, int]:
    """The next offset of each partition of a topic."""
    with TopicReader(cluster, target) as reader:
        return {number: end for number, (_, end) in reader.bounds().items()}
