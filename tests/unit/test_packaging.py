"""What would make the project mean something else on another machine."""

import importlib
import re
import subprocess
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = "rendezvous-kafka"


@pytest.mark.parametrize("name", ["agents", "streams", "schemas", "deploy"])
def test_no_other_distribution_claims_our_name(name: str):
    assert set(packages_distributions().get(name, [OURS])) == {OURS}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines()]


def test_no_file_names_a_registrys_host_or_a_home():
    pattern = re.compile(
        r"https?://[\w.-]+/(simple|packages|maven2)\b|https?://registry\.|/(home|root)/\w|--index-url"
    )
    for path in tracked():
        if path.suffix in (".py", ".toml", ".md", ".lock", ".json", "") and path != Path(__file__):
            found = pattern.search(path.read_text())
            assert not found, f"{path}: {found}"


def test_every_locked_requirement_has_a_hash():
    for lock in ("requirements.lock", "build.lock"):
        text = (ROOT / lock).read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert lines
        assert all("--hash=sha256:" in line for line in lines), lock


def test_faust_is_pinned_exactly():
    assert '"faust-streaming==0.15.3"' in (ROOT / "pyproject.toml").read_text()
    assert "\nfaust-streaming==0.15.3 " in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("module", ["__main__", "soak", "by_hand", "loops"])
def test_the_bench_can_be_started(module: str):
    importlib.import_module(f"tests.bench.{module}")
