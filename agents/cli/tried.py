"""What the command line wants tried, as ways of answering; and what had to be assumed for it, in words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from agents.cli.columns import read_requests, read_scores
from agents.cli.past import told_apart
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Enrich, Model, Pipeline
from schemas.topics import Topics
from streams.archive.ranges import Period, require
from streams.core.answers import Names
from streams.core.past import SCORES_AFTER_MS, Way
from streams.core.quality import quantiles
from streams.core.recorded import Recorded
from streams.core.scored_past import Scored


class Tried:
    """Makes ways of answering out of what the command line names, and notes what was assumed."""

    def __init__(self, root: Path, base: Pipeline, folder: Path, period: Period, latency_ms: int | None) -> None:
        self.notes: list[str] = []
        self._root = root
        self._base = base
        self._folder = folder
        self._span = period
        self._latency_ms = latency_ms
        self._ages_ms: dict[str, float | None] | None = None

    def ways(self, changed: Pipeline, folder: Path, models: Sequence[str]) -> list[Way]:
        """One way for each model file, or one for what else is changed."""
        from streams.models.candidate import changed_models

        if _told(changed) != _told(self._base):
            raise ConfigurationRefused(
                "[[enrich]] is changed: the archive holds what the pipeline's own tables said of each request, not "
                "what others would have; take it over as it is"
            )
        others = changed_models(self._folder, self._base, folder, changed)
        if not models:
            return [self._way("candidate", changed, [(folder, model) for model in others])]
        given = [self._with_file(changed, text) for text in models]
        names = told_apart(model.version for _, model, _ in given)
        ways: list[Way] = []
        for name, (pipeline, model, own) in zip(names, given, strict=True):
            scored = [(folder, other) for other in others if other.name != model.name]
            ways.append(self._way(name, pipeline, [*scored, (own, model)], instead=model.name))
        return ways

    def _with_file(self, changed: Pipeline, text: str) -> tuple[Pipeline, Model, Path]:
        from streams.models.candidate import FileGiven, with_file

        name, _, file = text.rpartition("=")
        path = Path(file)
        pipeline, model = with_file(changed, FileGiven(path, name))
        return pipeline, model, path.resolve().parent

    def _way(self, name: str, pipeline: Pipeline, scored: Sequence[tuple[Path, Model]], *, instead: str = "") -> Way:
        """`instead`: the model whose file is another, named by the caller."""
        from streams.models.candidate import STANDS_FOR, scoring_of
        from streams.models.loading import resolve
        from streams.models.trees import LISTED

        found = {}
        for folder, model in scored:
            way_out = STANDS_FOR if model.name == instead else LISTED
            score_rows, columns = scoring_of(folder, pipeline, model, way_out)
            found[model.name] = Scored(model.version, score_rows, columns, self._latency(name, model.name))
        derivations = {
            feature.name: resolve(feature.derive, f"feature {feature.name}: derive")
            for feature in pipeline.features
            if feature.derive and found
        }
        return Way(name, pipeline, found, derivations)

    def _latency(self, way: str, model: str) -> int:
        if self._latency_ms is not None:
            self.notes.append(f"{way}: {model} is scored here and answers after {self._latency_ms} ms, as told")
            return self._latency_ms
        if self._ages_ms is None:
            self._ages_ms = ages_ms(self._root, self._base, self._span)
        age_ms = self._ages_ms.get(model)
        if age_ms is None:
            raise ConfigurationRefused(
                f"{self._root}: no score of {model} in {self._span} tells how long it takes; say --latency-ms"
            )
        self.notes.append(
            f"{way}: {model} is scored here and assumed to answer every time, after {age_ms:.0f} ms, the median age "
            f"of {model}'s archived scores; --latency-ms says otherwise"
        )
        return round(age_ms)


def _told(pipeline: Pipeline) -> list[Enrich]:
    """What its tables say of requests, wherever they are held."""
    return [replace(table, state="memory") for table in pipeline.enrich]


def ages_ms(root: Path, pipeline: Pipeline, period: Period) -> dict[str, float | None]:
    """The median age of each model's archived scores."""
    topics = Topics(pipeline.name)
    found: dict[str, list[np.ndarray]] = {}
    for number in require(root, topics.raw, pipeline.partitions):
        recorded = Recorded(pipeline, Names())
        last_ms = read_requests(root, topics.raw, number, period, 0, recorded)
        until_ms = last_ms + pipeline.request.max_budget_ms + SCORES_AFTER_MS
        read_scores(root, topics.scores, number, Period(period.since_ms), 0, until_ms, recorded)
        table = recorded.table(pipeline.request.budget_ms)
        for model, (scores, log_ms, _) in table.scores.items():
            found.setdefault(model, []).append((log_ms - table.at_ms)[~np.isnan(scores)])
    return {model: quantiles(np.concatenate(ages), [0.5])["p50"] for model, ages in found.items()}
