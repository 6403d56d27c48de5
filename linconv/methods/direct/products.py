"""Products by the plans and loops of "direct", shared by threads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.assembly import arranged
from linconv.geometry import Axis, Geometry
from linconv.methods import compiling, padding
from linconv.methods.direct import plans
from linconv.methods.rows import Rows, in_blocks

# Multiplications worth a thread.
_GRAIN = 1 << 19


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
    """Products of a convolution by its stencils.

    A complex convolution is a real one of twice as many channels, those of real and of
    imaginary parts; its adjoint is then the transpose.
    """

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128", "int64")))

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        super().__init__(geometry, kernel)
        self._inner, self._taps = geometry, kernel
        if kernel.dtype.kind == "c":
            self._inner, self._taps = _real_channels(geometry, kernel)
        self._values: dict[tuple[bool, np.dtype], np.ndarray] = {}

    def _rows(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        if x.dtype.kind != "c":
            return self._product(x, adjoint)
        real, g = np.finfo(x.dtype).dtype, self._geometry
        channels = g.c_out if adjoint else g.c_in
        planes = x.view(real).reshape(len(x), channels, -1, 2).swapaxes(2, 3)
        y = self._product(planes.reshape(len(x), -1), adjoint)
        y = y.reshape(len(x), g.c_in if adjoint else g.c_out, 2, -1)
        result = np.empty((*y.shape[:2], y.shape[3]), x.dtype)
        result.real, result.imag = y[:, :, 0], y[:, :, 1]
        return result.reshape(len(x), -1)

    def _product(self, x: np.ndarray, transposed: bool) -> np.ndarray:
        """Return the real product of rows: (b, n) -> (b, m)."""
        padded = self._padded[transposed]
        plan = padded.plan if padded else plans.plan(self._inner, transposed)
        key = transposed, x.dtype
        if key not in self._values:
            taps = self._taps
            if padded and transposed:
                taps = arranged(self._inner, taps, True)
            self._values[key] = plan.values(taps).astype(x.dtype, copy=False)
        values = self._values[key]
        if padded:
            return in_blocks(lambda rows: padded.product(rows, values), x)
        if max(plan.phases.strides) > 1:
            return in_blocks(lambda rows: _gathered(plan, values, rows), x)
        return _gathered(plan, values, x)

    @cached_property
    def _padded(self) -> tuple[Padded | None, Padded | None]:
        """Forward and transposed by padding first, where that is worth it."""
        g = self._inner
        forward = g.c_out // g.groups % plans.FOUR == 0
        back = g.c_in // g.groups % plans.FOUR == 0 and all(a.stride == 1 for a in g.axes)
        return (
            Padded(g, transposed=False) if forward else None,
            Padded(g, transposed=True) if back else None,
        )


def _real_channels(geometry: Geometry, kernel: np.ndarray) -> tuple[Geometry, np.ndarray]:
    """Return a complex convolution as a real one: ``w -> [[Re w, -Im w], [Im w, Re w]]``.

    Real and imaginary part of a channel are neighbouring channels.
    """
    g = geometry
    taps: Any = kernel.reshape(g.c_out, 1, g.c_in // g.groups, 1, *(axis.k for axis in g.axes))
    top = np.concatenate((taps.real, -taps.imag), axis=3)
    bottom = np.concatenate((taps.imag, taps.real), axis=3)
    real = np.concatenate((top, bottom), axis=1)
    inner = replace(g, channels=(2 * g.c_out, 2 * g.c_in))
    return inner, real.reshape(inner.kernel_shape)


class Padded:
    """A product of many channels as one without edges, of a vector that is padded first.

    So many channels read each sample that a copy costs nothing, while every edge costs as
    much as a few lines.
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
    from linconv.methods.direct import loops  # it imports Numba, which takes a while

    lines, channels, group, _, plane = map(int, plan.sizes)
    given = plan.phases.arrange(rows).ravel()
    results = _apart(given, len(rows) * channels * plane).reshape(len(rows), -1)
    total = len(rows) * channels * lines // (1 if group % plans.FOUR else plans.FOUR)
    work = results.size * values.shape[1] // max(1, len(plan.runs))
    threads = max(1, min(total, _arrays.workers(work, _GRAIN)))
    edges = [np.uint64(total * part // threads) for part in range(threads + 1)]
    tables = plan.combos, plan.runs, plan.offsets, values.ravel(), plan.sizes
    gather = partial(loops.gather, given, results.reshape(-1), *tables)
    tasks = [partial(gather, *pair) for pair in itertools.pairwise(edges)]
    with compiling.announced(loops.gather, rows.dtype):
        _arrays.run_all(tasks, len(tasks))
    return results


def _apart(x: np.ndarray, size: int) -> np.ndarray:
    """Return an array for results of `x`, half a page away from it in every page.

    A processor takes a sample for a result that was just written where the last 12 bits of
    both addresses agree, and waits.
    """
    half, page = 1 << 11, 1 << 12
    memory = np.empty(size * x.itemsize + page, np.uint8)
    shift = (x.ctypes.data + half - memory.ctypes.data) % page // x.itemsize * x.itemsize
    return memory[shift : shift + size * x.itemsize].view(x.dtype)
