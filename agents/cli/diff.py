"""`rendezvous diff`: the same input through two models; or production against what a model was trained on."""

from pathlib import Path

import click
import numpy as np
from msgspec import Struct, json

from agents.cli import place
from agents.cli.fingerprint import model_of
from agents.cli.moved import as_moved
from agents.cli.past import Moment, period_of
from agents.cli.slices import Slice, read_slice
from schemas.blocks import Matrix
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from streams.core.fingerprint import Difference, Fingerprint, differs, shifts_since, software_differences
from streams.core.given import Given
from streams.core.same_input import WITHIN, SameInput, compare, most_apart
from streams.core.shifts import FEWEST, Shift

ROWS = 10_000
SHOWN = 5


class Trained(Struct, frozen=True, kw_only=True):
    """Production against training. `fields` are all of them, the largest effect first."""

    model: str
    training: str
    production: str
    software: list[Difference]
    fields: list[Shift]
    moved: list[str]

    @property
    def same(self) -> bool:
        """Whether nothing differs that matters."""
        return not self.software and not self.moved


class Example(Struct, frozen=True, kw_only=True):
    """One request that the two answer otherwise; null where a model refused it."""

    request_id: str
    ticket: str
    old: float | None
    new: float | None


class Both(Struct, frozen=True, kw_only=True):
    """Two models on the same input."""

    old: str
    new: str
    input: str
    found: SameInput
    examples: list[Example]


@click.command(short_help="same input, other score? production against training?")
@click.argument("models", metavar="[OLD NEW]", nargs=-1)
@click.option("--training", metavar="MODEL", help="Hold production against what this model was trained on.")
@click.option("-P", "--pipeline", "file", type=click.Path(path_type=Path), help="Pipeline file.")
@click.option("--since", type=Moment(), help="Archived requests from this log time on.")
@click.option("--until", type=Moment(), help="Archived requests before this log time.")
@click.option("--rows", type=click.IntRange(1), default=ROWS, show_default=True, help="The newest so many of them.")
@click.option("--within", type=click.FloatRange(0), default=WITHIN, show_default=True, help="Equal up to here.")
@click.option("--archive", type=place.Root(), help="The archive's root; default: the pipeline's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def diff(
    models: tuple[str, ...],
    training: str | None,
    file: Path | None,
    since: int | None,
    until: int | None,
    rows: int,
    within: float,
    archive: Path | None,
    as_json: bool,
) -> int:
    """Is it code, or data? OLD and NEW are model files or models of the pipeline, given the same archived input.

    The pipeline's models are those that are asked by now: its file's, and what the archived moves have made of them.

    \b
      rendezvous diff full models/b.txt                 same input, another score: code
      rendezvous diff old.txt new.txt --since 1d        in the champion's place
      rendezvous diff fast=old.txt fast=new.txt         in that of fast
      rendezvous diff --training full                   software and data, then and now

    Exit 3 when something differs: a score, or software, or a field by a tenth of the requests and beyond chance.
    """
    if bool(training) == bool(models) or len(models) not in (0, 2):
        raise click.UsageError("write two models, OLD NEW, or --training MODEL")
    path = place.pipeline_path(file)
    pipeline, folder = place.pipeline(path), path.resolve().parent
    root = archive or place.archive(pipeline, folder)
    pipeline = as_moved(root, pipeline)
    period = period_of(since, until)
    if training:
        from streams.models.fingerprints import as_it_is, read_fingerprint

        model = model_of(pipeline, training)
        then = read_fingerprint(folder, model)
        now = as_it_is(folder, pipeline, model)
        trained = trained_against(then, now, read_slice(root, pipeline, period, rows))
        click.echo(json.encode(trained) if as_json else "\n".join(trained_lines(trained)))
        return 0 if trained.same else 3
    both = _both(folder, pipeline, models, read_slice(root, pipeline, period, rows), within)
    click.echo(json.encode(both) if as_json else "\n".join(both_lines(both)))
    return 0 if both.found.same else 3


def trained_against(then: Fingerprint, now: Fingerprint, found: Slice) -> Trained:
    """What a slice of production, and the software of now, have of what a model was trained on."""
    if len(found.requests) < FEWEST:
        raise ConfigurationRefused(f"{found.said()}: at least {FEWEST} are compared; choose a longer range")
    fields = shifts_since(then, found.events())
    return Trained(
        model=then.model,
        training=f"{then.rows:,} rows: {then.source}",
        production=found.said(),
        software=software_differences(then, now),
        fields=fields,
        moved=[shift.name for shift in fields if differs(shift)],
    )


def trained_lines(found: Trained) -> list[str]:
    """Production against training, for people."""
    text = [f"{found.model}: training {found.training}", f"{' ' * len(found.model)}  production {found.production}"]
    text += [f"software  {one.what}: {one.training} -> {one.production}" for one in found.software]
    if not found.software:
        text.append("software  as in training")
    for shift in found.fields:
        mark = "moved" if shift.name in found.moved else "as it was"
        text.append(f"data      {shift.name}: {mark}; {_of_shift(shift)}")
    return text


def _of_shift(shift: Shift) -> str:
    absent = ""
    if shift.absent_then != shift.absent_now:
        absent = f"; absent {100 * shift.absent_then:.1f} % -> {100 * shift.absent_now:.1f} %"
    apart = f"{100 * shift.effect:.1f} % of requests apart (chance {100 * shift.chance:.1f} %)"
    if shift.kind == "word":
        return f"{apart}; {shift.word!r} {100 * (shift.then or 0):.1f} % -> {100 * (shift.now or 0):.1f} %{absent}"
    median = (
        f"median {shift.then:g} -> {shift.now:g}" if shift.then is not None and shift.now is not None else "no value"
    )
    return f"{apart}; {median}{absent}"


def _both(folder: Path, pipeline: Pipeline, models: tuple[str, ...], found: Slice, within: float) -> Both:
    from streams.models.loading import resolve
    from streams.models.trial_forks import several

    derivations = {
        feature.name: resolve(feature.derive, f"feature {feature.name}: derive")
        for feature in pipeline.features
        if feature.derive
    }
    given = found.given(pipeline, derivations)
    first = models[0] if any(model.name == models[0] for model in pipeline.models) else ""
    with several():
        old, new = (_scores(folder, pipeline, text, given, first) for text in models)
    return Both(
        old=models[0],
        new=models[1],
        input=found.said(),
        found=compare(old, new, within),
        examples=[_example(found, row, old, new) for row in most_apart(old, new, within)[:SHOWN]],
    )


def _example(found: Slice, row: int, old: Matrix, new: Matrix) -> Example:
    partition, offset = found.tickets[row]
    return Example(
        request_id=found.requests[row].request_id,
        ticket=f"{partition}/{offset}",
        old=_plain(old[row]),
        new=_plain(new[row]),
    )


def _plain(score: float) -> float | None:
    return None if np.isnan(score) else float(score)


def _scores(folder: Path, pipeline: Pipeline, text: str, given: Given, instead_of: str) -> Matrix:
    """Scores of a model of the pipeline, or of a file in a model's place; NaN where it refuses a row."""
    from streams.models.candidate import STANDS_FOR, FileGiven, scoring_of, with_file
    from streams.models.trees import LISTED

    if any(model.name == text for model in pipeline.models):
        changed, model, own, way_out = pipeline, pipeline.model(text), folder, LISTED
    else:
        name, _, file = text.rpartition("=")
        path = Path(file)
        changed, model = with_file(pipeline, FileGiven(path, name or instead_of))
        own, way_out = path.resolve().parent, STANDS_FOR
    if not model.has_scorer:
        raise ConfigurationRefused(f"model {model.name}: nothing here scores it (kind {model.kind}); name another")
    if model.needs:
        said = f"it needs the score of {', '.join(model.needs)}, which events do not hold"
        raise ConfigurationRefused(f"model {model.name}: {said}; run it with `rendezvous backtest`")
    score_rows, columns = scoring_of(own, changed, model, way_out)
    scores, refused = score_rows(Given(given.matrix[:, columns], given.events))
    scores = np.array(scores, float)
    scores[list(refused)] = np.nan
    return scores


def both_lines(both: Both) -> list[str]:
    """Two models on the same input, for people."""
    found = both.found
    text = [f"input     {both.input}"]
    if found.same:
        return [*text, f"same      every score of {both.old} and {both.new}: on this input the code is acquitted"]
    change = found.difference
    text.append(
        f"code      {both.new} answers {found.differ:,} of {found.rows:,} requests otherwise than {both.old}, by up "
        f"to {found.largest:.4g}; nine of ten between {change['p5'] or 0:+.4g} and {change['p95'] or 0:+.4g}"
    )
    if found.refused:
        text.append(f"code      {found.refused:,} requests are scored by one of the two only")
    if found.order is not None:
        said = "order kept: rescaled only" if found.order > 1 - 1e-6 else "the order changed"
        text.append(f"order     rank correlation {found.order:.4f}: {said}")
    text += [f"example   {one.request_id}: {_told(one.old)} -> {_told(one.new)}" for one in both.examples]
    return text


def _told(score: float | None) -> str:
    return "refused" if score is None else f"{score:.6g}"
