"""Products of a stored CSR matrix with dense vectors: right dtype, several threads.

May import _arrays, _compiled, _memory.  The matrix is never cast whole: vectors are cast
to its dtype, a complex vector meets a real matrix as two real columns, and where the
result needs a wider dtype than the matrix has, blocks of rows are cast in turn.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from functools import partial

import numpy as np

from linconv import _arrays
from linconv._arrays import CsrArray
from linconv.methods import compiling, memory

# Nonzeros cast at a time when the vector is wider than the matrix: stays in the cache.
_CAST = 1 << 18
# Columns and multiplications from which loops are compiled for them, with Numba.
_WIDE, _MANY = 5, 1 << 20
_COMPILED = "fdFD"
# Multiplications worth a thread: two threads lost at 2.4e6 nonzeros and won at 2e7.
_GRAIN = 1 << 22


def forward(matrix: CsrArray, x: np.ndarray) -> np.ndarray:
    """Return matrix @ x; x: (n, b) -> (m, b)."""
    return _product(matrix, x, transposed=False)


def adjoint(matrix: CsrArray, y: np.ndarray, turned: CsrArray | None = None) -> np.ndarray:
    """Return matrix^H @ y without conjugating the matrix; y: (m, b) -> (n, b).

    `turned` is ``matrix.T``, if the caller keeps it.
    """
    if matrix.dtype.kind != "c":
        return _product(matrix, y, transposed=True, turned=turned)
    return _product(matrix, y.conj(), transposed=True, turned=turned).conj()


def read_only(matrix: CsrArray) -> CsrArray:
    """Return `matrix` with arrays nobody can edit: SciPy sums duplicates in place."""
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.setflags(write=False)
    return matrix


def _product(
    matrix: CsrArray, x: np.ndarray, *, transposed: bool, turned: CsrArray | None = None
) -> np.ndarray:
    dtype = np.result_type(matrix.dtype, x.dtype)
    if dtype.kind == "c" and matrix.dtype.kind != "c":
        return _complex_as_two(matrix, x, dtype, transposed)
    x = np.ascontiguousarray(x, dtype)
    if matrix.shape[0] == 0 or x.shape[1] == 0:
        return np.zeros((matrix.shape[transposed], x.shape[1]), dtype)
    m, n = matrix.shape
    threads = _arrays.workers(matrix.nnz * x.shape[1], _GRAIN)
    if transposed and matrix.nnz < 4 * threads * n:
        threads = 1  # every thread adds up a whole vector: only worth it if it reads far more
    if threads == 1 and matrix.dtype == dtype and not _is_wide(matrix, x):
        if not transposed:
            return matrix @ x
        return (matrix.T if turned is None else turned) @ x
    edges = np.linspace(0, m, threads + 1).astype(int).tolist()
    if _is_wide(matrix, x):
        return _wide_product(matrix, x, edges, transposed)
    tasks = [
        partial(_rows_product, matrix, x, start, stop, transposed)
        for start, stop in itertools.pairwise(edges)
    ]
    results = _arrays.run_all(tasks, threads)
    if len(results) == 1:
        return results[0]
    # Added up in this order, whichever thread came first.
    return functools.reduce(np.add, results) if transposed else np.concatenate(results)


def _is_wide(matrix: CsrArray, x: np.ndarray) -> bool:
    """Whether compiled loops are worth their compilation, and possible."""
    return (
        x.shape[1] >= _WIDE
        and matrix.nnz * x.shape[1] >= _MANY
        and matrix.dtype == x.dtype
        and x.dtype.char in _COMPILED
        and not compiling.why_not()
    )


def _wide_product(
    matrix: CsrArray, x: np.ndarray, edges: list[int], transposed: bool
) -> np.ndarray:
    """Multiply many columns by compiled loops; the adjoint adds in the order of threads."""
    loops = importlib.import_module("linconv.methods.wide")
    b, pieces = x.shape[1], list(itertools.pairwise(map(np.uint64, edges)))
    arrays = matrix.indptr, matrix.indices, matrix.data, x.ravel()
    size, width = matrix.shape[transposed] * b, np.uint64(b)
    if transposed:
        loop, results = loops.add_transposed, [memory.empty((size,), x.dtype) for _ in pieces]
        for y in results:
            y.fill(0)
    else:
        loop, results = loops.rows_product, [memory.empty((size,), x.dtype)] * len(pieces)
    tasks = [
        partial(loop, *arrays, y, width, *piece)
        for y, piece in zip(results, pieces, strict=True)
    ]
    _arrays.run_all(tasks, len(tasks))
    if transposed:
        for other in results[1:]:
            results[0] += other
    return results[0].reshape(-1, b)


def _complex_as_two(
    matrix: CsrArray, x: np.ndarray, dtype: np.dtype, transposed: bool
) -> np.ndarray:
    """Multiply a real matrix with real and imaginary parts side by side."""
    x = np.ascontiguousarray(x, dtype)
    parts = x.view(f"f{dtype.itemsize // 2}")  # (n, b) -> (n, 2 b)
    return np.ascontiguousarray(_product(matrix, parts, transposed=transposed)).view(dtype)


def _rows_product(
    matrix: CsrArray, x: np.ndarray, start: int, stop: int, transposed: bool
) -> np.ndarray:
    """Return the product of rows start..stop-1 alone, cast in pieces where it must be."""
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
