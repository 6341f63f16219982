"""A report's first words and its timeline: what the monitor said, in sentences, in a table, and as a strip."""

from collections.abc import Mapping, Sequence
from typing import Any

from agents.cli.report_page import captioned, note, picture, table
from agents.cli.report_plots import BLACK, time_axis, times
from agents.cli.report_verdicts import Move, Verdicts
from schemas.verdicts import QUIET, Reported, Word
from streams.archive.ranges import iso
from streams.core.overview import Overview
from streams.core.troubles import GRAVEST, Trouble

LOOKS: Mapping[Word, tuple[str, str]] = {
    Word.HEALTHY: ("#009E73", ""),
    Word.DATA: ("#0072B2", "///"),
    Word.CODE: ("#D55E00", "xxx"),
    Word.UPSTREAM: ("#CC79A7", "\\\\\\"),
    Word.CANARY: ("#F0E442", "..."),
    Word.TRAFFIC: ("#56B4E9", "---"),
    Word.UNSURE: ("#E69F00", "|||"),
    Word.TOO_FEW: ("#cccccc", ""),
}
"""Colours of Okabe and Ito, and hatches for paper in grey."""

MEANS = {
    Word.HEALTHY: "nothing moved",
    Word.DATA: "the input changed",
    Word.CODE: "one model changed",
    Word.UPSTREAM: "what models share changed",
    Word.CANARY: "the yardstick changed",
    Word.TRAFFIC: "rate or latency only",
    Word.UNSURE: "nobody knows whose",
    Word.TOO_FEW: "no answer",
}
NEAR = 0.03
"""Marks closer than this share of the range have one number for all of them."""

NARROWEST = 0.004
"""The share of the range that a span is wide at least when it is no silence: one window of a day is seen, too."""

NONE = "no verdict"


def verdict(found: Verdicts | None) -> list[str]:
    """How things were, as a sentence; then what belongs to it. The monitor's own sentence stands in it as it is."""
    if found is None:
        return ["No verdict: this pipeline has no monitor; a [monitor] table in its file brings one."]
    if not found.windows:
        return [
            "No verdict: the archive has none on these requests. The monitor was learning what is usual, or was away."
        ]
    worst = found.worst
    if worst is None:
        return _well(found)
    others = [one for one in found.troubles if one is not worst]
    return [
        f"{_head(worst.shown)}: {worst.shown.sentence}",
        _since(worst),
        *[f"Also {_head(one.shown, first=False)}: {one.shown.sentence} {_since(one)}" for one in others[:3]],
        *([f"{len(others) - 3} more in the table below."] if len(others) > 3 else []),
    ]


def _well(found: Verdicts) -> list[str]:
    span = f"{iso(found.from_ms)} to {iso(found.to_ms)}"
    if set(found.words) == {Word.TOO_FEW}:
        return [found.quiet, f"So far in {_windows(found.windows)}, {span}."]
    doubts = ", ".join(f"{count:,} {word}" for word, count in found.doubts.items())
    doubted = f"Windows that said otherwise and that nothing confirmed: {doubts}." if doubts else ""
    first = f"Healthy: nothing that anybody had to be told of, in {_windows(found.windows)}, {span}."
    return [first, *([doubted] if doubted else [])]


def _windows(count: int) -> str:
    return "1 window" if count == 1 else f"{count:,} windows"


def _head(shown: Reported, *, first: bool = True) -> str:
    word = shown.verdict.capitalize() if first else str(shown.verdict)
    return f"{word} ({shown.severity})" if shown.severity else word


def _about(shown: Reported) -> str:
    """The word, and whom or what it names."""
    named = ", ".join(word for word in (shown.model, shown.field, shown.segment) if word)
    return f"{_head(shown, first=False)}: {named}" if named else _head(shown, first=False)


def _since(trouble: Trouble) -> str:
    shown = trouble.shown
    since = "" if shown.since_ms is None else f"Since {iso(shown.since_ms)}"
    since += f" (ticket {shown.since_ticket})" if since and shown.since_ticket is not None else ""
    told = "" if trouble.told_ms is None else f"told at {iso(trouble.told_ms)}"
    say = "says" if trouble.windows == 1 else "say"
    end = "; at the end of this range it was not over" if trouble.lasts else ""
    said = ", ".join(
        one for one in (since, told, f"{_windows(trouble.windows)} {say} so, up to {iso(trouble.last_ms)}") if one
    )
    near = (
        f"Moved near its beginning: {'; '.join(shown.deploys)}." if shown.deploys else "No model was moved near it."
    )
    replayed = f" Replayed: {shown.evidence.replayed}." if shown.evidence.replayed else ""
    return f"{said}{end}. {near}{replayed}"


def timeline(found: Verdicts | None, all_: Overview) -> str:
    """The strip, each state that people were told of, and each move of a model."""
    if found is None or not found.windows:
        return ""
    counted = ", ".join(f"{word} {found.words[word]:,}" for word in GRAVEST if word in found.words)
    drawn = picture(lambda figure: strip(figure, found, all_), 9.0, 1.9)
    text = f"What each window of requests was called: {counted}; what is not healthy is drawn at least a hair wide. "
    text += "White: no verdict, as while the monitor learns what is usual."
    text += " Triangles: moves of models on the roster, by their number in the table." if found.moves else ""
    return captioned(drawn, text) + _troubles(found) + _moves(found.moves)


def _troubles(found: Verdicts) -> str:
    if not found.troubles:
        return note("No state that people had to be told of.")
    rows = [["verdict", "since", "last window up to", "windows", "strongest statistic", "effect"]]
    rows += [
        [
            _about(one.shown),
            "-" if one.shown.since_ms is None else _cell(one.shown.since_ms),
            f"{_cell(one.last_ms)}{' (not over)' if one.lasts else ''}",
            f"{one.windows:,}",
            strongest(one.shown),
            one.shown.effect,
        ]
        for one in found.troubles
    ]
    more = (
        f"{found.more_troubles:,} more, less grave, are on the topic and in the archive."
        if found.more_troubles
        else ""
    )
    return table(rows, "told") + (note(more) if more else "")


def _cell(at_ms: int) -> str:
    """A time that may be broken into two lines."""
    return iso(at_ms).replace("T", " ")


def strongest(shown: Reported) -> str:
    """The statistic that moved most, and whether probes answered as before."""
    moved = max(shown.evidence.moved, key=lambda one: abs(one.of_threshold), default=None)
    said = "-" if moved is None else f"{moved.what} of {moved.of}: {abs(moved.of_threshold):.1f} x its threshold"
    return said if shown.evidence.probes == "none" else f"{said}; probes: {shown.evidence.probes}"


def _moves(moves: Sequence[Move]) -> str:
    if not moves:
        return note("No model was moved in this range.")
    rows = [["number", "log time", "model", "move", "who", "why"]]
    rows += [
        [str(number), _cell(one.at_ms), one.model, one.what, one.who, one.why] for number, one in enumerate(moves, 1)
    ]
    return table(rows, "told")


def strip(figure: Any, found: Verdicts, all_: Overview) -> None:
    """One bar whose parts are the words of the windows; moves as triangles above it."""
    from matplotlib.dates import date2num

    axes = figure.add_subplot()
    low, high = date2num(times([all_.first_ms, max(all_.last_ms, all_.first_ms + 1)]))
    axes.broken_barh([(low, high - low)], (0, 1), facecolor="white", edgecolor="#bbbbbb", lw=0.8, label=NONE)
    for word in reversed(GRAVEST):  # the gravest on top
        colour, hatch = LOOKS[word]
        least = 0.0 if word in QUIET else NARROWEST * (high - low)
        ends = [date2num(times([one.from_ms, one.to_ms])) for one in found.spans if one.word is word]
        bars = [(start, max(end - start, least)) for start, end in ends]
        if bars:
            label = f"{word}: {MEANS[word]}"
            axes.broken_barh(bars, (0, 1), facecolor=colour, edgecolor="white", hatch=hatch, lw=0, label=label)
    for place, label in marks(found.moves, NEAR * (all_.last_ms - all_.first_ms)):
        (x,) = date2num(times([place]))
        axes.plot(x, 1.25, "v", color=BLACK, ms=7, clip_on=False)
        axes.annotate(label, (x, 1.42), ha="center", fontsize=8, annotation_clip=False)
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.7 if found.moves else 1.05)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1, 1.1), frameon=False, fontsize=8)
    axes.xaxis_date()
    time_axis(axes)


def marks(moves: Sequence[Move], near_ms: float) -> list[tuple[int, str]]:
    """Where triangles stand, each with the numbers of its moves: those that lie close together share one."""
    groups: list[list[int]] = []
    for number, one in enumerate(moves):
        if groups and one.at_ms - moves[groups[-1][0]].at_ms <= near_ms:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [
        (moves[group[0]].at_ms, str(group[0] + 1) if len(group) == 1 else f"{group[0] + 1}-{group[-1] + 1}")
        for group in groups
    ]
