"""`rendezvous verify` on logs that are still being written: what has time left is not lost."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import pytest
from msgspec.structs import replace

from agents.cli import verify
from schemas.decisions import Ticket, encode_decision
from schemas.requests import Headers
from schemas.topics import Topics
from streams.core.rendezvous import Rendezvous
from tests.unit.small import pipeline, request, scores

OF = pipeline()
TOPICS = Topics(OF.name)


@dataclass(frozen=True)
class Message:
    """A record as the client gives it."""

    place: int
    log_ms: int
    content: bytes
    sent: Headers | None = None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.place

    def timestamp(self) -> tuple[int, int]:
        return 1, self.log_ms

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return self.content

    def headers(self) -> Headers | None:
        return self.sent


@dataclass
class Logs:
    """Topics of one partition; `late` comes to decisions one at each poll, once it was read to its end."""

    raw: list[Message]
    decisions: list[Message] = field(default_factory=list)
    late: list[Message] = field(default_factory=list)
    polls: int = 0

    def reader(self, _: object, topic: str) -> "Reader":
        known = {TOPICS.raw: self.raw, TOPICS.decisions: self.decisions}
        return Reader(self, topic, known.get(topic, []))


@dataclass
class Reader:
    """Stands in for a reader of one topic."""

    logs: Logs
    topic: str
    log: list[Message]
    read: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bounds(self) -> dict[int, tuple[int, int]]:
        return {0: (0, len(self.log))}

    def start(self, _: object) -> None:
        self.read = 0

    def has_read(self, ends: Mapping[int, int]) -> bool:
        return self.read >= ends.get(0, 0)

    def poll(self) -> list[Message]:
        found = self.log[self.read :]
        if not found:
            self.logs.polls += 1
            if self.topic == TOPICS.decisions and self.logs.late:
                found = [self.logs.late.pop(0)]
        self.read += len(found)
        return found

    def to_end(self, at: str | Mapping[int, int] = "beginning") -> Iterator[Message]:
        yield from self.log if isinstance(at, str) else self.log[at[0] :]


def answer(offset: int, log_ms: int) -> Message:
    core = Rendezvous(OF, 0)
    core.requests_seen([request(offset)], 1_000)
    (reply,) = core.scores_offered(scores("first", offset), 0, 1_004, 1_005)
    return Message(offset, log_ms, encode_decision(replace(reply.decision, ticket=Ticket(0, offset))))


@pytest.fixture
def now_ms(monkeypatch: pytest.MonkeyPatch) -> int:
    """The time of the wall, which stands still."""
    now_s = time.time()
    monkeypatch.setattr(verify.time, "time", lambda: now_s)
    return int(now_s * 1e3)


def audited(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> verify.Findings:
    monkeypatch.setattr(verify, "TopicReader", logs.reader)
    return verify.audit(None, OF, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "own",
    [
        {"sent": [("budget-ms", b"10000")], "content": b'{"request_id": "b", "x": 1}'},
        {"content": b'{"request_id": "b", "x": 1, "limits": {"ms": 10000}}'},
    ],
    ids=["by header", "by field"],
)
def test_a_request_is_waited_for_as_long_as_its_own_budget_lasts(
    own: dict, now_ms: int, monkeypatch: pytest.MonkeyPatch
):
    at_ms = now_ms - OF.request.budget_ms - verify.GRACE_MS - 500
    raw = [Message(0, at_ms, b'{"request_id": "a", "x": 1}'), Message(1, at_ms, **own)]
    logs = Logs(raw, [answer(0, at_ms + 9)], [answer(1, now_ms)])
    found = audited(monkeypatch, logs)
    assert (found.accepted, found.decided, found.lost) == (2, 2, 0)


def test_what_is_over_is_lost_at_once_and_nothing_is_waited_for_when_all_are_answered(
    now_ms: int, monkeypatch: pytest.MonkeyPatch
):
    at_ms = now_ms - OF.request.budget_ms - verify.GRACE_MS - 500
    raw = [Message(offset, at_ms, b'{"request_id": "a", "x": 1}') for offset in range(2)]
    one = Logs(raw, [answer(0, at_ms + 9)], [answer(1, now_ms)])
    found = audited(monkeypatch, one)
    assert (found.decided, found.lost, one.polls) == (1, 1, 0)
    young = [Message(message.place, now_ms, message.content) for message in raw]
    all_ = Logs(young, [answer(0, now_ms), answer(1, now_ms)])
    assert audited(monkeypatch, all_).lost == 0
    assert all_.polls == 0
