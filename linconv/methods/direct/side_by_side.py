"""Compiled loops of "direct" for columns that lie side by side; importing this imports Numba.

A vector of neighbouring columns is what one number is to a single vector.  What is
loaded for one tap is used by the next ones too, up to `boxes.SHARING` of them, as they
read the same vectors, one further each: there are more multiplications than loads.

Places are unsigned, as in `_loops`, and count numbers, not samples; every result is
written by one thread, and added up in the order of its taps.
"""

from __future__ import annotations

import numpy as np

from linconv.methods.compiling import compiled as _compile
from linconv.methods.direct.loops import combo_at, line_at
from linconv.methods.direct.plans import Vector
from linconv.methods.direct.register_blocks import add1, add4, add12
from linconv.methods.vectors import prefetch, settle
from linconv.methods.vectors import widest as _widest

_0, _1, _2, _4, _12 = (np.uint64(i) for i in (0, 1, 2, 4, 12))
# Lines that are computed together: results at edges take their blocks across them.
_LINES = np.uint64(48)
_PAST = np.uint64(Vector.PAST)


@_compile
def _vectors(
    x, y, offsets, values, shared, s, at, advance, step, row, t, stop, n, kind, below,
    squares, ahead, c,
):  # fmt: skip
    """Compute `n` results of all columns of a vector; the last block does some again.

    `below` is how far what the next line is the first to read lies from here.  Squares are
    added to squares[c], if there are any.
    """
    _widest()
    size = _12 if n >= _12 else (_4 if n >= _4 else _1)
    none = len(squares) == 0
    done = _0
    while done < n:
        i = min(done, n - size)
        a, b, counted = s + advance * i, at + step * i, size if none else done - i
        if size == _12:
            if kind == _PAST and below > _0:
                place, size_of = np.uint64(x.ctypes.data), np.uint64(x.itemsize)
                for v in range(_12):
                    prefetch(place + (a + below + advance * v) * size_of)
            add12(
                x, y, offsets, values, shared, a, b, advance, step, row, t, stop,
                kind, squares, ahead, c, counted,
            )  # fmt: skip
        elif size == _4:
            add4(
                x, y, offsets, values, shared, a, b, advance, step, row, t, stop,
                kind, squares, ahead, c, counted,
            )  # fmt: skip
        else:
            add1(
                x, y, offsets, values, shared, a, b, advance, step, row, t, stop,
                kind, squares, ahead, c, counted,
            )  # fmt: skip
        done += size


@_compile
def _strip(
    x, y, offsets, values, shared, s, at, advance, step, row, t, stop, n, columns, below,
    squares, ahead,
):  # fmt: skip
    """Compute `n` results of all columns; the last vector does some columns again.

    Squares are added up here before they go to all others: sums of few are exacter.
    """
    _widest()
    b, lanes, kind, _ = columns
    part, total = squares
    done = _0
    while done < b:
        c = min(done, b - lanes)
        _vectors(
            x, y, offsets, values, shared,
            s + c, at + c, advance, step, row, t, stop, n, kind, below, part, ahead, c,
        )  # fmt: skip
        done += lanes
    for i in range(len(part)):
        total[i] += part[i]
        part[i] = 0


@_compile
def _block(
    x, start, y, at, combo, q, runs, offsets, values, shared, alone, row, columns, squares,
    ahead,
):  # fmt: skip
    """Compute q neighbouring lines: long runs line by line, short ones across the lines.

    Very long runs are computed `width` results of every line at a time: the lines that these
    read then stay in a cache until the next line reads them again.
    """
    _widest()
    pitch, spacing, width = combo[4], combo[5], columns[3]
    for r in range(combo[12], combo[13]):
        run = runs[r]
        count, advance, step, t, stop = run[0], run[2], run[4], run[5], run[6]
        begin, to = start + run[1], at + run[3]
        if count >= _12 or count >= q:
            done = _0
            while done < count:
                n = width if done + _2 * width <= count else count - done
                for line in range(q):
                    s = begin + line * pitch + done * advance
                    place = to + line * spacing + done * step
                    below = pitch + offsets[stop - _1] if stop > t else _0
                    _strip(
                        x, y, offsets, values, shared,
                        s, place, advance, step, row, t, stop, n, columns, below, squares,
                        ahead,
                    )  # fmt: skip
                done += n
        else:
            for i in range(count):
                s, place = begin + i * advance, to + i * step
                _strip(
                    x, y, offsets, values, alone,
                    s, place, pitch, spacing, row, t, stop, q, columns, _0, squares, ahead,
                )  # fmt: skip


@_compile
def _lines(
    x, start, y, at, combo, first, last, runs, offsets, values, shared, alone, row, columns,
    squares, ahead,
):  # fmt: skip
    """Compute lines first..last-1 of one combo of one channel, several at a time."""
    _widest()
    while first < last:
        begin, to, left = line_at(combo, first)
        q = min(_LINES, min(left, last - first))
        begin += start
        to += at
        _block(
            x, begin, y, to, combo, q, runs, offsets, values, shared, alone, row, columns,
            squares, ahead,
        )  # fmt: skip
        first += q


@_compile
def gather(x, y, tables, values, sizes, columns, squares, first, last, ahead):
    """Compute lines first..last-1 of all channels; see `boxes.side_by_side`.

    columns: how many there are, how many are in a vector, which kind of vectors, and how many
    results of a line are computed before the next line's.
    squares: two arrays of zeros, one number for each column of y, to whose second one all
    squares are added; or two empty ones.
    ahead: what is read after this, see `boxes.ahead`; changed.
    """
    _widest()
    combos, runs, offsets, shared, alone = tables
    lines, group, plane_in, plane_out = sizes
    while first < last:
        channel, place = first // lines, first % lines
        which, begin, end = combo_at(combos, place, lines)
        count = min(end - place, last - first)
        _lines(
            x,
            channel // group * plane_in,
            y,
            channel * plane_out,
            combos[which],
            place - begin,
            place - begin + count,
            runs,
            offsets,
            values,
            shared,
            alone,
            channel * np.uint64(len(offsets)),
            columns,
            squares,
            ahead,
        )
        first += count
    settle()
