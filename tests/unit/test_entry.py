"""`models add --entry FILE`: a model of any kind comes as the pipeline file would have it, with its limits."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agents.cli import add as command
from schemas.pipeline import Kind
from schemas.roster import Moved, State, model_of
from schemas.topics import Topic
from streams.core.given import Given
from streams.kafka.admin import Admin
from streams.kafka.clients import Cluster
from streams.kafka.roster_log import RosterLog
from streams.models.artifact import sum_of
from tests.unit.servers import Server, answer, served
from tests.unit.small import TEXT, pipeline
from tests.unit.test_roster import history

pytestmark = pytest.mark.usefixtures("trials")

WEB = """
[[models]]
name = "web"
version = "9"
kind = "http"
role = "shadow"
url = "{url}"
features = ["x", "late"]
timeout_ms = {timeout_ms}
memory_mb = 512
threads = 2
nice = 5
expired = "score"
"""

JAVA = """
[[models]]
name = "java"
version = "12"
kind = "external"
role = "shadow"
wire = "json"
takes = "events"
"""

EVENTS = """
[[models]]
name = "words"
version = "1"
kind = "python"
role = "shadow"
callable = "tests.unit.python_models:length"
takes = "events"
"""


@dataclass
class Added:
    """What `add` made, and the folder it works in."""

    folder: Path
    moves: list[Moved] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    recent: Given = field(default_factory=lambda: Given(np.ones((3, 3)), (b'{"note":"ab"}',) * 3))

    def file(self, text: str, name: str = "entry.toml") -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def by(self, path: Path, name: str, *words: str) -> Result:
        given = [name, "--entry", str(path), "-P", str(self.folder / "pipeline.toml"), *words]
        return CliRunner().invoke(command.add, given, standalone_mode=False)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Added:
    found = Added(tmp_path.resolve())
    (tmp_path / "pipeline.toml").write_text(TEXT)

    def ensure(_: Admin, topics: list[Topic]) -> None:
        found.topics += [topic.name for topic in topics]

    monkeypatch.setattr(command, "look", lambda _: (pipeline(), Cluster("nowhere:9"), history()))
    monkeypatch.setattr(command, "recent", lambda *_: found.recent)
    monkeypatch.setattr(Admin, "__init__", lambda *_: None)
    monkeypatch.setattr(Admin, "ensure", ensure)
    monkeypatch.setattr(RosterLog, "move", lambda _, move: found.moves.append(move))
    return found


def web(server: Server, timeout_ms: int = 500) -> str:
    return WEB.format(url=server.url, timeout_ms=timeout_ms)


def said(done: Result) -> str:
    """What it was refused with; empty when it was not."""
    assert done.exception is None or isinstance(done.exception, Exception), done.exception
    return str(done.exception or "")


def test_a_server_is_asked_what_it_takes_scores_recent_rows_and_comes_with_its_limits(added: Added):
    with served(Server()) as server:
        done = added.by(added.file(web(server)), "web", "--json")
    assert said(done) == ""
    assert "web 9: 3 rows score 2.0000 to 2.0000; staged" in done.output
    assert [request["inputs"][0]["shape"] for request in server.asked] == [[3, 2]]
    (move,) = added.moves
    assert (move.model, move.version, move.after) == ("web", "9", State.STAGED)
    model = model_of(move.definition or {}, "shadow")
    assert (model.kind, model.timeout_ms, model.features) == (Kind.HTTP, 500, ("x", "late"))
    assert (model.memory_mb, model.threads, model.nice, model.expired) == (512, 2, 5, "score")
    assert added.topics == ["small.model.web"]


OTHER_FORM = (200, b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}]}')


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (Server(form=lambda: OTHER_FORM), "takes x BYTES [-1, 2]; one input of n x 2 FP32 or FP64 is needed"),
        (Server(form=lambda: (404, b'{"error": "no such model"}')), "the server said 404: no such model"),
        (Server(infer=lambda _: answer()), "the server answers nonsense"),
    ],
)
def test_a_server_that_is_another_models_is_refused_with_what_it_says(added: Added, server: Server, reason: str):
    with served(server):
        done = added.by(added.file(web(server)), "web")
    assert "model web: 3 of 3 rows have no score, row 0: " in said(done)
    assert reason in said(done)
    assert (added.moves, added.topics) == ([], [])


def test_a_server_that_hangs_or_is_away_is_waited_for_within_its_limit(added: Added):
    hang = threading.Event()

    def never() -> tuple[int, bytes]:
        hang.wait(30)
        return 200, b""

    with served(Server(form=never)) as server:
        path = added.file(web(server, 200))
        assert "did not answer within the 200 ms" in said(added.by(path, "web"))
        hang.set()
    assert "the server is not reached" in said(added.by(path, "web"))
    assert added.moves == []


def test_an_external_model_is_loaded_by_nobody_and_has_its_topic_and_its_place(added: Added):
    done = added.by(added.file(JAVA), "java", "--who", "ann")
    assert done.output == "java 12: another program scores it; a shadow\n"
    assert added.topics == ["small.model.java"]
    assert [(move.before, move.after, move.who) for move in added.moves] == [
        (None, State.STAGED, "ann"),
        (State.STAGED, State.WARMING, "ann"),
        (State.WARMING, State.SHADOW, "ann"),
    ]
    assert history(*added.moves).roster.state("java") is State.SHADOW
    assert model_of(added.moves[0].definition or {}, "shadow").wire == "json"


def test_a_model_that_takes_events_is_given_the_last_ones_and_no_made_up_ones(added: Added):
    path = added.file(EVENTS)
    assert "words 1: 3 rows score 2.0000 to 2.0000; staged" in added.by(path, "words").output
    added.recent = Given(np.ones((3, 3)), (b'{"note":"ab"}', b"{}", b'{"note":"abc"}'))
    assert "1 of 3 rows have no score, row 1: raised KeyError('note')" in said(added.by(path, "words"))
    added.recent = Given(np.zeros((0, 3)))
    assert "words 1: it loads, and no request is there to try it on; staged" in added.by(path, "words").output


def test_paths_are_relative_to_the_entrys_file_and_lead_nowhere_else(added: Added):
    (added.folder / "new").mkdir()
    (added.folder / "new" / "m.bin").write_bytes(b"model")
    (added.folder / "new" / "m.sum").write_text(f"{sum_of(b'model')}  m.bin\n")
    text = EVENTS.replace('takes = "events"', 'artifact = "{at}m.bin"\nsha256 = "{at}m.sum"')
    text = text.replace(":length", ":Kept")
    done = added.by(added.file(text.format(at=""), "new/entry.toml"), "words")
    assert said(done) == ""
    model = model_of(added.moves[0].definition or {}, "shadow")
    assert (model.artifact, model.sha256) == ("new/m.bin", sum_of(b"model"))
    assert said(added.by(added.file(text.format(at="new/")), "words")) == ""
    absent = said(added.by(added.file(text.format(at="../"), "new/entry.toml"), "words"))
    assert f"{added.folder / 'm.bin'}: No such file" in absent
    assert "lies outside" in said(added.by(added.file(text.format(at="../../"), "new/entry.toml"), "words"))


def other(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other("timeout_ms", "timeout"), "models[0].timeout: unknown key; write timeout_ms"),
        (other('kind = "http"', 'kind = "grpc"'), "models[0].kind: Invalid enum value 'grpc'; write \"lightgbm\" or"),
        (other('version = "9"', ""), 'models[0].version: missing; write version = "text"'),
        (other("memory_mb = 512", 'memory_mb = "512"'), "models[0].memory_mb: Expected 'int', got 'str'; write a"),
        (other("memory_mb = 512", "memory_mb = 64"), "models[0] (web).memory_mb: 64 MB is less than an empty scorer"),
        (other("nice = 5", "nice = 50"), "models[0] (web).nice: 50 is impossible; write 0 to 19"),
        (other("nice = 5", "instances = 2"), "(web).instances: 2 processes cannot share 1 partition; write"),
        (other("/infer", ""), "models[0] (web).url: no address of an inference endpoint"),
        (other('"http"', '"external"'), "models[0] (web).url: has no meaning for kind external; remove it"),
        (other('"late"', '"rain"'), "models[0] (web).features: 'rain' is not declared; declare it"),
        (other('"shadow"', '"champion"'), "(web).role: is champion, and who comes while it runs is a shadow first"),
        (other('"web"', '"net"'), "models: describes net, not web; write one [[models]], of web"),
        (lambda text: text + JAVA, "models: describes web, java, not web; write one [[models]], of web"),
        (other("[[models]]", ""), "models: missing; write models = "),
        (other("threads = 2", 'needs = ["nobody"]'), "needs (web): there is no model 'nobody'; name one of"),
        (other("[[models]]", "[[models"), "no TOML: "),
    ],
)
def test_what_is_wrong_is_said_by_file_and_key_as_of_a_pipeline_file(
    added: Added, change: Callable[[str], str], says: str
):
    text = WEB.format(url="http://nowhere:9/v2/models/m/infer", timeout_ms=100)
    changed = change(text)
    assert changed != text
    path = added.file(changed)
    done = added.by(path, "web")
    assert said(done).startswith(f"{path}: ")
    assert says in said(done)
    assert getattr(done.exception, "exit_code", None) == 5
    assert (added.moves, added.topics) == ([], [])


def test_what_a_file_says_is_not_said_by_words_too(added: Added):
    done = added.by(added.file(JAVA), "java", "--version", "13", "--features", "x")
    assert "says what the model is: leave out --version, --features" in said(done)
    assert added.moves == []


def test_without_a_file_a_version_is_needed(added: Added):
    given = ["new", "--value", "1", "-P", str(added.folder / "pipeline.toml")]
    done = CliRunner().invoke(command.add, given, standalone_mode=False)
    assert "--version" in said(done)
    assert added.moves == []
