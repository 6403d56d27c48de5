"""Operators that multiply single vectors rightly, and blocks of them wrongly.

Families: matmat, and of blocks: dtype, aliasing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from broken.contracts import of
from broken.parts import COMPLEX, SINGLE, Faithful, family


class Matmat(Faithful):
    """Blocks of vectors, and ways to get them wrong."""

    def matmat(self, X: Any) -> Any:
        return self.forward @ X

    def rmatmat(self, Y: Any) -> Any:
        return self.backward @ Y


class ColumnsAsRows(Matmat):
    def matmat(self, X: Any) -> Any:
        return self.forward @ X.reshape(X.shape[::-1]).T


class FirstColumn(Matmat):
    def matmat(self, X: Any) -> Any:
        dtype = np.result_type(self.dtype, X.dtype)
        Y = np.zeros_like(X, dtype, shape=(self.shape[0], X.shape[1]))
        Y[:, 0] = self.forward @ X[:, 0]
        return Y


class LastColumnLost(Matmat):
    def rmatmat(self, Y: Any) -> Any:
        X = self.backward @ Y
        X[:, -1] = 0
        return X


class MemoryOrder(Matmat):
    """Reads the block as it lies in memory, for C order."""

    def matmat(self, X: Any) -> Any:
        return self.forward @ X.ravel(order="K").reshape(X.shape)


class NotConjugated(Matmat):
    def rmatmat(self, Y: Any) -> Any:
        return self.forward.T @ Y


class WideMatmat(Matmat):
    def matmat(self, X: Any) -> Any:
        Y = self.forward @ X
        return Y.astype(np.result_type(Y.dtype, np.float64))


class OneBlock(Matmat):
    """One buffer for all blocks of a shape."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.buffers: dict[Any, np.ndarray] = {}

    def matmat(self, X: Any) -> Any:
        Y = self.forward @ X
        buffer = self.buffers.setdefault((Y.shape, Y.dtype.char), np.zeros_like(Y))
        buffer[...] = Y
        return buffer


COLUMNS = "matmat differs from the columns of"
BLOCKS = [
    *family("matmat",
        ("columns taken for rows", of(ColumnsAsRows), rf"\b{COLUMNS} matvec"),
        ("only the first column", of(FirstColumn), rf"\b{COLUMNS} matvec"),
        ("the last column of rmatmat lost", of(LastColumnLost), f"r{COLUMNS} rmatvec"),
        ("reads memory order", of(MemoryOrder),
         rf"\b{COLUMNS} matvec for Fortran-ordered input"),
        ("rmatmat does not conjugate", of(NotConjugated), f"r{COLUMNS} rmatvec", COMPLEX),
    ),
    *family("aliasing",
        ("one buffer for all blocks", of(OneBlock),
         r"\bmatmat returns a buffer that it overwrites"),
    ),
    *family("dtype",
        ("matmat in double", of(WideMatmat), r"\bmatmat (returns dtype|differs)", SINGLE),
    ),
]  # fmt: skip
