"""Errors a person meets: each names the thing, the place and the next step, and carries its exit code.

RendezvousError
├── ConfigurationRefused   5  retrying will not help: change the file or the topic
│   └── NothingInRange     5  what is asked for has no record here: choose another range
├── KafkaUnreachable       4  retrying may help
├── UnreadableRecord       1  a record that this program cannot read
└── Superseded            75  somebody else may be doing this process's work
    └── Paused            77  it slept while others went on: start again
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


class NothingInRange(ConfigurationRefused):
    """An archive that holds no request of the range: what was stored of it may still be told."""


class KafkaUnreachable(RendezvousError):
    """No broker answered in time."""

    exit_code = 4


class UnreadableRecord(RendezvousError):
    """A value that is no record of a version this program reads."""


class Superseded(RendezvousError):
    """Another process has this one's name: end at once, finish nothing, send nothing, do not come back."""

    exit_code = 75


class Paused(Superseded):
    """A process stood still for so long that others may have answered for it: start again and look."""

    exit_code = 77
