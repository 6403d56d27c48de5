"""The method "direct": products without the matrix, gathered by its stencils.

Forward and adjoint both gather: each result is added up by one thread, in a fixed
order, so nothing races and every run gives the same bits.
"""

from __future__ import annotations

import importlib.util
import itertools
from functools import partial

import numpy as np

from linconv import _arrays
from linconv.geometry import Geometry
from linconv.methods import boxes
from linconv.methods.columns import complex_as_two

# Multiplications worth a thread.
_GRAIN = 1 << 19


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return why this method cannot represent a convolution, or an empty string."""
    if importlib.util.find_spec("numba") is None:
        return "it needs Numba: pip install linconv[fast]"
    if len(geometry.axes) > boxes.OUTER + 1:
        return f"it has at most {boxes.OUTER + 1} axes, got {len(geometry.axes)}"
    if np.dtype(dtype) not in Direct.dtypes:
        known = ", ".join(each.name for each in Direct.dtypes)
        return f"it has loops for {known}, got {np.dtype(dtype).name}"
    return ""


class Direct:
    """Products of a convolution by its stencils."""

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128", "int64")))

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        self._geometry, self._kernel = geometry, kernel
        self._values: dict[tuple[bool, np.dtype], np.ndarray] = {}

    def with_kernel(self, kernel: np.ndarray) -> Direct:
        """Return the products with another kernel; the plans are shared."""
        return Direct(self._geometry, kernel)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        return self._product(x, transposed=False)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._product(y, transposed=True)

    def _product(self, x: np.ndarray, *, transposed: bool) -> np.ndarray:
        dtype = np.result_type(self._kernel.dtype, x.dtype)
        if dtype.kind == "c" and self._kernel.dtype.kind != "c":
            return complex_as_two(partial(self._product, transposed=transposed), x, dtype)
        plan = boxes.plan(self._geometry, transposed)
        rows = plan.layout.arrange(np.ascontiguousarray(x.T, dtype))
        return _gathered(plan, self._taps(plan, dtype), rows).T

    def _taps(self, plan: boxes.Plan, dtype: np.dtype) -> np.ndarray:
        """Return the values of a plan, conjugated for the adjoint; remembered."""
        key = plan.transposed, dtype
        if key not in self._values:
            values = plan.values(self._kernel).astype(dtype, copy=False)
            self._values[key] = values.conj() if plan.transposed else values
        return self._values[key]


def _gathered(plan: boxes.Plan, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the results of all rows, each added up by its taps: (b, n) -> (b, m)."""
    from linconv.methods import _loops  # it imports Numba, which takes a while

    lines, channels, group, _, plane = map(int, plan.sizes)
    results = np.empty((len(rows), channels * plane), rows.dtype)
    total = len(rows) * channels * lines // (1 if group % boxes.FOUR else boxes.FOUR)
    if not total:
        return results
    work = results.size * (values.shape[1] // max(1, len(plan.runs)))
    threads = min(total, _arrays.workers(work, _GRAIN))
    edges = [np.uint64(total * part // threads) for part in range(threads + 1)]
    tables = plan.combos, plan.runs, plan.offsets, values.ravel(), plan.sizes
    flat = rows.ravel(), results.ravel(), *tables
    tasks = [partial(_loops.gather, *flat, *pair) for pair in itertools.pairwise(edges)]
    _arrays.run_all(tasks, threads)
    return results
