"""Requests looked up on the page: a field for an id or ticket, the race that it names, and for paper the first few.

The stories lie in the page compressed, as many as have room, and the browser unpacks them by itself (every one since
2023 has `DecompressionStream`): field by field in the order of the log, a third smaller than story by story in the
order of interest. The script builds its text by `textContent` alone: ids are anybody's words.
"""

import base64
import gzip
from collections.abc import Collection, Sequence
from html import escape

import msgspec

from agents.cli.report_page import note
from agents.cli.report_stories import Event, Story

PRINTED = 3

STYLE = """<style>
table.race { width: 100%; } table.race td { border: 0; padding: .05rem .5rem; text-align: left; }
table.race td:first-child { width: 5rem; text-align: right; white-space: nowrap; }
td.bar { width: 45%; background: #f4f4f4; }
td.bar i { display: block; width: 4%; min-width: 6px; height: .7rem; background: #888; }
td.bar i.score { background: #0072B2; } td.bar i.decision { background: #009E73; }
td.bar i.deadline { background: #D55E00; }
article { border: 1px solid #ddd; border-radius: 4px; padding: .4rem .8rem; margin: .8rem 0; break-inside: avoid; }
article h3 { font-size: 1rem; margin: .2rem 0; overflow-wrap: anywhere; } article p { margin: .2rem 0; }
article code { overflow-wrap: anywhere; color: #555; font-size: .8rem; } small { font-weight: normal; color: #555; }
p.look input { width: 22rem; max-width: 100%; box-sizing: border-box; font: inherit; }
@media print { p.look { display: none; } td.bar, td.bar i { print-color-adjust: exact; } }
</style>"""


def looked_up(told: Sequence[Story], requests: int, wanted: Collection[str], room: int) -> str:
    """The look-up as HTML, in at most about `room` bytes; the wanted ids and tickets are shown before anybody asks.

    `told` are stories in the order of interest, of so many requests in all.
    """
    named = [one for one in told if one.request_id in wanted or one.ticket in wanted]
    shown = named or _one_of_each(told)
    html = "".join(map(printed, shown))
    data, count = packed(told, room - len(html.encode()) - len(SCRIPT) - len(STYLE))
    if count == requests:
        what = f"All {requests:,} requests are in this page, each with the story of its race."
    else:
        what = (
            f"{count:,} of {requests:,} requests are in this page: those without a decision, defaults and fallbacks, "
            "the slowest, those most disputed between models, and others drawn by chance. For any other, rendezvous "
            "report --request REQUEST_ID, or rendezvous explain REQUEST_ID."
        )
    return (
        f'{STYLE}{note(what)}<p class="look"><label>Request id or ticket: '
        '<input id="which" list="ids" autocomplete="off" spellcheck="false"></label> '
        '<span id="found" role="status"></span></p>'
        f'<datalist id="ids"></datalist><div id="story">{html}</div>'
        f'<script type="text/plain" id="stories">{data}</script><script>{SCRIPT}</script>'
    )


def packed(told: Sequence[Story], room: int) -> tuple[str, int]:
    """As many of the first stories as have room: JSON by field, gzip, base64; and how many these are."""
    count = len(told)
    while True:
        kept = sorted(told[:count], key=_place)
        columns = {name: [getattr(one, name) for one in kept] for name in Story.__struct_fields__ if name != "events"}
        for name in Event.__struct_fields__:
            columns[name] = [[getattr(event, name) for event in one.events] for one in kept]
        # No time in it: two reports have the same bytes.
        data = base64.b64encode(gzip.compress(msgspec.json.encode(columns), mtime=0))
        if len(data) <= room or not count:
            return data.decode(), count
        count = min(count - 1, int(0.98 * count * max(0, room) / len(data)))


def _place(one: Story) -> list[int]:
    """Where in the log."""
    return [int(number) for number in one.ticket.split("/")]


def _one_of_each(told: Sequence[Story]) -> list[Story]:
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
  const which = document.getElementById('which'), place = document.getElementById('story');
  const found = document.getElementById('found'), ids = document.getElementById('ids');
  const OFFERED = 20;
  const unpack = async () => {
    const packed = atob(document.getElementById('stories').textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).json();
  };
  let stories = null;
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
  const look = async () => {
    const text = which.value.trim();
    if (!text) return;
    stories ??= unpack();
    const all = await stories.catch(() => null);  // columns of equal length, by the name of the field
    if (all === null) {
      found.textContent = 'this browser cannot unpack what is in the page; one from 2023 on can';
      return;
    }
    if (which.value.trim() !== text) return;  // typed on meanwhile
    const place = Math.max(all.request_id.indexOf(text), all.ticket.indexOf(text));
    found.textContent = place >= 0 ? '' : 'not in this page';
    if (place >= 0) {
      const story = Object.fromEntries(Object.entries(all).map(([name, column]) => [name, column[place]]));
      const events = story.at_ms.map((at_ms, nth) => ({at_ms, kind: story.kind[nth], what: story.what[nth]}));
      show({...story, events});
      history.replaceState(null, '', '#' + new URLSearchParams({request: text}));  // shown again by the next page
      return;
    }
    ids.replaceChildren();
    const near = [...all.request_id.keys()].filter((place) => all.request_id[place].includes(text));
    for (const place of near.slice(0, OFFERED)) make('option', all.ticket[place], ids).value = all.request_id[place];
  };
  which.addEventListener('input', look);
  which.value = new URLSearchParams(location.hash.slice(1)).get('request') ?? '';
  look();
})();
"""
