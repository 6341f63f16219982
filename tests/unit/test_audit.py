"""The checker finds each kind of damage, and nothing where there is none."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from schemas.decisions import Decision
from streams.core.audit import Audit, Findings, digest_of, total
from streams.core.rendezvous import Rendezvous
from tests.unit.small import pipeline, request, scores


def decision(offset: int, score: float = 0.7) -> Decision:
    core = Rendezvous(pipeline(), 0)
    core.requests_seen([request(offset)], 1_000)
    (reply,) = core.scores_offered(scores("first", offset, score=score), 0, 1_004, 1_005)
    return reply.decision


def audit() -> Audit:
    """Three requests, all decided and archived."""
    found = Audit()
    for offset in range(3):
        found.accepted(offset, 1_000, b"%d" % offset)
    for offset in range(3):
        found.decided(decision(offset), 1_006)
        found.archived(offset, b"%d" % offset)
    return found


def test_a_sound_pipeline_is_sound():
    found = audit().close()
    assert (found.accepted, found.decided, found.archived) == (3, 3, 3)
    assert found.ok
    assert (found.late, found.second_finals, found.behind) == (0, 0, 0)


DAMAGE: dict[str, Callable[[Audit], object]] = {
    "lost": lambda a: a.accepted(3, 1_000, b"3"),
    "unknown": lambda a: a.decided(decision(7), 1_007),
    "archive_differs": lambda a: (a.accepted(3, 1_000, b"3"), a.archived(3, b"x")),
    "archive_twice": lambda a: a.archived(2, b"2"),
    "archive_order": lambda a: a.archived(1, b"1"),
    "archive_unknown": lambda a: a.archived(9, b"9"),
    "archive_missing": lambda a: (a.accepted(3, 1_000, b"3"), a.accepted(4, 1_000, b"4"), a.archived(4, b"4")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_damage_is_counted_under_its_name(kind: str):
    found = audit()
    DAMAGE[kind](found)
    findings = found.close()
    assert getattr(findings, kind) == 1
    assert not findings.ok


def test_what_harms_nobody_is_counted_and_sound():
    found = audit()
    found.decided(decision(0), 1_200)
    found.decided(replace(decision(1), final=False), 1_200)
    found.accepted(3, 1_000, b"3")
    found.decided(replace(decision(3), standby=True), 1_111)
    findings = found.close()
    assert (findings.second_finals, findings.late, findings.by_standby, findings.behind) == (1, 1, 1, 1)
    assert findings.worst_late_ms == 11
    assert findings.ok


def test_a_second_record_that_says_something_else_is_counted_apart():
    found = audit()
    found.decided(decision(0, 0.2), 1_007)
    findings = found.close()
    assert (findings.second_finals, findings.conflicting, findings.ok) == (1, 1, True)


def test_what_retention_took_is_not_missed():
    found = Audit(first=2)
    found.accepted(2, 1_000, b"2")
    for offset in range(3):
        found.decided(decision(offset), 1_006)
        found.archived(offset, b"%d" % offset)
    findings = found.close()
    assert (findings.unknown, findings.archived, findings.ok) == (0, 1, True)


def test_partitions_add_up():
    findings = total([audit().close(), replace(Findings(), lost=2, worst_late_ms=5.0, damaged=["a file"])])
    assert (findings.accepted, findings.lost, findings.worst_late_ms, findings.damaged) == (3, 2, 5.0, ["a file"])


@pytest.mark.parametrize(
    "other",
    [
        (1, b"k", b"v", [("h", b"1")]),
        (0, b"kv", b"", [("h", b"1")]),
        (0, None, b"v", [("h", b"1")]),
        (0, b"k", b"v", [("h", None)]),
        (0, b"k", b"v", None),
        (0, b"k", b"v", [("h1", b"")]),
    ],
)
def test_any_difference_is_another_digest(other: tuple):
    assert digest_of(*other) != digest_of(0, b"k", b"v", [("h", b"1")])
