"""The extension of arrays by the boundary rules, and its exact adjoint.

A method that lacks a rule pads, multiplies and crops; the adjoint of padding adds each copied
sample to its source.  Arrays are NumPy's or CuPy's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.geometry import Axis, Boundary, Geometry
from linconv.methods.choice import choose


class Padding:
    """Extension by the boundary rules of some axes, for arrays of the library of `like`.

    On the host the samples of an edge are copied one by one.  On a GPU each copy would
    launch a kernel, so padding there is the product of a convolution with one tap.
    """

    def __init__(self, axes: Sequence[Axis], like: Any) -> None:
        self._axes, self._product = tuple(axes), None
        if _arrays.on_device(like) and any(any(axis.padding) for axis in axes):
            wide = Geometry(
                tuple(Axis(a.n, 1, padding=a.padding, boundary=a.boundary) for a in axes)
            )
            one = import_module("cupy").ones((1,) * len(wide.axes), like.dtype)
            self._product = choose("direct", wide, one.dtype, "gpu").make(wide, one)

    def pad(self, x: Any) -> Any:
        """Return x, (..., n1..nd), as (..., lo + n + hi, ...)."""
        if self._product is None:
            return pad(x, self._axes)
        return self._apply(self._product.forward, x, [padded_length(a) for a in self._axes])

    def adjoint(self, y: Any) -> Any:
        """Return the adjoint of `pad` applied to y."""
        if self._product is None:
            return pad_adjoint(y, self._axes)
        return self._apply(self._product.adjoint, y, [axis.n for axis in self._axes])

    def _apply(self, product: Any, x: Any, lengths: list[int]) -> Any:
        d = len(lengths)
        columns = x.reshape(math.prod(x.shape[:-d]), math.prod(x.shape[-d:])).T
        return product(columns).T.reshape(*x.shape[:-d], *lengths)


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
    """Return the slices of the input's own samples in the input and in the padded array."""
    lo, hi = axis.padding
    start = max(0, -lo)
    inside = slice(start, max(start, axis.n + min(0, hi)))  # empty if everything is cropped
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
