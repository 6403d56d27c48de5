"""Compiled products of CSR arrays with many columns; importing this imports Numba.

SciPy's take four times as long for eight columns as for one, and twice as long as these.
Eight columns are added up at a time; arrays are flat, `b` columns side by side, and all
places unsigned, because Numba looks at signed ones twice.
"""

from __future__ import annotations

import numpy as np

from linconv._compiled import compiled

_0, _1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(i) for i in range(9))


@compiled
def rows_product(indptr, indices, data, x, y, b, first, last):
    """Write rows first..last-1 of M x into y: (n b,) -> (m b,)."""
    for i in range(first, last):
        start, stop = np.uint64(indptr[i]), np.uint64(indptr[i + _1])
        c = _0
        while c + _8 <= b:
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = data.dtype.type(0)
            for k in range(start, stop):
                v, p = data[k], np.uint64(indices[k]) * b + c
                s0 += v * x[p]
                s1 += v * x[p + _1]
                s2 += v * x[p + _2]
                s3 += v * x[p + _3]
                s4 += v * x[p + _4]
                s5 += v * x[p + _5]
                s6 += v * x[p + _6]
                s7 += v * x[p + _7]
            q = i * b + c
            y[q], y[q + _1], y[q + _2], y[q + _3] = s0, s1, s2, s3
            y[q + _4], y[q + _5], y[q + _6], y[q + _7] = s4, s5, s6, s7
            c += _8
        while c < b:
            s = data.dtype.type(0)
            for k in range(start, stop):
                s += data[k] * x[np.uint64(indices[k]) * b + c]
            y[i * b + c] = s
            c += _1


@compiled
def add_transposed(indptr, indices, data, x, y, b, first, last):
    """Add M^T x to y, of rows first..last-1 of M alone: (m b,) -> (n b,)."""
    for i in range(first, last):
        start, stop = np.uint64(indptr[i]), np.uint64(indptr[i + _1])
        c = _0
        while c + _8 <= b:
            q = i * b + c
            x0, x1, x2, x3 = x[q], x[q + _1], x[q + _2], x[q + _3]
            x4, x5, x6, x7 = x[q + _4], x[q + _5], x[q + _6], x[q + _7]
            for k in range(start, stop):
                v, p = data[k], np.uint64(indices[k]) * b + c
                y[p] += v * x0
                y[p + _1] += v * x1
                y[p + _2] += v * x2
                y[p + _3] += v * x3
                y[p + _4] += v * x4
                y[p + _5] += v * x5
                y[p + _6] += v * x6
                y[p + _7] += v * x7
            c += _8
        while c < b:
            s = x[i * b + c]
            for k in range(start, stop):
                y[np.uint64(indices[k]) * b + c] += data[k] * s
            c += _1
