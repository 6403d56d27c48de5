"""Columns as lines of real numbers, and the compiled steps that go along them.

May import _arrays, _compiled.  A step waits until somebody asks for its `total`, or until a
product takes it along: what both read then comes from memory once.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from linconv import _arrays
from linconv.methods import compiling

# Numbers from which loops are compiled, and those that are worth a thread.
_MANY, _GRAIN = 1 << 15, 1 << 18
# Numbers of weights and sums: they stay in the fastest cache.
_PIECE = 1 << 10
# The loop that adds nothing up.
_SUMLESS = "add_weighted"

_Lines: TypeAlias = list[tuple[np.ndarray, ...]]


class Step:
    """Something to do to columns, when its `total` is asked for and not before."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._todo: Callable[[], Any] | None = partial(function, *args)
        self._total: Any = None
        # What nobody reads after the step: a product may write its results there.
        self.spent: Any = None

    def shares(self, count: int) -> list[Callable[[int, int], Any]]:
        """Return `count` functions, each for a thread, that do the step to some numbers.

        Their arguments are the first number and the last + 1, in columns side by side.
        Together they must be given all, once.  No functions: the step cannot be shared.
        """
        return []

    def places(self) -> list[int]:
        """Return the addresses of the columns that `shares` go along."""
        return []

    def total(self) -> Any:
        """Return the sums of all columns; do the step, if nobody did."""
        if self._todo is not None:
            self._total = self._todo()
            self._todo = self.spent = None  # what was done holds no memory
        return self._total


class Loop(Step):
    """A step that a compiled loop takes along lines.

    Columns side by side are one line, in which they take turns; others a line each.
    """

    def __init__(
        self, name: str, lines: _Lines, like: np.ndarray, weights: Sequence[Any]
    ) -> None:
        super().__init__(self._finish)
        self._name, self._lines = name, lines
        self._columns, self._parts = like.shape[1] // len(lines), _parts(like)
        period = self._columns * self._parts
        self._length = period * max(1, _PIECE // period)
        self._weights = [self._patterns(a, like.shape[1]) for a in weights]
        self._sums: list[np.ndarray] = []

    def shares(self, count: int) -> list[Callable[[int, int], Any]]:
        free = self._todo is not None and len(self._lines) == 1 and not self._sums
        return self._along(0, count) if free else []

    def places(self) -> list[int]:
        return [each.ctypes.data for line in self._lines for each in line]

    def _finish(self) -> np.ndarray | None:
        """Return the sums, of what was shared or of all that is done now."""
        if not self._sums:
            for i in range(len(self._lines)):
                self._run(i)
        found = [each.reshape(-1, self._columns, self._parts) for each in self._sums]
        self._lines, self._sums = [], []
        if self._name == _SUMLESS:
            return None
        return np.concatenate([each.sum(axis=(0, 2)) for each in found])

    def _patterns(self, weights: Any, columns: int) -> np.ndarray:
        """Return what the numbers of every line are multiplied by, in whole periods."""
        lines, period = len(self._lines), self._columns * self._parts
        shape = lines, self._length // period, self._columns, self._parts
        found = np.empty(shape, self._lines[0][0].dtype)
        each = (lines, 1, self._columns, 1) if np.size(weights) == columns else (1, 1, 1, 1)
        found[...] = np.reshape(weights, each)
        return found.reshape(lines, self._length)

    def _along(self, i: int, count: int) -> list[Callable[[int, int], Any]]:
        """Return loops along parts of a line, which add up on their own."""
        line, weights = self._lines[i], [a[i] for a in self._weights]
        self._sums.append(np.zeros((count, self._length), line[0].dtype))
        function = getattr(importlib.import_module("linconv.solvers.steps"), self._name)
        spare = [() if self._name == _SUMLESS else (sums,) for sums in self._sums[-1]]
        return [partial(function, *line, *weights, *each) for each in spare]

    def _run(self, i: int) -> None:
        """Go along a line, a thread for each of its parts; they begin where periods do."""
        size = self._lines[i][0].size
        threads, pieces = _arrays.workers(size, _GRAIN), -(-size // self._length)
        edges = [min(pieces * t // threads * self._length, size) for t in range(threads + 1)]
        loops = zip(self._along(i, threads), itertools.pairwise(edges), strict=True)
        _arrays.run_all([partial(each, *edge) for each, edge in loops], threads)


def loop(name: str, arrays: Sequence[Any], *weights: Any) -> Loop | None:
    """Return a step of `_steps`, or None for arrays that it has no loops for.

    `weights` are real numbers, or arrays of one for every column.
    """
    x = arrays[0]
    known = type(x) is np.ndarray and x.dtype.char in "fdFD" and x.size >= _MANY
    alike = known and all(type(y) is np.ndarray and y.dtype == x.dtype for y in arrays)
    if not alike or compiling.why_not():
        return None
    real = np.finfo(x.dtype).dtype
    if all(y.flags.c_contiguous for y in arrays):
        lines = [tuple(y.reshape(-1).view(real) for y in arrays)]
    elif all(y.flags.f_contiguous for y in arrays):
        columns = zip(*(y.T for y in arrays), strict=True)
        lines = [tuple(y.view(real) for y in each) for each in columns]
    else:
        return None
    return Loop(name, lines, x, weights)


def _parts(x: np.ndarray) -> int:
    """Return how many real numbers an entry has."""
    return 2 if x.dtype.kind == "c" else 1
