"""From the first events to a frozen reference: kinds of fields, expectations, sums, and its own restlessness."""

import numpy as np
from msgspec.structs import replace

from schemas.blocks import Matrix
from streams.core.verdicts.calibration import calibrated
from streams.core.verdicts.confined import declared_in
from streams.core.verdicts.daytime import time_of_day
from streams.core.verdicts.events import CANARY, Setting
from streams.core.verdicts.expected import all_pairs, fit
from streams.core.verdicts.fields import (
    BINS,
    NONE,
    WATCHED,
    Bins,
    Coded,
    Column,
    Vocabulary,
    column,
    normal_scores,
    quantile_edges,
    standardised,
)
from streams.core.verdicts.inputs import inputs_of
from streams.core.verdicts.intake import Rows
from streams.core.verdicts.order import usual_order
from streams.core.verdicts.ranks import ranks_of
from streams.core.verdicts.reference import (
    BLOCK,
    WINDOW,
    Reference,
    company_of,
    latency_logs,
    missing_alone,
    same_answers,
)
from streams.core.verdicts.shifts import Shifts
from streams.core.verdicts.strange import foreign, never_elsewhere, outside_elsewhere
from streams.core.verdicts.sums import Block, Layout, Summing, Sums
from streams.core.verdicts.thresholds import Thresholds

LEAST_SCORED = 0.5


class Recorder:
    """Takes the reference's blocks and freezes them."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.words = [Vocabulary() for _ in setting.features]
        self.coded: list[list[Coded]] = []
        self.blocks: list[Rows] = []

    def take(self, rows: Rows) -> None:
        """One block of the reference."""
        given = [event.features for event in rows.events]
        self.coded.append(
            [
                words.learn([row.get(name) for row in given])
                for name, words in zip(self.setting.features, self.words, strict=True)
            ]
        )
        rows.events = []
        self.blocks.append(rows)

    def freeze(self) -> Reference:
        """The reference of all blocks taken; raises ValueError when no model has scores in it."""
        notes: list[str] = []
        kept = self._models(notes)
        fields, coded, words = self._fields(notes)
        scores = np.concatenate([rows.scores[:, kept] for rows in self.blocks])
        models = [list(self.setting.models)[place] for place in kept]
        ranks = ranks_of(scores)
        score_columns = [_score_column(name, scores[:, place]) for place, name in enumerate(models)]
        bins = _bins(fields, coded, words, score_columns, scores)
        canaries = [self.setting.models[name].role == CANARY for name in models]
        ranked = ranks.of(scores)
        tables = _bin_scores(fields, bins, ranked)
        table = np.zeros((len(fields), BINS + 1, 2))
        table[:, :BINS] = np.stack(tables, 2)[: len(fields)]
        expected, left = fit(inputs_of(table), bins[:, : len(fields)], ranked, all_pairs(canaries))
        latencies = self._timed()
        layout = Layout(len(fields), len(models), left.shape[1], len(latencies))
        gaps = np.array([rows.gaps for rows in self.blocks]).sum(0)
        shifts = Shifts(layout, np.array([one.kind == "category" for one in fields], bool), tables)
        nothing = Sums(layout)
        found = Reference(
            fields=fields,
            models=models,
            kept=kept,
            canaries=canaries,
            company=company_of(bins[:, : len(fields)]),
            score_columns=score_columns,
            ranks=ranks,
            expected=expected,
            order=usual_order(expected, ranked, left, WINDOW * BLOCK),
            summing=Summing(layout, table),
            shifts=shifts,
            vectors=np.empty((0, 0)),
            total=nothing.vector,
            usual=shifts.usual(nothing),
            daytimes=np.array([time_of_day(rows.at_ms) for rows in self.blocks]),
            by_clock=np.zeros(1, bool),
            thresholds=Thresholds({}, clustered=False, spread=np.empty(0), widest=np.empty(0)),
            latencies=latencies,
            notes=notes,
            gap_ms=float(gaps[1] / max(gaps[0], 1)),
            declared=declared_in(self.setting.segments, fields, bins, left[:, : len(models)]),
        )
        vectors = self._vectors(found, coded, bins, left)
        total = vectors.sum(0)
        whole = replace(found, vectors=vectors, total=total, usual=shifts.usual(Sums(layout, total)))
        return calibrated(whole, float(gaps[1]))

    def _models(self, notes: list[str]) -> list[int]:
        there = np.mean(np.concatenate([~np.isnan(rows.scores) for rows in self.blocks]), 0)
        names = list(self.setting.models)
        notes += [
            f"model {names[place]} has too few scores in the reference and is not watched"
            for place in np.flatnonzero(there < LEAST_SCORED)
        ]
        kept = np.flatnonzero(there >= LEAST_SCORED).tolist()
        if not kept:
            raise ValueError("no model has scores for half of the reference")
        return kept

    def _fields(self, notes: list[str]) -> tuple[list[Column], list[Coded], list[Vocabulary]]:
        fields, coded, words = [], [], []
        for place, name in enumerate(self.setting.features):
            blocks = [block[place] for block in self.coded]
            whole = Coded(
                np.concatenate([block.numbers for block in blocks]),
                np.concatenate([block.words for block in blocks]),
                np.array([block.odd[0] for block in blocks]),
            )
            one = column(name, whole, self.words[place])
            if one.kind in WATCHED:
                fields.append(one)
                coded.append(whole)
                words.append(self.words[place])
            else:
                notes.append(f"field {name} is not watched: {one.kind}")
        return fields, coded, words

    def _timed(self) -> list[str]:
        counts: dict[str, int] = {}
        for rows in self.blocks:
            for name, logs in rows.latencies.items():
                counts[name] = counts.get(name, 0) + int((~np.isnan(logs)).sum())
        total = sum(len(rows.at_ms) for rows in self.blocks)
        return sorted(name for name, count in counts.items() if count >= LEAST_SCORED * total)

    def _vectors(self, found: Reference, coded: list[Coded], bins: Bins, left: Matrix) -> Matrix:
        """Sums of each block; new values and the range as the rest of the reference would see them."""
        size = len(self.blocks[0].at_ms)
        window = np.arange(len(bins)) // (size * WINDOW)
        fields = list(zip(found.fields, coded, strict=True))
        shape = (len(self.blocks), len(fields))
        odd, unseen, outside = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for place, (one, values) in enumerate(fields):
            odd[:, place] = foreign(one, values, size)
            unseen[:, place] = never_elsewhere(one, values, window).reshape(-1, size).sum(1)
            outside[:, place] = outside_elsewhere(one, values, window).reshape(-1, size).sum(1)
        alone = missing_alone(bins[:, : len(fields)], found.company).reshape(len(self.blocks), size, -1).sum(1)
        vectors = []
        for number, rows in enumerate(self.blocks):
            part = slice(number * size, (number + 1) * size)
            logs = latency_logs(rows, found.latencies)
            block = Block(
                bins[part],
                left[part],
                odd[number],
                alone[number].astype(float),
                unseen[number],
                outside[number],
                rows.bad[found.kept],
                same_answers(rows.scores[:, found.kept], found.expected.pairs),
                rows.gaps,
                logs,
            )
            vectors.append(found.summing.sum(block).vector)
        return np.array(vectors)


def _score_column(name: str, scores: Matrix) -> Column:
    edges = quantile_edges(scores[~np.isnan(scores)])
    return Column(name=name, kind="number", edges=edges, known=np.empty(0), words={})


def _bins(
    fields: list[Column], coded: list[Coded], words: list[Vocabulary], models: list[Column], scores: Matrix
) -> Bins:
    """(rows, fields + models) bins of the whole reference."""
    bins = np.empty((len(scores), len(fields) + len(models)), np.intp)
    for place, (one, values, known) in enumerate(zip(fields, coded, words, strict=True)):
        if one.kind == "number":
            bins[:, place] = one.bins(values.numbers)
        else:
            table = np.array([*(one.words.get(word, 0) for word in known.index), NONE])
            bins[:, place] = table[values.words]  # -1, none, is the last
    for place, one in enumerate(models):
        bins[:, len(fields) + place] = one.bins(scores[:, place])
    return bins


def _bin_scores(fields: list[Column], bins: Bins, ranks: Matrix) -> tuple[Matrix, Matrix]:
    """Two scores of each bin: normal scores of its rank; a category's bins are ordered by what models say of them."""
    counts = np.stack([np.bincount(column, minlength=BINS + 1)[:BINS] for column in bins.T]).astype(float)
    first, second = normal_scores(counts)
    there = ~np.isnan(ranks)
    mean = np.where(there, ranks, 0.0).sum(1) / np.where(there.any(1), there.sum(1), np.nan)
    for place, one in enumerate(fields):
        if one.kind == "category":
            usual = np.bincount(bins[:, place], np.nan_to_num(mean), BINS + 1)[:BINS] / np.maximum(counts[place], 1)
            share = counts[place] / max(counts[place].sum(), 1)
            shrunk = np.where(counts[place] >= 20, usual, mean[~np.isnan(mean)].mean())
            first[place], second[place] = standardised(shrunk[None], share[None])[0], 0.0
    return first, second
