"""Compiled loops of the method "direct"; importing this imports Numba.

Every function here runs without the interpreter's lock, writes each result once and
adds in a fixed order: as many threads as there are may share the lines of a product,
and the result has the same bits.

All places are unsigned: Numba looks at every signed index twice, since it might count
from the end, and loops over them are not vectorised.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from linconv.methods.boxes import SHORT

# Results that are added up together: they and what they read stay in the fastest cache.
_CHUNK = np.uint64(1024)
# Runs of fewer results are not worth the start of a vector loop.
_SHORT = np.uint64(SHORT)
_0, _1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(i) for i in range(9))

_compile: Any = numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")


@_compile
def _add8(x, a, b, c, d, e, f, g, h, y, at, n, v, t):
    v0, v1, v2, v3 = v[t], v[t + _1], v[t + _2], v[t + _3]
    v4, v5, v6, v7 = v[t + _4], v[t + _5], v[t + _6], v[t + _7]
    for i in range(n):
        y[at + i] += (
            v0 * x[a + i] + v1 * x[b + i] + v2 * x[c + i] + v3 * x[d + i]
            + v4 * x[e + i] + v5 * x[f + i] + v6 * x[g + i] + v7 * x[h + i]
        )


@_compile
def _add1(x, a, y, at, n, v, t):
    v0 = v[t]
    for i in range(n):
        y[at + i] += v0 * x[a + i]


@_compile
def _unit_line(x, s, y, at, n, offsets, values, row, t, stop):
    """y[at + i] = sum_t values[row + t] x[s + offsets[t] + i]."""
    for i in range(n):
        y[at + i] = 0
    while t + _8 <= stop:
        _add8(
            x,
            s + offsets[t], s + offsets[t + _1], s + offsets[t + _2], s + offsets[t + _3],
            s + offsets[t + _4], s + offsets[t + _5],
            s + offsets[t + _6], s + offsets[t + _7],
            y, at, n, values, row + t,
        )
        t += _8
    while t < stop:
        _add1(x, s + offsets[t], y, at, n, values, row + t)
        t += _1


@_compile
def _even_line(x, s, y, at, n, offsets, values, row, t, stop):
    """y[at + i] = sum_t values[row + t] x[s + offsets[t] + 2 i]."""
    for i in range(n):
        y[at + i] = 0
    while t + _2 <= stop:
        a, b = s + offsets[t], s + offsets[t + _1]
        v0, v1 = values[row + t], values[row + t + _1]
        for i in range(n):
            y[at + i] += v0 * x[a + _2 * i] + v1 * x[b + _2 * i]
        t += _2
    if t < stop:
        a, v0 = s + offsets[t], values[row + t]
        for i in range(n):
            y[at + i] += v0 * x[a + _2 * i]


@_compile
def _strided_line(x, s, advance, y, at, n, offsets, values, row, t, stop):
    """y[at + i] = sum_t values[row + t] x[s + offsets[t] + advance i]."""
    for i in range(n):
        y[at + i] = 0
    for tap in range(t, stop):
        a, v = s + offsets[tap], values[row + tap]
        for i in range(n):
            y[at + i] += v * x[a + advance * i]


@_compile
def _line(x, s, advance, y, at, n, offsets, values, row, t, stop):
    if advance == _1:
        _unit_line(x, s, y, at, n, offsets, values, row, t, stop)
    elif advance == _2:
        _even_line(x, s, y, at, n, offsets, values, row, t, stop)
    else:
        _strided_line(x, s, advance, y, at, n, offsets, values, row, t, stop)


@_compile
def _run(x, start, advance, y, at, step, count, offsets, values, row, t, stop, scratch):
    """Compute `count` results of one stencil on one line."""
    done = _0
    while done < count:
        n = min(_CHUNK, count - done)
        begin, to = start + advance * done, at + step * done
        if step == _1:
            _line(x, begin, advance, y, to, n, offsets, values, row, t, stop)
        else:
            _line(x, begin, advance, scratch, _0, n, offsets, values, row, t, stop)
            for i in range(n):
                y[to + step * i] = scratch[i]
        done += n


@_compile
def _columns(x, start, pitch, y, at, spacing, q, run, offsets, values, row):
    """Compute the few results of a run on q lines, result by result."""
    count, advance, step, t, stop = run[0], run[2], run[4], run[5], run[6]
    for i in range(count):
        begin, to = start + run[1] + advance * i, at + run[3] + step * i
        for line in range(q):
            y[to + spacing * line] = 0
        for tap in range(t, stop):
            a, v = begin + offsets[tap], values[row + tap]
            for line in range(q):
                y[to + spacing * line] += v * x[a + pitch * line]


@_compile
def _block(x, start, y, at, combo, q, runs, offsets, values, row, scratch):
    """Compute q neighbouring lines: the long runs first, then those at the edges.

    Where lines are as far apart in x as in y, a long run goes on from line to line;
    what it writes between them is written again.
    """
    pitch, spacing = combo[4], combo[5]
    for r in range(combo[12], combo[13]):
        run = runs[r]
        count, advance, step, t, stop = run[0], run[2], run[4], run[5], run[6]
        if count < _SHORT:
            continue
        begin, to = start + run[1], at + run[3]
        if combo[14] == _1:
            whole = (q - _1) * pitch + count
            _run(x, begin, _1, y, to, _1, whole, offsets, values, row, t, stop, scratch)
            continue
        for line in range(q):
            _run(
                x, begin + line * pitch, advance, y, to + line * spacing, step, count,
                offsets, values, row, t, stop, scratch,
            )
    for r in range(combo[12], combo[13]):
        if runs[r, 0] < _SHORT:
            _columns(x, start, pitch, y, at, spacing, q, runs[r], offsets, values, row)


@_compile
def _lines(x, start, y, at, combo, first, last, runs, offsets, values, row, scratch):
    """Compute lines first..last-1 of one combo of one image, several at a time."""
    length, middle = combo[3], combo[6]
    while first < last:
        inner, outer = first % length, first // length
        q = min(combo[15], min(length - inner, last - first))
        begin = start + combo[1] + inner * combo[4] + outer % middle * combo[7]
        to = at + combo[2] + inner * combo[5] + outer % middle * combo[8]
        begin += outer // middle * combo[10]
        to += outer // middle * combo[11]
        _block(x, begin, y, to, combo, q, runs, offsets, values, row, scratch)
        first += q


@_compile
def gather(x, y, combos, runs, offsets, values, sizes, first, last):
    """Compute lines first..last-1 of all batches and channels; see `boxes.Plan`.

    x, y and values are flat: a view of a row would be counted by all threads at once.
    """
    lines, channels, group, plane_in, plane_out = sizes
    scratch = np.empty(_CHUNK, y.dtype)
    while first < last:
        image, place = first // lines, first % lines
        channel = image % channels
        which = _0
        while which + _1 < np.uint64(len(combos)) and combos[which + _1, _0] <= place:
            which += _1
        begin, end = combos[which, _0], lines
        if which + _1 < np.uint64(len(combos)):
            end = combos[which + _1, _0]
        count = min(end - place, last - first)
        read = (image // channels * (channels // group) + channel // group) * plane_in
        row = channel * np.uint64(len(offsets))
        _lines(
            x, read, y, image * plane_out, combos[which],
            place - begin, place - begin + count, runs, offsets, values, row, scratch,
        )
        first += count


@_compile
def _starts(combo, first, last, base, moves):
    """Return where lines first..last-1 of a combo start, by the moves of its outer axes."""
    starts = np.empty(last - first, np.uint64)
    for line in range(first, last):
        place, start = line, base
        for axis in range(_3):
            length = combo[_3 + _3 * axis]
            place, position = place // length, place % length
            start += position * combo[_3 + _3 * axis + moves]
        starts[line - first] = start
    return starts


@_compile
def collect(x, base, combo, run, offsets, first, last, patches):
    """Write what lines first..last-1 of a run read: patches[tap, line and result]."""
    count, advance = run[0], run[2]
    starts = _starts(combo, first, last, base + combo[1] + run[1], _1)
    for t in range(run[5], run[6]):
        row = patches[t - run[5]]
        for line in range(last - first):
            a, to = starts[line] + offsets[t], count * line
            if advance == _1:
                for i in range(count):
                    row[to + i] = x[a + i]
            elif advance == _2:
                for i in range(count):
                    row[to + i] = x[a + _2 * i]
            else:
                for i in range(count):
                    row[to + i] = x[a + advance * i]


@_compile
def distribute(results, y, base, plane, combo, run, first, last):
    """Write results[channel, line and result] of lines first..last-1 of a run to y."""
    count, step = run[0], run[4]
    starts = _starts(combo, first, last, base + combo[2] + run[3], _2)
    for channel in range(np.uint64(len(results))):
        row = results[channel]
        for line in range(last - first):
            at, place = starts[line] + channel * plane, count * line
            for i in range(count):
                y[at + step * i] = row[place + i]
