"""Grid -> how blocks of threads share the rows of a matrix in tiles; no GPU needed here.

Where neighbouring rows read neighbouring columns, the rows of a tile read a patch: their own
place and a margin.  A block loads it once, then computes every row of its tile from it.  Axes
are made three: ones are put before the last two, or around the only one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from linconv.assembly import Grid, places_of
from linconv.gpu import kernels

# Shared memory that a block may have without asking the driver for more.
MOST_SHARED = 48 << 10
# Threads of a block, and those next to each other along the last of two axes or three.
_THREADS, _WARP = (kernels.MOST_THREADS, 128, 64), 32
# Positions of an axis are counted in 32 bits, and a tile may reach beyond them.
_LONGEST = 1 << 30
# Taps from which on they are worth a patch: fewer read hardly anything twice.
_FEWEST_TAPS = 4


class Inner(NamedTuple):
    """The longest run of positions of an axis with one stencil of evenly spaced columns."""

    rows: int  # positions of the axis, of this stencil or not
    first: int
    end: int
    shift: int  # from a position to the first column that it reads
    samples: int  # columns of the axis
    taps: int
    apart: int  # columns from one tap to the next
    before: int  # entries of the axis' stencils before this one
    entries: int  # entries of all stencils of the axis


@dataclass(frozen=True)
class Tiles:
    """Tiles that cover all rows of a channel.

    Attributes
    ----------
    numbers : ndarray of int32, (3, 11)
        As the kernel's `tiled` has them.
    begin : int
        Where the entries of the rows that have a patch begin in the templates.
    count : int
        Tiles of a channel.
    threads, shared : int
        Of a block: threads, and bytes of shared memory.
    taps : int
        Of one channel of the columns.
    kept : float
        Computed results that have a patch, of all that the threads have room for.
    """

    numbers: np.ndarray
    begin: int
    count: int
    threads: int
    shared: int
    taps: int
    kept: float

    @property
    def pays(self) -> bool:
        """Whether there is enough to share, and little room is wasted; not measured yet."""
        return self.taps >= _FEWEST_TAPS and self.kept >= 0.5


def tiles(grid: Grid, plane: int, per_group: int, itemsize: int) -> Tiles | None:
    """Return the tiles that load least, None where a patch cannot be had.

    `plane` counts the columns of a channel, `per_group` the channels of a group.
    """
    if len(grid.axes) > 3 or max(*grid.lengths, plane) > _LONGEST:
        return None
    found = [_inner(grid, a, plane) for a in range(len(grid.axes))]
    axes = [inner for inner in found if inner]
    if len(axes) < len(found):
        return None
    begin, width = 0, per_group
    for a, axis in enumerate(axes):  # as `find_line` finds it
        begin += width * axis.before * math.prod(later.entries for later in axes[a + 1 :])
        width *= axis.taps
    one = Inner(1, 0, 1, 0, 1, 1, 1, 0, 1)
    three = (one, *axes, one) if len(axes) == 1 else (one,) * (3 - len(axes)) + (*axes,)
    taps = math.prod(axis.taps for axis in axes)
    made = [_made(three, threads, begin, taps, itemsize) for threads in _blocks(three)]
    fits = [(cost, tiles) for cost, tiles in made if tiles.shared <= MOST_SHARED]
    return min(fits, key=lambda pair: pair[0])[1] if fits else None


def _inner(grid: Grid, a: int, plane: int) -> Inner | None:
    """Return the rows of an axis that can have a patch, if any."""
    strides = (plane, *grid.strides)
    samples = strides[a] // strides[a + 1]
    best, entries = None, 0
    for place in places_of(grid.axes[a], 0):
        reads = place.stencil.reads
        alike = place.step == 1 and (place.advance == 1 or place.count == 1)
        if alike and isinstance(reads, range) and len(reads):
            first, count = place.start, place.count
            apart = reads.step if len(reads) > 1 else 1
            head = grid.lengths[a], first, first + count, reads.start - first, samples
            candidate = Inner(*head, len(reads), apart, entries, 0)
            if best is None or count > best.end - best.first:
                best = candidate
        entries += place.stencil.width
    return best._replace(entries=entries) if best else None


def _blocks(axes: tuple[Inner, ...]) -> list[tuple[int, int, int]]:
    """Return the threads along each axis that a block can have, many first.

    A thread computes rows as far apart along the axis before the last as its taps are, so
    that it goes from tap to tap with all but one of the samples that it has: there the
    threads are a multiple of that distance.
    """
    across = _WARP if axes[2].rows > 1 else 1
    apart, found = axes[1].apart, []
    for threads, planes in itertools.product(_THREADS, (1, 2, 4, 8)):
        down = threads // (across * planes) // apart * apart
        if down and (planes == 1 or axes[0].rows > 1):
            found.append((planes, down, across))
    return found


def _made(
    axes: tuple[Inner, ...],
    threads: tuple[int, int, int],
    begin: int,
    taps: int,
    itemsize: int,
) -> tuple[int, Tiles]:
    """Return tiles for these threads, and the samples and results that they have room for."""
    tile = threads[0], threads[1] * kernels.EACH, threads[2]
    patch = [t + axis.apart * (axis.taps - 1) for t, axis in zip(tile, axes, strict=True)]
    counts = [-(-axis.rows // t) for t, axis in zip(tile, axes, strict=True)]
    numbers = [
        (*axis[:7], *sizes)
        for axis, *sizes in zip(axes, threads, tile, patch, counts, strict=True)
    ]
    count, slots, samples = math.prod(counts), math.prod(tile), math.prod(patch)
    kept = math.prod(axis.end - axis.first for axis in axes) / (count * slots)
    shared = (samples + taps) * itemsize
    table = np.array(numbers, np.int32)
    made = Tiles(table, begin, count, math.prod(threads), shared, taps, kept)
    return count * (samples + slots), made
