"""`rendezvous forget`: who is not sure has changed nothing, and hears it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.cli.forget import forget
from tests.unit.lived import play
from tests.unit.small import TEXT, pipeline


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_who_does_not_say_yes_has_changed_nothing_and_is_told(answer: str, tmp_path: Path):
    (tmp_path / "p.toml").write_text(TEXT)
    root = tmp_path / "archive"
    play(pipeline(), [b'{"request_id":"r1","x":1}'], latency_ms=lambda *_: 1.0, rate=0.2).write(root, "small")
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    assert before
    words = ["r1", "-P", str(tmp_path / "p.toml"), "--root", str(root)]
    said = CliRunner().invoke(forget, words, input=answer, standalone_mode=False, catch_exceptions=False)
    assert said.return_value == 1
    assert "nothing was changed; --yes does not ask" in said.output
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before
