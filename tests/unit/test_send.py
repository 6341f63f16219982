"""`rendezvous send`: what is said of records that no broker took, and what a file's cells become."""

from collections.abc import Iterator

import pytest

from agents.cli import send as sending
from agents.cli.send import Sender
from schemas.errors import ConfigurationRefused, KafkaUnreachable
from streams.kafka.clients import Cluster

NOBODY = Cluster("127.0.0.1:1")


def test_records_that_no_broker_confirmed_are_no_success(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "FLUSH_S", 0.1)
    with pytest.raises(KafkaUnreachable, match=r"3 of 3 records are not confirmed .* of small\.labels"):
        Sender(NOBODY, "small.labels", None, []).send_all([b"{}"] * 3, None)


def test_a_file_that_ends_in_nonsense_has_what_was_before_it_confirmed(monkeypatch: pytest.MonkeyPatch):
    def lines() -> Iterator[bytes]:
        yield b"{}"
        raise ConfigurationRefused("line 2 is no UTF-8")

    monkeypatch.setattr(sending, "FLUSH_S", 0.1)
    with pytest.raises(KafkaUnreachable, match="1 of 1 records are not confirmed"):
        Sender(NOBODY, "small.raw", None, []).send_all(lines(), None)
