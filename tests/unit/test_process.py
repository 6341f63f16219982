"""When a process must end: it belongs to no group although Kafka answers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.process import apart
from streams.kafka.transport import BatchApp


def an_app(*, started: bool, joined: bool, answered: bool) -> BatchApp:
    producer: Any = SimpleNamespace(answered=lambda: answered)
    return cast(
        "BatchApp", SimpleNamespace(started=started, consumer=SimpleNamespace(joined=joined), producer=producer)
    )


@pytest.mark.parametrize(
    ("started", "joined", "answered", "is_apart"),
    [(True, False, True, True), (True, False, False, False), (True, True, True, False), (False, False, True, False)],
)
def test_a_member_is_apart_when_kafka_answers_and_its_group_does_not(
    started: bool, joined: bool, answered: bool, is_apart: bool
):
    assert apart(an_app(started=started, joined=joined, answered=answered)) == is_apart
