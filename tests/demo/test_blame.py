"""The demo of two planted faults in its short form, as a person runs it: whom the monitor blames, and its report.

It takes a minute and a half, so `make test-demo` runs it. How soon they are named is for `make bench-verdicts` to say.
"""

from pathlib import Path

import pytest
from msgspec import convert

from agents.cli.report_figures import Figures
from deploy.flights.blame import PLANTED, REPORT
from streams.kafka.clients import Cluster
from tests.demo.scenes import output_of
from tests.unit.browser import Page, found, started, with_page
from tests.unit.test_report import Elements

SCENES = (
    "the monitor learns what is usual",
    "healthy: ",
    "a feed sends kilometres for miles",
    "data: distance changed",
    "the feed is mended",
    "the code of one model is changed",
    "code: rule changed",
    "$ rendezvous verdicts --alarms",
    "data notice: distance changed",
    "[raised]",
    "[cleared]",
    "code page: rule changed",
    "the report, which explains both",
)


@pytest.mark.timeout(400)
def test_the_field_and_the_model_with_a_planted_fault_are_blamed_and_the_report_says_so(
    cluster: Cluster, state: Path, tmp_path: Path
):
    REPORT.unlink(missing_ok=True)  # one of another run would say the same
    said = output_of("blame", cluster, state, 380)
    at = 0
    for words in SCENES:
        at = said.find(words, at)
        assert at >= 0, (words, said)
    page = Elements(REPORT.read_text())
    verdicts = convert(page.held["figures"], Figures).verdicts
    assert verdicts is not None
    blamed = [(str(one.shown.verdict), one.shown.field, one.shown.model) for one in verdicts.troubles]
    assert ("data", "distance", None) in blamed, blamed
    assert ("code", None, "rule") in blamed, blamed
    sentences = [one.shown.sentence for one in verdicts.troubles if one.shown.model or one.shown.field]
    text = "\n".join(page.text)
    assert all(any(one in line for line in page.text) for one in sentences), (sentences, text[:3_000])
    if (path := found()) is not None:
        with started(path, tmp_path / "profile") as address:
            with_page(address, looked_at)


async def looked_at(page: Page) -> None:
    """What a person reads first: the page over the code, and the field beneath it."""
    await page.open(REPORT.as_uri())
    lead = await page.run("document.querySelector('p.verdict').innerText")
    assert lead.startswith("Code (page): rule changed"), lead
    seen = await page.run("document.body.innerText")
    assert all(culprit in seen for _, _, culprit in PLANTED)
    assert "data (notice): distance" in seen, seen[:3_000]
    assert page.complaints() == []
    assert page.asked_for() == [REPORT.as_uri()]
