"""Inner products of vectors, several thousand times finer than double precision rounds.

Each vector is split into a high part, of so few bits that BLAS adds its products without
any rounding, and a rest that is too small for its own rounding to matter: Ozaki, Ogita,
Oishi and Rump, "Error-free transformations of matrix multiplication by using fast
routines of matrix multiplication", Numerical Algorithms 59 (2012).  No long doubles are
needed, which some machines lack and which are slow on the others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

# Samples that are looked at together: a few vectors of them stay in the cache.
_BLOCK = 1 << 12
# Samples by which a vector is taken for one of mostly zeros, or not.
_SAMPLE = 1 << 8
# Below it a sum of squares may have lost something to underflow.
_SMALLEST = 1e-200
# Bits of a double's mantissa.
_BITS = 53


class Rows:
    """Vectors of one length, divided by `scale`, a power of two.

    Attributes
    ----------
    energy : ndarray, (k,)
        ``|x|^2`` of each.
    """

    def __init__(self, vectors: Sequence[np.ndarray], scale: float = 1.0) -> None:
        self.vectors, self.scale = vectors, scale
        self.n = len(vectors[0])
        dtype = np.result_type(*vectors)
        self.parts = 2 if dtype.kind == "c" else 1
        self.dtype = np.result_type(np.finfo(dtype).dtype, np.float64)
        # Doubles add up products of single precision precisely enough.
        self.fine = bool(np.finfo(dtype).nmant > np.finfo(np.float32).nmant)
        self.energy = np.array([self._energy(x) for x in vectors])

    def _energy(self, x: np.ndarray) -> float:
        if self.scale != 1:
            x = x.astype(np.result_type(x, np.float64), copy=False) / self.scale
        elif x.dtype.char == "e":  # half precision overflows
            x = x.astype(np.float32)
        return float(np.vdot(x, x).real)

    def block(self, start: int) -> np.ndarray:
        """Return some samples: (k, samples), or (2 k, samples) for complex vectors."""
        rows = [x[start : start + _BLOCK] for x in self.vectors]
        if self.parts > 1:
            rows = [np.real(x) for x in rows] + [np.imag(x) for x in rows]
        whole = np.array(rows, self.dtype)
        if self.scale != 1:
            whole /= self.scale
        return whole

    def split(self, block: np.ndarray) -> np.ndarray:
        """Return the high parts of a block's rows, and below them the low ones."""
        k = len(block)
        both = np.empty((2 * k, block.shape[1]))
        high = np.add(block, self.shift, out=both[:k])
        high -= self.shift
        np.subtract(block, high, out=both[k:])
        return both

    @functools.cached_property
    def support(self) -> np.ndarray | None:
        """Where any vector is not zero, unless that is in most places."""
        some = [x[:: -(-self.n // _SAMPLE)] for x in self.vectors]
        if any(np.count_nonzero(x) > len(x) // 2 for x in some):
            return None
        places = np.flatnonzero(functools.reduce(np.logical_or, self.vectors))
        return places if len(places) < self.n // 4 else None

    def at(self, places: np.ndarray) -> Rows:
        """Return the vectors of these samples only."""
        return Rows([x[places] for x in self.vectors], self.scale)

    @functools.cached_property
    def shift(self) -> np.ndarray:
        """What rounds a block to its high part when it is added and subtracted."""
        bits = (_BITS - self.n.bit_length()) // 2
        # A norm is no smaller than any sample, and known: a few bits less in the high part.
        peaks = np.where(self.energy > _SMALLEST, np.sqrt(self.energy), 1.0)
        exponent = np.frexp(peaks)[1] + (_BITS - 1 - bits)
        return np.tile(np.ldexp(1.5, exponent), self.parts)[:, None]


def gram(Y: Rows, X: Rows) -> np.ndarray:
    """Return conj(Y) X^T, (k, l); in long double where doubles would be too coarse."""
    return products(Y, X)[0]


def products(Y: Rows, X: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return conj(Y) X^T and sum |y_i|^2 |x_i|^2, both (k, l)."""
    places = X.support if Y.support is None else Y.support
    if places is not None:  # most probes at corners and faces are zeros
        Y, X = Y.at(places), X.at(places)
    kind = np.result_type(Y.dtype, X.dtype)
    split = kind == np.float64 and (Y.fine or X.fine)
    shape = len(Y.vectors) * Y.parts, len(X.vectors) * X.parts
    k, m = shape
    total = np.zeros((2 * k, 2 * m) if split else shape, kind)
    powers = np.zeros((len(Y.vectors), len(X.vectors)))
    for start in range(0, Y.n, _BLOCK):
        y, x = Y.block(start), X.block(start)
        powers += _power(y, Y.parts) @ _power(x, X.parts).T
        if split:
            y, x = Y.split(y), X.split(x)
        total += y @ x.T
    if split:  # the products of high parts are exact, all others too small to matter
        high, rest = total[:k, :m], total[:k, m:] + total[k:, :m] + total[k:, m:]
        total = high.astype(np.longdouble) + rest
    return _combined(total, Y, X), powers


def _power(block: np.ndarray, parts: int) -> np.ndarray:
    squares = np.square(block, dtype=np.float64)
    k = len(block) // parts
    return squares if parts == 1 else squares[:k] + squares[k:]


def _combined(total: np.ndarray, Y: Rows, X: Rows) -> np.ndarray:
    """Return the inner products from those of real and imaginary parts."""
    total = total.reshape(Y.parts, len(Y.vectors), X.parts, len(X.vectors))
    real, imag = total[0, :, 0], np.zeros_like(total[0, :, 0])
    if Y.parts == X.parts == 1:
        return real
    if X.parts > 1:
        imag = imag + total[0, :, 1]
    if Y.parts > 1:
        imag = imag - total[1, :, 0]
    if Y.parts == X.parts:
        real = real + total[1, :, 1]
    return real + 1j * imag
