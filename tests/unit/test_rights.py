"""Each role's principal may do what the catalogue says, and the README says the same."""

from pathlib import Path

from msgspec.structs import replace

from schemas.pipeline import LabelSettings, MonitorSettings, Policy, PolicyKind
from schemas.rights import rights_of, together
from schemas.topics import MODEL, Topics
from tests.unit.small import pipeline

ROLES = ("router", "scorer", "rendezvous", "standby", "archiver", "monitor")
WATCHED = replace(pipeline(), monitor=MonitorSettings())
SECOND = replace(WATCHED.model("second"), features=(), needs=("first",))
COUPLED = replace(WATCHED, models=(WATCHED.model("first"), SECOND))
README = (Path(__file__).parents[2] / "README.md").read_text()


def names(topics: object) -> str:
    return ", ".join(dict.fromkeys(f"`{topic.entry.what}`" for topic in topics))  # type: ignore[attr-defined]


def test_the_readme_shows_the_rights_of_each_role():
    for role in (*ROLES, "coupler"):
        model = {"scorer": "first", "coupler": "second"}.get(role, "")
        rights = rights_of(COUPLED if model == "second" else WATCHED, role, model)
        group = f"`<pipeline>.{role}{'.<name>' if model else ''}{'.<version>' if role == 'scorer' else ''}`"
        assert f"| {role} | {group} | {names(rights.reads)} | {names(rights.writes)} |" in README
    bandit = pipeline(policy=Policy(kind=PolicyKind.BANDIT))
    rights = rights_of(bandit, "learner")
    row = f"| learner | `<pipeline>.learner` | {names(rights.reads)} | {names(rights.writes)} |"
    assert row in README
    for role in ("rendezvous", "standby", "archiver"):
        more = {topic.entry.what for topic in rights_of(bandit, role).reads}
        assert more - {topic.entry.what for topic in rights_of(pipeline(), role).reads} == {"tallies"}


def test_an_archiver_writes_the_figures_of_mature_days_and_nothing_else():
    own = pipeline(labels=LabelSettings(expected=0.8))
    rights = rights_of(own, "archiver")
    (quality,) = rights.writes
    assert (quality.name, quality.partitions) == (Topics("small").quality, 1)
    assert (quality.config["cleanup.policy"], quality.config["retention.ms"]) == ("compact", "-1")
    assert quality not in rights.reads
    assert not rights_of(pipeline(), "archiver").writes, "without [labels] there is no such topic"


def test_a_scorer_reads_the_rows_of_its_own_model_only():
    reads = rights_of(pipeline(), "scorer", "second").reads
    assert [topic.name for topic in reads] == [
        Topics("small").model("second"),
        "small.roster",
        "small.roster-history",
    ]


def test_one_principal_for_all_roles_needs_each_right_once():
    own = pipeline()
    roles = [("router", ""), ("rendezvous", ""), *(("scorer", model.name) for model in own.models)]
    rights = together(rights_of(own, *role) for role in roles)
    read = [topic.name for topic in rights.reads]
    assert len(read) == len(set(read))
    assert {topic.name for topic in rights.reads if topic.entry is MODEL} == {
        Topics("small").model(model.name) for model in own.models
    }
    assert {topic.entry.what for topic in rights.topics} == {
        "raw",
        "model.<name>",
        "scores",
        "decisions",
        "dead-letters",
        "roster",
        "roster-history",
    }


def test_without_a_monitor_nobody_needs_its_topics():
    roles = [(role, "first" if role == "scorer" else "") for role in ROLES]
    found = {topic.entry.what for topic in together(rights_of(pipeline(), *role) for role in roles).topics}
    assert not found & {"verdicts", "minutes", "probes"}


def test_a_monitor_moves_no_model_and_forges_no_score_or_decision():
    written = {topic.entry.what for topic in rights_of(WATCHED, "monitor").writes}
    assert written == {"raw", "verdicts", "minutes", "probes"}
