"""Some races in full, for the report's look-up: what came when, who answered and why, and what became of it.

The sample holds what somebody would ask for (no decision, rejected, the default, the slowest, the most disputed) and
requests from all over the range. The page's script builds its text by `textContent` alone: ids are anybody's words.
"""

from html import escape
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agents.cli.races import Found, records_at
from schemas.blocks import Offsets
from schemas.decisions import Decision, decode_decision
from schemas.errors import UnreadableRecord
from schemas.pipeline import Pipeline
from schemas.topics import Topics
from streams.archive.ranges import iso
from streams.core.answers import NOBODY, OUTCOMES
from streams.core.label_next import spread
from streams.core.races import Races

SAMPLE = 240
OF_A_KIND = 30
VALUE_SHOWN = 400
PRINTED = 3


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


def stories(root: Path, pipeline: Pipeline, found: Found) -> list[Story]:
    """The sample, told; in the order of the log."""
    races = found.races
    rows = sample(races)
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


def sample(races: Races) -> Offsets:
    """Rows worth looking at first, then rows from all over the range; rising."""
    used = np.where(np.isnan(races.answers.used_ms), -1.0, races.answers.used_ms)
    kinds = [~races.decided, *(races.answers.outcome == code for code in range(1, len(OUTCOMES)))]
    chosen = [np.flatnonzero(kind)[:OF_A_KIND] for kind in kinds]
    chosen.append(np.argsort(-used, kind="stable")[:OF_A_KIND])
    if len(races.scores) > 1:
        chosen.append(np.argsort(-spread(list(races.scores.values())), kind="stable")[:OF_A_KIND])
    picked = np.unique(np.concatenate(chosen)).astype(np.int64)
    left = max(0, min(SAMPLE, len(races)) - len(picked))
    everywhere = np.linspace(0, len(races) - 1, left, dtype=np.int64)
    return np.unique(np.concatenate([picked, everywhere])).astype(np.int64)


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


def looked_up(told: list[Story]) -> str:
    """The look-up as HTML: a field with the sample's ids, the chosen race, and for paper the first few."""
    options = "".join(f'<option value="{escape(one.request_id)}">{escape(one.ticket)}</option>' for one in told)
    data = msgspec.json.encode(told).decode().replace("<", "\\u003c")
    shown = "".join(map(printed, _for_paper(told)))
    return (
        f'<p class="note">A sample of {len(told):,} requests is in this page: those without a decision, defaults and '
        "fallbacks, the slowest, those most disputed between models, and others from all over the range. For others, "
        "<code>rendezvous explain REQUEST_ID</code>.</p>"
        '<p class="look"><label>Request id or ticket: '
        '<input id="which" list="ids" size="40" autocomplete="off"></label> '
        '<span id="found" role="status"></span></p>'
        f'<datalist id="ids">{options}</datalist><div id="story">{shown}</div>'
        f'<script type="application/json" id="stories">{data}</script><script>{SCRIPT}</script>'
    )


def _for_paper(told: list[Story]) -> list[Story]:
    """What is shown before somebody asks: one of each kind of answer, as far as there are."""
    kinds: dict[str, Story] = {}
    for one in told:
        kind = next((event.what.partition(",")[0] for event in one.events if event.kind == "decision"), "none")
        kinds.setdefault(kind, one)
    return [*kinds.values()][:PRINTED]


def printed(one: Story) -> str:
    """A race as HTML, like the page's script makes it."""
    span = max(1.0, one.events[-1].at_ms)
    rows = "".join(
        f'<tr><td>{event.at_ms:,.0f} ms</td><td class="bar"><i class="{event.kind}" '
        f'style="margin-left:{96 * event.at_ms / span:.1f}%"></i></td><td>{escape(event.what)}</td></tr>'
        for event in one.events
    )
    more = [*one.without_score, f"why: {one.why}", *([one.truth] if one.truth else [])]
    return (
        f"<article><h3>{escape(one.request_id)} <small>ticket {one.ticket}, {one.asked}</small></h3>"
        f'<code>{escape(one.value)}</code><table class="race">{rows}</table>'
        f"{''.join(f'<p>{escape(line)}</p>' for line in more)}</article>"
    )


SCRIPT = """
(() => {
  const stories = JSON.parse(document.getElementById('stories').textContent);
  const which = document.getElementById('which'), place = document.getElementById('story');
  const found = document.getElementById('found');
  const make = (tag, text, parent, name) => {
    const one = document.createElement(tag);
    if (text) one.textContent = text;
    if (name) one.className = name;
    parent.append(one);
    return one;
  };
  const show = (story) => {
    place.replaceChildren();
    const box = make('article', '', place), head = make('h3', story.request_id + ' ', box);
    make('small', `ticket ${story.ticket}, ${story.asked}`, head);
    make('code', story.value, box);
    const table = make('table', '', box, 'race');
    const span = Math.max(1, story.events[story.events.length - 1].at_ms);
    for (const event of story.events) {
      const row = make('tr', '', table);
      make('td', `${Math.round(event.at_ms).toLocaleString('en')} ms`, row);
      make('i', '', make('td', '', row, 'bar'), event.kind).style.marginLeft = `${96 * event.at_ms / span}%`;
      make('td', event.what, row);
    }
    for (const line of [...story.without_score, 'why: ' + story.why, story.truth]) if (line) make('p', line, box);
  };
  which.addEventListener('input', () => {
    const text = which.value.trim();
    const story = stories.find((one) => one.request_id === text || one.ticket === text);
    found.textContent = story || !text ? '' : 'not in the sample';
    if (story) show(story);
  });
})();
"""
