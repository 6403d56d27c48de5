"""Inner products of vectors, several thousand times more precise than double precision.

Each vector is split into a high part, with so few bits that BLAS adds its products without
rounding, and a low part, so small that its rounding errors do not matter: Ozaki, Ogita,
Oishi and Rump, "Error-free transformations of matrix multiplication by using fast
routines of matrix multiplication", Numerical Algorithms 59 (2012).  Sums of long doubles
would be slow, and some machines have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

# Samples of a tile: 32 KiB of doubles, so that the tiles of a few vectors stay in L2.
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
        # Products of single precision need no split: doubles add them precisely enough.
        self.fine = bool(np.finfo(dtype).nmant > np.finfo(np.float32).nmant)
        self.energy = np.array([self._energy(x) for x in vectors])

    def _energy(self, x: np.ndarray) -> float:
        if self.scale != 1:
            x = x.astype(np.result_type(x, np.float64), copy=False) / self.scale
        elif x.dtype.char == "e":  # half precision overflows
            x = x.astype(np.float32)
        return float(np.vdot(x, x).real)

    def tile(self, start: int) -> np.ndarray:
        """Return a tile of each vector: (k, samples), or (2 k, samples) of complex vectors."""
        rows = [x[start : start + _TILE] for x in self.vectors]
        if self.parts > 1:
            rows = [np.real(x) for x in rows] + [np.imag(x) for x in rows]
        found = np.array(rows, self.dtype)
        if self.scale != 1:
            found /= self.scale
        return found

    def split(self, tile: np.ndarray) -> np.ndarray:
        """Return the high parts of a tile's rows, and the low parts as further rows."""
        high = tile + self._shift
        high -= self._shift
        return np.concatenate([high, tile - high])

    @cached_property
    def _shift(self) -> np.ndarray:
        """One number per row; adding and subtracting it rounds the row to its high part."""
        bits = (_BITS - self.n.bit_length()) // 2
        # The norm is known and bounds all samples, at the cost of a few bits of the high part.
        peaks = np.where(self.energy > _SMALLEST, np.sqrt(self.energy), 1.0)
        exponent = np.frexp(peaks)[1] + (_BITS - 1 - bits)
        return np.tile(np.ldexp(1.5, exponent), self.parts)[:, None]


def gram(Y: Vectors, X: Vectors) -> np.ndarray:
    """Return conj(Y) X^T, (k, l); in long double where double precision is too coarse."""
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
    if split:  # products of high parts are exact; errors of the others are too small to matter
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
