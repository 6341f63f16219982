"""A block of events as one vector of sums: blocks add up to windows, windows to a reference, in any order.

Everything the statistics need is a sum over events, so a window of any length costs one addition a block, and memory
does not grow with time.
"""

from functools import lru_cache

import numpy as np
from msgspec import Struct

from schemas.blocks import Matrix
from streams.core.verdicts.fields import BINS, Bins
from streams.core.verdicts.inputs import Coarse

WIDE = BINS + 1
JOINT_FIELDS = 40


class Layout(Struct, frozen=True):
    """Where each sum lies in the vector: F fields, M models, T targets (models, then pairs), L latencies."""

    fields: int
    models: int
    targets: int
    latencies: int

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each part."""
        width = Coarse(self.fields).width
        joint = min(self.fields, JOINT_FIELDS) * 2
        return {
            "rows": (1,),
            "gaps": (
                4,
            ),  # gaps between events: how many, their sum in ms, the sum of their logs, of the squares of these
            "bins": (self.fields + self.models, WIDE),
            "odd": (self.fields,),  # another type than the field has
            "alone": (self.fields,),  # missing where the field that is usually missing with it is there
            "unseen": (self.fields,),  # a category, or one of few numbers, that the reference never had
            "outside": (self.fields,),  # far outside the reference's range
            "cross": (joint, joint),  # products of the fields' normal scores
            "left": (3, self.targets),  # residuals: how many, sum, sum of squares
            "fourth": (self.targets,),
            "same": (self.targets - self.models,),  # of each pair: rows that both answer exactly alike
            "profile": (self.models, self.fields, width),  # residuals by the bins of each field
            "profile_squares": (self.models, self.fields, width),
            "bad": (self.models,),  # scores that are no finite number
            "latency": (3, self.latencies),  # how many, sum of logs, sum of their squares
        }


@lru_cache(maxsize=16)
def _slices(layout: Layout) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Where each part lies."""
    found, start = {}, 0
    for name, shape in layout.sizes().items():
        size = int(np.prod(shape))
        found[name] = (slice(start, start + size), shape)
        start += size
    return found


class Sums:
    """A vector of sums by the names of its parts."""

    __slots__ = ("slices", "vector")

    def __init__(self, layout: Layout, vector: Matrix | None = None) -> None:
        self.slices = _slices(layout)
        if vector is None:
            vector = np.zeros(max(place.stop for place, _ in self.slices.values()))
        self.vector = vector

    def __getitem__(self, name: str) -> Matrix:
        place, shape = self.slices[name]
        return self.vector[place].reshape(shape)


class Block(Struct):
    """What one block's columns say, before it is summed. Counts of a field are (fields,)."""

    bins: Bins  # (rows, fields + models)
    left: Matrix  # (rows, targets)
    odd: Matrix
    alone: Matrix
    unseen: Matrix
    outside: Matrix
    bad: Matrix  # (models,)
    same: Matrix  # (pairs,)
    gaps: tuple[float, float, float, float]
    latencies: Matrix  # (rows, L) logs of ms, NaN where none


class Summing:
    """Sums blocks; holds the tables that this takes."""

    def __init__(self, layout: Layout, table: Matrix) -> None:
        """`table` are the fields' two normal scores by bin, (fields, WIDE, 2)."""
        self.layout = layout
        self.coarse = Coarse(layout.fields)
        joint = min(layout.fields, JOINT_FIELDS)
        self.table = table[:joint]
        self.columns = np.arange(layout.fields + layout.models) * WIDE
        self.joint = np.arange(joint)

    def sum(self, block: Block) -> Sums:
        """The block as one vector."""
        layout = self.layout
        sums = Sums(layout)
        rows, fields, models = len(block.bins), layout.fields, layout.models
        sums["rows"][0] = rows
        sums["gaps"][:] = block.gaps
        flat = (block.bins + self.columns).ravel()
        sums["bins"][:] = np.bincount(flat, minlength=WIDE * (fields + models)).reshape(-1, WIDE)
        for name in ("odd", "alone", "unseen", "outside"):
            sums[name][:] = getattr(block, name)
        sums["bad"][:] = block.bad
        sums["same"][:] = block.same
        if fields:
            places = block.bins[:, : len(self.joint)] + self.columns[: len(self.joint)]
            normal = self.table.reshape(-1, 2).take(places, 0).reshape(rows, -1)
            sums["cross"][:] = normal.T @ normal
        there = ~np.isnan(block.left)
        left = np.where(there, block.left, 0.0)
        squares = left * left
        sums["left"][:] = there.sum(0), left.sum(0), squares.sum(0)
        sums["fourth"][:] = (squares * squares).sum(0)
        self._profile(sums, block.bins[:, :fields], left[:, :models])
        timed = ~np.isnan(block.latencies)
        logs = np.where(timed, block.latencies, 0.0)
        sums["latency"][:] = timed.sum(0), logs.sum(0), (logs * logs).sum(0)
        return sums

    def _profile(self, sums: Sums, bins: Bins, left: Matrix) -> None:
        fields, width = self.layout.fields, self.coarse.width
        if not fields:
            return
        places = self.coarse.places(bins).ravel()
        for model in range(self.layout.models):
            weights = np.repeat(left[:, model], fields)
            size = fields * width
            sums["profile"][model] = np.bincount(places, weights, size).reshape(fields, width)
            sums["profile_squares"][model] = np.bincount(places, weights * weights, size).reshape(fields, width)
