"""Code or data, proved: which two files are asked the same, and what is said of it."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from agents.aside import Ended
from agents.beside import Beside
from agents.cli.diff import diff
from agents.replayed import Replayed
from agents.roster_watch import Moves
from schemas.pipeline import Kind, Role
from schemas.roster import State
from schemas.verdicts import Word
from streams.core.entitlement import Span, Spans
from streams.core.verdicts.telling import BARE
from streams.core.versions import Version, files_of, suspected
from streams.core.watched_fields import WatchedFields
from streams.core.watching import Watching
from streams.pipeline_file import load
from tests.unit.lived import play
from tests.unit.small import TEXT, pipeline
from tests.unit.test_diff import TREES, event, trained
from tests.unit.test_moved import keep
from tests.unit.test_roster import move, staged
from tests.unit.test_watching import ROWS, SETTINGS, fresh, stream, told, two_fields

pytestmark = pytest.mark.usefixtures("trials")

PIPELINE = pipeline()
OLD, NEW = Version("1", "trees.txt"), Version("2", "b.txt")


def had(*files: tuple[str, str], name: str = "trees", kind: Kind = Kind.LIGHTGBM) -> Spans:
    """One span after the other in each of which the champion's name had this version and file."""
    own = replace(PIPELINE.models[0], name=name, kind=kind, sha256="x")
    given = [replace(own, version=version, artifact=artifact) for version, artifact in files]
    return Spans(
        tuple(Span(float(at), replace(PIPELINE, models=(one, *PIPELINE.models[1:]))) for at, one in enumerate(given))
    )


def test_both_files_are_those_of_versions_that_were_entitled():
    both = (OLD.version, NEW.version)
    spans = had(("1", "trees.txt"), ("2", "b.txt"), ("3", "c.txt"))
    assert files_of("trees", both, spans) == (OLD, NEW)
    assert files_of("trees", ("2", "1"), spans) == (NEW, OLD), "taken back"
    assert files_of("trees", both, had(("1", "trees.txt"), ("3", "c.txt"))) is None, "staged, and never entitled"
    assert files_of("trees", both, had(("1", "trees.txt"), ("2", "trees.txt"))) is None, "the same file again"
    assert files_of("other", both, spans) is None
    assert files_of("trees", both, had(("1", ""), ("2", ""))) is None, "no file at all"
    assert files_of("trees", both, had(("1", "a.onnx"), ("2", "b.onnx"), kind=Kind.ONNX)) is None


@pytest.mark.parametrize(
    ("taken_over_at", "wrong", "asked"),
    [(ROWS + 900, "first", True), (ROWS + 900, "second", False), (None, "first", False)],
)
def test_a_replay_is_asked_for_when_a_takeover_lies_near_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_over_at: int | None, wrong: str, asked: bool
):
    spans = had(("1", "trees.txt"), ("2", "b.txt"), name="first")
    before, after = (span.pipeline for span in spans.spans)
    beside = Beside(PIPELINE, WatchedFields(PIPELINE, ()), tmp_path / "p.toml", tmp_path, tmp_path / "r.json")
    questions = []
    monkeypatch.setattr(Replayed, "ask", lambda _, *question: questions.append(question))
    watching = fresh()
    for number, one in enumerate(stream(ROWS + 2_000)):
        if number >= ROWS + 1_000:
            one.scores[wrong] = 1 - one.scores[wrong]
        report = watching.offer(one, after if taken_over_at is not None and number >= taken_over_at else before)
        if report is not None:
            beside.evidence(report, watching, Moves((), spans))
    assert (("first", (OLD, NEW)) in questions) is asked
    assert bool(questions) is asked


def test_new_data_long_after_the_champion_was_retrained_asks_for_no_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spans = had(("1", "trees.txt"), ("2", "b.txt"), name="first")
    before, after = (span.pipeline for span in spans.spans)
    beside = Beside(PIPELINE, WatchedFields(PIPELINE, ()), tmp_path / "p.toml", tmp_path, tmp_path / "r.json")
    questions, words = [], []
    monkeypatch.setattr(Replayed, "ask", lambda _, *question: questions.append(question))
    watching = Watching(PIPELINE, SETTINGS, ("x", "y"))
    begins = ROWS + 15_000
    told(watching, two_fields(ROWS + 500, 0), before)
    told(watching, two_fields(14_500, ROWS + 500), after)
    for report in told(watching, two_fields(2_000, begins, y=4.0), after):
        words.append(report.verdict)
        beside.evidence(report, watching, Moves((), spans))
    assert Word.DATA in words
    assert questions == []


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


async def here(words: Sequence[str], within_s: float) -> Ended:
    """What `run_aside` gives, without a process that imports all of the program first."""
    done = CliRunner().invoke(diff, list(words[1:]), standalone_mode=False)
    return Ended(5, b"", str(done.exception)) if done.exception else Ended(done.return_value, done.stdout_bytes, "")


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
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "p.toml").write_text(TEXT + TREES)
    trained(tmp_path / "trees.txt")
    trained(tmp_path / "b.txt", -1.0)
    play(load(tmp_path / "p.toml"), [event(number) for number in range(400)]).write(tmp_path / "archive", "small")
    different = asked(tmp_path, OLD, NEW).said
    assert different.startswith("same input, different score: trees 1 (trees.txt) and 2 (b.txt) answer ")
    assert " of 400 archived requests otherwise, by up to " in different
    assert "rank correlation -" in different
    monkeypatch.setattr("agents.replayed.run_aside", here)
    assert asked(tmp_path, OLD, NEW).said == different
    same = asked(tmp_path, OLD, replace(OLD, version="2")).said
    assert same.startswith("same input, same score: ")
    assert asked(tmp_path, OLD, replace(NEW, artifact="gone.txt")).said == ""
    assert "what was asked could not be replayed: " in caplog.text


def test_a_model_that_was_added_while_the_pipeline_ran_is_asked_as_one_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agents.replayed.run_aside", here)
    (tmp_path / "p.toml").write_text(TEXT + TREES)
    trees = replace(load(tmp_path / "p.toml").model("trees"), role=Role.SHADOW)
    (tmp_path / "p.toml").write_text(TEXT)
    trained(tmp_path / "trees.txt")
    trained(tmp_path / "b.txt", -1.0)
    play(PIPELINE, [event(number) for number in range(400)]).write(tmp_path / "archive", "small")
    assert asked(tmp_path, OLD, NEW).said == "", "the file has no such model, and nobody has moved one"
    states = (State.STAGED, State.WARMING, State.SHADOW)
    keep(tmp_path / "archive", [staged(trees), *(move("trees", *both, trees.version) for both in pairwise(states))])
    assert asked(tmp_path, OLD, NEW).said.startswith("same input, different score: trees 1 (trees.txt) and 2 (b.txt)")
