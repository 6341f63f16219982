"""The last blocks of live events: their sums, how far each is from the reference, and the newest ones' events."""

from collections import deque

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.blocks import Matrix
from streams.core.verdicts.daytime import time_of_day
from streams.core.verdicts.events import Event
from streams.core.verdicts.fields import Bins
from streams.core.verdicts.intake import SHORTEST_GAP_MS, Rows
from streams.core.verdicts.reference import SCALES, WINDOW, Reference
from streams.core.verdicts.shifts import OWN, PAIRED, RAW, SCORES, STRANGE
from streams.core.verdicts.sums import Sums
from streams.core.verdicts.thresholds import WIDE_SPREAD
from streams.core.verdicts.wagers import Wager, wager_on

ONSET_Z = 1.0
LEAST_LONG = 0.75
OVERWHELMING = 3.0
RESTLESS_OVERWHELMING = 6.0  # fog, in a summer that had none, came to nearly five
TWO_DAYS = 4.0  # evidence of two days multiplies, as bets on independent games do: so much of it is beyond chance
PART = 1.5
NARROWER = 0.8  # scores nearer to what is expected are less of a surprise than such that are farther from it
SIZES = ("unexplained size", "pair size")
OUTAGES = ("nulls", "new values")  # a day without a weather station is no news
CAREFUL = (*OWN, *PAIRED, *SCORES, "spread", "joint", *OUTAGES)
RATE_FLOOR, LATENCY_FLOOR = np.log(2.0), np.log(1.3)
MANY = 0.05  # of events
BELOW = 0.5  # of a threshold: as much as a change counts for that is under its floor


class Kept(Struct):
    """One block."""

    start: int
    start_ms: float
    events: list[Event]
    scores: Matrix
    bins: Bins
    sums: Sums
    daytime: float
    z: Matrix


class Ring:
    """As many blocks as the longest window has."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.blocks: deque[Kept] = deque(maxlen=SCALES[-1])
        self.overwhelming = np.full(reference.shifts.size, OVERWHELMING)
        self.twice = reference.thresholds.spread > WIDE_SPREAD
        self.thrice = np.zeros(reference.shifts.size, bool)
        self.raw = np.r_[tuple(reference.shifts.groups[name] for name in RAW)]
        self.with_another_day = np.zeros(reference.shifts.size, bool)  # overwhelms, when another day bears it out
        self.believed = np.zeros(reference.shifts.size, bool)  # for another day's sake, at least once
        self.handfuls = np.zeros(len(reference.fields), bool)  # new values of these come and go
        if reference.thresholds.clustered:
            for name in CAREFUL:
                self.twice[reference.shifts.groups[name]] = True
            for name in OUTAGES:
                self.overwhelming[reference.shifts.groups[name]] = np.inf
            restless = reference.thresholds.restless(reference.shifts)
            self.handfuls = restless & reference.shifts.numbers
            for name in (*RAW, *OWN, *PAIRED, *SCORES):
                self.thrice[reference.shifts.groups[name]] = True
            for name in RAW:
                self.overwhelming[reference.shifts.groups[name]][restless] = np.inf
                self.with_another_day[reference.shifts.groups[name]] = restless & (name not in OUTAGES)
        self.unconfirmed = np.zeros(reference.shifts.size)
        self.before: deque[Matrix] = deque(maxlen=2 * WINDOW + 1)
        self.wagers: dict[int, Wager] = {}
        self.won: list[int] = []  # the models that are bet against and are losing
        self.stood = np.zeros(reference.shifts.size)  # the bets, a block ago, on what is so large now

    def deployed(self, model: int, event: int) -> None:
        """A new version of a model answers from this event on: from the next whole block on it is bet against."""
        if not self.reference.thresholds.clustered:
            self.wagers[model] = wager_on(self.reference, model, event)

    def take(self, rows: Rows, start: int) -> Matrix:
        """Add a block; returns every statistic's largest ratio to its threshold, over the lengths of window."""
        reference = self.reference
        events = rows.events
        rows.scores, rows.bad = rows.scores[:, reference.kept], rows.bad[reference.kept]
        block = reference.block(rows)
        sums = reference.summing.sum(block)
        daytime = time_of_day(rows.at_ms)
        beside = reference.beside([daytime])
        z = reference.z(sums, beside)
        self.blocks.append(Kept(start, float(rows.at_ms[0]), events, rows.scores, block.bins, sums, daytime, z))
        if len(self.blocks) > WINDOW:
            self.blocks[-WINDOW - 1].events = []
        return self._wagered(self._many(self._confirmed(self._ratios(beside))))

    def _wagered(self, ratios: Matrix) -> Matrix:
        """The same, or what bets since a deploy are winning, where that is more."""
        last = self.blocks[-1]
        self.won = []
        stood = np.zeros_like(ratios)
        for model, wager in list(self.wagers.items()):
            if last.start < wager.since:
                continue
            before = self._staked(wager)
            stood = np.where(np.abs(before) > np.abs(stood), before, stood)
            wager.take(last.z)
            found = self._staked(wager)
            size = np.abs(found)
            if size.max() >= 1:
                self.won.append(model)
            elif wager.over():
                del self.wagers[model]
            ratios = np.where(size > np.abs(ratios), found, ratios)
        self.stood = _both(stood, ratios)
        return ratios

    def _staked(self, wager: Wager) -> Matrix:
        """(statistics,) how far these bets have come."""
        found = np.zeros(self.reference.shifts.size)
        found[wager.statistics] = wager.ratios()
        return self._calmer(found)

    def _confirmed(self, ratios: Matrix) -> Matrix:
        """What is restless has to be seen in the window before as well, or overwhelm.

        Where days differ it has to be seen in three windows in a row: one unusual day lies in two of them at most.
        The first of the three may begin before the change does. A field as restless as weather overwhelms only
        together with what raw fields, this one or others, showed two windows ago: weather moves many of its fields on
        one strange day, so that day's are one witness, and a season's next day, whatever it shows, is another.
        """
        self.before.append(ratios)
        self.unconfirmed = ratios
        again = _both(self._past(WINDOW), ratios)
        again = np.where(self.thrice, _both(PART * self._past(2 * WINDOW), again), again)
        return np.where(~(self.twice | self.thrice) | self._overwhelms(np.abs(ratios)), ratios, again)

    def _overwhelms(self, sizes: Matrix) -> NDArray[np.bool_]:
        """(statistics,) which of these sizes need no confirmation. No day of one window lies in two so far apart.

        What was believed for another day's sake, and went, was a day and no season: it is not believed so again.
        """
        other_day = np.abs(self._past(2 * WINDOW)[self.raw]).max(initial=0.0)
        borne_out = self.with_another_day & (sizes >= RESTLESS_OVERWHELMING) & (sizes * other_day >= TWO_DAYS)
        self.believed |= borne_out
        self.with_another_day &= ~(self.believed & (sizes < 1))
        return (sizes >= self.overwhelming) | borne_out

    def lasting(self) -> Matrix:
        """How much of each ratio of now was there a window ago, or in bets a block ago, in the same direction."""
        again = _both(self._past(WINDOW), self.unconfirmed)
        return np.where(np.abs(self.stood) > np.abs(again), self.stood, again)

    def lately(self) -> Matrix:
        """The largest ratios before they are confirmed: of now; where days differ, of the block before as well.

        Of a strange day that ends the input looks usual again a little before the scores do.
        """
        if not self.reference.thresholds.clustered:
            return self.unconfirmed
        found: Matrix = np.abs(list(self.before)[-2:]).max(0)
        return found

    def _past(self, blocks: int) -> Matrix:
        """The ratios of so many blocks ago."""
        return self.before[-1 - blocks] if len(self.before) > blocks else np.zeros(self.reference.shifts.size)

    def window(self, blocks: int) -> tuple[Sums, Sums]:
        """Sums of the last blocks, and of the reference beside them."""
        kept = list(self.blocks)[-blocks:]
        live = Sums(self.reference.summing.layout, np.sum([one.sums.vector for one in kept], axis=0))
        return live, self.reference.beside([one.daytime for one in kept])

    def _ratios(self, beside: Sums) -> Matrix:
        """Of all windows that end now; `beside` is the reference at the last block's time of day."""
        of, there, last = self.reference.thresholds, len(self.blocks), self.blocks[-1]
        ratios = self._floored(of.ratios(last.z, 1), last.sums, beside)
        middle = last.z
        for blocks in SCALES[1:]:
            if blocks > WINDOW and of.clustered:  # a few days together differ from the rest more than one does
                continue
            if there < (2 if blocks == WINDOW else LEAST_LONG * blocks):
                continue
            live, usual = self.window(blocks)
            z = self.reference.z(live, usual)
            found = self._floored(of.ratios(z, blocks), live, usual)
            if blocks > WINDOW:  # a long window speaks of what goes on, not of what is over
                found = np.where((z * middle >= 0) & (np.abs(middle) >= 1), found, 0.0)
            middle = z
            ratios = np.where(np.abs(found) > np.abs(ratios), found, ratios)
        return ratios

    def _many(self, ratios: Matrix) -> Matrix:
        """Where days differ, new values of a field as restless as weather have to be many of a window's events.

        A windy afternoon at one airport brings a few dozen, and another one brings others.
        """
        if not self.handfuls.any():
            return ratios
        last = [one.sums for one in list(self.blocks)[-WINDOW:]]
        share = sum(sums["unseen"] for sums in last) / sum(sums["rows"][0] for sums in last)
        few = np.zeros_like(ratios, bool)
        few[self.reference.shifts.groups["new values"]] = self.handfuls & (share < MANY)
        return np.where(few, ratios.clip(-BELOW, BELOW), ratios)

    def _floored(self, ratios: Matrix, live: Sums, usual: Sums) -> Matrix:
        """A rate has to double, a latency to grow by a third, however even they were: less is nobody's trouble.

        A rate by the usual time between two events, of which a night is but one, and by the mean as well: as many
        events as ever, in bursts, are no more of them. Nor are calmer scores a trouble.
        """
        groups = self.reference.shifts.groups
        found = self._calmer(ratios)
        if min(abs(now - before) for now, before in zip(_gaps(live), _gaps(usual), strict=True)) < RATE_FLOOR:
            found[groups["rate"]] = found[groups["rate"]].clip(-BELOW, BELOW)
        logs = [sums["latency"][1] / np.maximum(sums["latency"][0], 1) for sums in (live, usual)]
        latency = found[groups["latency"]]
        little = np.abs(logs[0] - logs[1]) < LATENCY_FLOOR
        found[groups["latency"]] = np.where(little, latency.clip(-BELOW, BELOW), latency)
        return found

    def _calmer(self, ratios: Matrix) -> Matrix:
        """The same, with calmer scores counting for less, and fewer strange values than usual for nothing."""
        found = ratios.copy()
        for name in STRANGE:
            mine = self.reference.shifts.groups[name]
            found[mine] = found[mine].clip(0.0)
        for name in SIZES:
            mine = self.reference.shifts.groups[name]
            found[mine] *= np.where(found[mine] < 0, NARROWER, 1.0)
        return found

    def onset(self, statistic: int) -> Kept:
        """The block in which this statistic began to lean as it leans now: the largest sum of what exceeds chance."""
        z = np.array([one.z[statistic] for one in self.blocks])
        z = z * (1.0 if z[-WINDOW:].sum() >= 0 else -1.0)
        tail = np.cumsum((z - ONSET_Z)[::-1])[::-1]
        return self.blocks[int(np.argmax(tail))]

    def clear_since(self, statistic: int) -> int:
        """The first event of the block from which on this statistic is at least half as large as it ever was.

        Later than the onset, which chance makes early: who was asked before it says nothing of a change.
        """
        size = np.abs([one.z[statistic] for one in self.blocks])
        small = np.flatnonzero(size < size.max() / 2)
        first = min(int(small[-1]) + 1, len(size) - 1) if len(small) else 0
        return self.blocks[first].start

    def since(self, start: int) -> list[Kept]:
        """Blocks from this event on whose events are still here; the newest at least."""
        recent = [one for one in self.blocks if one.events]
        return [one for one in recent if one.start >= start] or recent[-1:]

    def missing(self) -> list[str]:
        """Models without scores, or with such that are no numbers, in the last window."""
        if not self.blocks:
            return []
        live, usual = self.window(WINDOW)
        rows = live["rows"][0]
        notes = []
        for place, name in enumerate(self.reference.models):
            there, before = live["left"][0, place] / rows, usual["left"][0, place] / max(usual["rows"][0], 1)
            if live["bad"][place]:
                notes.append(f"{name}: {int(live['bad'][place])} of {int(rows)} scores are no finite numbers")
            if there < 0.5 * before:
                notes.append(f"{name} scored {int(live['left'][0, place])} of {int(rows)} events")
        return notes


def _gaps(sums: Sums) -> tuple[float, float]:
    """Logs of the time between two events in ms: its geometric mean, and its mean."""
    count, total_ms, logs, _ = sums["gaps"]
    count = max(count, 1)
    return logs / count, float(np.log(max(total_ms / count, SHORTEST_GAP_MS)))


def _both(one: Matrix, other: Matrix) -> Matrix:
    """The smaller of two ratios of the same sign."""
    return np.where(one * other > 0, np.minimum(np.abs(one), np.abs(other)), 0.0) * np.sign(other)
