"""The documentation says what the code says."""

import re
from pathlib import Path

from schemas.pipeline import (
    BreakerSettings,
    Enrich,
    Kind,
    MonitorSettings,
    Overload,
    PolicyKind,
    Promotion,
    Quarantine,
    Role,
)
from schemas.roster import State
from schemas.topics import CATALOGUE, topics_of
from streams.pipeline_file import load
from tests.unit.small import TEXT

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_topic_table_is_the_catalogue():
    rows = re.findall(r"^\| `([\w.<>-]+)` \| (.+?) \| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    assert rows == [(entry.what, entry.value, entry.written_by, entry.read_by) for entry in CATALOGUE]


def test_the_table_of_policies_says_what_the_schema_says():
    source = (ROOT / "schemas" / "pipeline.py").read_text()
    said = re.findall(
        r'^    [A-Z]+ = "(\w+)"  # (.+)$', source.split("class PolicyKind")[1].split("class ")[0], re.MULTILINE
    )
    table = README.split("### Policies")[1].split("```")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    assert [kind for kind, _ in rows] == [kind.value for kind in PolicyKind]
    assert [(kind, text.removesuffix(" (`steps`); the default")) for kind, text in rows] == said


def test_the_table_of_roles_has_them_all_and_says_who_may_answer():
    table = README.split("### Roles")[1].split("### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| .+ \|$", table, re.MULTILINE)
    assert rows == [(role.value, "yes" if role.answers else "no") for role in Role] + [(State.RETIRED.value, "no")]
    assert f"`overload.everybody` ({Overload().everybody:g})" in table


def test_the_table_of_kinds_says_what_the_schema_says():
    source = (ROOT / "schemas" / "pipeline.py").read_text().split("class Kind")[1].split("\nclass ")[0]
    said = re.findall(r'^    [A-Z]+ = "(\w+)"  # (.+)$', source, re.MULTILINE)
    table = README.split("### Kinds of model")[1].split("```")[0]
    assert re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE) == said
    assert [kind for kind, _ in said] == [kind.value for kind in Kind]


def test_the_table_of_verdicts_says_what_the_code_says():
    source = (ROOT / "schemas" / "verdicts.py").read_text()
    said = re.findall(
        r'^    [A-Z_]+ = "([\w-]+)"  # (.+)$', source.split("class Word")[1].split("\nclass ")[0], re.MULTILINE
    )
    table = README.split("## What changed, and whose fault it is")[1].split("###")[0]
    assert re.findall(r"^\| `([\w-]+)` \| (.+) \|$", table, re.MULTILINE) == said
    assert len(said) == 8


def test_the_models_of_the_readme_are_one_of_each_kind(tmp_path: Path):
    models = README.split("### Kinds of model")[1].split("```toml")[1].split("```")[0]
    head, rest = TEXT.split("[request]")[0], "[request]" + TEXT.split("[request]")[1].split("[[models]]")[0]
    (tmp_path / "p.toml").write_text(head + models + rest)
    assert [model.kind for model in load(tmp_path / "p.toml").models] == list(Kind)


def test_the_policy_of_the_readme_is_one(tmp_path: Path):
    text = README.split("### Policies")[1].split("```toml")[1].split("```")[0]
    (tmp_path / "p.toml").write_text(TEXT + text)
    assert load(tmp_path / "p.toml").policy.kind is PolicyKind.WEIGHTED


def test_the_model_of_the_readme_that_needs_another_is_one(tmp_path: Path):
    text = README.split("### Models that need others")[1].split("```toml")[1].split("```")[0].replace("amount", "x")
    (tmp_path / "p.toml").write_text(TEXT.replace('name = "second"', 'name = "other"') + text)
    pipeline = load(tmp_path / "p.toml")
    assert pipeline.own_features_of(pipeline.model("second")) == ("x",)


def test_the_limits_of_the_readme_are_a_models_own(tmp_path: Path):
    text = README.split("### Models that misbehave")[1].split("```toml")[1].split("```")[0]
    (tmp_path / "p.toml").write_text(TEXT.replace('name = "second"', 'name = "other"') + text)
    pipeline = load(tmp_path / "p.toml")
    assert pipeline.model("second").memory_mb == 512
    assert pipeline.quarantine == Quarantine()


def test_the_table_of_the_readme_is_one_and_its_defaults_are_said(tmp_path: Path):
    section = README.split("### State from outside")[1]
    (tmp_path / "p.toml").write_text(TEXT + section.split("```toml")[1].split("```")[0])
    found = load(tmp_path / "p.toml")
    assert [topic.name for topic in topics_of(found)][-2:] == ["small.weather", "small.enriched"]
    plain = Enrich(name="a", key="b")
    assert f"`max_records` ({plain.max_records:,})" in section
    assert f"({plain.keep_hours:g})" in section
    assert (plain.after_ms, "half a second after its own** (`after_ms`)" in section) == (500, True)


def test_the_monitor_of_the_readme_is_one_and_its_defaults_are_said(tmp_path: Path):
    text = README.split("### While a pipeline runs")[1].split("```toml")[1].split("```")[0]
    (tmp_path / "p.toml").write_text(TEXT + text)
    assert load(tmp_path / "p.toml").monitor is not None
    said = dict(re.findall(r"^(\w+) = .*\((\d[\d.]*)\)$", text, re.MULTILINE))
    assert {name: float(value) for name, value in said.items()} == {
        name: getattr(MonitorSettings(), name) for name in said
    }
    assert len(said) >= 4


def test_the_first_lines_of_the_roles_are_the_road():
    first = {path.stem: path.read_text().splitlines()[0].strip('"') for path in (ROOT / "agents").glob("*.py")}
    assert first["router"] == "raw -> model.<name>"
    assert first["coupler"] == "needs.<name> + scores -> model.<name>"
    assert first["scorer"] == "model.<name> -> scores"
    assert first["rendezvous"] == "raw + scores -> decisions"
    kept = "raw + scores + decisions + dead-letters + labels + tallies + roster-history + verdicts + minutes"
    assert first["archiver"] == f"{kept} -> Parquet + quality"
    assert first["learner"] == "labels + decisions -> tallies"
    assert first["monitor"] == "raw + scores + decisions + enriched + roster + quality -> verdicts + minutes"
    known = {entry.what for entry in CATALOGUE}
    named = {
        word
        for role in ("router", "coupler", "scorer", "rendezvous", "learner", "monitor")
        for word in re.split(r" -> | \+ ", first[role])
    }
    assert named <= known


def test_make_help_lists_every_verb():
    text = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)[0].split())
    helped = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    assert phony == helped


def test_every_make_verb_and_file_named_in_the_readme_exists():
    text = (ROOT / "Makefile").read_text()
    for verb in set(re.findall(r"`?make ([a-z-]+)\b", README)) - {"is"}:
        assert f"\n{verb}:" in text, verb
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / name).exists(), name


def test_the_gates_of_the_readme_are_gates_and_their_defaults_are_said(tmp_path: Path):
    text = README.split("### Models come and go")[1].split("```toml")[1].split("```")[0]
    (tmp_path / "p.toml").write_text(TEXT + text)
    found = load(tmp_path / "p.toml")
    assert (found.promotion.shadow_s, found.promotion.max) == (3600, 1)
    gates, breaker = text.split("[breaker]")
    for part, plain, count in ((gates, Promotion(), 5), (breaker, BreakerSettings(), 6)):
        said = dict(re.findall(r"^(\w+) = .*\((\d[\d.]*)[):]", part, re.MULTILINE))
        assert {name: float(value) for name, value in said.items()} == {name: getattr(plain, name) for name in said}
        assert len(said) == count


def test_the_bars_beside_the_figures_of_verdicts_are_those_of_the_bench():
    from tests.bench.verdicts.__main__ import BARS
    from tests.bench.verdicts.public import MADE

    part = README.split("### How well")[1].split("\n### ")[0]
    rows = {row[0]: row[-1] for row in re.findall(r"^\| (.+?) \|.*\| (.+?) \|$", part, re.MULTILINE)}
    bar = {name: f"{share:.0%}".replace("%", " %") for name, (_, share) in BARS.items() if share <= 1}
    assert rows["right cause, core scenarios"] == f"{bar['with_probes.core']}, {bar['without.core']}"
    assert rows["right cause, hard scenarios"] == bar["with_probes.hard"] == bar["without.hard"]
    assert rows["worst delay, windows of 1,000: core; all"] == f"at most {BARS['worst_delay'][1]:g}"
    assert rows["median delay"] == f"at most {BARS['median_delay'][1]:g}"
    for kind in ("independent", "daily", "clustered"):
        assert rows[f"false alarms per 1,000 quiet windows, {kind}"] == f"at most {BARS[kind][1]:g}"
    assert (
        rows["CPU per event, four models and 13 fields: judging alone, without probes and reference"]
        == f"at most {BARS['us_per_event'][1]:g} µs"
    )
    assert set(MADE) <= rows.keys()
