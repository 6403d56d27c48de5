"""Compiled loops of the method "direct"; importing this imports Numba.

Every function here runs without the interpreter's lock, writes each result once and
adds in a fixed order: as many threads as there are may share the lines of a product,
and the result has the same bits.

All places are unsigned: Numba looks at every signed index twice, since it might count
from the end, and loops over them are not vectorised.
"""

from __future__ import annotations

import numpy as np

from linconv.methods.compiling import compiled as _compile
from linconv.methods.direct.plans import SHORT
from linconv.methods.direct.register_blocks import add_block, block_size
from linconv.methods.vectors import widest as _widest

# Results that are added up together: they and what they read stay in the fastest cache.
_CHUNK = np.uint64(2048)
_QUARTER = np.uint64(512)  # as many when four channels are
# Runs of fewer results are not worth the start of a vector loop.
_SHORT = np.uint64(SHORT)
_0, _1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(i) for i in range(9))


@_compile
def _add8(x, a, b, c, d, e, f, g, h, y, at, n, v, t):
    _widest()
    v0, v1, v2, v3 = v[t], v[t + _1], v[t + _2], v[t + _3]
    v4, v5, v6, v7 = v[t + _4], v[t + _5], v[t + _6], v[t + _7]
    for i in range(n):
        y[at + i] += (
            v0 * x[a + i]
            + v1 * x[b + i]
            + v2 * x[c + i]
            + v3 * x[d + i]
            + v4 * x[e + i]
            + v5 * x[f + i]
            + v6 * x[g + i]
            + v7 * x[h + i]
        )


@_compile
def _add1(x, a, y, at, n, v, t):
    _widest()
    v0 = v[t]
    for i in range(n):
        y[at + i] += v0 * x[a + i]


@_compile
def _unit_line(x, s, y, at, n, offsets, values, row, t, stop):
    """y[at + i] = sum_t values[row + t] x[s + offsets[t] + i]."""
    _widest()
    size = block_size(y)
    if _0 < size <= n:
        done = _0
        while done < n:
            begin = min(done, n - size)  # the last block does some results again
            add_block(x, y, offsets, values, s + begin, at + begin, row, t, stop)
            done += size
        return
    for i in range(n):
        y[at + i] = 0
    while t + _8 <= stop:
        _add8(
            x,
            s + offsets[t],
            s + offsets[t + _1],
            s + offsets[t + _2],
            s + offsets[t + _3],
            s + offsets[t + _4],
            s + offsets[t + _5],
            s + offsets[t + _6],
            s + offsets[t + _7],
            y,
            at,
            n,
            values,
            row + t,
        )
        t += _8
    while t < stop:
        _add1(x, s + offsets[t], y, at, n, values, row + t)
        t += _1


@_compile
def _even_line(x, s, y, at, n, offsets, values, row, t, stop):
    """y[at + i] = sum_t values[row + t] x[s + offsets[t] + 2 i]."""
    _widest()
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
    _widest()
    for i in range(n):
        y[at + i] = 0
    for tap in range(t, stop):
        a, v = s + offsets[tap], values[row + tap]
        for i in range(n):
            y[at + i] += v * x[a + advance * i]


@_compile
def _line(x, s, advance, y, at, n, offsets, values, row, t, stop):
    _widest()
    if advance == _1:
        _unit_line(x, s, y, at, n, offsets, values, row, t, stop)
    elif advance == _2:
        _even_line(x, s, y, at, n, offsets, values, row, t, stop)
    else:
        _strided_line(x, s, advance, y, at, n, offsets, values, row, t, stop)


@_compile
def _run(x, start, advance, y, at, step, count, offsets, values, row, t, stop, scratch):
    """Compute `count` results of one stencil on one line."""
    _widest()
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
def _four_by_four(x, a, b, c, d, sums, n, v, t, pitch):
    """Add four taps to four channels: every sample that is loaded is used four times."""
    _widest()
    p, q, r = t + pitch, t + _2 * pitch, t + _3 * pitch
    v00, v01, v02, v03 = v[t], v[t + _1], v[t + _2], v[t + _3]
    v10, v11, v12, v13 = v[p], v[p + _1], v[p + _2], v[p + _3]
    v20, v21, v22, v23 = v[q], v[q + _1], v[q + _2], v[q + _3]
    v30, v31, v32, v33 = v[r], v[r + _1], v[r + _2], v[r + _3]
    for i in range(n):
        x0, x1, x2, x3 = x[a + i], x[b + i], x[c + i], x[d + i]
        sums[i] += v00 * x0 + v01 * x1 + v02 * x2 + v03 * x3
        sums[_QUARTER + i] += v10 * x0 + v11 * x1 + v12 * x2 + v13 * x3
        sums[_2 * _QUARTER + i] += v20 * x0 + v21 * x1 + v22 * x2 + v23 * x3
        sums[_3 * _QUARTER + i] += v30 * x0 + v31 * x1 + v32 * x2 + v33 * x3


@_compile
def _even_by_four(x, a, b, sums, n, v, t, pitch):
    """The same for two taps of every second sample."""
    _widest()
    p, q, r = t + pitch, t + _2 * pitch, t + _3 * pitch
    v00, v01, v10, v11 = v[t], v[t + _1], v[p], v[p + _1]
    v20, v21, v30, v31 = v[q], v[q + _1], v[r], v[r + _1]
    for i in range(n):
        x0, x1 = x[a + _2 * i], x[b + _2 * i]
        sums[i] += v00 * x0 + v01 * x1
        sums[_QUARTER + i] += v10 * x0 + v11 * x1
        sums[_2 * _QUARTER + i] += v20 * x0 + v21 * x1
        sums[_3 * _QUARTER + i] += v30 * x0 + v31 * x1


@_compile
def _one_by_four(x, a, advance, sums, n, v, t, pitch):
    _widest()
    v0, v1, v2, v3 = v[t], v[t + pitch], v[t + _2 * pitch], v[t + _3 * pitch]
    for i in range(n):
        x0 = x[a + advance * i]
        sums[i] += v0 * x0
        sums[_QUARTER + i] += v1 * x0
        sums[_2 * _QUARTER + i] += v2 * x0
        sums[_3 * _QUARTER + i] += v3 * x0


@_compile
def _line_of_four(x, s, advance, sums, n, offsets, values, row, t, stop):
    """sums[channel, i] = sum_t values[channel, t] x[s + offsets[t] + advance i]."""
    _widest()
    pitch = np.uint64(len(offsets))
    for i in range(_4 * _QUARTER):
        sums[i] = 0
    if advance == _1:
        while t + _4 <= stop:
            _four_by_four(
                x,
                s + offsets[t],
                s + offsets[t + _1],
                s + offsets[t + _2],
                s + offsets[t + _3],
                sums,
                n,
                values,
                row + t,
                pitch,
            )
            t += _4
    if advance == _2:
        while t + _2 <= stop:
            a, b = s + offsets[t], s + offsets[t + _1]
            _even_by_four(x, a, b, sums, n, values, row + t, pitch)
            t += _2
    while t < stop:
        _one_by_four(x, s + offsets[t], advance, sums, n, values, row + t, pitch)
        t += _1


@_compile
def _write_four(sums, n, y, at, plane, spacing, step, line, column, pitch, count):
    """Write what lies in columns 0..count-1 of its line, for four channels."""
    _widest()
    for channel in range(_4):
        done, row, place = _0, line, column
        while done < n:
            part = min(n - done, pitch - place)
            used = min(part, count - place) if place < count else _0
            to = at + channel * plane + row * spacing + step * place
            begin = channel * _QUARTER + done
            for i in range(used):
                y[to + step * i] = sums[begin + i]
            done += part
            place += part
            if place == pitch:
                row += _1
                place = _0


@_compile
def _run_of_four(x, start, pitch, y, at, plane, spacing, q, run, offsets, values, row, sums):
    """Compute a long run on q lines for four channels.

    Lines follow each other where that is possible; what falls between them is dropped.
    """
    _widest()
    count, advance, step, t, stop = run[0], run[2], run[4], run[5], run[6]
    joined = advance == _1 and count <= pitch and pitch <= _2 * count
    whole = (q - _1) * pitch + count if joined else count
    period = pitch if joined else count
    for first in range(_1 if joined else q):
        begin, to = start + run[1] + first * pitch, at + run[3] + first * spacing
        done = _0
        while done < whole:
            n = min(_QUARTER, whole - done)
            _line_of_four(
                x, begin + advance * done, advance, sums, n, offsets, values, row, t, stop
            )
            line, column = done // period, done % period
            _write_four(sums, n, y, to, plane, spacing, step, line, column, period, count)
            done += n


@_compile
def _columns(x, start, pitch, y, at, spacing, q, run, offsets, values, row):
    """Compute the few results of a run on q lines, result by result."""
    _widest()
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
def _block(x, start, y, at, plane, four, combo, q, runs, offsets, values, row, scratch):
    """Compute q neighbouring lines: the long runs first, then those at the edges.

    Where lines are as far apart in x as in y, a long run goes on from line to line;
    what it writes between them is written again.
    """
    _widest()
    pitch, spacing = combo[4], combo[5]
    for r in range(combo[12], combo[13]):
        run = runs[r]
        count, advance, step, t, stop = run[0], run[2], run[4], run[5], run[6]
        if count < _SHORT:
            continue
        if four:
            _run_of_four(
                x, start, pitch, y, at, plane, spacing, q, run, offsets, values, row, scratch
            )
            continue
        begin, to, times = start + run[1], at + run[3], q
        if combo[14] == _1:
            times, count = _1, (q - _1) * pitch + count
        for line in range(times):
            a, b = begin + line * pitch, to + line * spacing
            _run(x, a, advance, y, b, step, count, offsets, values, row, t, stop, scratch)
    for r in range(combo[12], combo[13]):
        if runs[r, 0] < _SHORT:
            for channel in range(_4 if four else _1):
                weights = row + channel * np.uint64(len(offsets))
                to = at + channel * plane
                _columns(x, start, pitch, y, to, spacing, q, runs[r], offsets, values, weights)


@_compile
def combo_at(combos, place, lines):
    """Return which combo a line belongs to, its first line and its last + 1."""
    which, many = _0, np.uint64(len(combos))
    while which + _1 < many and combos[which + _1, _0] <= place:
        which += _1
    end = combos[which + _1, _0] if which + _1 < many else lines
    return which, combos[which, _0], end


@_compile
def line_at(combo, line):
    """Return where a line of a combo reads and writes, and how many neighbours are left."""
    length, middle = combo[3], combo[6]
    inner, outer = line % length, line // length
    begin = (
        combo[1] + inner * combo[4] + outer % middle * combo[7] + outer // middle * combo[10]
    )
    to = combo[2] + inner * combo[5] + outer % middle * combo[8] + outer // middle * combo[11]
    return begin, to, length - inner


@_compile
def _lines(
    x, start, y, at, plane, four, combo, first, last, runs, offsets, values, row, scratch
):
    """Compute lines first..last-1 of one combo of one image, several at a time."""
    _widest()
    while first < last:
        begin, to, left = line_at(combo, first)
        q = min(combo[15], min(left, last - first))
        begin += start
        to += at
        _block(x, begin, y, to, plane, four, combo, q, runs, offsets, values, row, scratch)
        first += q


@_compile
def gather(x, y, combos, runs, offsets, values, sizes, first, last):
    """Compute lines first..last-1 of all batches and channels; see `boxes.Plan`.

    Where a group has four channels or a multiple, a line is one of four channels.
    x, y and values are flat: a view of a row would be counted by all threads at once.
    """
    _widest()
    lines, channels, group, plane_in, plane_out = sizes
    four = group % _4 == _0
    width = _4 if four else _1
    scratch = np.empty(_CHUNK, y.dtype)
    while first < last:
        image, place = first // lines, first % lines
        batch, channel = image // (channels // width), image % (channels // width) * width
        which, begin, end = combo_at(combos, place, lines)
        count = min(end - place, last - first)
        read = (batch * (channels // group) + channel // group) * plane_in
        write = (batch * channels + channel) * plane_out
        row = channel * np.uint64(len(offsets))
        _lines(
            x,
            read,
            y,
            write,
            plane_out,
            four,
            combos[which],
            place - begin,
            place - begin + count,
            runs,
            offsets,
            values,
            row,
            scratch,
        )
        first += count
