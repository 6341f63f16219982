"""The report in a real browser, offline: what a person sees of it, on a screen, on a telephone, and on paper."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, convert

from agents.cli.report_live import reloading
from tests.unit.browser import GET_ONE, Page, found, started, with_page
from tests.unit.test_quality import SETTINGS, label
from tests.unit.test_report import HOSTILE, Elements, told
from tests.unit.test_report_verdicts import MONITOR, STORY, archived, keep_moves

SCREEN, TELEPHONE, PAPER = (1280, 900), (390, 844), (718, 1047)
"""Width and height in CSS pixels; paper is what is left of A4 within the margins."""

SECTIONS = (
    "What changed, and when", "Who answered, and why", "How fast, against the budget", "The models",
    "Quantile against quantile", "Scores then and now", "Fields then and now", "How good the models were",
    "One request, looked up", "What the words mean",
)  # fmt: skip
MEASURES = (Path(__file__).parent / "measuring.js").read_text()
WITH_UNIT = re.compile(r".*, (ms|%|UTC|0 to 1)$")
WITHOUT_UNIT = re.compile(r"(mean )?score\b.*|field|model|answers in a cell")
"""Scores are whatever a model gives; the others are names and counts."""


class Axis(Struct):
    """An axis that has numbers or names on it."""

    chart: int
    ticks: list[str]
    labels: list[str]


class Measures(Struct):
    """What `measuring.js` says; sizes in CSS pixels."""

    overlapping: list[str]
    cut: list[str]
    scrolled: list[str]
    sideways: float
    smallest: float
    texts: int
    axes: list[Axis]
    headings: list[str]
    charts: int


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = found()
    if path is None:
        pytest.skip(GET_ONE)
    with started(path, tmp_path_factory.mktemp("profile")) as address:
        yield address


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything on it: verdicts that were told, labels, shifts, defaults, late answers."""
    folder = tmp_path_factory.mktemp("seen")
    root = archived(folder, STORY, MONITOR + SETTINGS)
    keep_moves(root)
    label(root, {f"r{number}": number % 4 == 0 for number in range(400)}, 1_764_000_100_000)
    told(folder)
    return folder / "page.html"


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are left for people: `SHOTS` names a folder that stays."""
    return Path(os.environ.get("SHOTS") or tmp_path_factory.mktemp("shots"))


async def measured(page: Page, size: tuple[int, int], media: str = "") -> Measures:
    await page.sized(*size, media)
    return convert(await page.run(MEASURES), Measures)


def seen(browser: str, file: Path, shots: Path, name: str, size: tuple[int, int], media: str = "") -> Measures:
    async def look(page: Page) -> Measures:
        await page.sized(*size, media)
        await page.open(file.as_uri())
        measures = await measured(page, size, media)
        (shots / f"{name}.png").write_bytes(await page.screenshot())
        assert page.complaints() == []
        assert page.asked_for() == [file.as_uri()]
        return measures

    found_: Measures = with_page(browser, look)
    return found_


@pytest.mark.parametrize(
    ("name", "size", "media"), [("screen", SCREEN, ""), ("telephone", TELEPHONE, ""), ("paper", PAPER, "print")]
)
def test_nothing_overlaps_is_cut_off_or_too_small(
    browser: str, file: Path, shots: Path, name: str, size: tuple[int, int], media: str
):
    measures = seen(browser, file, shots, name, size, media)
    assert measures.texts > 300
    assert measures.overlapping == []
    assert measures.cut == []
    assert measures.sideways <= 0
    assert bool(measures.scrolled) == (name == "telephone"), measures.scrolled
    assert measures.smallest >= (7 if media else 9)


def test_every_axis_says_what_it_shows_in_which_unit(browser: str, file: Path, shots: Path):
    measures = seen(browser, file, shots, "axes", SCREEN)
    assert measures.charts == 8
    assert {one.chart for one in measures.axes} == set(range(8))
    for axis in measures.axes:
        said = [one for one in axis.labels if WITH_UNIT.match(one) or WITHOUT_UNIT.fullmatch(one)]
        assert len(said) == 1, axis


def test_it_prints_with_all_its_sections(browser: str, file: Path):
    async def look(page: Page) -> tuple[bytes, list[str]]:
        await page.open(file.as_uri())
        paper = await page.printed()
        return paper, (await measured(page, PAPER, "print")).headings

    paper, headings = with_page(browser, look)
    wanted = list(re.findall(r"<h2>(.*?)</h2>", file.read_text()))
    assert headings == wanted
    assert [one for one in wanted if one in SECTIONS] == list(SECTIONS)
    assert paper.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 12


def test_any_request_is_looked_up_by_id_and_by_ticket(browser: str, file: Path):
    stories = {one["ticket"]: one for one in Elements(file.read_text()).held["stories"]}
    asked = [stories["0/42"], stories["0/599"], next(one for one in stories.values() if HOSTILE in one["value"])]

    async def look(page: Page) -> list[str]:
        await page.open(file.as_uri())
        shown = []
        for one in asked:
            for which in (one["request_id"], one["ticket"]):
                await typed(page, which)
                await page.until(
                    f"new URLSearchParams(location.hash.slice(1)).get('request') === {which!r}", f"{which} is shown"
                )
                shown.append(await page.run("document.getElementById('story').innerText"))
        await typed(page, "nobody's")
        await page.until("document.getElementById('found').textContent === 'not in this page'", "said so")
        await page.call("Page.reload")
        assert page.complaints() == []
        return shown

    shown = with_page(browser, look)
    for one, text in zip([one for one in asked for _ in range(2)], shown, strict=True):
        assert f"ticket {one['ticket']}" in text
        assert one["request_id"] in text
        assert f"why: {one['why']}" in text
        for event in one["events"]:
            assert event["what"] in text


async def typed(page: Page, text: str) -> None:
    await page.run(
        f"(() => {{ const which = document.getElementById('which'); which.value = {text!r}; "
        "which.dispatchEvent(new Event('input')); })()"
    )


def test_a_live_page_shows_its_next_one_by_itself_and_says_when_there_is_none(
    browser: str, tmp_path: Path, file: Path
):
    live, text = tmp_path / "live.html", file.read_text()

    async def look(page: Page) -> Any:
        now_ms = await page.run("Date.now()")
        live.write_text(reloading(text, now_ms, 3))
        await page.open(live.as_uri() + "#request=0/42")
        await page.until(
            "document.getElementById('story').innerText.includes('ticket 0/42')", "what it names is shown"
        )
        assert await page.run("document.querySelector('#made b').textContent") == ""
        before = len(page.events)
        following = text.replace("what happened</h1>", "what happened next</h1>")
        live.write_text(reloading(following, now_ms - 60_000, 3))
        await page.loaded(before)
        assert (await page.run("document.querySelector('h1').textContent")).endswith("next")
        await page.until("document.getElementById('story').innerText.includes('ticket 0/42')", "and shown again")
        return await page.run("document.querySelector('#made b').textContent")

    assert "rendezvous report --live has ended, or is stuck" in with_page(browser, look)


def test_an_address_from_outside_would_be_seen(browser: str, tmp_path: Path):
    other = tmp_path / "other.html"
    other.write_text("<body><img src='http://example.com/a.png'><script>throw new Error('seen')</script>")

    async def look(page: Page) -> tuple[list[str], list[str]]:
        await page.open(other.as_uri())
        return page.asked_for(), page.complaints()

    asked, complaints = with_page(browser, look)
    assert "http://example.com/a.png" in asked
    assert any("Error: seen" in one for one in complaints)
