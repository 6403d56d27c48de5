"""Vectors of numbers in LLVM's words, for compiled loops; importing this imports Numba.

Numba cannot be told in Python what is to stay in which vector register.
"""

from __future__ import annotations

import contextlib
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

REAL = types.float32, types.float64
COMPLEX = types.complex64, types.complex128


def ask_for_widest(builder: Any) -> None:
    """Ask LLVM for vectors of 512 bits where the processor has them; it prefers 256.

    These loops do little but multiply and add, and are half as fast again.  Numba has no
    option for it, and llvmlite knows few attributes: without them, 256 bits will do.
    """
    with contextlib.suppress(AttributeError, TypeError):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')


def _widest(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ask_for_widest(builder)
        return context.get_dummy_value()

    return types.void(), generate


def pointers(context: Any, builder: Any, signature: Any, args: Any, count: int) -> list[Any]:
    """Return pointers to the numbers of the first arrays of some arguments."""
    return [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[:count], args[:count], strict=True)
    ]


class Vectors:
    """Writes instructions for vectors of `nbytes`, of real numbers of `size` bytes.

    Complex numbers are two `parts`, side by side.
    """

    def __init__(self, builder: Any, number: Any, nbytes: int, size: int) -> None:
        self.builder, self.size, self.number = builder, size, number
        self.lanes = nbytes // size
        self.vector, self.word = ir.VectorType(number, self.lanes), ir.IntType(64)

    def load(self, pointer: Any) -> Any:
        """Return the vector at a pointer to anything."""
        return self.builder.load(self._as_vector(pointer), align=self.size)

    def store(self, vector: Any, pointer: Any, *, past: bool = False) -> None:
        """Write a vector to a pointer to anything; `past` the caches, where vectors begin."""
        align = self.lanes * self.size if past else self.size
        written = self.builder.store(vector, self._as_vector(pointer), align=align)
        if past:
            one = ir.Constant(ir.IntType(32), 1)
            written.set_metadata("nontemporal", self.builder.module.add_metadata([one]))

    def weights(self, pointer: Any, parts: int) -> tuple[Any, ...]:
        """Return what samples are multiplied by, and what they are once `turned`.

        The pointer is that to a real number, or to both `parts` of a complex one.
        """
        b = self.builder
        flat = b.bitcast(pointer, self.number.as_pointer())
        places = [ir.Constant(self.word, part) for part in range(parts)]
        real, *imag = (self._spread(b.load(b.gep(flat, [place]))) for place in places)
        return real, *(b.fmul(each, self.constant(-1.0, 1.0)) for each in imag)

    def samples(self, pointer: Any, parts: int) -> tuple[Any, ...]:
        """Return the vector at a pointer, and for complex numbers the same `turned`."""
        vector = self.load(pointer)
        return (vector,) if parts == 1 else (vector, self._turned(vector))

    def plus(self, total: Any, weights: tuple[Any, ...], samples: tuple[Any, ...]) -> Any:
        """Return ``total + weight sample``, rounded once where the processor can."""
        b = self.builder
        for weight, sample in zip(weights, samples, strict=True):
            product = b.fmul(weight, sample, flags=["contract"])
            total = b.fadd(total, product, flags=["contract"])
        return total

    def _turned(self, samples: Any) -> Any:
        """Return samples with their real and imaginary parts exchanged."""
        places = [ir.Constant(ir.IntType(32), lane ^ 1) for lane in range(self.lanes)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), places)
        return self.builder.shuffle_vector(samples, samples, mask)

    def constant(self, *period: float) -> Any:
        """Return a vector of these numbers, over and over."""
        return ir.Constant(self.vector, list(period) * (self.lanes // len(period)))

    def new_block(self, name: str) -> Any:
        """Return a place in the function to write instructions to."""
        return self.builder.function.append_basic_block(name)

    def _spread(self, number: Any) -> Any:
        """Return a vector of one number, many times."""
        none, place = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        first = self.builder.insert_element(none, number, ir.Constant(place, 0))
        zeros = ir.Constant(ir.VectorType(place, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, none, zeros)

    def _as_vector(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, self.vector.as_pointer())


def _settled(typing: Any) -> Any:
    """Wait until what was written past the caches can be seen by all threads."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def ask_for(builder: Any, address: Any) -> None:
    """Have what lies at an address, which may be nothing, read into the second cache."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, second_cache, data = (ir.Constant(number, n) for n in (0, 2, 1))
    builder.call(function, [builder.inttoptr(address, byte), read, second_cache, data])


def _prefetched(typing: Any, address: Any) -> Any:
    """Ask for what lies at an address, which may be nothing, to be read soon."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ask_for(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.uint64), generate


widest: Any = intrinsic(_widest)
prefetch: Any = intrinsic(_prefetched)
settle: Any = intrinsic(_settled)
