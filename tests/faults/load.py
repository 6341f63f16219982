"""A generator of numbered messages that believes only acknowledged sends, and the checker that comes after it."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from confluent_kafka import Message, Producer

from agents.cli.verify import audit
from schemas.decisions import Decision, decode_decision
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.segment import read_footer
from streams.core.audit import Findings
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.pipeline_file import load as load_file
from tests.broker.pipelines import Up
from tests.faults.conftest import LONG

RATE = 300 if LONG else 60
"""Requests a second. At 300 a pipeline and its broker take most of two cores, which the short form shares with the
other tests: at 60 they take half as much. A test that needs many requests in hand at one moment has its own rate."""

Value = Callable[[int], dict[str, Any]]


def plain(number: int) -> dict[str, Any]:
    return {"x": (number % 1000) / 1000, "colour": "red", "box": {"size": 2}}


class Load:
    """Sends numbered requests at a rate until the block ends, on a schedule that does not wait for answers."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        rate: float,
        value: Value = plain,
        *,
        linger_ms: int = 2,
        budget_ms: int | None = None,
    ) -> None:
        self.rate = rate
        self.value = value
        self.acknowledged: dict[tuple[int, int], str] = {}
        self.sent = 0
        self._run = uuid.uuid4().hex[:8]
        self._topic = topic
        self._headers = [("budget-ms", str(budget_ms).encode())] if budget_ms else None
        self._producer = Producer(cluster.producer_settings(linger_ms=linger_ms) | {"log_level": 0})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0, "a broker that is well takes everything"

    def wait(self, seconds: float) -> None:
        """Go on sending for a while: the time itself is what is wanted here."""
        time.sleep(seconds)

    def _send(self) -> None:
        due_s = time.monotonic()
        while not self._stop.is_set():
            due_s += 1 / self.rate
            while (early_s := due_s - time.monotonic()) > 0:
                self._producer.poll(0)
                time.sleep(min(early_s, 0.01))
            number, self.sent = self.sent, self.sent + 1
            request_id = f"{self._run}-{number}"
            value = json.dumps({"request_id": request_id, **self.value(number)}).encode()
            self._produce(value, request_id)

    def _produce(self, value: bytes, request_id: str) -> None:
        def report(error: Any, message: Message) -> None:
            if error is None:
                self.acknowledged[message.partition() or 0, message.offset() or 0] = request_id

        key = f"k{self.sent % 97}".encode()
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=self._headers, on_delivery=report)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return


def findings(pipeline: Up, file: Path, load: Load, within_s: float = 60) -> Findings:
    """What `verify` finds once the pipeline has caught up; every acknowledged request must be in raw still."""
    deadline_s = time.monotonic() + within_s
    while not is_archived(pipeline) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    while True:
        found = audit(pipeline.cluster, load_file(file), pipeline.archive)
        if (found.ok and not found.behind) or time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    with TopicReader(pipeline.cluster, Topics(pipeline.name).raw) as reader:
        raw = {(m.partition(), m.offset()): json.loads(m.value() or b"null") for m in reader.to_end()}
    missing = [place for place, id_ in load.acknowledged.items() if raw.get(place, {}).get("request_id") != id_]
    assert not missing, f"{len(missing)} acknowledged requests are not in raw"
    return found


def is_archived(pipeline: Up) -> bool:
    """Whether the archive has come to the end of raw: before that it is of no use to audit it."""
    with TopicReader(pipeline.cluster, pipeline.topics.raw) as reader:
        ends = {number: end for number, (_, end) in reader.bounds().items() if end}
    files = {number: Layout(pipeline.archive, pipeline.topics.raw, number).segments() for number in ends}
    return all(files[number] and read_footer(files[number][-1]).end >= end for number, end in ends.items())


def suspended(pids: Sequence[int]) -> AbstractContextManager[None]:
    """These processes stand still (SIGSTOP) until the block ends (SIGCONT)."""
    stack = ExitStack()
    for pid in pids:
        process = psutil.Process(pid)
        process.suspend()
        stack.callback(process.resume)
    return stack


def decisions(pipeline: Up, load: Load) -> list[Decision]:
    """The final decision of each acknowledged request, in the order of the requests."""
    found: dict[tuple[int, int], Decision] = {}
    with TopicReader(pipeline.cluster, Topics(pipeline.name).decisions) as reader:
        for message in reader.to_end():
            decision = decode_decision(message.value() or b"")
            if decision.final:
                found.setdefault((decision.ticket.partition, decision.ticket.offset), decision)
    return [found[place] for place in sorted(load.acknowledged)]


@dataclass(frozen=True, slots=True)
class SecondFinal:
    """A final decision for a ticket that has one already: whose, when, whether it says something else; both as text."""

    offset: int
    standby: bool
    decided_at_ms: float
    differs: bool
    text: str


def second_finals(pipeline: Up) -> list[SecondFinal]:
    """In the order of the log (one partition)."""
    first: dict[int, Decision] = {}
    found = []
    with TopicReader(pipeline.cluster, Topics(pipeline.name).decisions) as reader:
        for message in reader.to_end():
            said = decode_decision(message.value() or b"")
            if not said.final:
                continue
            offset = said.ticket.offset
            if (earlier := first.setdefault(offset, said)) is not said:
                differs = (earlier.model, earlier.score) != (said.model, said.score)
                text = "; then ".join(
                    f"{one.outcome} {one.score} of {'the standby' if one.standby else 'the owner'} after "
                    f"{one.used_ms:.0f} ms ({one.reason})"
                    for one in (earlier, said)
                )
                found.append(SecondFinal(offset, said.standby, said.decided_at_ms, differs, f"{offset}: {text}"))
    return found


def assert_kept(found: Findings) -> None:
    """Every promise, whatever was done."""
    assert found.ok, found
    assert (found.lost, found.behind) == (0, 0), found
    assert found.decided == found.accepted > 0
