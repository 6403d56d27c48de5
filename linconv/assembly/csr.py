"""Geometry and kernel -> CSR arrays, of all rows or of a block of rows.

Rows are written sorted and without duplicates: no triplets, no sort, no dense intermediate.
This file knows neither operators nor sparse classes.

A row holds its columns in the order (channel, columns of axis 1, ..., of axis d).  Rows along
the trailing axes form a *line*.  A line is built once for each combination of the outer axes'
stencils and copied to all their positions, at constant distances in the CSR arrays.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from linconv import _arrays
from linconv._options import integer
from linconv.assembly.stencils import Segment, Stencil, segments
from linconv.geometry import Axis, Boundary, Geometry, csr_nbytes

# Entries of a template, a piece of a line that is repeated: it fits a cache.
_BLOCK = 1 << 12
# Entries that one task writes, many more than its templates hold.
_TASK = 1 << 22
# Entries worth a thread.
_GRAIN = 1 << 20
# Stencils of axes with more taps are not cached.
_LONG = 64


class Csr(NamedTuple):
    """The arrays of a CSR matrix, canonical."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The rows of one channel: runs of positions along each axis."""

    axes: tuple[tuple[Segment, ...], ...]
    strides: tuple[int, ...]  # of the columns' axes, in columns

    @functools.cached_property
    def totals(self) -> tuple[int, ...]:
        """Entries of each axis's own matrix."""
        return tuple(sum(run.nnz for run in runs) for runs in self.axes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions along each axis."""
        return tuple(sum(run.count for run in runs) for runs in self.axes)

    def entries(self, level: int) -> int:
        """Entries of the rows over axes level, level + 1, ..."""
        return math.prod(self.totals[level:])

    def clip(self, start: int, stop: int) -> Grid:
        """Return the grid of positions start..stop-1 of the first axis."""
        runs = (run.clip(start, stop) for run in self.axes[0])
        return Grid((tuple(run for run in runs if run), *self.axes[1:]), self.strides)


def conv_csr(
    geometry: Geometry,
    kernel: np.ndarray,
    *,
    transposed: bool = False,
    rows: tuple[int, int] | None = None,
    pattern: Csr | None = None,
) -> Csr:
    """Return the CSR arrays of ``C``, or those of ``C^T`` just as directly.

    Parameters
    ----------
    geometry : Geometry
        The convolution ``C``.
    kernel : ndarray, ``geometry.kernel_shape``
        The taps; values have their dtype, which may be object.
    transposed : bool
        Whether rows are the samples instead of the outputs.
    rows : (start, stop), optional
        Build only these rows along the first axis of the output.
    pattern : Csr, optional
        The matrix of another kernel, whose indices are shared.

    Raises
    ------
    ValueError
        If `rows` is empty or reaches beyond the output.
    MemoryError
        If the arrays would take more than half of the available memory.
    """
    part = matrix_rows(geometry, transposed, rows)
    grid, bases, columns = part.grid, part.bases, part.columns
    values = arranged(geometry, kernel, transposed)[part.channels]
    per_group = values.shape[1]
    per_channel = per_group * grid.entries(0)
    outer = np.arange(per_group) * part.plane
    tasks: list[Callable[[], None]] = []
    if pattern is None:
        shape = (len(bases) * math.prod(grid.lengths), columns)
        csr = _empty(shape, len(bases) * per_channel, values.dtype)
        starts = csr.indptr[:-1].reshape(len(bases), -1)
        tasks.append(partial(_write_indptr, starts, grid, per_group, per_channel))
        indices = csr.indices.reshape(len(bases), -1)
    else:
        csr = pattern._replace(data=np.empty(len(pattern.indices), values.dtype))
        indices = None
    tables = (indices, csr.data.reshape(len(bases), -1))
    tasks += _tasks(tables, grid, values, bases, outer)
    _arrays.run_all(tasks, _arrays.workers(csr.data.size, _GRAIN))
    return csr


class MatrixRows(NamedTuple):
    """Rows of a matrix, and the positions of their columns."""

    grid: Grid  # the rows of one channel
    channels: slice  # the channels of the rows
    bases: np.ndarray  # the first column of each channel's group
    plane: int  # columns of a channel
    columns: int  # columns of the matrix
    key: tuple | None  # the key of the grid in a cache


def matrix_rows(
    geometry: Geometry, transposed: bool, rows: tuple[int, int] | None
) -> MatrixRows:
    """Return the rows start..stop-1 along the first axis of ``C``, or of ``C^T``; or all."""
    _check_edges(geometry)
    c_in, c_out, groups = geometry.c_in, geometry.c_out, geometry.groups
    channels, others = (c_in, c_out) if transposed else (c_out, c_in)
    grid, plane = grid_of(geometry, transposed)
    bases = np.arange(channels) // (channels // groups) * (others // groups * plane)
    key = (geometry.axes, transposed)
    start, stop = _check_rows(rows, channels if geometry.channels else grid.lengths[0])
    taken = slice(start, stop) if geometry.channels else slice(None)
    if not geometry.channels and rows is not None:
        grid, key = grid.clip(start, stop), None
    return MatrixRows(grid, taken, bases[taken], plane, geometry.shape[not transposed], key)


def arranged(geometry: Geometry, kernel: np.ndarray, transposed: bool) -> np.ndarray:
    """Return unflipped taps: (channels of rows, channels of columns in a group, k1..kd)."""
    per_group = geometry.c_in // geometry.groups
    values = kernel.reshape(geometry.c_out, per_group, *(axis.k for axis in geometry.axes))
    if geometry.flip:
        values = values[(slice(None),) * 2 + (slice(None, None, -1),) * len(geometry.axes)]
    if transposed:
        values = values.reshape(geometry.groups, -1, *values.shape[1:]).swapaxes(1, 2)
        values = values.reshape(geometry.c_in, -1, *values.shape[3:])
    return values


def unfold_csr(geometry: Geometry, dtype: Any, rows: tuple[int, int] | None = None) -> Csr:
    """Return the CSR arrays that gather every tap: one row per (channel, tap, position).

    `geometry` is that of any convolution of the same axes; its outputs do not matter.
    """
    found, nnz, shape = tap_rows(geometry, rows)
    csr = _empty(shape, nnz, np.dtype(dtype))
    indptr = csr.indptr[:-1].reshape(-1, math.prod(axis.out for axis in geometry.axes))
    tasks: list[Callable[[], None]] = []
    for tap in found:
        size = (len(tap.bases), tap.grid.entries(0))
        indices, data = (
            _window(array, tap.begin, size, (tap.pitch, 1))
            for array in (csr.indices, csr.data)
        )
        _write_indptr(indptr[tap.slots], tap.grid, 1, tap.pitch, tap.begin)
        ones = np.ones((len(tap.bases), 1) + (1,) * len(geometry.axes), dtype)
        zero = np.zeros(1, np.int64)
        tasks += _tasks((indices, data), tap.grid, ones, tap.bases, zero)
    _arrays.run_all(tasks, _arrays.workers(nnz, _GRAIN))
    return csr


class TapRows(NamedTuple):
    """The rows of U that gather one tap, in the wanted channels."""

    grid: Grid
    slots: slice  # among the output's channels
    begin: int  # the first entry
    pitch: int  # entries from one channel to the next
    bases: np.ndarray  # the first column of each channel


def tap_rows(
    geometry: Geometry, rows: tuple[int, int] | None
) -> tuple[list[TapRows], int, tuple[int, int]]:
    """Return the rows of every tap, the number of entries, and the shape of the matrix."""
    _check_edges(geometry)
    grids = [_tap_grid(geometry, taps) for taps in np.ndindex(*(a.k for a in geometry.axes))]
    plane = math.prod(axis.n for axis in geometry.axes)
    start, stop = _check_rows(rows, geometry.c_in * len(grids))
    counts = np.array([grid.entries(0) for grid in grids])
    ends = np.cumsum(np.tile(counts, geometry.c_in)[start:stop])
    found = []
    for tap, grid in enumerate(grids):
        # The rows of a tap are len(grids) channels apart.
        first = start + (tap - start) % len(grids)
        if first >= stop:
            continue
        slots = slice(first - start, stop - start, len(grids))
        begin = ends[slots] - counts[tap]
        pitch = int(begin[1] - begin[0]) if len(begin) > 1 else 0
        bases = (first // len(grids) + np.arange(len(begin))) * plane
        found.append(TapRows(grid, slots, int(begin[0]), pitch, bases))
    positions = math.prod(axis.out for axis in geometry.axes)
    return found, int(ends[-1]), ((stop - start) * positions, geometry.c_in * plane)


def varying_csr(
    geometry: Geometry, kernels: np.ndarray, rows: tuple[int, int] | None = None
) -> Csr:
    """Return the CSR arrays of a convolution with a kernel per output position.

    `kernels` has shape ``(o1..od, k1..kd)``; one channel.
    """
    _check_edges(geometry)
    grid, _ = grid_of(geometry, False)
    start, stop = _check_rows(rows, grid.lengths[0])
    grid, kernels = grid.clip(start, stop), kernels[start:stop]
    d = len(grid.axes)
    if geometry.flip:
        kernels = np.flip(kernels, tuple(range(d, 2 * d)))
    shape = (math.prod(grid.lengths), geometry.shape[1])
    csr = _empty(shape, grid.entries(0), kernels.dtype)
    _write_indptr(csr.indptr[:-1].reshape(1, -1), grid, 1, 0)
    values = np.broadcast_to(kernels.dtype.type(0), (1, 1, *(a.k for a in geometry.axes)))
    pattern = (csr.indices.reshape(1, -1), None)
    for task in _tasks(pattern, grid, values, np.zeros(1, np.int64), np.zeros(1, np.int64)):
        task()
    for places in itertools.product(*(places_of(runs, 0) for runs in grid.axes)):
        offset, distances, entries = _address(grid, places, 1, d)
        counts = tuple(place.count for place in places)
        part = kernels[tuple(slice(p.start, p.stop, p.step) for p in places)]
        for axis, place in enumerate(places):
            part = place.stencil.contract(part, d + axis)
        _window(csr.data, offset, (*counts, entries), (*distances, 1))[...] = part.reshape(
            *counts, entries
        )
    return csr


def _check_rows(rows: tuple[int, int] | None, length: int) -> tuple[int, int]:
    if rows is None:
        return 0, length
    pair = tuple(integer(row, "rows") for row in rows)
    if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= length:
        raise ValueError(
            f"rows must be (start, stop) with 0 <= start < stop <= {length}, the length of "
            f"the output's first axis, got {pair}"
        )
    return pair


def _check_edges(geometry: Geometry) -> None:
    """Raise MemoryError if padding is so wide that the edges' stencils alone do not fit."""
    for axis in geometry.axes:
        if axis.boundary != (Boundary.ZEROS, Boundary.ZEROS):
            edges = axis.out - len(axis.interior)
            _arrays.require_memory(
                edges * (1000 + 16 * axis.k),
                f"an axis with {edges:,} edge positions, padding {axis.padding} of {axis.n} "
                "samples,",
                "pad less, or pad the input first",
            )


def _runs(axis: Axis, transposed: bool) -> tuple[Segment, ...]:
    """Return all runs of an axis, from a cache unless the kernel is long."""
    find = _remembered_runs if axis.k <= _LONG else _remembered_runs.__wrapped__
    return find(axis, transposed)


@functools.lru_cache(maxsize=128)
def _remembered_runs(axis: Axis, transposed: bool) -> tuple[Segment, ...]:
    return tuple(segments(axis, transposed=transposed))


def grid_of(geometry: Geometry, transposed: bool) -> tuple[Grid, int]:
    """Return the rows of one channel, and the number of columns of one channel."""
    short = all(axis.k <= _LONG for axis in geometry.axes)
    find = _remembered_grid if short else _remembered_grid.__wrapped__
    return find(geometry.axes, transposed)


@functools.lru_cache(maxsize=64)
def _remembered_grid(axes: tuple[Axis, ...], transposed: bool) -> tuple[Grid, int]:
    runs = tuple(_runs(axis, transposed) for axis in axes)
    sizes = [axis.out if transposed else axis.n for axis in axes]
    return Grid(runs, _strides(sizes)), math.prod(sizes)


def _tap_grid(geometry: Geometry, taps: tuple[int, ...]) -> Grid:
    """Return the rows that gather one tap."""
    axes = [axis.only_tap(t) for axis, t in zip(geometry.axes, taps, strict=True)]
    return Grid(
        tuple(_runs(axis, False) for axis in axes), _strides([axis.n for axis in axes])
    )


def _strides(sizes: list[int]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[a + 1 :]) for a in range(len(sizes)))


def check_size(shape: tuple[int, int], nnz: int, dtype: np.dtype) -> None:
    """Raise MemoryError where a matrix would take more than half of the available memory."""
    _arrays.require_memory(
        csr_nbytes(shape, nnz, dtype.itemsize),
        f"the matrix of shape {shape} with {nnz:,} nonzeros of {dtype}",
        "build it in blocks with conv_matrix(..., rows=(start, stop)), or use float32",
    )


def _empty(shape: tuple[int, int], nnz: int, dtype: np.dtype) -> Csr:
    """Allocate CSR arrays; raise MemoryError where they do not fit."""
    check_size(shape, nnz, dtype)
    index = _arrays.index_dtype(shape, nnz)
    indptr = np.empty(shape[0] + 1, index)
    indptr[-1] = nnz
    return Csr(np.empty(nnz, dtype), np.empty(nnz, index), indptr, shape)


def _write_indptr(
    table: np.ndarray, grid: Grid, per_group: int, pitch: int, begin: int = 0
) -> None:
    """Write the first entry of each row: (channels, positions), channels `pitch` apart.

    The sum follows Horner's rule over the axes: a row comes after all earlier positions of
    the first axis and, within its own position of that axis, after those of the second.
    """
    starts = np.zeros(1, table.dtype)
    for level, runs in reversed(tuple(enumerate(grid.axes))):
        after = per_group * grid.entries(level + 1)
        shape = (grid.lengths[level], len(starts))
        out = table[0].reshape(shape) if level == 0 else np.empty(shape, table.dtype)
        for place in places_of(runs, runs[0].start):
            rows = out[place.start : place.stop : place.step]
            step, first = place.distance * after, place.offset * after
            first += begin if level == 0 else 0
            if len(starts) == 1:
                _repeat_columns(rows.T, np.array([first]), step, np.zeros(1, np.int64))
            else:
                moves = first + step * np.arange(place.count, dtype=table.dtype)
                np.add(starts * place.stencil.width, moves[:, None], out=rows)
        starts = out.ravel()
    steps = np.arange(1, len(table), dtype=table.dtype)[:, None] * pitch
    np.add(table[0], steps, out=table[1:])


@dataclass(frozen=True)
class Place:
    """All positions of one stencil along one axis: `count` positions, `step` apart."""

    start: int
    step: int
    count: int
    offset: int  # entries of this axis before the first position
    distance: int  # entries of this axis from one position to the next
    advance: int
    stencil: Stencil

    @property
    def stop(self) -> int:
        """One position after the last."""
        return self.start + self.step * (self.count - 1) + 1


def places_of(runs: tuple[Segment, ...], origin: int) -> Iterator[Place]:
    """Yield the places of all runs of an axis, its positions counted from `origin`."""
    total = 0
    for run in runs:
        period = len(run.stencils)
        for r, (before, count, stencil) in enumerate(run.runs):
            at, offset = run.start - origin + r, total + before
            yield Place(at, period, count, offset, run.width, run.advance, stencil)
        total += run.nnz


def _address(
    grid: Grid, places: tuple[Place, ...], per_group: int, outer: int
) -> tuple[int, list[int], int]:
    """Return the addresses of the lines of a combination of outer places.

    Returns the first entry of the first line, the distances between positions along each
    outer axis, and the number of entries of a line.
    """
    offset, distances, width = 0, [], per_group
    for level, place in enumerate(places[:outer]):
        after = width * grid.entries(level + 1)
        offset += place.offset * after
        distances.append(place.distance * after)
        width *= place.stencil.width
    return offset, distances, width * grid.entries(outer)


def _window(array: np.ndarray, offset: int, shape: tuple, distances: tuple) -> np.ndarray:
    """View `array` from `offset` on along its last axis, `distances` entries apart."""
    size = array.itemsize
    return as_strided(array[..., offset:], shape, tuple(size * step for step in distances))


# Indices and data, (channels, entries); None for a table that is not wanted.
_Tables = tuple[np.ndarray | None, np.ndarray | None]


def _tasks(
    tables: _Tables, grid: Grid, values: np.ndarray, bases: np.ndarray, outer: np.ndarray
) -> Iterator[Callable[[], None]]:
    """Yield tasks for pieces of the work, cut along the channels and the first axis."""
    channels, entries = next(table.shape for table in tables if table is not None)
    if not entries:
        return
    threads = _arrays.workers(channels * entries, _GRAIN)
    pieces = max(threads, channels * entries // _TASK)
    by = max(1, channels // pieces)
    parts = 1 if channels >= threads else -(-threads // channels)
    length, origin = grid.lengths[0], grid.axes[0][0].start
    edges = sorted({length * part // parts for part in range(parts + 1)})
    done = 0
    for start, stop in itertools.pairwise(edges):
        piece = grid if parts == 1 else grid.clip(origin + start, origin + stop)
        size = len(outer) * piece.entries(0)
        for c in range(0, channels, by):
            cut = (slice(c, c + by), slice(done, done + size))
            indices, data = (t if t is None else t[cut] for t in tables)
            part = values[c : c + by]
            yield partial(_fill, (indices, data), piece, part, bases[c : c + by], outer)
        done += size


def _fill(
    tables: _Tables, grid: Grid, values: np.ndarray, bases: np.ndarray, outer: np.ndarray
) -> None:
    """Write all rows of some channels, line by line."""
    depth = max(0, len(grid.axes) - 2)
    while depth and len(outer) * grid.entries(depth + 1) < _BLOCK // 8:
        depth -= 1  # a line should not be short
    for places in itertools.product(
        *(tuple(places_of(runs, 0)) for runs in grid.axes[:depth])
    ):
        offset, distances, entries = _address(grid, places, len(outer), depth)
        columns, part, shift = outer, values, bases
        for level, place in enumerate(places):
            columns = (columns[:, None] + place.stencil.columns * grid.strides[level]).ravel()
            moves = np.arange(place.count) * (place.advance * grid.strides[level])
            part = place.stencil.contract(part, 2 + level)
            shift = shift[..., None] + moves
        part = part.reshape(len(values), len(columns), *values.shape[2 + depth :])
        shape = (*shift.shape, entries)
        indices, data = (
            t
            if t is None
            else _window(t, offset, shape, (t.strides[0] // t.itemsize, *distances, 1))
            for t in tables
        )
        _line((indices, data), grid, depth, columns, part, shift)


def _line(
    tables: _Tables,
    grid: Grid,
    level: int,
    outer: np.ndarray,
    values: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Write the rows over axes level, level + 1, ..., run by run.

    tables: (channels, *positions, entries); outer: columns of the outer axes, (w,);
    values: (channels, w, k of these axes); shift, which is added to all columns of a line:
    (channels, *positions).
    """
    done = 0
    for run in grid.axes[level]:
        size = len(outer) * run.nnz * grid.entries(level + 1)
        if not size:
            continue
        indices, data = (t if t is None else t[..., done : done + size] for t in tables)
        stencils = run.stencils[: run.count]
        period = [_rows(tables, grid, level, outer, values, stencil) for stencil in stencils]
        if indices is not None:
            columns = np.concatenate([columns for columns, _ in period])
            _repeat_columns(indices, columns, run.advance * grid.strides[level], shift)
        if data is not None:
            _repeat_values(data, np.concatenate([rows for _, rows in period], axis=1))
        done += size


def _rows(
    tables: _Tables,
    grid: Grid,
    level: int,
    outer: np.ndarray,
    values: np.ndarray,
    stencil: Stencil,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns, (entries,), and values, (channels, entries), of one position.

    For a table that is not wanted the result is meaningless.
    """
    columns = (outer[:, None] + stencil.columns * grid.strides[level]).ravel()
    part = stencil.contract(values, 2)
    part = part.reshape(len(values), len(columns), *values.shape[3:])
    if level == len(grid.axes) - 1:
        return columns, part
    entries = len(columns) * grid.entries(level + 1)
    indices = None if tables[0] is None else np.empty((1, entries), tables[0].dtype)
    data = None if tables[1] is None else np.empty((len(values), entries), values.dtype)
    _line((indices, data), grid, level + 1, columns, part, np.zeros(1, np.int64))
    return columns if indices is None else indices[0], part if data is None else data


def _repeat_columns(
    target: np.ndarray, period: np.ndarray, step: int, shift: np.ndarray
) -> None:
    """Fill (*positions, entries) with repeats of `period`, each `step` further."""
    if len(period) == target.shape[-1]:  # an edge position has no repeats
        np.add(period, shift[..., None], out=target, casting="unsafe")
        return
    times = _times(len(period), target.shape[-1])
    block = np.add.outer(np.arange(times) * step, period).ravel().astype(target.dtype)
    whole, tail = _blocks(target, len(block))
    moves = np.arange(whole.shape[-2] + 1) * (step * times)
    shift = np.add.outer(shift, moves).astype(target.dtype)[..., None]
    np.add(block, shift[..., :-1, :], out=whole)
    np.add(block[: tail.shape[-1]], shift[..., -1, :], out=tail)


def _repeat_values(target: np.ndarray, period: np.ndarray) -> None:
    """Fill (channels, *positions, entries) with repeats of `period`, (channels, width)."""
    if period.shape[1] == target.shape[-1]:
        target[...] = period.reshape(len(period), *(1,) * (target.ndim - 2), -1)
        return
    times = _times(period.shape[1], target.shape[-1])
    block = np.repeat(period[:, None], times, axis=1).reshape(len(period), -1)
    whole, tail = _blocks(target, block.shape[1])
    block = block.reshape(len(block), *(1,) * (target.ndim - 2), 1, -1)
    whole[...] = block
    tail[...] = block[..., 0, : tail.shape[-1]]


def _times(width: int, entries: int) -> int:
    """Return the number of periods in a template, so that inner loops are long."""
    return -(-min(_BLOCK, entries) // width)


def _blocks(target: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the last axis into ``(blocks, width)`` and a shorter rest."""
    blocks = target.shape[-1] // width
    whole = target[..., : blocks * width].reshape(*target.shape[:-1], blocks, width)
    return whole, target[..., blocks * width :]
