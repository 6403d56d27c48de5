"""Probes, the vectors that an operator is tested with, and norms for rounding errors.

All probes are flat NumPy arrays; `Side` converts them for the operator.  Relative noise
is counted in u, half the machine epsilon of the results.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

# One sample in 16 of a random probe is an exact zero, by which an operator may divide.
_ZEROS = 16
# Bits of a mantissa, and the name of the precision; 8 bits are those of bfloat16.
PRECISIONS = ((24, "float32"), (11, "half precision"), (8, "half precision"))
# A sum of squares below this may have lost digits to underflow.
_SMALLEST = 1e-200


def unit(dtype: np.dtype) -> float:
    """Return u, the largest relative error of one rounding."""
    return float(np.finfo(dtype).eps) / 2


def gaussian(rng: np.random.Generator, n: int, dtype: np.dtype) -> np.ndarray:
    """Return a probe of zero mean and unit variance with some exact zeros."""
    parts = 2 if dtype.kind == "c" else 1
    x = rng.standard_normal(parts * n)
    if parts > 1:
        x /= math.sqrt(parts)
        x = x.view(np.complex128)
    if n >= _ZEROS:
        x[rng.integers(0, n, n // _ZEROS)] = 0
    return x.astype(dtype, copy=False)


def whole(rng: np.random.Generator, n: int, dtype: np.dtype, q: int) -> np.ndarray:
    """Return a probe of integers from +-1 to +-q; complex numbers have two of them."""
    short = np.int16 if q < 1 << 14 else np.int64  # fewer random bits are faster

    def part() -> np.ndarray:
        signed = rng.integers(-q, q, n, dtype=short)
        signed += signed >= 0
        return signed

    if dtype.kind != "c":
        return part().astype(dtype)
    x = np.empty(n, dtype)
    x.real, x.imag = part(), part()
    return x


def round_bits(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x with its mantissa truncated to `bits` bits; x minus the result is exact."""
    if x.dtype.kind == "c":
        real = x.view(np.real(x).dtype)
        return round_bits(real, bits).view(x.dtype)
    if x.dtype.itemsize <= 8:
        cut = np.finfo(x.dtype).nmant + 1 - bits
        pattern = x.view(f"u{x.dtype.itemsize}")
        return (pattern >> cut << cut).view(x.dtype)
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.trunc(np.ldexp(mantissa, bits)), exponent - bits).astype(x.dtype)


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split x into the upper and the lower half of its mantissas; exact (Veltkamp)."""
    high = round_bits(x, (np.finfo(x.dtype).nmant + 1) // 2)
    return high, x - high


def masked(rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split x into two parts by a random mask."""
    first = _where(_mask(rng, len(x)), x)
    return first, x - first


def both_splits(rng: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split x by mask and by mantissa at once, to test both with the same products."""
    first = _where(_mask(rng, len(x)), halves(x)[0])
    return first, x - first


def _mask(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(rng.bytes(-(-n // 8)), np.uint8), count=n)


def _where(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return x where the mask is 1, else 0; a product is faster than `np.where`."""
    return x * mask.astype(np.real(x).dtype)


def structured(
    rng: np.random.Generator, values: np.ndarray, few: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, probe) for places of typical faults: corners, faces, channels, the tail.

    With `few`, one probe has all corners and another all faces.  The probes take their
    samples from the random `values`, so that faults at two places do not cancel.
    """
    n, shape, dtype = values.size, values.shape, values.dtype
    values = np.where(values == 0, dtype.type(1), values)

    def on(*where: tuple) -> np.ndarray:
        x = np.zeros(shape, dtype)
        for place in where:
            x[place] = values[place]
        return x.ravel()

    ends = [sorted({0, length - 1}) for length in shape]
    corners = list(itertools.product(*ends))
    faces = [(slice(None),) * axis + (end,) for axis, pair in enumerate(ends) for end in pair]
    tail = np.zeros(n, dtype)
    tail[-max(1, n // 1000) :] = values.ravel()[-max(1, n // 1000) :]
    yield "the last 0.1 %", tail
    if few:
        yield "corners", on(*corners)
        yield "faces", on(*faces)
        return
    yield "ones", np.ones(n, dtype)
    yield "alternating signs", (1 - 2 * (np.arange(n) % 2)).astype(dtype)
    yield from ((f"corner {corner}", on(corner)) for corner in _some(corners, 4))
    yield "centre", on(tuple(length // 2 for length in shape))
    for _ in range(2):
        place = tuple(int(rng.integers(length)) for length in shape)
        yield f"sample {place}", on(place)
    yield "all faces", on(*faces)
    yield from ((f"face {face}", on(face)) for face in _some(faces, 6))
    if len(shape) > 1:  # the first axis may be one of channels
        yield from ((f"channel {c}", on((c,))) for c in _some(range(shape[0]), 3))


def _some(items: Sequence, most: int) -> list:
    """Return at most `most` items, evenly spaced, with the first and the last one."""
    if len(items) <= most:
        return list(items)
    return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]


def power(x: np.ndarray) -> np.ndarray:
    """Return |x|^2 in at least double precision."""
    wide = np.result_type(np.real(x).dtype, np.float64)
    if x.dtype.kind != "c":
        return np.square(x, dtype=wide)
    return np.square(np.real(x), dtype=wide) + np.square(np.imag(x), dtype=wide)


def ratio(gap: np.ndarray, bound: Any) -> np.ndarray:
    """Return |gap| / bound: 0 where the gap is exactly 0, infinity instead of NaN."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.where(gap == 0, 0, np.abs(gap) / bound)
    return np.where(np.isnan(found), np.inf, found)


def binade(peak: float) -> float:
    """Return the power of two below a positive number, 1 for 0; division by it is exact."""
    return 2.0 ** int(np.floor(np.log2(peak))) if 0 < peak < np.inf else 1.0


def rms(x: np.ndarray) -> float:
    """Return the root mean square, also of numbers whose squares overflow or underflow."""
    return norm(x) / np.sqrt(x.size) if x.size else 0.0


def norm(x: np.ndarray) -> float:
    """Return the Euclidean norm, also of numbers whose squares overflow or underflow."""
    if x.dtype.char in "dD":
        squared = float(np.vdot(x, x).real)
        if _SMALLEST < squared < np.inf or not x.any():
            return math.sqrt(squared)
    scale = binade(float(np.max(np.abs(x), initial=0)))
    return scale * float(np.sqrt(np.sum(power(x / scale))))
