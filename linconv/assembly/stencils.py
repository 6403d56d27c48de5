"""Axis -> stencils: the common pattern of runs of positions along one axis.

A row of one axis's matrix is a position; its columns are the samples that the position reads.
The interior is one run of positions, whose columns increase by `advance` from one position to
the next.  The positions of a transposed axis are the samples; with stride s the pattern
repeats every s positions, so that a run has s stencils.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from linconv.geometry import Axis, Boundary

_ZEROS = (Boundary.ZEROS, Boundary.ZEROS)
# Entries of the tables in which edge positions are computed.
_TABLE = 1 << 13

Places: TypeAlias = np.ndarray | range  # a range, without an array, where the step is constant


class Layer(NamedTuple):
    """One weighted tap for each of some rows of a mixing matrix."""

    rows: np.ndarray | None  # None means every row
    taps: Places
    weights: np.ndarray | None  # None means ones


class Stencil(NamedTuple):
    """The columns that one position reads, sorted and unique, and the taps they add up.

    The mixing matrix (columns x taps) is stored in layers: the first tap of every column,
    then the second tap of columns that have two, and so on.  A dense product with it would
    spread a NaN tap to all columns, since 0 * NaN is NaN.
    """

    reads: Places
    mix: tuple[Layer, ...]

    @property
    def columns(self) -> np.ndarray:
        """The columns as int64, (width,)."""
        return _array(self.reads)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.reads)

    def shift(self, by: int) -> Stencil:
        """Return the same stencil with `by` added to its columns."""
        if isinstance(self.reads, range):
            moved = range(self.reads.start + by, self.reads.stop + by, self.reads.step)
            return Stencil(moved, self.mix)
        return Stencil(self.reads + by, self.mix)

    def contract(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Replace the tap axis of `values`, k long, by these columns; may be a view."""
        first, *others = self.mix
        out = _weigh(values, first, axis)
        for layer in others:
            out[(slice(None),) * axis + (layer.rows,)] += _weigh(values, layer, axis)
        return out


def _array(places: Places) -> np.ndarray:
    if isinstance(places, range):
        return np.arange(places.start, places.stop, places.step)
    return places


def _weigh(values: np.ndarray, layer: Layer, axis: int) -> np.ndarray:
    taps = layer.taps
    if isinstance(taps, range):  # a single layer, which nothing is added to: a view suffices
        stop = taps.stop if taps.stop >= 0 else None
        part = values[(slice(None),) * axis + (slice(taps.start, stop, taps.step),)]
    else:
        part = values.take(taps, axis)
    if layer.weights is None:
        return part
    shape = (-1,) + (1,) * (values.ndim - axis - 1)
    return part * layer.weights.astype(values.dtype).reshape(shape)


_NOTHING = Stencil(range(0), (Layer(None, range(0), None),))


@dataclass(frozen=True)
class Segment:
    """A run of `count` positions from `start`: position start + r + p m has stencil r.

    Here p = len(stencils), and its columns are ``stencils[r].columns + advance * m``.
    """

    start: int
    count: int
    advance: int
    stencils: tuple[Stencil, ...]

    @property
    def width(self) -> int:
        """Entries of one period."""
        return sum(stencil.width for stencil in self.stencils)

    @property
    def nnz(self) -> int:
        """Entries of the whole run."""
        periods, rest = divmod(self.count, len(self.stencils))
        return periods * self.width + sum(stencil.width for stencil in self.stencils[:rest])

    @property
    def runs(self) -> Iterator[tuple[int, int, Stencil]]:
        """Yield ``(entries before, positions, stencil)`` of every stencil."""
        before, period = 0, len(self.stencils)
        for r, stencil in enumerate(self.stencils[: self.count]):
            yield before, (self.count - r + period - 1) // period, stencil
            before += stencil.width

    def clip(self, start: int, stop: int) -> Segment | None:
        """Return the part of the run in positions start..stop-1, if any."""
        start, stop = max(start, self.start), min(stop, self.start + self.count)
        if start >= stop:
            return None
        periods, r = divmod(start - self.start, len(self.stencils))
        turned = [s.shift(self.advance * periods) for s in self.stencils[r:]]
        turned += [s.shift(self.advance * (periods + 1)) for s in self.stencils[:r]]
        return Segment(start, stop - start, self.advance, tuple(turned))


def segments(axis: Axis, *, transposed: bool = False) -> Iterator[Segment]:
    """Yield the runs of positions of `axis`, in order.

    Parameters
    ----------
    axis : Axis
        The axis.
    transposed : bool
        Runs of its samples with the outputs that read them as columns, instead
        of runs of its outputs with the samples they read as columns.

    Examples
    --------
    Three taps, padding 1: an edge, the interior, an edge.

    >>> for run in segments(Axis(6, 3, padding=(1, 1))):
    ...     print(run.start, run.count, [s.columns.tolist() for s in run.stencils])
    0 1 [[0, 1]]
    1 4 [[0, 1, 2]]
    5 1 [[4, 5]]
    """
    return _merge_empty(_transposed(axis) if transposed else _forward(axis))


def _merge_empty(runs: Iterator[Segment]) -> Iterator[Segment]:
    """Join neighbouring runs that read nothing, which wide padding gives one per table."""
    start = count = 0
    for run in runs:
        if run.width == 0:
            start, count = (start if count else run.start), count + run.count
            continue
        if count:
            yield Segment(start, count, 0, (_NOTHING,))
            count = 0
        yield run
    if count:
        yield Segment(start, count, 0, (_NOTHING,))


class _Entries(NamedTuple):
    """Nonzeros of some positions of an axis; each nonzero is one element of the arrays."""

    at: np.ndarray  # position
    column: np.ndarray
    tap: np.ndarray
    weight: np.ndarray

    def take(self, which: np.ndarray | slice) -> _Entries:
        return _Entries(*(field[which] for field in self))

    def sort(self) -> _Entries:
        return self.take(np.lexsort((self.tap, self.column, self.at)))


_NO_ENTRIES = _Entries(*(np.empty(0, np.int64),) * 4)


def _join(parts: Sequence[_Entries]) -> _Entries:
    return _Entries(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _forward(axis: Axis) -> Iterator[Segment]:
    """Yield the interior as one run, and the edges from tables of their entries."""
    inner = axis.interior
    yield from _edge(axis, range(inner.start))
    if inner:
        yield Segment(inner.start, len(inner), axis.stride, (_inside(axis, inner.start),))
    yield from _edge(axis, range(inner.stop, axis.out))


def _edge(axis: Axis, positions: range) -> Iterator[Segment]:
    if axis.boundary == _ZEROS:
        # All taps of outputs before `early`, or from `late` on, lie outside the input.
        early = -((axis.extent - 1 - axis.padding[0]) // axis.stride)
        early = min(max(positions.start, early), positions.stop)
        late = -(-(axis.n + axis.padding[0]) // axis.stride)
        late = max(early, min(positions.stop, late))
        yield Segment(positions.start, early - positions.start, 0, (_NOTHING,))
        yield from _plain_runs(range(early, late), partial(_inside, axis), axis.stride)
        yield Segment(late, positions.stop - late, 0, (_NOTHING,))
        return
    for part, period in axis.parts(positions):
        if period:
            first = np.arange(part.start, part.start + period)
            runs = _group(first, _reads(axis, first).sort(), None)
            stencils = tuple(stencil for run in runs for stencil in run.stencils * run.count)
            yield Segment(part.start, len(part), 0, stencils)
            continue
        for chunk in _chunks(part, axis.k):
            yield from _group(chunk, _reads(axis, chunk).sort(), axis.stride)


def _inside(axis: Axis, i: int) -> Stencil:
    """Return the stencil of output `i` inside the input."""
    d, begin = axis.dilation, axis.stride * i - axis.padding[0]
    first, last = max(0, -(begin // d)), min(axis.k - 1, (axis.n - 1 - begin) // d)
    if last < first:
        return _NOTHING
    reads = range(begin + d * first, begin + d * last + 1, d)
    return Stencil(reads, (Layer(None, range(first, last + 1), None),))


def _readers(axis: Axis, j: int) -> Stencil:
    """Return the stencil of the outputs that read sample `j` directly: s i = j + lo - d t."""
    s, d, reach = axis.stride, axis.dilation, j + axis.padding[0]
    common = math.gcd(s, d)
    step = s // common  # taps that read the sample are `step` apart
    residue = reach // common * pow(d // common, -1, step) % step
    first = max(0, -((s * (axis.out - 1) - reach) // d))
    first += (residue - first) % step
    last = min(axis.k - 1, reach // d)
    last -= (last - residue) % step
    if reach % common or last < first:
        return _NOTHING
    reads = range((reach - d * last) // s, (reach - d * first) // s + 1, d // common)
    return Stencil(reads, (Layer(None, range(last, first - 1, -step), None),))


def _plain_runs(
    positions: range, stencil: Callable[[int], Stencil], slope: int | None
) -> Iterator[Segment]:
    """Yield runs of positions whose stencils, all ranges, differ by `slope` only."""
    start, count, current = 0, 0, _NOTHING
    for position in positions:
        here = stencil(position)
        if count and slope and here == current.shift(slope * count):
            count += 1
            continue
        if count:
            yield Segment(start, count, slope or 0, (current,))
        start, count, current = position, 1, here
    if count:
        yield Segment(start, count, slope or 0, (current,))


def _chunks(positions: range, k: int) -> Iterator[np.ndarray]:
    step = max(1, _TABLE // k)
    for start in range(positions.start, positions.stop, step):
        yield np.arange(start, min(start + step, positions.stop))


def _pairs(positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of a position and a tap, as two arrays."""
    return np.repeat(positions, k), np.tile(np.arange(k), len(positions))


def _reads(axis: Axis, positions: np.ndarray) -> _Entries:
    """Return all entries of `positions`, by the boundary rules."""
    at, tap = _pairs(positions, axis.k)
    j = axis.stride * at - axis.padding[0] + axis.dilation * tap
    inside = (j >= 0) & (j < axis.n)
    direct = _Entries(at[inside], j[inside], tap[inside], np.ones(inside.sum(), np.int64))
    return _join((direct, _folded(axis, at[~inside], j[~inside], tap[~inside])))


def _folded(axis: Axis, at: np.ndarray, j: np.ndarray, tap: np.ndarray) -> _Entries:
    """Return the entries of taps that read positions `j` outside the input."""
    if not len(j):
        return _NO_ENTRIES
    low, high = axis.period(0), axis.period(1)  # samples that repeat others are not asked for
    if low:
        j = np.where(j < 0, -1 - (-1 - j) % low, j)
    if high:
        j = np.where(j >= axis.n, axis.n + (j - axis.n) % high, j)
    distinct, which = np.unique(j, return_inverse=True)
    sources = [axis.source(v) for v in distinct.tolist()]
    counts = np.array([len(source) for source in sources], np.intp)
    pairs = np.array([pair for source in sources for pair in source], np.int64).reshape(-1, 2)
    many = counts[which]
    begin = (np.cumsum(counts) - counts)[which]
    ends = np.cumsum(many)
    term = np.arange(many.sum()) - np.repeat(ends - many - begin, many)
    return _Entries(np.repeat(at, many), pairs[term, 0], np.repeat(tap, many), pairs[term, 1])


def _transposed(axis: Axis) -> Iterator[Segment]:
    """Yield runs of period s where the rules fold no tap onto a sample, and sort the rest."""
    folds = _all_folds(axis)
    s, lo, n = axis.stride, axis.padding[0], axis.n
    # Some output reads samples low..high-1 directly, and between full_low and full_high
    # every tap that can meet an output does.
    low = min(max(0, -lo), n)
    high = min(max(low, s * (axis.out - 1) - lo + axis.extent), n)
    full_low = min(max(low, axis.extent - 1 - lo), high)
    full_high = max(full_low, min(high, s * axis.out - lo))
    onto = np.unique(folds.at)
    cuts = np.concatenate((onto, onto + 1, [0, low, full_low, full_high, high, n]))
    cuts = np.unique(cuts).tolist()
    folded = set(onto.tolist())
    slope = 1 if s == 1 else None
    begin = 0
    for start, stop in zip(cuts, [*cuts[1:], None], strict=True):
        irregular = start in folded or low <= start < full_low or full_high <= start < high
        if irregular and stop is not None:
            continue  # irregular neighbours are gathered
        gathered = range(begin, start)
        if axis.boundary == _ZEROS:
            yield from _plain_runs(gathered, partial(_readers, axis), slope)
        else:
            for chunk in _chunks(gathered, axis.k):
                yield from _group(chunk, _read_by(axis, chunk, folds), slope)
        begin = start if stop is None else stop
        if stop is None:
            return
        if start < low or start >= high:
            yield Segment(start, stop - start, 0, (_NOTHING,))
        else:
            period = range(start, min(start + s, stop))
            yield Segment(start, stop - start, 1, tuple(_readers(axis, j) for j in period))


def _all_folds(axis: Axis) -> _Entries:
    """Return the entries that boundary rules fold into the input, by (sample, output, tap)."""
    if axis.boundary == _ZEROS:
        return _NO_ENTRIES
    parts = [_NO_ENTRIES]
    inner = axis.interior
    for edge in (range(inner.start), range(inner.stop, axis.out)):
        for chunk in _chunks(edge, axis.k):
            at, tap = _pairs(chunk, axis.k)
            j = axis.stride * at - axis.padding[0] + axis.dilation * tap
            outside = (j < 0) | (j >= axis.n)
            entries = _folded(axis, at[outside], j[outside], tap[outside])
            parts.append(entries._replace(at=entries.column, column=entries.at))
    return _join(parts).sort()


def _read_by(axis: Axis, samples: np.ndarray, folds: _Entries) -> _Entries:
    """Return all outputs that read `samples`, which are consecutive."""
    at, tap = _pairs(samples, axis.k)
    reach = at + axis.padding[0] - axis.dilation * tap
    hits = (reach % axis.stride == 0) & (reach >= 0) & (reach < axis.stride * axis.out)
    ones = np.ones(hits.sum(), np.int64)
    direct = _Entries(at[hits], reach[hits] // axis.stride, tap[hits], ones)
    start, stop = np.searchsorted(folds.at, (samples[0], samples[-1] + 1))
    return _join((direct, folds.take(slice(start, stop)))).sort()


def _group(positions: np.ndarray, entries: _Entries, slope: int | None) -> Iterator[Segment]:
    """Yield runs of consecutive `positions` whose sorted entries differ by `slope` only."""
    bounds = np.searchsorted(entries.at, np.append(positions, positions[-1] + 1))
    counts = np.diff(bounds)
    owner = entries.at - positions[0]
    earlier = np.arange(len(owner)) - counts[owner]  # the same entry, one position before
    earlier[earlier < 0] = 0
    step = entries.column - entries.column[earlier]
    differs = (entries.tap != entries.tap[earlier]) | (
        entries.weight != entries.weight[earlier]
    )
    differs |= True if slope is None else step != slope
    breaks = np.bincount(owner, differs, len(positions)) > 0
    breaks[1:] |= counts[1:] != counts[:-1]
    breaks[0] = True
    starts = np.flatnonzero(breaks).tolist()
    bounds = bounds.tolist()
    simple = bool((entries.weight == 1).all()) and not _repeated(entries).any()
    for start, stop in itertools.pairwise([*starts, len(positions)]):
        here = slice(bounds[start], bounds[start + 1])
        if simple:
            stencil = _plain(entries.column[here], entries.tap[here])
        else:
            stencil = _stencil(entries.take(here))
        advance = slope if slope and stop - start > 1 else 0
        yield Segment(int(positions[start]), stop - start, advance, (stencil,))


def _repeated(entries: _Entries) -> np.ndarray:
    """Return which sorted entries have the column of the entry before them."""
    repeated = np.zeros(len(entries.at), bool)
    repeated[1:] = (entries.column[1:] == entries.column[:-1]) & (
        entries.at[1:] == entries.at[:-1]
    )
    return repeated


def _plain(columns: np.ndarray, taps: np.ndarray) -> Stencil:
    """Return a stencil in which every column has one tap."""
    reads, steps = _range(columns), _range(taps)
    if reads is None or steps is None:
        return Stencil(columns.copy(), (Layer(None, taps.copy(), None),))
    return Stencil(reads, (Layer(None, steps, None),))


def _range(places: np.ndarray) -> range | None:
    """Return distinct places as a range if their step is constant."""
    if not len(places):
        return range(0)
    start, last = int(places[0]), int(places[-1])
    if len(places) == 1:
        return range(start, start + 1)
    step = int(places[1]) - start
    regular = (
        step and last - start == step * (len(places) - 1) and (np.diff(places) == step).all()
    )
    return range(start, last + (1 if step > 0 else -1), step) if regular else None


def _stencil(entries: _Entries) -> Stencil:
    """Merge one position's entries, sorted by (column, tap), into a stencil."""
    fresh = ~_repeated(entries)
    columns = entries.column[fresh]
    row = np.cumsum(fresh) - 1
    rank = np.arange(len(row)) - np.flatnonzero(fresh)[row]  # 0 for a column's first tap
    layers = []
    for depth in range(rank.max(initial=0) + 1):
        chosen = rank == depth
        weights = entries.weight[chosen]
        weights = None if (weights == 1).all() else weights
        layers.append(Layer(row[chosen] if depth else None, entries.tap[chosen], weights))
    return Stencil(columns, tuple(layers))
