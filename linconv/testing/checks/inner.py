"""Inner products of vectors, several thousand times finer than double precision rounds.

Each vector is split into a high part, of so few bits that BLAS adds its products without
any rounding, and a rest that is too small for its own rounding to matter: Ozaki, Ogita,
Oishi and Rump, "Error-free transformations of matrix multiplication by using fast
routines of matrix multiplication", Numerical Algorithms 59 (2012).  No long doubles are
needed, which some machines lack and which are slow on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

# Samples of a tile: some vectors of so many samples stay in the cache.
_TILE = 1 << 12
# A sum of squares below this may have lost digits to underflow.
_SMALLEST = 1e-200
# Bits of a double's mantissa.
_BITS = 53


class Vectors:
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

    def tile(self, start: int) -> np.ndarray:
        """Return some samples: (k, samples), or (2 k, samples) for complex vectors."""
        rows = [x[start : start + _TILE] for x in self.vectors]
        if self.parts > 1:
            rows = [np.real(x) for x in rows] + [np.imag(x) for x in rows]
        found = np.array(rows, self.dtype)
        if self.scale != 1:
            found /= self.scale
        return found

    def split(self, tile: np.ndarray) -> np.ndarray:
        """Return the high parts of a tile's rows, and below them the low ones."""
        high = tile + self._shift
        high -= self._shift
        return np.concatenate([high, tile - high])

    @cached_property
    def _shift(self) -> np.ndarray:
        """Numbers that round the rows of a tile to their high parts: add, then subtract."""
        bits = (_BITS - self.n.bit_length()) // 2
        # A norm is no smaller than any sample, and known: a few bits less in the high part.
        peaks = np.where(self.energy > _SMALLEST, np.sqrt(self.energy), 1.0)
        exponent = np.frexp(peaks)[1] + (_BITS - 1 - bits)
        return np.tile(np.ldexp(1.5, exponent), self.parts)[:, None]


def gram(Y: Vectors, X: Vectors) -> np.ndarray:
    """Return conj(Y) X^T, (k, l); in long double where doubles would be too coarse."""
    return products(Y, X)[0]


def products(Y: Vectors, X: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """Return conj(Y) X^T and sum |y_i|^2 |x_i|^2, both (k, l)."""
    kind = np.result_type(Y.dtype, X.dtype)
    split = kind == np.float64 and (Y.fine or X.fine)
    k, m = len(Y.vectors) * Y.parts, len(X.vectors) * X.parts
    total = np.zeros((2 * k, 2 * m) if split else (k, m), kind)
    powers = np.zeros((len(Y.vectors), len(X.vectors)))
    for start in range(0, Y.n, _TILE):
        y, x = Y.tile(start), X.tile(start)
        powers += _power(y, Y.parts) @ _power(x, X.parts).T
        if split:
            y, x = Y.split(y), X.split(x)
        total += y @ x.T
    if split:  # the products of high parts are exact, all others too small to matter
        high, rest = total[:k, :m], total[:k, m:] + total[k:, :m] + total[k:, m:]
        total = high.astype(np.longdouble) + rest
    total = total.reshape(Y.parts, len(Y.vectors), X.parts, len(X.vectors))
    weights = np.array([1, 1j])[: X.parts] * np.array([1, -1j])[: Y.parts, None]
    if Y.parts == X.parts == 1:
        return total[0, :, 0], powers
    return np.einsum("pq,paqb->ab", weights, total), powers


def _power(tile: np.ndarray, parts: int) -> np.ndarray:
    squares = np.square(tile, dtype=np.float64)
    return squares.reshape(parts, -1, squares.shape[1]).sum(axis=0)
