"""The frozen reference: which window, when and by whom; written whole, and shown with what no longer fits."""

import os
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from msgspec import json
from msgspec.structs import replace

from agents.cli.reference import reference
from agents.settings import reference_file
from schemas.errors import ConfigurationRefused
from schemas.roster import State
from streams.core.frozen_reference import FrozenReference, misfits
from streams.reference_file import read_reference, write_reference
from streams.state_file import write_atomically
from tests.unit.lived import START_MS, play
from tests.unit.small import TEXT, pipeline
from tests.unit.test_moved import keep
from tests.unit.test_roster import NEW, move, staged

FOUND = FrozenReference(
    pipeline="small", since_ms=10, until_ms=20, set_at_ms=30, by="anna", requests=2000, models={"first": "1"}
)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reference")
    (root / "p.toml").write_text(TEXT)
    values = [b'{"request_id":"r%d","x":%d}' % (number, number % 100) for number in range(2500)]
    play(pipeline(), values, latency_ms=lambda _, model: None if model == "mirror" else 1.0, rate=0.2).write(
        root / "archive", "small", rows=5000
    )
    return root


def run(archived: Path, state: Path, *words: str) -> Result:
    where = ("-P", str(archived / "p.toml"), "--archive", str(archived / "archive"))
    found = CliRunner(env={"RENDEZVOUS_STATE": str(state)}).invoke(reference, [*words, *where], standalone_mode=False)
    if found.exception:
        raise found.exception
    return found


def test_what_is_set_is_shown_and_fits(archived: Path, tmp_path: Path):
    said = run(archived, tmp_path, "set", "--since", str(START_MS), "--by", "anna", "--why", "quiet weeks", "--json")
    told = json.decode(said.stdout, type=FrozenReference)
    assert told.requests == 2500
    assert told.models == {"first": "1", "second": "1", "yardstick": "1"}
    assert (told.by, told.why) == ("anna", "quiet weeks")
    assert told.since_ms < told.until_ms
    where = reference_file({"RENDEZVOUS_STATE": str(tmp_path)}, "small")
    assert where.parent == tmp_path / "small"
    assert read_reference(where) == told
    shown = run(archived, tmp_path, "show")
    assert "by anna: quiet weeks" in shown.stdout
    told = json.decode(run(archived, tmp_path, "show", "--json").stdout)
    assert told["misfits"] == ["model mirror did not score in it"]  # it never answered
    assert shown.return_value == 3


def test_what_fits_is_asked_of_the_models_that_were_moved_since_as_the_monitor_does(tmp_path: Path):
    (tmp_path / "p.toml").write_text(TEXT)
    values = [b'{"request_id":"r%d","x":1}' % number for number in range(20)]
    play(pipeline(), values, rate=0.2).write(tmp_path / "archive", "small")
    of_file = {model.name: model.version for model in pipeline().models}
    window = replace(FOUND, since_ms=START_MS + 1_000, until_ms=START_MS + 2_000, models=of_file)
    write_reference(reference_file({"RENDEZVOUS_STATE": str(tmp_path)}, "small"), window)
    assert run(tmp_path, tmp_path, "show").return_value == 0
    states = (State.STAGED, State.WARMING, State.SHADOW)
    keep(tmp_path / "archive", [staged(), *(move(NEW.name, *both, NEW.version) for both in pairwise(states))])
    told = json.decode(run(tmp_path, tmp_path, "show", "--json").stdout)
    assert told["misfits"] == ["model third did not score in it"]


def test_a_window_that_begins_before_the_archive_is_noted_from_where_there_are_requests(
    archived: Path, tmp_path: Path
):
    said = run(archived, tmp_path, "set", "--since", "2013-07-01", "--json")
    assert START_MS <= json.decode(said.stdout, type=FrozenReference).since_ms < START_MS + 1_000
    assert json.decode(run(archived, tmp_path, "show", "--json").stdout)["misfits"] == [
        "model mirror did not score in it"
    ]


def test_without_a_reference_show_says_how_to_set_one_and_exits_3(archived: Path, tmp_path: Path):
    found = run(archived, tmp_path, "show")
    assert found.return_value == 3
    assert "rendezvous reference set" in found.stdout


def test_a_dry_run_sets_nothing_and_a_second_one_says_what_it_replaces(archived: Path, tmp_path: Path):
    run(archived, tmp_path, "set", "--since", str(START_MS), "--dry-run")
    assert run(archived, tmp_path, "show", "--json").stdout.strip() == '{"reference":null}'
    run(archived, tmp_path, "set", "--since", str(START_MS), "--why", "first")
    assert "before" in run(archived, tmp_path, "set", "--since", str(START_MS), "--why", "second").stderr


def test_a_window_of_too_few_requests_is_refused(archived: Path, tmp_path: Path):
    with pytest.raises(ConfigurationRefused, match="a reference needs 2,000"):
        run(archived, tmp_path, "set", "--since", str(START_MS), "--until", str(START_MS + 1000))
    with pytest.raises(ConfigurationRefused, match="no request"):
        run(archived, tmp_path, "set", "--since", "2030-01-01")
    with pytest.raises(click.UsageError, match="ends before it starts"):
        run(archived, tmp_path, "set", "--since", "2013-07-02", "--until", "2013-07-01")
    assert not reference_file({"RENDEZVOUS_STATE": str(tmp_path)}, "small").exists()


def test_what_no_longer_fits_is_said():
    held = (5, 30)
    assert misfits(FOUND, {"first": "1"}, held) == []
    assert misfits(FOUND, {"first": "2"}, held) == ["model first is 2 now, and was 1 in it"]
    assert misfits(FOUND, {"first": "1", "new": "1"}, held) == ["model new did not score in it"]
    assert misfits(FOUND, {}, held) == ["model first scored in it and is gone"]
    for gone in (None, (11, 30)):
        assert misfits(FOUND, {"first": "1"}, gone) == ["the archive does not hold all of it any more"]
    assert misfits(FOUND, {"first": "1"}, (10, 19)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b"[1]", json.encode(replace(FOUND, format=9)), json.encode(replace(FOUND, since_ms=20))],
)
def test_a_damaged_reference_is_named_with_what_to_do(archived: Path, tmp_path: Path, content: bytes):
    path = reference_file({"RENDEZVOUS_STATE": str(tmp_path)}, "small")
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigurationRefused, match=r"reference\.json.*rendezvous reference set"):
        run(archived, tmp_path, "show")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "reference.json"
    write_reference(path, FOUND)

    def refused(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(ConfigurationRefused, match="No space left"):
        write_atomically(path, b"half")
    assert read_reference(path) == FOUND
    assert [one.name for one in tmp_path.iterdir()] == ["reference.json"]


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path):
    (tmp_path / "far").mkdir()
    link, file = tmp_path / "link", tmp_path / "far" / "file"
    link.symlink_to(file)
    for content in (b"first", b"second"):
        write_atomically(link, content)
        assert (link.is_symlink(), file.read_bytes(), list(file.parent.iterdir())) == (True, content, [file])


def test_a_damaged_reference_can_be_set_anew(archived: Path, tmp_path: Path):
    path = reference_file({"RENDEZVOUS_STATE": str(tmp_path)}, "small")
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    run(archived, tmp_path, "set", "--since", str(START_MS))
    assert read_reference(path) is not None


def test_a_user_without_a_name_is_noted_by_number(archived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_123)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    said = run(archived, tmp_path, "set", "--since", str(START_MS), "--json")
    assert json.decode(said.stdout)["by"] == "user 4000123"
