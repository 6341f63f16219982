"""Same input, other score: code. Production against training: what differs, and nothing that does not."""

import doctest
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import click
import lightgbm
import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec import json
from msgspec.structs import replace

from agents.cli.diff import diff
from agents.cli.fingerprint import fingerprint, read_events
from agents.cli.slices import Passing, read_slice
from schemas.errors import ConfigurationRefused
from streams.archive.ranges import Period
from streams.core import passing_values
from streams.core.fingerprint import LEVELS, Fingerprint, Software, differs, prints_of, shifts_since
from streams.core.passing_values import Numbers, Words
from streams.core.same_input import compare, most_apart
from streams.core.shifts import largest_difference
from streams.models.artifact import ModelRefused
from streams.models.fingerprints import SUFFIX
from streams.pipeline_file import load
from tests.unit.lived import play
from tests.unit.small import TEXT

pytestmark = pytest.mark.usefixtures("trials")

TREES = """
[[models]]
name = "trees"
version = "1"
kind = "lightgbm"
artifact = "trees.txt"
sha256 = "trees.txt.sha256"
role = "shadow"
features = ["x", "late"]
"""
COLOURS = ("red", "green")


def trained(path: Path, sign: float = 1.0, power: float = 1.0) -> Path:
    """A model file and its sum; `sign` turns what it has learnt round."""
    rng = np.random.default_rng(1)
    rows = np.stack([rng.uniform(0, 100, 500), rng.integers(0, 2, 500)], 1)
    data = lightgbm.Dataset(rows, sign * rows[:, 0] ** power, feature_name=["x", "late"])
    text = lightgbm.train({"verbose": -1, "num_threads": 1, "num_leaves": 7}, data, 20).model_to_string()
    path.write_text(text)
    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
    import hashlib

    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  {path.name}\n")
    return path


def event(number: int, *, red: int = 5, add: float = 0.0) -> bytes:
    """One in `red` is red; one in ten says nothing of being late."""
    late = "" if number % 10 == 0 else ',"box":{"late":true}'
    colour = COLOURS[0] if number % red == 0 else COLOURS[1]
    x = (number * 37) % 100 + add
    return f'{{"request_id":"r{number}","x":{x},"colour":"{colour}"{late}}}'.encode()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline file, a model, an archive of 400 requests."""
    root = tmp_path_factory.mktemp("diff")
    (root / "p.toml").write_text(TEXT + TREES)
    trained(root / "trees.txt")
    play(load(root / "p.toml"), [event(number) for number in range(400)]).write(root / "archive", "small")
    return root


def run(command: click.Command, root: Path, *words: str, archive: Path | None = None) -> Result:
    where = ("-P", str(root / "p.toml"), "--archive", str(archive or root / "archive"))
    found = CliRunner().invoke(command, [*words, *where], standalone_mode=False)
    if found.exception:
        raise found.exception
    return found


def test_a_model_and_itself_answer_the_same_and_the_code_is_acquitted(root: Path):
    found = run(diff, root, "trees", str(root / "trees.txt"))
    assert found.return_value == 0
    assert "acquitted" in found.stdout


def test_another_file_on_the_same_input_is_code_and_exit_3(root: Path):
    trained(root / "b.txt", -1.0)
    found = run(diff, root, "trees", str(root / "b.txt"), "--json")
    assert found.return_value == 3
    told = json.decode(found.stdout)
    assert told["found"]["rows"] == 400
    assert told["found"]["differ"] > 350
    assert told["found"]["order"] < -0.9
    text = run(diff, root, "trees", str(root / "b.txt")).stdout
    assert "otherwise than trees, by up to" in text
    assert "the order changed" in text
    own = lightgbm.Booster(model_file=root / "trees.txt").predict
    other = lightgbm.Booster(model_file=root / "b.txt").predict
    for one in told["examples"]:
        number = int(one["request_id"][1:])
        row = np.array([[(number * 37) % 100, float(number % 10 != 0)]])
        assert one["old"] == pytest.approx(own(row)[0])
        assert one["new"] == pytest.approx(other(row)[0])


def test_the_same_slice_is_known_by_its_sum_and_rows_are_the_newest(root: Path):
    whole, again, few = (
        json.decode(run(diff, root, "trees", "trees", "--json", *more).stdout)["input"]
        for more in ((), (), ("--rows", "10"))
    )
    assert whole == again
    assert few.startswith("10 requests")
    assert few.split("sha256")[1] != whole.split("sha256")[1]


def test_a_file_of_other_features_is_refused_by_name(root: Path):
    rows = np.random.default_rng(1).normal(size=(200, 3))
    data = lightgbm.Dataset(rows, rows[:, 0], feature_name=["x", "late", "more"])
    (root / "other.txt").write_text(lightgbm.train({"verbose": -1, "num_threads": 1}, data, 2).model_to_string())
    with pytest.raises(ModelRefused, match=r"other\.txt takes \['x', 'late', 'more'\].* stand for with NAME=FILE$"):
        run(diff, root, "trees", str(root / "other.txt"))


@pytest.mark.parametrize("words", [(), ("trees",), ("a", "b", "c"), ("trees", "trees", "--training", "trees")])
def test_two_models_or_a_training_are_asked_for(root: Path, words: tuple[str, ...]):
    with pytest.raises(click.UsageError, match="OLD NEW"):
        run(diff, root, *words)


def test_scores_are_compared_row_by_row_and_a_refusal_is_a_difference():
    old = np.array([0.1, 0.2, 0.3, np.nan, np.nan])
    new = np.array([0.1, 0.2 + 1e-12, 0.5, 0.4, np.nan])
    found = compare(old, new)
    assert (found.rows, found.differ, found.refused) == (5, 1, 1)
    assert found.largest == pytest.approx(0.2)
    assert most_apart(old, new) == [3, 2]
    assert compare(old[:2], new[:2]).same
    assert compare(np.zeros(0), np.zeros(0)).same


def test_a_rescaled_model_keeps_its_order():
    scores = np.random.default_rng(1).uniform(size=500)
    assert compare(scores, scores**3).order == 1
    assert (compare(scores, np.random.default_rng(2).uniform(size=500)).order or 0) < 0.2
    assert compare(scores, np.ones(500)).order is None


def written(root: Path, events: list[bytes]) -> Path:
    file = root / "train.jsonl"
    file.write_bytes(b"\n".join(events) + b"\n")
    return file


def test_production_as_in_training_is_no_difference(root: Path):
    run(fingerprint, root, "trees", "--events", str(written(root, [event(number) for number in range(1000, 3000)])))
    found = run(diff, root, "--training", "trees", "--json")
    told = json.decode(found.stdout)
    assert (told["software"], told["moved"]) == ([], [])
    assert found.return_value == 0


def test_a_field_that_moved_since_training_is_named_with_its_size(root: Path):
    run(fingerprint, root, "trees", "--events", str(written(root, [event(number, add=30) for number in range(2000)])))
    found = run(diff, root, "--training", "trees", "--json")
    told = json.decode(found.stdout)
    assert found.return_value == 3
    assert told["moved"] == ["x"]
    assert "data      x: moved; 30" in run(diff, root, "--training", "trees").stdout
    first = told["fields"][0]
    assert first["name"] == "x"
    assert first["effect"] == pytest.approx(0.3, abs=0.01)
    assert first["now"] - first["then"] == pytest.approx(-30, abs=1)


def test_software_that_is_not_as_in_training_is_named(root: Path):
    run(fingerprint, root, "trees", "--events", str(written(root, [event(number) for number in range(2000)])))
    path = root / f"trees.txt{SUFFIX}"
    then = json.decode(path.read_bytes(), type=Fingerprint)
    libraries = then.software.libraries | {"numpy": "0.9", "gone": "1.0"}
    features = [replace(then.features[1], default=True), then.features[0]]
    other = replace(then, sha256="0" * 64, software=Software(python="2.7.1", libraries=libraries), features=features)
    path.write_bytes(json.encode(other))
    found = run(diff, root, "--training", "trees", "--json")
    told = {one["what"]: (one["training"], one["production"]) for one in json.decode(found.stdout)["software"]}
    assert found.return_value == 3
    assert set(told) == {
        "sha256 of the file", "Python", "numpy", "gone", "features, in order", "feature late: default",
    }  # fmt: skip
    assert told["gone"] == ("1.0", "not installed")
    assert told["features, in order"] == ("late, x", "x, late")


def test_a_fingerprint_shown_is_the_one_written(root: Path):
    said = run(fingerprint, root, "trees", "--events", str(written(root, [event(1), event(2)])), "--json")
    shown = run(fingerprint, root, "trees", "--json")
    assert json.decode(shown.stdout) == json.decode(said.stdout)
    text = run(fingerprint, root, "trees").stdout
    assert "trained on 2 rows" in text
    assert "x: 37 to 74" in text


def test_a_fingerprint_of_the_archive_names_its_range(root: Path):
    found = run(fingerprint, root, "trees", "--since", "2020-01-01", "--dry-run", "--json")
    told = json.decode(found.stdout)
    assert told["rows"] == 400
    assert "archive: 400 requests" in told["source"]


def test_a_fingerprint_of_the_archive_is_of_the_slice_that_has_all_of_it(root: Path):
    own = load(root / "p.toml")
    passing, slice_ = Passing(root / "archive", own, Period()), read_slice(root / "archive", own, Period(), 1_000)
    assert list(passing.events()) == slice_.events()
    assert passing.said() == slice_.said()
    with pytest.raises(ConfigurationRefused, match="no request of small-raw|no request of small.raw"):
        list(Passing(root / "archive", own, Period(until_ms=1)).events())


def test_what_a_fingerprint_is_made_of_is_not_held_in_memory(root: Path, tmp_path: Path):
    def peak(events: Iterator[object]) -> int:
        tracemalloc.start()
        fields = prints_of(own.features, events)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert fields[0].there == 1_000
        return most

    own, pad = load(root / "p.toml"), "x" * 10_000
    values = [event(number)[:-1] + f',"pad":"{pad}{number}"}}'.encode() for number in range(1_000)]
    play(own, values).write(tmp_path / "archive", "small", rows=50)
    (tmp_path / "train.jsonl").write_bytes(b"\n".join(values))
    size = sum(map(len, values))
    assert size > 10_000_000
    assert peak(read_events(tmp_path / "train.jsonl", own)) < size / 5
    assert peak(Passing(tmp_path / "archive", own, Period()).events()) < size / 5


def test_a_fingerprint_of_more_numbers_and_words_than_are_kept_says_nearly_the_same():
    values = np.random.default_rng(1).normal(size=40_000).tolist()
    every, few = Numbers(), Numbers(most=5_000)
    for value in values:
        every.take(value)
        few.take(value)
    assert len(few.kept) <= 5_000
    one, other = np.array(every.levels(LEVELS)), np.array(few.levels(LEVELS))
    assert (one[0], one[-1]) == (other[0], other[-1]) == (min(values), max(values))
    assert largest_difference(one, other) < 0.02
    assert doctest.testmod(passing_values).failed == 0
    words = Words(most=100)
    for number in range(10_000):
        words.take("often" if number % 3 else f"w{number}")
    assert words.frequent(1) == ({"often": 6_666}, 3_334)


def test_a_dry_run_writes_nothing(root: Path):
    path = root / f"trees.txt{SUFFIX}"
    run(fingerprint, root, "trees", "--events", str(written(root, [event(1)])))
    before = path.read_bytes()
    run(fingerprint, root, "trees", "--events", str(written(root, [event(2)])), "--dry-run")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no fingerprint"),
        (b'{"format": 1', "no fingerprint"),
        (b'{"format": "one"}', "no fingerprint"),
        (b"\xff\xfe", "no fingerprint"),
        (None, "rendezvous fingerprint MODEL --events FILE"),
    ],
)
def test_a_fingerprint_that_cannot_be_read_is_named(root: Path, content: bytes | None, match: str):
    path = root / f"trees.txt{SUFFIX}"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationRefused, match=match):
        run(diff, root, "--training", "trees")
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "no event"),
        (b'{"x": 1}\n[1]\n', ":2: no JSON object"),
        (b'{"x": 1}\n{"x": \n', ":2: "),
        (b'{"x": "\xff"}\n', ":1: "),
        (b"[" * 100_000, ":1: "),
    ],
)
def test_events_that_are_none_are_named_by_line(root: Path, text: bytes, match: str):
    (root / "bad.jsonl").write_bytes(text)
    with pytest.raises(ConfigurationRefused, match=match):
        run(fingerprint, root, "trees", "--events", str(root / "bad.jsonl"))


def test_a_model_without_a_file_has_no_fingerprint(root: Path):
    with pytest.raises(ConfigurationRefused, match="no file"):
        run(fingerprint, root, "first", "--events", str(written(root, [event(1)])))
    with pytest.raises(click.UsageError, match="it has first, second"):
        run(fingerprint, root, "nobody")


def test_too_few_requests_are_not_compared(root: Path):
    run(fingerprint, root, "trees", "--events", str(written(root, [event(number) for number in range(2000)])))
    with pytest.raises(ConfigurationRefused, match="at least 100 are compared"):
        run(diff, root, "--training", "trees", "--rows", "20")


def test_an_empty_range_says_what_the_archive_holds(root: Path):
    with pytest.raises(ConfigurationRefused, match="it holds"):
        run(diff, root, "trees", "trees", "--since", "2030-01-01")


def test_quantiles_stand_for_the_numbers_they_are_of(root: Path):
    features = load(root / "p.toml").features
    rng = np.random.default_rng(1)
    then, now = rng.normal(size=5000), rng.normal(size=4000) + 0.3
    bare = Fingerprint(
        pipeline="small", model="trees", version="1", sha256="", made_at_ms=0, source="", rows=5000,
        software=Software(python="", libraries={}), features=list(features),
        fields=prints_of(features, [{"x": x} for x in then.tolist()]),
    )  # fmt: skip
    shifts = {one.name: one for one in shifts_since(bare, [{"x": x} for x in now.tolist()])}
    assert abs(shifts["x"].effect - largest_difference(then, now)) < 2 / LEVELS
    assert differs(shifts["x"])
    assert shifts["colour"].effect == 0
    strange = [{"x": "3"}, {"x": None}, {}, [], {"x": True, "colour": 3, "box": 7}] * 40
    assert {one.name: one.absent_now for one in shifts_since(bare, strange)} == {"x": 1.0, "colour": 0.8, "late": 1.0}


def test_a_derivation_that_raises_is_no_traceback(root: Path):
    text = (TEXT + TREES).replace(
        "[[models]]", '[[features]]\nname = "made"\ntype = "number"\nderive = "json:loads"\n\n[[models]]', 1
    )
    (root / "derived.toml").write_text(text)
    where = ["-P", str(root / "derived.toml"), "--archive", str(root / "archive")]
    found = CliRunner().invoke(diff, ["trees", "trees", *where], standalone_mode=False)
    assert isinstance(found.exception, ConfigurationRefused)
    assert "a derived feature raised TypeError" in str(found.exception)
