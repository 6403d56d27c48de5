"""Geometry -> a plan: which lines of results the compiled loops compute, from which samples.

Positions along the last axis come in *runs*, one for each stencil.  A *combination* is one
choice of stencils along the outer axes, with all the lines of results that have these
stencils and the runs of each line.  These integers depend on the geometry alone;
`Plan.values` adds a kernel.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from linconv import _arrays
from linconv.assembly import Grid, Place, arranged, grid_of, places_of
from linconv.geometry import Geometry

# Channels of the result that are computed together, where a group has a multiple of them.
FOUR = 4
# Outer axes that a plan can have.
OUTER = 3
# Runs of fewer results are computed one result at a time, for several lines together.
SHORT = 6
# Fewer lines than this are cut into pieces, so that each thread has work.
_LINES = 64
# The least number of results in such a piece.
_PIECE = 1 << 13
# Number of results in the lines that are computed together.
_TOGETHER = 1 << 11
# The least number of samples for which another thread helps to copy them.
_GRAIN = 1 << 16


@dataclass(frozen=True)
class Phases:
    """How x lies in memory: phase p of an axis with stride s holds samples p, p + s, ...

    The samples that one tap reads for neighbouring results are neighbours in their phase,
    so strided products run through memory like others.  All phases of the last axis come
    first, then those of the axis before.
    """

    lengths: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def parts(self) -> tuple[int, ...]:
        """Length of a phase along each axis."""
        return tuple(-(-n // s) for n, s in zip(self.lengths, self.strides, strict=True))

    @property
    def plane(self) -> int:
        """Samples of a channel, with those that fill up phases."""
        return math.prod(self.parts) * math.prod(self.strides)

    def places(self, a: int, samples: np.ndarray) -> np.ndarray:
        """Return the positions in memory of samples along axis `a`."""
        apart = math.prod(self.parts) * math.prod(self.strides[a + 1 :])
        return samples % self.strides[a] * apart + samples // self.strides[a] * self._step(a)

    def move(self, a: int, advance: int) -> int:
        """Return the distance in memory between samples `advance` apart along axis `a`."""
        return advance // self.strides[a] * self._step(a)

    def _step(self, a: int) -> int:
        return math.prod(self.parts[a + 1 :])

    def arrange(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of C-ordered arrays, (b, n), laid out in phases."""
        if max(self.strides) == 1:
            return rows
        planes = rows.reshape(len(rows), -1, *self.lengths)
        whole = all(n % s == 0 for n, s in zip(self.lengths, self.strides, strict=True))
        make = np.empty if whole else np.zeros
        result = make((*planes.shape[:2], *self.strides, *self.parts), rows.dtype)

        def copy(phase: tuple[int, ...]) -> None:
            places = (slice(p, None, s) for p, s in zip(phase, self.strides, strict=True))
            samples = planes[(..., *places)]
            place = (slice(None), slice(None), *phase, *map(slice, samples.shape[2:]))
            result[place] = samples

        tasks = [partial(copy, phase) for phase in np.ndindex(*self.strides)]
        _arrays.run_all(tasks, _arrays.workers(rows.size, _GRAIN))
        return result.reshape(len(rows), planes.shape[1] * self.plane)


@dataclass(frozen=True)
class Plan:
    """How to compute C x, or C^T y, line by line.

    Attributes
    ----------
    phases : Phases
        How x has to lie in memory.
    combos : ndarray of uint64, (combinations, 15)
        Number of the first line; first result; (positions, samples moved on, results moved
        on) of three outer axes, the last one first; first run, last + 1; whether a long run
        goes on from one line to the next; lines that are computed together.
    runs : ndarray of uint64, (runs, 6)
        Results; first result; results moved on; first tap, last + 1; samples moved on. Only
        runs of fewer than `SHORT` results use the last: longer runs read neighbouring samples.
    offsets : ndarray of uint64
        The first sample of every tap.
    sizes : tuple of uint64
        Lines of a channel, channels of the result, channels of the result in a group,
        samples of an input group, results of a channel.
    """

    geometry: Geometry
    transposed: bool
    grid: Grid
    phases: Phases
    combos: np.ndarray
    runs: np.ndarray
    offsets: np.ndarray
    sizes: tuple[np.uint64, ...]

    def values(self, kernel: np.ndarray) -> np.ndarray:
        """Return the weight of every tap, (channels, taps)."""
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
def plan(geometry: Geometry, transposed: bool) -> Plan:
    """Return the plan of ``C``, or of ``C^T``; remembered."""
    grid, _ = grid_of(geometry, transposed)
    c_in, c_out = geometry.c_in, geometry.c_out
    if transposed:
        c_in, c_out = c_out, c_in
    lengths = tuple(axis.out if transposed else axis.n for axis in geometry.axes)
    strides = tuple(1 if transposed else axis.stride for axis in geometry.axes)
    phases = Phases(lengths, strides)
    combos, runs, offsets = _tables(grid, phases, c_in // geometry.groups)
    sizes = (
        math.prod(grid.lengths[:-1]) * len(_pieces(grid)),
        c_out,
        c_out // geometry.groups,
        c_in // geometry.groups * phases.plane,
        math.prod(grid.lengths),
    )
    return Plan(
        geometry,
        transposed,
        grid,
        phases,
        np.array(combos, np.uint64),
        np.array(runs, np.uint64),
        np.concatenate(offsets).astype(np.uint64),
        tuple(np.uint64(size) for size in sizes),
    )


def _tables(
    grid: Grid, phases: Phases, per_group: int
) -> tuple[list[list[int]], list[list[int]], list[np.ndarray]]:
    """Return the rows of a plan's combos, runs and offsets."""
    steps = [math.prod(grid.lengths[a + 1 :]) for a in range(len(grid.lengths))]
    combos: list[list[int]] = []
    runs: list[list[int]] = []
    offsets: list[np.ndarray] = []
    last, pieces, lines, tap = len(grid.axes) - 1, _pieces(grid), 0, 0
    for piece, outer in itertools.product(pieces, _outer(grid)):
        columns = np.arange(per_group) * phases.plane
        for a, place in enumerate(outer):
            columns = np.add.outer(columns, phases.places(a, place.stencil.columns)).ravel()
        begin = len(runs)
        for inner in piece:
            reads = phases.places(last, inner.stencil.columns)
            offsets.append(np.add.outer(columns, reads).ravel())
            end, move = tap + offsets[-1].size, phases.move(last, inner.advance)
            # Long runs read neighbours; in wide padding all results read the same samples.
            most = inner.count if move or not inner.stencil.width else SHORT - 1
            for first in range(0, inner.count, most):
                count, start = min(most, inner.count - first), inner.start + first * inner.step
                runs.append([count, start, inner.step, tap, end, move])
            tap = end
        combo = _outer_axes(outer, phases, steps)
        joined = len(pieces) == 1 and _joined(combo, runs[begin:], grid.lengths[-1])
        together = max(_TOGETHER // max(1, combo[2]), 8) if joined else 8
        combos.append([lines, *combo, begin, len(runs), int(joined), together])
        lines += math.prod(place.count for place in outer)
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
    """Whether the long run of a line may go on into the next line, over the edges between.

    Lines must follow each other directly, in x as in y, and must have one long run.  The run
    writes wrong results over the edges; the runs of the edges overwrite them afterwards.
    """
    long = [run for run in runs if run[0] >= SHORT]
    same = combo[1] > 1 and combo[2] == combo[3] == length
    return same and len(long) == 1 and long[0][2] == long[0][5] == 1


def _outer_axes(outer: tuple[Place, ...], phases: Phases, steps: list[int]) -> list[int]:
    """Return the first result, and positions and steps along the outer axes, last first."""
    at = sum(place.start * step for place, step in zip(outer, steps, strict=False))
    axes = [
        (place.count, phases.move(a, place.advance), place.step * steps[a])
        for a, place in enumerate(outer)
    ]
    filled = [*reversed(axes), *[(1, 0, 0)] * (OUTER - len(axes))]
    return [at, *itertools.chain.from_iterable(filled)]
