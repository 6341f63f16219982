"""LightGBM for a block of rows, through its C interface.

`Booster.predict` spends some 40 µs in Python before the first tree, and a block at 1,000 events per second has three
rows: that was half of a scorer's time. The same library is asked for the same numbers. `_LIB` and `_handle` are not
part of its Python interface: `requirements.lock` pins it, and a test compares every score with `Booster.predict`.
"""

import ctypes
from typing import Any

import numpy as np

from schemas.blocks import MAX_ROWS, Matrix

FEW = 4
"""Rows that are cheaper one by one, prepared once, than together."""

FLOAT64, ROW_MAJOR, NORMAL = 1, 1, 0
NO_MEMORY = "bad_alloc"


_pointer = ctypes.c_void_p


class ModelFailed(Exception):
    """LightGBM refused a block; the message is its own."""


class BoosterRows:
    """One booster with a place for the rows and one for the scores. For one thread.

    One process per model is the unit of parallelism: more `threads` inside it cost more CPU at every size.
    """

    def __init__(self, lightgbm: Any, booster: Any, threads: int = 1) -> None:
        self._threads = threads
        self._parameters = b"num_threads=%d" % threads
        self._library = lightgbm.basic._LIB
        self._booster = booster  # it owns what the handles point to
        self._width = booster.num_feature()
        self._room = MAX_ROWS if booster.num_model_per_iteration() == 1 else 0  # else a row has several scores
        self._rows = np.zeros((MAX_ROWS, self._width))
        self._scores = np.zeros(MAX_ROWS)
        self._at = self._rows.ctypes.data
        self._stride = self._rows.strides[0]
        self._out_at = self._scores.ctypes.data
        self._count = ctypes.byref(ctypes.c_int64(0))
        self._one = self._prepared()

    def __call__(self, matrix: Matrix) -> Matrix:
        """Scores of n rows; raises ModelFailed, or MemoryError when the library has none."""
        rows = len(matrix)
        if rows > self._room or matrix.shape[1] != self._width:
            return np.asarray(self._booster.predict(matrix, num_threads=self._threads), dtype=np.float64)
        self._rows[:rows] = matrix
        if rows <= FEW:
            for row in range(rows):
                row_at, score_at = _pointer(self._at + row * self._stride), _pointer(self._out_at + 8 * row)
                ask = self._library.LGBM_BoosterPredictForMatSingleRowFast
                self._check(ask(self._one, row_at, self._count, score_at))
        else:
            self._check(
                self._library.LGBM_BoosterPredictForMat(
                    self._booster._handle,
                    _pointer(self._at),
                    FLOAT64,
                    rows,
                    self._width,
                    ROW_MAJOR,
                    NORMAL,
                    0,
                    self._booster.best_iteration,
                    self._parameters,
                    self._count,
                    _pointer(self._out_at),
                )
            )
        return self._scores[:rows].copy()

    def _prepared(self) -> ctypes.c_void_p:
        """What `SingleRowFast` asks for instead of reading its parameters anew; lives as long as the process."""
        one = ctypes.c_void_p()
        self._check(
            self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
                self._booster._handle,
                NORMAL,
                0,
                self._booster.best_iteration,
                FLOAT64,
                self._width,
                self._parameters,
                ctypes.byref(one),
            )
        )
        return one

    def _check(self, code: int) -> None:
        if code:
            self._library.LGBM_GetLastError.restype = ctypes.c_char_p
            said = self._library.LGBM_GetLastError().decode(errors="replace")
            raise MemoryError(said) if NO_MEMORY in said else ModelFailed(said)
