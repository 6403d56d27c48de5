"""Vectors in columns: what `lstsq` does with them besides products.

May import _arrays, _compiled.  Large NumPy arrays whose columns lie in one piece take
compiled loops on several threads, as real numbers.  BLAS is not asked: OpenBLAS' threads
wait by spinning, which doubled the time of an iteration.  CuPy's steps are a kernel each
and wait for nothing.  Others get plain expressions.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from linconv import _arrays, _compiled

# Numbers from which loops are compiled, and those that are worth a thread.
_MANY, _GRAIN = 1 << 15, 1 << 21
# Numbers of weights and sums: they stay in the fastest cache.
_PIECE = 1 << 10


# CuPy's kernels: their parameters, R real where T is complex, and what they do.
_KERNELS = {
    "add": ("R a, T x, bool on", "if (on) y += a * x"),
    "follow": ("R a, T x", "y = a * y + x"),
}


def host(a: Any) -> np.ndarray:
    """Return a few numbers where Python can look at them."""
    return a.get() if hasattr(a, "get") else np.asarray(a)


def fetch(arrays: Sequence[Any]) -> list[np.ndarray]:
    """Return small arrays of real numbers on the host, by one copy."""
    if not _arrays.on_device(arrays[0]):
        return list(arrays)
    flat = [a.reshape(-1).astype(np.float64) for a in arrays]
    numbers = _arrays.namespace(arrays[0]).concatenate(flat).get()
    cuts = itertools.pairwise(itertools.accumulate((a.size for a in arrays), initial=0))
    return [
        numbers[slice(*cut)].reshape(a.shape).astype(a.dtype)
        for a, cut in zip(arrays, cuts, strict=True)
    ]


def dots(x: Any, y: Any) -> Any:
    """Return the real parts of <x, y> of every column."""
    if not (lines := _lines(x, y)):
        return (x.conj() * y).sum(axis=0).real
    parts = _parts(x)
    period = parts * x.shape[1] // len(lines)
    sums = []
    for a, b in lines:
        each = np.zeros((_threads(a), _length(period)), a.dtype)
        _run("add_products", a, b, each, period)
        sums.append(each.reshape(-1, period // parts, parts).sum(axis=(0, 2)))
    return np.concatenate(sums)


def norms(x: Any) -> np.ndarray:
    """Return the norm of every column, on the host."""
    return np.sqrt(host(dots(x, x)))


def add(y: Any, a: Any, x: Any, on: Any = True) -> None:
    """Add ``a x`` to `y`; `a` is a real number, or one for every column.

    It is 0 for columns that are not `on`, of which CuPy's stay even where x holds NaN.
    """
    if _arrays.on_device(a):
        _kernel("add")(a, x, on, y)
    elif not _weighted("add_weighted", y, x, a):
        y += a * x


def follow(p: Any, a: Any, z: Any) -> None:
    """Replace `p` by ``a p + z``; `a` is a real number, or one for every column."""
    if _arrays.on_device(a):
        _kernel("follow")(a, z, p)
    elif not _weighted("weigh_and_add", p, z, a):
        p *= a
        p += z


@functools.cache
def _kernel(step: str) -> Any:
    """Return CuPy's kernel for a step."""
    kernel = importlib.import_module("cupy").ElementwiseKernel
    inputs, body = _KERNELS[step]
    return kernel(inputs, "T y", body, f"linconv_{step}")


def like(r: Any, q: Any) -> Any:
    """Return columns `r` in the memory order of `q`; mixed orders are slow to add."""
    if not isinstance(r, np.ndarray) or r.flags.f_contiguous == q.flags.f_contiguous:
        return r
    copy = np.empty_like(q)
    copy[...] = r
    return copy


def _weighted(loop: str, y: Any, x: Any, a: Any) -> bool:
    """Run a loop on all lines with the weights of their columns, if they have lines."""
    lines = _lines(y, x)
    weights = np.broadcast_to(a, y.shape[1:]).reshape(len(lines), -1) if lines else ()
    for (target, source), some in zip(lines, weights, strict=True):
        period = np.repeat(some, _parts(y)).astype(target.dtype)
        pattern = np.tile(period, _length(len(period)) // len(period))
        _run(loop, target, source, [pattern] * _threads(target), len(period))
    return bool(lines)


def _lines(x: Any, y: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """View columns as lines of real numbers; none for arrays that have no loops.

    Columns side by side are one line, in which they take turns; others a line each.
    """
    known = type(x) is np.ndarray and x.dtype.char in "fdFD" and x.size >= _MANY
    if not known or type(y) is not np.ndarray or y.dtype != x.dtype or _compiled.why_not():
        return []
    real = np.finfo(x.dtype).dtype
    if x.flags.c_contiguous and y.flags.c_contiguous:
        return [(x.reshape(-1).view(real), y.reshape(-1).view(real))]
    if x.flags.f_contiguous and y.flags.f_contiguous:
        return [(a.view(real), b.view(real)) for a, b in zip(x.T, y.T, strict=True)]
    return []


def _parts(x: np.ndarray) -> int:
    """Return how many real numbers an entry has."""
    return 2 if x.dtype.kind == "c" else 1


def _length(period: int) -> int:
    """Return how many numbers weights and sums have: whole periods."""
    return period * max(1, _PIECE // period)


def _threads(line: np.ndarray) -> int:
    return _arrays.workers(line.size, _GRAIN)


def _run(loop: str, a: np.ndarray, b: np.ndarray, spare: Any, period: int) -> None:
    """Run a loop on a part of both lines per thread, each with its own of `spare`."""
    function = getattr(importlib.import_module("linconv._steps"), loop)
    rows = a.size // period
    edges = [rows * i // len(spare) * period for i in range(len(spare) + 1)]
    tasks = [
        partial(function, a, b, each, *edge)
        for each, edge in zip(spare, itertools.pairwise(edges), strict=True)
    ]
    _arrays.run_all(tasks, len(tasks))
