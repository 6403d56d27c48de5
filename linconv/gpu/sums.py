"""Sums over columns on a GPU in a fixed order; CuPy's sums take three times the launch time.

May import _arrays.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from linconv.gpu import device

# Threads of a block, each with a sum of its own, and the rows of a column per block.
_THREADS, _ROWS = 256, 1024
# Largest number of blocks of a column; a second launch adds up their sums.
_MOST_PIECES = 1024

SOURCE = r"""
// sums[column][piece]: products of the real numbers of x and y, or x alone without `factors`.
// A block adds up one piece of a column, whose rows are `step` apart.  The numbers of a row
// are contiguous; the strides of rows and columns are arguments.
extern "C" __global__ void add_products(
    const REAL* x, const REAL* y, REAL* sums,
    long long rows, long long parts, long long pieces, long long factors,
    long long x_row, long long x_column, long long y_row, long long y_column)
{
    extern __shared__ REAL shared_memory[];
    int thread = (int) threadIdx.x;
    long long column = blockIdx.x / pieces, step = pieces * blockDim.x;
    x += column * x_column;
    y += column * y_column;
    REAL total = 0;
    for (long long i = blockIdx.x % pieces * blockDim.x + thread; i < rows; i += step)
        for (int p = 0; p < parts; p++)
            total += factors ? x[i * x_row + p] * y[i * y_row + p] : x[i * x_row + p];
    shared_memory[thread] = total;
    for (int half = (int) blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (thread < half) shared_memory[thread] += shared_memory[thread + half];
    }
    if (thread == 0) sums[blockIdx.x] = shared_memory[0];
}
"""


def dots(x: Any, y: Any) -> Any:
    """Return the real parts of <x, y> of every column; (n, k) of one dtype -> (k,)."""
    (n, k), real = x.shape, np.finfo(x.dtype).dtype
    parts = x.itemsize // real.itemsize
    pieces = max(1, min(_MOST_PIECES, n // _ROWS))
    strides = (s // real.itemsize for s in (*x.strides, *y.strides))
    sums = _launched(real, (x, y), k, (n, parts, pieces, 1, *strides))
    if pieces > 1:
        sums = _launched(real, (sums, sums), k, (pieces, 1, 1, 0, 1, pieces, 1, pieces))
    return sums


def _launched(real: np.dtype, arrays: tuple, k: int, scalars: tuple) -> Any:
    """Return the sums of all pieces of `k` columns."""
    rows, _, pieces, *_ = scalars
    sums = import_module("cupy").empty(k * pieces, real)
    threads = _THREADS
    while threads >= 2 * rows and threads > 1:
        threads //= 2
    kernel = device.raw_module(SOURCE, real.char).get_function("add_products")
    arguments = (*arrays, sums, *map(np.int64, scalars))
    kernel((k * pieces,), (threads,), arguments, shared_mem=threads * real.itemsize)
    return sums
