"""Each import contract is seen to break on a planted violation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANTED = {
    "agents stand on streams, streams on schemas": ("schemas/topics.py", "import streams.core.policy"),
    "the core is pure": ("streams/core/policy.py", "import asyncio"),
    "the edges do not know each other": ("streams/archive/writer.py", "import streams.kafka.batch"),
    "roles meet only on topics": ("agents/scorer.py", "import agents.router"),
    "nothing imports agents": ("deploy/flights/rule.py", "import agents.settings"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for package in ("agents", "streams", "schemas", "deploy"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "build", "models/*.txt")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_the_tree_keeps_every_contract(copy: Path):
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert f"Contracts: {len(PLANTED)} kept, 0 broken" in done.stdout


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_violation_breaks_its_contract(copy: Path, contract: str):
    name, line = PLANTED[contract]
    path = copy / name
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    try:
        done = lint(copy)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout
