"""`rendezvous models add`: a model is checked as a scorer would, and staged."""

from pathlib import Path

import click
from msgspec.structs import replace

from agents.cli import place
from agents.cli.beside import recent
from agents.cli.entry import model_in, under
from agents.cli.moves import done, move_of, refuse, who_option, why_option
from agents.cli.roster import json_option, look, pipeline_option
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Kind, Model, Pipeline, Role
from schemas.roster import Moved, State, definition_of
from schemas.topics import topics_of_model
from streams.core.beside import is_beside
from streams.core.entitlement import History
from streams.core.roster import mistakes_in_models
from streams.kafka.admin import Admin
from streams.kafka.roster_log import RosterLog
from streams.models.artifact import sum_to_trust
from streams.models.attempt import TRIAL_S
from streams.models.entrance import Tried, tried
from streams.models.trees import LISTED

GOLDEN_ROWS = 64
LISTED_HERE = "list those of the pipeline's that it takes, in its order, with --features a,b,c"


@click.command()
@click.argument("name")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option("--entry", type=click.Path(path_type=Path), help="A TOML file with its [[models]], whatever its kind.")
@click.option("--version", default="", help="What its decisions are told by; never that of another file.")
@click.option("--sha256", "digest", help="The file's; else as ARTIFACT.sha256 beside it says, else it is taken.")
@click.option("--callable", "function", default="", metavar="MODULE:FUNCTION", help="Python, instead of a file.")
@click.option("--value", type=float, help="A constant model, instead of a file.")
@click.option("--features", default="", help="Its features in its order, a,b,c; else all of the pipeline's.")
@click.option("--needs", default="", help="Models whose scores it is given too, a,b: features a.score, b.score.")
@click.option(
    "--within",
    type=click.FloatRange(0, TRIAL_S, min_open=True),
    default=TRIAL_S,
    show_default=True,
    help="Seconds that it may take to load and to score.",
)
@click.option("--dry-run", is_flag=True, help="Only check it.")
@why_option
@who_option
@pipeline_option
@json_option
def add(
    name: str,
    artifact: Path | None,
    entry: Path | None,
    version: str,
    digest: str | None,
    function: str,
    value: float | None,
    features: str,
    needs: str,
    within: float,
    dry_run: bool,
    why: str,
    who: str,
    file: Path | None,
    as_json: bool,
) -> None:
    """Check a model and stage it: NAME, and its file ARTIFACT beside the pipeline file (LightGBM, or .onnx).

    \b
      rendezvous models add better models/better.txt --version 8
      rendezvous models add first models/first8.txt --version 8    # beside the version that `first` has now
      rendezvous models add rule2 --callable rules:late --version 2 --features hour,precip
      rendezvous models add triton --entry triton.toml   # [[models]] as in the pipeline file: any kind, its limits

    The file must be a regular one with that sha256; a child process loads it; its features must be the pipeline's,
    in its order; its scores of recent requests must be finite and in [promotion]'s range. Then its topic is made,
    which is an operator's right, and `rendezvous up` starts its scorer; it scores everything and never answers. An
    external model is loaded by nobody here: it is a shadow as soon as its topic is there.
    """
    path = place.pipeline_path(file)
    folder = path.resolve().parent
    pipeline, cluster, found = look(path)
    words: dict[str, object] = {
        "ARTIFACT": artifact,
        "--version": version,
        "--sha256": digest,
        "--callable": function,
    }
    words |= {"--value": value, "--features": features, "--needs": needs}
    if entry:
        if given := [word for word, said in words.items() if said not in (None, "")]:
            raise click.UsageError(f"--entry {entry} says what the model is: leave out {', '.join(given)}")
        model = model_in(entry, name, pipeline, folder)
    else:
        model = _described(folder, name, version, artifact, digest, function, value, features, needs)
    if model.artifact:
        model = replace(model, sha256=sum_to_trust(folder, model))
    move = move_of(model, None, State.STAGED, why, who, definition=definition_of(model))
    beside = is_beside(found.roster, move)
    if not beside:
        move = replace(move, before=found.roster.state(name))
    refuse(found, move)
    asked = replace(pipeline, models=(*(m for m in found.roster.scored() if m.name != name), model))
    if mistakes := mistakes_in_models(_with_champion(asked, found), name):
        where = f"{entry}: " if entry else ""
        raise ConfigurationRefused("\n".join(f"{where}{mistake}" for mistake in mistakes))
    way_out = f"{LISTED} in {entry}" if entry else LISTED_HERE
    rows = recent(cluster, pipeline, GOLDEN_ROWS, model.needs)
    checked = tried(folder, pipeline, model, rows, within, way_out=way_out)
    said = _told(model, checked)
    if not dry_run:
        Admin(cluster).ensure(topics_of_model(pipeline, model))
        said += _staged(RosterLog(cluster, pipeline), model, move, who)
        said += f" beside version {found.roster.members[name].model.version}" if beside else ""
    done(move, said, as_json, rows=checked.rows, least=checked.least, most=checked.most, dry_run=dry_run)


def _staged(log: RosterLog, model: Model, move: Moved, who: str) -> str:
    """Make the move; returns what happens next. Nobody waits for another's program."""
    log.move(move)
    if model.kind is not Kind.EXTERNAL:
        return "; staged. `rendezvous up` starts its scorer, then it is a shadow"
    why = "another program scores it"
    log.move(move_of(model, State.STAGED, State.WARMING, why, who))
    log.move(move_of(model, State.WARMING, State.SHADOW, why, who))
    return "; a shadow"


def _told(model: Model, checked: Tried) -> str:
    what = f"{model.name} {model.version}"
    if model.kind is Kind.EXTERNAL:
        return f"{what}: another program scores it"
    if checked.least is None or checked.most is None:
        return f"{what}: it loads, and no request is there to try it on"
    return f"{what}: {checked.rows} rows score {checked.least:.4f} to {checked.most:.4f}"


def _described(
    folder: Path,
    name: str,
    version: str,
    artifact: Path | None,
    digest: str | None,
    function: str,
    value: float | None,
    features: str,
    needs: str,
) -> Model:
    if not version:
        raise click.UsageError("Missing option '--version', or --entry FILE")
    given = [what for what, is_given in (("ARTIFACT", artifact), ("--callable", function)) if is_given]
    given += [] if value is None else ["--value"]
    if len(given) != 1:
        raise click.UsageError(f"what is it made of? Give one of ARTIFACT, --callable, --value, not {given}")
    model = Model(
        name=name,
        version=version,
        kind=Kind.CONSTANT,
        role=Role.SHADOW,
        features=_words(features),
        needs=_words(needs),
    )
    if value is not None:
        return replace(model, value=value)
    if artifact is None:
        return replace(model, kind=Kind.PYTHON, callable=function)
    kind = Kind.ONNX if artifact.suffix == ".onnx" else Kind.LIGHTGBM
    return replace(model, kind=kind, artifact=under(folder, Path.cwd(), name, artifact), sha256=digest or "")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _with_champion(asked: Pipeline, history: History) -> Pipeline:
    """The models that have a process, the staged ones as the shadows they will be."""
    roles = {model.name: model.role for model in history.roster.whole(asked).models}
    return replace(asked, models=tuple(replace(m, role=roles.get(m.name) or Role.SHADOW) for m in asked.models))
