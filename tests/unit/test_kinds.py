"""Models in Python: what each takes, and what a child process says of those that cannot be loaded."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.pipeline import Kind, Model, Role
from streams.core.given import Given
from streams.models import callables
from streams.models.artifact import ModelRefused
from streams.models.attempt import Attempt
from streams.models.checked import score_rows
from streams.models.loading import load, refused_models
from streams.models.trial_forks import several
from streams.models.trying import try_in_child
from tests.unit.small import pipeline

HERE = "tests.unit.python_models"
MODEL = Model(name="m", version="1", kind=Kind.PYTHON, role=Role.CHAMPION, callable=f"{HERE}:Scaled")
FEATURES = ("a", "b")
ROWS = Given(np.array([[1.0, 2.0], [3.0, 4.0]]), (b'{"payment": {"amount": 8}}', b'{"payment": {"amount": 6}}'))


def model(name: str, **changes: object) -> Model:
    return replace(MODEL, callable=f"{HERE}:{name}", **changes)


def refusal(folder: Path, model: Model) -> str:
    with pytest.raises(ModelRefused) as caught:
        load(folder, model, FEATURES)
    assert "m" in str(caught.value)
    return str(caught.value)


def with_file(folder: Path, content: str) -> Model:
    (folder / "m.weights").write_text(content)
    return replace(MODEL, artifact="m.weights", sha256=hashlib.sha256(content.encode()).hexdigest())


def test_a_class_is_loaded_without_a_file_or_with_a_checked_one(tmp_path: Path):
    assert load(tmp_path, MODEL, FEATURES)(ROWS).tolist() == [1.0, 3.0]
    given = with_file(tmp_path, "2.5")
    assert load(tmp_path, given, FEATURES)(ROWS).tolist() == [2.5, 7.5]
    (tmp_path / "m.weights").write_text("3.5")
    assert "has sha256" in refusal(tmp_path, given)


def test_what_a_class_reads_is_a_copy_of_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = with_file(tmp_path, "2.5")
    checked = callables.open_artifact

    def changed_after_the_check(folder: Path, model: Model) -> bytes:
        content = checked(folder, model)
        (tmp_path / "m.weights").write_text("666")
        return content

    monkeypatch.setattr(callables, "open_artifact", changed_after_the_check)
    assert load(tmp_path, given, FEATURES)(ROWS).tolist() == [2.5, 7.5]


def test_a_model_is_given_what_it_takes():
    assert load(Path(), model("by_name", takes="frame"), FEATURES)(ROWS).tolist() == [21.0, 43.0]
    assert load(Path(), model("by_event", takes="events"), FEATURES)(ROWS) == [4.0, 3.0]
    assert load(Path(), model("plain"), FEATURES)(ROWS).tolist() == [0.0, 0.0]


def test_an_event_without_what_the_model_looks_for_costs_its_row_only():
    score = load(Path(), model("by_event", takes="events"), FEATURES)
    given = Given(ROWS.matrix, (ROWS.events[0], b'{"payment": {}}'))
    scores, reasons = score_rows(score, given)
    assert (scores[0], reasons) == (4.0, {1: "raised KeyError('amount')"})


def test_pandas_is_imported_by_a_scorer_that_asks_for_it_alone():
    program = f"""if True:
        import sys
        from pathlib import Path
        from schemas.pipeline import Model
        from streams.models.loading import load
        one = Model(name="m", version="1", kind="python", role="champion", callable="{HERE}:by_name")
        load(Path(), one, ("a", "b"))
        for library in ("pandas", "onnxruntime", "aiohttp", "lightgbm"):
            assert library not in sys.modules, library
        sys.modules["pandas"] = None
        from msgspec.structs import replace
        from streams.models.artifact import ModelRefused
        try:
            load(Path(), replace(one, takes="frame"), ("a", "b"))
        except ModelRefused as error:
            assert "rendezvous-kafka[frame]" in str(error)
        else:
            raise AssertionError
        """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_class_that_is_none_and_a_function_with_a_file_are_refused(tmp_path: Path):
    assert "has no predict; write load(self, path) and predict(self, x)" in refusal(tmp_path, model("NoPredict"))
    assert "cannot be loaded: KeyError('weights')" in refusal(tmp_path, model("Broken"))
    given = replace(with_file(tmp_path, "1"), callable=f"{HERE}:plain")
    assert "is a function, and artifact is for a class" in refusal(tmp_path, given)
    (tmp_path / "half.py").write_text("def score(:\n")
    sys.path.insert(0, str(tmp_path))
    try:
        assert "its module raised SyntaxError" in refusal(tmp_path, replace(MODEL, callable="half:score"))
    finally:
        sys.path.remove(str(tmp_path))


@pytest.fixture(params=["interpreter", "fork"])
def where(request: pytest.FixtureRequest) -> Iterator[None]:
    """A trial is an interpreter of its own, and a fork where several follow: one is as good as the other."""
    with several() if request.param == "fork" else nullcontext():
        yield


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Broken", "cannot be loaded: KeyError('weights'); mend it"),
        ("Dying", "Dying aborts the loader (signal 11)"),
        ("Busy", "Busy takes more than 60 s of processor time to load; load less, or beforehand"),
        ("Leaving", "Leaving ends the process that loads it, with 3"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_a_model_that_fails_while_it_is_loaded_fails_in_a_child(name: str, says: str):
    with pytest.raises(ModelRefused) as caught:
        try_in_child(Attempt(".", model(name), FEATURES))
    assert says in str(caught.value)


@pytest.mark.usefixtures("where")
def test_a_model_that_takes_too_long_to_load_is_refused():
    with pytest.raises(ModelRefused, match=r"model m: .*:Slow does not load in 3 s"):
        try_in_child(Attempt(".", model("Slow"), FEATURES, within_s=3))


@pytest.mark.usefixtures("where")
def test_a_gigabyte_that_is_printed_while_loading_is_dropped_and_the_reason_is_heard():
    with pytest.raises(ModelRefused) as caught:
        try_in_child(Attempt(".", model("Talkative"), FEATURES))
    assert str(caught.value) == f"model m: {HERE}:Talkative cannot be loaded: KeyError('weights'); mend it"


def test_every_model_is_tried_and_those_of_other_programs_are_not():
    base = pipeline()
    models = [
        replace(model("Dying"), name="dying"),
        replace(model("plain"), name="fine", role=Role.SHADOW),
        Model(name="java", version="1", kind=Kind.EXTERNAL, role=Role.SHADOW, wire="json"),
        replace(model("Dying"), name="decoy", role=Role.DECOY),
    ]
    assert list(refused_models(Path(), replace(base, models=tuple(models)))) == ["dying"]
    with pytest.raises(ModelRefused, match="another program scores it"):
        load(Path(), models[2], FEATURES)
