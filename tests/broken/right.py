"""Correct operators that a test of adjoints must pass, the unusual ones above all.

Every maker serves all four dtypes; Fourier transforms take the complex one of the
same precision.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse.linalg
from helpers import NUMPY_MODES

import linconv
from broken.blocks import Matmat
from broken.contracts import Same
from broken.entries import band
from broken.parts import (
    Circulant,
    Convolve,
    Dense,
    Faithful,
    Fourier,
    Gradient,
    Make,
    Right,
    conv,
    stencil,
    taps,
    valid,
)


def dense(m: int, n: int, scale: float = 1) -> Make:
    return lambda dtype, rng: Dense((scale * taps((m, n), dtype, rng)).astype(dtype))


def plain(build: Any) -> Make:
    """The operator of a matrix built from (dtype, rng)."""
    return lambda dtype, rng: Faithful(build(dtype, rng))


class RealFFT(Circulant):
    """A real circulant by rfft, which refuses complex vectors."""

    def filtered(self, x: Any, spectrum: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "c":
            return super().filtered(x, spectrum)
        n = self.shape[0]
        return scipy.fft.irfft(scipy.fft.rfft(x) * spectrum[: n // 2 + 1], n)


class ByParts(Faithful):
    """A real matrix that meets complex vectors with two real products."""

    def parts(self, matrix: Any, x: Any) -> Any:
        if x.dtype.kind != "c":
            return matrix @ x
        return matrix @ x.real + 1j * (matrix @ x.imag)

    def matvec(self, x: Any) -> Any:
        return self.parts(self.forward, x)

    def rmatvec(self, y: Any) -> Any:
        return self.parts(self.backward, y)


class ReadOnlyResults(Faithful):
    def matvec(self, x: Any) -> Any:
        y = self.forward @ x
        y.setflags(write=False)
        return y

    def rmatvec(self, y: Any) -> Any:
        x = self.backward @ y
        x.setflags(write=False)
        return x


class OwnScratch(Faithful):
    """A scratch array for every thread."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.local = threading.local()

    def matvec(self, x: Any) -> Any:
        self.local.x = x.copy()
        return self.forward @ self.local.x

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, local=threading.local())


class Locked(Faithful):
    """A scratch array behind a lock, which cannot be pickled."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.lock, self.scratch = threading.Lock(), np.zeros(0)

    def rmatvec(self, y: Any) -> Any:
        with self.lock:
            self.scratch = y.copy()
            return self.backward @ self.scratch


class CachedByValue(Faithful):
    """Results remembered by the bytes of the input, and copied."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.cache: dict[Any, Any] = {}

    def matvec(self, x: Any) -> Any:
        key = (np.asarray(x).tobytes(), x.dtype.char, x.shape)
        if key not in self.cache:
            self.cache[key] = self.forward @ x
        return self.cache[key].copy()


class BackwardsInMemory(Faithful):
    """Fresh results with negative strides."""

    def matvec(self, x: Any) -> Any:
        return (self.forward @ x)[::-1].copy()[::-1]


class Copy(Same):
    def matvec(self, x: Any) -> Any:
        return x.astype(np.result_type(self.dtype, x.dtype))

    rmatvec = matvec


class Running(Copy):
    """Cumulative sums, the adjoint from the other end."""

    def matvec(self, x: Any) -> Any:
        return np.cumsum(super().matvec(x))

    def rmatvec(self, y: Any) -> Any:
        return np.cumsum(super().matvec(y)[::-1])[::-1]


class Shuffle(Copy):
    def __init__(self, n: int, dtype: Any, rng: np.random.Generator) -> None:
        super().__init__(n, dtype)
        self.order = rng.permutation(n)

    def matvec(self, x: Any) -> Any:
        return super().matvec(x)[self.order]

    def rmatvec(self, y: Any) -> Any:
        return super().matvec(y)[np.argsort(self.order)]


def without_hints(dtype: np.dtype, rng: np.random.Generator) -> Any:
    """Lambdas, nothing that names a shape but the shape: not to be pickled."""
    C = valid(dtype, rng)
    return SimpleNamespace(
        shape=C.shape, dtype=C.dtype, matvec=lambda x: C @ x, rmatvec=lambda y: C.conj().T @ y
    )


def scipy_operator(dtype: np.dtype, rng: np.random.Generator) -> Any:
    C = valid(dtype, rng)
    return scipy.sparse.linalg.LinearOperator(
        C.shape, matvec=lambda x: C @ x, rmatvec=lambda y: C.conj().T @ y, dtype=C.dtype
    )


def hermitian(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    C = taps((17, 17), dtype, rng)
    return C + C.conj().T


def wide(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Entries from 1e-8 to 1e8."""
    return (taps((18, 25), dtype, rng) * 10 ** rng.uniform(-8, 8, (18, 25))).astype(dtype)


def wide_rows(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Rows of very different weight, as in weighted least squares."""
    weights = 10 ** rng.uniform(-6, 6, (20, 1))
    return (valid(dtype, rng) * weights).astype(dtype)


def integers(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-9, 10, (15, 19)).astype(dtype)


def hilbert(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return (1 / (1 + np.add.outer(np.arange(14), np.arange(12)))).astype(dtype)


def mask(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return np.diag(rng.integers(0, 2, 30)).astype(dtype)


def second_difference(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    w = np.array([1, -2, 1], dtype)
    return conv(w, (26,), padding=1, rule="circular")


def transposed(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Stride 2 with a sample that no output reads: a row of zeros."""
    return conv(taps(4, dtype, rng), (23,), stride=2).T


def image_spectrum(dtype: np.dtype, rng: np.random.Generator) -> Circulant:
    return Circulant(scipy.fft.fftn(taps((6, 7), dtype, rng)), dtype)


def line_spectrum(cls: Any, n: int) -> Make:
    return lambda dtype, rng: cls(scipy.fft.fft(taps(n, dtype, rng)), dtype)


RULES = [
    Right(
        f"{rule}, {'x'.join(map(str, shape))}",
        stencil(kernel, shape, {"padding": p, "rule": rule}),
    )
    for rule in NUMPY_MODES
    for kernel, shape, p in [((5,), (24,), 2), ((3, 3), (6, 7), 1)]
]
CONVOLUTIONS = [
    Right("1-d, valid", stencil((5,), (24,))),
    Right("even number of taps", stencil((4,), (24,), {"padding": ((1, 2),)})),
    Right("stride 2 that reads to the end", stencil((3,), (24,), {"stride": 2, "padding": 1})),
    Right("stride 3 with unread samples", stencil((2,), (24,), {"stride": 3})),
    Right("stride and dilation, 2-d",
          stencil((3, 2), (9, 8), {"stride": (1, 2), "dilation": (2, 3)})),
    Right("channels", stencil((3, 3, 3, 3), (3, 5, 6), {"padding": 1})),
    Right("more channels out than in", stencil((4, 2, 3, 2), (2, 5, 6), {"stride": 2})),
    Right("groups", stencil((4, 2, 3), (4, 12), {"groups": 2})),
    Right("transposed convolution", plain(transposed)),
    Right("second difference: taps sum to zero", plain(second_difference)),
    Right("gradient and minus divergence", lambda dtype, rng: Gradient((6, 7), dtype)),
    Right("numpy.convolve, full",
          lambda dtype, rng: Convolve(taps(5, dtype, rng), 24, "full", "valid")),
    Right("numpy.convolve, same, odd",
          lambda dtype, rng: Convolve(taps(5, dtype, rng), 24, "same", "same")),
    Right("linconv.Conv",
          lambda dtype, rng: linconv.Conv(taps((2, 3, 3, 3), dtype, rng), (3, 5, 6))),
    Right("adjoint of a linconv.Conv",
          lambda dtype, rng: linconv.Conv(taps((3, 3), dtype, rng), (6, 7), stride=2).H),
    *RULES,
]  # fmt: skip
TRANSFORMS = [
    Right("circulant by FFT", line_spectrum(Circulant, 24)),
    Right("circulant by FFT, prime size", line_spectrum(Circulant, 37)),
    Right("circulant by FFT, 2-d", image_spectrum),
    Right("circulant by rfft, even", line_spectrum(RealFFT, 24)),
    Right("circulant by rfft, odd", line_spectrum(RealFFT, 25)),
    Right("Fourier transform", lambda dtype, rng: Fourier(36, dtype, "backward", "forward")),
    Right("unitary Fourier transform",
          lambda dtype, rng: Fourier(40, dtype, "ortho", "ortho")),
    Right("cumulative sums", lambda dtype, rng: Running(40, dtype)),
]  # fmt: skip
MATRICES = [
    Right("dense", dense(18, 25)),
    Right("dense, tall", dense(60, 12)),
    Right("dense, times 1e12", dense(18, 25, 1e12)),
    Right("dense, times 1e-12", dense(18, 25, 1e-12)),
    Right("1 x 1", dense(1, 1)),
    Right("1 x n", dense(1, 30)),
    Right("n x 1", dense(30, 1)),
    Right("all zero", lambda dtype, rng: Faithful(np.zeros((12, 15), dtype))),
    Right("identity", lambda dtype, rng: Copy(23, dtype)),
    Right("minus identity", plain(lambda dtype, rng: -np.eye(23, dtype=dtype))),
    Right("permutation", lambda dtype, rng: Shuffle(29, dtype, rng)),
    Right("mask of zeros and ones", plain(mask)),
    Right("integer-valued", plain(integers)),
    Right("wide dynamic range", plain(wide)),
    Right("rows of wide dynamic range", plain(wide_rows)),
    Right("Hilbert matrix", plain(hilbert)),
    Right("Hermitian", plain(hermitian)),
    Right("large and sparse", lambda dtype, rng: Faithful(band(4007, dtype, rng))),
]
MANNERS = [
    Right("real and imaginary parts apart", lambda dtype, rng: ByParts(valid(dtype, rng))),
    Right("read-only results", lambda dtype, rng: ReadOnlyResults(valid(dtype, rng))),
    Right("results with negative strides",
          lambda dtype, rng: BackwardsInMemory(valid(dtype, rng))),
    Right("lambdas without hints", without_hints),
    Right("scipy LinearOperator", scipy_operator),
    Right("scipy aslinearoperator",
          lambda dtype, rng: scipy.sparse.linalg.aslinearoperator(valid(dtype, rng))),
    Right("own matmat", lambda dtype, rng: Matmat(valid(dtype, rng))),
    Right("a scratch array for every thread",
          lambda dtype, rng: OwnScratch(valid(dtype, rng))),
    Right("a scratch array behind a lock", lambda dtype, rng: Locked(valid(dtype, rng))),
    Right("results cached by value", lambda dtype, rng: CachedByValue(valid(dtype, rng))),
]  # fmt: skip
RIGHT = [*CONVOLUTIONS, *TRANSFORMS, *MATRICES, *MANNERS]
