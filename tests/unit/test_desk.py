"""The desk's own clock: who stood still says nothing more."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError
from faust.types import TP
from msgspec.structs import replace

from agents import desk as desks
from agents.answering import Answering
from agents.desk import PAUSE_S, Desk
from schemas.decisions import decode_decision
from schemas.errors import Paused
from schemas.probes import NO_TOKENS, encode_token, marked
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline, request, scores


def replies(core: Rendezvous) -> list[Reply]:
    core.requests_seen([request(0)], 1_000)
    return core.scores_offered(scores("first", 0), 0, 1_004, 1_005)


def test_a_desk_that_stood_still_says_nothing_ever_after(monkeypatch: pytest.MonkeyPatch):
    now_s = time.monotonic()
    monkeypatch.setattr("agents.desk.time.monotonic", lambda: now_s)
    desk = Desk(pipeline(), Cluster("127.0.0.1:1"))
    core = desk.cores[0] = Rendezvous(pipeline(), 0)
    answered = replies(core)
    now_s += PAUSE_S + 0.1
    for _ in range(2):  # the process ends, which takes it some more callbacks
        with pytest.raises(Paused, match=r"stood still for 3\.1 s"):
            asyncio.run(desk.on_time())
        with pytest.raises(Paused, match=r"stood still for 3\.1 s"):
            asyncio.run(desk._publish(core, answered))


@pytest.mark.parametrize("error", [None, KafkaError(KafkaError._MSG_TIMED_OUT)])
def test_what_waits_for_a_full_queue_is_not_published_because_those_before_it_are(error: KafkaError | None):
    core = Rendezvous(pipeline(), 0)
    core.requests_seen([request(0), request(1)], 1_000)
    answered = core.scores_offered(scores("first", 0, 1), 0, 1_004, 1_005)
    watermarks: list[int] = []

    class Full:
        """Has room for one record at a time."""

        async def send_batch(self, sending: Sending, records: Sequence[Outgoing]) -> None:
            for number, _ in enumerate(records):
                watermarks.append(core.checkpoint().raw)
                sending.pending += 1
                sending.delivered(error if number else None, None)  # type: ignore[arg-type]

    asyncio.run(Answering(pipeline(), "rendezvous").publish(Full(), core, answered))  # type: ignore[arg-type]
    assert watermarks == [0, 0]
    assert (core.checkpoint().raw == 0) == (error is not None)


@pytest.mark.parametrize(("token", "marked_as"), [("mine", True), ("invented", False), (None, False)])
def test_only_the_answer_to_a_probe_with_a_known_token_is_marked_and_it_is_not_counted(
    token: str | None, marked_as: bool
):
    sent: list[Outgoing] = []

    async def send_batch(_: object, records: list[Outgoing]) -> None:
        sent.extend(records)

    desk = Desk(pipeline(), Cluster("127.0.0.1:1"))
    desk._app = SimpleNamespace(producer=SimpleNamespace(send_batch=send_batch))  # type: ignore[assignment]
    desk.followed.announced(NO_TOKENS.after(encode_token("mine")[1]))
    core = desk.cores[0] = Rendezvous(pipeline(), 0)
    asked = replace(request(0), headers=marked(token, "a-1") if token else None)
    core.requests_seen([asked], 1_000)
    asyncio.run(desk._publish(core, core.scores_offered(scores("first", 0), 0, 1_004, 1_005)))
    [record] = sent
    assert decode_decision(record.value or b"").probe is marked_as
    assert (b'"probe"' in (record.value or b"")) is marked_as
    assert desk.answering.decided == (not marked_as)


def test_a_strangers_decisions_of_requests_that_are_not_there_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    core, elsewhere, asked = Rendezvous(pipeline(), 0), Rendezvous(pipeline(), 0), list[int]()
    elsewhere.requests_seen([request(0)], 1_000)
    (reply,) = elsewhere.scores_offered(scores("first", 0), 0, 1_004, 1_005)
    monkeypatch.setattr(desks, "MANY_AHEAD", 3)
    desk, end = Desk(pipeline(), Cluster("127.0.0.1:1")), 4

    async def bounds(wanted: Sequence[TP]) -> Mapping[TP, tuple[int, int]]:
        asked.extend(tp.partition for tp in wanted if tp.topic == "small.raw")
        return dict.fromkeys(wanted, (0, end))

    desk._app = SimpleNamespace(consumer=SimpleNamespace(bounds=bounds))  # type: ignore[assignment]

    def heard(offsets: Sequence[int]) -> int:
        """How many are kept once these were heard of too."""
        for offset in offsets:
            ticket = replace(reply.decision.ticket, offset=offset)
            core.decided(replace(reply.decision, ticket=ticket), 1_006)
        asyncio.run(desk._keep_what_can_be(core, 0))
        return core.ahead

    assert (heard(range(3)), asked) == (3, []), "few are nobody's trouble"
    assert (heard(range(1_000, 1_100)), asked) == (3, [0])
    end = 50
    assert (heard(range(50)), asked) == (50, [0, 0]), "it is far behind, and they are there"
    assert (heard(range(1_000, 1_040)), asked) == (90, [0, 0]), "it does not ask each time"
    assert (heard(range(1_040, 1_100)), asked) == (50, [0, 0, 0])
