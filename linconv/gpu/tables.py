"""Grid -> the integer tables from which a GPU writes CSR arrays; needs no GPU itself.

Every row of a matrix is a shifted copy of one of few *templates*, one per combination
of the axes' stencils.  Rows and templates follow the same order: a row comes after the rows
of all earlier positions of the first axis and, within its own position of that axis, after
those of earlier positions of the second axis, and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from linconv.assembly import Grid, Stencil, places_of

# Numbers of an axis in the head of the table.
_HEAD = 8
# Largest number of axes in a kernel's arrays.
_MOST_AXES = 16


@dataclass(frozen=True)
class Tables:
    """The rows of one channel, in the layout that kernels on the device read.

    Attributes
    ----------
    numbers : ndarray of int64
        For every axis: the number of its positions; the products over later axes of
        positions, of entries and of stencils' entries; and the first numbers of four
        tables: (stencil, shift of columns, entries before) of every position; (entries
        before, entries) of every stencil; (column, first tap, one after the last tap) of
        every entry of a stencil; (tap, weight) of every tap.
    lengths : tuple of int
        Positions along each axis.
    entries, templates : int
        Entries of all rows, and of all templates, for one channel of the input.
    width : float
        Mean entries of a row.
    """

    numbers: np.ndarray
    lengths: tuple[int, ...]
    entries: int
    templates: int

    @property
    def width(self) -> float:
        """Mean entries of a row, for one channel of the input."""
        return self.entries / math.prod(self.lengths)


def tables(grid: Grid) -> Tables:
    """Return the tables of a grid of rows; raise ValueError where it has too many axes."""
    if len(grid.axes) > _MOST_AXES:
        raise ValueError(
            f"a convolution on the GPU has at most {_MOST_AXES} axes, got {len(grid.axes)}"
        )
    axes = [_axis_tables(grid, a) for a in range(len(grid.axes))]
    entries = [len(columns) for _, _, columns, _ in axes]
    heads, begin = [], _HEAD * len(axes)
    for a, found in enumerate(axes):
        begins = begin + np.cumsum([0, *(part.size for part in found)])
        later = (
            math.prod(grid.lengths[a + 1 :]),
            grid.entries(a + 1),
            math.prod(entries[a + 1 :]),
        )
        heads.append([grid.lengths[a], *later, *begins[:-1]])
        begin = int(begins[-1])
    parts = [part.ravel() for found in axes for part in found]
    numbers = np.concatenate([np.array(heads, np.int64).ravel(), *parts])
    return Tables(numbers, grid.lengths, grid.entries(0), math.prod(entries))


def _axis_tables(grid: Grid, a: int) -> list[np.ndarray]:
    """Return the tables of an axis: positions, stencils, entries of stencils, taps."""
    runs, stride = grid.axes[a], grid.strides[a]
    positions = np.empty((grid.lengths[a], 3), np.int64)
    stencils, columns, taps, entries, mixed = [], [], [], 0, 0
    for s, place in enumerate(places_of(runs, runs[0].start)):
        count = np.arange(place.count)
        at = positions[place.start : place.stop : place.step]
        at[:, 0] = s
        at[:, 1] = place.advance * stride * count
        at[:, 2] = place.offset + place.distance * count
        weights, counts = _mix(place.stencil)
        ends = mixed + np.cumsum(counts)
        stencils.append((entries, place.stencil.width))
        columns.append(np.stack([place.stencil.columns * stride, ends - counts, ends], 1))
        taps.append(weights)
        entries, mixed = entries + place.stencil.width, mixed + len(weights)
    return [
        positions,
        np.array(stencils, np.int64),
        np.concatenate(columns),
        np.concatenate(taps),
    ]


def _mix(stencil: Stencil) -> tuple[np.ndarray, np.ndarray]:
    """Return (tap, weight) of all taps of a stencil, by column, and their number by column."""
    rows, pairs = [], []
    for layer in stencil.mix:
        count = len(layer.taps)
        rows.append(np.arange(count) if layer.rows is None else layer.rows)
        weights = np.ones(count) if layer.weights is None else layer.weights
        pairs.append(np.stack([np.asarray(layer.taps), weights], 1).astype(np.int64))
    order = np.argsort(np.concatenate(rows), kind="stable")
    counts = np.bincount(np.concatenate(rows), minlength=stencil.width)
    return np.concatenate(pairs)[order], counts
