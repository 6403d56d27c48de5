"""Products of a stored CSR matrix with dense columns on the host, in several threads.

May import _arrays.  The matrix is never cast as a whole: vectors are cast to its dtype, a
real matrix multiplies a complex vector as two real columns, and where the result needs a
wider dtype than that of the matrix, one block of rows after the other is cast.
"""

from __future__ import annotations

import functools
import itertools
from functools import partial

import numpy as np

from linconv import _arrays
from linconv._arrays import CsrArray

# Nonzeros that are cast at a time where the dtype of the vector is wider: a cache's worth.
_CAST = 1 << 18
# From so many columns on, SciPy's product with all of them beats a product with each.
_TOGETHER = 4
# Multiplications worth a thread: two threads were slower at 2.4e6 nonzeros, faster at 2e7.
_GRAIN = 1 << 22


def forward(matrix: CsrArray, x: np.ndarray) -> np.ndarray:
    """Return matrix @ x; x: (n, b) -> (m, b)."""
    return _product(matrix, x, transposed=False)


def adjoint(matrix: CsrArray, y: np.ndarray) -> np.ndarray:
    """Return matrix^H @ y without conjugating the matrix; y: (m, b) -> (n, b)."""
    if matrix.dtype.kind != "c":
        return _product(matrix, y, transposed=True)
    return _product(matrix, y.conj(), transposed=True).conj()


def _product(matrix: CsrArray, x: np.ndarray, *, transposed: bool) -> np.ndarray:
    dtype, b = np.result_type(matrix.dtype, x.dtype), x.shape[1]
    if dtype.kind == "c" and matrix.dtype.kind != "c":
        return _arrays.by_real_parts(partial(_product, matrix, transposed=transposed), x)
    if matrix.shape[0] == 0 or b == 0:
        return np.zeros((matrix.shape[transposed], b), dtype)
    if 1 < b < _TOGETHER:
        columns = [_product(matrix, x[:, j : j + 1], transposed=transposed) for j in range(b)]
        return np.concatenate([column.T for column in columns]).T
    x = np.ascontiguousarray(x, dtype)
    m, n = matrix.shape
    threads = _arrays.workers(matrix.nnz * b, _GRAIN)
    if transposed and matrix.nnz < 4 * threads * n:
        threads = 1  # every thread sums into a vector of its own, which costs n additions
    edges = np.linspace(0, m, threads + 1).astype(int).tolist()
    tasks = [
        partial(_rows_product, matrix, x, start, stop, transposed)
        for start, stop in itertools.pairwise(edges)
    ]
    results = _arrays.run_all(tasks, threads)
    if len(results) == 1:
        return results[0]
    # The order of this sum does not depend on which thread finished first.
    return functools.reduce(np.add, results) if transposed else np.concatenate(results)


def _rows_product(
    matrix: CsrArray, x: np.ndarray, start: int, stop: int, transposed: bool
) -> np.ndarray:
    """Return the product of rows start..stop-1, cast piece by piece where dtypes differ."""
    if matrix.dtype == x.dtype:
        return _multiply(_rows(matrix, start, stop), x, start, stop, transposed)
    nnz = int(matrix.indptr[stop] - matrix.indptr[start])
    edges = np.linspace(start, stop, -(-nnz // _CAST) + 2).astype(int).tolist()
    total = np.zeros((matrix.shape[1], x.shape[1]), x.dtype) if transposed else None
    pieces = []
    for first, last in itertools.pairwise(edges):
        rows = _rows(matrix, first, last).astype(x.dtype)
        piece = _multiply(rows, x, first, last, transposed)
        if total is None:
            pieces.append(piece)
        else:
            total += piece
    return np.concatenate(pieces) if total is None else total


def _multiply(
    rows: CsrArray, x: np.ndarray, start: int, stop: int, transposed: bool
) -> np.ndarray:
    return rows.T @ x[start:stop] if transposed else rows @ x


def _rows(matrix: CsrArray, start: int, stop: int) -> CsrArray:
    """View rows start..stop-1 of the matrix."""
    if (start, stop) == (0, matrix.shape[0]):
        return matrix
    first, last = int(matrix.indptr[start]), int(matrix.indptr[stop])
    return _arrays.sparse_array(
        matrix.data[first:last],
        matrix.indices[first:last],
        matrix.indptr[start : stop + 1] - matrix.indptr.dtype.type(first),
        (stop - start, matrix.shape[1]),
    )
