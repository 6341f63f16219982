"""`rendezvous up`: a whole pipeline, supervised."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from agents.born import Nursery
from agents.cast import Cast, named_apart
from agents.child import REFUSED, Child
from agents.cli import place
from agents.given_up import note_given_up, note_started_anew
from agents.in_hand import Left
from agents.last_input import keep_last_input
from agents.settings import environ, log_dir
from agents.supervisor import Supervisor
from schemas.pipeline import Model, Pipeline, PolicyKind
from schemas.rights import group_of, rights_of, together
from schemas.topics import Topics, topics_of, topics_of_all
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster, cluster_of
from streams.models.artifact import ModelRefused, open_artifact, sum_of
from streams.models.limits import THREADS, thread_settings
from streams.models.loading import refused_models

SHOW_S = 1.0


@click.command(short_help="bring a pipeline up and keep it up")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON line a second on stdout instead of a table.")
@click.option(
    "--standby/--no-standby",
    default=None,
    help="A second rendezvous that answers while the first is dead; else as the file says (by default: yes).",
)
@click.option("--replay", "run", metavar="RUN", help="The pipeline's copy that takes this run's replay.")
def up(file: Path, as_json: bool, standby: bool | None, run: str | None) -> None:
    """Start the broker if none is given, make or check the topics, run every role of the pipeline FILE.

    \b
      rendezvous up deploy/flights/flights.toml
      KAFKA_BOOTSTRAP_SERVERS=kafka:9092 rendezvous up pipeline.toml
      rendezvous up pipeline.toml --replay june

    Whoever reads what it shows may stop reading (`| head -1`): it says so on stderr, and the pipeline runs on.
    Ctrl-C or SIGTERM stops everything within 5 s; what is not finished is read again at the next start.
    """
    if run:
        click.get_current_context().find_root().obj = run
    pipeline = place.pipeline(file)
    standby = pipeline.standby if standby is None else standby
    broker = place.broker()
    nursery = Nursery(environ(), dict.fromkeys(THREADS, "1"))
    nursery.begin()
    click.get_current_context().call_on_close(nursery.end)
    given = cluster_of(environ())
    if given:
        _look(given, pipeline, standby=standby)
    _say(f"{pipeline.name}: trying {len(pipeline.models)} models, each in a process of its own")
    refused = _tried(file, pipeline)
    if not given:
        _say(f"starting Apache Kafka, its data in {broker.folder}")
    cluster = given or Cluster(broker.start())
    try:
        if not given:
            _look(cluster, pipeline, standby=standby)
        place.remember(file)
        of_file = pipeline
        pipeline = place.rostered(cluster, pipeline)
        if pipeline != of_file:
            refused = _try_again(file, pipeline)
        if wrong := note_started_anew(cluster, pipeline):
            click.echo(f"the roster does not know who is tried again: {wrong}", err=True)
        for name, error in refused.items():
            version = pipeline.model(name).version
            if wrong := note_given_up(cluster, pipeline, name, version, str(error), refused=True):
                click.echo(f"the roster does not know that {name} is refused: {wrong}", err=True)
        children = _children(file, pipeline, refused, standby=standby, rostered=pipeline != of_file)
        down = [(model.name, model.version) for model in pipeline.models if model.name in refused]
        cast = Cast(of_file, cluster, lambda model: _scorers(file, replace(pipeline, models=(model,))), down)
        for model in place.beside(cluster, of_file):
            children += _scorers(file, replace(pipeline, models=(model,)), beside=True)
        about = _about(file, pipeline, cluster, refused)
        asyncio.run(_supervise(children, about, pipeline, cluster, cast, nursery, as_json=as_json))
    finally:
        broker.stop_if_started()


def _try_again(file: Path, pipeline: Pipeline) -> dict[str, ModelRefused]:
    """The roster has other models than the file: they are tried as those were."""
    _say(f"{pipeline.name}: the roster says who is there, trying its {len(pipeline.models)} models")
    return _tried(file, pipeline)


def _tried(file: Path, pipeline: Pipeline) -> dict[str, ModelRefused]:
    """The models that cannot be loaded, each told."""
    refused = refused_models(file.resolve().parent, pipeline)
    for error in refused.values():
        click.echo(f"refused: {error}", err=True)
    return refused


def _scorers(file: Path, pipeline: Pipeline, *, beside: bool = False) -> list[Child]:
    """The processes of models that came while the pipeline runs: as those of the file, told that they are new.

    Not the coupler of one that stands `beside` another version: they have one.
    """
    every = _children(file, pipeline, {}, standby=False, rostered=True, tried=False)
    if not beside:
        return [child for child in every if child.model]
    return [named_apart(child) for child in every if child.version]


def _say(what: str) -> None:
    """On a terminal, what takes seconds before there is a table to show."""
    if sys.stderr.isatty():
        click.echo(what, err=True)


def _look(cluster: Cluster, pipeline: Pipeline, *, standby: bool) -> None:
    """Make or check the topics, and ask for every right of every role: who lacks one is told before any work.

    Of models, those of the roster: the topic of one that was retired may have been deleted, and stays so.
    """
    cluster.check_reachable()
    admin = Admin(cluster)
    if Topics(pipeline.name).roster_history not in admin.ensure(topics_of_all(pipeline)):
        pipeline = place.rostered(cluster, pipeline)
    admin.ensure(topics_of(pipeline))
    roles = [("router", ""), ("rendezvous", ""), ("archiver", ""), *([("standby", "")] if standby else [])]
    roles += [("monitor", "")] if pipeline.monitor else []
    roles += [("scorer", model.name) for model in pipeline.models if model.has_scorer]
    roles += [("coupler", model.name) for model in pipeline.models if model.needs]
    roles += [("learner", "")] if pipeline.policy.kind is PolicyKind.BANDIT else []
    admin.check_rights(
        together(rights_of(pipeline, role, model) for role, model in roles),
        [group_of(role, pipeline, model) for role, model in roles],
    )


async def _supervise(
    children: list[Child],
    about: Mapping[str, Any],
    pipeline: Pipeline,
    cluster: Cluster,
    cast: Cast,
    nursery: Nursery,
    *,
    as_json: bool,
) -> None:
    environment = dict(environ())
    environment.setdefault("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap)

    async def gave_up(child: Child, left: Left) -> None:
        model, version = child.model, child.version
        noted = await asyncio.to_thread(
            note_given_up, cluster, pipeline, model, version, child.reason, refused=child.state == REFUSED
        )
        if noted:
            child.reason += f"; the roster does not know of it: {noted}"
        if not left.rows or child.state == REFUSED:
            return
        failed = await asyncio.to_thread(keep_last_input, cluster, pipeline, model, left, child.reason)
        child.reason += f"; its last input is not in the dead letters: {failed}" if failed else ""

    supervisor = Supervisor(children, environment, gave_up, nursery)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.over.set)
    await supervisor.start()
    cast.follow(supervisor)
    show = _json if as_json else _table if sys.stderr.isatty() else _lines
    showing = supervisor.do(_while_read(show(supervisor, cast, about)))
    await supervisor.over.wait()
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    _say("stopping; what is not finished is read again at the next start")
    await asyncio.gather(supervisor.stop(), asyncio.to_thread(cast.stop))


def _children(
    file: Path,
    pipeline: Pipeline,
    refused: Mapping[str, ModelRefused],
    *,
    standby: bool,
    rostered: bool = False,
    tried: bool = True,
) -> list[Child]:
    logs = log_dir(environ(), pipeline.name)
    sums = {
        model.name: [sum_of(open_artifact(file.resolve().parent, model))]
        for model in pipeline.models
        if tried and model.artifact and model.has_scorer and model.name not in refused
    }

    fence = ["--replay", pipeline.replay] if pipeline.replay else []

    def child(role: str, *flags: str) -> Child:
        words = [*fence, "run", role, str(file), "--supervised", *flags]
        return Child(role, [sys.executable, "-m", "agents", *words], logs / f"{role}.log", words)

    def scorer(model: Model, number: int) -> Child:
        # `refused_models` has just tried this very file: a scorer that starts again is back sooner.
        known = [f"--tried={found}" for found in sums.get(model.name, ())]
        known += ["--rostered", f"--version={model.version}"] if rostered else []
        found = child("scorer", "--model", model.name, f"--number={number}", *known)
        found.name = f"scorer.{model.name}" + (f".{number}" if number else "")
        found.model, found.version = model.name, model.version
        found.log = logs / f"{found.name}.log"
        found.environment = thread_settings(model)
        found.width = len(pipeline.features_of(model))
        found.quarantine = pipeline.quarantine
        return found

    scorers = [
        scorer(model, number)
        for model in pipeline.models
        if model.has_scorer and model.name not in refused
        for number in range(model.instances)
    ]

    def coupler(model: Model) -> Child:
        found = child("coupler", "--model", model.name, *(["--rostered"] if rostered else []))
        found.name = f"coupler.{model.name}"
        found.model = model.name
        found.log = logs / f"{found.name}.log"
        return found

    couplers = [coupler(model) for model in pipeline.models if model.needs and model.name not in refused]
    desks = [child("rendezvous", "--standby"), child("standby")] if standby else [child("rendezvous", "--no-standby")]
    watching = [child("monitor")] if pipeline.monitor else []
    for one in watching:
        one.environment = dict.fromkeys(THREADS, "1")  # it is in nobody's way, numpy's threads neither
    learners = [child("learner")] if pipeline.policy.kind is PolicyKind.BANDIT else []
    return [*desks, *scorers, *couplers, child("router"), child("archiver"), *learners, *watching]


def _about(file: Path, pipeline: Pipeline, cluster: Cluster, refused: Mapping[str, ModelRefused]) -> dict[str, Any]:
    return {
        "pipeline": pipeline.name,
        "bootstrap": cluster.bootstrap,
        "archive": str(place.archive(pipeline, file.resolve().parent)),
        "logs": str(log_dir(environ(), pipeline.name)),
        "refused": {name: str(error) for name, error in refused.items()},
    }


async def _while_read(showing: Coroutine[Any, Any, None]) -> None:
    """Show until cancelled. That nobody reads any more (`head`) ends no pipeline, and is said: it goes on unseen."""
    try:
        await showing
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else what was left unwritten fails once more when we end
        os.close(nowhere)
        with contextlib.suppress(OSError):  # it may be stderr that nobody reads
            click.echo(f"the pipeline runs on, but is shown no more: {error.strerror}. Ctrl-C stops it", err=True)


async def _json(supervisor: Supervisor, cast: Cast, about: Mapping[str, Any]) -> None:
    while True:
        roles = {
            child.name: {
                "state": child.state,
                "pid": child.pid,
                "restarts": child.restarts,
                "reason": child.reason,
                **msgspec.to_builtins(child.status),
            }
            | {"state": child.state}
            for child in supervisor.children
        }
        line = {**about, "ready": supervisor.ready, "roster_not_followed": cast.trouble, "roles": roles}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        await asyncio.sleep(SHOW_S if supervisor.ready else SHOW_S / 20)


async def _lines(supervisor: Supervisor, _: Cast, about: Mapping[str, Any]) -> None:
    """No terminal: say what changes, and nothing else."""
    click.echo(f"{about['pipeline']} on {about['bootstrap']}, logs in {about['logs']}", err=True)
    said: dict[str, tuple[str, str]] = {}
    while True:
        for child in supervisor.children:
            if said.get(child.name) != (child.state, child.reason):
                said[child.name] = (child.state, child.reason)
                why = f"; it ended {child.reason}" if child.reason else ""
                click.echo(f"{child.name}: {child.state} (restarts {child.restarts}{why})", err=True)
        await asyncio.sleep(SHOW_S / 5)


async def _table(supervisor: Supervisor, cast: Cast, about: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.markup import escape
    from rich.table import Table

    def drawn() -> Table:
        caption = f"logs in {about['logs']}; Ctrl-C stops it"
        if cast.trouble:
            caption += f"\n[red]the roster is not followed: {escape(cast.trouble)}"
        table = Table(title=f"{about['pipeline']} on {about['bootstrap']}", caption=caption)
        for name in ("role", "state", "records/s", "lag", "restarts", "figures"):
            table.add_column(name, justify="left" if name in ("role", "state", "figures") else "right")
        for child in supervisor.children:
            status = child.status
            figures = ", ".join(f"{name} {value:,.0f}" for name, value in status.figures.items())
            if child.reason and child.state != "running":
                figures = escape(child.reason)
            colour = {"running": "green", "starting": "yellow"}.get(child.state, "red")
            table.add_row(
                child.name,
                f"[{colour}]{child.state}",
                f"{status.rate:,.0f}",
                f"{status.lag:,}",
                str(child.restarts),
                figures,
            )
        return table

    with Live(drawn(), console=Console(stderr=True), refresh_per_second=2) as live:
        while True:
            await asyncio.sleep(SHOW_S / 2)
            live.update(drawn())
