"""What is in an archive, and everything that is wrong with it: all of it is read, and nothing stops at the first."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec import Struct

from streams.archive.file import File
from streams.archive.layout import Layout
from streams.archive.marks import Marks, read_marks
from streams.archive.overtaken import undisturbed
from streams.archive.reader import check_place
from streams.archive.segment import ArchiveDamaged, Vanished, bytes_of, read_batches, read_footer, times_of


class Holding(Struct, frozen=True):
    """One partition: offsets from `start` to before `end`, log times from `from_ms` to `to_ms`."""

    topic: str
    partition: int
    tree: str
    files: int
    rows: int
    bytes: int
    start: int
    end: int
    from_ms: int | None
    to_ms: int | None
    gaps: int
    forgotten: int


class Trouble(Struct, frozen=True):
    """One thing that is wrong: offsets from `start` to before `end`, and the file where it shows."""

    kind: str
    path: Path
    start: int
    end: int
    what: str


def holding(layout: Layout) -> Holding:
    """What the footers of one partition say; raises ArchiveDamaged."""
    return undisturbed(partial(_holding, layout))


def troubles(layout: Layout) -> list[Trouble]:
    """Every gap, overlap and damage of one partition, by offset."""
    return undisturbed(lambda: list(_troubles(layout)))


def _holding(layout: Layout) -> Holding:
    marks, rows, size, ends = read_marks(layout), 0, 0, [0]
    times: list[int] = []
    paths = layout.segments()
    for path in paths:
        file = File(path, whole=False)
        footer = read_footer(file)
        rows, size = rows + footer.count, size + bytes_of(file)
        ends.append(footer.end)
        times += times_of(file) or ()
    return Holding(
        layout.topic,
        layout.partition,
        layout.tree,
        len(paths),
        rows,
        size,
        int(paths[0].stem) if paths else 0,
        max(ends),
        min(times, default=None),
        max(times, default=None),
        len(marks.gaps),
        len(marks.forgotten),
    )


def _troubles(layout: Layout) -> Iterator[Trouble]:
    try:
        marks = read_marks(layout)
    except ArchiveDamaged as error:
        yield Trouble("damaged", layout.staging, 0, 0, str(error))
        marks = Marks()
    following, held, paths = marks.retired, 0, layout.segments()
    for place, path in enumerate(paths):
        start, file = int(path.stem), File(path)
        try:
            footer = read_footer(file)
            check_place(path, footer, layout)
            start, end = footer.start, footer.end
            for _ in read_batches(file):
                pass
        except Vanished:
            raise
        except ArchiveDamaged as error:
            end = int(paths[place + 1].stem) if place + 1 < len(paths) else max(marks.end, start)
            yield Trouble("damaged", path, start, end, str(error))
        if start > following and not marks.explain(following, start):
            yield Trouble("gap", path, following, start, f"{path}: offsets {following} to {start - 1} are missing")
        elif start < held and end > marks.retired:
            twice = f"{path}: offsets {start} to {min(end, held) - 1} lie in an earlier file, too"
            yield Trouble("overlap", path, start, min(end, held), f"{twice}; `archive compact` removes it")
        following, held = max(following, end), max(held, end)
    if following < marks.end and not marks.explain(following, marks.end):
        what = f"{layout.data}: offsets {following} to {marks.end - 1} are missing at its end"
        yield Trouble("gap", layout.data, following, marks.end, what)
