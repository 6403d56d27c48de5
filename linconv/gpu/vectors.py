"""Columns of numbers on a GPU: the functions of `linconv.solvers.vectors`."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import numpy as np

# Parameters, R real where T is complex; results; operation.  A column whose factor is 0
# stays what it is, even beside a column of NaN.
_KERNELS = {
    "add": ("R a, T x", "T y", "if (a != 0) y += a * x"),
    "follow": ("R b, T z", "T p", "p = b * p + z"),
}


def dots(x: Any, y: Any) -> Any:
    """Return the real parts of <x, y> of every column, (k,)."""
    return (x.conj() * y if x.dtype.kind == "c" else x * y).sum(axis=0).real


def add(y: Any, a: Any, x: Any) -> None:
    """Add ``a x`` to `y` in place; `a` is a real number, or one for every column."""
    if hasattr(a, "astype"):
        _kernel("add")(*_alike(y, a, x), y)
    else:  # CuPy's kernels cannot infer R from a Python number
        y += a * x


def follow(p: Any, b: Any, z: Any) -> None:
    """Replace `p` by ``b p + z`` in place; `b` holds a real number for every column."""
    _kernel("follow")(*_alike(p, b, z), p)


def peaks(x: Any) -> Any:
    """Return the largest magnitude of every column, (k,); NaN where a column holds one."""
    return abs(x).max(axis=0)


@functools.cache
def _kernel(name: str) -> Any:
    """Return CuPy's kernel for an operation."""
    return import_module("cupy").ElementwiseKernel(*_KERNELS[name], f"linconv_{name}")


def _alike(y: Any, a: Any, x: Any) -> tuple[Any, Any]:
    """Return factors and columns in the precision of `y`, which CuPy's kernels require."""
    real = np.finfo(y.dtype).dtype
    if x.dtype.kind == y.dtype.kind:
        x = x.astype(y.dtype, copy=False)
    return a.astype(real, copy=False), x
