"""The roles, each as one app with the figures it shows: built here, run by `process`."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msgspec import json

from agents import coupler, learner, rendezvous, router, standby
from agents.actor import Actor, Place, no_progress
from agents.app import edge_of
from agents.desk import Desk
from agents.scorer_process import scorer_of
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Model, Pipeline, PolicyKind
from schemas.topics import Topics
from streams.kafka.admin import Admin
from streams.kafka.batch import Outgoing
from streams.kafka.transport import create_app
from streams.table_file import TableFile

STANDBY_WAIT = 1 / 8
"""The share of the budget for which records may wait at the broker before a standby is sent them."""

ROLES = ("router", "coupler", "scorer", "rendezvous", "standby", "archiver", "learner", "monitor")


def build(role: str, place: Place, model: str = "", number: int = 0, *, leave: bool = False) -> Actor:
    """Make one role's app; raises ConfigurationRefused when there is no such role or model.

    One that is to `leave` gives its partitions back when it ends.
    """
    builders = {
        "router": _router,
        "rendezvous": _rendezvous,
        "standby": _standby,
        "archiver": _archiver,
        "learner": _learner,
        "monitor": _monitor,
    }
    if role == "scorer":
        actor = scorer_of(place, _model(place.pipeline, model), number)
    elif role == "coupler":
        actor = _coupler(place, model, number)
    elif role in builders:
        actor = builders[role](place, number)
    else:
        raise ConfigurationRefused(f"no role {role!r}; the roles are {', '.join(ROLES)}")
    if leave:
        actor.app.edge = actor.app.edge.leaving()
    return actor


def _model(pipeline: Pipeline, name: str) -> Model:
    known = [model.name for model in pipeline.models if model.has_scorer]
    if name not in known:
        raise ConfigurationRefused(f"no model {name!r} to score with; this pipeline has {', '.join(known)}")
    return pipeline.model(name)


def _router(place: Place, number: int) -> Actor:
    from streams.models.loading import resolve

    pipeline = place.pipeline
    app = create_app(edge_of("router", pipeline, place.cluster, number=number), place.cluster.bootstrap)
    derivations = {f.name: resolve(f.derive, f"feature {f.name}: derive") for f in pipeline.features if f.derive}
    figures = router.attach(app, pipeline, place.cluster, derivations, _table_files(place, number))
    return Actor(app, figures, no_progress(app))


def _table_files(place: Place, number: int) -> dict[str, TableFile]:
    """Tables that are held on disk, each router's its own."""
    pipeline, topics = place.pipeline, Topics(place.pipeline.name)
    found = {}
    for table in pipeline.enrich:
        if table.state == "disk":
            topic = topics.table(table.name)
            of_topic = Admin(place.cluster).topic_ids([topic])[topic]
            what = json.encode([of_topic, table, [one for one in pipeline.features if one.parts[0] == table.name]])
            found[table.name] = TableFile(place.tables / f"{table.name}.{number}.sqlite", what, time.time())
    return found


def _coupler(place: Place, name: str, number: int) -> Actor:
    pipeline = place.pipeline
    needing = {model.name: model for model in pipeline.models if model.needs}
    if name not in needing:
        raise ConfigurationRefused(f"no model {name!r} that needs another's score; there are {', '.join(needing)}")
    work = coupler.Coupler(pipeline, needing[name], place.cluster)
    edge = edge_of(
        "coupler",
        pipeline,
        place.cluster,
        model=name,
        number=number,
        committable=work.committable,
        positions=work.positions,
        same_partitions=work.topics,
    )
    app = create_app(edge, place.cluster.bootstrap)
    coupler.attach(app, work)
    return Actor(app, work.figures, no_progress(app))


def _rendezvous(place: Place, number: int) -> Actor:
    # The pace: it reads raw and every model's blocks, so there are more records and less to gain by waiting.
    return _at_desk("rendezvous", place, number, pace_per_thousand_ms=1.0, pace_max_ms=4.0)


def _standby(place: Place, number: int) -> Actor:
    # It is in no hurry while the owner answers: it is sent what there is a few times a budget, not each record.
    wait_ms = max(1, int(place.pipeline.request.budget_ms * STANDBY_WAIT))
    calm = {"fetch.min.bytes": 1 << 20, "fetch.wait.max.ms": min(100, wait_ms)}
    return _at_desk("standby", place, number, consumer=calm, pace_per_thousand_ms=6.0, pace_max_ms=10.0)


def _at_desk(role: str, place: Place, number: int, **changes: Any) -> Actor:
    pipeline = place.pipeline
    topics = Topics(pipeline.name)
    desk = Desk(pipeline, place.cluster, standby=role == "standby")
    edge = edge_of(
        role,
        pipeline,
        place.cluster,
        number=number,
        linger_ms=1,  # the decisions of one pass leave in one request
        committable=desk.committable,
        positions=desk.positions,
        same_partitions=(topics.raw, topics.scores),
        from_end=(topics.decisions,),  # what came before is read back
        **changes,
    )
    app = create_app(edge, place.cluster.bootstrap)
    (standby if role == "standby" else rendezvous).attach(app, pipeline, desk)

    def figures() -> Mapping[str, float]:
        late = sum(core.counts.late for core in desk.cores.values())
        shown = {"decided": desk.answering.decided, "undecided": desk.undecided, "scores after the decision": late}
        return shown | ({"recovered": desk.recovered} if desk.recovered else {})

    # Healthy lag is rate times budget here: only a request beyond its time is a sign of trouble.
    return Actor(app, figures, lambda: desk.overdue_ms() > 1000)


def _archiver(place: Place, number: int) -> Actor:
    from agents import archiver, compared_hours, maturing, told_days  # with pyarrow, which nobody else needs

    pipeline = place.pipeline
    archiver.refuse_full_disk(place.archive, pipeline.archive.stop_free)
    admin, names = Admin(place.cluster), archiver.topics_of(pipeline)
    writer = f"{os.uname().nodename}-{os.getpid()}"
    shelf = archiver.Shelf(pipeline, place.archive, lambda: admin.topic_ids(names), writer)
    edge = edge_of(
        "archiver",
        pipeline,
        place.cluster,
        number=number,
        committable=shelf.committable,
        positions=shelf.positions,
        finish=shelf.close_all,
        ask_time=None,  # it tells no time, and only reads
        pace_max_ms=50.0,
        pace_per_thousand_ms=25.0,
    )
    # It sends little or nothing, and has no right to: an idempotent client asks for one as soon as it is there.
    edge = replace(edge, producer={**edge.producer, "enable.idempotence": False})
    app = create_app(edge, place.cluster.bootstrap)
    mature = maturing.Maturing(pipeline, place.file, place.archive)
    compared = compared_hours.ComparedHours(pipeline, place.file, place.archive)
    archiver.attach(app, pipeline, shelf, mature, told_days.ToldDays(pipeline, place.archive, writer), compared)
    return Actor(app, shelf.figures, archiver.stuck(app, shelf))


def _learner(place: Place, number: int) -> Actor:
    pipeline = place.pipeline
    if pipeline.policy.kind is not PolicyKind.BANDIT:
        raise ConfigurationRefused(f"{pipeline.name} has nothing to learn: its policy is no bandit")
    if number:
        raise ConfigurationRefused(
            f"{pipeline.name} has one learner, which reads all labels: run it without --number"
        )
    work = learner.Learner(pipeline, place.cluster)
    edge = edge_of(
        "learner",
        pipeline,
        place.cluster,
        committable=work.committable,
        positions=work.positions,
        ask_time=None,
        pace_max_ms=50.0,
        pace_per_thousand_ms=25.0,
    )
    app = create_app(edge, place.cluster.bootstrap)
    learner.attach(app, pipeline, work)
    return Actor(app, work.figures, no_progress(app))


def _monitor(place: Place, number: int) -> Actor:
    from agents import monitor  # with a web client, which nobody else needs
    from agents.beside import Beside
    from agents.settings import REFERENCE
    from agents.snapshot import SnapshotFile, of_what
    from streams.core.watched_fields import WatchedFields

    pipeline = place.pipeline
    if pipeline.monitor is None:
        raise ConfigurationRefused(f"{pipeline.name} has no monitor: write a [monitor] table in its file")
    if number:
        raise ConfigurationRefused(
            f"monitor {number}: a pipeline has one monitor, which judges all partitions together"
        )
    topics = Topics(pipeline.name)
    read = (topics.raw, topics.scores, topics.decisions, *([topics.enriched] if pipeline.enrich else []))
    file = SnapshotFile(place.watched, of_what(pipeline, Admin(place.cluster).topic_ids(read)))

    def beside(fields: WatchedFields) -> Beside:
        return Beside(pipeline, fields, place.file, place.archive, place.watched.parent / REFERENCE)

    watching = monitor.Monitor(pipeline, pipeline.monitor, place.cluster, file, beside)
    edge = edge_of(
        "monitor",
        pipeline,
        place.cluster,
        committable=watching.committable,
        positions=watching.positions,
        finish=watching.keep,
        same_partitions=read,
        ask_time=lambda: Outgoing(topics.probes, None, b"clock", 0),
        pace_max_ms=100.0,
        pace_per_thousand_ms=50.0,
    )
    app = create_app(edge, place.cluster.bootstrap)
    monitor.attach(app, watching)
    return Actor(app, watching.figures, monitor.stuck(app, watching), watching.news)
