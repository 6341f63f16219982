"""Who waits for records is told when they are all in the log, and of what the broker will never take."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from msgspec.structs import replace

from agents.answering import ECHOED_HEADERS, ECHOED_KEY, Answering
from agents.prober import Prober
from schemas.blocks import REASON_CHARS, decode_scores
from schemas.requests import Headers
from streams.core.rendezvous import Rendezvous
from streams.kafka.batch import Outgoing, Sending, Told
from streams.kafka.producer import COPIES, Copies, Producer
from tests.unit.small import pipeline, request, scores

TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
NOBODYS: Any = None


@pytest.mark.parametrize("error", [None, TOO_LARGE])
def test_nobody_is_told_before_all_are_confirmed_and_of_a_failure_only_whoever_looks(error: KafkaError | None):
    done: list[int] = []
    failed: list[Told] = []
    told = Told(lambda: done.append(1), failed)
    told.pending += 1
    told.delivered(None, NOBODYS)  # a full queue: the second is not in it yet
    told.pending += 1
    told.handed_over()
    assert (done, failed) == ([], [])
    told.delivered(error, NOBODYS)
    assert (done, failed) == (([1], []) if error is None else ([], [told]))


def test_a_dead_letter_in_a_records_place_is_waited_for_and_then_told_once():
    done: list[int] = []
    failed: list[Told] = []
    told = Told(lambda: done.append(1), failed)
    told.pending += 1
    told.handed_over()
    told.delivered(TOO_LARGE, NOBODYS)

    class Letters:
        async def resolve_failures(self, batch: Sending) -> None:
            batch.failures = []
            batch.pending += 1

    asyncio.run(Producer.settle(Letters(), failed))  # type: ignore[arg-type]
    assert (done, failed) == ([], []), "the letter is on its way"
    told.delivered(None, NOBODYS)
    assert done == [1]


@pytest.mark.parametrize("more", [0, 1])
def test_a_key_and_headers_that_may_not_fit_beside_a_decision_are_not_given_back(more: int):
    headers: Headers = [("traceparent", b"h" * (ECHOED_HEADERS - len("traceparent") + more))]
    core, sent = Rendezvous(pipeline(), 0), list[Outgoing]()
    core.requests_seen([replace(request(0), key=b"k" * (ECHOED_KEY + more), headers=headers)], 1_000)
    replies = core.scores_offered(scores("first", 0), 0, 1_004, 1_005)

    class Takes:
        async def send_batch(self, _: Sending, records: list[Outgoing]) -> None:
            sent.extend(records)

    asyncio.run(Answering(pipeline(), "rendezvous").publish(Takes(), core, replies))  # type: ignore[arg-type]
    (record,) = sent
    assert (record.key is None, not record.headers) == (bool(more), bool(more))


def test_a_reason_that_another_program_gives_is_cut_where_it_comes_in():
    value = b'{"model": "first", "version": "1", "offset": 7, "error": "%s"}' % (b"x" * 1_000_000)
    block = decode_scores(value)
    assert [len(error.reason) for error in block.errors] == [REASON_CHARS]  # type: ignore[union-attr]


def test_copies_to_a_topic_that_is_not_there_cannot_fill_the_queue_that_decisions_leave_by():
    class Queue:
        _queue = Producer._queue

        def __init__(self) -> None:
            self._copies = Copies()

            self._sent = asyncio.Event()
            self.client = self

        def produce(self, topic: str, *_: object) -> None:
            if topic == "answers.never":
                raise KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC))

    queue: Any = Queue()
    record = Outgoing("answers.nowhere", b"{}")
    for _ in range(2):
        Producer.send_copies(queue, [record] * (COPIES - 1))
    assert queue._copies.pending == COPIES
    queue._copies.delivered(KafkaError(KafkaError._MSG_TIMED_OUT), Message())
    never = Outgoing("answers.never", b"{}")  # as librdkafka says once it knows that there is no such topic
    Producer.send_copies(queue, [never])
    Producer.send_copies(queue, [record] * 2)
    assert queue._copies.pending == COPIES


def test_a_full_queue_is_waited_for_what_is_never_taken_is_a_dead_letter_and_the_rest_follows_in_order():
    class Client:
        full, taken = 2, list[tuple[str, bytes]]()

        def poll(self, _: float) -> int:
            return 0

        def produce(self, topic: str, value: bytes, *_: object) -> None:
            if value == b"large" and topic == "answers":
                raise KafkaException(TOO_LARGE)
            if value == b"second" and self.full:
                self.full -= 1
                raise BufferError
            self.taken.append((topic, value))

    producer: Any = object.__new__(Producer)
    producer.client, producer._sent, producer._sampled_s = Client(), asyncio.Event(), float("inf")
    producer.app = SimpleNamespace(edge=SimpleNamespace(role="router", dead_letters="letters", dead_letter_cap=100))
    sending = Sending()
    values = (b"first", b"second", b"large", b"last")
    asyncio.run(producer.send_batch(sending, [Outgoing("answers", value) for value in values]))
    assert Client.taken == [("letters" if value == b"large" else "answers", value) for value in values]
    assert sending.pending == len(values)


def test_no_probe_leaves_before_the_broker_has_its_token():
    class App:
        """Its broker answers nobody until it is told to."""

        def __init__(self) -> None:
            self.producer = self
            self.sent: list[Sending] = []

        async def send_batch(self, sending: Sending, records: list[Outgoing]) -> None:
            sending.pending += len(records)
            self.sent.append(sending)

        async def flush(self) -> None: ...

        async def resolve_failures(self, _: Sending) -> None: ...

    app: Any = App()
    prober = Prober(pipeline(), app, 60.0)
    for _ in range(2):
        asyncio.run(prober.announce())
    assert not prober.announced
    (sending,) = app.sent
    sending.delivered(None, NOBODYS)
    asyncio.run(prober.announce())
    assert prober.announced
    assert app.sent == [sending]
