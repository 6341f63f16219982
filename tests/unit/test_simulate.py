"""Schedules over archived scores: the columns give the core's answers, and a sweep says what a budget costs."""

import random
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from shutil import copytree

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from agents.cli.simulate import simulate
from deploy.flights.prepare import PIPELINE
from schemas.blocks import (
    NotAskedBlock,
    RowError,
    ScoreBlock,
    TickBlock,
    decode_scores,
    encode_scores,
    pack_offsets,
    score_block,
)
from schemas.errors import RendezvousError
from schemas.labels import Label, encode_label
from schemas.pipeline import Pipeline, Policy, RequestShape, Step
from streams.archive.layout import Layout
from streams.archive.segment import Record, sealed_parts
from streams.archive.writer import Limits, PartitionWriter
from streams.candidate_file import only_models
from streams.core.alike import Values, alike
from streams.core.answers import Answers, Names
from streams.core.column_limits import cannot
from streams.core.lead import LEAD_MS
from streams.core.past import Past, Way
from streams.core.recorded import Recorded
from streams.core.simulate import answers
from streams.pipeline_file import load
from tests.unit.lived import START_MS, Lived, play
from tests.unit.small import TEXT, pipeline

BASE = pipeline(request=RequestShape(budget_ms=200, repeat_s=1.0))
EITHER = Policy(steps=(Step(until=1.0, accept=("champion", "challenger")),))
WORDS = ("champion", "challenger", "first", "second")
_steps = st.lists(
    st.tuples(st.sampled_from([0.05, 0.2, 1 / 3, 0.5, 0.6, 0.85, 0.99]), st.sets(st.sampled_from(WORDS), min_size=1)),
    max_size=3,
    unique_by=lambda step: step[0],
)


@st.composite
def changed(draw: st.DrawFn) -> Pipeline:
    """A pipeline with other steps, another budget, and perhaps fewer models."""
    steps = [
        Step(until=until, accept=tuple(sorted(words))) for until, words in sorted(draw(_steps), key=lambda s: s[0])
    ]
    steps.append(Step(until=1.0, accept=("champion", "challenger")))
    of = replace(BASE, policy=Policy(steps=tuple(steps)))
    of = replace(of, request=replace(of.request, budget_ms=draw(st.sampled_from([1, 4, 7, 20, 37, 60, 200, 611]))))
    if draw(st.booleans()) and not any("second" in step.accept for step in steps):
        of = only_models(of, draw(st.sampled_from([("first", "mirror"), ("first",)])))
    return of


def lived(seed: int, count: int = 120, *, plain: bool = False, repeats: bool = True) -> Lived:
    """Whole milliseconds collide; unless plain, models fail and are passed over, requests repeat, name budgets, refine."""
    dice = random.Random(seed)

    def latency(own: random.Random, _: str) -> float | None:
        chance = own.random()
        took = float(own.choice((1, 4, 12, 16, 18, 20, 30, 60, 120, 230)))
        return None if chance < 0.1 else -took if chance < 0.3 and not plain else took

    values = []
    for n in range(count):
        number = n // 2 if n % 7 == 0 and repeats and not plain else n
        named = f',"limits":{{"ms":{50 + number % 3}}}' if number % 5 == 0 else ""
        values.append(b"{" if n % 31 == 30 else f'{{"request_id":"r{number}","x":{number}{named}}}'.encode())
    asks = (lambda n: [("refine", b"%d" % (n % 2))] if n % 8 < 4 else None) if not plain else lambda _: None
    found = play(BASE, values, seed, latency, rate=dice.choice((0.1, 1.0)), headers=asks)
    for record in found.raw[::9] if not plain else ():
        block = NotAskedBlock(("second", "mirror", "unknown"), pack_offsets([record.offset]), "overloaded")
        log_ms = record.timestamp_ms + dice.choice((0, 5, 40))
        found.scores.append(Record(0, log_ms, 1, None, encode_scores(block), None))
    found.scores.sort(key=lambda one: (one.timestamp_ms, dice.random()))
    found.scores = [replace(one, offset=place) for place, one in enumerate(found.scores)]
    return found


def by_core(ways: Sequence[Pipeline], found: Lived, names: Names) -> list[Answers]:
    past = Past(BASE, 0, [Way(str(place), way) for place, way in enumerate(ways)], LEAD_MS, names)
    past.run(iter(found.raw), iter(found.scores))
    return [variant.answered.rows(past.asked.offsets) for variant in past.variants]


def recorded(found: Lived, names: Names) -> Recorded:
    one = Recorded(BASE, names)
    asking = {record.offset for record in found.raw if record.headers == [("refine", b"1")]}
    for records, take in (
        (
            found.raw,
            lambda offsets, at_ms, _: one.requests_seen(offsets, at_ms, asking.intersection(offsets.tolist())),
        ),
        (found.scores, lambda offsets, at_ms, values: one.scores_offered(offsets, at_ms, packed(values))),
        (found.decisions, lambda _, at_ms, values: one.decided(values, at_ms)),
    ):
        for start in range(0, len(records), 200):
            part = records[start : start + 200]
            offsets, at_ms = (
                np.array(column) for column in zip(*((r.offset, r.timestamp_ms) for r in part), strict=True)
            )
            take(offsets, at_ms, [record.value for record in part])
    return one


def packed(values: Sequence[bytes | None]) -> Values:
    """As they lie in a file."""
    lengths = np.array([len(value or b"") for value in values])
    data = np.frombuffer(b"".join(value or b"" for value in values), dtype=np.uint8)
    return Values(data, np.cumsum(lengths) - lengths, lengths)


LIVES = {seed: lived(seed, plain=seed % 4 == 1, repeats=seed % 4 != 2) for seed in range(8)}


@settings(max_examples=150, deadline=None)
@given(seed=st.sampled_from(sorted(LIVES)), way=changed())
def test_the_columns_give_the_answers_of_the_core(seed: int, way: Pipeline):
    found, names = LIVES[seed], Names()
    one = recorded(found, names)
    table = one.table(BASE.request.budget_ms)
    (core,) = by_core([way], found, names)
    assert not cannot(way, BASE, table)
    columns = answers(way, BASE, table, LEAD_MS, names)
    for name in ("outcome", "model", "score", "used_ms"):
        ours, theirs = getattr(columns, name), getattr(core, name)
        wrong = np.flatnonzero(~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))))
        assert not len(wrong), (name, wrong[:5], ours[wrong][:5], theirs[wrong][:5])


def test_what_models_are_given_and_who_watches_them_changes_no_answer():
    """As the flights have it: else a simulation of theirs would be the core's, at twelve times the cost."""
    found, names = LIVES[1], Names()
    table = recorded(found, names).table(BASE.request.budget_ms)
    flights = load(PIPELINE)
    way = replace(BASE, monitor=flights.monitor, enrich=flights.enrich)
    assert way.monitor
    assert way.enrich
    assert not cannot(way, way, table)
    (core,) = by_core([way], found, names)
    assert (answers(way, way, table, LEAD_MS, names).used_ms == core.used_ms).all()


@settings(max_examples=100, deadline=None)
@given(
    blocks=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "long-name"]),
            st.sampled_from(["1", "2"]),
            st.lists(st.tuples(st.integers(0, 1 << 62), st.floats(allow_nan=False)), max_size=3),
            st.sampled_from(["", "", "", "raised", "tick", "torn", "none"]),
        ),
        max_size=60,
    )
)
def test_blocks_read_at_once_are_those_read_one_by_one(blocks):
    values: list[bytes | None] = []
    for model, version, rows, odd in blocks:
        offsets, scores = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64)
        errors = (RowError(5, odd),) if odd == "raised" else ()
        value = encode_scores(score_block(model, version, offsets, scores, errors))
        values.append({"tick": encode_scores(TickBlock(1.0)), "torn": value[:-3], "none": None}.get(odd, value))
    groups, others = alike(packed(values))
    found = {int(row) for group in groups for row in group.rows}
    assert found.isdisjoint(others.tolist())
    assert found | set(others.tolist()) == set(range(len(values)))
    for group in groups:
        for row, offsets, scores in zip(group.rows, group.offsets, group.scores, strict=True):
            block = ScoreBlock(group.model, group.version, offsets.tobytes(), scores.tobytes())
            assert encode_scores(block) == values[row]


def test_a_thousand_blocks_that_are_alike_are_one_group_and_those_with_errors_are_none():
    blocks = [score_block("a", "1", np.array([n]), np.array([n / 7])) for n in range(1000)]
    groups, others = alike(packed([encode_scores(block) for block in blocks]))
    assert [(len(group.rows), len(others)) for group in groups] == [(1000, 0)]
    failing = [encode_scores(replace(block, errors=(RowError(7, "raised"),))) for block in blocks]
    assert [len(found) for found in alike(packed(failing))] == [0, 1000]


def test_of_two_scores_of_one_request_the_first_in_the_log_counts():
    one = Recorded(BASE, Names())
    twos = [score_block("first", "1", np.array([n, n + 100]), np.array([0.25, 0.5])) for n in range(20)]
    ones = [score_block("first", "1", np.array([n]), np.array([0.75])) for n in range(20)]
    values = packed([encode_scores(block) for block in (*twos, *ones)])
    one.requests_seen(np.arange(20), np.full(20, 1_000))
    one.scores_offered(np.arange(40), np.arange(2_000, 2_040), values)
    scores, log_ms, positions = one.table(100).scores["first"]
    assert (scores == 0.25).all()
    assert (log_ms.tolist(), positions.tolist()) == (list(range(2_000, 2_020)), list(range(20)))


def asked(folder: Path, archive: Path, *options: str, text: str = TEXT) -> Result:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pipeline.toml"
    file.write_text(text)
    command = ["-P", str(file), "--archive", str(archive), *options]
    return CliRunner().invoke(simulate, command, standalone_mode=False)


def said(result: Result) -> dict:
    assert result.exception is None, result.exception
    return json.decode(result.stdout.encode())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The champion takes 40 ms, the challenger 10; the champion is right, the challenger always says no."""
    of = pipeline()
    took = {"first": 40.0, "second": 10.0}
    scores = {"first": lambda n: float(n % 2), "second": lambda _: 0.2}
    values = [b'{"request_id":"r%d","x":1}' % n for n in range(400)]
    found = play(
        of,
        values,
        1,
        lambda _, model: took.get(model, 1.0),
        score=lambda model, n: scores.get(model, lambda _: 0.3)(n),
    )
    return found.write(tmp_path_factory.mktemp("archive"), "small", rows=150)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(f'{{"request_id":"r{n}","label":{n % 2}}}\n' for n in range(400)))
    return path


def test_a_sweep_says_what_each_budget_costs(tmp_path: Path, archive: Path, labels: Path):
    page = tmp_path / "page.html"
    options = ("--budgets", "100,10,30", "--labels", str(labels), "--json", "--html", str(page))
    found = said(asked(tmp_path, archive, *options))
    points = {point["budget_ms"]: point["figures"] for point in found["sweep"]["unchanged"]}
    assert list(points) == [10, 30, 100]
    assert [points[ms]["outcomes"]["default"] for ms in (10, 30, 100)] == [1.0, 0.0, 0.0]
    assert [points[ms]["outcomes"]["preferred"] for ms in (10, 30, 100)] == [0.0, 0.0, 1.0]
    assert points[30]["latency_ms"] == {"p50": 18.0, "p90": 18.0, "p99": 18.0, "p99.9": 18.0, "most": 18.0}
    assert [points[ms]["quality"]["accuracy"] for ms in (10, 30, 100)] == [0.5, 0.5, 1.0]
    assert page.read_text().count("<svg") == 3


def test_archived_labels_count_where_none_are_given_and_a_bandit_learns_by_them(
    tmp_path: Path, archive: Path, labels: Path
):
    root = tmp_path / "labelled"
    copytree(archive, root)
    last = START_MS + 2_000  # a truth comes when some of the requests are over
    records = [
        Record(n, last, 1, None, encode_label(Label(truth=n % 2 == 1, request_id=f"r{n}")), None) for n in range(400)
    ]
    writer = PartitionWriter(Layout(root, "small.labels", 0), Limits(1_000, 1 << 26, 60.0), "id", "w")
    writer.append(records, 0.0)
    writer.close_segment()
    bandit = tmp_path / "bandit.toml"
    bandit.write_text('[policy]\nkind = "bandit"\nsteps = [{until = 1.0, accept = ["champion", "challenger"]}]')
    options = ("--policy", str(bandit), "--json")
    found = said(asked(tmp_path, root, *options))
    assert said(asked(tmp_path, root, *options, "--labels", str(labels))) == found
    assert found["ways"]["unchanged"]["quality"]["accuracy"] == 1.0
    assert 0.65 < found["ways"]["bandit"]["quality"]["accuracy"] < 0.85, "either arm, as no label was there in time"
    assert said(asked(tmp_path, archive, *options))["ways"]["unchanged"]["quality"]["labelled"] == 0


def test_candidates_stand_side_by_side_with_what_happened(tmp_path: Path, archive: Path, labels: Path):
    hasty, alone = tmp_path / "hasty.toml", tmp_path / "alone.toml"
    hasty.write_text('[policy]\nsteps = [{until = 1.0, accept = ["challenger"]}]')
    alone.write_text('models = ["second"]\nbudget_ms = 50\n[default]\nscore = 0.4')
    options = ("--policy", str(hasty), "--policy", str(alone), "--labels", str(labels), "--json")
    found = said(asked(tmp_path, archive, *options))
    assert list(found["ways"]) == ["happened", "unchanged", "hasty", "alone"]
    assert found["ways"]["happened"]["quality"]["accuracy"] > 0.95
    assert found["ways"]["hasty"]["winners"] == {"second": 1.0}
    assert found["ways"]["hasty"]["outcomes"]["fallback"] == 1.0
    assert found["ways"]["alone"]["outcomes"]["preferred"] == 1.0
    assert found["ways"]["alone"]["latency_ms"]["p50"] == 10.0
    assert found["compared"]["hasty"]["other_side"] == 200
    assert found["different"]["hasty"][0] == {
        "request_id": "r0",
        "ticket": "0/0",
        "unchanged": "preferred by first 0.0000",
        "candidate": "fallback by second 0.2000",
    }
    assert not [note for note in found["notes"] if "core" in note]


def test_what_columns_cannot_do_the_core_does_and_says_so(tmp_path: Path, archive: Path):
    every = tmp_path / "all.toml"
    every.write_text('[policy]\nanswer = "all"')
    found = said(asked(tmp_path, archive, "--policy", str(every), "--json"))
    assert found["notes"] == ["all was run by the core: its policy is no plain schedule"]
    assert found["ways"]["all"]["latency_ms"]["p50"] == 40.0
    assert found["ways"]["all"]["winners"] == {"first": 1.0}


def test_requests_that_ask_for_better_answers_are_answered_so(tmp_path: Path):
    """Such a request waits for the best; without the header the fast challenger is taken."""
    of = pipeline(policy=EITHER)
    file = tmp_path / "pipeline.toml"
    file.write_text(TEXT + '[policy]\nsteps = [{until = 1.0, accept = ["champion", "challenger"]}]\n')
    took, found = {"first": 40.0, "second": 10.0}, {}
    for name, headers in (
        ("plain", None),
        ("asks", [("refine", b"1")]),
        ("other", [("refine", b"0"), ("tenant", b"1")]),
    ):
        values = [b'{"request_id":"r%d","x":1}' % n for n in range(50)]
        lived = play(of, values, 1, lambda _, m: took.get(m, 1.0), headers=lambda _, own=headers: own)
        command = [
            "-P",
            str(file),
            "--archive",
            str(lived.write(tmp_path / name, "small")),
            "--budgets",
            "90",
            "--json",
        ]
        found[name] = said(CliRunner().invoke(simulate, command, standalone_mode=False))
    assert found["asks"]["ways"]["unchanged"]["winners"] == {"first": 1.0}
    assert found["asks"]["sweep"]["unchanged"][0]["figures"]["latency_ms"]["p50"] == 40.0
    assert found["asks"]["notes"] == []
    for name in ("plain", "other"):
        assert (found[name]["ways"]["unchanged"]["winners"], found[name]["notes"]) == ({"second": 1.0}, [])


def test_what_a_model_may_take_for_itself_changes_no_answer(tmp_path: Path, archive: Path):
    text = TEXT.replace('role = "champion"', 'role = "champion"\nmemory_mb = 500\nthreads = 2\nnice = 5', 1)
    found = said(asked(tmp_path, archive, "--budgets", "30", "--json", text=text))
    assert found == said(asked(tmp_path, archive, "--budgets", "30", "--json"))


def test_every_kind_of_policy_may_be_tried(tmp_path: Path, archive: Path):
    tried = {
        "first": ('kind = "first"', {"second": 1.0}),
        "best": ('kind = "best"', {"first": 1.0}),
        "weighted": ('kind = "weighted"\ncohorts = [{model = "second", weight = 1}]', {"second": 1.0}),
        "combine": ('kind = "combine"\nleast = 2', {"combine": 1.0}),
        "rules": ('kind = "rules"\nrules = [{name = "r", when = [WHEN], steps = [STEP]}]', {"second": 1.0}),
        "guarded": ('guards = [{model = "first", min = 2}]', {"second": 1.0}),
        "refined": ('kind = "best"\nrefine = true', {"first": 1.0}),
    }
    options = []
    for name, (form, _) in tried.items():
        text = form.replace("WHEN", '{field = "x", op = "==", value = 1}')
        text = text.replace("STEP", '{until = 1.0, accept = ["second"]}')
        (tmp_path / f"{name}.toml").write_text(f"[policy]\n{text}")
        options += ["--policy", str(tmp_path / f"{name}.toml")]
    found = said(asked(tmp_path, archive, *options, "--json"))
    assert {name: found["ways"][name]["winners"] for name in tried} == {name: won for name, (_, won) in tried.items()}
    assert found["ways"]["combine"]["latency_ms"]["p50"] == 40.0
    assert len(found["notes"]) == len(tried), "all by the core"


def test_two_simulations_give_identical_bytes(tmp_path: Path, archive: Path, labels: Path):
    found = []
    for number in range(2):
        page = tmp_path / f"{number}.html"
        result = asked(tmp_path, archive, "--budgets", "20,60", "--labels", str(labels), "--html", str(page))
        assert result.exception is None
        found.append((result.stdout, page.read_bytes()))
    assert found[0] == found[1]
    assert "what a budget costs" in found[0][0]


def test_a_range_of_a_part_is_simulated_alone(tmp_path: Path, archive: Path):
    whole = said(asked(tmp_path, archive, "--budgets", "30", "--json"))
    since = 1_764_000_000_000 + 300
    part = said(asked(tmp_path, archive, "--budgets", "30", "--json", "--since", str(since)))
    assert 0 < part["requests"] < whole["requests"] == 400
    assert part["sweep"]["unchanged"][0]["figures"]["answered"] == part["requests"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "what is to be tried?"),
        (("--budgets", "20,x"), 2, "no list of budgets"),
        (("--budgets", "0"), 5, "out of bounds"),
        (("--budgets", "20", "--since", "2026-01-02", "--until", "2026-01-01"), 2, "ends before it starts"),
        (("--budgets", "20", "--since", "2026-01-02"), 5, "no request of small.raw"),
        (("--budgets", "20", "--since", "yesterday"), 2, "no instant"),
        (("--policy", "no.toml"), 5, "no.toml: No such file"),
    ],
)
def test_wrong_words_are_refused_with_their_code(
    options: tuple[str, ...], code: int, words: str, tmp_path: Path, archive: Path
):
    error = asked(tmp_path, archive, *options).exception
    assert isinstance(error, RendezvousError | click.ClickException)
    assert error.exit_code == code
    assert words in str(error)


def test_a_number_that_is_none_is_left_to_the_core():
    for scores, offsets in ((np.array([np.inf]), None), (None, np.array([-1]))):
        found, names = play(BASE, [b'{"x":1}'] * 20, 1, lambda _, __: 5.0), Names()
        block = decode_scores(found.scores[4].value)
        assert isinstance(block, ScoreBlock)
        odd = replace(
            block,
            scores=block.scores if scores is None else scores.tobytes(),
            offsets=block.offsets if offsets is None else offsets.tobytes(),
        )
        found.scores[4] = replace(found.scores[4], value=encode_scores(odd))
        assert "a number that is none" in cannot(BASE, BASE, recorded(found, names).table(200))


def test_a_damaged_file_a_gap_and_another_archive_are_refused(tmp_path: Path, archive: Path):
    def refused(*words: str, at: Path = archive) -> None:
        error = asked(tmp_path, at, "--budgets", "20").exception
        assert isinstance(error, RendezvousError), error
        assert all(word in str(error) for word in words), error

    refused("the archive holds nothing of small.raw; it is empty", at=tmp_path / "none")
    refused("and holds fraud.decisions, fraud.raw", at=play(BASE, [b"{}"], 1).write(tmp_path / "other", "fraud"))
    for topic, words in (("raw", "150 to 299"), ("decisions", "150 to 299"), ("scores", "300 to 449")):
        path = Layout(archive, f"small.{topic}", 0).segments()[1 if topic != "scores" else 2]
        whole = path.read_bytes()
        try:
            path.write_bytes(whole[:900] + bytes([whole[900] ^ 1]) + whole[901:])
            refused(f"{path}: offsets {words} are not as they were sealed")
            path.unlink()
            refused(f"offsets {words} are missing before it")
            table = pq.read_table(BytesIO(whole))
            newer = {**(table.schema.metadata or {}), b"format": b"9"}
            path.write_bytes(b"".join(sealed_parts(table.replace_schema_metadata(newer))))
            refused(f"{path}: format '9'; this program reads format 1: upgrade it")
        finally:
            path.write_bytes(whole)


def test_what_lies_wholly_before_the_range_and_its_horizon_is_not_read(tmp_path: Path, archive: Path):
    since, text = str(1_764_000_000_000 + 620), TEXT.replace("budget_ms = 100", "budget_ms = 100\nrepeat_s = 0", 1)
    whole = asked(tmp_path, archive, "--budgets", "30", "--json", "--since", since, text=text)
    assert said(whole)["requests"] > 50
    path = Layout(archive, "small.raw", 0).segments()[0]
    kept = path.read_bytes()
    try:
        path.write_bytes(kept[:900] + bytes([kept[900] ^ 1]) + kept[901:])
        again = asked(tmp_path, archive, "--budgets", "30", "--json", "--since", since, text=text)
        assert again.stdout == whole.stdout
        horizon = asked(tmp_path, archive, "--budgets", "30", "--since", since)
        assert str(path) in str(horizon.exception), "a repeat's first may lie there"
    finally:
        path.write_bytes(kept)
