"""Replies become records: on `decisions`, and on the topic that a producer wants its answer on."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, Message
from msgspec.structs import replace

from schemas.decisions import encode_decision
from schemas.pipeline import Pipeline
from schemas.probes import NO_TOKENS
from schemas.requests import Headers
from schemas.topics import Topics
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from streams.core.validator import header
from streams.kafka.batch import Outgoing, Sending
from streams.kafka.producer import Producer
from streams.kill_points import reached


class Published(Sending):
    """Decisions on their way; the rendezvous hears when they are all confirmed.

    To hand them over is pending too: while a full queue is waited for, those before may all be confirmed.
    """

    __slots__ = ("core", "offsets")

    def __init__(self, core: Rendezvous, offsets: list[int]) -> None:
        super().__init__()
        self.core = core
        self.offsets = offsets
        self.pending = 1

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Delivery report of one decision."""
        super().delivered(error, message)
        self._tell()

    def handed_over(self) -> None:
        """The producer has them all."""
        self.pending -= 1
        self._tell()

    def _tell(self) -> None:
        if not self.pending and not self.failures:
            self.core.published(self.offsets)


class Answering:
    """One desk's way from replies to Kafka. `tokens` are the monitor's: answers to its probes are marked."""

    def __init__(self, pipeline: Pipeline, role: str) -> None:
        self.tokens = NO_TOKENS
        self.decided = 0
        self._role = role
        self._decisions = Topics(pipeline.name).decisions
        self._reply_to_prefix = pipeline.output.reply_to_prefix
        self._carried = ("traceparent", *pipeline.output.headers)

    async def publish(self, producer: Producer, core: Rendezvous, replies: Sequence[Reply]) -> None:
        """Send what was decided; the core hears when the broker has it."""
        final = [reply.request.offset for reply in replies if reply.decision.final]
        sending = Published(core, final)
        copies: list[Outgoing] = []
        records: list[Outgoing] = []
        for reply in replies:
            request, decision = reply.request, reply.decision
            if request.headers and self.tokens.probe_of(request.headers) is not None:
                decision = replace(decision, probe=True)
            self.decided += decision.final and not decision.probe
            headers = self._carry(request.headers) if request.headers else None
            value = encode_decision(decision)
            records.append(Outgoing(self._decisions, value, request.key, decision.ticket.partition, headers))
            if request.headers and (copy_to := self._reply_to(request.headers)):
                copies.append(Outgoing(copy_to, value, request.key, -1, headers))
        reached(f"{self._role}.before_send")
        await producer.send_batch(sending, records)
        sending.handed_over()
        if copies:
            await producer.send_copies(copies)
        reached(f"{self._role}.after_send_before_commit")

    def _carry(self, headers: Headers) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in headers if name in self._carried]

    def _reply_to(self, headers: Headers) -> str | None:
        """The topic a producer wants its answer on, when the pipeline allows it."""
        prefix = self._reply_to_prefix
        wanted = (header(headers, "reply-to") or b"").decode(errors="replace") if prefix else ""
        return wanted if wanted.startswith(prefix) and _topic_name(wanted) else None


def _topic_name(name: str) -> bool:
    return 0 < len(name) <= 249 and all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
