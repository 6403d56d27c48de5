"""Compiled steps of vectors in columns; importing this imports Numba.

All arrays are flat and real; `first` and `last` begin and end a part of a line, and parts
begin where periods do.  `weights` and `sums` hold whole periods, one number per column.
"""

from __future__ import annotations

from linconv.methods.compiling import compiled


@compiled
def add_products(x, y, sums, first, last):
    """sums[i] += x[first + i] y[first + i], over and over.

    Two halves at a time: a core reads two streams from memory faster than one.
    """
    length = len(sums)
    half = (last - first) // (2 * length) * length
    middle = first + half
    for done in range(0, half, length):
        p, q = first + done, middle + done
        a, b, c, d = x[p : p + length], y[p : p + length], x[q : q + length], y[q : q + length]
        for i in range(length):
            sums[i] += a[i] * b[i] + c[i] * d[i]
    first += 2 * half
    while first < last:
        n = min(length, last - first)
        a, b = x[first : first + n], y[first : first + n]
        for i in range(n):
            sums[i] += a[i] * b[i]
        first += n


@compiled
def add_weighted(y, x, weights, first, last):
    """y[first + i] += weights[i] x[first + i], over and over."""
    length = len(weights)
    while first < last:
        n = min(length, last - first)
        a, b = y[first : first + n], x[first : first + n]
        for i in range(n):
            a[i] += weights[i] * b[i]
        first += n


@compiled
def weigh_and_add(p, z, weights, sums, first, last):
    """p[first + i] = weights[i] p[first + i] + z[first + i], over and over; sums += p^2."""
    length = len(weights)
    while first < last:
        n = min(length, last - first)
        a, b = p[first : first + n], z[first : first + n]
        for i in range(n):
            a[i] = weights[i] * a[i] + b[i]
            sums[i] += a[i] * a[i]
        first += n


@compiled
def advance(x, p, s, weights, shifts, sums, first, last):
    """Add weights p to x, then -shifts x to s, and s^2 to sums; all as above."""
    length = len(weights)
    while first < last:
        n = min(length, last - first)
        a, b, c = x[first : first + n], p[first : first + n], s[first : first + n]
        for i in range(n):
            a[i] += weights[i] * b[i]
            c[i] -= shifts[i] * a[i]
            sums[i] += c[i] * c[i]
        first += n


@compiled
def move(x, p, z, weights, factors, sums, first, last):
    """Add weights p to x, replace p by factors p + z and add p^2 to sums; all as above."""
    length = len(weights)
    while first < last:
        n = min(length, last - first)
        a, b, c = x[first : first + n], p[first : first + n], z[first : first + n]
        for i in range(n):
            a[i] += weights[i] * b[i]
            b[i] = factors[i] * b[i] + c[i]
            sums[i] += b[i] * b[i]
        first += n
