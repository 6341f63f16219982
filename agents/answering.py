"""Replies become records: on `decisions`, and on the topic that a producer wants its answer on."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from schemas.decisions import encode_decision
from schemas.pipeline import Pipeline
from schemas.probes import NO_TOKENS, Tokens
from schemas.requests import Headers
from schemas.topics import Topics
from streams.core.pending import Reply
from streams.core.rendezvous import Rendezvous
from streams.core.validator import header
from streams.kafka.batch import Outgoing, Told
from streams.kafka.producer import Producer
from streams.kill_points import reached

ECHOED_KEY = 64 << 10
"""Bytes of a key that is given back. A larger one may not fit beside its decision; the id still tells."""

ECHOED_HEADERS = 8 << 10
"""Bytes of headers that are given back; a request has no more, a record that is rejected may."""


class Answering:
    """One desk's way from replies to Kafka."""

    def __init__(self, pipeline: Pipeline, role: str) -> None:
        self.decided = 0
        self._failed: list[Told] = []
        self._role = role
        self._decisions = Topics(pipeline.name).decisions
        self._reply_to_prefix = pipeline.output.reply_to_prefix
        self._carried = ("traceparent", *pipeline.output.headers)

    async def publish(
        self, producer: Producer, core: Rendezvous, replies: Sequence[Reply], tokens: Tokens = NO_TOKENS
    ) -> None:
        """Send what was decided, marked where it answers a probe; the core hears when the broker has it."""
        final = [reply.request.offset for reply in replies if reply.decision.final]
        sending = Told(lambda: core.published(final), self._failed)
        copies: list[Outgoing] = []
        records: list[Outgoing] = []
        for reply in replies:
            request, decision = reply.request, reply.decision
            if request.headers and tokens.probe_of(request.headers) is not None:
                decision = replace(decision, probe=True)
            self.decided += decision.final and not decision.probe
            headers = self._carry(request.headers) if request.headers else None
            key = request.key if request.key is None or len(request.key) <= ECHOED_KEY else None
            value = encode_decision(decision)
            records.append(Outgoing(self._decisions, value, key, decision.ticket.partition, headers))
            if request.headers and (copy_to := self._reply_to(request.headers)):
                copies.append(Outgoing(copy_to, value, key, -1, headers))
        reached(f"{self._role}.before_send")
        await producer.send_batch(sending, records)
        sending.handed_over()
        if copies:
            producer.send_copies(copies)
        reached(f"{self._role}.after_send_before_commit")

    async def settle(self, producer: Producer) -> None:
        """A decision that the broker will never take is a dead letter; raises KafkaException for other failures."""
        await producer.settle(self._failed)

    def _carry(self, headers: Headers) -> list[tuple[str, Any]]:
        carried = [(name, value) for name, value in headers if name in self._carried]
        return carried if sum(len(name) + len(value or b"") for name, value in carried) <= ECHOED_HEADERS else []

    def _reply_to(self, headers: Headers) -> str | None:
        """The topic a producer wants its answer on, when the pipeline allows it."""
        prefix = self._reply_to_prefix
        wanted = (header(headers, "reply-to") or b"").decode(errors="replace") if prefix else ""
        return wanted if wanted.startswith(prefix) and _topic_name(wanted) else None


def _topic_name(name: str) -> bool:
    return 0 < len(name) <= 249 and all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
