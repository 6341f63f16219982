"""The law: what the logs must say when everything has come to rest."""

from collections import Counter
from collections.abc import Iterator

from schemas.decisions import Decision, Outcome
from schemas.requests import Rejection, Request
from tests.unit.explorer.logs import HORIZON_MS, ORDER, Partition


def judged(logs: Partition, *, first_wins: bool = True) -> Counter[str]:
    """By the law alone, from the logs: who should have repeated whom, and what was answered.

    The first final record of a ticket is its answer. (Without `first_wins`: what a reader finds who takes the last.)
    """
    final: dict[int, Decision] = {}
    counts = Counter(requests=len(logs.raw))
    for decision in logs.decisions.values:
        if not decision.final:
            continue
        known = final.setdefault(decision.ticket.offset, decision)
        if known is not decision:
            counts["second"] += 1
            counts["contradicting"] += _answer(known) != _answer(decision)
            if not first_wins:
                final[decision.ticket.offset] = decision
    for request, first in _firsts(logs.raw.values):
        decision = final.get(request.offset)
        counts["repeats"] += first is not None
        counts["lost"] += decision is None
        if decision is not None:
            counts["by standby"] += decision.standby
            counts["recovered"] += decision.recovered
            counts["conflicting"] += _conflict(final, decision, request, first)
    return counts + offered(logs)


def offered(logs: Partition) -> Counter[str]:
    """What was said before the final record, and what should not have been said."""
    counts: Counter[str] = Counter()
    last: dict[int, Decision] = {}
    for decision in logs.decisions.values:
        before = last.get(decision.ticket.offset)
        if before is not None and before.final:
            counts["offers after the final"] += not decision.final
            continue
        last[decision.ticket.offset] = decision
        counts["offers"] += not decision.final
        if before is not None and decision.duplicate_of is None:
            counts["refined"] += 1
            counts["revisions that do not grow"] += decision.revision <= before.revision
            counts["taken back"] += ORDER.index(decision.model) > ORDER.index(before.model)
    return counts


def _firsts(requests: list[Request | Rejection]) -> Iterator[tuple[Request | Rejection, Request | None]]:
    """Each request with the one it repeats, by id and payload within the horizon."""
    origin: dict[tuple[str, bytes], Request] = {}
    for request in requests:
        if isinstance(request, Rejection):
            yield request, None
            continue
        first = origin.get((request.request_id, request.value))
        if first is None or first.at_ms < request.at_ms - HORIZON_MS:
            origin[request.request_id, request.value] = request
            first = None
        yield request, first


def _answer(decision: Decision) -> tuple[object, ...]:
    return decision.outcome, decision.model, decision.version, decision.score


def _conflict(
    final: dict[int, Decision], decision: Decision, request: Request | Rejection, first: Request | None
) -> bool:
    if isinstance(request, Rejection) is not (decision.outcome is Outcome.REJECTED):
        return True
    if first is None:
        return decision.duplicate_of is not None
    answer = final.get(first.offset)
    if answer is None:
        return False  # that is lost, and counted so
    named = decision.duplicate_of is not None and decision.duplicate_of.offset == first.offset
    return not named or _answer(decision) != _answer(answer)
