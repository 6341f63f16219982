"""A policy is a pure value: live, golden check, backtest and simulation give the same answers, whatever its kind."""

import random
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from msgspec import json

from agents.cli.backtest import backtest
from agents.cli.simulate import simulate
from schemas.blocks import decode_scores
from schemas.decisions import decode_decision, encode_decision
from schemas.pipeline import Pipeline
from schemas.tallies import Counted, Tally, encode_tally
from schemas.topics import Topics
from streams.archive.layout import Layout
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.lead import LEAD_MS
from streams.core.learned import NOTHING, Learned
from streams.core.rendezvous import Rendezvous
from streams.core.validator import Validator
from tests.unit.lived import START_MS, Lived, play
from tests.unit.small import TEXT, pipeline

KINDS = {
    "schedule": 'steps = [{until = 0.4, accept = ["champion"]}, {until = 1.0, accept = ["champion", "challenger"]}]',
    "all": 'answer = "all"',
    "first": 'kind = "first"',
    "best": 'kind = "best"\norder = ["second", "first"]',
    "weighted": 'kind = "weighted"\nby = "user"\n'
    'cohorts = [{model = "first", weight = 60}, {model = "second", weight = 40}]',
    "combine": 'kind = "combine"\nhow = "median"\nuntil = 0.5',
    "rules": 'kind = "rules"\nrules = [{name = "low", when = [{field = "x", op = "<", value = 50}], '
    'steps = [{until = 1.0, accept = ["second"]}]}]',
    "bandit": 'kind = "bandit"\narms = ["first", "second"]',
    "guarded": 'guards = [{model = "first", max = 0.6}]',
    "refined": 'kind = "best"\nrefine = true',
}
TALLY = Tally(counted=(Counted("first", "1", 30, 40), Counted("second", "1", 35, 35)), labels={0: 140})


def uneven(dice: random.Random, _: str) -> float | None:
    """Some models never answer, some raise, some are late."""
    chance = dice.random()
    return None if chance < 0.05 else -3.0 if chance < 0.1 else dice.expovariate(1 / 30)


def live(of: Pipeline, lived: Lived, learned: Learned) -> list[Record]:
    """Decisions of a desk that reads each record when it is appended, and whose timers are never late."""
    core, validator = Rendezvous(of, 0, lead_ms=LEAD_MS, learned=learned), Validator(of)
    decided: list[Record] = []

    def publish(replies: list[Any], now_ms: float) -> None:
        for reply in replies:
            decided.append(Record(len(decided), int(now_ms), 1, b"k", encode_decision(reply.decision), None))

    def wait(until_ms: float) -> None:
        while (due_ms := core.next_due_ms) is not None and due_ms <= until_ms:
            publish(core.due(due_ms), due_ms)

    arrivals = [(one.timestamp_ms, 0, one) for one in lived.raw] + [
        (one.timestamp_ms, 1, one) for one in lived.scores
    ]
    for now_ms, is_score, one in sorted(arrivals, key=lambda found: found[:2]):
        wait(now_ms)
        if is_score:
            publish(core.scores_offered(decode_scores(one.value), one.offset, now_ms, now_ms), now_ms)
        else:
            read = validator.read(one.value, one.headers, one.key, 0, one.offset, now_ms)
            publish(core.requests_seen([read], now_ms), now_ms)
    wait(float("inf"))
    return decided


def said(command: click.Command, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(command, [*options, "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    return dict(json.decode(done.stdout.encode()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_events_scores_and_times_give_the_same_decisions(kind: str, tmp_path: Path):
    text = f"{TEXT}\n[policy]\n{KINDS[kind]}\n"
    of, file, archive = pipeline(text), tmp_path / "small.toml", tmp_path / "archive"
    file.write_text(text)
    learned = NOTHING
    if kind == "bandit":
        learned = learned.after(encode_tally(TALLY), START_MS - 5_000)
        writer = PartitionWriter(Layout(archive, Topics(of.name).tallies, 0), Limits(9, 1 << 20, 60.0), "id", "w")
        writer.append([Record(0, START_MS - 5_000, 1, None, encode_tally(TALLY), None)], 0.0)
        writer.close_segment()
    values = [b'{"request_id":"r%d","x":%d,"user":"u%d"}' % (n, n % 100, n % 17) for n in range(400)]
    lived = play(of, values, 1, uneven, learned=learned)
    lived.decisions = live(of, lived, learned)
    lived.write(archive, of.name)

    finals = [one for one in (decode_decision(record.value or b"") for record in lived.decisions) if one.final]
    assert len(finals) == len(values)
    assert len({one.model for one in finals}) >= 2, "else nothing is told apart"

    where = ("-P", str(file), "--archive", str(archive))
    golden = said(backtest, *where, "--golden")
    assert (golden["mismatches"], golden["equal"] > 50) == ([], True)
    ran, simulated = said(backtest, *where, "--budget-ms", "100"), said(simulate, *where, "--budgets", "100")
    for found in (ran, simulated):
        assert found["ways"]["unchanged"] == found["ways"]["happened"]
        told = found["compared"]["happened"]
        assert (told["compared"], told["other_winner"], told["other_outcome"]) == (len(values), 0, 0)
        assert set(told["score_difference"].values()) == {0.0}
    assert ran["ways"]["candidate"] == simulated["sweep"]["unchanged"][0]["figures"] == ran["ways"]["happened"]
