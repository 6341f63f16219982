"""A bandit on real Kafka: labels move the share of its arms, and every process draws by the same tallies."""

import json
import os
import signal
from pathlib import Path
from subprocess import CompletedProcess

from schemas.labels import Label, encode_label
from schemas.requests import Request
from streams.core.learned import Learned
from streams.core.policy_branches import branches_of
from streams.kafka.clients import Cluster
from streams.kafka.tally_log import TallyLog
from streams.kill_points import LEARNER_POINTS, VARIABLE
from streams.pipeline_file import load
from tests.broker.commands import rendezvous
from tests.broker.pipelines import FILE, Outcome, Up, environment, good, outcome, send, until, up, write

TEXT = (
    FILE[: FILE.index("[[models]]")]
    + """
[[models]]
name = "yes"
version = "1"
kind = "constant"
role = "champion"
value = 0.9

[[models]]
name = "no"
version = "1"
kind = "constant"
role = "challenger"
value = 0.1

[policy]
kind = "bandit"
steps = [{{until = 0.9, accept = ["yes", "no"]}}, {{until = 1.0, accept = ["yes", "no"]}}]

[archive]
max_age_s = 1.0
{more}
"""
)
REQUESTS = 300


def counted(learned: Learned) -> dict[str, tuple[int, int]]:
    last = learned.last
    return {one.model: (one.right, one.wrong) for one in last.counted} if last else {}


def asked(pipeline: Up, start: int, rate: float = 150) -> Outcome:
    values = [good(number) for number in range(start, start + REQUESTS)]
    found = outcome(pipeline, send(pipeline.cluster, pipeline.topics.raw, values, rate), 30)
    assert len(found.decisions) == REQUESTS
    return found


def scored(*found: Outcome) -> dict[str, int]:
    """For how many of these requests each model had scored when the answer left."""
    every = [decision for one in found for decision in one.decisions.values()]
    return {model: sum(model in decision.scores for decision in every) for model in ("yes", "no")}


def told(learned: Learned, wanted: dict[str, int]) -> bool:
    """Each label was counted once, to the last hundredth: `no` was always right, `yes` never."""
    (yes_right, yes), (no, no_wrong) = (counted(learned).get(model, (0, 0)) for model in ("yes", "no"))
    exact = 0.98 * wanted["no"] <= no <= wanted["no"] and 0.98 * wanted["yes"] <= yes <= wanted["yes"]
    return exact and yes_right == no_wrong == 0


def shares_no(found: Outcome) -> float:
    return sum(decision.branch == "no" for decision in found.decisions.values()) / REQUESTS


def as_drawn(file: Path, learned: Learned, found: Outcome) -> None:
    """As this process draws, so has that one, at its time: by the tallies as they stand in the log."""
    branches = branches_of(load(file))
    assert branches is not None
    for offset, decision in found.decisions.items():
        request = Request(offset, decision.request_id, found.raw_at_ms[offset], 400, None, None, None, b"{}")
        assert decision.branch == branches.of(request, learned)[0]


def command(pipeline: Up, *words: str) -> "CompletedProcess[str]":
    return rendezvous(words, environment(pipeline.cluster, pipeline.state), within_s=120)


def test_labels_move_the_share_and_a_restart_draws_by_the_same_tallies(cluster: Cluster, name: str, tmp_path: Path):
    file = write(tmp_path, name, 400, text=TEXT)
    log = TallyLog(cluster, load(file))
    deadly = ",".join(f"{point}:1:{tmp_path / point}" for point in LEARNER_POINTS)
    with up(cluster, file, name, tmp_path / "state", "--standby", more={VARIABLE: deadly}) as pipeline:
        asked(pipeline, 0)  # warm
        before = asked(pipeline, REQUESTS)
        assert 0.35 < shares_no(before) < 0.65, "nothing is known: either is as good"
        assert counted(log.read()) == {}

        def labelled(start: int, count: int, *, truth: bool) -> None:
            labels = [encode_label(Label(truth=truth, request_id=f"r{n}")) for n in range(start, start + count)]
            send(cluster, pipeline.topics.labels, [*labels, b"no label"])

        labelled(REQUESTS, 20, truth=True)  # some are said wrongly at first: corrections take back
        labelled(REQUESTS, REQUESTS, truth=False)
        until(lambda: all((tmp_path / point).exists() for point in LEARNER_POINTS), 40, "the learner is killed twice")
        until(lambda: told(log.read(), scored(before)), 40, "a tally of all labels all the same")

        until(lambda: pipeline.running("learner", 2), 40, "it is there again")
        pipeline.kill("learner")
        pipeline.kill("rendezvous")
        until(lambda: pipeline.running("learner", 3) and pipeline.running("rendezvous", 1), 40, "both again")
        assert told(log.read(), scored(before)), "the same labels are not counted again"
        after = asked(pipeline, 2 * REQUESTS)
        assert shares_no(after) > 0.95
        as_drawn(file, log.read(), before)
        as_drawn(file, log.read(), after)

        labelled(2 * REQUESTS, REQUESTS, truth=False)
        until(lambda: told(log.read(), scored(before, after)), 20, "it goes on, and counts each once")

        def archived() -> bool:
            checked = command(pipeline, "backtest", "--golden", "--json", "-P", str(file))
            return checked.returncode == 0 and json.loads(checked.stdout)["compared"] > REQUESTS

        until(archived, 60, "the past is answered again as it was, by the archived tallies")
        os.kill(pipeline.process.pid, signal.SIGTERM)
        pipeline.process.wait(30)
