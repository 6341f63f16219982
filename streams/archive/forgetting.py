"""One request taken out of the archive: raw, decisions, dead letters, labels, and its rows in blocks.

What is taken out is noted first (offset, why, and the hash by which it would be known), then the file is written
anew without it. Raw comes last: whoever is killed before finds the request again and finishes. Comparisons that are
kept of its hour are deleted, and made anew without it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, json
from msgspec.structs import replace

from schemas.blocks import (
    NotAskedBlock,
    RejectionBlock,
    ScoreBlock,
    ScoresBlock,
    decode_rows,
    decode_scores,
    encode_scores,
    offsets_of,
    pack_offsets,
    pack_scores,
    scores_of,
)
from schemas.dead_letters import PREFIX
from schemas.decisions import Decision, decode_decision
from schemas.enriched import decode_enriched, encode_enriched, enriched_block, rows_of
from schemas.errors import UNREADABLE, UnreadableRecord
from schemas.labels import decode_label
from schemas.topics import Topics
from streams.archive.compared import HOUR_MS, drop_hours
from streams.archive.file import File
from streams.archive.layout import NOW, Layout, partitions
from streams.archive.marks import Forgotten, put_forgotten
from streams.archive.overtaken import undisturbed
from streams.archive.rewriting import alone, rewrite
from streams.archive.segment import SCHEMA, Footer, Record, read_batches, read_footer, records_of, table_of
from streams.core.audit import digest_of
from streams.core.validator import minted
from streams.kill_points import reached

Place = tuple[str, int, int]
"""Tree, partition, offset of a raw record."""

Here = Callable[[int, int], bool]
"""Whether a ticket, in the tree at hand, is the request's."""

Cut = Callable[[Record], Record | None]
"""What is left of a record: itself, another value, or nothing."""


class Wanted(Struct, frozen=True):
    """The request: its id, or its ticket (in the topic's life of now); `id_parts` is where raw keeps the id."""

    request_id: str | None
    ticket: tuple[int, int] | None
    id_parts: tuple[str, ...]


class Known(Struct, frozen=True):
    """What is known of the request: where its raw records are, and the id that names it and nobody else."""

    places: frozenset[Place]
    request_id: str | None


class Rewritten(Struct, frozen=True):
    """A file, and the offsets that were taken out of it or are there without the request."""

    path: Path
    removed: list[int]
    altered: list[int]


def forget(root: Path, pipeline: str, wanted: Wanted, writer: str, *, dry_run: bool) -> Iterator[Rewritten]:
    """Take out one request; yields each file as it is done. Raises ArchiveDamaged, ArchiveBusy, DiskTrouble."""
    topics = Topics(pipeline)
    known = know(root, topics, wanted)
    for topic in (topics.scores, topics.enriched, topics.dead_letters, topics.labels, topics.decisions, topics.raw):
        for layout in partitions(root, topic):
            yield from _take_out(layout, topics, _cut(layout, topics, wanted, known), writer, dry_run=dry_run)


def know(root: Path, topics: Topics, wanted: Wanted) -> Known:
    """Where the request is, and its id. Raises ArchiveDamaged.

    By ticket, an id that another record has too is left out: a label by that id may be the other's.
    """
    if wanted.ticket is None:
        return Known(find(root, topics, wanted), wanted.request_id)
    place = (NOW, *wanted.ticket)
    name = undisturbed(partial(_id_of, root, topics, wanted.ticket, wanted.id_parts))
    alone = name is not None and {place}.issuperset(find(root, topics, replace(wanted, request_id=name, ticket=None)))
    return Known(frozenset([place]), name if alone else None)


def find(root: Path, topics: Topics, wanted: Wanted) -> frozenset[Place]:
    """Where the raw records of a request id are, by raw itself and by what was decided. Raises ArchiveDamaged."""
    return undisturbed(lambda: frozenset(_find(root, topics, wanted)))


def _find(root: Path, topics: Topics, wanted: Wanted) -> Iterator[Place]:
    for layout in (*partitions(root, topics.raw), *partitions(root, topics.decisions)):
        for path in layout.segments():
            for record in _candidates(path, wanted):
                decision = _decision(record) if layout.topic == topics.decisions else None
                if decision and decision.request_id == wanted.request_id:
                    yield (layout.tree, decision.ticket.partition, decision.ticket.offset)
                elif layout.topic == topics.raw and _is_request(record, layout.partition, wanted):
                    yield (layout.tree, layout.partition, record.offset)


def _id_of(root: Path, topics: Topics, ticket: tuple[int, int], id_parts: tuple[str, ...]) -> str | None:
    """The id of the request that has a ticket, by raw, and where that is gone by what was decided."""
    partition, offset = ticket
    for path in Layout(root, topics.raw, partition).segments():
        for batch in read_batches(path):
            for record in records_of(batch.filter(pc.equal(batch.column(0), offset))):
                try:
                    return str(_named(record, partition, id_parts))
                except UNREADABLE:
                    return None
    for layout in partitions(root, topics.decisions, NOW):
        for path in layout.segments():
            for decision in map(_decision, chain.from_iterable(map(records_of, read_batches(path)))):
                if decision and (decision.ticket.partition, decision.ticket.offset) == ticket:
                    return decision.request_id
    return None


def _cut(layout: Layout, topics: Topics, wanted: Wanted, known: Known) -> Cut:
    """What to do with the records of one topic."""
    by_id = replace(wanted, request_id=known.request_id, ticket=None)

    def here(partition: int, offset: int) -> bool:
        return (layout.tree, partition, offset) in known.places

    def raw(record: Record) -> Record | None:
        return None if here(layout.partition, record.offset) else record

    def decisions(record: Record) -> Record | None:
        decision = _decision(record)
        if decision is None:
            return record
        mine = here(decision.ticket.partition, decision.ticket.offset)
        return None if mine or decision.request_id == known.request_id else record

    def scores(record: Record) -> Record | None:
        return _without_rows(record, lambda offset: here(layout.partition, offset))

    def enriched(record: Record) -> Record | None:
        return _not_joined(record, lambda offset: here(layout.partition, offset))

    def dead_letters(record: Record) -> Record | None:
        mine = known.request_id is not None and _is_request(record, -1, by_id)
        return None if mine or any(here(*ticket) for ticket in _origins(record, topics)) else record

    def labels(record: Record) -> Record | None:
        return None if _speaks_of(record, known.request_id, here) else record

    cuts = {topics.raw: raw, topics.decisions: decisions, topics.scores: scores, topics.labels: labels}
    cuts[topics.enriched] = enriched
    return cuts.get(layout.topic, dead_letters)


def _take_out(layout: Layout, topics: Topics, cut: Cut, writer: str, *, dry_run: bool) -> Iterator[Rewritten]:
    with alone(layout) as hold:
        for path in layout.segments():
            footer, changes = _changes(hold.see(path), cut)
            if not changes:
                continue
            if not dry_run:
                hold.still_ours()
                for record, left in changes.values():
                    digest = digest_of(record.timestamp_ms, record.key, record.value, record.headers)
                    why = "forgotten on request"
                    put_forgotten(layout, Forgotten(record.offset, f"{digest:016x}", why, left is not None), writer)
                reached("forget.marked")
                if layout.topic == topics.raw:
                    hours = {record.timestamp_ms // HOUR_MS for record, _ in changes.values()}
                    drop_hours(layout.root, topics.pipeline, hours)
                left_over = {offset: left for offset, (_, left) in changes.items()}
                rewrite(hold, _rest(path, left_over), footer, "forget")
            removed = [offset for offset, (_, left) in changes.items() if left is None]
            yield Rewritten(path, removed, [offset for offset in changes if offset not in removed])


def _changes(file: File, cut: Cut) -> tuple[Footer, dict[int, tuple[Record, Record | None]]]:
    """The file's footer, and by offset the records that are concerned, with what is left of each."""
    records = chain.from_iterable(map(records_of, read_batches(file)))
    changes = {record.offset: (record, left) for record in records if (left := cut(record)) is not record}
    return read_footer(file), changes


def _rest(path: Path, changes: dict[int, Record | None]) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(path):
        offsets = batch.column(0)
        changed = pc.is_in(offsets, pa.array(list(changes), pa.int64()))
        if not pc.any(changed).as_py():
            yield batch
            continue
        records = [changes.get(record.offset, record) for record in records_of(batch)]
        left = [record for record in records if record is not None]
        if left:
            names = ("offset", "timestamp_ms", "timestamp_type", "key", "value", "headers")
            table = table_of([[getattr(record, name) for record in left] for name in names])
            yield from table.cast(SCHEMA).to_batches()


def _candidates(path: Path, wanted: Wanted) -> Iterator[Record]:
    """Records that may be the request's: its id stands in them, or may stand there behind an escape, or is minted."""
    needle = (wanted.request_id or "").encode()
    ticket = _minted(wanted)
    for batch in read_batches(path):
        value = batch.column(4)
        found = pc.or_(pc.match_substring(value, needle), pc.match_substring(value, b"\\"))
        if ticket:
            found = pc.or_(found, pc.equal(batch.column(0), ticket[1]))
        found = pc.fill_null(found, False)
        if pc.any(found).as_py():
            yield from records_of(batch.filter(found))


def _minted(wanted: Wanted) -> tuple[int, int] | None:
    """The ticket that an id names which was minted from it."""
    partition, _, offset = (wanted.request_id or "").partition("-")
    return (int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None


def _is_request(record: Record, partition: int, wanted: Wanted) -> bool:
    """Whether a raw record is this request; one that nobody can read is, when the id stands in it."""
    try:
        return _named(record, partition, wanted.id_parts) == wanted.request_id
    except UNREADABLE:
        return bool(wanted.request_id) and (wanted.request_id or "").encode() in (record.value or b"")


def _named(record: Record, partition: int, id_parts: tuple[str, ...]) -> Any:
    """The id in a raw record, or the one that is minted for it; raises what UNREADABLE names."""
    found: Any = json.decode(record.value or b"")
    for part in id_parts:
        found = found.get(part) if isinstance(found, dict) else None
    return found or minted(partition, record.offset)


def _decision(record: Record) -> Decision | None:
    try:
        return decode_decision(record.value or b"")
    except UnreadableRecord:
        return None


def _speaks_of(record: Record, request_id: str | None, here: Here) -> bool:
    """Whether a label is the request's, by its id or its ticket; one that nobody can read, when the id is in it."""
    try:
        label = decode_label(record.value)
    except UnreadableRecord:
        return bool(request_id) and (request_id or "").encode() in (record.value or b"")
    if label.ticket is not None and here(label.ticket.partition, label.ticket.offset):
        return True
    return request_id is not None and label.request_id == request_id


def _origins(record: Record, topics: Topics) -> Iterator[tuple[int, int]]:
    """The tickets in a dead letter: the raw record it was, or the rows of a block for a model."""
    story = {name: (value or b"").decode(errors="replace") for name, value in record.headers or ()}
    topic, partition, offset = (story.get(PREFIX + name, "") for name in ("topic", "partition", "offset"))
    if not (partition.isdecimal() and offset.isdecimal()):
        return
    if topic == topics.raw:
        yield int(partition), int(offset)
        return
    for decoded in (_rows_in, _scores_in):
        for row in decoded(record.value):
            yield int(partition), row


def _rows_in(value: bytes | None) -> tuple[int, ...]:
    try:
        return tuple(decode_rows(value).offsets.tolist())
    except UnreadableRecord:
        return ()


def _scores_in(value: bytes | None) -> tuple[int, ...]:
    try:
        block = decode_scores(value)
    except UnreadableRecord:
        return ()
    return offsets_of(block.offsets) if isinstance(block, ScoreBlock | NotAskedBlock) else ()


def _without_rows(record: Record, gone: Callable[[int], bool]) -> Record | None:
    """A block of scores without some rows; nothing when no row is left; itself when none is concerned."""
    try:
        block = decode_scores(record.value)
    except UnreadableRecord:
        return record
    left = _shrunk(block, gone)
    if left is block:
        return record
    empty = not (getattr(left, "offsets", b"") or getattr(left, "errors", ()) or getattr(left, "rows", ()))
    return None if empty else replace(record, value=encode_scores(left))


def _not_joined(record: Record, gone: Callable[[int], bool]) -> Record | None:
    """A block of what was joined without some rows; nothing when no row is left; itself when none is concerned."""
    try:
        block = decode_enriched(record.value)
    except UnreadableRecord:
        return record
    rows = list(rows_of(block))
    left = [(offset, records) for offset, records in rows if not gone(offset)]
    if len(left) == len(rows):
        return record
    columns = {one.table: [records[one.table] for _, records in left] for one in block.tables}
    (value,) = encode_enriched(enriched_block([offset for offset, _ in left], columns))
    return replace(record, value=value) if left else None


def _shrunk(block: ScoresBlock, gone: Callable[[int], bool]) -> ScoresBlock:
    if isinstance(block, RejectionBlock):
        kept = tuple(row for row in block.rows if not gone(row.offset))
        return block if len(kept) == len(block.rows) else replace(block, rows=kept)
    if not isinstance(block, ScoreBlock | NotAskedBlock):
        return block
    offsets = offsets_of(block.offsets)
    places = [place for place, offset in enumerate(offsets) if not gone(offset)]
    packed = pack_offsets([offsets[place] for place in places])
    if isinstance(block, NotAskedBlock):
        return block if len(places) == len(offsets) else replace(block, offsets=packed)
    errors = tuple(row for row in block.errors if not gone(row.offset))
    if len(places) == len(offsets) and len(errors) == len(block.errors):
        return block
    scores = scores_of(block.scores)
    return replace(block, offsets=packed, scores=pack_scores([scores[place] for place in places]), errors=errors)
