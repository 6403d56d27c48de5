"""Compiled loops of the method "direct"; importing this imports Numba.

Every function runs without the interpreter's lock, writes each result once and adds its
products in a fixed order: any number of threads may share the lines of a product, and the
result has the same bits.

All places are unsigned.  Numba tests every signed index for a negative value, and LLVM
does not vectorise loops with such tests.  Arrays are flat and never sliced: all threads
would count references to a slice at one address.
"""

from __future__ import annotations

import numpy as np

from linconv.methods.compiling import compiled, inlined
from linconv.methods.direct.plans import SHORT

# Results of a line that are computed together: with the samples that they read, they stay
# in a core's second cache.
_CHUNK = np.uint64(2048)
# Results of each of four channels that are computed together.
_QUARTER = np.uint64(512)
_SHORT = np.uint64(SHORT)
_0, _1, _2, _3, _4, _5, _6, _7, _8, _9 = (np.uint64(i) for i in range(10))
_10, _11, _12, _13, _14, _15, _16 = (np.uint64(i) for i in range(10, 17))


@inlined
def _set1(x, s, y, at, n, offsets, values, t, v):
    a0, v0 = s + offsets[t], values[v]
    for i in range(n):
        y[at + i] = v0 * x[a0 + i]


@inlined
def _set9(x, s, y, at, n, offsets, values, t, v):
    a0, v0 = s + offsets[t], values[v]
    a1, v1 = s + offsets[t + _1], values[v + _1]
    a2, v2 = s + offsets[t + _2], values[v + _2]
    a3, v3 = s + offsets[t + _3], values[v + _3]
    a4, v4 = s + offsets[t + _4], values[v + _4]
    a5, v5 = s + offsets[t + _5], values[v + _5]
    a6, v6 = s + offsets[t + _6], values[v + _6]
    a7, v7 = s + offsets[t + _7], values[v + _7]
    a8, v8 = s + offsets[t + _8], values[v + _8]
    for i in range(n):
        y[at + i] = (
            v0 * x[a0 + i]
            + v1 * x[a1 + i]
            + v2 * x[a2 + i]
            + v3 * x[a3 + i]
            + v4 * x[a4 + i]
            + v5 * x[a5 + i]
            + v6 * x[a6 + i]
            + v7 * x[a7 + i]
            + v8 * x[a8 + i]
        )


@inlined
def _add1(x, s, y, at, n, offsets, values, t, v):
    a0, v0 = s + offsets[t], values[v]
    for i in range(n):
        y[at + i] += v0 * x[a0 + i]


@inlined
def _add4(x, s, y, at, n, offsets, values, t, v):
    a0, v0 = s + offsets[t], values[v]
    a1, v1 = s + offsets[t + _1], values[v + _1]
    a2, v2 = s + offsets[t + _2], values[v + _2]
    a3, v3 = s + offsets[t + _3], values[v + _3]
    for i in range(n):
        y[at + i] += v0 * x[a0 + i] + v1 * x[a1 + i] + v2 * x[a2 + i] + v3 * x[a3 + i]


@inlined
def _add8(x, s, y, at, n, offsets, values, t, v):
    a0, v0 = s + offsets[t], values[v]
    a1, v1 = s + offsets[t + _1], values[v + _1]
    a2, v2 = s + offsets[t + _2], values[v + _2]
    a3, v3 = s + offsets[t + _3], values[v + _3]
    a4, v4 = s + offsets[t + _4], values[v + _4]
    a5, v5 = s + offsets[t + _5], values[v + _5]
    a6, v6 = s + offsets[t + _6], values[v + _6]
    a7, v7 = s + offsets[t + _7], values[v + _7]
    for i in range(n):
        y[at + i] += (
            v0 * x[a0 + i]
            + v1 * x[a1 + i]
            + v2 * x[a2 + i]
            + v3 * x[a3 + i]
            + v4 * x[a4 + i]
            + v5 * x[a5 + i]
            + v6 * x[a6 + i]
            + v7 * x[a7 + i]
        )


@compiled
def _line(x, s, y, at, n, offsets, values, t, stop, v):
    """y[at + i] = sum_t values[v + t] x[s + offsets[t] + i], in passes over several taps.

    The more taps a pass has, the fewer times y is read and written.
    """
    v += t
    if t == stop:
        for i in range(n):
            y[at + i] = 0
        return
    if t + _9 <= stop:
        _set9(x, s, y, at, n, offsets, values, t, v)
        t, v = t + _9, v + _9
    else:
        _set1(x, s, y, at, n, offsets, values, t, v)
        t, v = t + _1, v + _1
    while t + _8 <= stop:
        _add8(x, s, y, at, n, offsets, values, t, v)
        t, v = t + _8, v + _8
    if t + _4 <= stop:
        _add4(x, s, y, at, n, offsets, values, t, v)
        t, v = t + _4, v + _4
    while t < stop:
        _add1(x, s, y, at, n, offsets, values, t, v)
        t, v = t + _1, v + _1


@inlined
def _run(x, s, y, at, run, count, offsets, values, v, scratch):
    """Compute `count` results of a long run on one line; y[at + step i] for steps above 1."""
    step, t, stop = run[2], run[3], run[4]
    done = _0
    while done < count:
        n = min(_CHUNK, count - done)
        begin, to = s + done, at + step * done
        if step == _1:
            _line(x, begin, y, to, n, offsets, values, t, stop, v)
        else:
            _line(x, begin, scratch, _0, n, offsets, values, t, stop, v)
            for i in range(n):
                y[to + step * i] = scratch[i]
        done += n


@inlined
def _short_run(x, s, y, at, run, lines, offsets, values, v):
    """Compute the few results of a run, each for all of some lines: a number and pitches."""
    count, step, t, stop, move = run[0], run[2], run[3], run[4], run[5]
    q, pitch, spacing = lines
    for i in range(count):
        begin, to = s + move * i, at + step * i
        for line in range(q):
            y[to + spacing * line] = 0
        for tap in range(t, stop):
            a0, v0 = begin + offsets[tap], values[v + tap]
            for line in range(q):
                y[to + spacing * line] += v0 * x[a0 + pitch * line]


@inlined
def _add4_to_four(x, s, sums, n, offsets, values, t, v, pitch):
    """Add four taps to four channels: every sample that is loaded is used four times."""
    a0, a1 = s + offsets[t], s + offsets[t + _1]
    a2, a3 = s + offsets[t + _2], s + offsets[t + _3]
    p, q, r = v + pitch, v + _2 * pitch, v + _3 * pitch
    v00, v01, v02, v03 = values[v], values[v + _1], values[v + _2], values[v + _3]
    v10, v11, v12, v13 = values[p], values[p + _1], values[p + _2], values[p + _3]
    v20, v21, v22, v23 = values[q], values[q + _1], values[q + _2], values[q + _3]
    v30, v31, v32, v33 = values[r], values[r + _1], values[r + _2], values[r + _3]
    for i in range(n):
        x0, x1, x2, x3 = x[a0 + i], x[a1 + i], x[a2 + i], x[a3 + i]
        sums[i] += v00 * x0 + v01 * x1 + v02 * x2 + v03 * x3
        sums[_QUARTER + i] += v10 * x0 + v11 * x1 + v12 * x2 + v13 * x3
        sums[_2 * _QUARTER + i] += v20 * x0 + v21 * x1 + v22 * x2 + v23 * x3
        sums[_3 * _QUARTER + i] += v30 * x0 + v31 * x1 + v32 * x2 + v33 * x3


@inlined
def _line_of_four(x, s, sums, n, offsets, values, t, stop, v):
    """sums[channel, i] = sum_t values[channel, t] x[s + offsets[t] + i]."""
    pitch = np.uint64(len(offsets))
    v += t
    for i in range(_4 * _QUARTER):
        sums[i] = 0
    while t + _4 <= stop:
        _add4_to_four(x, s, sums, n, offsets, values, t, v, pitch)
        t, v = t + _4, v + _4
    while t < stop:
        a0 = s + offsets[t]
        for channel in range(_4):
            v0, to = values[v + channel * pitch], channel * _QUARTER
            for i in range(n):
                sums[to + i] += v0 * x[a0 + i]
        t, v = t + _1, v + _1


@inlined
def _write_four(sums, n, y, at, plane, lines, done, count, step):
    """Write results `done`, ... of a run that goes on over lines, for four channels.

    `lines` are the results from one line to the next as computed, and as y has them; those
    that lie beyond the `count` results of a line are dropped.
    """
    pitch, spacing = lines
    for channel in range(_4):
        row, column, begin = done // pitch, done % pitch, channel * _QUARTER
        left = n
        while left > _0:
            part = min(left, pitch - column)
            used = min(part, count - column) if column < count else _0
            to = at + channel * plane + row * spacing + step * column
            for i in range(used):
                y[to + step * i] = sums[begin + i]
            begin += part
            left -= part
            row, column = row + _1, _0


@inlined
def _run_of_four(x, s, y, at, plane, run, lines, offsets, values, scratch):
    """Compute a long run on some lines for four channels; at[1] is their first weight.

    A run goes on from line to line where few results fall between the lines.
    """
    count, step, t, stop = run[0], run[2], run[3], run[4]
    to, v = at
    q, pitch, spacing = lines
    joined = count <= pitch <= _2 * count
    whole, period = ((q - _1) * pitch + count, pitch) if joined else (count, count)
    for first in range(_1 if joined else q):
        begin, place = s + first * pitch, to + first * spacing
        done = _0
        while done < whole:
            n = min(_QUARTER, whole - done)
            _line_of_four(x, begin + done, scratch, n, offsets, values, t, stop, v)
            _write_four(scratch, n, y, place, plane, (period, spacing), done, count, step)
            done += n


@inlined
def _lines(x, y, place, four, combo, runs, offsets, values, scratch):
    """Compute neighbouring lines of one combination: long runs first, then the edges.

    `place` holds the first sample, result and weight, the results of a channel and how many
    lines there are.  A joined run writes between lines, too; the edges overwrite that.
    """
    s, at, v, plane, q = place
    pitch, spacing = combo[3], combo[4]
    lines = q, pitch, spacing
    for r in range(combo[11], combo[12]):
        run = runs[r]
        if run[0] < _SHORT:
            continue
        if four:
            to = at + run[1], v
            _run_of_four(x, s, y, to, plane, run, lines, offsets, values, scratch)
            continue
        times, count = q, run[0]
        if combo[13] == _1:
            times, count = _1, (q - _1) * pitch + count
        for line in range(times):
            a, b = s + line * pitch, at + run[1] + line * spacing
            _run(x, a, y, b, run, count, offsets, values, v, scratch)
    for r in range(combo[11], combo[12]):
        if runs[r, 0] < _SHORT:
            for channel in range(_4 if four else _1):
                weights = v + channel * np.uint64(len(offsets))
                to = at + runs[r, 1] + channel * plane
                _short_run(x, s, y, to, runs[r], lines, offsets, values, weights)


@inlined
def _first_of(combo, line):
    """Return where a line of a combination reads and writes, and its neighbours to come."""
    length, middle = combo[2], combo[5]
    inner, outer = line % length, line // length
    i, j = outer % middle, outer // middle
    read = inner * combo[3] + i * combo[6] + j * combo[9]
    write = combo[1] + inner * combo[4] + i * combo[7] + j * combo[10]
    return read, write, length - inner


@compiled
def gather(x, y, combos, runs, offsets, values, sizes, first, last):
    """Compute lines first..last-1 of all rows of a batch and all channels; see `plans.Plan`.

    Where a group has four channels or a multiple, a line is one of four channels.
    """
    lines, channels, group, plane_in, plane_out = sizes
    four = group % _4 == _0
    width = _4 if four else _1
    scratch = np.empty(_CHUNK, y.dtype)
    which = _0
    while first < last:
        image, line = first // lines, first % lines
        batch, channel = image // (channels // width), image % (channels // width) * width
        if line == _0:
            which = _0
        while which + _1 < np.uint64(len(combos)) and combos[which + _1, _0] <= line:
            which += _1
        combo = combos[which]
        end = combos[which + _1, _0] if which + _1 < np.uint64(len(combos)) else lines
        read, write, left = _first_of(combo, line - combo[0])
        q = min(min(combo[14], left), min(end - line, last - first))
        read += (batch * (channels // group) + channel // group) * plane_in
        write += (batch * channels + channel) * plane_out
        place = read, write, channel * np.uint64(len(offsets)), plane_out, q
        _lines(x, y, place, four, combo, runs, offsets, values, scratch)
        first += q
