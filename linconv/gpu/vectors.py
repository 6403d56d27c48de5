"""Vector updates on a GPU: the functions of `linconv.solvers.vectors`, one kernel each."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import numpy as np

from linconv.gpu import sums

# Parameters (R is the real type of T), results, operation.  A column whose factor is 0 does
# not change, even where x is NaN.
_KERNELS = {
    "add": ("R a, T x", "T y", "if (a != 0) y += a * x"),
    "follow": ("R b, T z", "T p", "p = b * p + z"),
}


def dots(x: Any, y: Any) -> Any:
    """Return the real parts of <x, y> of every column, (k,)."""
    dtype = np.result_type(x.dtype, y.dtype)
    return sums.dots(x.astype(dtype, copy=False), y.astype(dtype, copy=False))


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
