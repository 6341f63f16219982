"""What a supervisor tells the roster of scorers it gave up, and of those that it starts again in a new life."""

import time

from confluent_kafka import KafkaException

from schemas.errors import RendezvousError
from schemas.pipeline import Pipeline
from schemas.roster import Noted
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog

MOST = 1_000
"""Characters of a reason, as the roster takes them."""


def note_quarantine(cluster: Cluster, pipeline: Pipeline, model: str, version: str, why: str) -> str:
    """Say that this model's process is in quarantine; returns what went wrong, or nothing. Blocks."""
    log = RosterLog(cluster, pipeline)
    try:
        member = log.read().roster.of(model, version)  # it may have come after the pipeline's start
    except (RendezvousError, KafkaException) as error:
        return str(error)
    return _noted(log, model, version, why, quarantined=True) if member else "it is not there any more"


def note_started_anew(cluster: Cluster, pipeline: Pipeline) -> str:
    """Say of those in quarantine that they are tried again; returns what went wrong, or nothing. Blocks."""
    log, wrong = RosterLog(cluster, pipeline), ""
    history = log.read()
    for name, version in history.quarantined:
        if history.roster.of(name, version):
            wrong = _noted(log, name, version, "the pipeline was started anew", quarantined=False) or wrong
    return wrong


def _noted(log: RosterLog, model: str, version: str, why: str, *, quarantined: bool) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in why)[:MOST]
    record = Noted(
        model=model,
        version=version,
        quarantined=quarantined,
        who="supervisor",
        at_ms=int(time.time() * 1e3),
        why=text,
    )
    try:
        log.note(record)
    except (RendezvousError, KafkaException) as error:
        return str(error)
    return ""
