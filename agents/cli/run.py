"""`rendezvous run`: one role in the foreground, for containers and for the supervisor."""

import logging
import os
import sys
from pathlib import Path

import click
from msgspec.structs import replace

from agents.cli import place
from agents.settings import environ, log_level, monitor_dir, notes_dir, tables_dir
from schemas.pipeline import Pipeline
from schemas.rights import group_of, rights_of
from schemas.topics import OF_A_MODEL
from streams.kafka.clients import Cluster

NICE = {"archiver": 5, "learner": 10, "monitor": 10}
"""What may wait gives way; the archiver less: what is not archived fills the broker. Not the scorers: one that
starts again would be seconds later (measured)."""

SERVING = ("scorer", "coupler")
"""Of one model each."""

ROSTERED = (*SERVING, "router", "rendezvous", "standby")
"""Who is entitled is what they go by."""

FORM = "%(asctime)s %(levelname)s %(name)s %(message)s"


@click.command(short_help="one role in the foreground")
@click.argument(
    "role",
    type=click.Choice(["router", "coupler", "scorer", "rendezvous", "standby", "archiver", "learner", "monitor"]),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", default="", help="Which model; for scorer and coupler.")
@click.option("--version", default="", help="Which of two versions of its name; for the scorer.")
@click.option("--number", default=0, help="Instance number: each process of a role has its own.")
@click.option("--leave", is_flag=True, help="Leave the group at the end: others take over at once, not after 6 s.")
@click.option("--standby/--no-standby", default=None, help="Whether it has a standby; else as the file says.")
@click.option("--supervised", is_flag=True, hidden=True)
@click.option("--rostered", is_flag=True, hidden=True, help="The model is the roster's, not the file's.")
@click.option("--tried", multiple=True, hidden=True, help="sha256 of a model file that `up` has tried.")
@click.option("--in-hand", type=int, hidden=True, help="Descriptor of the memory that `up` holds for this scorer.")
@click.option("--after", default="", hidden=True, help="What ended this scorer's life before.")
def run(
    role: str,
    file: Path,
    model: str,
    version: str,
    number: int,
    leave: bool,
    standby: bool | None,
    supervised: bool,
    rostered: bool,
    tried: tuple[str, ...],
    in_hand: int | None,
    after: str,
) -> int:
    """Run one ROLE of the pipeline FILE until SIGTERM.

    \b
      rendezvous run router pipeline.toml
      rendezvous run scorer pipeline.toml --model full
      rendezvous run router pipeline.toml --number 1 --leave   # helps for a while

    An instance that ends keeps its partitions for 6 s: one that is started again at once has them back, and the
    others are not disturbed.
    """
    logging.basicConfig(level=log_level(environ()), stream=sys.stderr, format=FORM)
    for noisy in ("faust", "mode", "streams.kafka.transport", "streams.kafka.tables"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if supervised:
        os.nice(NICE.get(role, 0))
    pipeline = place.pipeline(file)
    if standby is not None or role == "standby":
        pipeline = replace(pipeline, standby=bool(standby) or role == "standby")
    if role in SERVING and not model:
        raise click.UsageError("which model? Name it with --model")
    cluster = place.cluster(looked_at=supervised)
    if not supervised and role not in SERVING:  # else `up` has just looked; a model may be the roster's only
        _look(cluster, pipeline, role, model)
    rostered = role in SERVING and (rostered or not supervised)
    if rostered:
        pipeline = place.rostered(cluster, pipeline, model, version)
        if role == "scorer":
            _bind_threads(pipeline, model)
        if not supervised:
            _look(cluster, pipeline, role, model)
    elif role in ROSTERED:
        place.refuse_another_roster(cluster, pipeline)
    from agents import actor, process, roles  # who is refused needs none of it

    folder = file.resolve().parent
    status = process.status_line() if supervised else None
    at = actor.Place(
        pipeline,
        folder,
        cluster,
        place.archive(pipeline, folder),
        frozenset(tried),
        in_hand,
        after,
        notes_dir(environ(), pipeline.name),
        rostered,
        monitor_dir(environ(), pipeline.name),
        file.resolve(),
        tables_dir(environ(), pipeline.name),
    )
    return process.run(roles.build(role, at, model, number, leave=leave), status)


def _bind_threads(pipeline: Pipeline, model: str) -> None:
    """Start this very process anew where the libraries have not been told how many threads are theirs."""
    from streams.models.limits import thread_settings

    found = [known for known in pipeline.models if known.name == model]
    wanted = {name: value for each in found for name, value in thread_settings(each).items() if name not in environ()}
    if wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environ(), **wanted})  # noqa: S606  ourselves


def _look(cluster: Cluster, pipeline: Pipeline, role: str, model: str) -> None:
    """Refuse to start where this role's topics or rights are not as it needs them."""
    from streams.kafka.admin import Admin

    admin = Admin(cluster)
    if role == "router":  # whose models are the roster's: the topic of one that was retired may be gone
        admin.require([topic for topic in rights_of(pipeline, role).topics if topic.entry not in OF_A_MODEL])
        pipeline = place.rostered(cluster, pipeline)
    rights = rights_of(pipeline, role, model)
    admin.require(rights.topics)
    admin.check_rights(rights, [group_of(role, pipeline, model)])
