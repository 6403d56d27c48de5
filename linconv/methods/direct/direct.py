"""The method "direct": products without the matrix, gathered by its stencils.

Forward and adjoint both gather: each result is added up by one thread, in a fixed
order, so nothing races and every run gives the same bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.assembly import arranged
from linconv.geometry import Axis, Geometry
from linconv.methods import compiling, memory, padding
from linconv.methods.direct import plans, sweep
from linconv.methods.rows import Rows

# Multiplications worth a thread.
_GRAIN = 1 << 19
# How many times as fast multiplications are that share what they load, about.
_FASTER = 4
# Bytes of a vector of columns that lie side by side; fewer columns are turned into rows.
_NARROW, _WIDE = 32, 64
# Bytes of results that are gone from the caches before anybody reads them.
_CACHED = 1 << 25
# Bytes of the lines of columns that a line of results reads: more than a core's cache holds
# beside others, so that lines are cut; and those that pieces of them read then.
_READ, _KEPT = 1 << 19, 1 << 18
# Results of such a piece, at least; and what they are a multiple of, as all blocks are whole.
_SHORTEST, _BLOCK = 96, 12
# What products ask memory for that no step follows.
_NOTHING = plans.ahead()
# Bytes of columns from which steps are taken line by line, along with products.
_SWEPT = 1 << 22


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return why this method cannot represent a convolution, or an empty string."""
    if reason := compiling.why_not():
        return reason
    if len(geometry.axes) > plans.OUTER + 1:
        return f"it has at most {plans.OUTER + 1} axes, got {len(geometry.axes)}"
    if np.dtype(dtype) not in Direct.dtypes:
        known = ", ".join(each.name for each in Direct.dtypes)
        return f"it has loops for {known}, got {np.dtype(dtype).name}"
    return ""


class Direct(Rows):
    """Products of a convolution by its stencils."""

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128", "int64")))

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        super().__init__(geometry, kernel)
        self._values: dict[tuple[Geometry, bool, np.dtype], np.ndarray] = {}

    def squared(self, x: np.ndarray, *, adjoint: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return C x, or C^H x, and <y, y> of its columns where that comes with the product.

        To read large results again would take about as long as a third of the product.
        """
        plan, dtype = plans.plan(self._geometry, adjoint), self._dtype(x)
        if not _lie_side_by_side(x, plan, dtype):
            return super()._columns(x, adjoint=adjoint), None
        real = np.dtype(dtype.char.lower())
        columns = np.ascontiguousarray(x, dtype).view(real)
        product = Columns(plan, self._real_taps(plan, real, adjoint), columns)
        _arrays.run_all(product.tasks, len(product.tasks))
        return product.results.view(dtype), product.squares(x.shape[1])

    def swept(
        self, x: np.ndarray, before: Any, after: Any, *, adjoint: bool
    ) -> tuple[np.ndarray, Any] | None:
        """Return what `squared` does, in one sweep with steps on x before and on y after.

        `after` makes a step of y, whose total comes in place of <y, y>; or it is None.
        Does nothing and returns None where the product cannot be interrupted, or where
        caches hold everything anyway.
        """
        plan, dtype = plans.plan(self._geometry, adjoint), self._dtype(x)
        lines = sweep.reach(self._geometry, adjoint)
        apart = not _lie_side_by_side(x, plan, dtype)
        if lines is None or apart or x.nbytes < _SWEPT or x.dtype != dtype:
            return None
        real = np.dtype(dtype.char.lower())
        spent: Any = before.spent if lines.in_place else None
        alike = isinstance(spent, np.ndarray) and spent.dtype == dtype
        place = spent.view(real) if alike and spent.flags.c_contiguous else None
        taps = self._real_taps(plan, real, adjoint)
        product = Columns(plan, taps, x.view(real), place, squares=after is None)
        y = product.results.view(dtype)
        last = after(y) if after else None
        if not sweep.run(lines, before, last, product):
            return None
        return y, last.total() if last else product.squares(x.shape[1])

    def _dtype(self, x: np.ndarray) -> np.dtype:
        return np.result_type(self._kernel.dtype, x.dtype)

    def _real_taps(self, plan: plans.Plan, real: np.dtype, adjoint: bool) -> np.ndarray:
        """Return taps for columns that are taken for real ones."""
        return self._taps(plan, np.result_type(self._kernel.dtype, real), adjoint)

    def _columns(self, x: np.ndarray, *, adjoint: bool) -> np.ndarray:
        return self.squared(x, adjoint=adjoint)[0]

    def _rows(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        padded = self._padded[adjoint]
        if padded is not None:
            return padded.product(x, self._taps(padded.plan, x.dtype, adjoint))
        plan = plans.plan(self._geometry, adjoint)
        return _gathered(plan, self._taps(plan, x.dtype, adjoint), x)

    def _taps(self, plan: plans.Plan, dtype: np.dtype, transposed: bool) -> np.ndarray:
        """Return the values of a plan, conjugated for the adjoint; remembered."""
        key = plan.geometry, transposed, dtype
        if key not in self._values:
            kernel = self._kernel
            if transposed and not plan.transposed:
                kernel = arranged(self._geometry, kernel, True)
            values = plan.values(kernel).astype(dtype, copy=False)
            self._values[key] = values.conj() if transposed else values
        return self._values[key]

    @cached_property
    def _padded(self) -> tuple[Padded | None, Padded | None]:
        """Forward and adjoint by padding first, where that is worth it."""
        g = self._geometry
        forward = g.c_out // g.groups % plans.FOUR == 0
        back = g.c_in // g.groups % plans.FOUR == 0 and all(a.stride == 1 for a in g.axes)
        return (
            Padded(g, transposed=False) if forward else None,
            Padded(g, transposed=True) if back else None,
        )


class Padded:
    """A product of many channels as one without edges, of a vector that is padded first.

    Each sample is read by so many channels that a copy costs nothing, while edges cost
    as much as a few lines each.
    """

    def __init__(self, geometry: Geometry, *, transposed: bool) -> None:
        self._geometry, self._transposed = geometry, transposed
        g = geometry
        if not transposed:
            axes = [
                Axis(padding.padded_length(a), a.k, a.stride, a.dilation, out=a.out)
                for a in g.axes
            ]
            self._pads: Sequence[Axis] = g.axes
            inner = Geometry(tuple(axes), (g.c_out, g.c_in), g.groups, g.flip)
        else:
            reach = [a.extent - 1 for a in g.axes]
            self._pads = [
                Axis(a.out, 1, padding=(r, r)) for a, r in zip(g.axes, reach, strict=True)
            ]
            axes = [
                Axis(a.out + 2 * r, a.k, dilation=a.dilation)
                for a, r in zip(g.axes, reach, strict=True)
            ]
            inner = Geometry(tuple(axes), (g.c_in, g.c_out), g.groups, flip=True)
        self.plan = plans.plan(inner, False)

    def product(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the results of all rows: (b, n) -> (b, m)."""
        g = self._geometry
        channels = g.c_out if self._transposed else g.c_in
        given = rows.reshape(len(rows), channels, *(axis.n for axis in self._pads))
        given = padding.pad(given, self._pads).reshape(len(rows), -1)
        results = _gathered(self.plan, values, given)
        return self._folded(results) if self._transposed else results

    def _folded(self, results: np.ndarray) -> np.ndarray:
        """Return what the samples of a padded array give back to the input's."""
        axes = self._geometry.axes
        found = results.reshape(len(results), -1, *(a.out for a in self.plan.geometry.axes))
        missing = [
            padding.padded_length(a) - n for a, n in zip(axes, found.shape[2:], strict=True)
        ]
        if any(missing):
            found = np.pad(found, [(0, 0), (0, 0), *((0, n) for n in missing)])
        return padding.pad_adjoint(found, axes).reshape(len(results), -1)


def _gathered(plan: plans.Plan, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the results of all rows, each added up by its taps: (b, n) -> (b, m)."""
    results = memory.empty((len(rows), int(plan.sizes[1] * plan.sizes[4])), rows.dtype)
    _gather(plan, values, plan.layout.arrange(rows), results, len(rows))
    return results


def _lie_side_by_side(x: np.ndarray, plan: plans.Plan, dtype: np.dtype) -> bool:
    """Whether the columns of x can be computed as they lie in memory."""
    whole = x.flags.c_contiguous and max(plan.layout.split) == 1 and dtype.char in "fdFD"
    return whole and x.shape[1] * dtype.itemsize >= _NARROW


class Columns:
    """A product of columns that lie side by side, (n, b) -> (m, b), in tasks for threads.

    Complex ones are given as twice as many real ones, real and imaginary parts in turn.

    Attributes
    ----------
    results : ndarray (m, b)
        In `place`, if that is given: where each line is in the caches, about to be read.
    edges : list of int
        First lines of the tasks, and the last one's last + 1.
    gathers : list of callable
        Compute lines first to last - 1 each, and add up squares of its own; the third
        argument is what to ask for meanwhile, `plans.ahead`.
    """

    def __init__(
        self,
        plan: plans.Plan,
        values: np.ndarray,
        columns: np.ndarray,
        place: np.ndarray | None = None,
        *,
        squares: bool = True,
    ) -> None:
        from linconv.methods.direct import (
            side_by_side,  # it imports Numba, which takes a while
        )

        b, size = columns.shape[1], columns.itemsize
        lines, channels, group, plane_in, plane_out = plan.sizes
        if place is None:
            place = memory.empty((int(channels * plane_out), b), columns.dtype)
            kind = _kind(place)
        else:
            kind = min(_kind(place), plans.Vector.WIDE)
        self.results = place
        lanes = (_NARROW if kind == plans.Vector.NARROW else _WIDE) // size
        shape = np.uint64(b), np.uint64(lanes)
        sizes = lines, group, plane_in * shape[0], plane_out * shape[0]
        tables = plans.side_by_side(plan.geometry, plan.transposed, b)
        width = np.uint64(_width(plan, b * size))
        rest = tables, values.ravel(), sizes, (*shape, np.uint64(kind), width)
        gather = partial(side_by_side.gather, columns.ravel(), place.ravel(), *rest)
        work = place.size * _taps_each(plan, values) // _FASTER
        self.edges = _edges(int(lines * channels), work)
        # Vectors that overlap do some columns twice; threads do not share a cache line.
        known = 0 if b % lanes or not squares else b
        self._squares = memory.aligned((len(self.edges) - 1, 2, known), columns.dtype)
        self._squares.fill(0)
        self.gathers = [partial(gather, tuple(each)) for each in self._squares]

    @property
    def tasks(self) -> list[Callable[[], Any]]:
        """All lines, a task for each thread."""
        parts = zip(self.gathers, itertools.pairwise(map(np.uint64, self.edges)), strict=True)
        return [partial(gather, *part, _NOTHING) for gather, part in parts]

    def squares(self, k: int) -> np.ndarray | None:
        """Return <y, y> of `k` columns, when all tasks are done, if that was added up."""
        total = self._squares[:, 1].sum(axis=0)
        return total.reshape(k, -1).sum(axis=1) if total.size else None


def _width(plan: plans.Plan, nbytes: int) -> int:
    """Return how many results of a line are computed before the next line's.

    `nbytes` are those of a result.
    """
    taps = int((plan.runs[:, 6] - plan.runs[:, 5]).max(initial=0))
    read = max(1, taps // plan.geometry.axes[-1].k) * nbytes
    line = plan.grid.lengths[-1]
    if read * line <= _READ:
        return line
    width = max(_SHORTEST, _KEPT // read)
    return width - width % _BLOCK


def _kind(results: np.ndarray) -> plans.Vector:
    """Return how results of columns side by side are written."""
    row = results.shape[1] * results.itemsize
    if row < _WIDE:
        return plans.Vector.NARROW
    whole = row % _WIDE == 0 and results.ctypes.data % _WIDE == 0
    large = results.nbytes >= _CACHED
    return plans.Vector.PAST if whole and large else plans.Vector.WIDE


def _gather(
    plan: plans.Plan, values: np.ndarray, x: np.ndarray, y: np.ndarray, batch: int
) -> None:
    """Fill y from x, on several threads."""
    from linconv.methods.direct import loops  # it imports Numba, which takes a while

    lines, channels, group, *_ = map(int, plan.sizes)
    total = batch * channels * lines // (1 if group % plans.FOUR else plans.FOUR)
    tables = plan.combos, plan.runs, plan.offsets, values.ravel(), plan.sizes
    function = partial(loops.gather, x.ravel(), y.ravel(), *tables)
    edges = map(np.uint64, _edges(total, y.size * _taps_each(plan, values)))
    tasks = [partial(function, *part) for part in itertools.pairwise(edges)]
    _arrays.run_all(tasks, len(tasks))


def _taps_each(plan: plans.Plan, values: np.ndarray) -> int:
    """Return how many taps a result has, about."""
    return values.shape[1] // max(1, len(plan.runs))


def _edges(lines: int, work: int) -> list[int]:
    """Return the first lines of each of several threads, and the last one's last + 1."""
    threads = min(lines, _arrays.workers(work, _GRAIN))
    return [lines * part // threads for part in range(threads + 1)]
