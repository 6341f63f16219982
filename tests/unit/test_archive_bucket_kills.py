"""In a bucket too, what rewrites may be killed at any step, is exact meanwhile, and can be run again at once."""

from pathlib import Path

import pytest

from streams.archive.forgetting import forget
from streams.archive.inspection import troubles
from streams.archive.reader import read_partition
from streams.archive.retention import DAY_MS, retire
from streams.archive.store import open_root
from streams.archive.writer import PartitionWriter
from streams.kill_points import BY_HAND
from tests.conftest import credentials
from tests.unit.test_archive_upkeep import (
    COMPACT,
    FORGET,
    LIMITS,
    RETIRE,
    TOPIC,
    WANTED,
    archived,
    assert_forgotten,
    killed,
    later,
    raws,
    whole,
)

THERE = "from streams.archive.store import open_root\n"
WRITE = (
    THERE + "from pathlib import Path; from streams.archive.layout import Layout\n"
    "from streams.archive.writer import PartitionWriter\n"
    "from tests.unit.test_archive_upkeep import LIMITS, raws\n"
    "writer = PartitionWriter(Layout(open_root({root!r}, Path()), {topic!r}, 0), LIMITS, 'id', 'w')\n"
    "writer.append(raws(20)[10:], 0.0)\n"
    "writer.close_segment()\n"
)


@pytest.fixture
def root(s3: str, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """A bucket of its own, which child processes reach too."""
    for variable, value in credentials(s3).items():
        monkeypatch.setenv(variable, value)
    found = open_root(f"s3://{name}/archive", Path())
    found.fs.mkdir(name)  # type: ignore[attr-defined]
    return found


def there(code: str, root: Path) -> str:
    """The same work, in the bucket."""
    return THERE + code.replace("Path({root!r})", "open_root({root!r}, Path())").format(root=str(root), topic=TOPIC)


def of(stage: str) -> list[str]:
    return [point for point in BY_HAND if point.startswith(stage)]


@pytest.mark.parametrize("point", of("compact"))
def test_a_compaction_killed_at_any_step(root: Path, tmp_path: Path, point: str):
    layout = archived(root, TOPIC, raws(20), 5)
    assert killed(there(COMPACT, root), point, tmp_path)
    assert list(read_partition(root, TOPIC, 0)) == raws(20)
    assert {trouble.kind for trouble in troubles(layout)} <= {"overlap"}
    later(layout)
    assert list(read_partition(root, TOPIC, 0)) == raws(20)
    assert (len(layout.segments()), list(troubles(layout))) == (2, [])


@pytest.mark.parametrize("point", of("retire"))
def test_a_deletion_by_age_killed_at_any_step(root: Path, tmp_path: Path, point: str):
    layout = archived(root, TOPIC, raws(30), 5)
    assert killed(there(RETIRE, root), point, tmp_path)
    assert [record.offset for record in read_partition(root, TOPIC, 0)] == list(range(15, 30))
    retire(layout, 19_000 + DAY_MS, 1, "w")
    assert layout.segments()[0].name == f"{15:019d}.parquet"
    assert list(troubles(layout)) == []


@pytest.mark.parametrize("point", of("forget"))
def test_a_forget_killed_at_any_step(root: Path, tmp_path: Path, point: str):
    found = whole(root)
    assert killed(there(FORGET, root), point, tmp_path, 2)
    for layout in found.values():
        assert list(troubles(layout)) == []
    list(forget(root, "small", WANTED, "w", dry_run=False))
    assert_forgotten(found)


@pytest.mark.parametrize("point", ["archive.written", "archive.after_link"])
def test_a_file_that_is_written(root: Path, tmp_path: Path, point: str):
    layout = archived(root, TOPIC, raws(10), 5)
    assert killed(WRITE.format(root=str(root), topic=TOPIC), point, tmp_path)
    writer = PartitionWriter(layout, LIMITS, "id", "w")
    assert writer.next_offset == (10 if point == "archive.written" else 20), "there whole, or not at all"
    if writer.next_offset < 20:
        writer.append(raws(20)[writer.next_offset :], 0.0)
        writer.close_segment()
    assert list(read_partition(root, TOPIC, 0)) == raws(20)
    assert list(troubles(layout)) == []
