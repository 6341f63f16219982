"""Every mistake in a pipeline file is reported, all at once, with what to write instead."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.flights.prepare import PIPELINE
from schemas.errors import ConfigurationRefused
from streams.pipeline_file import load
from tests.unit.small import TEXT

STEPS = '[[policy.steps]]\nuntil = {}\naccept = ["{}"]\n'


def refusal(tmp_path: Path, text: str) -> str:
    file = tmp_path / "pipeline.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationRefused) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    return str(caught.value)


def test_the_demos_file_and_the_tests_own_are_accepted(tmp_path: Path):
    assert load(PIPELINE).name == "flights"
    (tmp_path / "p.toml").write_text(TEXT)
    assert [model.name for model in load(tmp_path / "p.toml").models] == ["first", "second", "mirror", "yardstick"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "small"', 'name = "Small"', "name: 'Small' cannot begin a topic's name; use a-z"),
        ('name = "small"', "", "name: missing; write name = "),
        ('name = "small"', 'name = "small"\npartitons = 3', "partitons: unknown key; write partitions"),
        ('name = "small"', 'name = "small"\npartitions = "3"', "partitions: Expected 'int', got 'str'"),
        ('name = "small"', 'name = "small"\npartitions = 0', "partitions: 0 is impossible"),
        ('name = "small"', 'name = "small"\nrecord_cap_bytes = 10', "record_cap_bytes: 10 is out of bounds"),
        ('name = "small"', 'name = "small"\nstart = "now"', 'write "earliest" or "latest"'),
        ("budget_ms = 100", "budget_ms = 0", "request.budget_ms: 0 ms leaves no time"),
        ("budget_ms = 100", "budget_ms = 700000", "request.budget_ms: 700000"),
        ("budget_ms = 100", "budget_ms = 1\nmax_budget_ms = 600001", "request.max_budget_ms: out of bounds"),
        ('budget = "limits.ms"', 'budget = "limits..ms"', "request.budget: 'limits..ms' is no path"),
        ('name = "colour"', 'name = "x"', "features: 'x' stands 2 times"),
        ('path = "box.late"', 'path = "x.late"', "features (late): its path runs through the value of x"),
        ('vocabulary = ["red", "green"]', "", "features[1] (colour).vocabulary: missing for a category"),
        ('"red", "green"]', '"red", "red", "green"]', "'red' stands 2 times"),
        ('default = "green"', 'default = "blue"', "features[1] (colour).default: 'blue' is not in the vocabulary"),
        ("default = false", "default = 1", "features[2] (late).default: 1.0 is no boolean"),
        ('type = "number"', 'type = "numbr"', "features[0].type: Invalid enum value"),
        ('type = "number"', 'type = "number"\nderive = "no"', "features[0] (x).derive: 'no' is no callable"),
        ('name = "second"', 'name = "first"', "models: 'first' stands 2 times"),
        ('name = "second"', 'name = "sec.ond"', "models[1] (sec.ond).name: 'sec.ond' cannot end a topic's name"),
        ('role = "champion"', 'role = "shadow"', "models: one champion is needed, found none"),
        ('role = "challenger"', 'role = "champion"', "one champion is needed, found first, second"),
        ('role = "champion"', 'role = "boss"', 'write "champion" or "challenger" or'),
        ('["late", "x"]', '["late", "y"]', "models[1] (second).features: 'y' is not declared"),
        ("value = 0.9", "", "models[0] (first).value: missing for kind constant"),
        ("value = 0.9", "value = inf", "models[0] (first).value: not finite"),
        ("value = 0.9", 'value = 0.9\nartifact = "a.txt"', "models[0] (first).artifact: has no meaning for kind"),
        ("[default]", STEPS.format(0.5, "champion") + "[default]", "policy.steps: the last step must reach"),
        ("[default]", STEPS.format(1.0, "mirror") + "[default]", "'mirror' never answers"),
        ("[default]", STEPS.format(1.0, "who") + "[default]", "'who' is no model and no role"),
        ("[default]", "[overload]\nshadows = 2\n[default]", "overload.shadows: is a share of the budget"),
        ("[default]", "[archive]\nmax_rows = 0\n[default]", "archive.max_rows: must be positive"),
        ("[default]", '[kafka.producer]\nacks = "1"\n[default]', "kafka.producer.acks: is not yours to set"),
        (
            "[default]",
            '[kafka.consumer]\n"sasl.password" = "planted"\n[default]',
            "kafka.consumer.sasl.password: here it would reach some clients and not others; set KAFKA_",
        ),
        ("[default]", '[output]\nreply_to_prefix = "a b"\n[default]', "'a b' begins no topic"),
        ("[default]", "default = [", "no TOML: "),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, old: str, new: str, says: str):
    assert old in TEXT
    told = refusal(tmp_path, TEXT.replace(old, new, 1))
    assert says in told
    assert "planted" not in told


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationRefused, match="No such file or directory; name a pipeline file"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationRefused, match="no TOML"):
        load(tmp_path / "p.toml")


def test_all_mistakes_come_at_once_with_exit_code_5_in_about_a_second(tmp_path: Path):
    wrong = TEXT.replace("budget_ms = 100", "budget_ms = 0").replace('role = "challenger"', 'role = "champion"')
    wrong = wrong.replace('["late", "x"]', '["late", "y", "z"]')
    file = tmp_path / "pipeline.toml"
    file.write_text(wrong)
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "agents", "check", str(file)], capture_output=True, text=True, check=False
    )
    took_s = time.monotonic() - started_s
    assert done.returncode == 5
    for says in ("budget_ms: 0 ms", "found first, second", "'y' is not declared", "'z' is not declared"):
        assert says in done.stderr
    assert took_s < 10, "far under what importing every library would take on a slow machine"
