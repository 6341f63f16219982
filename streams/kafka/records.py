"""Raw records as the validator sees them."""

from confluent_kafka import Message

from schemas.requests import Rejection, Request
from streams.core.validator import Validator


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
