"""The method "fft": products through the discrete Fourier transform of SciPy, or of CuPy.

Along a circular axis the transform has the input's own length and is exact for any padding.
Along an axis of zeros it is so long that nothing wraps around.  For the other rules the
input is padded first.  The adjoint takes the adjoint steps in the reverse order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from linconv import _arrays, gpu
from linconv.assembly import arranged
from linconv.geometry import Axis, Boundary, Geometry
from linconv.methods import padding
from linconv.methods.rows import ShapedRows


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return why this method cannot represent a convolution, or an empty string."""
    if np.dtype(dtype).kind not in "fc":
        return f"it rounds, and a matrix of {np.dtype(dtype).name} must not: pass dtype=float"
    return ""


@dataclass(frozen=True)
class Line:
    """One axis: the `length` of its transform, with tap 0 at sample `shift`."""

    axis: Axis
    pads: bool  # whether the input is padded by the axis's rule first
    length: int
    shift: int

    @property
    def samples(self) -> int:
        """Samples of the transform's input, padding included."""
        return padding.padded_length(self.axis) if self.pads else self.axis.n


def line(axis: Axis) -> Line:
    """Return the transform along an axis."""
    lo, hi = axis.padding
    if padding.both(axis, Boundary.CIRCULAR):
        return Line(axis, False, axis.n, lo)
    reach = axis.stride * (axis.out - 1) + 1
    if padding.both(axis, Boundary.ZEROS):
        least = max(axis.n + max(lo, hi, 0), reach)
        return Line(axis, False, _fast(least), lo)
    least = max(padding.padded_length(axis), reach)
    return Line(axis, True, _fast(least), 0)


def _fast(least: int) -> int:
    length: Any = scipy.fft.next_fast_len(least, real=True)
    return length


class Fft(ShapedRows):
    """Products of a convolution by the transforms of its kernel and of the vector."""

    dtypes = tuple(map(np.dtype, "fdgFDG"))

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        super().__init__(geometry, kernel)
        self._lines = [line(axis) for axis in geometry.axes]
        axes = [each.axis if each.pads else Axis(each.axis.n, 1) for each in self._lines]
        self._padding = padding.Padding(axes, kernel)
        self._lengths = tuple(each.length for each in self._lines)
        self._axes = tuple(range(-len(self._lines), 0))
        self._real = kernel.dtype.kind != "c"
        self._spectra: dict[tuple[np.dtype, bool], np.ndarray] = {}

    def _spectrum(self, dtype: np.dtype, conjugate: bool) -> np.ndarray:
        """Return the transforms of the taps in the precision of `dtype`, from a cache."""
        key = np.finfo(dtype).dtype, conjugate
        if key not in self._spectra:
            self._spectra[key] = (
                self._spectrum(dtype, False).conj() if conjugate else self._placed(dtype)
            )
        return self._spectra[key]

    def _placed(self, dtype: np.dtype) -> np.ndarray:
        """Transform the taps, placed so that results begin at 0: (groups, o, i, ...)."""
        g = self._geometry
        taps = arranged(g, self._kernel, False)
        taps = taps.astype(np.result_type(taps.dtype, np.finfo(dtype).dtype))
        for a, each in zip(self._axes, self._lines, strict=True):
            taps = _put(taps, a, each.length, each.shift, -each.axis.dilation)
        spectrum = self._transform(taps)
        return spectrum.reshape(g.groups, -1, *spectrum.shape[1:])

    def _forward(self, x: np.ndarray) -> np.ndarray:
        """Pad, convolve, crop: (b, c_in, n1..nd) -> (b, c_out, o1..od)."""
        spectrum = self._transform(self._padding.pad(x))
        z = self._back(
            self._mixed(spectrum, self._spectrum(x.dtype, False), "bgi...,goi...->bgo...")
        )
        for a, each in zip(self._axes, self._lines, strict=True):
            z = _take(z, a, each.axis.out, each.axis.stride)
        return z

    def _adjoint(self, y: np.ndarray) -> np.ndarray:
        """Insert zeros, convolve with the conjugate, crop, fold: the adjoint of `_forward`."""
        for a, each in zip(self._axes, self._lines, strict=True):
            y = _put(y, a, each.length, 0, each.axis.stride)
        spectrum = self._transform(y)
        x = self._back(
            self._mixed(spectrum, self._spectrum(y.dtype, True), "bgo...,goi...->bgi...")
        )
        for a, each in zip(self._axes, self._lines, strict=True):
            x = x[_at(x, a, slice(0, each.samples))]
        return self._padding.adjoint(x)

    def _mixed(self, x: np.ndarray, spectrum: np.ndarray, how: str) -> np.ndarray:
        """Multiply transforms, over the channels of each group."""
        if spectrum.shape[:3] == (1, 1, 1):
            x *= spectrum[0, 0, 0]
            return x
        parts = x.reshape(len(x), self._geometry.groups, -1, *x.shape[2:])
        mixed = _arrays.namespace(x).einsum(how, parts, spectrum)
        return mixed.reshape(len(x), -1, *x.shape[2:])

    def _transform(self, x: np.ndarray) -> np.ndarray:
        return gpu.transforms(x, self._real)[0](x, self._lengths, self._axes)

    def _back(self, x: np.ndarray) -> np.ndarray:
        return gpu.transforms(x, self._real)[1](x, self._lengths, self._axes)


def _at(x: np.ndarray, axis: int, places: Any) -> tuple:
    return (slice(None),) * (x.ndim + axis) + (places,)


def _take(z: np.ndarray, axis: int, count: int, step: int) -> np.ndarray:
    """Return `count` samples of a periodic axis, `step` apart."""
    if step * (count - 1) < z.shape[axis]:
        return z[_at(z, axis, slice(0, step * (count - 1) + 1, step))]
    places = _arrays.namespace(z).arange(count) * step % z.shape[axis]
    return z[_at(z, axis, places)]


def _put(y: np.ndarray, axis: int, length: int, start: int, step: int) -> np.ndarray:
    """Add samples of an axis to zeros at ``(start + step i) % length``."""
    if (start, step, y.shape[axis]) == (0, 1, length):
        return y
    xp = _arrays.namespace(y)
    # Samples for the same place are added first: CuPy's add.at lacks complex numbers and
    # adds in no fixed order.
    y = _folded(y, axis, length // math.gcd(step, length))
    shape, count = list(y.shape), y.shape[axis]
    shape[axis] = length
    z = xp.zeros(shape, y.dtype)
    if start == 0 and step > 0 and step * (count - 1) < length:
        places: Any = slice(0, step * (count - 1) + 1, step)
    else:
        places = (start + step * xp.arange(count)) % length
    z[_at(z, axis, places)] = y
    return z


def _folded(y: np.ndarray, axis: int, period: int) -> np.ndarray:
    """Return the sums of samples of an axis that are whole periods apart."""
    count = y.shape[axis]
    if count <= period:
        return y
    total = y[_at(y, axis, slice(0, period))].copy()
    for begin in range(period, count, period):
        size = min(period, count - begin)
        part = y[_at(y, axis, slice(begin, begin + size))]
        total[_at(total, axis, slice(0, size))] += part
    return total
