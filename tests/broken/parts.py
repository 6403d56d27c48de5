"""Parts of the catalogue of broken operators: its entries, true matrices, plain operators.

Matrices come from numpy.pad on an identity, never from linconv, as tensors
``(*out_shape, *in_shape)`` that are easy to damage by index.  Taps are not flipped.
Operators are classes with shape, dtype, matvec, rmatvec and hints, no more.  Their products
work on the arrays that they get, so that test_gpu_catalogue.py can move an operator's own
arrays to the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from helpers import NUMPY_MODES
from scipy.sparse import csr_array

REAL, COMPLEX = ("float32", "float64"), ("complex64", "complex128")
SINGLE, DOUBLE = ("float32", "complex64"), ("float64", "complex128")
EVERY = (*REAL, *COMPLEX)

Make = Callable[[np.dtype, np.random.Generator], Any]


@dataclass(frozen=True)
class Broken:
    """An operator that must be caught; `diagnosis` is searched for in what is said of it."""

    name: str
    family: str
    make: Make
    diagnosis: str
    dtypes: tuple[str, ...] = EVERY
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def family(name: str, *members: tuple[Any, ...]) -> list[Broken]:
    """Broken operators of one family: each has its name, and what follows the family."""
    return [Broken(member, name, *rest) for member, *rest in members]


class Right(NamedTuple):
    """An operator that must pass, for all four dtypes."""

    name: str
    make: Make

    def __str__(self) -> str:
        return self.name


def taps(shape: Any, dtype: Any, rng: np.random.Generator) -> np.ndarray:
    """Gaussian taps moved away from zero: a fault in one of them is never rounding."""
    dtype = np.dtype(dtype)
    w = rng.standard_normal(shape)
    w = w + np.copysign(0.25, w)
    if dtype.kind == "c":
        v = rng.standard_normal(shape)
        w = w + 1j * (v + np.copysign(0.25, v))
    return np.asarray(w, dtype)


def pad(x: np.ndarray, widths: list[tuple[int, int]], rule: Any) -> np.ndarray:
    """Pad the last axes of x, crop them where negative; `rule` may be (before, after)."""
    lo, hi = (rule, rule) if isinstance(rule, str) else rule
    fixed = [(0, 0)] * (x.ndim - len(widths))
    x = x[..., *(slice(max(0, -a), min(0, b) or None) for a, b in widths)]
    widths = [(max(0, a), max(0, b)) for a, b in widths]
    if lo == hi:
        return np.pad(x, [*fixed, *widths], **NUMPY_MODES[lo])
    before, after = [(a, 0) for a, _ in widths], [(0, b) for _, b in widths]
    padded = np.pad(x, [*fixed, *before], **NUMPY_MODES[lo])
    return np.pad(padded, [*fixed, *after], **NUMPY_MODES[hi])


def conv(
    kernel: np.ndarray,
    in_shape: tuple[int, ...],
    *,
    stride: Any = 1,
    dilation: Any = 1,
    padding: Any = 0,
    rule: Any = "zeros",
    groups: int = 1,
) -> np.ndarray:
    """The tensor ``(*out_shape, *in_shape)`` of a convolution; channels where kernels have."""
    if kernel.ndim == len(in_shape):
        tensor = conv(
            kernel[None, None],
            (1, *in_shape),
            stride=stride,
            dilation=dilation,
            padding=padding,
            rule=rule,
        )
        return tensor[0].reshape(*tensor.shape[1 : kernel.ndim + 1], *in_shape)
    w, k = grouped(kernel, groups), kernel.shape[2:]
    s, d, p = (each(value, len(k)) for value in (stride, dilation, padding))
    size = math.prod(in_shape)
    x = pad(np.eye(size).reshape(size, *in_shape), [each(v, 2) for v in p], rule)
    m = [(x.shape[2 + a] - d[a] * (k[a] - 1) - 1) // s[a] + 1 for a in range(len(k))]
    y = np.zeros((size, len(w), *m), w.dtype if w.dtype.kind != "f" else float)
    for t in np.ndindex(*k):
        starts = [t[a] * d[a] for a in range(len(k))]
        stops = [starts[a] + s[a] * (m[a] - 1) + 1 for a in range(len(k))]
        window = x[:, :, *map(slice, starts, stops, s)]
        y = y + np.einsum("zi...,oi->zo...", window, w[:, :, *t])
    return np.moveaxis(y, 0, -1).reshape(*y.shape[1:], *in_shape).astype(kernel.dtype)


def each(value: Any, count: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * count


def grouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """Kernels ``(c_out, c_in, *k)`` with zeros between the groups."""
    c_out, c_in = kernel.shape[:2]
    w = np.zeros((c_out, groups, c_in, *kernel.shape[2:]), kernel.dtype)
    for o in range(c_out):
        w[o, o * groups // c_out] = kernel[o]
    return w.reshape(c_out, groups * c_in, *kernel.shape[2:])


class Pair:
    """Two matrices: what matvec and rmatvec multiply by."""

    def __init__(
        self, forward: Any, backward: Any, in_shape: Any = None, out_shape: Any = None
    ) -> None:
        self.forward, self.backward = csr_array(forward), csr_array(backward)
        self.shape, self.dtype = self.forward.shape, self.forward.dtype
        self.in_shape = in_shape or self.shape[1:]
        self.out_shape = out_shape or self.shape[:1]

    def matvec(self, x: Any) -> Any:
        return self.forward @ x

    def rmatvec(self, y: Any) -> Any:
        return self.backward @ y


class Faithful(Pair):
    """A matrix and its adjoint."""

    def __init__(self, matrix: Any, in_shape: Any = None, out_shape: Any = None) -> None:
        super().__init__(matrix, matrix.conj().T, in_shape, out_shape)


class Dense(Faithful):
    """The same through BLAS."""

    def __init__(self, matrix: Any, in_shape: Any = None, out_shape: Any = None) -> None:
        super().__init__(matrix, in_shape, out_shape)
        self.forward, self.backward = matrix, np.ascontiguousarray(matrix.conj().T)


def library_of(x: Any) -> Any:
    """The library of an array: NumPy or CuPy."""
    return np if isinstance(x, np.ndarray) else import_module("cupy")


def fft_of(x: Any) -> Any:
    """The transforms for an array: SciPy's, or CuPy's of the same names."""
    return scipy.fft if isinstance(x, np.ndarray) else import_module("cupyx.scipy.fft")


class Circulant:
    """Circular convolution by FFT; `backward` multiplies in rmatvec."""

    def __init__(self, spectrum: np.ndarray, dtype: Any, backward: Any = None) -> None:
        self.dtype = np.dtype(dtype)
        complex_dtype = np.result_type(self.dtype, np.complex64)
        self.spectrum = spectrum.astype(complex_dtype)
        backward = spectrum.conj() if backward is None else backward
        self.backward = backward.astype(complex_dtype)
        self.in_shape = self.out_shape = spectrum.shape
        self.shape = (spectrum.size, spectrum.size)

    def filtered(self, x: Any, spectrum: np.ndarray) -> np.ndarray:
        image = x.reshape(self.in_shape)
        y = fft_of(x).ifftn(fft_of(x).fftn(image) * spectrum)
        return (y if "c" in (self.dtype.kind, image.dtype.kind) else y.real).ravel()

    def matvec(self, x: Any) -> np.ndarray:
        return self.filtered(x, self.spectrum)

    def rmatvec(self, y: Any) -> np.ndarray:
        return self.filtered(y, self.backward)


class Fourier:
    """The discrete Fourier transform: `norm` of `fftn` and of `ifftn`."""

    def __init__(self, n: int, dtype: Any, norm: str, adjoint_norm: str) -> None:
        self.dtype = np.result_type(dtype, np.complex64)
        self.shape, self.in_shape, self.out_shape = (n, n), (n,), (n,)
        self.norm, self.adjoint_norm = norm, adjoint_norm

    def exact(self, x: Any) -> np.ndarray:
        return x.astype(np.result_type(self.dtype, x.dtype))

    def matvec(self, x: Any) -> np.ndarray:
        return fft_of(x).fftn(self.exact(x), norm=self.norm)

    def rmatvec(self, y: Any) -> np.ndarray:
        return fft_of(y).ifftn(self.exact(y), norm=self.adjoint_norm)


class Gradient:
    """Forward differences of an image, zero at the far edge; `sign` times their adjoint."""

    def __init__(self, image_shape: tuple[int, int], dtype: Any, sign: int = 1) -> None:
        self.dtype, self.in_shape, self.sign = np.dtype(dtype), image_shape, sign
        self.out_shape = (2, *image_shape)
        self.shape = (math.prod(self.out_shape), math.prod(self.in_shape))

    def matvec(self, x: Any) -> np.ndarray:
        u = x.reshape(self.in_shape)
        g = np.zeros_like(u, np.result_type(self.dtype, u.dtype), shape=self.out_shape)
        g[0, :-1] = u[1:] - u[:-1]
        g[1, :, :-1] = u[:, 1:] - u[:, :-1]
        return g.ravel()

    def rmatvec(self, y: Any) -> np.ndarray:
        g = y.reshape(self.out_shape)
        u = np.zeros_like(g, np.result_type(self.dtype, g.dtype), shape=self.in_shape)
        u[1:] += g[0, :-1]
        u[:-1] -= g[0, :-1]
        u[:, 1:] += g[1, :, :-1]
        u[:, :-1] -= g[1, :, :-1]
        return self.sign * u.ravel()


class Convolve:
    """numpy.convolve in one of its modes, and numpy.convolve again as its adjoint."""

    def __init__(self, kernel: np.ndarray, n: int, mode: str, adjoint_mode: str) -> None:
        self.kernel, self.dtype, self.mode = kernel, kernel.dtype, mode
        self.adjoint_mode = adjoint_mode
        m = len(np.convolve(np.zeros(n), np.zeros(len(kernel)), mode))
        self.shape, self.in_shape, self.out_shape = (m, n), (n,), (m,)

    def matvec(self, x: Any) -> np.ndarray:
        return np.convolve(x, self.kernel, self.mode)

    def rmatvec(self, y: Any) -> np.ndarray:
        return np.convolve(y, self.kernel[::-1].conj(), self.adjoint_mode)


class Wrapped:
    """An operator of a library for matvec, another one's matvec for rmatvec."""

    def __init__(self, forward: Any, backward: Any) -> None:
        self.forward, self.backward = forward, backward
        self.shape, self.dtype = forward.shape, forward.dtype
        self.in_shape, self.out_shape = forward.in_shape, forward.out_shape

    def matvec(self, x: Any) -> Any:
        return self.forward @ x

    def rmatvec(self, y: Any) -> Any:
        return self.backward @ y


def flat(tensor: np.ndarray, in_ndim: int) -> np.ndarray:
    """The matrix of a tensor ``(*out_shape, *in_shape)``."""
    return tensor.reshape(-1, math.prod(tensor.shape[-in_ndim:]))


def pair(C: np.ndarray, B: np.ndarray, in_ndim: int) -> Pair:
    """The operator of the tensor C whose rmatvec is the adjoint of the tensor B."""
    shapes = (C.shape[-in_ndim:], C.shape[:-in_ndim])
    return Pair(flat(C, in_ndim), flat(B, in_ndim).conj().T, *shapes)


def stencil(
    kernel: tuple[int, ...],
    in_shape: tuple[int, ...],
    true: Mapping[str, Any] | None = None,
    wrong: Mapping[str, Any] | None = None,
    *,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    edit: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Make:
    """A convolution with options `true`, its adjoint with other options, taps or entries.

    `change(w)` returns other taps, `edit(B, w)` another tensor B for the adjoint.
    """
    geometry = true or {}

    def make(dtype: np.dtype, rng: np.random.Generator) -> Pair:
        w = taps(kernel, dtype, rng)
        B = conv(change(w) if change else w, in_shape, **(wrong or geometry))
        B = edit(B.copy(), w) if edit else B
        return pair(conv(w, in_shape, **geometry), B, len(in_shape))

    return make


def valid(dtype: Any, rng: np.random.Generator) -> np.ndarray:
    """The 20 x 24 matrix of five taps: the innocent part of operators broken elsewhere."""
    return conv(taps(5, dtype, rng), (24,))
