"""Code or data, proved: which two files are asked the same, and what is said of it."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from agents.replayed import Replayed
from schemas.pipeline import Model, Role
from schemas.roster import Began, Moved, Noted, State, definition_of
from schemas.verdicts import Word
from streams.core.verdicts.telling import BARE
from streams.core.versions import Version, last_two, suspected
from streams.pipeline_file import load
from tests.unit.lived import play
from tests.unit.small import TEXT, pipeline
from tests.unit.test_diff import TREES, event, trained

PIPELINE = pipeline()
OLD, NEW = Version("1", "trees.txt"), Version("2", "b.txt")


def moved(model: Model, after: State = State.STAGED) -> Moved:
    definition = definition_of(model) if after is State.STAGED else None
    return Moved(
        model=model.name, version=model.version, before=None, after=after, who="anna", at_ms=1, definition=definition
    )


def test_the_last_two_files_of_a_name_are_those_of_the_pipeline_file_and_of_the_roster():
    first = replace(PIPELINE.models[0], name="trees", kind="lightgbm", version="1", artifact="trees.txt", sha256="x")
    own = replace(PIPELINE, models=(first, *PIPELINE.models[1:]))
    second = replace(first, version="2", artifact="b.txt")
    moves = [Began(models=(), who="x", at_ms=0), moved(first, State.RETIRED), moved(second)]
    assert last_two("trees", moves, own) == (OLD, NEW)
    assert last_two("trees", moves[:2], own) is None
    assert last_two("trees", [*moves, moved(replace(second, version="3"))], own) == (OLD, NEW), "the same file again"
    assert last_two("other", moves, own) is None
    noted = Noted(model="trees", version="1", quarantined=True, who="x", at_ms=0)
    assert last_two("trees", [noted, moved(replace(second, name="other"))], own) is None


@pytest.mark.parametrize(
    ("word", "model", "whom"),
    [
        (Word.CODE, "second", "second"),
        (Word.CODE, "gone", None),
        (Word.DATA, None, "first"),
        (Word.CANARY, "yardstick", None),
        (Word.HEALTHY, None, None),
    ],
)
def test_on_code_the_named_model_is_asked_and_on_data_the_champion(word: Word, model: str | None, whom: str | None):
    assert next(one.name for one in PIPELINE.models if one.role is Role.CHAMPION) == "first"
    assert suspected(replace(BARE, verdict=word, model=model), PIPELINE) == whom


def asked(root: Path, old: Version, new: Version) -> Replayed:
    replayed = Replayed(root / "p.toml", root / "archive")

    async def ask() -> None:
        replayed.ask("trees", (old, new))
        replayed.ask("trees", (old, new))
        assert replayed._task is not None
        assert not replayed.said, "nobody waits for it"
        await replayed._task

    asyncio.run(ask())
    return replayed


def test_the_same_archived_input_goes_through_both_files_in_a_process_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "p.toml").write_text(TEXT + TREES)
    trained(tmp_path / "trees.txt")
    trained(tmp_path / "b.txt", -1.0)
    play(load(tmp_path / "p.toml"), [event(number) for number in range(400)]).write(tmp_path / "archive", "small")
    different = asked(tmp_path, OLD, NEW).said
    assert different.startswith("same input, different score: trees 1 (trees.txt) and 2 (b.txt) answer ")
    assert " of 400 archived requests otherwise, by up to " in different
    assert "rank correlation -" in different
    same = asked(tmp_path, OLD, replace(OLD, version="2")).said
    assert same.startswith("same input, same score: ")
    assert asked(tmp_path, OLD, replace(NEW, artifact="gone.txt")).said == ""
    assert "what was asked could not be replayed: " in caplog.text
