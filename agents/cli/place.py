"""Which pipeline and which cluster a command means."""

from collections.abc import Mapping
from pathlib import Path

import click
from msgspec.structs import replace

from agents.settings import archive_dir, cache_dir, environ, state_dir
from schemas.errors import ConfigurationRefused, KafkaUnreachable
from schemas.pipeline import Model, Pipeline
from schemas.rights import rights_of
from streams.archive.store import open_root
from streams.core.replay import of_run
from streams.kafka.clients import Cluster, cluster_of
from streams.kafka.local import LocalBroker
from streams.pipeline_file import load

LAST = "last-pipeline"


class Root(click.ParamType):
    """Where an archive lies, as `archive.root` in a pipeline file says it: a folder, or `s3://bucket/prefix`."""

    name = "root"

    def convert(self, value: "str | Path", param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The folder, or the bucket."""
        return value if isinstance(value, Path) else open_root(value, Path())


def broker() -> LocalBroker:
    """The local broker of this state folder, running or not."""
    environment = environ()
    return LocalBroker(state_dir(environment), cache_dir(environment))


def cluster(*, looked_at: bool = False) -> Cluster:
    """The cluster the environment names, else the local one if it runs.

    Raises KafkaUnreachable, or ConfigurationRefused when it does not let us in; not when it was `looked_at` before.
    """
    given = cluster_of(environ())
    if given is not None:
        if not looked_at:
            given.check_reachable()
        return given
    running = broker().running()
    if running is None:
        raise KafkaUnreachable(
            "no Kafka runs here: start a pipeline with `rendezvous up FILE`, a broker with `rendezvous kafka "
            "start`, or name a cluster in KAFKA_BOOTSTRAP_SERVERS"
        )
    return Cluster(running.bootstrap)


def cluster_to_ask(of: Pipeline, role: str = "producers") -> Cluster:
    """The cluster, once it is known that this principal may write what this role writes; raises as `cluster` does.

    A producer that may write nowhere at all dies by a fatal error in the middle of a callback (2.16.1).
    """
    from streams.kafka.admin import Admin

    found = cluster()
    Admin(found).check_rights(rights_of(of, role), [])
    return found


def pipeline_path(given: Path | None) -> Path:
    """The pipeline file: as given, else `RENDEZVOUS_CONFIG`, else the one last brought up here."""
    if given is not None:
        return given
    environment: Mapping[str, str] = environ()
    named = environment.get("RENDEZVOUS_CONFIG")
    if named:
        return Path(named)
    last = state_dir(environment) / LAST
    if last.is_file():
        return Path(last.read_text().strip())
    raise ConfigurationRefused("which pipeline? Name its file with --pipeline FILE, or set RENDEZVOUS_CONFIG")


def remember(path: Path) -> None:
    """Commands that follow mean this pipeline unless told otherwise."""
    folder = state_dir(environ())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LAST).write_text(f"{path.resolve()}\n")


def pipeline(given: Path | None) -> Pipeline:
    """The pipeline of a command, or its copy behind a replay's fence; raises ConfigurationRefused."""
    found, run = load(pipeline_path(given)), replay_run()
    return of_run(found, run) if run else found


def rostered(at: Cluster, of: Pipeline, model: str = "", version: str = "") -> Pipeline:
    """The pipeline with every model that needs a process now: the roster's, once it has begun, else the file's.

    Of two versions of a name the one that is entitled, unless the other is asked for; raises ConfigurationRefused
    when there is none such, or when by this file the roster is another than it was said to be.
    """
    from streams.kafka.roster_log import RosterLog

    history = RosterLog(at, of).agreed()
    if not (history.begun or version):
        return of
    roster = history.roster
    wanted = roster.of(model, version) if version else None
    if version and wanted is None:
        raise ConfigurationRefused(f"no version {version!r} of {model!r}: `rendezvous models ls` says who is there")
    models = tuple(wanted.model if wanted and own.name == model else own for own in roster.scored())
    return replace(of, models=models)


def refuse_another_roster(at: Cluster, of: Pipeline) -> None:
    """Raises ConfigurationRefused when by this file the roster is another than it was said to be."""
    from streams.kafka.roster_log import RosterLog

    RosterLog(at, of).agreed()


def beside(at: Cluster, of: Pipeline) -> tuple[Model, ...]:
    """The models that stand beside another version of their name."""
    from streams.kafka.roster_log import RosterLog

    return RosterLog(at, of).read().roster.others()


def replay_run() -> str | None:
    """The run named by `rendezvous --replay RUN`."""
    context = click.get_current_context(silent=True)
    run: str | None = context.find_root().obj if context else None
    return run


def archive(of: Pipeline, folder: Path) -> Path:
    """Where a pipeline's archive lies: its own `archive.root` (beside its file), else the state folder."""
    return open_root(of.archive.root, folder) if of.archive.root else archive_dir(environ(), of.name)
