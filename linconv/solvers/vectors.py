"""Vectors in columns: what `lstsq` does with them besides products.

May import _arrays, _gpu_sums, _lines, _memory.  Large NumPy arrays take compiled loops on
several threads.  BLAS is not asked: OpenBLAS' threads wait by spinning, which doubled the
time of an iteration.  CuPy's steps are a kernel each and wait for nothing.  Others get plain
expressions.  What is called a step is done when its `total` is asked for.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from linconv import _arrays, gpu
from linconv.methods import memory
from linconv.solvers.lines import Step, loop

# Numbers that are worth a thread.
_GRAIN = 1 << 18
# Numbers that stay in a cache while they are looked at twice.
_CACHED = 1 << 17
# Numbers of rows that are looked at as one.
_PIECE = 1 << 10
# CuPy's kernels: parameters, R real where T is complex, results, and what they do.
_KERNELS = {
    "add": ("R a, T x", "T y", "y += a * x"),
    "subtract": ("R a, T x, bool on", "T y", "if (on) y -= a * x"),
    "follow": ("R a, T z", "T p", "p = a * p + z"),
    "move": ("R a, bool on, R b, T z", "T x, T p", "if (on) { x += a * p; } p = b * p + z"),
    "advance": ("R a, bool on, R b, T p", "T x, T s", "if (on) { x += a * p; } s -= b * x"),
}


def fetch(arrays: Sequence[Any]) -> list[np.ndarray]:
    """Return small arrays of real numbers on the host, by one copy."""
    if not _arrays.on_device(arrays[0]):
        return list(arrays)
    flat = [a.reshape(-1).astype(np.float64, copy=False) for a in arrays]
    numbers = _arrays.namespace(arrays[0]).concatenate(flat).get()
    cuts = itertools.pairwise(itertools.accumulate((a.size for a in arrays), initial=0))
    return [
        numbers[slice(*cut)].reshape(a.shape).astype(a.dtype)
        for a, cut in zip(arrays, cuts, strict=True)
    ]


def dots(x: Any, y: Any) -> Any:
    """Return the real parts of <x, y> of every column."""
    if step := loop("add_products", (x, y)):
        return step.total()
    if not _arrays.on_device(x):
        return (x.conj() * y).sum(axis=0).real
    dtype = np.result_type(x.dtype, y.dtype)
    return gpu.dots(x.astype(dtype, copy=False), y.astype(dtype, copy=False))


def norms(x: Any) -> np.ndarray:
    """Return the norm of every column, on the host."""
    return np.sqrt(_arrays.host(dots(x, x)))


def add(y: Any, a: Any, x: Any) -> None:
    """Add ``a x`` to `y`; `a` is a real number, or one for every column."""
    if _arrays.on_device(a):
        _kernel("add")(*_like(y, a, x), y)
    elif step := loop("add_weighted", (y, x), a):
        step.total()
    else:
        y += a * x


def subtract(y: Any, a: Any, x: Any, on: Any) -> Step:
    """Step: take ``a x`` off `y`; `a` is 0 for columns that are not `on`.

    Of these CuPy's stay even where x holds NaN.
    """
    if _arrays.on_device(y):
        return Step(_subtract, y, a, x, on)
    return loop("add_weighted", (y, x), -a) or Step(add, y, -a, x)


def _subtract(y: Any, a: Any, x: Any, on: Any) -> None:
    a, x = _like(y, a, x)
    _kernel("subtract")(a, x, on, y)


def follow(p: Any, a: Any, z: Any) -> Step:
    """Step: replace `p` by ``a p + z``; `a` as in `add`.  Its total is <p, p>."""
    return loop("weigh_and_add", (p, z), a) or Step(_follow, p, a, z)


def _follow(p: Any, a: Any, z: Any) -> Any:
    if _arrays.on_device(a):
        _kernel("follow")(*_like(p, a, z), p)
    else:
        p *= a
        p += z
    return dots(p, p)


def advance(x: Any, a: Any, p: Any, on: Any, shift: float, s: Any) -> Step:
    """Step: add ``a p`` to `x`, unless `subtract` would not, then ``-shift x`` to `s`.

    Its total is <s, s>.
    """
    return loop("advance", (x, p, s), a, shift) or Step(_advance, x, a, p, on, shift, s)


def _advance(x: Any, a: Any, p: Any, on: Any, shift: float, s: Any) -> Any:
    if _arrays.on_device(x):
        a, p = _like(x, a, p)
        _kernel("advance")(a, on, shift, p, x, s)
    else:
        add(x, a, p)
        add(s, -shift, x)
    return dots(s, s)


def move(x: Any, a: Any, p: Any, on: Any, b: Any, z: Any) -> Step:
    """Step: add ``a p`` to `x`, unless `subtract` would not, then make `p` ``b p + z``.

    Its total is <p, p>.
    """
    return loop("move", (x, p, z), a, b) or Step(_move, x, a, p, on, b, z)


def _move(x: Any, a: Any, p: Any, on: Any, b: Any, z: Any) -> Any:
    if _arrays.on_device(x) and x.dtype == p.dtype:
        (a, _), (b, z) = _like(x, a, p), _like(p, b, z)
        _kernel("move")(a, on, b, z, x, p)
        return dots(p, p)
    if _arrays.on_device(x):
        _subtract(x, -a, p, on)
    else:
        add(x, a, p)
    return follow(p, b, z).total()


@functools.cache
def _kernel(step: str) -> Any:
    """Return CuPy's kernel for a step."""
    kernel = importlib.import_module("cupy").ElementwiseKernel
    return kernel(*_KERNELS[step], f"linconv_{step}")


def _like(y: Any, a: Any, x: Any) -> tuple[Any, Any]:
    """Return weights and columns in the precision of `y`: CuPy's kernels take no other."""
    if x.dtype.kind == y.dtype.kind:
        x = x.astype(y.dtype, copy=False)
    return a.astype(np.finfo(y.dtype).dtype, copy=False), x


def like(r: Any, q: Any) -> Any:
    """Return columns `r` in the memory order of `q`; mixed orders are slow to add."""
    if not isinstance(r, np.ndarray) or r.flags.f_contiguous == q.flags.f_contiguous:
        return r
    found = copy(q)
    found[...] = r
    return found


def copy(x: Any) -> Any:
    """Return a copy in the same memory order; NumPy's begins on a cache line."""
    if not isinstance(x, np.ndarray):
        return x.copy(order="K")
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        return copy(x.T).T
    found = memory.aligned(x.shape, x.dtype)
    _by_rows(np.copyto, found, x)
    return found


def zeros_like(x: Any) -> Any:
    """Return zeros in the memory order of `x`; NumPy's begin on a cache line."""
    if not isinstance(x, np.ndarray):
        found = copy(x)
        found[...] = 0
        return found
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        return zeros_like(x.T).T
    found = memory.aligned(x.shape, x.dtype)
    _by_rows(lambda part: part.fill(0), found)
    return found


def difference(x: Any, y: Any) -> Any:
    """Return ``x - y``; in spare memory where some is in use."""
    alike = all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in (x, y))
    if not alike or x.dtype != y.dtype:
        return x - y
    found = memory.empty(x.shape, x.dtype)
    _by_rows(lambda out, a, b: np.subtract(a, b, out=out), found, x, y)
    return found


def multiply(x: Any, scale: Any) -> None:
    """Multiply every column of `x` by its number."""
    if isinstance(x, np.ndarray):
        _by_rows(lambda part: np.multiply(part, scale, out=part), x)
    else:
        x *= scale


def scaled(x: Any, dtype: Any, scale: Any) -> Any:
    """Return ``x / scale``; NumPy's side by side, where products share what they read."""
    if not isinstance(x, np.ndarray):
        return x.astype(dtype) / scale
    found = memory.aligned(x.shape, dtype)
    _by_rows(lambda y, part: np.divide(part, scale, out=y), found, x)
    return found


def peaks(x: Any) -> np.ndarray:
    """Return the largest magnitude of every column, on the host; NaN if there is one."""
    if not isinstance(x, np.ndarray):
        return _arrays.host(abs(x).max(axis=0))
    return np.max(_by_rows(_peaks, x), axis=0)


def _peaks(x: np.ndarray) -> np.ndarray:
    pieces = np.array_split(x, max(1, x.size // _CACHED))
    return np.max([_peak(piece) for piece in pieces if len(piece)], axis=0)


def _peak(x: np.ndarray) -> np.ndarray:
    """Return the largest magnitudes; several rows as one where that is a view."""
    times = max(1, _PIECE // x.shape[1]) if x.flags.c_contiguous else 1
    whole = len(x) // times * times
    found = [abs(x[whole:]).max(axis=0, initial=0)]
    if whole:
        wide = abs(x[:whole].reshape(-1, times * x.shape[1])).max(axis=0)
        found.append(wide.reshape(times, -1).max(axis=0))
    return np.max(found, axis=0)


def _by_rows(function: Callable[..., Any], *arrays: np.ndarray) -> list[Any]:
    """Call a function with a part of the rows of all arrays in each of several threads."""
    parts = max(1, min(len(arrays[0]), _arrays.workers(arrays[0].size, _GRAIN)))
    pieces = zip(*(np.array_split(a, parts) for a in arrays), strict=True)
    return _arrays.run_all([partial(function, *each) for each in pieces], parts)
