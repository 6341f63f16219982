"""The rendezvous of one partition: scores meet their request here; each request is decided exactly once.

Reads no clock and sends nothing: pass the time in (ms on the broker's clock), publish what comes back, and say
what was published. Who is given which score is `joining`, what a request comes to by then is `deciding`; when it
leaves, and that it leaves once, is here.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from msgspec.structs import replace

from schemas.blocks import RejectionBlock, ScoresBlock
from schemas.decisions import Decision
from schemas.pipeline import Pipeline, PolicyKind
from schemas.requests import Rejection, Request
from streams.core.course import Course, has_wishes, wishes
from streams.core.deciding import Deciding
from streams.core.entitled import Entitled
from streams.core.entitlement import PerSpan, Spans, always
from streams.core.joining import Joining
from streams.core.lead import last_of
from streams.core.learned import NOTHING, Learned
from streams.core.patience import Patience, grace_of
from streams.core.pending import Explanation, Pending, Reply
from streams.core.repeats import Known, Repeats, logged, repeatable
from streams.core.watermark import BEGINNING, Checkpoint, Watermark


class Rendezvous:
    """Joins requests and scores of one partition and decides when each request is answered.

    `from_log` is for those that are told of every record of decisions, their own too, as a standby always is: a
    repeat is then answered from the log alone, with what its first's first record says, whatever a twin has said.
    `looks` is for a standby whose desk says up to when decisions were read (`read_to`).
    `spans` says who may answer which requests, by their log time; without it, the pipeline's models answer all.
    `learned` says what a bandit knew by then.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        partition: int,
        start: Checkpoint = BEGINNING,
        lead_ms: float = 0.0,
        grace_ms: float = 0.0,
        *,
        from_log: bool = False,
        looks: bool = False,
        spans: Spans | None = None,
        learned: Learned = NOTHING,
    ) -> None:
        self._grace_ms = grace_ms
        self._patience = Patience(grace_ms, looks=looks)
        self._looks = looks
        self._held_up: list[int] = []
        self._from_log = from_log or grace_ms > 0
        self._partition = partition
        self._entitlements = PerSpan(spans or always(pipeline), Entitled)
        self._refine = pipeline.policy.refine
        self._learned = learned
        kinds = (PolicyKind.COMBINE, PolicyKind.WEIGHTED, PolicyKind.BANDIT, PolicyKind.RULES)
        self._special = bool(pipeline.policy.guards or self._refine or pipeline.policy.kind in kinds)
        self._said: dict[int, Decision] = {}
        self._explain = Explanation(pipeline, partition, standby=grace_ms > 0)
        guards = {guard.model: guard for guard in pipeline.policy.guards}
        self._deciding = Deciding(self._explain, guards, lead_ms, offers=not grace_ms)
        self._repeats = Repeats(pipeline.request.repeat_s)
        self._followers: dict[int, list[int]] = {}
        self._decided: dict[int, Known | None] = {}  # ahead of raw
        self._pending: dict[int, Pending] = {}
        self._joining = Joining(self._pending, start, self._entitlements.at(start.at_ms))
        self._joining.known = self._entitlements.versions
        self._timers: list[tuple[float, int]] = []
        self._watermark = Watermark(start)
        self.counts = self._joining.counts

    def entitle(self, spans: Spans) -> None:
        """More of the roster's history is known: it counts for requests that are seen from now on."""
        self._entitlements.follow(spans)
        self._joining.known = self._entitlements.versions

    def learn(self, learned: Learned) -> None:
        """More of the tallies' log is known: it counts for requests that are seen from now on."""
        self._learned = learned

    def requests_seen(self, requests: Iterable[Request | Rejection], now_ms: float) -> list[Reply]:
        """Take note of raw records, in offset order; a rejection is answered at once."""
        replies: list[Reply] = []
        overdue: list[Pending] = []
        first, joining, entitled = True, self._joining, self._joining.newest
        order, still_open = self._watermark.order, self._watermark.open
        for request in requests:
            offset = request.offset
            if offset < joining.next_raw:
                continue  # a batch that is tried again
            if first:
                self._watermark.mark(offset, request.at_ms, joining.position)
                first = False
            if offset != joining.next_raw:
                self._skip(offset)
            joining.next_raw = offset + 1
            if self._decided and offset in self._decided:
                self._remember(offset)
                joining.pass_over(offset)
                continue
            order.append(offset)
            still_open.add(offset)
            # A log time ahead of our clock must not lengthen the wait.
            start_ms = min(request.at_ms, now_ms)
            entitled = self._entitlements.at(request.at_ms)
            pending = self._pending[offset] = Pending(request, start_ms, start_ms + request.budget_ms, entitled)
            if isinstance(request, Rejection):
                self._settle(pending, self._explain.rejected(pending, request.reason, now_ms), now_ms, replies)
            else:
                self._begin(pending, request, now_ms, replies, overdue)
        joining.newest = entitled
        for block, position, log_ms in joining.caught_up():
            replies += self.scores_offered(block, position, log_ms, now_ms)
        for pending in overdue:
            if pending.request.offset in self._pending:
                self._consider(pending, now_ms, replies, arm=True)
        return replies

    def _skip(self, to: int) -> None:
        """Raw has no records from its next offset up to this one: they were deleted, or are a transaction's."""
        here, ahead = self._joining.next_raw, self._decided
        self._joining.skip(to)
        # A transaction's end is a hole too: most are short, and what was decided ahead may be much.
        holes = range(here, to) if to - here < len(ahead) else sorted(offset for offset in ahead if offset < to)
        for offset in holes:
            if offset in ahead:
                self._remember(offset)

    def _remember(self, offset: int) -> None:
        """Raw has come to a request that was decided ahead of it; it may be repeated from now on."""
        known = self._decided.pop(offset)
        if known is not None:
            self._repeats.read_back(known)

    def _begin(
        self, pending: Pending, request: Request, now_ms: float, replies: list[Reply], overdue: list[Pending]
    ) -> None:
        """Let a request wait; time alone decides for those that are `overdue`, once all that is held was joined."""
        known = self._repeats.seen(request, self._partition)
        if known is not None and known.offset != request.offset:
            self._repeat(pending, request, known, now_ms, replies)
            return
        pending.known = known
        change = pending.entitled.first_change
        if self._special or self._said or (request.headers and has_wishes(request.headers)):
            change = self._set_course(pending, request, now_ms)
        if self._joining.take(pending):
            self._consider(pending, now_ms, replies, arm=True)
        elif now_ms < (due_ms := self._deciding.due_ms(pending, change)):
            heappush(self._timers, (due_ms, request.offset))  # nothing has come: only time can tell
        else:
            overdue.append(pending)

    def _set_course(self, pending: Pending, request: Request, now_ms: float) -> float:
        """Give a request what it, or the pipeline, wants beside the plan; returns when time first decides."""
        refine, traced = wishes(request.headers, refine=self._refine)
        said = self._said.pop(request.offset, None)
        entitled = pending.entitled
        if not (self._special or refine or traced or said):
            return entitled.first_change
        branch, plan = entitled.branches.of(request, self._learned) if entitled.branches else (None, entitled.plan)
        course = pending.course = Course(plan, branch, refine, [] if traced else None)
        course.note(now_ms - request.at_ms, f"read, branch {branch}" if branch else "read")
        if said is not None:
            pending.scores = {m: seen for m, seen in said.scores.items() if entitled.trusts(m, seen.version)}
            course.resume(said)
        return plan.first_change

    def _repeat(self, pending: Pending, request: Request, known: Known, now_ms: float, replies: list[Reply]) -> None:
        """A repeat has no time of its own: it is answered when its first is."""
        self.counts.repeats += 1
        pending.first = known
        if known.logged or (known.outcome and not self._from_log):
            self._settle(pending, self._explain.repeated(request, known, now_ms), now_ms, replies)
        else:
            self._followers.setdefault(known.offset, []).append(request.offset)

    def decided(self, decision: Decision, now_ms: float) -> list[Reply]:
        """A decision of this partition is in the log: of an earlier life, or of a twin.

        After a final one nothing more is said about its ticket; what comes back are answers to repeats of it. After
        another one only better ones are.
        """
        offset = decision.ticket.offset
        self._patience.heard(decision, now_ms)
        if not decision.final:
            self._was_said(decision)
            return []
        self._said.pop(offset, None)
        self._pending.pop(offset, None)
        self._watermark.open.discard(offset)
        if offset >= self._joining.next_raw:
            self._decided.setdefault(offset, logged(decision) if repeatable(decision) else None)
            return []
        replies: list[Reply] = []
        known = logged(decision)
        if repeatable(decision):
            known = self._repeats.read_back(known)
        if self._followers:
            self._answer_followers(known, now_ms, replies)
        return replies

    def _was_said(self, decision: Decision) -> None:
        """A revision that is not final. It is kept until its request is read again."""
        offset = decision.ticket.offset
        pending = self._pending.get(offset)
        if pending is not None and pending.course is not None:
            pending.course.resume(decision)
        elif offset >= self._joining.next_raw and offset not in self._decided:
            said = self._said.get(offset)
            if said is None or said.revision < decision.revision:
                self._said[offset] = decision

    @property
    def ahead(self) -> int:
        """How many tickets that raw has not come to have a decision in the log."""
        return len(self._decided) + len(self._said)

    def raw_ends(self, end: int) -> None:
        """Raw had no record from here on after all that is ahead was read: who decided those, decided nothing."""
        self._decided = {offset: known for offset, known in self._decided.items() if offset < end}
        self._said = {offset: said for offset, said in self._said.items() if offset < end}

    def scores_offered(self, block: ScoresBlock, position: int, log_ms: int, now_ms: float) -> list[Reply]:
        """Take note of what lies on `scores` at `position` and was appended at `log_ms`."""
        replies: list[Reply] = []
        if isinstance(block, RejectionBlock):
            for pending, reason in self._joining.rejected(block, position, log_ms):
                self._settle(pending, self._explain.rejected(pending, reason, now_ms), now_ms, replies)
        else:
            for pending in self._joining.offered(block, position, log_ms, now_ms):
                if pending.request.offset in self._pending:  # it may have been considered for another row of this
                    self._consider(pending, now_ms, replies)
        return replies

    def due(self, now_ms: float) -> list[Reply]:
        """Decide what time alone decides: a step of the schedule that ended, a deadline."""
        replies: list[Reply] = []
        timers = self._timers
        while timers and timers[0][0] <= now_ms:
            pending = self._pending.get(heappop(timers)[1])
            if pending is not None:
                self._consider(pending, now_ms, replies, arm=True)
        return replies

    @property
    def next_due_ms(self) -> float | None:
        """When `due` has something to look at next; None when nothing waits."""
        timers = self._timers
        while timers and timers[0][1] not in self._pending:
            heappop(timers)
        return timers[0][0] if timers else None

    def published(self, offsets: Iterable[int]) -> None:
        """The final decisions of these requests are confirmed by the broker. (Not those that are not final.)"""
        self._watermark.confirmed(offsets)

    def read_to(self, as_of_ms: float, now_ms: float) -> list[Reply]:
        """What decisions held at this moment (ms) was read: what was kept back for want of that may leave."""
        self._patience.read_to(as_of_ms)
        held_up, self._held_up = self._held_up, []
        replies: list[Reply] = []
        for offset in held_up:
            if (pending := self._pending.get(offset)) is not None:
                self._consider(pending, now_ms, replies)
        return replies

    @property
    def heard_at_ms(self) -> float:
        """When a decision of the owner's was read last."""
        return self._patience.heard_at_ms

    @property
    def undecided(self) -> int:
        """Requests without a decision."""
        return len(self._pending)

    def oldest_overdue_ms(self, now_ms: float) -> float:
        """How long ago the first undecided request should have been decided: a rendezvous that works has 0."""
        due = self.next_due_ms
        return max(0.0, now_ms - due) if due is not None else 0.0

    def checkpoint(self) -> Checkpoint:
        """The low watermark of requests without a confirmed decision, and the score position that belongs to it."""
        return self._watermark.checkpoint(self._joining.next_raw, self._joining.position)

    def _consider(self, pending: Pending, now_ms: float, replies: list[Reply], *, arm: bool = False) -> None:
        """Decide now, or (arm) set the timer for the next moment at which time alone decides."""
        if pending.ready is not None:
            if now_ms >= pending.leave_ms:
                self._let_leave(pending, pending.ready, now_ms, replies)
            return
        if pending.first is not None:
            return
        course = pending.course
        if course is None:
            reply = self._deciding.answer(pending, now_ms)
        else:
            reply = self._deciding.follow(pending, course, now_ms, timer=arm)
        if reply is not None and reply.decision.final:
            self._settle(pending, reply, now_ms, replies)
            return
        if reply is not None:
            replies.append(reply)
        if arm:
            heappush(self._timers, (self._deciding.next_due_ms(pending, now_ms), pending.request.offset))

    def _settle(self, pending: Pending, reply: Reply, now_ms: float, replies: list[Reply]) -> None:
        """Here is the answer: it leaves at once; a standby keeps it back for the owner's sake.

        It decides when the owner does, so that both say the same, and lets it leave a grace later, but no later than
        `_last_ms`.
        """
        if self._grace_ms:
            pending.ready = reply
            grace_ms = grace_of(self._grace_ms, pending.request.budget_ms)
            pending.leave_ms = min(now_ms + grace_ms, max(now_ms, self._last_ms(pending)))
            if pending.leave_ms > now_ms:
                heappush(self._timers, (pending.leave_ms, pending.request.offset))
                return
        self._leave(pending, reply, now_ms, replies)

    def _last_ms(self, pending: Pending) -> float:
        """Until when a standby leaves it to the owner."""
        return pending.deadline_ms + last_of(self._deciding.lead_ms(pending))

    def keep_back(self, reply: Reply, leave_ms: float) -> None:
        """Say it at `leave_ms`, unless a twin's decision of this request was read by then."""
        request = reply.request
        offset, deadline_ms = request.offset, request.at_ms + reply.decision.budget_ms
        entitled = self._entitlements.at(request.at_ms)
        self._pending[offset] = Pending(request, request.at_ms, deadline_ms, entitled, ready=reply, leave_ms=leave_ms)
        heappush(self._timers, (leave_ms, offset))

    def _let_leave(self, pending: Pending, ready: Reply, now_ms: float, replies: list[Reply]) -> None:
        """What was kept back leaves now, unless a twin's own may still be on its way."""
        leave_ms, last_ms = pending.leave_ms, self._last_ms(pending)
        again_ms = self._patience.until_ms(leave_ms, last_ms, pending.request.budget_ms, now_ms)
        if again_ms > now_ms:
            heappush(self._timers, (again_ms, pending.request.offset))
            if self._looks:
                self._held_up.append(pending.request.offset)
            return
        if pending.course is not None and pending.course.revision > ready.decision.revision:
            ready = Reply(replace(ready.decision, revision=pending.course.revision), ready.request)
        self._leave(pending, ready, now_ms, replies)

    def _leave(self, pending: Pending, reply: Reply, now_ms: float, replies: list[Reply]) -> None:
        del self._pending[pending.request.offset]
        replies.append(reply)
        if (known := pending.known) is not None:
            known.take(reply.decision)
            if self._followers and not self._from_log:
                self._answer_followers(known, now_ms, replies)

    def _answer_followers(self, known: Known, now_ms: float, replies: list[Reply]) -> None:
        for offset in self._followers.pop(known.offset, ()):
            follower = self._pending.get(offset)
            if follower is not None and follower.ready is None and isinstance(follower.request, Request):
                self._settle(follower, self._explain.repeated(follower.request, known, now_ms), now_ms, replies)
