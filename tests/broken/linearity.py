"""Operators that compute in too few digits or are not linear maps at all.

Families: precision, affine, non-linear, NaN.  Most wrap a true matrix: `before`
changes what one direction reads, `after` what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from broken.parts import (
    COMPLEX,
    DOUBLE,
    REAL,
    SINGLE,
    Circulant,
    Faithful,
    Make,
    Pair,
    family,
    fft_of,
    taps,
    valid,
)

Function = Callable[[Any], Any]


class Around(Faithful):
    """A true matrix, one of whose products passes through `before` and `after`."""

    def __init__(
        self,
        matrix: np.ndarray,
        before: Function | None = None,
        after: Function | None = None,
        direction: str = "matvec",
    ) -> None:
        super().__init__(matrix)
        self.before, self.after, self.direction = before, after, direction

    def product(self, matrix: Any, x: Any, direction: str) -> Any:
        bent = direction == self.direction
        y = matrix @ (self.before(x) if bent and self.before else x)
        return self.after(y) if bent and self.after else y

    def matvec(self, x: Any) -> Any:
        return self.product(self.forward, x, "matvec")

    def rmatvec(self, y: Any) -> Any:
        return self.product(self.backward, y, "rmatvec")


def around(
    before: Function | None = None, after: Function | None = None, direction: str = "matvec"
) -> Make:
    return lambda dtype, rng: Around(valid(dtype, rng), before, after, direction)


def by_parts(function: Function, x: np.ndarray) -> np.ndarray:
    """A real function applied to real and imaginary parts."""
    if x.dtype.kind != "c":
        return function(x)
    y = np.empty_like(x)
    y.real, y.imag = function(x.real), function(x.imag)
    return y


def narrow(x: np.ndarray) -> np.ndarray:
    """Single precision and back."""
    return x.astype(np.complex64 if x.dtype.kind == "c" else np.float32).astype(x.dtype)


def half(x: np.ndarray) -> np.ndarray:
    """float16 and back."""
    with np.errstate(over="ignore"):
        return by_parts(lambda v: v.astype(np.float16).astype(v.dtype), x)


def scaled_half(x: np.ndarray) -> np.ndarray:
    """float16 with one power of two for the block, as in mixed-precision training."""
    top = np.abs(x).max()
    scale = np.exp2(np.floor(np.log2(top))).astype(top.dtype) if top > 0 else top + 1
    return half(x / scale) * scale


def truncated(x: np.ndarray, bits: int) -> np.ndarray:
    """The last bits of every float32 set to zero."""
    mask = np.uint32(0xFFFFFFFF >> bits << bits)

    def cut(v: np.ndarray) -> np.ndarray:
        word = v.astype(np.float32).view(np.uint32)
        return (word & mask).view(np.float32).astype(v.dtype)

    return by_parts(cut, x)


def bfloat16(x: np.ndarray) -> np.ndarray:
    return truncated(x, 16)


def tf32(x: np.ndarray) -> np.ndarray:
    return truncated(x, 13)


class SingleFFT(Circulant):
    """FFTs in single precision inside an operator of double precision."""

    def __init__(self, spectrum: np.ndarray, dtype: Any, directions: tuple[str, ...]) -> None:
        super().__init__(spectrum, dtype)
        self.directions = directions

    def single(self, x: Any, spectrum: np.ndarray) -> np.ndarray:
        y = fft_of(x).ifftn(fft_of(x).fftn(narrow(x).astype(np.complex64)) * spectrum)
        y = y.astype(np.complex64)
        real = "c" not in (self.dtype.kind, x.dtype.kind)
        return y.real.astype(np.float64) if real else y.astype(np.complex128)

    def matvec(self, x: Any) -> np.ndarray:
        single = "matvec" in self.directions
        return self.single(x, self.spectrum) if single else super().matvec(x)

    def rmatvec(self, y: Any) -> np.ndarray:
        single = "rmatvec" in self.directions
        return self.single(y, self.backward) if single else super().rmatvec(y)


def single_fft(*directions: str) -> Make:
    return lambda dtype, rng: SingleFFT(scipy.fft.fft(taps(30, dtype, rng)), dtype, directions)


def rounded_taps(dtype: np.dtype, rng: np.random.Generator) -> Pair:
    """The adjoint keeps its taps in single precision to save memory."""
    C = valid(dtype, rng)
    return Pair(C, narrow(C).conj().T)


INSIDE = r"(float32|complex64) inside a (float64|complex128) operator"
HALF = r"half precision inside a (float32|complex64) operator"
PRECISION = family("precision",
    ("FFTs of the adjoint in single", single_fft("rmatvec"), INSIDE, DOUBLE),
    ("FFTs of the forward in single", single_fft("matvec"), INSIDE, DOUBLE),
    ("all FFTs in single", single_fft("matvec", "rmatvec"), INSIDE, DOUBLE),
    ("taps of the adjoint in single", rounded_taps, INSIDE, DOUBLE),
    ("inputs rounded to single", around(narrow), INSIDE, DOUBLE),
    ("results rounded to single", around(None, narrow, "rmatvec"), INSIDE, DOUBLE),
    ("inputs rounded to float16: overflows and underflows too", around(half),
     f"{HALF}|not homogeneous|NaN or infinity", SINGLE),
    ("inputs rounded to scaled float16", around(scaled_half), HALF, SINGLE),
    ("inputs of the adjoint rounded to bfloat16", around(bfloat16, None, "rmatvec"), HALF,
     SINGLE),
    ("TensorFloat-32", around(tf32), HALF, SINGLE),
)  # fmt: skip


def add_bias(y: np.ndarray) -> np.ndarray:
    return y + 0.25


def add_tiny_bias(y: np.ndarray) -> np.ndarray:
    """Far below the rounding of any inner product."""
    return y + 1e-30


def add_to_first(y: np.ndarray) -> np.ndarray:
    """A boundary value other than zero."""
    y = y.copy()
    y[0] += 1
    return y


AFFINE = family("affine",
    ("a bias", around(None, add_bias), r"affine: A\(0\) != 0"),
    ("a bias of 1e-30", around(None, add_tiny_bias), r"affine: A\(0\) != 0"),
    ("a boundary value of one", around(None, add_to_first), r"affine: A\(0\) != 0"),
    ("a bias in the adjoint", around(None, add_bias, "rmatvec"), r"affine: rmatvec\(0\) != 0"),
)  # fmt: skip


def clip(x: np.ndarray) -> np.ndarray:
    return by_parts(lambda v: v.clip(-1e6, 1e6), x)


def saturate(x: np.ndarray) -> np.ndarray:
    """Off by 1e-8 at one, by everything at 1e12."""
    return x / (1 + (1e-4 * np.abs(x)) ** 2)


def flush(x: np.ndarray) -> np.ndarray:
    return x * (np.abs(x) >= 1e-6)


def quantise(x: np.ndarray) -> np.ndarray:
    """A converter of fixed step."""
    return by_parts(lambda v: np.rint(v * 2**16) / 2**16, x)


def whole(x: np.ndarray) -> np.ndarray:
    """Not half precision, although so few bits would do."""
    return by_parts(lambda v: np.rint(4 * v) / 4, x)


def shrink(x: np.ndarray) -> np.ndarray:
    return by_parts(lambda v: np.sign(v) * np.maximum(np.abs(v) - 0.01, 0), x)


def modulus(x: np.ndarray) -> np.ndarray:
    return by_parts(np.abs, x)


def relu(x: np.ndarray) -> np.ndarray:
    return by_parts(lambda v: np.maximum(v, 0), x)


def leaky(x: np.ndarray) -> np.ndarray:
    return by_parts(lambda v: np.maximum(v, 0.5 * v), x)


def sharpen(x: np.ndarray) -> np.ndarray:
    """Homogeneous and odd, yet not additive."""
    top = np.abs(x).max()
    return x * (np.abs(x) / top) if top > 0 else x.copy()


def median(x: np.ndarray) -> np.ndarray:
    """The median of three neighbours: homogeneous and odd as well."""
    y = x.copy()
    a, b, c = x[:-2], x[1:-1], x[2:]
    y[1:-1] = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return y


def conjugated(x: np.ndarray) -> np.ndarray:
    return x.conj()


def real_part(x: np.ndarray) -> np.ndarray:
    return x.real.astype(x.dtype)


SMALL, LARGE = "not homogeneous at small values", "not homogeneous at large values"
NONLINEAR = family("non-linear",
    ("clipped at 1e6", around(clip), LARGE),
    ("results clipped at 1e6", around(None, clip), LARGE),
    ("adjoint clipped at 1e6", around(clip, None, "rmatvec"), LARGE),
    ("saturation at 1e4", around(saturate), LARGE),
    ("flushed to zero below 1e-6", around(flush), SMALL),
    ("adjoint flushed below 1e-6", around(flush, None, "rmatvec"), SMALL),
    ("quantised in steps of 2^-16", around(quantise), SMALL),
    ("rounded to whole numbers", around(None, whole), SMALL),
    ("soft threshold", around(shrink), f"{SMALL}|{LARGE}|not additive"),
    ("absolute values", around(modulus), r"sign: matvec\(-x\)"),
    ("ReLU before", around(relu), r"sign: matvec\(-x\)"),
    ("ReLU after", around(None, relu), r"sign: matvec\(-x\)"),
    ("leaky ReLU in the adjoint", around(leaky, None, "rmatvec"), r"sign: rmatvec\(-"),
    ("weights that follow the input", around(sharpen), "not additive"),
    ("a median filter", around(median), "not additive", REAL),
    ("conjugates its input", around(conjugated), "antilinear: matvec", COMPLEX),
    ("the adjoint conjugates its input", around(conjugated, None, "rmatvec"),
     "antilinear: rmatvec", COMPLEX),
    ("drops the imaginary part", around(real_part),
     r"\bmatvec keeps only the real part of its input", COMPLEX),
    ("the adjoint drops the imaginary part", around(real_part, None, "rmatvec"),
     "rmatvec keeps only the real part of its input", COMPLEX),
)  # fmt: skip


def zero_over_zero(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return x * (x / x)


def zero_times_infinity(x: np.ndarray) -> np.ndarray:
    """Amplitude and phase apart: an exact zero has no phase."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return x * (np.abs(x) * (1 / np.abs(x)))


def last_not_written(y: np.ndarray) -> np.ndarray:
    y = y.copy()
    y[-1] = np.nan
    return y


def last_infinite(y: np.ndarray) -> np.ndarray:
    """A weight 1 / 0."""
    y = y.copy()
    y[-1] = np.inf
    return y


def spoils(direction: str) -> str:
    return rf"\b{direction} returns NaN or infinity for a finite input"


NAN = family("NaN",
    ("0 / 0 at exact zeros", around(zero_over_zero), spoils("matvec")),
    ("0 * inf at exact zeros in the adjoint", around(zero_times_infinity, None, "rmatvec"),
     spoils("rmatvec")),
    ("the last sample of the adjoint never written", around(None, last_not_written, "rmatvec"),
     spoils("rmatvec")),
    ("an infinite weight", around(None, last_infinite), spoils("matvec")),
)  # fmt: skip

LINEARITY = [*PRECISION, *AFFINE, *NONLINEAR, *NAN]
