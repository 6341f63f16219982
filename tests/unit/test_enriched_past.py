"""The past is run again on what the tables had said then: from the archive, in files and chunks of any size."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from agents.cli import slices
from agents.cli.past import Seen, read_past
from agents.cli.report import report
from agents.cli.report_figures import Figures
from agents.cli.slices import Passing, read_slice
from agents.cli.tried import Tried
from schemas.blocks import Matrix
from schemas.enriched import encode_enriched
from schemas.errors import ConfigurationRefused
from schemas.pipeline import Pipeline
from schemas.requests import Request
from streams.archive.ranges import Period
from streams.archive.segment import Record
from streams.core import past
from streams.core.enrichment import Enrichment
from streams.core.features import FeatureTable
from streams.core.given import Given
from streams.core.lead import LEAD_MS
from streams.core.past import Scored, Way
from streams.core.shifts import of_numbers
from tests.unit.lived import play
from tests.unit.small import TEXT, pipeline, read

TABLE = """
[[features]]
name = "limit"
path = "customer.limit"
type = "number"
default = -1

[[enrich]]
name = "customer"
key = "who"
"""
COUNT = 300


@pytest.fixture
def own() -> Pipeline:
    return pipeline(TEXT + TABLE)


def lived(own: Pipeline, root: Path, kept: int = COUNT, lost: frozenset[int] = frozenset()) -> Matrix:
    """An archive of requests, and what was joined into the first `kept` of them, some of it twice; the live matrix."""
    dice = random.Random(1)
    values = [json.dumps({"x": number, "who": dice.randrange(9)}).encode() for number in range(COUNT)]
    logs = play(own, values, 1, lambda *_: 20.0)
    found = [read(one.value, offset=one.offset, at_ms=one.timestamp_ms, of=own) for one in logs.raw]
    requests = [request for request in found if isinstance(request, Request)]
    enrichment, joined = Enrichment(own), list[Request]()
    for request in requests:  # who is known, and with what, changes as time goes by
        change = json.dumps({"limit": request.offset, "note": "a"}).encode()
        enrichment.tables["customer"].take(b"%d" % dice.randrange(12), change, request.at_ms - 600)
        joined += enrichment.join([request])
    live = FeatureTable(own.features, {}, own.enrich).matrix(joined)
    again = enrichment.join(requests)  # as of now, so otherwise: whoever reads this second one is wrong
    log: list[tuple[int, bytes]] = []
    for start in range(0, kept, 10):
        rows = [request for request in joined[start : start + 10] if request.offset not in lost]
        log.append((rows[-1].at_ms, encode_enriched(enrichment.block(rows))[0]))
        if start % 50 == 20:
            log.append((rows[-1].at_ms, encode_enriched(enrichment.block(again[start - 20 : start + 8]))[0]))
    logs.enriched = [Record(place, at_ms, 1, None, value, None) for place, (at_ms, value) in enumerate(log)]
    logs.write(root, own.name, rows=7)
    return live


def backtested(own: Pipeline, root: Path) -> tuple[dict[int, list[float]], Seen]:
    given: dict[int, list[float]] = {}

    def score(rows: Given) -> tuple[Matrix, Mapping[int, str]]:
        given.update({int(row[0]): row for row in rows.matrix.tolist()})
        return np.zeros(len(rows.matrix)), {}

    every = tuple(range(len(own.features)))
    way = Way("candidate", own, {"first": Scored("1", score, every, 5)})
    return given, read_past(root, own, [Way("unchanged", own), way], Period(), None, LEAD_MS)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_a_candidate_is_given_what_models_were_given_value_for_value(
    own: Pipeline, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(past, "CHUNK", chunk)
    live = lived(own, tmp_path)
    given, seen = backtested(own, tmp_path)
    assert given == {int(row[0]): row for row in live.tolist()}
    assert len(set(live[:, -1].tolist())) > 50, "or there is nothing to be told apart"
    assert (seen.left_out, len(seen.ids)) == (0, COUNT)
    assert not [what for what in seen.counts if "joined" in what]


def test_requests_beyond_what_was_archived_of_it_are_left_out(own: Pipeline, tmp_path: Path):
    lived(own, tmp_path, kept=200)
    _, seen = backtested(own, tmp_path)
    assert (seen.left_out, len(seen.ids)) == (100, 200)


def test_a_request_of_which_nothing_is_kept_is_given_nothing_and_counted(own: Pipeline, tmp_path: Path):
    live = lived(own, tmp_path, lost=frozenset({95, 96}))
    given, seen = backtested(own, tmp_path)
    assert (given[95][-1], given[97]) == (-1, live[97].tolist())
    assert [count for what, count in seen.counts.items() if "nothing says what was joined" in what] == [2]


def test_who_scores_nothing_needs_nothing_of_it(own: Pipeline, tmp_path: Path):
    lived(own, tmp_path, kept=10)
    seen = read_past(tmp_path, own, [Way("unchanged", own)], Period(), None, LEAD_MS)
    assert (seen.left_out, len(seen.ids)) == (0, COUNT)


def test_other_tables_than_those_of_the_archive_are_not_tried(own: Pipeline, tmp_path: Path):
    other = pipeline(TEXT + TABLE.replace('"who"', '"colour"'))
    with pytest.raises(
        ConfigurationRefused, match=r"\[\[enrich\]\] is changed: the archive holds what the pipeline's"
    ):
        Tried(tmp_path, own, tmp_path, Period(), 5).ways(other, tmp_path, ())


def test_a_slice_leaves_out_of_what_nobody_kept_what_was_joined(own: Pipeline, tmp_path: Path):
    live = lived(own, tmp_path, kept=250, lost=frozenset({95, 96}))
    found = read_slice(tmp_path, own, Period(), 240)
    numbers = [offset for offset in range(60, 250) if offset not in (95, 96)]
    assert found.given(own, {}).matrix.tolist() == live[numbers].tolist()
    assert found.rejected == {"not-enriched": 52}


def test_what_is_read_in_passing_is_joined_as_a_slice_is(
    own: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slices, "TOGETHER", 7)
    lived(own, tmp_path, kept=250, lost=frozenset({95, 96}))
    whole, passing = read_slice(tmp_path, own, Period(), 10_000), Passing(tmp_path, own, Period())
    assert list(passing.events()) == whole.events()
    assert passing.said() == whole.said()


def test_a_slice_of_the_archive_has_what_was_joined_then(own: Pipeline, tmp_path: Path):
    live = lived(own, tmp_path)
    found = read_slice(tmp_path, own, Period(), 50)
    np.testing.assert_array_equal(found.given(own, {}).matrix, live[-50:])
    joined = [event["customer"]["limit"] for event in found.events() if "customer" in event]
    assert joined == [limit for limit in live[-50:, -1].tolist() if limit >= 0]
    assert joined


def reported(root: Path) -> Figures:
    (root / "p.toml").write_text(TEXT + TABLE)
    words = ["-P", str(root / "p.toml"), "--archive", str(root), "--json"]
    return msgspec.json.decode(CliRunner().invoke(report, words, standalone_mode=False).stdout, type=Figures)


def test_a_report_holds_what_tables_said_then_against_what_they_say_now(own: Pipeline, tmp_path: Path):
    live = lived(own, tmp_path)
    limits = np.where(live[:, -1] < 0, np.nan, live[:, -1])
    found = reported(tmp_path)
    assert found.overview.requests == COUNT
    assert {one.name for one in found.fields} == {"x", "colour", "late", "limit"}
    shift = next(one for one in found.fields if one.name == "limit")
    assert shift == of_numbers("limit", limits[:100], limits[200:])
    assert shift.absent_then > 0
    assert not [note for note in found.notes if "not on enriched" in note]


def test_of_a_request_that_is_not_on_enriched_no_field_of_a_table_is_called_absent(own: Pipeline, tmp_path: Path):
    live = lived(own, tmp_path, kept=290, lost=frozenset({95, 96}))
    limits = np.where(live[:, -1] < 0, np.nan, live[:, -1])
    found = reported(tmp_path)
    shift = next(one for one in found.fields if one.name == "limit")
    assert shift == of_numbers("limit", np.delete(limits[:100], [95, 96]), limits[200:290])
    assert [note for note in found.notes if note.startswith("12 of the requests")]
