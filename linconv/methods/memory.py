"""Memory of large vectors: on cache lines, and used again; imports nothing of linconv.

What is freed goes back to the system, which clears new memory page by page: for large
vectors that takes as long as half a product.  So who computes again and again keeps what
its results leave, and what makes results asks here first.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

# Bytes of a cache line.  A vector that does not begin on one is read two lines at a time,
# and some places in a page make loops over three of them take 2.5 times as long.
_LINE = 64
# Bytes that are worth keeping: the C library keeps smaller pieces itself.
_LARGE = 1 << 20


class Spare:
    """Memory of arrays that were made here while this was in use, and that are no more."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let new arrays take what is free."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def take(self, nbytes: int) -> np.ndarray:
        """Return bytes that come back when the last array that refers to them is no more."""
        fitting = [i for i, memory in enumerate(self._free) if memory.size == nbytes]
        memory = self._free.pop(fitting[-1]) if fitting else np.empty(nbytes, np.uint8)
        lent = _Lent()
        lent.__array_interface__ = memory.__array_interface__
        weakref.finalize(lent, _give_back, weakref.ref(self), memory).atexit = False
        return np.asarray(lent)


class _Lent:
    """What arrays in lent memory refer to."""

    __array_interface__: dict[str, Any]


def _give_back(spare: weakref.ref[Spare], memory: np.ndarray) -> None:
    owner = spare()
    if owner is not None:
        owner._free.append(memory)


_current: ContextVar[Spare | None] = ContextVar("linconv_spare", default=None)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array that may hold anything.

    It begins on a cache line if it is large or memory is used again.
    """
    if _current.get() is None and math.prod(shape) * np.dtype(dtype).itemsize < _LARGE:
        return np.empty(shape, dtype)
    return aligned(shape, dtype)


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array that begins on a cache line and may hold anything.

    Large ones are in spare memory where some is in use.
    """
    size, spare = math.prod(shape) * np.dtype(dtype).itemsize, _current.get()
    nbytes = size + _LINE
    memory = spare.take(nbytes) if spare and nbytes >= _LARGE else np.empty(nbytes, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)
