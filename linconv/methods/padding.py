"""Arrays extended by the boundary rules, and the exact adjoint of that.

Methods that cannot apply a rule themselves pad, multiply and crop; the adjoint adds
what padding copied back to the samples it came from.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from linconv.geometry import Axis, Boundary


def pad(x: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Return x, (..., n1..nd), extended to (..., lo + n + hi, ...) axis by axis."""
    for a, axis in enumerate(axes, x.ndim - len(axes)):
        x = _padded(x, a, axis)
    return x


def pad_adjoint(y: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Return the adjoint of `pad` applied to y, (..., lo + n + hi, ...)."""
    for a, axis in reversed([*enumerate(axes, y.ndim - len(axes))]):
        y = _unpadded(y, a, axis)
    return y


def padded_length(axis: Axis) -> int:
    """Return lo + n + hi."""
    return axis.n + sum(axis.padding)


def _core(axis: Axis) -> tuple[slice, slice]:
    """Return where the input's own samples are: in the input, and in the padded array."""
    lo, hi = axis.padding
    inside = slice(max(0, -lo), axis.n + min(0, hi))
    return inside, slice(max(0, lo), max(0, lo) + inside.stop - inside.start)


@functools.lru_cache(maxsize=128)
def _edges(axis: Axis) -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
    """Return (place, sources with weights) of every padded sample outside the input."""
    lo, hi = axis.padding
    places = [*range(min(lo, lo + axis.n + hi)), *range(max(0, lo + axis.n), lo + axis.n + hi)]
    return tuple((place, axis.source(place - lo)) for place in places)


def _padded(x: np.ndarray, a: int, axis: Axis) -> np.ndarray:
    if not any(axis.padding):
        return x
    inside, core = _core(axis)
    shape = (*x.shape[:a], padded_length(axis), *x.shape[a + 1 :])
    y = np.zeros(shape, x.dtype)
    y[_at(a, core)] = x[_at(a, inside)]
    for place, sources in _edges(axis):
        for sample, weight in sources:
            y[_at(a, place)] += (
                x[_at(a, sample)] if weight == 1 else weight * x[_at(a, sample)]
            )
    return y


def _unpadded(y: np.ndarray, a: int, axis: Axis) -> np.ndarray:
    if not any(axis.padding):
        return y
    inside, core = _core(axis)
    x = np.zeros((*y.shape[:a], axis.n, *y.shape[a + 1 :]), y.dtype)
    x[_at(a, inside)] = y[_at(a, core)]
    for place, sources in _edges(axis):
        for sample, weight in sources:
            part = y[_at(a, place)]
            x[_at(a, sample)] += part if weight == 1 else weight * part
    return x


def _at(a: int, place: int | slice) -> tuple:
    return (slice(None),) * a + (place,)


def both(axis: Axis, rule: Boundary) -> bool:
    """Whether both sides of an axis have this rule."""
    return axis.boundary == (rule, rule)
