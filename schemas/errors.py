"""Errors a person meets: each names the thing, the place and the next step, and carries its exit code.

RendezvousError
├── ConfigurationRefused   5  retrying will not help: change the file or the topic
├── KafkaUnreachable       4  retrying may help
└── UnreadableRecord       1  a record that this program cannot read
"""

from typing import Final

from msgspec import DecodeError

UNREADABLE: Final = (DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes from outside: text that is no UTF-8 is not always a DecodeError."""


class RendezvousError(Exception):
    """Base of all errors that are shown to people as one message, without a traceback."""

    exit_code = 1


class ConfigurationRefused(RendezvousError):
    """A pipeline file, an environment or a topic that contradicts what the program needs."""

    exit_code = 5


class KafkaUnreachable(RendezvousError):
    """No broker answered in time."""

    exit_code = 4


class UnreadableRecord(RendezvousError):
    """A value that is no record of a version this program reads."""
