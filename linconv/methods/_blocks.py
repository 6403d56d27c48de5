"""Blocks of results that stay in vector registers, written for LLVM; imports Numba.

LLVM's own vector loops store a line after every eight taps.  Here a block of results is
added up by all taps before it is stored, which Numba cannot be told in Python.  It pays
most for many columns; for one image it was seen to gain nothing to a third.
"""

from __future__ import annotations

import contextlib
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Vectors of a block: enough additions at a time to hide how long each takes.
_VECTORS = 6
# Bytes of a vector; where the processor's are shorter, LLVM cuts it up.
_BYTES = 64
_REAL = types.float32, types.float64


def _ask_for_widest(builder: Any) -> None:
    """Ask LLVM for vectors of 512 bits where the processor has them; it prefers 256.

    These loops do little but multiply and add, and are half as fast again.  Numba has no
    option for it, and llvmlite knows few attributes: without them, 256 bits will do.
    """
    with contextlib.suppress(AttributeError, TypeError):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')


def _widest(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _ask_for_widest(builder)
        return context.get_dummy_value()

    return types.void(), generate


def _block_size(typing: Any, y: Any) -> Any:
    """Return how many results a block has; 0 for dtypes that have none."""
    lanes = _BYTES * 8 // y.dtype.bitwidth if y.dtype in _REAL else 0

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.uint64, _VECTORS * lanes)

    return types.uint64(y), generate


def _add_block(
    typing: Any,
    x: Any,
    y: Any,
    offsets: Any,
    values: Any,
    s: Any,
    at: Any,
    row: Any,
    t: Any,
    stop: Any,
) -> Any:
    """y[at + i] = sum_t values[row + t] x[s + offsets[t] + i] for the i of a block."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if y.dtype in _REAL:
            _ask_for_widest(builder)
            pointers = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:4], args[:4], strict=True)
            ]
            block = _Block(builder, context.get_data_type(y.dtype), y.dtype.bitwidth // 8)
            block.add(*pointers, *args[4:])
        return context.get_dummy_value()

    return types.void(x, y, offsets, values, s, at, row, t, stop), generate


class _Block:
    """Writes the instructions of a block: a loop over taps with its sums in registers."""

    def __init__(self, builder: Any, number: Any, nbytes: int) -> None:
        self.builder, self.nbytes = builder, nbytes
        self.lanes = _BYTES // nbytes
        self.vector = ir.VectorType(number, self.lanes)
        self.word = ir.IntType(64)

    def add(
        self,
        x: Any,
        y: Any,
        offsets: Any,
        values: Any,
        s: Any,
        at: Any,
        row: Any,
        t: Any,
        stop: Any,
    ) -> None:
        """Write the loop; all but `t` and `stop`, the taps, as in `_add_block`."""
        b = self.builder
        before = b.block
        head, body, end = (b.function.append_basic_block(n) for n in ("tap", "add", "store"))
        b.branch(head)
        b.position_at_end(head)
        tap = b.phi(self.word)
        tap.add_incoming(t, before)
        sums = [b.phi(self.vector) for _ in range(_VECTORS)]
        for total in sums:
            total.add_incoming(ir.Constant(self.vector, [0.0] * self.lanes), before)
        b.cbranch(b.icmp_unsigned("<", tap, stop), body, end)
        b.position_at_end(body)
        weight = self._spread(b.load(b.gep(values, [b.add(row, tap)])))
        read = b.gep(x, [b.add(s, b.load(b.gep(offsets, [tap])))])
        for i, total in enumerate(sums):
            samples = b.load(self._at(read, i), align=self.nbytes)
            product = b.fmul(weight, samples, flags=["contract"])
            total.add_incoming(b.fadd(total, product, flags=["contract"]), body)
        tap.add_incoming(b.add(tap, ir.Constant(self.word, 1)), body)
        b.branch(head)
        b.position_at_end(end)
        for i, total in enumerate(sums):
            b.store(total, self._at(b.gep(y, [at]), i), align=self.nbytes)

    def _spread(self, number: Any) -> Any:
        """Return a vector of one number, many times."""
        none, place = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        first = self.builder.insert_element(none, number, ir.Constant(place, 0))
        zeros = ir.Constant(ir.VectorType(place, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, none, zeros)

    def _at(self, pointer: Any, i: int) -> Any:
        """Return where the i-th vector after `pointer` lies."""
        place = self.builder.gep(pointer, [ir.Constant(self.word, i * self.lanes)])
        return self.builder.bitcast(place, self.vector.as_pointer())


widest: Any = intrinsic(_widest)
block_size: Any = intrinsic(_block_size)
add_block: Any = intrinsic(_add_block)
