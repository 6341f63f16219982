"""What lies on `scores` is put to the request it is about, or kept until raw is read as far.

A ticket is the raw record's offset, so the join is one look-up. What nobody waits for any more, what is of nobody
known and what is too far ahead to be kept is counted. Decides nothing: it says to whom something was put.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.blocks import NotAskedBlock, RejectionBlock, ScoreBlock, ScoresBlock, TickBlock, offsets_of, scores_of
from schemas.decisions import ScoreSeen
from streams.core.entitled import Entitled
from streams.core.held import LIMIT, Failed, Held, What
from streams.core.pending import Pending
from streams.core.watermark import Checkpoint


@dataclass(slots=True)
class Counts:
    """What came that decided nothing. Late: nobody waits for it any more. Untrusted: of a model not configured.

    Refused: too far ahead of raw, or for an offset that is none. Repeated: a second score of a model. Repeats:
    requests that were given the answer of an equal one.
    """

    late: int = 0
    untrusted: int = 0
    refused: int = 0
    repeated: int = 0
    repeats: int = 0


class Joining:
    """Of one partition. `pending` are the requests that wait, by offset: whoever decides adds and takes away.

    `next_raw` is the offset up to which raw is read, `newest` who is entitled to the request before it, `known` are
    all models and versions there are; whoever reads raw keeps them.
    """

    def __init__(self, pending: dict[int, Pending], start: Checkpoint, newest: Entitled) -> None:
        self.counts = Counts()
        self.next_raw = start.raw
        self.newest = newest
        self.known: frozenset[tuple[str, str]] = frozenset()
        self._pending = pending
        self._held = Held()
        self._next_score = start.scores

    def offered(self, block: ScoresBlock, position: int, log_ms: int, now_ms: float) -> Iterable[Pending]:
        """What lies on `scores` at `position` and was appended at `log_ms`; returns who is to be considered for it.

        A rejection is for `rejected`.
        """
        self._read(position)
        match block:
            case ScoreBlock():
                return self._scored(block, position, log_ms, now_ms)
            case NotAskedBlock():
                return self._not_asked(block, position, log_ms, now_ms)
            case RejectionBlock() | TickBlock():
                return ()

    def _scored(self, block: ScoreBlock, position: int, log_ms: int, now_ms: float) -> list[Pending]:
        """Join one block of scores."""
        model, version, newest = block.model, block.version, self.newest
        touched: list[Pending] = []
        if (model, version) not in self.known:
            self.counts.untrusted += 1
            return touched
        trusted = newest.trusts(model, version)
        offsets, errors = offsets_of(block.offsets), block.errors
        if offsets and not errors and self._ahead(first := min(offsets)) and self._ahead(max(offsets)):
            self._held.keep(block, first, position, log_ms)
            return touched
        pendings = self._pending
        for offset, score in zip(offsets, scores_of(block.scores), strict=True):
            pending = pendings.get(offset)
            if pending is None:
                self._hold_or_count(offset, position, model, ScoreSeen(score, version, log_ms))
                continue
            entitled = pending.entitled
            if not (trusted if entitled is newest else entitled.trusts(model, version)):
                self.counts.untrusted += 1
                continue
            seen = pending.scores
            if model in seen:
                self.counts.repeated += 1
                continue
            seen[model] = ScoreSeen(score, version, max(0, log_ms - pending.request.at_ms))
            if len(seen) >= entitled.enough or pending.failed or pending.not_asked or pending.course is not None:
                touched.append(pending)
        for error in errors:
            touched += self._failed(error.offset, block, error.reason, position, now_ms)
        return touched

    def _failed(
        self, offset: int, block: ScoreBlock, reason: str, position: int, now_ms: float
    ) -> tuple[Pending, ...]:
        pending, model = self._pending.get(offset), block.model
        if pending is None:
            self._hold_or_count(offset, position, model, Failed(reason, block.version))
        elif not pending.entitled.trusts(model, block.version):
            self.counts.untrusted += 1
        elif model not in pending.scores:
            pending.failed[model] = reason
            if pending.course is not None:
                pending.course.note(now_ms - pending.request.at_ms, f"{model} fails: {reason}")
            return (pending,)
        return ()

    def _not_asked(self, block: NotAskedBlock, position: int, log_ms: int, now_ms: float) -> Iterator[Pending]:
        """The router passed these models over: do not wait for them."""
        offsets = offsets_of(block.offsets)
        self._keep_ahead(block, offsets, position, log_ms)
        for offset in offsets:
            pending = self._pending.get(offset)
            if pending is not None:
                pending.not_asked.update(dict.fromkeys(block.models, block.reason))
                if pending.course is not None:
                    pending.course.note(now_ms - pending.request.at_ms, f"not asked: {', '.join(block.models)}")
                yield pending

    def rejected(self, block: RejectionBlock, position: int, log_ms: int) -> Iterator[tuple[Pending, str]]:
        """The router could not read these requests; returns those that wait, and why."""
        self._read(position)
        self._keep_ahead(block, [row.offset for row in block.rows], position, log_ms)
        for row in block.rows:
            pending = self._pending.get(row.offset)
            if pending is not None:
                yield pending, row.reason

    def _read(self, position: int) -> None:
        if position >= self._next_score:  # what was held comes a second time
            self._next_score = position + 1

    def _keep_ahead(
        self, block: NotAskedBlock | RejectionBlock, offsets: Iterable[int], position: int, log_ms: int
    ) -> None:
        last = max(offsets, default=-1)
        if self._ahead(last):
            self._held.keep(block, last, position, log_ms)

    def _hold_or_count(self, offset: int, position: int, model: str, what: What) -> None:
        if offset < self.next_raw:
            self.counts.late += 1
        elif not self._ahead(offset):
            self.counts.refused += 1
        else:
            self._held.keep_row(offset, position, model, what)

    def _ahead(self, offset: int) -> bool:
        """Whether raw is still to be read up to this offset, and it is not too far ahead to be kept."""
        return self.next_raw <= offset < self.next_raw + LIMIT

    def caught_up(self) -> Iterable[tuple[ScoresBlock, int, int]]:
        """Blocks that were ahead of raw and are not any more: to be offered again, with position and log time."""
        return self._held.reached(self.next_raw) if self._held else ()

    def take(self, pending: Pending) -> bool:
        """Put to a request what had come before it; whether there was anything."""
        rows = self._held.take(pending.request.offset) if self._held else ()
        for model, what in rows:
            if isinstance(what, Failed):
                if pending.entitled.trusts(model, what.version):
                    pending.failed[model] = what.reason
            elif not pending.entitled.trusts(model, what.version):
                self.counts.untrusted += 1
            else:
                age_ms = max(0, what.age_ms - pending.request.at_ms)
                pending.scores.setdefault(model, ScoreSeen(what.score, what.version, age_ms))
        return bool(rows)

    def skip(self, to: int) -> None:
        """Raw has no records from `next_raw` up to this one: they were deleted, or are a transaction's."""
        if self._held:
            self.counts.refused += self._held.drop(self.next_raw, to)

    def pass_over(self, offset: int) -> None:
        """Nobody waits for what came of this request: it was decided before raw came to it."""
        self.counts.late += len(self._held.take(offset))

    @property
    def position(self) -> int:
        """Where `scores` is to be read on from, so that nothing that is kept here is missed."""
        return self._next_score if self._held.since is None else self._held.since
