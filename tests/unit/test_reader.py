"""What the reader makes of being fenced. Its client is a stand-in: what a broker does is tested on Kafka."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition
from faust.types import TP

from schemas.errors import Paused, Superseded
from streams.kafka.batch import Batch
from streams.kafka.clients import Cluster
from streams.kafka.edge import Edge
from streams.kafka.loop import RecordLoop
from streams.kafka.reader import Reader

FENCED = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Static consumer fenced by other consumer")


class Nobody:
    """A role that has nothing to say."""

    def assigned(self, positions: Mapping[TP, int], generation: int) -> None: ...
    def deliver(self, batches: list[Batch]) -> None: ...
    def died(self, error: BaseException) -> None: ...
    async def lost(self, partitions: set[TP]) -> None: ...
    async def revoked(self, partitions: set[TP]) -> list[TopicPartition]:
        return []


class Client:
    """Hands out one error."""

    def __init__(self) -> None:
        self.commits = 0

    def consume(self, records: int, timeout: float) -> list[Message]:
        return [Message(error=FENCED)] if records == 1 else []

    def commit(self, **_: object) -> None:
        self.commits += 1

    def unassign(self) -> None: ...


@pytest.fixture
def reader() -> Iterator[Reader]:
    cluster = Cluster("127.0.0.1:9")
    consumer = cluster.consumer_settings("g", "g.0") | {"log_level": 0}
    made = Reader(Edge("router", consumer, cluster.producer_settings(), "t.dead-letters", 1024), Nobody())
    made.close()
    made.client = Client()
    made._loop = RecordLoop()
    yield made
    made._loop.close()


def within(reader: Reader, callback: Callable[[], None]) -> None:
    """Call it as librdkafka does: from inside a poll, where the loop would sleep."""

    class Once:
        def pause_s(self) -> float:
            return 0

        def read(self, wait_s: float) -> None:
            reader._loop.leave()
            callback()

    async def turn() -> None:
        reader._loop.read_from(Once())
        await asyncio.sleep(0.01)

    reader._loop.run_until_complete(turn())


def test_the_reader_is_stopped_only_after_the_callback_in_which_that_was_asked(reader: Reader):
    order: list[str] = []

    async def stop() -> None:
        await reader.stop()
        order.append("stopped")

    async def let_go() -> None:
        tasks.append(asyncio.ensure_future(stop()))
        await asyncio.sleep(0.01)
        order.append("let go")

    def consume(_: int, __: float) -> list[Message]:
        if not order:
            reader._run(let_go())
            order.append("the poll returns")
        return []

    async def turn() -> None:
        reader._loop.read_from(reader)
        while not tasks:
            await asyncio.sleep(0.001)
        await asyncio.wait_for(asyncio.gather(*tasks), 5)

    tasks: list[asyncio.Future[None]] = []
    reader.client.consume = consume
    reader._loop.run_until_complete(turn())
    assert order == ["let go", "the poll returns", "stopped"]


def test_a_member_without_partitions_hears_that_it_is_fenced(reader: Reader):
    with pytest.raises(Superseded, match=r"g\.0: another process runs under this name"):
        reader._read(0.1)


def test_a_member_that_lost_its_session_is_fenced_by_itself_and_starts_again(reader: Reader):
    within(reader, lambda: reader._lose(reader.client, []))
    with pytest.raises(Paused, match=r"g\.0: it lost its session 0 s ago"):
        reader._read(0.1)


def test_what_was_to_be_committed_before_a_rebalance_is_not_committed_after_it(reader: Reader):
    answers: list[KafkaError | None] = []
    for let_go in (reader._lose, reader._revoke):
        reader.commit([TopicPartition("t", 0, 7)], answers.append)
        within(reader, partial(let_go, reader.client, []))
    reader._serve_commits()
    assert reader.client.commits == 0
    assert [answer.code() for answer in answers if answer] == [KafkaError._ASSIGNMENT_LOST] * 2


class Pausing(Client):
    """Notes what is paused and resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, set[str]]] = []

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(topic, 0) for topic in ("a", "b", "c")]

    def consume(self, records: int, timeout: float) -> list[Message]:
        return []

    def pause(self, places: list[TopicPartition]) -> None:
        self.done.append(("pause", {place.topic for place in places}))

    def resume(self, places: list[TopicPartition]) -> None:
        self.done.append(("resume", {place.topic for place in places}))


def test_partitions_are_left_alone_until_they_are_wanted_again(reader: Reader):
    client = reader.client = Pausing()
    reader.flowing = True
    for wanted in ({"a", "elsewhere"}, {"a", "elsewhere"}, {"b"}, set()):
        reader.leave_alone(frozenset(TP(topic, 0) for topic in wanted))
        reader._read(0)
    assert client.done == [("pause", {"a"}), ("resume", {"a"}), ("pause", {"b"}), ("resume", {"b"})]


def test_what_is_left_alone_stays_so_when_the_agents_have_caught_up(reader: Reader):
    client = reader.client = Pausing()
    reader.flowing = True
    reader.leave_alone(frozenset({TP("a", 0)}))
    reader._read(0)
    reader._paused = True
    reader._read(0)
    reader._read(0)
    assert client.done == [("pause", {"a"}), ("resume", {"a", "b", "c"}), ("pause", {"a"})]


class Backlog(Pausing):
    """Has records without end, until it is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def get_watermark_offsets(self, place: TopicPartition, cached: bool) -> None: ...

    def consume(self, records: int, timeout: float) -> list[Message]:
        if self.done and self.done[-1][0] == "pause":
            return []
        self.given += 1
        return [Message(topic="a", partition=0, offset=self.given, value=b"v")]


@pytest.mark.parametrize("bound", ["EARLY", "EARLY_BYTES"])
def test_while_agents_are_not_ready_a_backlog_stays_at_the_broker(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, bound: str
):
    monkeypatch.setattr(f"streams.kafka.reader.{bound}", 5)  # each record has one byte
    client, taken = Backlog(), list[int]()
    reader.client, reader._role = client, Nobody()
    reader._role.deliver = lambda batches: taken.extend(one.offset() for each in batches for one in each.messages)
    for _ in range(20):
        reader._read(0)
    assert (client.given, client.done) == (5, [("pause", {"a", "b", "c"})])
    assert taken == []
    reader.flowing = True
    reader.agents(behind=False)
    reader._read(0)
    assert (taken, client.done[-1][0]) == ([1, 2, 3, 4, 5, 6], "resume")


def test_what_is_gone_by_retention_is_where_a_role_that_knows_its_own_place_goes_on(reader: Reader):
    class Known:
        def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            return places

        def get_watermark_offsets(self, place: TopicPartition, **_: object) -> tuple[int, int]:
            return 7, 20

    own = {TP("a", 0): 3, TP("b", 0): 9}
    reader._edge = replace(reader._edge, positions=lambda _: own)
    asked = [TopicPartition("a", 0), TopicPartition("b", 0)]
    assert reader._positions(Known(), asked) == {TP("a", 0): 7, TP("b", 0): 9}
