"""Columns of numbers: what an iteration does with them besides products.

May import _arrays.  Columns are arrays (n, k) whose columns are contiguous.  Each function
works on pieces of rows that stay in a core's cache, and large arrays are shared by threads.
`linconv.gpu.vectors` has the same functions for CuPy's arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from linconv import _arrays

# Numbers of a piece.  BLAS, which computes inner products, starts threads of its own above
# 10,000 numbers, and these threads wait by spinning on the cores that the others need.
_PIECE = 1 << 13
# Numbers that are worth a thread.
_GRAIN = 1 << 18


def by_pieces(function: Callable[..., Any], *arrays: np.ndarray) -> list[Any]:
    """Call a function with a piece of the rows of all arrays after the other."""
    n, k = arrays[0].shape
    rows = max(1, _PIECE // k)
    threads = _arrays.workers(n * k, _GRAIN)
    share = -(-n // (rows * threads)) * rows

    def work(first: int) -> list[Any]:
        starts = range(first, min(first + share, n), rows)
        return [function(*(a[start : start + rows] for a in arrays)) for start in starts]

    parts = _arrays.run_all([partial(work, first) for first in range(0, n, share)], threads)
    return [result for part in parts for result in part]


def dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the real parts of <x, y> of every column, (k,)."""
    return np.sum(by_pieces(lambda a, b: np.vecdot(a.T, b.T).real, x, y), axis=0)


def add(y: np.ndarray, a: Any, x: np.ndarray) -> None:
    """Add ``a x`` to `y` in place; `a` is a real number, or one for every column."""

    def piece(y: np.ndarray, x: np.ndarray) -> None:
        y += a * x

    by_pieces(piece, y, x)


def follow(p: np.ndarray, b: Any, z: np.ndarray) -> None:
    """Replace `p` by ``b p + z`` in place; `b` as in `add`."""

    def piece(p: np.ndarray, z: np.ndarray) -> None:
        p *= b
        p += z

    by_pieces(piece, p, z)


def peaks(x: np.ndarray) -> np.ndarray:
    """Return the largest magnitude of every column, (k,); NaN where a column holds one."""
    return np.max(by_pieces(lambda a: abs(a).max(axis=0), x), axis=0)
