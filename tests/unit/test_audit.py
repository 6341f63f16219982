"""The checker finds each kind of damage, and nothing where there is none."""

from collections.abc import Callable

import pytest
from msgspec import structs
from msgspec.structs import replace

from schemas.dead_letters import DeadLetter, origin_of
from schemas.decisions import Decision, Ticket, decode_answer, encode_decision
from schemas.errors import UnreadableRecord
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
        found.accepted(offset, 1_000, offset)
    for offset in range(3):
        found.decided(decision(offset), 1_006)
        found.archived(offset, offset)
    return found


def test_a_sound_pipeline_is_sound():
    found = audit().close()
    assert (found.accepted, found.decided, found.archived) == (3, 3, 3)
    assert found.ok
    assert (found.late, found.second_finals, found.behind) == (0, 0, 0)


DAMAGE: dict[str, Callable[[Audit], object]] = {
    "lost": lambda a: a.accepted(3, 1_000, 3),
    "unknown": lambda a: a.decided(decision(7), 1_007),
    "archive_differs": lambda a: (a.accepted(3, 1_000, 3), a.archived(3, 7)),
    "archive_twice": lambda a: a.archived(2, 2),
    "archive_order": lambda a: a.archived(1, 1),
    "archive_unknown": lambda a: a.archived(9, 9),
    "order_errors": lambda a: (a.accepted(3, 989, 3), a.decided(decision(3), 1_006), a.archived(3, 3)),
    "dead_letters_unknown": lambda a: (a.accepted(5, 1_000, 5), a.decided(decision(5), 1_006), a.dead_letter(4)),
    "archive_missing": lambda a: (a.accepted(3, 1_000, 3), a.accepted(4, 1_000, 4), a.archived(4, 4)),
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
    found.accepted(3, 1_000, 3)
    found.decided(replace(decision(3), standby=True), 1_111)
    found.decided(decision(0), 1_200)
    found.decided(replace(decision(1), final=False), 1_200)
    findings = found.close()
    assert (findings.second_finals, findings.late, findings.by_standby, findings.behind) == (1, 1, 1, 1)
    assert findings.worst_late_ms == 11
    assert findings.ok


def test_a_second_record_that_says_something_else_is_counted_apart():
    found = audit()
    found.decided(decision(0, 0.2), 1_007)
    findings = found.close()
    assert (findings.second_finals, findings.conflicting, findings.ok) == (1, 1, True)


def test_decisions_out_of_order_are_an_error_from_ten_milliseconds_on():
    found = Audit()
    for offset, log_ms in enumerate((1_020, 1_010, 1_009)):
        found.accepted(offset, 1_000, offset)
        found.decided(decision(offset), log_ms)
    assert (found.close(archive=False).order_errors, found.findings.ok) == (1, False)


def test_a_hole_in_raw_is_neither_lost_nor_missing():
    found = Audit(first=5)
    for offset in (6, 9):
        found.accepted(offset, 1_000, offset)
        found.decided(decision(offset), 1_006)
        found.archived(offset, offset)
    findings = found.close()
    assert (findings.accepted, findings.decided, findings.lost, findings.archived) == (2, 2, 0, 2)
    assert findings.ok
    found.decided(decision(7), 1_006)
    assert found.close().unknown == 1


def test_a_dead_letter_of_a_raw_record_is_sound():
    found = audit()
    for offset in (0, 2, 3, 900):  # the last ones came while we read
        found.dead_letter(offset)
    assert found.close().ok


def test_a_dead_letter_names_its_origin_or_none():
    letter = DeadLetter("t.raw", 3, 17, "router", "Malformed", "no JSON")
    assert origin_of(letter.headers()) == ("t.raw", 3, 17)
    assert origin_of(replace(letter, offset=-1).headers()) == ("t.raw", 3, -1)
    assert origin_of(letter.headers()[1:]) is None
    assert origin_of([*letter.headers(), ("rendezvous.error.offset", b"x")]) is None
    assert origin_of([("other", None)]) is None


def test_a_checker_reads_of_a_decision_what_a_consumer_reads():
    whole = replace(decision(4), duplicate_of=Ticket(0, 1), standby=True)
    answer = decode_answer(encode_decision(whole))
    assert {name: getattr(whole, name) for name in answer.__struct_fields__} == structs.asdict(answer)
    with pytest.raises(UnreadableRecord):
        decode_answer(b'{"ticket": {"partition": 0}}')


def test_what_retention_took_is_not_missed():
    found = Audit(first=2)
    found.accepted(2, 1_000, 2)
    for offset in range(3):
        found.decided(decision(offset), 1_006)
        found.archived(offset, offset)
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


def test_what_was_taken_out_on_request_or_by_age_is_not_missing_and_anything_else_is():
    found = Audit()
    for offset in range(6):
        found.accepted(offset, 1_000, offset)
        found.decided(decision(offset), 1_006)
    for offset in (1, 5):
        found.archived(offset, offset)
    found.taken_out(1, {2: 2, 3: 99})
    findings = found.close()
    assert (findings.archive_retired, findings.archive_forgotten, findings.archive_missing) == (1, 1, 2)
    assert not findings.ok
