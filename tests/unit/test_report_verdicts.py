"""The verdicts in a report: its words and numbers are those of the records on `verdicts`, the gravest first."""

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import convert, json
from msgspec.structs import asdict, replace

from agents.archiver import topics_of
from agents.cli.report import report
from agents.cli.report_figures import Figures
from agents.cli.report_trouble import marks, strongest, timeline, verdict
from agents.cli.report_verdicts import Move
from agents.cli.report_words import summary
from schemas.decisions import Ticket
from schemas.pipeline import MonitorSettings
from schemas.roster import State
from schemas.topics import Topics
from schemas.verdicts import Alarm, Evidence, Reported, Severity, Statistic, Word, decode_verdict, encode_verdict
from streams.archive.layout import Layout
from streams.archive.reader import read_partition
from streams.archive.segment import Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.troubles import spans_of, troubles_of, unconfirmed, worst_of
from streams.core.verdicts.telling import BARE
from streams.core.verdicts.words import SEVERITY
from tests.unit.lived import START_MS
from tests.unit.small import TEXT, pipeline
from tests.unit.test_report import HOSTILE, Elements, lived, told
from tests.unit.test_roster import move, promoted, records

WINDOW_MS = 5_000
MONITOR = "\n[monitor]\n"


def said(window: int, text: str, alarm: Alarm | None = None, alarmed: Word | None = None, **more: object) -> Reported:
    """One record: `code:first` names the model, `data/x` the field."""
    word, model, field = text.partition(":")[0], text.partition(":")[2], text.partition("/")[2]
    found = Word(word.partition("/")[0])
    from_ms = START_MS + window * WINDOW_MS
    bare = replace(
        BARE,
        verdict=found,
        severity=SEVERITY.get(found),
        window=window,
        sentence=f"Sentence of window {window} on {text}.",
        model=model or None,
        field=field or None,
        effect=f"effect {window}" if found in SEVERITY else "",
        since_event=100 * window if found in SEVERITY else None,
        since_ms=from_ms - 700 if found in SEVERITY else None,
        from_event=100 * window,
        to_event=100 * window + 99,
        from_ms=from_ms,
        to_ms=from_ms + WINDOW_MS - 10,
        said_at_event=100 * window + 99,
        said_at_ms=from_ms + WINDOW_MS - 10,
        events=100,
        evidence=Evidence([Statistic("ks", text, 1.0 + window)] if found in SEVERITY else [], [], "none"),
    )
    report = Reported(
        **asdict(bare),
        pipeline="small",
        watch="0/0@1",
        from_ticket=Ticket(0, 100 * window),
        said_at_ticket=Ticket(0, 100 * window + 99),
        since_ticket=Ticket(0, 100 * window - 14) if found in SEVERITY else None,
        alarm=alarm,
        alarmed=alarmed,
    )
    return replace(report, **more)


STORY = (
    said(-9, "code:mirror", Alarm.RAISED, Word.CODE),  # long before the range
    said(0, "healthy"),
    said(1, "data/x", Alarm.RAISED, Word.DATA),
    said(2, "data/x", None, Word.DATA),
    said(
        3, "code:first", Alarm.CHANGED, Word.CODE, sentence=f"{HOSTILE} changed.", deploys=["first 1 -> 2 at event 9"]
    ),
    said(4, "healthy", None, Word.CODE),
    said(5, "code:first", None, Word.CODE, sentence=f"{HOSTILE} changed more.", deploys=["first 1 -> 2 at event 9"]),
)


def keep(root: Path, topic: str, values: list[tuple[int, bytes]]) -> None:
    writer = PartitionWriter(Layout(root, topic, 0), Limits(10_000, 1 << 26, 60.0), "id", "w")
    writer.append([Record(n, at_ms, 1, None, value, None) for n, (at_ms, value) in enumerate(values)], 0.0)
    writer.close_segment()


def archived(folder: Path, verdicts: tuple[Reported, ...], settings: str = MONITOR) -> Path:
    root = lived().write(folder / "archive", "small")
    (folder / "p.toml").write_text(TEXT + settings)
    if verdicts:
        keep(root, Topics("small").verdicts, [(one.said_at_ms, encode_verdict(one)) for one in verdicts])
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verdicts")
    keep_moves(archived(path, STORY))
    told(path)
    return path


def keep_moves(root: Path) -> None:
    third = move("mirror", State.SHADOW, State.RETIRED)
    refused = move("mirror", State.SHADOW, State.RETIRED)  # from a state that it has left
    moves = records(promoted("second", State.CHALLENGER, "first"), third, refused)
    times = [START_MS - 60_000, START_MS + 3_000, START_MS + 16_000, START_MS + 17_000]
    keep(root, Topics("small").roster_history, list(zip(times, moves, strict=True)))


def figures(folder: Path) -> Figures:
    return convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)


def undrawn(folder: Path) -> Figures:
    """The same without a page."""
    words = ["-P", str(folder / "p.toml"), "--archive", str(folder / "archive"), "--json"]
    return json.decode(CliRunner().invoke(report, words, standalone_mode=False).stdout, type=Figures)


def test_words_and_numbers_of_the_page_are_those_of_the_records(folder: Path):
    page, found = Elements((folder / "page.html").read_text()), figures(folder).verdicts
    records_ = read_partition(folder / "archive", Topics("small").verdicts, 0)
    topic = [decode_verdict(record.value) for record in records_][1:]
    assert found is not None
    assert (found.windows, found.words) == (6, Counter(one.verdict for one in topic))
    assert (found.from_ms, found.to_ms) == (topic[0].from_ms, topic[-1].to_ms)
    assert [(span.word, span.windows) for span in found.spans] == [
        ("healthy", 1), ("data", 2), ("code", 1), ("healthy", 1), ("code", 1),
    ]  # fmt: skip
    assert [one.shown for one in found.troubles] == [topic[2], topic[5]]
    assert [(one.told_ms, one.windows, one.lasts) for one in found.troubles] == [
        (topic[1].said_at_ms, 2, False),
        (topic[3].said_at_ms, 2, True),
    ]
    text = " ".join(word for word in page.text if word)
    for one in (topic[2], topic[5]):
        assert one.sentence in text
        assert f"(ticket {one.since_ticket})" in text
        assert one.effect in page.text
        assert f"{one.evidence.moved[0].of_threshold:.1f} x its threshold" in text


def test_the_gravest_verdict_comes_before_everything_else(folder: Path):
    page = Elements((folder / "page.html").read_text())
    words = [word for word in page.text if word and not word.startswith(("div.told td", "p.lead {"))]
    title = len(words) - words[::-1].index("small: what happened") - 1
    assert words[title + 1] == f"Code (page): {HOSTILE} changed more."
    assert words[title + 2] == (
        "In plain words: first answers otherwise than before to the same input: its file or its own code is another. "
        "Whoever is on duty was to be called at once (a page)."
    )
    assert words[title + 3].startswith(
        "Since 2025-11-24T16:00:24.300Z (ticket 0/486), told at 2025-11-24T16:00:19.990Z"
    )
    assert "2 windows say so" in words[title + 3]
    assert (
        "at the end of this range it was not over. Moved near its beginning: first 1 -> 2 at event 9."
        in words[title + 3]
    )
    assert words[title + 4].startswith("Also data (notice): Sentence of window 2 on data/x. Since ")
    assert words.index(summary(figures(folder))[0]) > title + 4
    assert "img" not in {tag for tag, _ in page.tags}


def test_the_timeline_has_the_words_in_its_legend_and_the_moves_that_counted(folder: Path):
    page = Elements((folder / "page.html").read_text())
    found = figures(folder).verdicts
    for label in ("healthy: nothing moved", "data: the input changed", "code: one model changed"):
        assert label in page.text
    assert "traffic: rate or latency only" not in page.text
    assert found is not None
    assert [(one.model, one.what) for one in found.moves] == [
        ("second 1", "challenger -> champion, first -> challenger"),
        ("mirror 1", "shadow -> retired"),
    ]
    assert sum(tag == "svg" for tag, _ in page.tags) == 6
    links = [value for _, of in page.tags for name, value in of.items() if name in ("src", "href", "xlink:href")]
    assert not [link for link in links if not (link or "").startswith(("#", "data:image/png;base64,"))]


def test_healthy_is_said_as_plainly_and_so_are_doubts(tmp_path: Path):
    archived(tmp_path, (said(0, "healthy"), said(1, "unsure"), said(2, "healthy")))
    span = "2025-11-24T16:00:00.000Z to 2025-11-24T16:00:14.990Z"
    assert verdict(undrawn(tmp_path).verdicts) == [
        f"Healthy: nothing that anybody had to be told of, in 3 windows, {span}.",
        "Windows that said otherwise and that nothing confirmed: 1 unsure.",
    ]


def test_no_answer_is_not_called_healthy(tmp_path: Path):
    archived(tmp_path, (said(0, "too-few", sentence="No answer: the reference is empty."),))
    assert verdict(undrawn(tmp_path).verdicts)[0] == "No answer: the reference is empty."


@pytest.mark.parametrize(
    ("settings", "line"), [("", "this pipeline has no monitor"), (MONITOR, "the archive has none on these requests")]
)
def test_without_verdicts_the_page_says_so_in_one_line(tmp_path: Path, settings: str, line: str):
    archived(tmp_path, (), settings)
    found = undrawn(tmp_path)
    (said_,) = verdict(found.verdicts)
    assert line in said_
    assert timeline(found.verdicts, found.overview) == ""


def test_what_is_no_verdict_is_counted(tmp_path: Path):
    root = archived(tmp_path, ())
    healthy = encode_verdict(said(0, "healthy"))
    keep(root, Topics("small").verdicts, [(START_MS, b"{}"), (START_MS + 1, healthy)])
    found = undrawn(tmp_path)
    assert found.verdicts is not None
    assert found.verdicts.windows == 1
    assert "1 records on verdicts that are none" in found.notes


def test_verdicts_are_archived_where_there_is_a_monitor():
    topic = Topics("small").verdicts
    assert topic in topics_of(pipeline(monitor=MonitorSettings()))
    assert topic not in topics_of(pipeline())


def test_a_window_that_wavers_is_not_the_trouble_people_were_told_of():
    other = said(2, "code:second", None, Word.CODE)
    (found,) = troubles_of([said(1, "code:first", Alarm.RAISED, Word.CODE), other])
    assert (found.shown.model, found.windows) == ("first", 1)
    assert troubles_of([said(2, "healthy", None, Word.CODE)]) == []
    assert unconfirmed([said(1, "unsure"), said(2, "healthy"), other]) == {Word.UNSURE: 1}


def test_windows_that_said_so_before_it_was_confirmed_belong_to_it():
    doubtful = [said(1, "healthy"), said(2, "code:first"), said(3, "code:first")]
    (found,) = troubles_of([*doubtful, said(4, "code:first", Alarm.RAISED, Word.CODE)])
    assert (found.windows, found.told_ms, found.shown.window) == (3, said(4, "code:first").said_at_ms, 4)


def test_the_verdict_that_is_shown_is_one_that_probes_speak_of():
    raised, later = said(4, "code:first", Alarm.RAISED, Word.CODE), said(5, "code:first", None, Word.CODE)
    by_probes = replace(raised, evidence=replace(raised.evidence, probes="changed: first"))
    (found,) = troubles_of([by_probes, later])
    assert found.shown == by_probes
    (found,) = troubles_of([raised, later])
    assert found.shown == later


def test_a_page_comes_before_a_notice_however_long_that_lasted():
    long = [said(n, "data/x", Alarm.RAISED if n == 0 else None, Word.DATA) for n in range(9)]
    page = said(9, "upstream:first", Alarm.CHANGED, Word.UPSTREAM)
    worst = worst_of(troubles_of([*long, page]))
    assert worst is not None
    assert worst.shown.severity is Severity.PAGE
    assert worst_of([]) is None


def test_a_long_range_is_told_in_few_spans_each_with_its_gravest_word():
    words = [said(n, ("healthy", "data/x", "healthy", "healthy")[n % 4]) for n in range(400)]
    found = spans_of(words, most=100)
    assert [(span.word, span.windows) for span in found] == [(Word.DATA, 4)] * 100
    assert (found[0].from_ms, found[0].to_ms, found[-1].to_ms) == (START_MS, found[1].from_ms, words[-1].to_ms)


def test_a_window_judged_early_reaches_to_the_next_and_not_over_another_watch():
    early = said(0, "data/x", to_ms=START_MS + 10)
    assert spans_of([early, said(1, "healthy")])[0].to_ms == START_MS + WINDOW_MS
    assert spans_of([early, said(1, "healthy", watch="0/9@9")])[0].to_ms == START_MS + 10


def test_marks_that_lie_close_together_share_one():
    moves = [Move(at_ms, "first 1", "a -> b", "ann", "") for at_ms in (0, 5, 8, 100)]
    assert marks(moves, 10) == [(0, "1-3"), (100, "4")]


def test_probes_that_acquit_stand_with_the_statistic():
    shown = said(1, "data/x")
    assert strongest(shown) == "ks of data/x: 2.0 x its threshold"
    acquitted = replace(shown, evidence=replace(shown.evidence, moved=[], probes="acquit"))
    assert strongest(acquitted) == "-; probes: acquit"
