"""Some races in full, for the report's look-up: what came when, who answered and why, and what became of it.

They are told in the order of interest, so that what finds no room on the page is missed least: those asked for by
name, those worth looking at (no decision, rejected, the default, the slowest, the most disputed), then all others in
an order drawn by chance, the same each time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agents.cli.races import Found, records_at
from schemas.blocks import Offsets
from schemas.decisions import Decision, decode_decision
from schemas.errors import ConfigurationRefused, UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.ranges import iso
from streams.core.answers import NOBODY, OUTCOMES
from streams.core.label_next import spread
from streams.core.races import Races

MOST = 25_000
"""Stories that are told at most: more have no room on a page."""

OF_A_KIND = 30
VALUE_SHOWN = 400


class Event(msgspec.Struct, frozen=True):
    """What happened so many ms after the request was in the log; `kind` colours it."""

    at_ms: float
    kind: str
    what: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """One race."""

    request_id: str
    ticket: str
    asked: str
    budget_ms: int
    value: str
    events: list[Event]
    without_score: list[str]
    why: str
    truth: str


def stories(root: Path, pipeline: Pipeline, found: Found, wanted: Sequence[str] = ()) -> list[Story]:
    """Those that are wanted (by request id or ticket), then others, at most MOST.

    Raises ConfigurationRefused when one that is wanted is not there.
    """
    races = found.races
    rows = in_order(races, [row for which in wanted for row in _rows_of(races, which)])
    topics = Topics(pipeline.name)
    raw, decisions = (dict[tuple[int, int], Any]() for _ in range(2))
    for number in np.unique(races.partitions[rows]).tolist():
        own = rows[races.partitions[rows] == number]
        at = races.decision_at[own]
        raw |= {
            (number, offset): record
            for offset, record in records_at(root, topics.raw, number, races.offsets[own]).items()
        }
        decided = records_at(root, topics.decisions, number, at[at != NOBODY])
        decisions |= {(number, offset): _decision(record.value) for offset, record in decided.items()}
    return [_story(found, row, raw, decisions) for row in rows.tolist()]


def _decision(value: bytes | None) -> Decision | None:
    try:
        return decode_decision(value or b"")
    except UnreadableRecord:
        return None


def _rows_of(races: Races, which: str) -> list[int]:
    """The rows of an id (a producer may have sent it more than once) or of a ticket."""
    rows = [row for row, request_id in enumerate(races.ids) if request_id == which]
    number, _, offset = which.partition("/")
    if not rows and number.isdecimal() and offset.isdecimal():
        rows = np.flatnonzero((races.partitions == int(number)) & (races.offsets == int(offset))).tolist()
    if not rows:
        raise ConfigurationRefused(
            f"{which}: no request of this range has this id or ticket; give another --since, or ask the topics with "
            "`rendezvous explain`"
        )
    return rows


def in_order(races: Races, wanted: Sequence[int] = ()) -> Offsets:
    """Rows in the order of interest: the wanted ones, those worth looking at, all others; at most MOST."""
    used = np.where(np.isnan(races.answers.used_ms), -1.0, races.answers.used_ms)
    kinds = [~races.decided, *(races.answers.outcome == code for code in range(1, len(OUTCOMES)))]
    chosen = [np.array(wanted, dtype=np.int64), *(np.flatnonzero(kind)[:OF_A_KIND] for kind in kinds)]
    chosen.append(np.argsort(-used, kind="stable")[:OF_A_KIND])
    if len(races.scores) > 1:
        chosen.append(np.argsort(-spread(list(races.scores.values())), kind="stable")[:OF_A_KIND])
    chosen.append(np.random.default_rng(0).permutation(len(races)))
    rows = np.concatenate(chosen).astype(np.int64)
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)][:MOST]


def _story(
    found: Found, row: int, raw: dict[tuple[int, int], Any], decisions: dict[tuple[int, int], Decision | None]
) -> Story:
    races, truths = found.races, found.truths
    number, offset = int(races.partitions[row]), int(races.offsets[row])
    record = raw.get((number, offset))
    decision = decisions.get((number, int(races.decision_at[row])))
    value = b"(taken out of the archive)" if record is None else record.value or b""
    budget_ms = int(races.budgets_ms[row])
    events = [Event(0.0, "raw", "the request is in the log"), Event(float(budget_ms), "deadline", "deadline")]
    for (model, version), scores in races.scores.items():
        if not np.isnan(scores[row]):
            took_ms = float(races.took_ms[model, version][row])
            events.append(Event(took_ms, "score", f"{model} {version} scores {scores[row]:.4f}"))
    if decision is not None:
        events.append(Event(float(races.answers.used_ms[row]), "decision", _answer(decision)))
    failed = {model: "failed" for model, rows in races.failed.items() if rows[row]}
    passed = {model: "passed over by the router" for model, rows in races.not_asked.items() if rows[row]}
    if decision is not None:
        failed |= {model: f"failed: {why}" for model, why in decision.failed.items()}
        passed |= {model: f"passed over: {why}" for model, why in decision.not_asked.items()}
    return Story(
        request_id=races.ids[row],
        ticket=f"{number}/{offset}",
        asked=iso(int(races.at_ms[row])),
        budget_ms=budget_ms,
        value=value[:VALUE_SHOWN].decode(errors="replace") + ("…" if len(value) > VALUE_SHOWN else ""),
        events=sorted(events, key=lambda event: event.at_ms),
        without_score=_together({**passed, **failed}),
        why=decision.reason if decision is not None else "there is no decision in the archive",
        truth=_truth(int(truths.truth[row]), (int(truths.log_ms[row]) - int(races.decided_ms[row])) / 1e3),
    )


def _together(whys: dict[str, str]) -> list[str]:
    """Models that have the same reason, in one line."""
    models: dict[str, list[str]] = {}
    for model, why in whys.items():
        models.setdefault(why, []).append(model)
    return [f"{', '.join(names)}: {why}" for why, names in models.items()]


def _answer(decision: Decision) -> str:
    score = "" if decision.score is None else f", {decision.score:.4f}"
    by = f" by {decision.model}" if decision.model else ""
    extra = [word for word, true in (("standby", decision.standby), ("recovered", decision.recovered)) if true]
    return f"decision: {decision.outcome}{by}{score}{f' ({chr(44).join(extra)})' if extra else ''}"


def _truth(truth: int, after_s: float) -> str:
    return (
        "" if truth == NOBODY else f"it was {'true' if truth else 'false'}, said {after_s:,.0f} s after the decision"
    )
