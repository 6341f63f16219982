"""A scorer before it reads: its limits, its model loaded and warm, its memory of what ended the one before it."""

import logging
import time
from collections.abc import Mapping
from urllib.parse import quote

import numpy as np

from agents import scorer
from agents.actor import Actor, Place, no_progress
from agents.app import edge_of
from agents.arrival import arrives, loads
from agents.beginning import Beginning
from agents.in_hand import Doing, InHand
from schemas.pipeline import Model
from streams.core.given import Given
from streams.core.scoring import Scoring
from streams.kafka.roster_log import RosterLog
from streams.kafka.transport import create_app

logger = logging.getLogger(__name__)

WARM_UP_ROWS = (1, 64)
"""A model's first call is its slowest: it is made before anybody waits for it."""

SHARING_HEARTBEAT_MS = 300
"""Scorers that share partitions hear by it of one that comes or goes, and then wait for the last one to hear."""


def scorer_of(place: Place, model: Model, number: int) -> Actor:
    """A scorer of this model; raises what loading it does, and ends this process where its memory is refused."""
    from streams.models import limits
    from streams.models.checked import score_rows
    from streams.models.loading import load

    pipeline = place.pipeline
    features = pipeline.features_of(model)
    log = RosterLog(place.cluster, pipeline)
    if place.rostered:
        loads(log, model)
    limits.limit(model)
    in_hand = _in_hand(place, model, number)
    suspects = in_hand.suspects(time.time(), place.after)
    with in_hand.loading():
        try:
            loaded = limits.bounded(model, load(place.folder, model, features, tried=place.tried))
        except MemoryError as error:
            limits.over_limit(model, f"it was refused memory while it was loaded ({error})")
        for rows in WARM_UP_ROWS:
            score_rows(loaded, Given(np.zeros((rows, len(features))), (b"{}",) * rows))
        beginning = Beginning(pipeline, model, place.cluster, log)
        # Not after an end that was not a person's: the row that did it may be among them, and costs itself alone.
        practises = place.rostered and not place.after and not suspects
        for block in beginning.practice(len(features)) if practises else ():
            score_rows(loaded, Given(block.matrix.copy(), block.events))
    scoring = Scoring(
        model,
        len(features),
        lambda given: score_rows(loaded, given),
        budget_ms=pipeline.request.budget_ms,
        suspects=suspects,
    )
    changes = {"heartbeat.interval.ms": SHARING_HEARTBEAT_MS} if pipeline.partitions > 1 else {}
    edge = edge_of(
        "scorer",
        pipeline,
        place.cluster,
        model=model.name,
        number=number,
        consumer=changes,
        positions=beginning.positions,
    )
    app = create_app(edge, place.cluster.bootstrap)
    scorer.attach(app, pipeline, place.cluster, scoring, in_hand)
    if place.rostered:
        arrives(app, log, model)

    def figures() -> Mapping[str, float]:
        bounded = {"MB": limits.resident_mb()} if model.memory_mb else {}
        return {"skipped": scoring.skipped, "failed": scoring.failed} | bounded

    # A model that kept up until it hung leaves no lag behind that anybody knows of: what it has in hand says it.
    return Actor(app, figures, no_progress(app, lambda: in_hand.left().doing is Doing.SCORING))


def _in_hand(place: Place, model: Model, number: int) -> InHand:
    if place.in_hand is not None:
        return InHand.given(place.in_hand)
    own = quote(f"{model.name}@{model.version}.{number}", safe="@")
    path, width = place.notes / own, len(place.pipeline.features_of(model))
    try:
        return InHand.at(path, width)
    except OSError as error:
        logger.warning("%s: %s: what ends this process will not be known to the next one", path, error.strerror)
        return InHand.made(width)
