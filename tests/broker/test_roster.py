"""What operators may do to models while the pipeline runs, and what not, on a real Kafka with real processes.

A model's whole life under load is in `tests/faults/test_moves.py`.
"""

import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import lightgbm
import numpy as np
import pytest
from confluent_kafka import Producer

from schemas.blocks import Rows, ScoreBlock, decode_scores, encode_rows
from schemas.decisions import Decision
from schemas.roster import LEAD_MS, Moved, Standing, State, decode_standing, encode_roster
from schemas.topics import Topics
from streams.core.entitlement import History
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.reading import TopicReader
from streams.kafka.roster_log import RosterLog
from streams.models.artifact import MAX_BYTES, sum_of
from streams.pipeline_file import load as load_file
from tests.broker.commands import rendezvous
from tests.broker.models import POISON
from tests.broker.pipelines import FILE, Up, environment, good, outcome, send, until, up, write
from tests.faults.load import Load, assert_kept, decisions, findings, plain, suspended

RATE = 100
UNTOUCHED = ("rendezvous", "standby", "router", "archiver", "scorer.good", "scorer.plain", "scorer.watcher")


class Operator:
    """Somebody with the command line; `elsewhere`: on a host of their own, as far as one machine can play two."""

    def __init__(self, cluster: Cluster, file: Path, state: Path, *, elsewhere: bool = False) -> None:
        self.nice = 15 if elsewhere else 0
        self.cluster = cluster
        own = {"PYTHONPATH": str(Path(__file__).parents[2])}  # where the tests' callables are, wherever it is called
        self.environment = environment(cluster, state) | own
        self.file = file

    def ended(self, *words: str) -> "CompletedProcess[str]":
        command = ["models", *words, "-P", str(self.file)]
        return rendezvous(command, self.environment, folder=self.file.parent, nice=self.nice, within_s=120)

    def says(self, *words: str) -> list[dict[str, Any]]:
        done = self.ended(*words, "--json")
        assert done.returncode == 0, (words, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def states(self) -> dict[str, str]:
        return {found["model"]: found["state"] for found in self.says("ls")}

    def standing(self, model: str) -> Standing:
        """What somebody finds of it who reads `roster` alone."""
        with TopicReader(self.cluster, Topics(load_file(self.file).name).roster) as reader:
            return [decode_standing(m.value()) for m in reader.to_end() if m.key() == model.encode()][-1]

    def golden(self) -> dict[str, Any]:
        """Whether the past is answered again as it was, by the archive alone."""
        done = rendezvous(["backtest", "--golden", "--json", "-P", str(self.file)], self.environment, within_s=120)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def is_(self, model: str, state: State) -> bool:
        return RosterLog(self.cluster, load_file(self.file)).read().roster.state(model) is state


@pytest.fixture
def operator(cluster: Cluster, tmp_path: Path, name: str) -> Operator:
    return Operator(cluster, write(tmp_path, name), tmp_path / "state")


def raw_at_ms(pipeline: Up) -> dict[int, int]:
    with TopicReader(pipeline.cluster, pipeline.topics.raw) as reader:
        return {message.offset() or 0: message.timestamp()[1] for message in reader.to_end()}


def unentitled(history: History, answers: list[Decision], at_ms: dict[int, int]) -> dict[int, str]:
    """Decisions by a model that was not entitled at its time, and why."""
    return {d.ticket.offset: why for d in answers if (why := history.spans.unentitled(d, at_ms[d.ticket.offset]))}


HERE = "tests.broker.models"
IN_RANGE = "[promotion]\nmin = 0.0\nmax = 1.0\n"
ENOUGH = 100
"""Requests that are there before a model is tried on the last ones."""


def strange_files(folder: Path) -> None:
    """Models' files that are none, are not what their sum says, or are another pipeline's."""
    whole = trained("x", "colour", "size")
    (folder / "other.txt").write_text(trained("a", "b", "c"))
    (folder / "flipped.txt").write_text(whole.replace("x colour", "y colour"))
    (folder / "flipped.txt.sha256").write_text(sum_of(whole.encode()))
    (folder / "torn.txt").write_text(f"{whole[: len(whole) // 2]}\nend of trees\n")
    (folder / "cut.txt").write_text("tree\nversion=v4\n")
    (folder / "link.txt").symlink_to(folder / "other.txt")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.txt")
    with (folder / "large.txt").open("wb") as large:
        large.truncate(MAX_BYTES + 1)


def trained(*features: str) -> str:
    """A LightGBM file."""
    rows = np.random.default_rng(1).random((100, len(features)))
    data = lightgbm.Dataset(rows, rows[:, 0], feature_name=list(features))
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return str(lightgbm.train(settings, data, 3).model_to_string())


def called(function: str) -> tuple[str, ...]:
    return ("--callable", f"{HERE}:{function}", "--version", "1")


@pytest.mark.timeout(300)
def test_what_an_operator_may_not_do_and_files_that_are_no_models_are_refused_and_nothing_is_moved(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name, more=IN_RANGE)
    operator = Operator(cluster, file, tmp_path / "state", elsewhere=True)
    strange_files(tmp_path)
    refused = (
        (("add", "../up", "--value", "1", "--version", "1"), 5, "use a-z 0-9 and -"),
        (("add", "a/b", "--value", "1", "--version", "1"), 5, "use a-z 0-9 and -"),
        (("add", "x" * 64, "--value", "1", "--version", "1"), 5, "at most 63"),
        (("add", "good", "--value", "1", "--version", "1"), 3, "good 1 is champion: give this one a version"),
        (("add", "watcher", "--value", "1", "--version", "2"), 3, "watcher is canary: a version comes beside"),
        (("add", "cut", "cut.txt", "--version", "1"), 5, "ends in the middle"),
        (("add", "torn", "torn.txt", "--version", "1"), 5, "train or copy it again"),
        (("add", "cut", "link.txt", "--version", "1"), 5, "symbolic links"),
        (("add", "cut", "folder", "--version", "1"), 5, "no regular file"),
        (("add", "pipe", "pipe.txt", "--version", "1"), 5, "no regular file"),
        (("add", "large", "large.txt", "--version", "1"), 5, "no regular file of at most 512 MB"),
        (("add", "cut", "/etc/hostname", "--version", "1"), 5, "lies outside"),
        (("add", "cut", "../cut.txt", "--version", "1"), 5, "lies outside"),
        (("add", "cut", "cut.txt", "--sha256", "0" * 64, "--version", "1"), 5, "has sha256"),
        (("add", "flipped", "flipped.txt", "--version", "1"), 5, "has sha256"),
        (
            ("add", "other", "other.txt", "--version", "1"),
            5,
            (
                "takes ['a', 'b', 'c'], the pipeline gives ['x', 'colour', 'size']; train it on the same features, or "
                "list those of the pipeline's that it takes, in its order, with --features a,b,c\n"
            ),
        ),
        (("add", "wide", "--value", "1", "--version", "1", "--features", "y"), 5, "not declared"),
        (("add", "high", "--value", "7", "--version", "1"), 5, "scores 7 to 7, and [promotion] allows 0 to 1"),
        (("add", "loose", "--callable", "nowhere:none", "--version", "1"), 5, "No module named"),
        (("add", "few", *called("too_few")), 5, "returned (63,) for 64 rows"),
        (("add", "many", *called("too_many")), 5, "returned (65,) for 64 rows"),
        (("add", "words", *called("words")), 5, "returned '0."),
        (("add", "nan", *called("not_a_number")), 5, "returned nan"),
        (("add", "dead", *called("doomed")), 5, "aborts the loader (signal 11)"),
        (("add", "slow", *called("Endless"), "--within", "2"), 5, "Endless does not load and score in 2 s"),
        (("add", "loud", *called("Loud")), 5, "Loud cannot be loaded: KeyError('weights'); mend it"),
        (("promote", "watcher", "--force"), 3, "never champion"),
        (("promote", "good"), 3, "good is the champion"),
        (("promote", "plane"), 2, "Did you mean 'plain'?"),
        (("retire", "watcher"), 3, "--force"),
        (("retire", "good"), 3, "promote another"),
        (("rollback",), 3, "no promotion is there"),
    )
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        before = operator.states()
        with Load(cluster, pipeline.topics.raw, RATE / 2) as load:
            until(lambda: load.sent > ENOUGH, 30, "there are requests to try a model on")
            with ThreadPoolExecutor(2) as pool:
                ended = list(pool.map(lambda one: operator.ended(*one[0]), refused))
            since = load.sent
            load.wait(1)
        found = findings(pipeline, file, load)
        answers = decisions(pipeline, load)
        assert operator.states() == before
        others = [role for role in UNTOUCHED if role != "standby"]
        assert [pipeline.restarts(role) for role in others] == [0] * len(others)
        assert {role for role in pipeline.status["roles"] if role.startswith("scorer.")} <= set(others)
    for (words, code, says), done in zip(refused, ended, strict=True):
        assert (done.returncode, says in done.stderr) == (code, True), (words, done)
        assert len(done.stderr) < 1_000, "what the model prints is heard by nobody"
        assert not done.stdout, words
    assert_kept(found)
    assert sum(answer.model is not None for answer in answers) >= 0.8 * len(answers)
    assert "good" in {answer.model for answer in answers[since:]}, "it goes on answering"
    assert RosterLog(cluster, load_file(file)).read().entries == []
    assert not [topic for topic in topics_of_models(cluster, name) if topic.split(".")[-1] not in before]


def topics_of_models(cluster: Cluster, pipeline: str) -> list[str]:
    return [name for name in Admin(cluster).partitions() if name.startswith(Topics(pipeline).model(""))]


def named(model: str) -> Moved:
    """A whole record by which a model of this name would be staged."""
    entry = {"name": model, "version": "1", "kind": "constant", "value": 0.5, "role": "shadow"}
    return Moved(model=model, version="1", before=None, after=State.STAGED, who="stranger", at_ms=1, definition=entry)


@pytest.mark.timeout(300)
def test_of_two_operators_at_once_one_is_first_and_a_strangers_record_is_passed_over(
    cluster: Cluster, operator: Operator, tmp_path: Path, name: str
):
    with up(cluster, operator.file, name, tmp_path / "state") as pipeline:
        operator.says("promote", "plain", "--force", "--why", "so that the roster begins")
        operator.says("rollback")
        stranger = Producer(cluster.producer_settings())
        strange = [encode_roster(named(one)) for one in ("../up", "a/b", "x" * 64)]
        for value in (b"\xff", b'{"kind": "moved", "model": "good"}', None, *strange):
            stranger.produce(Topics(name).roster_history, value, partition=0)
            stranger.produce(Topics(name).roster, value, b"good's", partition=0)
        assert stranger.flush(10) == 0
        with ThreadPoolExecutor() as both:
            ended = list(both.map(lambda _: operator.ended("promote", "plain", "--force"), range(2)))
        history = RosterLog(cluster, load_file(operator.file)).read()
        assert history.roster.champion == "plain"
        assert sorted(one.returncode for one in ended) == [0, 3], [one.stderr for one in ended]
        assert len(history.refused) >= 6
        states = operator.states()
        assert (states["plain"], states.keys()) == (State.CHAMPION, {"good", "plain", "watcher"})
        assert {role for role in pipeline.status["roles"] if role.startswith("scorer.")} <= set(UNTOUCHED)
        with Load(cluster, pipeline.topics.raw, RATE) as load:
            load.wait(1)
        found = findings(pipeline, operator.file, load)
        assert_kept(found)
        assert "plain" in {decision.model for decision in decisions(pipeline, load)}


def fresh_scores(cluster: Cluster, name: str) -> int:
    """How many blocks of scores there are of the model `fresh`."""
    with TopicReader(cluster, Topics(name).scores) as reader:
        blocks = [decode_scores(message.value()) for message in reader.to_end()]
    return sum(isinstance(block, ScoreBlock) and block.model == "fresh" for block in blocks)


RAIN = '[[features]]\nname = "rain"\ntype = "number"\ndefault = 0.0\n'


@pytest.mark.timeout(300)
def test_who_is_refused_is_shown_a_challenger_steps_back_and_a_file_that_changes_the_past_starts_nothing(
    cluster: Cluster, tmp_path: Path, name: str
):
    file, state = write(tmp_path, name, more=RAIN), tmp_path / "state"
    operator = Operator(cluster, file, state)
    operator.environment["AT_HOME"] = "1"

    def shown(model: str) -> dict[str, Any]:
        return next(one for one in operator.says("ls") if one["model"] == model)

    def said(*words: str) -> tuple[int, bool]:
        done = rendezvous(words, environment(cluster, state))
        other = "these do not count" if words[0] == "backtest" else "good 1 is champion"
        return (
            done.returncode,
            f"by this pipeline file {other}" in done.stderr and "'rain' is not declared" in done.stderr,
        )

    def late_row() -> None:
        """One more row for `fresh` that cannot be in time, as behind a pause of the scorer."""
        block = Rows("fresh", np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros((1, 4)))
        send(cluster, Topics(name).model("fresh"), [encode_rows(block)])

    def scores_of_late_rows() -> int:
        late_row()
        return fresh_scores(cluster, name)

    def skipped_late_rows() -> float:
        late_row()
        return float(pipeline.status["roles"]["scorer.fresh"]["figures"].get("skipped", 0))

    with up(cluster, file, name, state) as pipeline:
        operator.says("add", "old", "--value", "0.3", "--version", "1", "--features", "x,rain")
        until(lambda: operator.is_("old", State.SHADOW), 30, "old scores")
        operator.says("promote", "old", "--force")
        operator.says("promote", "plain", "--force")
        operator.says("retire", "old")
        operator.says("retire", "watcher", "--force", "--delete-topic")
        assert outcome(pipeline, send(cluster, pipeline.topics.raw, [good(1)])).decisions, "there is a past"

        operator.says("add", "homeless", "--callable", "tests.broker.models:Homeless", "--version", "1")
        until(lambda: "AT_HOME" in shown("homeless").get("refused", ""), 30, "its scorer has refused it")
        assert shown("homeless")["state"] == State.WARMING
        until(lambda: "AT_HOME" in operator.standing("homeless").refused, 10, "whoever reads `roster` alone is told")

        operator.says("add", "fresh", "--value", "0.4", "--version", "1")
        until(lambda: operator.is_("fresh", State.SHADOW), 30, "fresh scores")
        until(lambda: scores_of_late_rows() > 0, 10, "a shadow scores late rows")
        operator.says("promote", "fresh", "--to", "challenger", "--force")
        assert operator.states()["fresh"] == State.CHALLENGER
        until(lambda: skipped_late_rows() > 0, 10, "who may answer skips them, in the process that was a shadow's")
        operator.says("rollback")
        scored = fresh_scores(cluster, name)
        until(lambda: scores_of_late_rows() > scored, 10, "and a shadow again scores them again")
        assert pipeline.restarts("scorer.fresh") == 0
        assert (operator.states()["fresh"], operator.states()["plain"]) == (State.SHADOW, State.CHAMPION)
        assert pipeline.restarts("rendezvous") == 0

    write(tmp_path, name)
    assert said("up", str(file)) == (5, True)
    assert said("run", "rendezvous", str(file)) == (5, True)
    assert said("models", "promote", "good", "--force", "-P", str(file)) == (5, True)
    assert said("backtest", "--golden", "-P", str(file)) == (5, True)
    write(tmp_path, name, more=RAIN)
    with up(cluster, file, name, state) as pipeline:
        assert operator.states()["plain"] == State.CHAMPION, "good was not promoted by another file"
        until(lambda: "AT_HOME" in shown("homeless").get("refused", ""), 10, "it is refused at the start")
        assert "scorer.homeless" not in pipeline.status["roles"]
        assert pipeline.topics.model("watcher") not in topics_of_models(cluster, name), "the file names it still"


BREAKER = FILE.replace("[default]", "[breaker]\nrequests = 100\nwell_s = 1\n\n[default]", 1)
MOST = 10.0
GUARD = f'[[policy.guards]]\nmodel = "good"\nmax = {MOST}\n'


@pytest.mark.timeout(240)
def test_a_champion_that_hangs_raises_or_leaves_its_bounds_is_passed_over_and_comes_back_when_it_is_well(
    cluster: Cluster, tmp_path: Path, name: str
):
    file = write(tmp_path, name, budget_ms=1_000, text=BREAKER, more=GUARD)
    operator = Operator(cluster, file, tmp_path / "state")
    ill: dict[str, float] = {}
    beyond: list[int] = []

    def value(number: int) -> dict[str, Any]:
        found = plain(number) | ill
        if found["x"] > MOST:
            beyond.append(number)
        return found

    with up(cluster, file, name, tmp_path / "state", "--standby") as pipeline:
        with Load(cluster, pipeline.topics.raw, RATE, value) as load:
            load.wait(2)
            with suspended([pipeline.pid("scorer.good")]):
                until(lambda: operator.is_("good", State.PASSED_OVER), 30, "the champion is passed over")
                load.wait(2)
            until(lambda: operator.is_("good", State.CHAMPION), 30, "it is the champion again")
            load.wait(2)
            ill["x"] = POISON
            ill_at = load.sent
            until(lambda: operator.is_("good", State.PASSED_OVER), 30, "the champion that raises is passed over")
            ill.clear()
            until(lambda: operator.is_("good", State.CHAMPION), 30, "and is the champion again")
            ill["x"] = 2 * MOST
            until(lambda: operator.is_("good", State.PASSED_OVER), 30, "the one out of its bounds is passed over")
            load.wait(LEAD_MS / 1e3 + 0.5)  # until it counts, and some more of these have come
            ill.clear()
            until(lambda: operator.is_("good", State.CHAMPION), 30, "and is the champion once more")
        found = findings(pipeline, file, load)
        answers, at_ms = decisions(pipeline, load), raw_at_ms(pipeline)
        history = RosterLog(cluster, load_file(file)).read()
        said = operator.says("history")
    assert_kept(found)
    assert unentitled(history, answers, at_ms) == {}
    assert [(move["from"], move["to"], move["who"]) for move in said[1:7]] == 3 * [
        ("champion", "passed-over", "rendezvous"),
        ("passed-over", "champion", "rendezvous"),
    ]
    assert "came after 100% of the budget, or never" in said[1]["why"]
    assert "were errors" in said[3]["why"]
    assert "were outside their bounds" in said[5]["why"]
    assert all("well again" in move["why"] for move in said[2:7:2])
    (over_ms, back_ms), *_ = [
        (one.from_ms, after.from_ms) for one, after in pairwise(history.spans.spans) if one.passed_over
    ]
    passed = [one for one in answers if over_ms <= at_ms[one.ticket.offset] < back_ms]
    by_plain = [answer for answer in passed if answer.model == "plain"]
    assert len(by_plain) >= 0.9 * len(passed) >= RATE
    assert all("the champion is passed over" in answer.reason for answer in by_plain)
    assert statistics.median(answer.used_ms for answer in passed) < 0.4 * answers[0].budget_ms, "nobody waits for it"
    healthy = [one for one in answers[:ill_at] if at_ms[one.ticket.offset] >= back_ms]
    assert sum(answer.model == "good" for answer in healthy) >= 0.8 * len(healthy) > 0
    wild = [answers[number] for number in beyond]
    assert {answer.model for answer in wild} <= {"plain", None}, "no score beyond its bounds is an answer"
    reasons = [answer.reason for answer in wild]
    assert any(f"good was guarded: {4 * MOST} is above {MOST}" in reason for reason in reasons)
    assert any("the champion is passed over" in reason for reason in reasons)
