"""The report: its numbers are the archive's, it opens offline, and it stays a page whatever requests are called."""

import base64
import doctest
import gzip
import random
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from msgspec import convert, json, to_builtins
from msgspec.structs import replace

from agents.cli.report import report
from agents.cli.report_days import newest_days
from agents.cli.report_figures import Figures
from agents.cli.report_lookup import looked_up, packed, printed
from agents.cli.report_opening import tiles
from agents.cli.report_page import COLOURS
from agents.cli.report_sections import LARGEST, report_page
from agents.cli.report_stories import MOST, Event, Story
from agents.cli.report_trouble import LOOKS
from agents.cli.report_words import summary
from schemas.blocks import ScoreBlock, decode_scores, offsets_of, scores_of
from schemas.decisions import Outcome, decode_decision, encode_decision
from schemas.errors import ConfigurationRefused
from schemas.pipeline import RequestShape
from schemas.topics import Topics
from streams.archive.reader import read_partition
from streams.core import pairs as pairs_module
from streams.core import shifts as shifts_module
from streams.core.pairs import pair
from streams.core.shifts import of_numbers, of_words
from tests.unit.lived import Lived, play
from tests.unit.small import TEXT, pipeline
from tests.unit.test_quality import SETTINGS, label

OF = pipeline(request=RequestShape(budget_ms=100, budget="limits.ms", repeat_s=0))
HOSTILE = "</script><img src=x onerror=alert(1)>"


def latency(dice: random.Random, model: str) -> float | None:
    """Some fail, some never answer, some are late."""
    chance = dice.random()
    if model == "first" and chance < 0.1:
        return None if chance < 0.03 else -5.0
    return dice.choice((5.0, 20.0, 70.0, 130.0))


def lived(count: int = 600) -> Lived:
    values = [
        json.encode(
            {
                "request_id": HOSTILE if number == 7 else f"r{number}",
                "x": number % 50 * (1.609 if number > count / 2 else 1.0),
                "colour": "red" if number % 3 else "green",
            }
        )
        for number in range(count)
    ]
    values[11:12] = [b'{"x": "no number"}'][: len(values) - 11]
    live = play(OF, values, latency_ms=latency, rate=0.02)
    for record in live.decisions[20:26]:  # a second final record changes nothing
        other = replace(decode_decision(record.value), outcome=Outcome.DEFAULT, model=None, score=0.1, budget_ms=7)
        last = live.decisions[-1]
        live.decisions.append(replace(last, offset=last.offset + 1, value=encode_decision(other)))
    return live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    root = lived().write(path / "archive", "small")
    label(root, {f"r{number}": number % 4 == 0 for number in range(400)}, 1_764_000_100_000)
    (path / "p.toml").write_text(TEXT + SETTINGS)
    told(path)
    return path


def told(folder: Path, *words: str, out: str = "page.html") -> str:
    """A report's text; whatever goes wrong is raised."""
    words = (*words, "-P", str(folder / "p.toml"), "--archive", str(folder / "archive"), "-o", str(folder / out))
    found = CliRunner().invoke(report, list(words), standalone_mode=False)
    if found.exception:
        raise found.exception
    return (folder / out).read_text()


class Elements(HTMLParser):
    """Every tag with its attributes, the text, and the JSON the page holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.held: dict[str, object] = {}
        self._script: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.held[self._script] = to_builtins(unpacked(data)) if self._script == "stories" else json.decode(data)
        else:
            self.text.append(data.strip())


def test_the_numbers_of_the_page_are_those_of_the_archive(folder: Path):
    root, topics = folder / "archive", Topics("small")
    found = convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)
    raw = {record.offset: record for record in read_partition(root, topics.raw, 0)}
    decisions, decided_ms = {}, {}
    for record in read_partition(root, topics.decisions, 0):
        decision = decode_decision(record.value)
        if decision.final and decision.ticket.offset not in decisions:
            decisions[decision.ticket.offset] = decision
            decided_ms[decision.ticket.offset] = record.timestamp_ms
    used = {offset: decided_ms[offset] - raw[offset].timestamp_ms for offset in decisions}
    all_ = found.overview
    assert (all_.requests, all_.decided) == (len(raw), len(decisions))
    outcomes = Counter(str(decision.outcome) for decision in decisions.values())
    assert all_.outcomes == {str(word): outcomes[word] for word in Outcome}
    assert len([word for word, count in outcomes.items() if count]) == 4
    assert all_.ways["first, as wanted"] == outcomes["preferred"]
    assert sum(count for way, count in all_.ways.items() if way.startswith("default")) == outcomes["default"]
    assert all_.budgets_ms == {"100": len(raw)}
    assert all_.winners == Counter(decision.model for decision in decisions.values() if decision.model)
    assert all_.late == sum(used[offset] > one.budget_ms + 10 for offset, one in decisions.items())
    assert all_.latency_ms["p99"] == pytest.approx(np.quantile(list(used.values()), 0.99))
    assert all_.latency_ms["most"] == max(used.values())
    assert sum(one.requests for one in all_.slices) == len(raw)
    assert sum(one.late for one in all_.slices) == all_.late
    assert sum((Counter(one.ways) for one in all_.slices), Counter()) == all_.ways
    assert sum(map(sum, all_.heat.counts)) == len(decisions)

    scores: dict[str, dict[int, tuple[float, int]]] = {}
    failed: dict[str, set[int]] = {}
    for record in read_partition(root, topics.scores, 0):
        block = decode_scores(record.value)
        if isinstance(block, ScoreBlock):
            for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                scores.setdefault(block.model, {}).setdefault(offset, (score, record.timestamp_ms))
            failed.setdefault(block.model, set()).update(error.offset for error in block.errors)
    assert {one.model for one in found.models} == set(scores)
    assert found.models[0].model == "first"
    for one in found.models:
        own = scores[one.model]
        assert (one.scored, one.failed) == (len(own), len(failed[one.model]))
        in_time = [at - raw[o].timestamp_ms <= decisions[o].budget_ms for o, (_, at) in own.items()]
        assert one.in_time == sum(in_time)
    for one in found.pairs:
        model, other = one.model.split()[0], one.other.split()[0]
        both = scores[model].keys() & scores[other].keys()
        same = [(scores[model][o][0] >= 0.5) == (scores[other][o][0] >= 0.5) for o in both]
        assert (one.rows, one.agreement) == (len(both), pytest.approx(np.mean(same), abs=1e-6))
        assert one.quantiles[51] == pytest.approx(np.median([scores[model][o][0] for o in both]), abs=1e-6)
    assert {(one.other) for one in found.pairs} == {"first 1", "yardstick 1"}
    third = len(raw) // 3  # offsets are in the order of their log times: these have one partition
    parts = [range(third), range(len(raw) - third, len(raw))]
    for one in found.scores:
        own = scores[one.shift.name.split()[0]]
        then, now = ([own[offset][0] for offset in part if offset in own] for part in parts)
        edges = np.linspace(min(then + now), max(then + now), len(one.then) + 1)
        assert one.edges == pytest.approx(edges, abs=1e-6)
        assert one.then == np.histogram(then, one.edges)[0].tolist()
        assert one.now == np.histogram(now, one.edges)[0].tolist()
        assert one.shift.then == pytest.approx(np.median(then), abs=1e-6)
        assert one.shift.now == pytest.approx(np.median(now), abs=1e-6)
    events = {offset: json.decode(record.value) for offset, record in raw.items()}
    shift = next(one for one in found.fields if one.name == "x")
    values = [[events[o]["x"] for o in part if isinstance(events[o]["x"], float | int)] for part in parts]
    assert [shift.then, shift.now] == pytest.approx([np.median(part) for part in values], abs=1e-6)

    counts = np.array(all_.heat.counts)
    slices = np.linspace(all_.first_ms, all_.last_ms + 1, len(all_.slices) + 1)
    for place in np.argsort(-counts.ravel())[:3].tolist():
        row, column = divmod(place, counts.shape[1])
        of_the_time = [o for o in used if slices[column] <= raw[o].timestamp_ms < slices[column + 1]]
        took = [o for o in of_the_time if all_.heat.edges_ms[row] <= max(used[o], 1) < all_.heat.edges_ms[row + 1]]
        assert counts[row, column] == len(took) > 1
    labelled = [decision for o, decision in decisions.items() if o < 400 and o not in (7, 11)]
    known = {o: o % 4 == 0 for o in range(400) if o not in (7, 11)}
    measured = {row.model: row.measures for row in found.quality.range}
    for model, own in scores.items():
        right = [(score >= 0.5) == known[o] for o, (score, _) in own.items() if o in known]
        assert measured[model].accuracy.value == pytest.approx(np.mean(right), abs=1e-6)
    assert found.quality.labelled == len(labelled)


def test_what_is_shown_is_what_is_held(folder: Path):
    page = Elements((folder / "page.html").read_text())
    found = convert(page.held["figures"], Figures)
    for way, count in found.overview.ways.items():
        words = [word for word in page.text[page.text.index(way) :] if word]
        assert words[:2] == [way, f"{count:,}"]
    for one in found.quality.range:
        if one.measures.accuracy.value is not None:
            assert f"{one.measures.accuracy.value:.4f}\n" in "\n".join(page.text)
    assert summary(found)[0] in page.text


def test_the_page_needs_nothing_but_itself_and_is_small(folder: Path):
    text = (folder / "page.html").read_text()
    page = Elements(text)
    assert len(text.encode()) < 2_000_000
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "embed")]
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), attributes
    assert sum(tag == "svg" for tag, _ in page.tags) == 7


def test_whatever_a_request_is_called_the_page_stays_a_page(folder: Path):
    page = Elements((folder / "page.html").read_text())
    held = page.held["stories"]
    assert [story["ticket"] for story in held if HOSTILE in story["value"]] == ["0/7"]
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert page.tags.count(("script", {})) == 1
    shown = json.decode(json.encode(next(story for story in held if HOSTILE in story["value"])), type=Story)
    worst = replace(shown, request_id=HOSTILE, why=HOSTILE, without_score=[HOSTILE], truth=HOSTILE)
    alone = Elements(printed(replace(worst, events=[Event(0.0, "raw", HOSTILE)])))
    assert {tag for tag, _ in alone.tags} == {"article", "h3", "small", "code", "table", "tr", "td", "i", "p"}
    assert sum(HOSTILE in text for text in alone.text) == 6


def test_the_look_up_holds_what_somebody_would_ask_for(folder: Path):
    root, topics = folder / "archive", Topics("small")
    held = {story["ticket"]: story for story in Elements((folder / "page.html").read_text()).held["stories"]}
    every = [decode_decision(record.value) for record in read_partition(root, topics.decisions, 0)]
    decisions = sorted({one.ticket: one for one in reversed(every)}.values(), key=lambda one: one.ticket)
    rare = [one for one in decisions if one.outcome in ("default", "rejected")]
    assert rare
    for decision in rare[:30]:
        assert str(decision.ticket) in held
    for decision in decisions:
        if (story := held.get(str(decision.ticket))) is None:
            continue
        assert (story["request_id"], story["why"]) == (decision.request_id, decision.reason)
        said = [event["what"] for event in story["events"] if event["kind"] == "score"]
        for model, seen in decision.scores.items():
            assert f"{model} {seen.version} scores {seen.score:.4f}" in said
        for model in decision.failed:
            assert any(model in line and ": failed" in line for line in story["without_score"])
        assert [event["at_ms"] for event in story["events"]] == sorted(event["at_ms"] for event in story["events"])
    for ticket, story in held.items():
        number = int(ticket.removeprefix("0/"))
        if number < 400 and number not in (7, 11):
            assert story["truth"].startswith(f"it was {'true' if number % 4 == 0 else 'false'}, said ")
        else:
            assert not story["truth"]


def test_every_request_of_a_small_range_is_looked_up(folder: Path):
    page = Elements((folder / "page.html").read_text())
    assert len({story["ticket"] for story in page.held["stories"]}) == 600
    assert "All 600 requests are in this page, each with the story of its race." in page.text


def test_as_many_flights_as_the_demo_has_find_room_each_with_its_story(folder: Path):
    """Records as long as the demo's, of which no two are alike, scored by four models."""
    dice = random.Random(5)
    [like, *_] = convert(Elements((folder / "page.html").read_text()).held["stories"], list[Story])
    models = ("fast 2013-h1", "full 2013-h1", "rule 1", "january 2013-01")

    def flight(number: int) -> Story:
        carrier, hour, minute = (
            dice.choice(("UA", "B6", "EV", "DL", "AA", "MQ")),
            dice.randrange(5, 24),
            dice.randrange(60),
        )
        to = dice.randrange(100)
        request_id = f"{carrier}{dice.randrange(6_000)}-20130716-{hour:02}{minute:02}-EWR"
        value = json.encode(
            {
                "request_id": request_id, "month": 7, "weekday": 1, "hour": hour, "minute": minute, "carrier": carrier,
                "origin": "EWR", "dest": f"D{to}", "distance": 90.0 + 37 * to,
                "asked_ms": 1_374_000_000_000 + 43_000 * number,
            }
        )  # fmt: skip
        events = [Event(0.0, "raw", "the request is in the log"), Event(200.0, "deadline", "deadline")]
        events += [
            Event(float(dice.randrange(5, 60)), "score", f"{model} scores {dice.random():.4f}") for model in models
        ]
        events.append(Event(61.0, "decision", f"decision: preferred by full, {dice.random():.4f}"))
        return replace(
            like,
            request_id=request_id,
            ticket=f"{number % 4}/{number // 4}",
            asked=f"2026-11-27T05:{number // 360 % 60:02}:{number // 6 % 60:02}.{dice.randrange(1000):03}Z",
            value=value.decode(),
            events=events,
            why=f"the champion full answered after {dice.randrange(5, 60)} ms",
            truth=f"it was {dice.choice(('true', 'false'))}, said {dice.randrange(10, 300)} s after the decision",
        )

    many = [flight(number) for number in range(20_000)]
    dice.shuffle(many)
    found = convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)
    text = report_page(replace(found, overview=replace(found.overview, requests=20_000)), many)
    assert "All 20,000 requests are in this page, each with the story of its race." in text
    assert len(text.encode()) <= LARGEST + 10_000
    assert MOST >= 20_000, "so many are told"


def test_of_many_days_the_newest_are_on_the_page_and_it_is_said(folder: Path):
    whole = convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)
    days = [f"20{25 + number // 336}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}" for number in range(500)]
    many = [replace(row, day=day) for day in days for row in whole.quality.days]
    found = replace(whole, quality=replace(whole.quality, days=many))
    assert len(json.encode(found)) > 2_000_000, "all of them have no room"
    text = report_page(found, [])
    assert len(text.encode()) < 2_000_000
    page = Elements(text)
    held = convert(page.held["figures"], Figures).quality.days
    kept = list(dict.fromkeys(row.day for row in held))
    assert 20 < len(kept) < 500
    assert kept == days[-len(kept) :]
    assert held == [row for row in many if row.day in kept]
    assert any(f"Of 500 days the newest {len(kept)} are on this page, from {kept[0]} on" in one for one in page.text)
    assert newest_days(whole) == (whole, "")


def test_a_request_that_is_asked_for_is_shown_first(folder: Path):
    page = Elements(told(folder, "--request", "r311", "--request", "0/7", out="asked.html"))
    shown = [text for text in page.text if text.startswith("ticket 0/")]
    assert [text.partition(",")[0] for text in shown] == ["ticket 0/311", "ticket 0/7"]
    with pytest.raises(ConfigurationRefused, match="r9999: no request of this range has this id or ticket"):
        told(folder, "--request", "r9999", out="asked.html")


def unpacked(data: str) -> list[Story]:
    """The stories of a page, as a browser unpacks them."""
    columns = json.decode(gzip.decompress(base64.b64decode(data)))
    of_events = zip(*(columns.pop(name) for name in Event.__struct_fields__), strict=True)
    columns["events"] = [list(map(Event, *events)) for events in of_events]
    rows = zip(*columns.values(), strict=True)
    return [Story(**dict(zip(columns, row, strict=True))) for row in rows]


def test_the_look_up_takes_the_room_that_is_left_and_says_what_is_not_in_it(folder: Path):
    every = convert(Elements((folder / "page.html").read_text()).held["stories"], list[Story])
    dice = random.Random(4)
    many = [
        replace(one, value=dice.randbytes(200).hex(), ticket=f"0/{place}") for place, one in enumerate(every * 20)
    ]
    dice.shuffle(many)
    data, count = packed(many, 300_000)
    held = unpacked(data)
    assert (len(held), len(data) <= 300_000, len(data) > 270_000) == (count, True, True)
    assert {one.ticket: one for one in held} == {one.ticket: one for one in many[:count]}
    html = looked_up(many, 50_000, (), 300_000)
    assert len(html.encode()) < 310_000
    assert f"{len(Elements(html).held['stories']):,} of 50,000 requests are in this page" in html
    assert packed(many, -5) == packed([], 0)


def test_the_first_screen_has_figures_of_the_archive(folder: Path):
    found = convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)
    all_ = replace(found.overview, requests=200, decided=190, late=10, outcomes={"preferred": 150, "default": 20})
    shown = {what: figure for figure, what in tiles(replace(found, overview=all_))}
    assert shown == {
        "requests": "200",
        "answered on time": "90.00%",
        "got the preferred answer": "75.00%",
        "got the default": "10.00%",
        "was enough for 99%; the budget is 100 ms": f"{found.overview.latency_ms['p99']:,.0f} ms",
    }
    text = Elements((folder / "page.html").read_text()).text
    for figure, what in tiles(found):
        assert text[text.index(what) - 1] == figure or figure in text


LINEAR = np.array(
    # Machado, Oliveira & Fernandes 2009, severity 1: what protanopes, deuteranopes and tritanopes see of linear RGB.
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


def lab(colours: list[str], seen_as: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB colours that went through a matrix on linear RGB: n x 3."""
    coded = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in colours])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ seen_as.T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    bent = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    light, red, blue = bent[:, 1], bent[:, 0] - bent[:, 1], bent[:, 1] - bent[:, 2]
    return np.stack([116 * light - 16, 500 * red, 200 * blue], axis=1)


def nearest(colours: list[str]) -> float:
    """The smallest distance of any two colours, to whoever is colour-blind in whichever way (just seen: 2.3)."""
    found = [lab(colours, seen_as) for seen_as in (np.eye(3), *LINEAR)]
    apart = [np.linalg.norm(one[:, None] - one[None], axis=2) for one in found]
    return float(min(gaps[~np.eye(len(colours), dtype=bool)].min() for gaps in apart))


def test_colours_are_told_apart_by_whoever_is_colour_blind():
    of_words = [colour.upper() for colour, _ in LOOKS.values()]
    assert set(COLOURS) - {"#555555"} <= OKABE_ITO
    assert set(of_words) - {"#CCCCCC"} <= OKABE_ITO
    assert nearest(list(COLOURS)) > 15
    assert nearest(of_words) > 15
    tab10 = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"]
    assert nearest(tab10) < 5


def test_pictures_have_no_other_colours(folder: Path):
    svgs = re.findall(r"<svg.*?</svg>", (folder / "page.html").read_text(), re.DOTALL)
    found = {colour.upper() for svg in svgs for colour in re.findall(r"#[0-9a-fA-F]{6}\b", svg)}
    greys = {colour for colour in found if colour[1:3] == colour[3:5] == colour[5:7]}
    assert len(found - greys) >= 5
    assert found - greys <= OKABE_ITO


def test_a_version_may_be_called_anything_and_is_drawn_as_it_is_written(tmp_path: Path):
    values = [json.encode({"request_id": f"r{number}", "x": number}) for number in range(200)]
    play(OF, values, rate=0.02, beside={"mirror": r"$\foo$"}).write(tmp_path / "archive", "small")
    (tmp_path / "p.toml").write_text(TEXT)
    page = told(tmp_path)
    drawn = [svg for svg in page.split("<svg ")[1:] if r"mirror $\foo$" in svg.partition("</svg>")[0]]
    assert drawn


def test_a_model_may_say_any_finite_number(tmp_path: Path):
    values = [json.encode({"request_id": f"r{number}", "x": number}) for number in range(600)]
    most = sys.float_info.max

    def score(model: str, offset: int) -> float:
        return (most, -most, 0.5, 0.25)[offset % 4] if model in ("first", "mirror") else offset / 600

    root = play(OF, values, rate=0.02, score=score).write(tmp_path / "archive", "small")
    label(root, {f"r{number}": number % 3 == 0 for number in range(600)}, 1_764_000_100_000)
    (tmp_path / "p.toml").write_text(TEXT + SETTINGS)
    found = convert(Elements(told(tmp_path)).held["figures"], Figures)
    (one,) = [one for one in found.scores if one.shift.name == "mirror 1"]
    assert sum(one.then) == sum(one.now) == 200
    assert one.then[0] == pytest.approx(50, abs=2)
    assert one.then[-1] == pytest.approx(50, abs=2)


def test_two_reports_have_the_same_bytes(folder: Path):
    assert told(folder, out="again.html") == (folder / "page.html").read_text()


def test_the_field_that_changed_its_unit_comes_first(folder: Path):
    found = convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)
    assert [(one.name, one.beyond_chance) for one in found.fields] == [
        ("x", True),
        ("colour", False),
        ("late", False),
    ]
    assert "x changed most of all fields" in " ".join(summary(found))


def test_the_first_sentence_says_how_things_are(folder: Path):
    found = convert(Elements((folder / "page.html").read_text()).held["figures"], Figures)
    all_ = replace(found.overview, requests=100, decided=100, late=0, winners={"first": 90})
    assert summary(replace(found, overview=all_))[0] == (
        "All 100 requests were answered, each within its budget and 10 ms; first answered 90.00% of all."
    )
    all_ = replace(all_, decided=97, late=2)
    assert summary(replace(found, overview=all_))[0] == (
        "Of 100 requests 3 have no decision and 2 were answered late (2.00%); first answered 90.00% of all."
    )


def test_requests_that_the_archive_has_not_yet_all_of_are_left_out_not_called_lost(tmp_path: Path):
    live = lived(300)
    half = live.decisions[150].timestamp_ms
    live.decisions = [record for record in live.decisions if record.timestamp_ms <= half]
    live.write(tmp_path / "archive", "small")
    (tmp_path / "p.toml").write_text(TEXT)
    found = convert(Elements(told(tmp_path)).held["figures"], Figures)
    assert found.overview.requests == found.overview.decided
    assert 140 <= found.overview.decided <= 155
    assert any("left out" in note for note in found.notes)


def test_one_request_is_a_report_too_and_none_is_an_error(tmp_path: Path):
    live = lived(1)
    live.write(tmp_path / "archive", "small")
    (tmp_path / "p.toml").write_text(TEXT)
    found = convert(Elements(told(tmp_path)).held["figures"], Figures)
    assert found.overview.requests == 1
    assert found.fields == found.pairs == found.scores == []
    with pytest.raises(ConfigurationRefused, match="no request of small.raw"):
        told(tmp_path, "--since", "2030-01-01T00:00")
    for words, said in (((), "where to"), (("--json", "--request", "r0"), "--request shows a race on the page")):
        found = CliRunner().invoke(report, [*words, "-P", str(tmp_path / "p.toml")], standalone_mode=False)
        assert isinstance(found.exception, click.UsageError)
        assert said in found.exception.format_message()


@pytest.mark.parametrize("module", [shifts_module, pairs_module])
def test_the_examples_are_true(module):
    assert doctest.testmod(module).failed == 0


def test_chance_is_exceeded_once_in_a_hundred_by_numbers_and_by_words():
    dice = np.random.default_rng(4)
    numbers = words = 0
    letters = np.array(list("abcdefgh"))
    for _ in range(400):
        numbers += of_numbers("n", dice.normal(size=800), dice.normal(size=800)).beyond_chance
        words += of_words("w", list(dice.choice(letters, 800)), list(dice.choice(letters, 800))).beyond_chance
    assert numbers <= 12
    assert words <= 12


def test_a_shift_a_new_word_and_a_value_that_is_gone_are_seen():
    dice = np.random.default_rng(4)
    then = dice.normal(size=1_000)
    assert of_numbers("n", then, then + 0.3).beyond_chance
    gone = np.where(dice.random(1_000) < 0.1, np.nan, then)
    shift = of_numbers("n", then, gone)
    assert shift.beyond_chance
    assert (shift.absent_then, shift.absent_now) == (0.0, pytest.approx(0.1, abs=0.03))
    new = of_words("w", ["a"] * 1_000, ["a"] * 900 + ["b"] * 100)
    assert (new.beyond_chance, new.effect) == (True, 0.1)
    assert of_words("w", [None] * 100, ["a"] * 100).effect == 1.0
    assert of_numbers("n", np.full(100, np.nan), np.ones(100)).effect == 1.0


def test_a_model_that_was_only_rescaled_keeps_its_order():
    score = np.random.default_rng(4).random(500)
    found = pair("a", score**3, "b", score, 0.5)
    assert found.rank_correlation == 1.0
    assert found.agreement < 1.0
    assert pair("a", score[:99], "b", score[:99], 0.5) is None
    assert pair("a", np.ones(500), "b", score, 0.5).rank_correlation is None
