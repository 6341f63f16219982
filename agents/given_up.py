"""What a supervisor tells the roster of scorers it gave up or that were refused, and of those it starts anew."""

import time

from confluent_kafka import KafkaException

from schemas.errors import RendezvousError
from schemas.pipeline import Pipeline
from schemas.roster import Noted
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog

MOST = 1_000
"""Characters of a reason, as the roster takes them."""


def note_given_up(
    cluster: Cluster, pipeline: Pipeline, model: str, version: str, why: str, *, refused: bool = False
) -> str:
    """Say that this model's process is in quarantine, or refused; returns what went wrong, or nothing. Blocks."""
    log = RosterLog(cluster, pipeline)
    try:
        member = log.read().roster.of(model, version)  # it may have come after the pipeline's start
    except (RendezvousError, KafkaException) as error:
        return str(error)
    if member is None:
        return "it is not there any more"
    return _noted(log, model, version, why, quarantined=True, refused=refused)


def note_started_anew(cluster: Cluster, pipeline: Pipeline) -> str:
    """Say of those in quarantine, or refused, that they are tried again; returns what went wrong. Blocks."""
    log, wrong = RosterLog(cluster, pipeline), ""
    history = log.read()
    for (name, version), known in history.quarantined.items():
        if history.roster.of(name, version):
            why = "the pipeline was started anew"
            wrong = _noted(log, name, version, why, quarantined=False, refused=known.refused) or wrong
    return wrong


def _noted(log: RosterLog, model: str, version: str, why: str, *, quarantined: bool, refused: bool) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in why)[:MOST]
    record = Noted(
        model=model,
        version=version,
        quarantined=quarantined,
        refused=refused,
        who="supervisor",
        at_ms=int(time.time() * 1e3),
        why=text,
    )
    try:
        log.note(record)
    except (RendezvousError, KafkaException) as error:
        return str(error)
    return ""
