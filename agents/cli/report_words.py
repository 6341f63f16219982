"""A report in sentences: how things are, what changed most, which model was best."""

from agents.cli.report_figures import Figures
from agents.cli.ways_report import number, percent
from streams.archive.ranges import iso
from streams.core.shifts import Shift


def summary(found: Figures) -> list[str]:
    """How things are, in sentences: the first one says it."""
    all_ = found.overview
    lost, winner = all_.requests - all_.decided, max(all_.winners, key=lambda name: all_.winners[name], default="")
    by = f"; {winner} answered {percent(all_.winners[winner] / all_.requests)} of all" if winner else ""
    if not lost and not all_.late:
        first = f"All {all_.requests:,} requests were answered, each within its budget and 10 ms{by}."
    else:
        wrong = [
            *([f"{lost:,} have no decision"] if lost else []),
            *([f"{all_.late:,} were answered late ({percent(all_.late / all_.requests)})"] if all_.late else []),
        ]
        first = f"Of {all_.requests:,} requests {' and '.join(wrong)}{by}."
    took = all_.latency_ms
    text = [
        first,
        (
            f"From {iso(all_.first_ms)} to {iso(all_.last_ms)}. Half of the answers came within "
            f"{number(took['p50'], 0)} ms, 99% within {number(took['p99'], 0)} ms, the slowest after "
            f"{number(took['most'], 0)} ms; the budget is {found.budget_ms:,} ms."
        ),
    ]
    if moved := [shift for shift in found.fields if shift.beyond_chance]:
        name = moved[0].name
        text.append(f"Between the first third and the last, {name} changed most of all fields: {change(moved[0])}.")
    if labelled := found.quality.labelled:
        share = percent(labelled / max(1, found.quality.requests))
        text.append(f"{labelled:,} requests have a label ({share}).{best(found)}")
    return text


def best(found: Figures) -> str:
    """Which model ordered the labelled requests best."""
    areas = [(row.measures.auc, row.model) for row in found.quality.range if row.version]
    known = [(one.value, one, model) for one, model in areas if one.value is not None]
    if not known:
        return ""
    _, one, model = max(known, key=lambda found: found[0])
    interval = "" if one.low is None else f" [{one.low:.3f}, {one.high:.3f}]"
    return f" By AUC {model} was best: {one.value:.3f}{interval}."


def change(shift: Shift) -> str:
    """Then and now, in words."""
    gap = abs(shift.absent_now - shift.absent_then)
    if gap >= shift.effect - 1e-9 and gap:
        return f"{percent(shift.absent_then)} were without it, now {percent(shift.absent_now)}"
    if shift.kind == "number":
        return f"its median was {_plain(shift.then)}, now {_plain(shift.now)}"
    return f"{shift.word} was {percent(shift.then)}, now {percent(shift.now)}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:,.6g}"
