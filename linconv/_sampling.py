"""What `imaging` reads along one axis: neighbours, the places of `resize`, windows.

Places are fractions with one denominator and integers until the last division.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from linconv import _arrays
from linconv._options import integer, named_padding, sizes, spread
from linconv.convolution import conv_matrix
from linconv.geometry import Boundary, boundaries
from linconv.linop import Identity, LinearOperator, Matrix

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "align_corners",
    "asymmetric",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def known(word: Any, words: Sequence[str], name: str) -> str:
    """Return `word` if it is one of `words`."""
    if word not in words:
        raise ValueError(
            f"unknown {name} {word!r}: it is one of {', '.join(map(repr, words))}"
        )
    return word


def finite(value: Any, name: str) -> Any:
    """Return `value` if it is a real, finite number."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return value


def positive(value: Any, name: str) -> Any:
    """Return `value` if it is a real, finite number above 0."""
    if finite(value, name) <= 0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return value


def differentiated(
    axes: Any, spacing: Any, boundary: Any, d: int
) -> list[tuple[int, float, Any]]:
    """Return ``(axis, spacing, boundary pair)`` of every axis to differentiate along."""
    entries = tuple(integer(a, "axes") for a in spread(range(d) if axes is None else axes, 1))
    chosen = [a % d for a in entries if -d <= a < d]
    if not chosen or len(set(chosen)) != len(entries):
        raise ValueError(
            f"axes must be distinct axes of an array that has {d}, each in "
            f"{-d}..{d - 1}, got {entries}"
        )
    steps = spread(spacing, len(chosen))
    if len(steps) != len(chosen):
        raise ValueError(
            f"spacing must be one number or one per axis: expected {len(chosen)}, "
            f"got {len(steps)} in {steps}"
        )
    steps = [float(positive(h, "spacing")) for h in steps]
    return list(zip(chosen, steps, boundaries(boundary, len(chosen)), strict=True))


def ratios_and_lengths(
    shape: tuple[int, ...], out_shape: Any, scale: Any
) -> tuple[list[Fraction], tuple[int, ...]]:
    """Return the scale and the output's length of every axis."""
    if (out_shape is None) == (scale is None):
        raise ValueError(
            f"give one of out_shape and scale, got out_shape={out_shape} and scale={scale}"
        )
    d = len(shape)
    entries = spread(scale, d) if out_shape is None else sizes(out_shape, "out_shape")
    if len(entries) != d:
        raise ValueError(
            f"{'scale' if out_shape is None else 'out_shape'} must have one entry per axis "
            f"of in_shape {shape}, got {entries}"
        )
    if out_shape is not None:
        return [Fraction(o, n) for n, o in zip(shape, entries, strict=True)], entries
    ratios = [_simplest(entry) for entry in entries]
    lengths = tuple(math.floor(n * ratio) for n, ratio in zip(shape, ratios, strict=True))
    if min(lengths) < 1:
        raise ValueError(
            f"the output would be empty: scale {entries} of in_shape {shape} gives {lengths}"
        )
    return ratios, lengths


def _simplest(scale: Any) -> Fraction:
    """Return a simple fraction that rounds to `scale`: 0.1 is 1/10."""
    if isinstance(positive(scale, "scale"), numbers.Rational):
        return Fraction(scale)
    kind: Any = type(scale)
    exact = Fraction(float(scale))
    tries = (exact.limit_denominator(10**digits) for digits in range(1, 17))
    return next((ratio for ratio in tries if kind(ratio) == scale), exact)


@dataclass(frozen=True)
class Sampler:
    """How `resize` interpolates, the same along every axis."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    antialias: bool
    cut: bool

    def matrix(
        self, n: int, o: int, ratio: Fraction, rules: Any, dtype: Any
    ) -> LinearOperator:
        """Return the operator from n to o samples."""
        dtype = _arrays.matrix_dtype(_arrays.as_values(1, dtype, "the weights").dtype)
        a, b, whole = self.places(n, o, ratio)  # output i lies at (a i + b) / whole
        if (o, a, b) == (n, whole, 0):
            return Identity(n, dtype)
        widen = max(Fraction(1), 1 / ratio) if self.antialias else Fraction(1)
        reach = math.ceil((2 if self.mode == "cubic" else 1) * widen)
        most = (a * o + abs(b) + 2 * whole * (n + reach)) * widen.numerator
        at = np.arange(o).astype(np.int64 if most < 2**53 else object) * a + b
        if self.mode == "nearest":
            columns = self.nearest(at, whole)[:, None]
            weights = np.ones((o, 1), int)
        else:
            columns = (at // whole)[:, None] + np.arange(1 - reach, reach + 1)
            distance = abs(columns * whole - at[:, None]) * widen.denominator
            weights = self.filter((distance / (whole * widen.numerator)).astype(float))
            if self.cut:
                weights[(columns < 0) | (columns >= n)] = 0
            if self.antialias:
                weights /= weights.sum(axis=1, keepdims=True)
        rows, taps = np.nonzero(weights)
        columns = columns.astype(np.int64)[rows, taps]
        lo, hi = max(0, -columns.min()), max(0, columns.max() + 1 - n)
        values = _arrays.as_values(weights[rows, taps], dtype, "the weights")
        sampled = csr_array((values, (rows, columns + lo)), shape=(o, n + lo + hi))
        padded = conv_matrix([1], n, padding=[(lo, hi)], boundary=[rules], dtype=dtype)
        return Matrix(sampled @ padded)

    def places(self, n: int, o: int, ratio: Fraction) -> tuple[int, int, int]:
        """Return integers (a, b, whole): output i lies at ``(a i + b) / whole``."""
        p, q = ratio.numerator, ratio.denominator
        if self.coordinates == "align_corners":
            return (n - 1, 0, o - 1) if o > 1 else (1, 0, 1)
        if self.coordinates == "asymmetric":
            return q, 0, p
        if self.coordinates == "half_pixel_symmetric":
            return 2 * q, (n - 1) * p - (o - 1) * q, 2 * p
        if self.coordinates == "pytorch_half_pixel" and o == 1:
            return 1, 0, 1
        return 2 * q, q - p, 2 * p

    def nearest(self, at: np.ndarray, whole: int) -> np.ndarray:
        """Return the samples next to the places ``at / whole``."""
        if self.rounding == "floor":
            return at // whole
        if self.rounding == "ceil":
            return -(-at // whole)
        if self.rounding == "round_prefer_ceil":
            return (2 * at + whole) // (2 * whole)
        return -((whole - 2 * at) // (2 * whole))

    def filter(self, t: np.ndarray) -> np.ndarray:
        """Return the weights of samples at distances t >= 0."""
        if self.mode == "linear":
            return np.maximum(1 - t, 0)
        a = self.cubic
        inner = ((a + 2) * t - (a + 3)) * t * t + 1
        outer = a * (((t - 5) * t + 8) * t - 4)
        return np.where(t < 1, inner, np.where(t < 2, outer, 0))


def sampler(
    mode: str,
    coordinates: Any,
    corners: Any,
    rounding: Any,
    cubic: Any,
    smooth: bool,
    rule: Any,
) -> Sampler:
    """Check the options of `resize` against one another and fill in defaults."""
    known(mode, _MODES, "mode")
    if corners is not None:
        if not isinstance(corners, (bool, np.bool_)):
            raise TypeError(f"align_corners must be True, False or None, got {corners!r}")
        said = "align_corners" if corners else "half_pixel"
        if coordinates not in (None, said):
            raise ValueError(
                f"align_corners={corners} says coordinates={said!r}, but coordinates="
                f"{coordinates!r} was given: give one of them"
            )
        coordinates = said
    coordinates = known(coordinates or "half_pixel", _COORDINATES, "coordinates")
    if rounding is not None and mode != "nearest":
        raise ValueError(f"rounding={rounding!r} is of mode 'nearest', got mode={mode!r}")
    if cubic is not None and mode != "cubic":
        raise ValueError(f"cubic={cubic!r} is of mode 'cubic', got mode={mode!r}")
    if smooth and (mode == "nearest" or coordinates != "half_pixel"):
        raise ValueError(
            "antialias=True is of mode 'linear' or 'cubic' and coordinates 'half_pixel', "
            f"got mode={mode!r} and coordinates={coordinates!r}"
        )
    rounding = known(rounding or _ROUNDINGS[0], _ROUNDINGS, "rounding")
    if cubic is None:
        cubic = -0.5 if smooth else -0.75  # Pillow's and PyTorch's
    cubic = float(finite(cubic, "cubic"))
    cut = bool(smooth) and rule is None
    return Sampler(mode, coordinates, rounding, cubic, bool(smooth), cut)


@dataclass(frozen=True)
class Window:
    """The windows of `average_pool` along one axis of n samples."""

    n: int
    k: int
    stride: int
    dilation: int
    lo: int
    asked: int  # padding at the end
    hi: int  # padding that gives `out` windows, which may hang over the end
    out: int
    rules: tuple[Boundary, Boundary]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return how many taps each window has at positions start..stop-1."""
        first = self.stride * np.arange(self.out) - self.lo
        taps = (first + self.dilation * t for t in range(self.k))
        return sum(((j >= start) & (j < stop) for j in taps), np.zeros(self.out, int))

    def counts(self, include: bool) -> np.ndarray:
        """Return how many samples each window counts."""
        below, above = (rule is Boundary.ZEROS for rule in self.rules)
        start = 0 if below and not include else -self.lo
        stop = self.n + (self.asked if include else 0) if above else self.n + self.hi
        return self.read(start, stop)


def windows(
    shape: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[Any],
    rules: Sequence[tuple[Boundary, Boundary]],
    ceil_mode: bool,
) -> list[Window]:
    """Return the windows along every axis; options have one entry per axis."""
    options = zip(shape, size, stride, dilation, padding, rules, strict=True)
    return [
        _window(a, n, k, s, d, pad, pair, ceil_mode)
        for a, (n, k, s, d, pad, pair) in enumerate(options)
    ]


def _window(
    a: int, n: int, k: int, s: int, d: int, pad: Any, rules: Any, ceil_mode: bool
) -> Window:
    """Return the windows along axis `a`, all of which see a sample."""
    extent = d * (k - 1) + 1
    if isinstance(pad, str):
        pad = named_padding(pad, (-(-n // s) - 1) * s + extent - n, extent)
    lo, hi = pad
    if min(pad) < 0:
        raise ValueError(f"padding must be >= 0, got {pad} for axis {a}: use crop() first")
    room = n + lo + hi - extent
    out = room // s + 1
    if ceil_mode:  # the last window may hang over the end, but not start there
        out = min(-(-room // s) + 1, -(-(n + lo) // s))
    if out < 1:
        raise ValueError(
            f"the output would be empty along axis {a}: n + lo + hi = {n + lo + hi} samples, "
            f"but a window spans d (k - 1) + 1 = {extent}; pad more or use smaller windows"
        )
    reached = s * (out - 1) + extent - n - lo if ceil_mode else hi
    window = Window(n, k, s, d, lo, hi, reached, out, rules)
    blind = np.flatnonzero(window.counts(False) == 0)
    if blind.size:
        raise ValueError(
            f"window {blind[0]} along axis {a} sees no sample: size {k}, stride {s}, dilation "
            f"{d} and padding {pad} of {n} samples; pad less, or use another boundary rule"
        )
    return window
