"""The first screen of a report: the verdict as a sentence, in plain words too, since when, and a few figures.

It is for somebody who has not read the code, and may be all that is read; what the words mean stands at the end.
"""

from collections.abc import Mapping
from html import escape

from agents.cli.report_figures import Figures
from agents.cli.report_page import table
from agents.cli.report_trouble import verdict
from agents.cli.report_verdicts import Verdicts
from agents.cli.report_words import summary
from agents.cli.ways_report import number, percent
from schemas.verdicts import QUIET, Severity, Word

STYLE = """<style>
p.lead { font-size: 1.15rem; margin: .5rem 0; } p.verdict { font-size: 1.3rem; font-weight: 600; margin: .5rem 0; }
ul.figures { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; margin: 1rem 0; list-style: none; }
ul.figures li { flex: 1 1 8rem; border: 1px solid #ddd; border-radius: 4px; padding: .4rem .7rem; }
ul.figures b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
ul.figures span { color: #555; font-size: .85rem; }
</style>"""

PLAIN: Mapping[Word, str] = {
    Word.DATA: "{field} is not what it was before, and the models do with it what they always did",
    Word.CODE: "{model} answers otherwise than before to the same input: its file or its own code is another",
    Word.UPSTREAM: "several models answer otherwise to the same input: what they share, a feed or code, is another",
    Word.CANARY: "{model}, which all others are held against, answers otherwise: mend it before you compare with it",
    Word.TRAFFIC: "how many requests come, or how fast they are answered, has changed, and nothing else",
    Word.UNSURE: "something has changed, and the evidence does not say whose it is",
}
CALLED: Mapping[Severity, str] = {
    Severity.PAGE: "Whoever is on duty was to be called at once (a page)",
    Severity.NOTICE: "It may wait for office hours (a notice)",
}
WORDS = [
    ["word", "what it means"],
    ["champion, challenger", "the model whose answer is preferred; those that answer when it does not in time"],
    ["shadow", "a model that scores every request and never answers"],
    ["canary", "an old model that never changes and scores everything: the yardstick of all others"],
    ["default", "the answer that was settled beforehand, given when no model's came in time"],
    ["budget", "how long a request may take, from its log time to that of its decision; 10 ms are given beyond it"],
    ["log time", "when the broker wrote a record to its topic: one clock for requests, scores and answers"],
    ["ticket", "where a request lies: partition/offset on the topic raw"],
    ["window", "about 1,000 requests one after the other, which the monitor judges together"],
    ["probe", "an old request that is sent again and again: whoever answers it otherwise has changed"],
    ["effect", "how far two distributions are apart: 0 the same, 1 nothing in common"],
    ["by chance", "the effect that chance alone exceeds once in a hundred times; what is below it means nothing"],
]


def opening(found: Figures) -> str:
    """What comes before all sections."""
    first, *more = verdict(found.verdicts)
    lines = [f'<p class="{"verdict" if found.verdicts else "note"}">{escape(first)}</p>']
    lines += [f"<p>{escape(line)}</p>" for line in [*plain(found.verdicts), *more]]
    lines.append(_tiles(found))
    answered, *rest = summary(found)
    lines.append(f'<p class="lead">{escape(answered)}</p>')
    return STYLE + "".join([*lines, *(f"<p>{escape(line)}</p>" for line in rest)])


def plain(found: Verdicts | None) -> list[str]:
    """The gravest verdict in words that nobody has to look up; none where all is well."""
    worst = found.worst if found is not None else None
    if worst is None or worst.shown.verdict in QUIET:
        return []
    shown = worst.shown
    words = PLAIN[shown.verdict].format(model=shown.model or "one model", field=shown.field or "what comes in")
    called = CALLED[shown.severity] + "." if shown.severity else ""
    return [f"In plain words: {words}. {called}".rstrip()]


def tiles(found: Figures) -> list[tuple[str, str]]:
    """A few figures, each with what it is."""
    all_ = found.overview
    lost = all_.requests - all_.decided
    shown = [
        (f"{all_.requests:,}", "requests"),
        (percent((all_.requests - lost - all_.late) / all_.requests), "answered on time"),
        (percent(all_.outcomes["preferred"] / all_.requests), "got the preferred answer"),
        (percent(all_.outcomes["default"] / all_.requests), "got the default"),
        (f"{number(all_.latency_ms['p99'], 0)} ms", f"was enough for 99%; the budget is {found.budget_ms:,} ms"),
    ]
    if found.verdicts is not None and found.verdicts.windows:
        well = sum(count for word, count in found.verdicts.words.items() if word is Word.HEALTHY)
        shown.append((f"{well:,} of {found.verdicts.windows:,}", "windows were healthy"))
    return shown


def _tiles(found: Figures) -> str:
    return (
        '<ul class="figures">'
        + "".join(f"<li><b>{escape(figure)}</b><span>{escape(what)}</span></li>" for figure, what in tiles(found))
        + "</ul>"
    )


def glossary() -> str:
    """What the words of the page mean."""
    return table(WORDS, "told")
