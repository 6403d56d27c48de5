"""Compiled products of CSR arrays with many columns; importing this imports Numba.

SciPy's take four to six times as long for eight columns as for one, and two to four times
as long as these.  Arrays are flat, `b` columns side by side, and all places unsigned,
because Numba looks at signed ones twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from linconv.methods.compiling import compiled
from linconv.methods.vectors import COMPLEX, Vectors, ask_for_widest, pointers

_0, _1 = np.uint64(0), np.uint64(1)
# Real numbers of a vector: one of 512 bits for float64, half as much for float32.
_LANES = 8


def _written_for(dtype: Any, context: Any, builder: Any) -> tuple[Vectors, int]:
    """Return what writes vectors of numbers of this dtype, and how many parts those have."""
    ask_for_widest(builder)
    real = dtype.underlying_float if dtype in COMPLEX else dtype
    size = real.bitwidth // 8
    vectors = Vectors(builder, context.get_data_type(real), _LANES * size, size)
    return vectors, 2 if dtype in COMPLEX else 1


def _vector_columns(typing: Any, x: Any) -> Any:
    """Return how many columns a vector has."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.uint64, _LANES // (1 + (x.dtype in COMPLEX)))

    return types.uint64(x), generate


def _added_up(typing: Any, indices: Any, data: Any, x: Any, y: Any, start: Any, stop: Any,
            b: Any, c: Any, at: Any) -> Any:  # fmt: skip
    """y[at + i] = sum_k data[k] x[indices[k] b + c + i] for the i of a vector.

    The sum stays in a register.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, parts = _written_for(x.dtype, context, builder)
        index, weight, read, write = pointers(context, builder, signature, args, 4)
        first, last, width, column, to = args[4:]
        before = builder.block
        head, body, end = (vectors.new_block(name) for name in ("entry", "add", "store"))
        builder.branch(head)
        builder.position_at_end(head)
        k, total = builder.phi(vectors.word), builder.phi(vectors.vector)
        k.add_incoming(first, before)
        total.add_incoming(vectors.constant(0.0), before)
        builder.cbranch(builder.icmp_unsigned("<", k, last), body, end)
        builder.position_at_end(body)
        row = builder.load(builder.gep(index, [k]))
        if row.type != vectors.word:
            row = builder.zext(row, vectors.word)
        place = builder.add(builder.mul(row, width), column)
        samples = vectors.samples(builder.gep(read, [place]), parts)
        weights = vectors.weights(builder.gep(weight, [k]), parts)
        total.add_incoming(vectors.plus(total, weights, samples), body)
        k.add_incoming(builder.add(k, ir.Constant(vectors.word, 1)), body)
        builder.branch(head)
        builder.position_at_end(end)
        vectors.store(total, builder.gep(write, [to]))
        return context.get_dummy_value()

    return types.void(indices, data, x, y, start, stop, b, c, at), generate


def _added_to(typing: Any, data: Any, k: Any, x: Any, at: Any, y: Any, to: Any) -> Any:
    """y[to + i] += data[k] x[at + i] for the i of a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, parts = _written_for(x.dtype, context, builder)
        kinds = signature.args[0], signature.args[2], signature.args[4]
        weight, read, write = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(kinds, args[::2], strict=True)
        )
        place = builder.gep(write, [args[5]])
        samples = vectors.samples(builder.gep(read, [args[3]]), parts)
        weights = vectors.weights(builder.gep(weight, [args[1]]), parts)
        vectors.store(vectors.plus(vectors.load(place), weights, samples), place)
        return context.get_dummy_value()

    return types.void(data, k, x, at, y, to), generate


_columns_of: Any = intrinsic(_vector_columns)
_add_up: Any = intrinsic(_added_up)
_add_to: Any = intrinsic(_added_to)


@compiled
def rows_product(indptr, indices, data, x, y, b, first, last):
    """Write rows first..last-1 of M x into y: (n b,) -> (m b,)."""
    width = _columns_of(x)
    for i in range(first, last):
        start, stop = np.uint64(indptr[i]), np.uint64(indptr[i + _1])
        c = _0
        while c < b and width <= b:
            c = min(c, b - width)  # the last vector does some columns again
            _add_up(indices, data, x, y, start, stop, b, c, i * b + c)
            c += width
        while c < b:
            s = data.dtype.type(0)
            for k in range(start, stop):
                s += data[k] * x[np.uint64(indices[k]) * b + c]
            y[i * b + c] = s
            c += _1


@compiled
def add_transposed(indptr, indices, data, x, y, b, first, last):
    """Add M^T x to y, of rows first..last-1 of M alone: (m b,) -> (n b,)."""
    width = _columns_of(x)
    for i in range(first, last):
        start, stop = np.uint64(indptr[i]), np.uint64(indptr[i + _1])
        c = _0
        while c + width <= b:
            for k in range(start, stop):
                _add_to(data, k, x, i * b + c, y, np.uint64(indices[k]) * b + c)
            c += width
        while c < b:
            s = x[i * b + c]
            for k in range(start, stop):
                y[np.uint64(indices[k]) * b + c] += data[k] * s
            c += _1
