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
    Broken,
    Circulant,
    Faithful,
    Make,
    Pair,
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
PRECISION = [
    Broken(
        "FFTs of the adjoint in single", "precision", single_fft("rmatvec"), INSIDE, DOUBLE
    ),
    Broken("FFTs of the forward in single", "precision", single_fft("matvec"), INSIDE, DOUBLE),
    Broken("all FFTs in single", "precision", single_fft("matvec", "rmatvec"), INSIDE, DOUBLE),
    Broken("taps of the adjoint in single", "precision", rounded_taps, INSIDE, DOUBLE),
    Broken("inputs rounded to single", "precision", around(narrow), INSIDE, DOUBLE),
    Broken(
        "results rounded to single",
        "precision",
        around(None, narrow, "rmatvec"),
        INSIDE,
        DOUBLE,
    ),
    Broken(
        "inputs rounded to float16: overflows and underflows too",
        "precision",
        around(half),
        f"{HALF}|not homogeneous|NaN or infinity",
        SINGLE,
    ),
    Broken("inputs rounded to scaled float16", "precision", around(scaled_half), HALF, SINGLE),
    Broken(
        "inputs of the adjoint rounded to bfloat16",
        "precision",
        around(bfloat16, None, "rmatvec"),
        HALF,
        SINGLE,
    ),
    Broken("TensorFloat-32", "precision", around(tf32), HALF, SINGLE),
]


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


AFFINE = [
    Broken("a bias", "affine", around(None, add_bias), r"affine: A\(0\) != 0"),
    Broken("a bias of 1e-30", "affine", around(None, add_tiny_bias), r"affine: A\(0\) != 0"),
    Broken(
        "a boundary value of one", "affine", around(None, add_to_first), r"affine: A\(0\) != 0"
    ),
    Broken(
        "a bias in the adjoint",
        "affine",
        around(None, add_bias, "rmatvec"),
        r"affine: rmatvec\(0\) != 0",
    ),
]


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
NONLINEAR = [
    Broken("clipped at 1e6", "non-linear", around(clip), LARGE),
    Broken("results clipped at 1e6", "non-linear", around(None, clip), LARGE),
    Broken("adjoint clipped at 1e6", "non-linear", around(clip, None, "rmatvec"), LARGE),
    Broken("saturation at 1e4", "non-linear", around(saturate), LARGE),
    Broken("flushed to zero below 1e-6", "non-linear", around(flush), SMALL),
    Broken("adjoint flushed below 1e-6", "non-linear", around(flush, None, "rmatvec"), SMALL),
    Broken("quantised in steps of 2^-16", "non-linear", around(quantise), SMALL),
    Broken("rounded to whole numbers", "non-linear", around(None, whole), SMALL),
    Broken("soft threshold", "non-linear", around(shrink), f"{SMALL}|{LARGE}|not additive"),
    Broken("absolute values", "non-linear", around(modulus), r"sign: matvec\(-x\)"),
    Broken("ReLU before", "non-linear", around(relu), r"sign: matvec\(-x\)"),
    Broken("ReLU after", "non-linear", around(None, relu), r"sign: matvec\(-x\)"),
    Broken(
        "leaky ReLU in the adjoint",
        "non-linear",
        around(leaky, None, "rmatvec"),
        r"sign: rmatvec\(-",
    ),
    Broken("weights that follow the input", "non-linear", around(sharpen), "not additive"),
    Broken("a median filter", "non-linear", around(median), "not additive", REAL),
    Broken(
        "conjugates its input", "non-linear", around(conjugated), "antilinear: matvec", COMPLEX
    ),
    Broken(
        "the adjoint conjugates its input",
        "non-linear",
        around(conjugated, None, "rmatvec"),
        "antilinear: rmatvec",
        COMPLEX,
    ),
    Broken(
        "drops the imaginary part",
        "non-linear",
        around(real_part),
        r"\bmatvec keeps only the real part of its input",
        COMPLEX,
    ),
    Broken(
        "the adjoint drops the imaginary part",
        "non-linear",
        around(real_part, None, "rmatvec"),
        "rmatvec keeps only the real part of its input",
        COMPLEX,
    ),
]


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


NAN = [
    Broken("0 / 0 at exact zeros", "NaN", around(zero_over_zero), spoils("matvec")),
    Broken(
        "0 * inf at exact zeros in the adjoint",
        "NaN",
        around(zero_times_infinity, None, "rmatvec"),
        spoils("rmatvec"),
    ),
    Broken(
        "the last sample of the adjoint never written",
        "NaN",
        around(None, last_not_written, "rmatvec"),
        spoils("rmatvec"),
    ),
    Broken("an infinite weight", "NaN", around(None, last_infinite), spoils("matvec")),
]

LINEARITY = [*PRECISION, *AFFINE, *NONLINEAR, *NAN]
