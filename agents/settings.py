"""What the environment says: the only module that reads it. Flags win over it; files come after it."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

REFERENCE = "reference.json"


def environ() -> Mapping[str, str]:
    """The environment, to be handed down as a plain mapping."""
    return os.environ


def user() -> str:
    """Whom this process runs as; in a container that may be a number without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def state_dir(environment: Mapping[str, str]) -> Path:
    """Where a project keeps its broker's data, archive and logs: `RENDEZVOUS_STATE`, else `.rendezvous`."""
    return Path(environment.get("RENDEZVOUS_STATE") or ".rendezvous").absolute()


def cache_dir(environment: Mapping[str, str]) -> Path:
    """Where what can be fetched again is kept, for all projects of a user."""
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rendezvous"


def log_level(environment: Mapping[str, str]) -> str:
    """The least level that is logged: `RENDEZVOUS_LOG_LEVEL`, else INFO."""
    return environment.get("RENDEZVOUS_LOG_LEVEL", "INFO").upper()


def archive_dir(environment: Mapping[str, str], pipeline: str) -> Path:
    """Where a pipeline's archive lies unless its file says otherwise."""
    return state_dir(environment) / pipeline / "archive"


def log_dir(environment: Mapping[str, str], pipeline: str) -> Path:
    """Where the roles of a pipeline log when they are supervised."""
    return state_dir(environment) / pipeline / "logs"


def notes_dir(environment: Mapping[str, str], pipeline: str) -> Path:
    """Where scorers that nobody supervises note what they have in their hands."""
    return state_dir(environment) / pipeline / "in-hand"


def monitor_dir(environment: Mapping[str, str], pipeline: str) -> Path:
    """Where a pipeline's monitor keeps what it knows."""
    return state_dir(environment) / pipeline / "monitor"


def tables_dir(environment: Mapping[str, str], pipeline: str) -> Path:
    """Where a pipeline's routers keep tables with `state = "disk"`."""
    return state_dir(environment) / pipeline / "tables"


def forks(environment: Mapping[str, str]) -> bool:
    """Whether roles may be forked by one process that has imported for all: unless `RENDEZVOUS_NURSERY=0`."""
    return environment.get("RENDEZVOUS_NURSERY") != "0"


def reference_file(environment: Mapping[str, str], pipeline: str) -> Path:
    """Where a pipeline's frozen reference is noted, beside its archive."""
    return state_dir(environment) / pipeline / REFERENCE
