"""Blocks of results that stay in vector registers, written for LLVM; imports Numba.

LLVM's own vector loops store a line after every eight taps.  Here a block of results is
added up by all taps before it is stored, which Numba cannot be told in Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from linconv.methods.direct.plans import AHEAD, SHARING, Vector
from linconv.methods.vectors import COMPLEX, REAL, Vectors, ask_for, ask_for_widest, pointers

# Bytes of a vector; where the processor's are shorter, LLVM cuts it up.
WIDE, NARROW = 64, 32
# Vectors of a block of one line: enough at a time to hide how long an addition takes.
_VECTORS = 6


def _block_size(typing: Any, y: Any) -> Any:
    """Return how many results of a line a block has; 0 for dtypes that have none."""
    lanes = WIDE * 8 // y.dtype.bitwidth if y.dtype in REAL else 0

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.uint64, _VECTORS * lanes)

    return types.uint64(y), generate


class Taps(NamedTuple):
    """What a block multiplies by, as LLVM's values: taps `first` to `stop` - 1.

    `shared`, if any, says of a tap how many from it on read vectors that are each one
    further than the last one's: at most `SHARING`.  Complex values have two `parts`.
    `ahead`, if any, is what to ask for meanwhile, as `boxes.ahead` lists it.
    """

    offsets: Any
    values: Any
    row: Any
    first: Any
    stop: Any
    shared: Any = None
    parts: int = 1
    ahead: Any = None


class _Block(Vectors):
    """Writes the instructions of a block: a loop over taps with its sums in registers."""

    def __init__(self, builder: Any, number: Any, nbytes: int, size: int, many: int) -> None:
        """A block of `many` vectors of `nbytes`, of numbers of `size` bytes."""
        super().__init__(builder, number, nbytes, size)
        self.many = many

    def add(
        self, x: Any, y: Any, steps: tuple[Any, Any], taps: Taps, past: Any = None
    ) -> list[Any]:
        """Write y[v] = sum_t values[row + t] x[offsets[t] + v] for the vectors v; return them.

        `x` and `y` point to the first, `steps` are how far they are apart.  For complex
        values the vectors hold real and imaginary parts in turn.  `past` may be a flag:
        whether to write past the caches.
        """
        b, before = self.builder, self.builder.block
        head, begin, end = (self.new_block(name) for name in ("tap", "begin", "store"))
        b.branch(head)
        b.position_at_end(head)
        tap = b.phi(self.word)
        tap.add_incoming(taps.first, before)
        sums = [b.phi(self.vector) for _ in range(self.many)]
        for total in sums:
            total.add_incoming(self.constant(0.0), before)
        b.cbranch(b.icmp_unsigned("<", tap, taps.stop), begin, end)
        b.position_at_end(begin)
        if taps.ahead is not None:
            begin = self._ask(taps.ahead)
        values = b.gep(taps.values, [b.add(taps.row, tap)])
        values = b.bitcast(values, self.number.as_pointer())
        read = b.gep(x, [b.load(b.gep(taps.offsets, [tap]))])
        counts = {1: begin}
        if taps.shared is not None:
            counts = {n: self.new_block(f"add{n}") for n in range(1, SHARING + 1)}
            choice = b.switch(b.load(b.gep(taps.shared, [tap])), counts[1])
            for n, block in counts.items():
                choice.add_case(ir.Constant(self.word, n), block)
        for n, block in counts.items():
            b.position_at_end(block)
            found = self._summed(
                sums, read, steps[0], self._all_weights(values, n, taps.parts)
            )
            for phi, total in zip(sums, found, strict=True):
                phi.add_incoming(total, block)
            tap.add_incoming(b.add(tap, ir.Constant(self.word, n)), block)
            b.branch(head)
        b.position_at_end(end)
        if past is None:
            self._write(sums, y, steps[1], past=False)
            return sums
        with b.if_else(past) as cases:
            for case, each in zip(cases, (True, False), strict=True):
                with case:
                    self._write(sums, y, steps[1], past=each)
        return sums

    def add_squares(self, sums: list[Any], squares: Any, counted: Any) -> None:
        """Add squares of sums to the vector at `squares`, but of the first `counted` sums."""
        b, whole = self.builder, ir.Constant(self.word, 0)
        with b.if_else(b.icmp_unsigned("==", counted, whole)) as (all_of_them, some):
            with all_of_them:
                self._add_squares(sums, squares)
            with some, b.if_then(b.icmp_unsigned("<", counted, self.word(self.many))):
                new = (b.icmp_unsigned("<=", counted, self.word(v)) for v in range(self.many))
                pairs = zip(new, sums, strict=True)
                self._add_squares([b.select(*p, self.constant(0.0)) for p in pairs], squares)

    def _add_squares(self, sums: list[Any], squares: Any) -> None:
        """Add all squares, in two sums: one would wait for each addition."""
        halves = [self.load(squares), self.constant(0.0)]
        for v, each in enumerate(sums):
            halves[v % 2] = self.plus(halves[v % 2], (each,), (each,))
        self.store(self.builder.fadd(*halves), squares)

    def _ask(self, ahead: Any) -> Any:
        """Ask for the next lines of `ahead`, if any are left; return where to go on."""
        b, word = self.builder, functools.partial(ir.Constant, self.word)
        done, stop, count = (b.load(b.gep(ahead, [word(i)])) for i in range(3))
        with b.if_then(b.icmp_unsigned("<", done, stop)):
            b.store(b.add(done, word(1)), ahead)
            start = b.load(b.gep(ahead, [b.add(b.urem(done, count), word(3))]))
            start = b.add(start, b.mul(b.udiv(done, count), word(AHEAD)))
            for place in range(0, AHEAD, WIDE):
                ask_for(b, b.add(start, word(place)))
        return b.block

    def _write(self, sums: list[Any], y: Any, step: Any, *, past: bool) -> None:
        for total in sums:
            self.store(total, y, past=past)
            y = self.builder.gep(y, [step])

    def _summed(
        self, sums: list[Any], read: Any, step: Any, weights: list[tuple[Any, ...]]
    ) -> list[Any]:
        """Return the sums with some taps more, for which each vector is loaded once."""
        b, sums = self.builder, list(sums)
        for place in range(self.many + len(weights) - 1):
            samples = self.samples(read, len(weights[0]))
            for i, each in enumerate(weights):
                if 0 <= place - i < self.many:
                    sums[place - i] = self.plus(sums[place - i], each, samples)
            read = b.gep(read, [step])
        return sums

    def _all_weights(self, values: Any, count: int, parts: int) -> list[tuple[Any, ...]]:
        """Return the weights of some taps, of which `values` points to the first's."""
        places = [ir.Constant(self.word, parts * i) for i in range(count)]
        return [self.weights(self.builder.gep(values, [place]), parts) for place in places]


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
        if y.dtype in REAL:
            ask_for_widest(builder)
            source, target, *tables = pointers(context, builder, signature, args, 4)
            number, size = context.get_data_type(y.dtype), y.dtype.bitwidth // 8
            block = _Block(builder, number, WIDE, size, _VECTORS)
            step = ir.Constant(block.word, block.lanes)
            begin, to = builder.gep(source, [args[4]]), builder.gep(target, [args[5]])
            block.add(begin, to, (step, step), Taps(*tables, *args[6:]))
        return context.get_dummy_value()

    return types.void(x, y, offsets, values, s, at, row, t, stop), generate


def _write_kind(
    builder: Any,
    make: Callable[[int], _Block],
    kind: Any,
    places: tuple[Any, Any],
    steps: tuple[Any, Any],
    taps: Taps,
    squares: tuple[Any, Any],
) -> None:
    """Write a block of vectors of a `boxes.Vector` kind; `make` returns one of its width."""
    narrow, past = (
        builder.icmp_unsigned("==", kind, ir.Constant(ir.IntType(64), each))
        for each in (Vector.NARROW, Vector.PAST)
    )
    with builder.if_else(narrow) as cases:
        for case, nbytes, flag in zip(cases, (NARROW, WIDE), (None, past), strict=True):
            with case:
                block = make(nbytes)
                block.add_squares(block.add(*places, steps, taps, flag), *squares)


def _vectors_adder(many: int) -> Any:
    """Return an intrinsic that adds up `many` vectors that may lie apart."""

    def add(
        typing: Any, x: Any, y: Any, offsets: Any, values: Any, shared: Any, s: Any, at: Any,
        advance: Any, step: Any, row: Any, t: Any, stop: Any, kind: Any, squares: Any,
        ahead: Any, c: Any, counted: Any,
    ) -> Any:  # fmt: skip
        """y[at + v step] = sum_t values[row + t] x[s + offsets[t] + v advance].

        x and y are real; for complex values they hold both parts in turn.  Vectors are of
        a `boxes.Vector` kind.  Squares of all but the first `counted` results are added to
        squares[c].  `ahead` is what to ask for meanwhile.
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            ask_for_widest(builder)
            source, target, *tables = pointers(context, builder, signature, args, 5)
            totals, soon = (
                context.make_array(each)(context, builder, args[i]).data
                for i, each in ((13, squares), (14, ahead))
            )
            number, size = context.get_data_type(y.dtype), y.dtype.bitwidth // 8
            places = builder.gep(source, [args[5]]), builder.gep(target, [args[6]])
            parts = 2 if values.dtype in COMPLEX else 1
            taps = Taps(*tables[:2], *args[9:12], shared=tables[2], parts=parts, ahead=soon)

            def make(nbytes: int) -> _Block:
                return _Block(builder, number, nbytes, size, many)

            found = builder.gep(totals, [args[15]]), args[16]
            _write_kind(builder, make, args[12], places, (args[7], args[8]), taps, found)
            return context.get_dummy_value()

        arrays, numbers = (x, y, offsets, values, shared), (s, at, advance, step, row, t, stop)
        return types.void(*arrays, *numbers, kind, squares, ahead, c, counted), generate

    return intrinsic(add)


block_size: Any = intrinsic(_block_size)
add_block: Any = intrinsic(_add_block)
add12, add4, add1 = (_vectors_adder(many) for many in (12, 4, 1))
