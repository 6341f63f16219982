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

KIND = ('kind = "constant"\nvalue = 0.9',)
PYTHON = 'kind = "python"\ncallable = "a:b"\n'
HTTP = 'kind = "http"\nurl = "{}"\n'
WEIGHTED = '[policy]\nkind = "weighted"\n[[policy.cohorts]]\nmodel = "{}"\nweight = {}\n[default]'
COMBINE = '[policy]\nkind = "combine"\n{}\n[default]'
NAMED = """[policy]
kind = "combine"
[[models]]
name = "combine"
version = "1"
kind = "constant"
value = 1
role = "challenger"
[default]"""
GUARD = '[[policy.guards]]\nmodel = "{}"\n{}\n[default]'
MONITOR = "[monitor]\n{}\n[default]"
RULE = """[policy]
kind = "rules"
[[policy.rules]]
name = "r"
when = [{{field = "x", op = "{}", value = {}}}]
steps = [{{until = 1.0, accept = ["first"]}}]
[default]"""


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
        (
            "[default]",
            MONITOR.format("reference_rows = 100"),
            "monitor.reference_rows: out of bounds; write 2000 to 200000",
        ),
        ("[default]", MONITOR.format('fields = ["a b.", "x", "y", "y"]'), "monitor.fields: 'a b.' is no path"),
        ("[default]", MONITOR.format('fields = ["x"]'), "monitor.fields: 'x' is a feature and is watched already"),
        (
            "[default]",
            MONITOR.format('segments = ["a b"]'),
            "monitor.segments: 'a b' is no path; write the name of a",
        ),
        ("[default]", MONITOR.format('segments = ["x", "x"]'), "monitor.segments: 'x' stands 2 times"),
        ("[default]", MONITOR.format('segments = ["a", "b", "c", "d", "e"]'), "monitor.segments: 5 of them; write 4"),
        ("[default]", MONITOR.format('source = "a b"'), "monitor.source: 'a b' is no path; write the name of a"),
        ("[default]", MONITOR.format("probes = 5"), "monitor.probes: out of bounds; write 16 to 256, or 0 for none"),
        ("[default]", MONITOR.format("probe_s = 0.1"), "monitor.probe_s: too often"),
        ("[default]", MONITOR.format("quiet_windows = 0"), "monitor.quiet_windows: must be positive"),
        ("[default]", MONITOR.format("remind_s = 0"), "monitor.remind_s: must be positive"),
        ("[default]", MONITOR.format('webhook = "ftp://there"'), "monitor.webhook: is no address of a web server"),
        ("[default]", MONITOR.format("window = 500"), "monitor.window: unknown key"),
        ('name = "small"', 'name = "Small"', "name: 'Small' cannot begin a topic's name; use a-z"),
        ('name = "small"', 'name = "../small"', "name: '../small' cannot begin a topic's name; use a-z"),
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
        ('name = "second"', 'name = ".."', "models[1] (..).name: '..' cannot end a topic's name; use a-z"),
        ('name = "second"', 'name = "a/b"', "models[1] (a/b).name: 'a/b' cannot end a topic's name; use a-z"),
        ('name = "second"', 'name = "sec.ond"', "models[1] (sec.ond).name: 'sec.ond' cannot end a topic's name"),
        ('role = "champion"', 'role = "shadow"', "models: one champion is needed, found none"),
        ('role = "challenger"', 'role = "champion"', "one champion is needed, found first, second"),
        ('role = "champion"', 'role = "boss"', 'write "champion" or "challenger" or'),
        (
            'kind = "constant"',
            'kind = "constant"\nmemory_mb = 64',
            "models[0] (first).memory_mb: 64 MB is less than an",
        ),
        (
            'kind = "constant"',
            'kind = "constant"\nnice = 20',
            "models[0] (first).nice: 20 is impossible; write 0 to 19",
        ),
        ('kind = "constant"', 'kind = "constant"\nthreads = 0', "models[0] (first).threads: 0 is impossible"),
        ('kind = "constant"', 'kind = "constant"\ninstances = 0', "models[0] (first).instances: 0 is impossible"),
        (
            'kind = "constant"',
            'kind = "constant"\ninstances = 3',
            "3 processes cannot share 1 partition; write partitions = 3, or instances = 1",
        ),
        ("[default]", "[quarantine]\nfailures = 0\n[default]", "quarantine.failures: must be positive"),
        ('["late", "x"]', '["late", "y"]', "models[1] (second).features: 'y' is not declared"),
        ("value = 0.9", "", "models[0] (first).value: missing for kind constant"),
        ("value = 0.9", "value = inf", "models[0] (first).value: not finite"),
        ("value = 0.9", 'value = 0.9\nartifact = "a.txt"', "models[0] (first).artifact: has no meaning for kind"),
        ("value = 0.9", 'value = 0.9\ntakes = "frame"', "models[0] (first).takes: has no meaning for kind constant"),
        ("value = 0.9", "value = 0.9\ntimeout_ms = 5", "models[0] (first).timeout_ms: has no meaning for kind"),
        (*KIND, 'kind = "python"', "models[0] (first).callable: missing for kind python"),
        (*KIND, PYTHON + 'artifact = "a"', "models[0] (first).sha256: missing: a class's file has both"),
        (*KIND, PYTHON + 'takes = "matrix"\nurl = "a"', "models[0] (first).url: has no meaning for kind python"),
        (*KIND, PYTHON + 'takes = "json"', 'write "matrix" or "frame" or "events"'),
        (*KIND, PYTHON + 'takes = "events"\nprepare = "a:b"', "prepare: is over the matrix, which this model is not"),
        (*KIND, 'kind = "onnx"\nartifact = "a.onnx"', "models[0] (first).sha256: missing for kind onnx"),
        (*KIND, 'kind = "http"', "models[0] (first).url: missing for kind http; write url"),
        (*KIND, HTTP.format("host:8000/v2/models/a/infer"), "url: no address of an inference endpoint"),
        (*KIND, HTTP.format("http://me:key@host/v2/models/a/infer"), "without a user or a query; write"),
        (*KIND, HTTP.format("http://host/v2/models/a"), 'write "http://host:8000/v2/models/<name>/infer"'),
        (*KIND, HTTP.format("http://host/v2/models/a/infer") + "timeout_ms = 0", "timeout_ms: 0 is out of bounds"),
        (*KIND, HTTP.format("http://host/v2/models/a/infer") + "column = -1", "column: -1 is no column"),
        (*KIND, 'kind = "external"\ntakes = "frame"', "takes: a frame is for Python"),
        (*KIND, 'kind = "external"\nprepare = "a:b"', "prepare: is over the matrix"),
        ("[default]", STEPS.format(0.5, "champion") + "[default]", "policy.steps: the last step must reach"),
        ("[default]", STEPS.format(1.0, "mirror") + "[default]", "'mirror' never answers"),
        ("[default]", STEPS.format(1.0, "who") + "[default]", "'who' is no model and no role"),
        ("[default]", '[policy]\nkind = "worst"\n[default]', 'write "schedule" or "first" or "best" or'),
        ("[default]", '[policy]\nby = "x"\n[default]', "policy.by: has no meaning for kind schedule; remove it, or"),
        ("[default]", '[policy]\nkind = "best"\norder = ["mirror"]\n[default]', "policy.order: 'mirror' never"),
        ("[default]", '[policy]\nkind = "best"\norder = []\n[default]', "policy.order: accepts nobody"),
        (
            "[default]",
            '[policy]\nkind = "first"\n' + STEPS.format(1.0, "first") + "[default]",
            "policy.steps: has no",
        ),
        ("[default]", '[policy]\nkind = "weighted"\n[default]', "policy.cohorts: there is none; write [[policy"),
        ("[default]", WEIGHTED.format("who", 1), "policy.cohorts[0].model: 'who' is no model"),
        ("[default]", WEIGHTED.format("mirror", 1), "policy.cohorts[0].model: 'mirror' never answers"),
        ("[default]", WEIGHTED.format("first", 0), "policy.cohorts[0].weight: 0.0 is out of bounds"),
        ("[default]", '[policy]\nkind = "weighted"\nby = "a..b"\n[default]', "policy.by: 'a..b' is no path"),
        ("[default]", COMBINE.format("least = 3"), "policy.least: 3 of 2 members is impossible; write 1 to 2"),
        ("[default]", COMBINE.format("until = 0"), "policy.until: is a share of the budget"),
        ("[default]", COMBINE.format('how = "max"'), 'write "mean" or "median" or "vote"'),
        ("[default]", NAMED, "models: 'combine' is what a combined answer is called"),
        ("[default]", GUARD.format("first", ""), "policy.guards[0]: guards nothing; write min, max or both"),
        ("[default]", GUARD.format("first", "min = 2\nmax = 1"), "no score lies between 2.0 and 1.0"),
        ("[default]", GUARD.format("nobody", "max = 1"), "policy.guards[0].model: 'nobody' is no model"),
        ("[default]", '[policy]\nkind = "rules"\n[default]', "policy.rules: there is none; write [[policy.rules]]"),
        ("[default]", RULE.format("in", "1"), "policy.rules[0] (r).when[0].value: in compares with a list"),
        ("[default]", RULE.format("<", "true"), "when[0].op: true and false have no order for <; write == or !="),
        ("[default]", RULE.format("~", "1"), "policy.rules[0].when[0].op: Invalid enum value"),
        ("[default]", RULE.format("==", "nan"), "policy.rules[0] (r).when[0].value: not finite"),
        ("[default]", RULE.format("==", "1").replace("1.0", "0.5"), "policy.rules[0] (r).steps: the last step must"),
        ("[default]", "[overload]\nshadows = 2\n[default]", "overload.shadows: is a share of the budget"),
        ("[default]", "[archive]\nmax_rows = 0\n[default]", "archive.max_rows: must be positive"),
        ("[default]", '[kafka.producer]\nacks = "1"\n[default]', "kafka.producer.acks: is not yours to set"),
        (
            "[default]",
            '[kafka.consumer]\n"sasl.password" = "planted"\n[default]',
            "kafka.consumer.sasl.password: here it would reach some clients and not others; set KAFKA_",
        ),
        ("[default]", '[output]\nreply_to_prefix = "a b"\n[default]', "'a b' begins no topic"),
        (
            "[default]",
            '[output]\nreply_to_prefix = "small."\n[default]',
            "'small.' begins small.raw too: whoever sends an event could write there; write a longer one",
        ),
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
