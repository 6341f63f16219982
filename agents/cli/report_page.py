"""One HTML page that opens from an e-mail and prints: tables, and plots as SVG inside it. Equal figures, equal bytes.

The plots are matplotlib's (the extra `report`), imported only here; its dates and random ids are turned off.
"""

import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from schemas.errors import ConfigurationRefused

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
h1, p { overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
nav { font-size: .9rem; } nav a { color: inherit; }
svg { max-width: 100%; height: auto; } p.note, figcaption { color: #555; max-width: 48rem; }
figure { margin: .5rem 0 1rem; } .wide { overflow-x: auto; }
@media screen and (max-width: 45rem) { figure svg { max-width: none; } th, td { padding: .2rem .5rem; } }
@media print { nav { display: none; } h2 { break-after: avoid; }
  figure, table { break-inside: avoid; } .wide { overflow: visible; }
  body { font-size: 11px; margin: 0; max-width: none; } th, td { padding: .1rem .5rem; }
  figure svg { max-width: 100%; max-height: 11cm; } }
@media (prefers-color-scheme: dark) { body { background: #fff; } }
"""
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555", "#F0E442")
"""Okabe and Ito's, which colour-blind people tell apart; a dark grey for black, as a light one is near the purple."""

SETTINGS = {
    "svg.hashsalt": "rendezvous",
    "text.parse_math": False,  # a version, a field, a file may be called anything: between two $ it is no formula
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
}
Draw = Callable[[Any], None]
"""Draws on matplotlib's axes, or on its figure."""


def page(title: str, sections: Sequence[tuple[str, str]], lead: str = "") -> str:
    """A page of headings, each with its HTML; `lead` is HTML between the title and the way to each of them."""
    numbered = list(enumerate(sections, 1))
    ways = " · ".join(f'<a href="#section-{number}">{escape(heading)}</a>' for number, (heading, _) in numbered)
    body = "\n".join(
        f'<section id="section-{number}"><h2>{escape(heading)}</h2>\n{content}</section>'
        for number, (heading, content) in numbered
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        f"{lead}<nav>{ways}</nav>\n{body}\n</body></html>\n"
    )


def table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table; the first row is its heading. Where it is wider than the page, it is scrolled by itself."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    inside = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="{f"wide {kind}".strip()}">{inside}</div>'


def note(text: str) -> str:
    """A paragraph."""
    return f'<p class="note">{escape(text)}</p>'


def plot(draw: Draw, width: float = 8.0, height: float = 3.2) -> str:
    """An SVG element of one set of axes."""
    return picture(lambda figure: draw(figure.add_subplot()), width, height)


def picture(draw: Draw, width: float, height: float) -> str:
    """An SVG element of a whole figure, inches wide and high."""
    try:
        from cycler import cycler
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationRefused(
            "plots are drawn with matplotlib, which is not installed: pip install 'rendezvous-kafka[report]'"
        ) from error
    with rc_context(SETTINGS | {"axes.prop_cycle": cycler(color=COLOURS)}):
        figure = Figure(figsize=(width, height))
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        out = io.StringIO()
        canvas.print_svg(out, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def captioned(svg: str, caption: str) -> str:
    """A picture and what it shows; on a narrow screen it is scrolled, so that its letters can be read."""
    return f'<figure><div class="wide">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """The same table for a terminal: columns aligned, the first to the left."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
