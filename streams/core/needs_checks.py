"""What one model may need of another: pure checks, each with its remedy. A circle would wait for itself for ever."""

from collections.abc import Iterator, Mapping

from schemas.pipeline import SCORE_OF, Model, Pipeline, Role
from streams.core.mistakes import Mistake, doubles

KEY = "needs"
"""How these mistakes begin: on a roster a model may have lost what it needs since, and says so row by row."""


def needs_mistakes(pipeline: Pipeline) -> Iterator[Mistake]:
    """Names that nobody has, circles, scores that are used and not declared, or declared and not used."""
    models = {model.name: model for model in pipeline.models}
    for model in pipeline.models:
        key = f"{KEY} ({model.name})"
        yield from doubles(key, model.needs)
        for name in model.needs:
            yield from _one(key, name, models)
        if around := _circle(model.name, models):
            yield Mistake(key, f"in a circle: {' needs '.join(around)}", "let one of them do without")
        yield from _use(key, model)
    yield from _names(pipeline, models)


def _one(key: str, name: str, models: Mapping[str, Model]) -> Iterator[Mistake]:
    if name not in models:
        yield Mistake(key, f"there is no model {name!r}", f"name one of {', '.join(models)}, or remove it")
    elif models[name].role is Role.DECOY:
        yield Mistake(key, f"{name} is a decoy, which scores nothing", "name another")


def _circle(start: str, models: Mapping[str, Model]) -> list[str]:
    """The way from a model through what it needs back to itself; empty when there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        needs = models[way[-1]].needs if way[-1] in models else ()
        if start in needs:
            return [*way, start]
        ways += [[*way, name] for name in needs if name not in seen]
        seen.update(needs)
    return []


def _use(key: str, model: Model) -> Iterator[Mistake]:
    """Features that are named, but not asked for, and the other way round."""
    used = [name for name in model.features if name.endswith(SCORE_OF)]
    for name in used:
        if name not in model.needed_features:
            other = name.removesuffix(SCORE_OF)
            yield Mistake(key, f"its feature {name!r} is a score it does not declare", f'write needs = ["{other}"]')
    if model.features and model.takes != "events":
        for name, feature in zip(model.needs, model.needed_features, strict=True):
            if feature not in used:
                yield Mistake(key, f"{name}'s score is no feature of it", f'add "{feature}" to its features')


def _names(pipeline: Pipeline, models: Mapping[str, Model]) -> Iterator[Mistake]:
    """What the score of a model is called is called so by nothing else."""
    for feature in pipeline.features:
        if feature.name.endswith(SCORE_OF) and feature.name.removesuffix(SCORE_OF) in models:
            wrong = f"{feature.name!r} is what a score is called to models that need it"
            yield Mistake(f"features ({feature.name})", wrong, "choose another name")
