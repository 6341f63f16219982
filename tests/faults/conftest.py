"""Short in `make test`, long in `make test-faults`, which writes what it found into the README.

In the short form what may be broken in the same pipeline is broken in one, one fault after the other: to start and to
stop a pipeline costs more than most faults last. In the long form each fault has a pipeline of its own.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from streams.core.audit import Findings
from streams.kafka.clients import Cluster
from tests.broker.pipelines import Up, up, write

if TYPE_CHECKING:
    from tests.faults.secured import Secured  # it asks here which form this is

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults: written by make test-faults -->\n", "<!-- faults: end -->\n"
LONG = os.environ.get("FAULTS") == "long"
HEAD = (
    "| fault | done to it | requests | lost | conflicting | second finals | late | worst ms | archive |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)

Note = Callable[..., None]


def life(fixture_name: str, config: pytest.Config) -> Literal["function", "module"]:
    """The scope of a pipeline that faults share in the short form."""
    return "function" if LONG else "module"


@contextmanager
def living(cluster: Cluster, folder: Path, *options: str, more: Mapping[str, str] | None = None) -> Iterator[Up]:
    """A pipeline of its own name in this folder, until the block ends."""
    name = f"t{uuid.uuid4().hex[:10]}"
    with up(cluster, write(folder, name), name, folder / "state", *options, more=more) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Secured"]:
    """A Kafka with TLS, SCRAM and access lists. Of a module: who idles for the rest of the run costs more than a start."""
    from tests.faults.secured import secured

    yield from secured(tmp_path_factory.mktemp("secured"))


@pytest.fixture(scope="session")
def _rows() -> Iterator[dict[str, str]]:
    rows: dict[str, str] = {}
    yield rows
    if LONG and rows:
        before, _, rest = README.read_text().partition(BEGIN)
        table, _, after = rest.partition(END)
        old = {line.split("|")[1].strip(): line for line in table.splitlines()[2:]}
        lines = "".join(f"{row}\n" for row in (old | rows).values())
        README.write_text(before + BEGIN + HEAD + lines + END + after)


@pytest.fixture
def note(_rows: dict[str, str]) -> Note:
    """Put a row into the table: what was broken, how often, and what `verify` found afterwards."""

    def put(fault: str, done: str, found: Findings | None = None) -> None:
        cells = [fault, done]
        if found is None:
            cells += ["", "", "", "", "", "", ""]
        else:
            late = f"{found.late} ({found.late / max(1, found.decided):.2%})" if found.late else "0"
            archive = "exact" if found.ok and not found.behind else "not looked at"
            counts = (found.accepted, found.lost, found.conflicting, found.second_finals)
            cells += [*(f"{count:,}" for count in counts), late, f"{found.worst_late_ms:,.0f}", archive]
        _rows[fault] = f"| {' | '.join(cells)} |"
        print(_rows[fault])

    return put
