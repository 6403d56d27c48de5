"""Geometry -> boxes of results that share a stencil: what matrix-free products loop over.

Positions along the last axis come in *runs*, one per stencil; a *combo* is one
combination of the outer axes' stencils, with all the lines of results it has and the
runs in each.  The integers depend on the geometry alone; `Plan.values` adds a kernel.
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from linconv.assembly import Grid, Place, arranged, grid_of, places_of
from linconv.geometry import Geometry

# Channels of the result that are computed together, if there are as many.
FOUR = 4
# Outer axes a plan can have.
OUTER = 3
# Runs of fewer results are computed one by one.
SHORT = 6
# Lines that are enough for any number of threads: fewer are cut into pieces.
_LINES = 64
# Results that lines computed together have between them.
_TOGETHER = 1 << 11
# Taps that share what they load, at most.
SHARING = 9
# Results of a piece of a line.
_PIECE = 1 << 13
# Bytes that are asked for at a time, while others are multiplied.
AHEAD = 256


class Vector(enum.IntEnum):
    """Vectors of columns that lie side by side: half as wide as can be, or wide.

    Wide ones of results that no cache holds are written past the caches, where each would
    be read before it is written.
    """

    NARROW, WIDE, PAST = range(3)


def ahead(places: Sequence[int] = (), nbytes: int = 0) -> np.ndarray:
    """Return what is to be asked for meanwhile: so many bytes from each of some addresses on.

    These numbers are how often that was done, how often it is to be done, how many addresses
    there are, and the addresses, which take turns: each time `AHEAD` bytes are asked for.
    """
    turns = nbytes // AHEAD * len(places)
    return np.array([0, turns, max(1, len(places)), *places], np.uint64)


@dataclass(frozen=True)
class Layout:
    """How x lies in memory: each axis in `split` parts of every split-th sample.

    With the samples of a stride side by side, strided products run like others; that is
    worth a copy where several channels read them.  All parts of the last axis come
    first, then those of the axis before.
    """

    lengths: tuple[int, ...]
    split: tuple[int, ...]

    @property
    def parts(self) -> tuple[int, ...]:
        """Length of a part along each axis."""
        return tuple(-(-n // s) for n, s in zip(self.lengths, self.split, strict=True))

    @property
    def plane(self) -> int:
        """Samples of a channel, with those that fill up parts."""
        return math.prod(self.parts) * math.prod(self.split)

    def places(self, a: int, samples: np.ndarray) -> np.ndarray:
        """Return where samples along axis `a` lie."""
        apart = math.prod(self.parts) * math.prod(self.split[a + 1 :])
        return samples % self.split[a] * apart + samples // self.split[a] * self._stride(a)

    def move(self, a: int, advance: int) -> int:
        """Return how far a step of so many samples along axis `a` goes."""
        return advance // self.split[a] * self._stride(a)

    def _stride(self, a: int) -> int:
        return math.prod(self.parts[a + 1 :])

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of plain arrays, (b, n), laid out like this."""
        if max(self.split) == 1:
            return rows
        planes = rows.reshape(
            len(rows), rows.shape[1] // math.prod(self.lengths), *self.lengths
        )
        result = np.zeros((*planes.shape[:2], *self.split, *self.parts), rows.dtype)
        for part in np.ndindex(*self.split):
            places = (slice(p, None, s) for p, s in zip(part, self.split, strict=True))
            samples = planes[(..., *places)]
            result[(slice(None), slice(None), *part, *map(slice, samples.shape[2:]))] = samples
        return result.reshape(len(rows), planes.shape[1] * self.plane)


@dataclass(frozen=True)
class Plan:
    """How to compute C x, or C^T y, line by line.

    Attributes
    ----------
    layout : Layout
        How x has to lie in memory.
    combos : ndarray of uint64, (combos, 16)
        First line; first sample read; first result; (positions, samples moved on,
        results moved on) of three outer axes, the last one first; first run, last + 1;
        whether lines may be joined; how many are computed together.
    runs : ndarray of uint64, (runs, 7)
        Results; first sample; samples moved on; first result; results moved on; first
        tap, last + 1.
    offsets : ndarray of uint64
        Of every tap, in samples.
    sizes : tuple of uint64
        Lines of a channel, channels of the result, channels of the result in a group,
        samples of an input group, results of a channel.
    """

    geometry: Geometry
    transposed: bool
    grid: Grid
    layout: Layout
    combos: np.ndarray
    runs: np.ndarray
    offsets: np.ndarray
    sizes: tuple[np.uint64, ...]

    def values(self, kernel: np.ndarray) -> np.ndarray:
        """Return the weight of every tap, (channels, taps); real or not conjugated."""
        taps = arranged(self.geometry, kernel, self.transposed)
        result = np.empty((len(taps), len(self.offsets)), kernel.dtype)
        done = 0
        for piece, outer in itertools.product(_pieces(self.grid), _outer(self.grid)):
            part = taps
            for level, place in enumerate(outer):
                part = place.stencil.contract(part, 2 + level)
            for inner in piece:
                weights = inner.stencil.contract(part, 1 + len(self.grid.axes))
                size = math.prod(weights.shape[1:])
                result[:, done : done + size] = weights.reshape(len(taps), size)
                done += size
        return result


@functools.lru_cache(maxsize=64)
def side_by_side(geometry: Geometry, transposed: bool, b: int) -> tuple[np.ndarray, ...]:
    """Return combos, runs and offsets for `b` vectors whose samples lie side by side.

    Places count numbers of an array (n, b) then.  After them come two more tables about
    taps: how many of them, from each on, read what lies one result further than the tap
    before does, and ones.
    """
    one, times = plan(geometry, transposed), np.uint64(b)
    combos, runs = one.combos.copy(), one.runs.copy()
    combos[:, [1, 2, 4, 5, 7, 8, 10, 11]] *= times
    runs[:, 1:5] *= times
    return combos, runs, one.offsets * times, _sharing(one), np.ones_like(one.offsets)


def _sharing(one: Plan) -> np.ndarray:
    """Return how many taps, from each on, may share what they load: 1 to `SHARING`."""
    found = np.ones_like(one.offsets)
    for _, _, advance, _, _, first, stop in one.runs.tolist():
        steps = np.diff(one.offsets[first:stop].astype(np.int64))
        edges = [first, *(first + 1 + np.flatnonzero(steps != advance)).tolist(), stop]
        for begin, end in itertools.pairwise(edges) if first < stop else ():
            parts = -(-(end - begin) // SHARING)  # as alike as they can be
            cuts = begin + (end - begin) * np.arange(parts + 1) // parts
            found[cuts[:-1]] = np.diff(cuts)
    return found


@functools.lru_cache(maxsize=64)
def plan(geometry: Geometry, transposed: bool) -> Plan:
    """Return the plan of ``C``, or of ``C^T``; remembered."""
    grid, _ = grid_of(geometry, transposed)
    c_in, c_out = geometry.c_in, geometry.c_out
    if transposed:
        c_in, c_out = c_out, c_in
    group, per_group = c_out // geometry.groups, c_in // geometry.groups
    layout = _layout(geometry, transposed, group)
    combos, runs, offsets = _tables(grid, layout, per_group)
    lines = math.prod(grid.lengths[:-1]) * len(_pieces(grid))
    sizes = lines, c_out, group, per_group * layout.plane, math.prod(grid.lengths)
    return Plan(
        geometry,
        transposed,
        grid,
        layout,
        np.array(combos, np.uint64),
        np.array(runs, np.uint64),
        np.concatenate(offsets).astype(np.uint64),
        tuple(np.uint64(size) for size in sizes),
    )


def _layout(geometry: Geometry, transposed: bool, group: int) -> Layout:
    """Return how x shall lie: split by the strides where four channels read each sample."""
    lengths = tuple(axis.out if transposed else axis.n for axis in geometry.axes)
    whole = transposed or group % FOUR
    return Layout(lengths, tuple(1 if whole else axis.stride for axis in geometry.axes))


def _tables(
    grid: Grid, layout: Layout, per_group: int
) -> tuple[list[list[int]], list[list[int]], list[np.ndarray]]:
    """Return the rows of a plan's combos, runs and offsets."""
    steps = [math.prod(grid.lengths[a + 1 :]) for a in range(len(grid.lengths))]
    combos: list[list[int]] = []
    runs: list[list[int]] = []
    offsets: list[np.ndarray] = []
    last, pieces, lines = len(grid.axes) - 1, _pieces(grid), 0
    for piece, outer in itertools.product(pieces, _outer(grid)):
        combo, count = _combo(outer, layout, steps)
        columns = np.arange(per_group) * layout.plane
        for a, place in enumerate(outer):
            columns = np.add.outer(columns, layout.places(a, place.stencil.columns)).ravel()
        begin = len(runs)
        for inner in piece:
            reads = layout.places(last, inner.stencil.columns)
            offsets.append(np.add.outer(columns, reads).ravel())
            first = runs[-1][-1] if runs else 0
            taps = [first, first + offsets[-1].size]
            move = layout.move(last, inner.advance)
            runs.append([inner.count, 0, move, inner.start, inner.step, *taps])
        joined = len(pieces) == 1 and _joined(combo, runs[begin:], grid.lengths[-1])
        together = max(_TOGETHER // max(1, combo[4]), 8) if joined else 8
        combos.append([lines, *combo, begin, len(runs), int(joined), together])
        lines += count
    return combos, runs, offsets


def _outer(grid: Grid) -> Iterator[tuple[Place, ...]]:
    """Yield the combinations of all axes but the last."""
    return itertools.product(*(tuple(places_of(runs, 0)) for runs in grid.axes[:-1]))


def _pieces(grid: Grid) -> list[list[Place]]:
    """Return the runs of the last axis; in several pieces where there are few lines."""
    runs, length = grid.axes[-1], grid.lengths[-1]
    lines = math.prod(grid.lengths[:-1])
    parts = 1 if lines >= _LINES else max(1, min(_LINES // lines, length // _PIECE))
    edges = [length * part // parts for part in range(parts + 1)]
    found = []
    for start, stop in itertools.pairwise(edges):
        clipped = (run.clip(start, stop) for run in runs)
        found.append(list(places_of(tuple(run for run in clipped if run), 0)))
    return found


def _joined(combo: list[int], runs: list[list[int]], length: int) -> bool:
    """Whether a long run may go on from one line to the next, over the edges between.

    Lines of y are neighbours, as far apart in x, and one run only is no edge: what it
    writes over the edges of a line is written again before anybody reads it.
    """
    long = [run for run in runs if run[0] >= SHORT]
    same = combo[2] > 1 and combo[3] == combo[4] == length
    return same and len(long) == 1 and long[0][2] == long[0][4] == 1


def _combo(
    outer: tuple[Place, ...], layout: Layout, steps: list[int]
) -> tuple[list[int], int]:
    """Return the first sample and result and the outer axes, last first; and the lines."""
    at = sum(place.start * step for place, step in zip(outer, steps, strict=False))
    axes = [
        (place.count, layout.move(a, place.advance), place.step * steps[a])
        for a, place in enumerate(outer)
    ]
    filled = [*reversed(axes), *[(1, 0, 0)] * (OUTER - len(axes))]
    lines = math.prod(place.count for place in outer)
    return [0, at, *itertools.chain.from_iterable(filled)], lines
