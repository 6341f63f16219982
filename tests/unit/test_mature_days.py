"""What labels say of mature days is beside each verdict: the last day of each model, and whether it is a worse one."""

import numpy as np
import pytest
from msgspec import json
from msgspec.structs import replace

from schemas.pipeline import LabelSettings, MonitorSettings
from schemas.rights import rights_of
from schemas.topics import Topics
from schemas.verdicts import OfLabels, Reported
from streams.core.intervals import share_of
from streams.core.judged import Judged
from streams.core.mature_days import BEFORE, NO_DAYS, MatureDays, with_labels
from streams.core.measures import measures
from tests.unit.small import pipeline
from tests.unit.test_webhook import REPORT

NAMES = ("first", "second")
ROWS = 1_000


def figures(day: int, right: float, model: str = "first", version: str = "1", value: str = "") -> Judged:
    """Of one day of November, on which so many of 1,000 were answered rightly."""
    truth = np.r_[np.ones(ROWS // 2, np.int8), np.zeros(ROWS // 2, np.int8)]
    scores = np.where(np.arange(ROWS) % 100 < 100 * right, truth, 1 - truth).astype(float)
    return Judged(
        day=f"2025-11-{day:02}", field="colour" if value else "", value=value, state="mature", requests=ROWS,
        labelled=ROWS, coverage=1.0, threshold=0.5, model=model, version=version,
        measures=measures(scores, truth, np.ones(ROWS), 0.5, None),
    )  # fmt: skip


def known(*told: Judged) -> MatureDays:
    found = NO_DAYS
    for offset, one in enumerate(told):
        found = found.after(json.encode(one), offset)
    return found


def said(*told: Judged) -> tuple[list[OfLabels], list[str]]:
    report: Reported = with_labels(REPORT, known(*told), NAMES)
    return report.evidence.labels, report.notes


def test_each_model_has_its_last_mature_day_in_the_evidence_whatever_the_order_they_were_told_in():
    days = [
        figures(3, 0.8),
        figures(1, 0.8),
        figures(2, 0.8),
        figures(2, 0.7, "second"),
        figures(2, 0.8, "(decision)"),
    ]
    labels, notes = said(*days, figures(9, 0.5, "retired long ago"))
    assert [(one.model, one.day, one.labelled, one.accuracy.value, one.days_before) for one in labels] == [
        ("(decision)", "2025-11-02", ROWS, 0.8, 0),
        ("first", "2025-11-03", ROWS, 0.8, 2),
        ("second", "2025-11-02", ROWS, 0.7, 0),
    ]
    assert not any(one.worse for one in labels)
    assert notes == REPORT.notes == []


def test_a_day_wholly_below_those_before_is_a_notice_and_no_alarm():
    labels, [note] = said(figures(1, 0.8), figures(2, 0.8), figures(3, 0.7))
    assert [(one.day, one.worse) for one in labels] == [("2025-11-03", True)]
    assert note == (
        "by its labels first 1 was right less often on 2025-11-03 than before: 70.0 % (67.1 % to 72.8 %) of 1,000, "
        "and 80.0 % (78.2 % to 81.7 %) on 2 mature days before"
    ).replace(" %", "%")
    found = with_labels(REPORT, known(figures(1, 0.8), figures(2, 0.7)), NAMES)
    assert (found.verdict, found.severity, found.alarm) == (REPORT.verdict, REPORT.severity, REPORT.alarm)


@pytest.mark.parametrize(
    ("before", "last"),
    [([], 0.3), ([0.8], 0.78), ([0.8], 0.95), ([0.9, 0.7, 0.9, 0.7], 0.66), ([0.8, 0.8, 0.8], 0.77)],
)
def test_without_days_before_within_their_interval_or_above_it_nothing_is_said(before: list[float], last: float):
    """Days that differ among themselves make one that differs no news."""
    labels, notes = said(*(figures(day, right) for day, right in enumerate([*before, last], 1)))
    assert (labels[0].worse, notes) == (False, [])


def test_a_version_is_held_against_its_own_days_only():
    labels, notes = said(figures(1, 0.9), figures(2, 0.9), figures(3, 0.7, version="2"))
    assert [(one.version, one.day, one.days_before, one.worse) for one in labels] == [("2", "2025-11-03", 0, False)]
    assert notes == []


def test_days_of_long_ago_segments_and_days_told_again_count_for_nothing():
    days = [figures(day, 0.8) for day in range(1, 31)]
    again = known(*days, *days, figures(31, 0.2, value="red"))
    assert again.read == 61
    [one] = again.last_of(NAMES)
    assert (one.day, one.days_before) == ("2025-11-30", BEFORE)
    assert one.before is not None
    wilson = share_of(0.8, BEFORE * ROWS)
    assert (one.before.low, one.before.high) == (wilson.low, wilson.high)


def test_what_is_no_figures_is_counted_and_said_and_the_next_day_counts():
    found = NO_DAYS
    for offset, value in enumerate(
        [None, b"{", b'{"day": 1}', b'{"day": "2025-11-01"}', json.encode(figures(2, 0.8))]
    ):
        found = found.after(value, offset)
    report = with_labels(REPORT, found, NAMES)
    assert [one.day for one in report.evidence.labels] == ["2025-11-02"]
    assert report.notes == ["4 records of quality are no figures: passed over"]


def test_a_day_without_labels_of_a_model_is_none_of_it():
    bare = figures(2, 0.8)
    unknown = measures(np.full(ROWS, 0.5), np.full(ROWS, -1, np.int8), np.ones(ROWS), 0.5, None)
    labels, _ = said(figures(1, 0.8), replace(bare, measures=unknown))
    assert [one.day for one in labels] == ["2025-11-01"]


def test_the_monitor_may_read_them_where_there_are_any():
    own = pipeline(labels=LabelSettings(expected=0.8), monitor=MonitorSettings())
    assert Topics("small").quality in {topic.name for topic in rights_of(own, "monitor").reads}
    assert Topics("small").quality not in {topic.name for topic in rights_of(own, "monitor").writes}
