"""Models held against labels, from an archive: the figures by another road, days, segments, and what is stored."""

from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from msgspec import json
from msgspec.structs import replace

from agents.cli.quality import quality
from schemas.blocks import ScoreBlock, decode_scores, encode_scores, offsets_of, scores_of
from schemas.decisions import decode_decision
from schemas.errors import ConfigurationRefused, RendezvousError
from schemas.labels import Label, encode_label
from schemas.pipeline import RequestShape
from schemas.topics import Topics
from streams.archive import figures, seal
from streams.archive.figures import read_figures
from streams.archive.layout import Layout
from streams.archive.reader import read_partition
from streams.archive.segment import WRITING, Record
from streams.archive.writer import Limits, PartitionWriter
from streams.core.event_fields import as_segment
from streams.core.judged import DAY_MS, SETTLE_MS
from tests.unit.lived import START_MS, Lived, play
from tests.unit.small import TEXT, pipeline

SETTINGS = """
[labels]
segments = ["colour", "limits.ms"]
expected = 0.8
mature_days = 30

[labels.costs]
false_no = 5.0
"""
OF = pipeline(request=RequestShape(budget_ms=100, budget="limits.ms", repeat_s=0))
DAY_START_MS = START_MS // DAY_MS * DAY_MS
COLOURS = ("red", "green")


def truth_of(number: int) -> bool:
    return number % 3 == 0


def lived(count: int = 200) -> Lived:
    values = [
        json.encode({"request_id": f"r{number}", "x": number, "colour": COLOURS[number % 2]})
        for number in range(count)
    ]

    def score(model: str, offset: int) -> float:
        own = {"first": 0.3, "second": 0.2, "mirror": 0.1, "yardstick": 0.0}[model]
        return round(min(1.0, own * truth_of(offset) + ((offset * 37) % 100) / 125), 4)

    return play(OF, values, score=score, rate=0.05)


def archived(tmp_path: Path, count: int = 200) -> Path:
    return lived(count).write(tmp_path / "archive", "small")


def label(root: Path, labels: dict[str, bool], log_ms: int) -> None:
    layout = Layout(root, Topics("small").labels, 0)
    writer = PartitionWriter(layout, Limits(10_000, 1 << 20, 60.0), "id", "w")
    start = writer.scan()
    found = [
        Record(start + place, log_ms, 1, None, encode_label(Label(truth, name)), None)
        for place, (name, truth) in enumerate(labels.items())
    ]
    writer.append(found, 0.0)
    writer.close_segment()


def told(tmp_path: Path, *words: str, settings: str = SETTINGS, text: str = TEXT) -> dict:
    file = tmp_path / "p.toml"
    file.write_text(text + settings)
    words = (*words, "-P", str(file), "--archive", str(tmp_path / "archive"), "--json")
    found = CliRunner().invoke(quality, list(words), standalone_mode=False)
    if found.exception:
        raise found.exception
    return json.decode(found.stdout)


def test_the_figures_are_those_of_the_records_in_the_archive(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(150)}, START_MS + DAY_MS)
    found = told(tmp_path)
    topics = Topics("small")
    scores: dict[str, dict[int, float]] = {}
    for record in read_partition(root, topics.scores, 0):
        block = decode_scores(record.value)
        if isinstance(block, ScoreBlock):
            own = scores.setdefault(block.model, {})
            for offset, score in zip(offsets_of(block.offsets), scores_of(block.scores), strict=True):
                own.setdefault(offset, score)
    for record in read_partition(root, topics.decisions, 0):
        decision = decode_decision(record.value)
        if decision.score is not None:
            scores.setdefault("(decision)", {}).setdefault(decision.ticket.offset, decision.score)
    rows = {row["model"]: row["measures"] for row in found["range"]}
    assert set(rows) == {"(decision)", "first", "second", "mirror", "yardstick"}
    for model, own in scores.items():
        known = [(score, truth_of(offset)) for offset, score in own.items() if offset < 150]
        right = sum((score >= 0.5) == truth for score, truth in known)
        costs = sum((5 if truth else 1) * ((score >= 0.5) != truth) for score, truth in known)
        pairs = [(a > b) + (a == b) / 2 for a, yes in known if yes for b, other in known if not other]
        assert rows[model]["scored"] == len(own)
        assert rows[model]["labelled"] == len(known)
        assert rows[model]["accuracy"]["value"] == pytest.approx(right / len(known), abs=1e-6)
        assert rows[model]["cost"]["value"] == pytest.approx(costs / len(known), abs=1e-6)
        assert rows[model]["auc"]["value"] == pytest.approx(np.mean(pairs), abs=1e-6)
    assert found["labelled"] == 150
    assert found["delay_s"]["p50"] == pytest.approx(DAY_MS / 1e3, rel=0.1)


def test_each_decile_and_the_calibration_error_are_told_with_their_intervals(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(150)}, START_MS + DAY_MS)
    found = {row["model"]: row["measures"] for row in told(tmp_path)["range"]}
    file = tmp_path / "p.toml"
    words = ["-P", str(file), "--archive", str(tmp_path / "archive")]
    shown = CliRunner().invoke(quality, [*words, "--deciles"]).stdout
    assert "calibration by decile" not in CliRunner().invoke(quality, words).stdout
    for measures in found.values():
        error = measures["calibration_error"]
        assert 0 <= error["low"] <= error["value"] <= error["high"] <= 1
        interval = f"{error['value']:.4f} [{error['low']:.4f}, {error['high']:.4f}]"
        assert f"calibration by decile, error {interval}" in shown
        assert interval in shown.split("calibration by decile")[0]
        assert sum(one["rows"] for one in measures["calibration"]) == measures["labelled"]
        for one in measures["calibration"]:
            share = one["truth"]
            assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
            assert f"{one['score']:.4f}  {share['value']:.4f} [{share['low']:.4f}, {share['high']:.4f}]" in shown


def test_a_day_that_was_stored_before_the_calibration_error_had_an_interval_is_still_read(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, DAY_START_MS + 2 * DAY_MS)
    now = told(tmp_path)["days"]
    (file,) = (root / "quality").rglob("*.parquet")
    old = pq.read_table(file).to_pylist()
    for row in old:
        row["measures"]["calibration_error"] = row["measures"]["calibration_error"]["value"]
    kinds = [
        field if field.name != "calibration_error" else field.with_type(pa.float64()) for field in figures._MEASURES
    ]
    schema = figures.TABLE.set(figures.TABLE.get_field_index("measures"), pa.field("measures", pa.struct(kinds)))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(old, schema=schema), sink, **WRITING)
    file.write_bytes(b"".join(bytes(part) for part in seal.sealed(memoryview(sink.getvalue()))))
    again = told(tmp_path)["days"]
    assert again[0]["measures"]["calibration_error"] == {
        "value": now[0]["measures"]["calibration_error"]["value"],
        "low": None,
        "high": None,
    }
    assert again[0]["measures"]["accuracy"] == now[0]["measures"]["accuracy"]


def test_a_segment_s_rows_are_the_whole_s(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, START_MS + DAY_MS)
    whole = {row["model"]: row["measures"] for row in told(tmp_path)["range"]}
    split = told(tmp_path, "--by", "colour")["range"]
    assert {row["value"] for row in split} == set(COLOURS)
    for model, all_rows in whole.items():
        parts = [row["measures"] for row in split if row["model"] == model]
        assert sum(part["labelled"] for part in parts) == all_rows["labelled"]
        right = sum(part["labelled"] * part["accuracy"]["value"] for part in parts)
        assert right == pytest.approx(all_rows["labelled"] * all_rows["accuracy"]["value"], abs=1e-3)
    assert {row["value"] for row in told(tmp_path, "--by", "limits.ms")["range"]} == {"(none)"}


def test_whatever_producers_put_there_is_a_segment_named_as_the_monitor_names_it(tmp_path: Path):
    given = [b"1000001", b"1000002", b"1" + b"0" * 400, b'"\\u001b[1m"', b"[1]", b"null", b"true", b"2.50"] * 5
    values = [b'{"request_id":"r%d","x":1,"n":%b}' % (number, n) for number, n in enumerate(given)]
    play(OF, values, rate=0.05).write(tmp_path / "archive", "small")
    found = told(tmp_path, "--by", "n", settings='[labels]\nsegments = ["n"]\n')
    names = {as_segment(json.decode(one)) for one in given}
    assert names >= {"1000001", "1000002", "(int)", "?[1m", "(list)", "(none)", "true", "2.5"}
    assert {row["value"] for row in found["range"]} == names


def test_a_field_that_is_not_declared_is_refused_by_name(tmp_path: Path):
    archived(tmp_path)
    with pytest.raises(click.UsageError, match=r"declared: colour, limits\.ms"):
        told(tmp_path, "--by", "x")


def states(found: dict) -> set[tuple[str, str, bool]]:
    return {(row["day"], row["state"], row["stored"]) for row in found["days"]}


def test_a_day_is_open_then_provisional_then_mature(tmp_path: Path):
    root = archived(tmp_path)
    (day,) = {row["day"] for row in told(tmp_path)["days"]}
    end_ms = DAY_START_MS + DAY_MS
    assert states(told(tmp_path)) == {(day, "open", False)}
    label(root, {"r0": True}, end_ms + SETTLE_MS)
    assert states(told(tmp_path)) == {(day, "provisional", False)}
    label(root, {f"r{number}": True for number in range(143)}, end_ms + SETTLE_MS)
    assert states(told(tmp_path)) == {(day, "provisional", False)}  # 143 of the 200 * 0.8 * 0.9 = 144
    label(root, {"r143": True}, end_ms + SETTLE_MS)
    assert states(told(tmp_path)) == {(day, "mature", True)}


def test_a_day_without_its_labels_is_mature_after_its_days(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {"r0": True}, DAY_START_MS + 31 * DAY_MS - 1)
    assert {state for _, state, _ in states(told(tmp_path))} == {"provisional"}
    label(root, {"r1": True}, DAY_START_MS + 31 * DAY_MS)
    assert {state for _, state, _ in states(told(tmp_path))} == {"mature"}


def test_a_mature_day_is_never_told_differently(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(190)}, DAY_START_MS + 2 * DAY_MS)
    first = told(tmp_path)
    files = sorted((root / "quality").rglob("*.parquet"))
    assert [file.name for file in files] == ["by=all.parquet"]
    bytes_then = files[0].read_bytes()
    label(root, {f"r{number}": not truth_of(number) for number in range(195)}, DAY_START_MS + 3 * DAY_MS)
    again = told(tmp_path, settings=SETTINGS.replace("expected = 0.8", "mature_share = 1.0\nthreshold = 0.9"))
    assert again["days"] == first["days"]
    assert files[0].read_bytes() == bytes_then
    assert again["range"] != first["range"]  # the whole range is told as labels are now
    assert any("5 labels came after the day was stored" in note for note in again["notes"])
    assert any("stored with the threshold 0.5" in note for note in again["notes"])


def test_a_part_of_a_day_is_not_stored(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, DAY_START_MS + 2 * DAY_MS)
    part = told(tmp_path, "--until", str(START_MS + 2_000))
    assert {(state, stored) for _, state, stored in states(part)} == {("mature", False)}
    assert not (root / "quality").exists()
    assert part["requests"] < 200


def test_what_was_stored_outlives_the_archive_s_retention(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, DAY_START_MS + 2 * DAY_MS)
    first = told(tmp_path)
    empty = Lived([replace(lived(1).raw[0], offset=500, timestamp_ms=START_MS + 9 * DAY_MS)])
    for folder in (root / "data").glob("topic=small%2Eraw"), (root / "data").glob("topic=small.raw"):
        for path in folder:
            for file in path.rglob("*.parquet"):
                file.unlink()
    (root / "staging").rename(root / "was")
    empty.write(root, "small")
    later = told(tmp_path, "--until", str(DAY_START_MS + DAY_MS))
    assert later["days"] == first["days"]
    assert "stored of it is shown" in later["notes"][0]


def test_what_was_stored_is_told_without_any_raw_file_but_in_place_of_no_other_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, DAY_START_MS + 2 * DAY_MS)
    first = told(tmp_path)

    def refused(*_: object) -> None:
        raise ConfigurationRefused("something else is wrong")

    with monkeypatch.context() as patched:
        patched.setattr("agents.cli.quality.read_races", refused)
        with pytest.raises(ConfigurationRefused, match="something else is wrong"):
            told(tmp_path)
    for file in (root / "data" / "topic=small.raw").rglob("*.parquet"):
        file.unlink()
    assert told(tmp_path)["days"] == first["days"]


def test_a_partition_that_has_been_idle_since_before_the_range_stops_neither_its_figures_nor_their_storing(
    tmp_path: Path,
):
    root = archived(tmp_path)
    idle = Lived([replace(lived(1).raw[0], timestamp_ms=DAY_START_MS - 300_000)])
    idle.write(root, "small", partition=1)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, DAY_START_MS + 2 * DAY_MS)
    words = ("--since", str(DAY_START_MS), "--until", str(DAY_START_MS + DAY_MS))
    found = told(tmp_path, *words, text=f"partitions = 2\n{TEXT}")
    assert found["requests"] == 200
    assert {(state, stored) for _, state, stored in states(found)} == {("mature", True)}


def test_stored_figures_with_a_flipped_bit_are_refused_by_name(tmp_path: Path):
    root = archived(tmp_path)
    label(root, {f"r{number}": truth_of(number) for number in range(200)}, DAY_START_MS + 2 * DAY_MS)
    told(tmp_path)
    (file,) = (root / "quality").rglob("*.parquet")
    whole = file.read_bytes()
    for place in range(0, len(whole), 41):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(RendezvousError, match=r"by=all\.parquet: no readable figures"):
            read_figures(file)
    file.write_bytes(whole)
    assert read_figures(file)


def test_each_version_of_a_model_is_told_apart_and_strange_records_are_counted(tmp_path: Path):
    live = lived(40)
    other = decode_scores(next(r.value for r in live.scores if isinstance(decode_scores(r.value), ScoreBlock)))
    more = encode_scores(replace(other, version="2"))
    at = len(live.scores) // 2
    live.scores[at:at] = [replace(live.scores[at], value=value) for value in (more, b"\x00nonsense")]
    live.scores = [replace(record, offset=offset) for offset, record in enumerate(live.scores)]
    live.decisions.append(replace(live.decisions[-1], offset=len(live.decisions), value=b"{}"))
    live.write(tmp_path / "archive", "small")
    found = told(tmp_path)
    assert {(row["version"], row["measures"]["scored"]) for row in found["range"] if row["model"] == other.model} >= {
        ("2", 1)
    }
    assert found["notes"] == ["1 records on decisions that are none", "1 records on scores that are none"]


def test_an_archive_without_labels_has_no_accuracy_and_is_no_error(tmp_path: Path):
    archived(tmp_path, 30)
    found = told(tmp_path)
    assert found["labelled"] == 0
    assert {row["measures"]["accuracy"]["value"] for row in found["range"]} == {None}
    file = tmp_path / "p.toml"
    shown = CliRunner().invoke(quality, ["-P", str(file), "--archive", str(tmp_path / "archive")])
    assert "0 have a label (0.0%)" in shown.stdout
    assert "open: the day is not over" in shown.stdout
