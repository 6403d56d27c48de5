"""Sweeps: products that take a step on what they read, line by line, just before they do.

A line then comes from memory once for both.  And as nobody reads a line of results before
the step has gone past it, results may lie where the step's other operand did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.geometry import Geometry
from linconv.methods.direct.plans import Plan, ahead, plan

# Bytes of results between two steps: with all that they come from, a core's cache holds them.
_BYTES = 3 << 18
# Lines that are computed together, or a multiple of them, where there is room for so many.
_TOGETHER = 12
# The part of the samples that lines of different threads may read is one in so many.
_SHARED = 8


@dataclass(frozen=True)
class Reach:
    """What the lines of results read, where both lie in memory in the same order.

    Attributes
    ----------
    first, stop : ndarray of int64, (lines + 1,)
        First sample that this line or a later one reads; last + 1 that an earlier one does.
    samples, results : int
        All of x, and those of a line.
    """

    first: np.ndarray
    stop: np.ndarray
    samples: int
    results: int

    @property
    def lines(self) -> int:
        """How many there are."""
        return len(self.first) - 1

    @property
    def in_place(self) -> bool:
        """Whether results fit where samples were."""
        return self.samples == self.lines * self.results

    def seams(self, edges: Sequence[int]) -> list[tuple[int, int]]:
        """Return which samples lines on both sides of an edge read, or are written to.

        They begin and end with x itself.  None are returned if these are too many: where a
        boundary goes round, or lines are few.
        """
        found = [(0, 0)]
        for e in edges[1:-1]:
            here = e * self.results if self.in_place else int(self.first[e])
            found.append((min(int(self.first[e]), here), max(int(self.stop[e]), here)))
        found.append((self.samples, self.samples))
        bounds = list(itertools.chain.from_iterable(found))
        shared = sum(stop - first for first, stop in found)
        fits = all(a <= b for a, b in itertools.pairwise(bounds))
        return found if fits and shared * _SHARED <= self.samples else []


@lru_cache(maxsize=64)
def reach(geometry: Geometry, transposed: bool) -> Reach | None:
    """Return what lines read; None for several channels, or lines in another order."""
    one = plan(geometry, transposed)
    lines, channels, _, samples, plane = map(int, one.sizes)
    if channels > 1 or not lines or max(one.layout.split) > 1:
        return None
    found = np.concatenate([_ranges(one, combo) for combo in one.combos.astype(np.int64)])
    begin, to, stop = found.T
    if not np.array_equal(to, np.arange(lines) * (plane // lines)):
        return None
    first = np.minimum.accumulate(np.append(begin, samples)[::-1])[::-1]
    return Reach(first, np.maximum.accumulate(np.append(0, stop)), samples, plane // lines)


def _ranges(one: Plan, combo: np.ndarray) -> np.ndarray:
    """Return of every line of a combo: first sample read, first result, last sample + 1."""
    (begin, to), axes = combo[1:3], combo[3:12].reshape(3, 3)
    for count, advance, step in axes:  # the first one goes fastest
        begin = np.add.outer(np.arange(count) * advance, begin).ravel()
        to = np.add.outer(np.arange(count) * step, to).ravel()
    runs, offsets = one.runs.astype(np.int64)[combo[12] : combo[13]], one.offsets.astype(int)
    low, high = np.iinfo(np.int64).max // 2, 0
    for count, at, advance, _, _, tap, stop in runs:
        if tap < stop and count:
            ends = at, at + (count - 1) * advance
            low = min(low, min(ends) + offsets[tap:stop].min())
            high = max(high, max(ends) + offsets[tap:stop].max() + 1)
    return np.stack([begin + low, to, np.where(high > 0, begin + high, 0)], axis=1)


def run(lines: Reach, before: Any, after: Any, product: Any) -> bool:
    """Compute all lines of a product of columns; False, and nothing, if that cannot be.

    before, after : `_lines.Step`
        Done to samples before they are read, and to results that are written.  The caller
        asks `after`, which may be None, for its total: some cannot be shared.
    product : `direct.Columns`
    """
    parts, (_, numbers) = len(product.gathers), product.results.shape
    row = numbers, numbers * product.results.itemsize
    seams = lines.seams(product.edges)
    starts = before.shares(parts + 1) if seams else []
    if not starts:
        return False
    *starts, between = starts
    for first, stop in seams[1:-1]:
        between(first * numbers, stop * numbers)
    ends = (after.shares(parts) if after else []) or [None] * parts
    written = product.results.ctypes.data  # in a cache when `after` reads it
    others = [place for place in after.places() if place != written] if after else []
    places = before.places(), others
    count = max(1, _BYTES // (lines.results * row[1]))
    count -= count % _TOGETHER if count > _TOGETHER else 0
    tasks = [
        partial(_sweep, lines, range(a, b, count), b, (low, high), row, places, *each)
        for (a, b), (_, low), (high, _), *each in zip(
            itertools.pairwise(product.edges),
            seams[:-1],
            seams[1:],
            starts,
            product.gathers,
            ends,
            strict=True,
        )
    ]
    _arrays.run_all(tasks, parts)
    return True


def _sweep(
    lines: Reach,
    firsts: range,
    last: int,
    own: tuple[int, int],
    row: tuple[int, int],
    places: Sequence[list[int]],
    before: Callable[[int, int], Any],
    gather: Callable[[np.uint64, np.uint64, np.ndarray], Any],
    after: Callable[[int, int], Any] | None,
) -> None:
    """Compute some lines; the step before them goes over samples `own`, to the end.

    A sample or a result is a row of so many numbers and bytes.  What the next step reads, of
    columns at `places`, is asked for while lines are computed: memory is idle then.
    """
    (done, end), (numbers, nbytes) = own, row
    for first in firsts:
        stop = min(first + firsts.step, last)
        to = max(int(lines.stop[stop]), stop * lines.results if lines.in_place else 0)
        to = end if stop == last else min(to, end)
        if to > done:
            before(done * numbers, to * numbers)
            done = to
        start = first * lines.results
        size = stop * lines.results - start
        soon = [
            a + n * nbytes for each, n in zip(places, (done, start), strict=True) for a in each
        ]
        gather(np.uint64(first), np.uint64(stop), ahead(soon, size * nbytes))
        if after:
            after(start * numbers, (start + size) * numbers)
