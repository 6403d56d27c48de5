"""Blocks of results that stay in vector registers, written for LLVM; imports Numba.

LLVM's own vector loops store a line after every eight taps.  Here a block of results is
added up by all taps before it is stored, which Numba cannot be told in Python.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from linconv.methods.boxes import SHARING

# Bytes of a vector; where the processor's are shorter, LLVM cuts it up.
WIDE, NARROW = 64, 32
# Vectors of a block of one line: enough at a time to hide how long an addition takes.
_VECTORS = 6
_REAL = types.float32, types.float64
_COMPLEX = types.complex64, types.complex128


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
    """Return how many results of a line a block has; 0 for dtypes that have none."""
    lanes = WIDE * 8 // y.dtype.bitwidth if y.dtype in _REAL else 0

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.uint64, _VECTORS * lanes)

    return types.uint64(y), generate


class Taps(NamedTuple):
    """What a block multiplies by, as LLVM's values: taps `first` to `stop` - 1.

    `shared`, if any, says of a tap how many from it on read vectors that are each one
    further than the last one's: at most `SHARING`.  Complex values have two `parts`.
    """

    offsets: Any
    values: Any
    row: Any
    first: Any
    stop: Any
    shared: Any = None
    parts: int = 1


class _Block:
    """Writes the instructions of a block: a loop over taps with its sums in registers."""

    def __init__(self, builder: Any, number: Any, nbytes: int, size: int, many: int) -> None:
        """A block of `many` vectors of `nbytes`, of numbers of `size` bytes."""
        self.builder, self.size, self.many = builder, size, many
        self.lanes = nbytes // size
        self.number, self.vector = number, ir.VectorType(number, self.lanes)
        self.word = ir.IntType(64)

    def add(self, x: Any, y: Any, steps: tuple[Any, Any], taps: Taps) -> None:
        """Write y[v] = sum_t values[row + t] x[offsets[t] + v] for the vectors v.

        `x` and `y` point to the first, `steps` are how far they are apart.  For complex
        values the vectors hold real and imaginary parts in turn.
        """
        b, before = self.builder, self.builder.block
        head, begin, end = (self._new_block(name) for name in ("tap", "begin", "store"))
        b.branch(head)
        b.position_at_end(head)
        tap = b.phi(self.word)
        tap.add_incoming(taps.first, before)
        sums = [b.phi(self.vector) for _ in range(self.many)]
        for total in sums:
            total.add_incoming(self._constant([0.0]), before)
        b.cbranch(b.icmp_unsigned("<", tap, taps.stop), begin, end)
        b.position_at_end(begin)
        values = b.gep(taps.values, [b.add(taps.row, tap)])
        values = b.bitcast(values, self.number.as_pointer())
        read = b.gep(x, [b.load(b.gep(taps.offsets, [tap]))])
        counts = {1: begin}
        if taps.shared is not None:
            counts = {n: self._new_block(f"add{n}") for n in range(1, SHARING + 1)}
            choice = b.switch(b.load(b.gep(taps.shared, [tap])), counts[1])
            for n, block in counts.items():
                choice.add_case(ir.Constant(self.word, n), block)
        for n, block in counts.items():
            b.position_at_end(block)
            weights = [self._weights(values, i, taps.parts) for i in range(n)]
            found = self._summed(sums, read, steps[0], weights)
            for phi, total in zip(sums, found, strict=True):
                phi.add_incoming(total, block)
            tap.add_incoming(b.add(tap, ir.Constant(self.word, n)), block)
            b.branch(head)
        b.position_at_end(end)
        for total in sums:
            b.store(total, self._as_vector(y), align=self.size)
            y = b.gep(y, [steps[1]])

    def _summed(
        self, sums: list[Any], read: Any, step: Any, weights: list[tuple[Any, ...]]
    ) -> list[Any]:
        """Return the sums with some taps more, for which each vector is loaded once."""
        b, sums = self.builder, list(sums)
        for place in range(self.many + len(weights) - 1):
            parts = [b.load(self._as_vector(read), align=self.size)]
            if len(weights[0]) > 1:
                parts.append(self._turned(parts[0]))
            for i, each in enumerate(weights):
                if not 0 <= place - i < self.many:
                    continue
                for weight, part in zip(each, parts, strict=True):
                    product = b.fmul(weight, part, flags=["contract"])
                    sums[place - i] = b.fadd(sums[place - i], product, flags=["contract"])
            read = b.gep(read, [step])
        return sums

    def _weights(self, values: Any, i: int, parts: int) -> tuple[Any, ...]:
        """Return what samples are multiplied by for tap i, and what they are once turned."""
        b = self.builder
        places = [ir.Constant(self.word, parts * i + part) for part in range(parts)]
        real, *imag = (self._spread(b.load(b.gep(values, [place]))) for place in places)
        return real, *(b.fmul(each, self._constant([-1.0, 1.0])) for each in imag)

    def _turned(self, samples: Any) -> Any:
        """Return samples with their real and imaginary parts exchanged."""
        places = [ir.Constant(ir.IntType(32), lane ^ 1) for lane in range(self.lanes)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), places)
        return self.builder.shuffle_vector(samples, samples, mask)

    def _constant(self, period: list[float]) -> Any:
        return ir.Constant(self.vector, period * (self.lanes // len(period)))

    def _new_block(self, name: str) -> Any:
        return self.builder.function.append_basic_block(name)

    def _spread(self, number: Any) -> Any:
        """Return a vector of one number, many times."""
        none, place = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        first = self.builder.insert_element(none, number, ir.Constant(place, 0))
        zeros = ir.Constant(ir.VectorType(place, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, none, zeros)

    def _as_vector(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, self.vector.as_pointer())


def _pointers(context: Any, builder: Any, signature: Any, args: Any, count: int) -> list[Any]:
    """Return pointers to the numbers of the first arrays of some arguments."""
    return [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[:count], args[:count], strict=True)
    ]


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
            source, target, *tables = _pointers(context, builder, signature, args, 4)
            number, size = context.get_data_type(y.dtype), y.dtype.bitwidth // 8
            block = _Block(builder, number, WIDE, size, _VECTORS)
            step = ir.Constant(block.word, block.lanes)
            begin, to = builder.gep(source, [args[4]]), builder.gep(target, [args[5]])
            block.add(begin, to, (step, step), Taps(*tables, *args[6:]))
        return context.get_dummy_value()

    return types.void(x, y, offsets, values, s, at, row, t, stop), generate


def _vectors_adder(many: int) -> Any:
    """Return an intrinsic that adds up `many` vectors that may lie apart."""

    def add(
        typing: Any,
        x: Any,
        y: Any,
        offsets: Any,
        values: Any,
        shared: Any,
        s: Any,
        at: Any,
        advance: Any,
        step: Any,
        row: Any,
        t: Any,
        stop: Any,
        wide: Any,
    ) -> Any:
        """y[at + v step] = sum_t values[row + t] x[s + offsets[t] + v advance].

        x and y are real; for complex values they hold both parts in turn.  Vectors are
        wide, or half as wide.
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _ask_for_widest(builder)
            source, target, *tables = _pointers(context, builder, signature, args, 5)
            number, size = context.get_data_type(y.dtype), y.dtype.bitwidth // 8
            begin, to = builder.gep(source, [args[5]]), builder.gep(target, [args[6]])
            parts = 2 if values.dtype in _COMPLEX else 1
            taps = Taps(*tables[:2], *args[9:12], shared=tables[2], parts=parts)
            with builder.if_else(args[12]) as cases:
                for case, nbytes in zip(cases, (WIDE, NARROW), strict=True):
                    with case:
                        block = _Block(builder, number, nbytes, size, many)
                        block.add(begin, to, (args[7], args[8]), taps)
            return context.get_dummy_value()

        arrays, numbers = (x, y, offsets, values, shared), (s, at, advance, step, row, t, stop)
        return types.void(*arrays, *numbers, wide), generate

    return intrinsic(add)


widest: Any = intrinsic(_widest)
block_size: Any = intrinsic(_block_size)
add_block: Any = intrinsic(_add_block)
add12, add4, add1 = (_vectors_adder(many) for many in (12, 4, 1))
