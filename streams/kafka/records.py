"""Records as their readers see them: raw ones through the validator, all of them with headers that can be read."""

from collections.abc import Sequence

from confluent_kafka import Message

from schemas.requests import UNREADABLE_NAME, Rejection, Request
from streams.core.validator import Validator


def read_headers(messages: Sequence[Message]) -> None:
    """Read the headers of records once, before anybody else does; those that cannot be read become one that says so.

    For a name that is no UTF-8 confluent-kafka leaves an exception beside a broken list, and whoever unpacks that is
    ended by a segmentation fault. `map` looks for the exception; a call that Python has made fast does not.
    """
    read = 0
    while read < len(messages):
        try:
            for _ in map(Message.headers, messages[read:]):
                read += 1
        except SystemError:
            messages[read].set_headers([(UNREADABLE_NAME, None)])
            read += 1


def read_record(message: Message, validator: Validator) -> Request | Rejection:
    """One raw record: its log time is the broker's, its key and headers the producer's."""
    return validator.read(
        message.value(),
        message.headers(),
        message.key(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
    )
