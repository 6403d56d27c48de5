"""Downsampling, upsampling and resizing, with the coordinates of PyTorch and ONNX.

Positions are fractions with one common denominator, so only the last division rounds.
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
from linconv._options import finite, known, per_axis, positive, sizes, spread
from linconv.convolution import Conv, conv_matrix
from linconv.geometry import boundaries
from linconv.imaging.dtypes import data_decides
from linconv.operators import Identity, LinearOperator, Matrix, kron

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "align_corners",
    "asymmetric",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@data_decides
def downsample(
    in_shape: Sequence[int] | int, factor: Any, *, phase: Any = 0, dtype: Any = None
) -> LinearOperator:
    """Return the operator that keeps samples ``phase, phase + factor, ...`` of an axis.

    `downsample` does not smooth; `average_pool` and ``resize(..., antialias=True)`` do.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    factor : int or one per axis
        Distance of the kept samples; 1 keeps an axis as it is.
    phase : int or one per axis
        The first kept sample, below `factor`.
    dtype : dtype, optional
        Dtype of the matrix; by default float64, and products have the dtype of the data.

    Returns
    -------
    LinearOperator
        A `Conv` of one tap; an axis of n samples has ``ceil((n - phase) / factor)``.

    Raises
    ------
    ValueError, TypeError
        If an option is not an integer or out of its range, or no sample is kept.

    Examples
    --------
    >>> downsample(5, 2, phase=1, dtype=int).toarray()
    array([[0, 1, 0, 0, 0],
           [0, 0, 0, 1, 0]])
    """
    shape = sizes(in_shape, "in_shape")
    d = len(shape)
    steps = per_axis(factor, d, "factor", least=1)
    phases = per_axis(phase, d, "phase", least=0)
    if any(p >= s or p >= n for p, s, n in zip(phases, steps, shape, strict=True)):
        raise ValueError(
            "phase must be below the factor and the length of its axis, got phase "
            f"{phases} for factor {steps} and in_shape {shape}: crop first to start later"
        )
    return Conv(
        np.ones((1,) * d, int),
        shape,
        stride=steps,
        padding=[(-p, 0) for p in phases],
        dtype=dtype,
    )


@data_decides
def upsample(
    in_shape: Sequence[int] | int,
    factor: Any,
    *,
    phase: Any = 0,
    out_shape: Sequence[int] | int | None = None,
    dtype: Any = None,
) -> LinearOperator:
    """Return the operator that inserts zeros between samples, ``downsample(...).T``.

    Parameters
    ----------
    in_shape, factor, phase, dtype
        See `downsample`; sample i becomes sample ``phase + factor i``.
    out_shape : tuple of int, optional
        Shape of the output, ``factor n`` along an axis by default.

    Returns
    -------
    LinearOperator
        From `in_shape` to `out_shape`.

    Raises
    ------
    ValueError, TypeError
        As `downsample`, or if `out_shape` does not lead back to `in_shape`.

    Examples
    --------
    >>> upsample(2, 2, dtype=int).toarray()
    array([[1, 0],
           [0, 0],
           [0, 1],
           [0, 0]])
    """
    shape = sizes(in_shape, "in_shape")
    if out_shape is None:
        steps = per_axis(factor, len(shape), "factor", least=1)
        out_shape = [s * n for s, n in zip(steps, shape, strict=True)]
    down = downsample(out_shape, factor, phase=phase, dtype=dtype)
    if down.out_shape != shape:
        raise ValueError(
            f"out_shape {down.in_shape} leads back to {down.out_shape}, not to in_shape "
            f"{shape}: an axis needs factor (n - 1) + phase + 1 to factor n + phase samples"
        )
    return down.T


@data_decides
def resize(
    in_shape: Sequence[int] | int,
    out_shape: Sequence[int] | int | None = None,
    *,
    scale: Any = None,
    mode: str = "linear",
    coordinates: str | None = None,
    align_corners: bool | None = None,
    rounding: str | None = None,
    cubic: float | None = None,
    antialias: bool = False,
    boundary: Any = None,
    dtype: Any = None,
) -> LinearOperator:
    """Return the interpolation at `out_shape` positions, one axis after the other.

    Positions are computed in integers and divided once, so that no rounding error decides
    which sample is chosen.  The options have ONNX's names, and the results agree with ONNX
    and with `torch.nn.functional.interpolate`.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input; an axis whose positions do not change gets an identity.
    out_shape : tuple of int, optional
        Shape of the output; pass either `out_shape` or `scale`.
    scale : float, int, Fraction, or one per axis, optional
        An axis gets ``floor(n scale)`` samples, whose positions `scale` also decides.  A
        float stands for the simplest fraction that rounds to it: 0.1 is 1/10.
    mode : str
        "nearest", "linear" or "cubic".
    coordinates : str, optional
        Where sample i lies in the input, with r the scale and o the output's length:
        "half_pixel" (default) ``(i + 1/2) / r - 1/2``, "asymmetric" ``i / r``,
        "align_corners" ``i (n - 1) / (o - 1)``; "pytorch_half_pixel" differs from
        "half_pixel" for o = 1, which lies at 0, and "half_pixel_symmetric" by
        centring the output if ``n r`` is not whole.
    align_corners : bool, optional
        PyTorch's way to say `coordinates`: True "align_corners", False "half_pixel".
    rounding : str, optional
        For mode "nearest": "round_prefer_floor" (default, ONNX), "round_prefer_ceil"
        (PyTorch's "nearest-exact"), "floor" (with "asymmetric" PyTorch's "nearest") or
        "ceil".
    cubic : float, optional
        The parameter a of "cubic"; -0.75, with `antialias` -0.5, by default.
    antialias : bool
        Widen the filter of "linear" and "cubic" where an axis shrinks, as Pillow and
        PyTorch do, and divide it by its sum.
    boundary : str, one per axis, or one (lo, hi) pair per axis, optional
        The samples outside the input, see `conv_matrix`; "replicate" by default.
        With `antialias` the filter is, by default, cut off at the edges instead.
    dtype : dtype, optional
        Dtype of the matrix; by default float64, and products have the dtype of the data.

    Returns
    -------
    LinearOperator
        The Kronecker product of one sparse matrix per axis.

    Raises
    ------
    ValueError, TypeError
        If an option is none of these, contradicts another or would have no effect.

    References
    ----------
    ONNX operator Resize, version 19.  Keys, "Cubic convolution interpolation for
    digital image processing", IEEE Trans. ASSP 29 (1981) 1153-1160, eq. (14)-(15),
    doi:10.1109/TASSP.1981.1163711.

    Examples
    --------
    >>> resize(2, 4).toarray()
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    >>> resize(4, scale=0.5, mode="nearest", dtype=int).toarray()
    array([[1, 0, 0, 0],
           [0, 0, 1, 0]])
    """
    shape = sizes(in_shape, "in_shape")
    ratios, lengths = ratios_and_lengths(shape, out_shape, scale)
    how = sampler(mode, coordinates, align_corners, rounding, cubic, antialias, boundary)
    rules = boundaries("replicate" if boundary is None else boundary, len(shape))
    parts = [
        how.matrix(n, o, ratio, rule, dtype)
        for n, o, ratio, rule in zip(shape, lengths, ratios, rules, strict=True)
    ]
    return parts[0] if len(parts) == 1 else kron(*parts)


def ratios_and_lengths(
    shape: tuple[int, ...], out_shape: Any, scale: Any
) -> tuple[list[Fraction], tuple[int, ...]]:
    """Return the scale and the output length of every axis."""
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
        """Return the samples nearest to the positions ``at / whole``."""
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
                f"align_corners={corners} means coordinates={said!r}, but coordinates="
                f"{coordinates!r} was given: give one of them"
            )
        coordinates = said
    coordinates = known(coordinates or "half_pixel", _COORDINATES, "coordinates")
    if rounding is not None and mode != "nearest":
        raise ValueError(f"rounding={rounding!r} needs mode 'nearest', got mode={mode!r}")
    if cubic is not None and mode != "cubic":
        raise ValueError(f"cubic={cubic!r} needs mode 'cubic', got mode={mode!r}")
    if smooth and (mode == "nearest" or coordinates != "half_pixel"):
        raise ValueError(
            "antialias=True needs mode 'linear' or 'cubic' and coordinates 'half_pixel', "
            f"got mode={mode!r} and coordinates={coordinates!r}"
        )
    rounding = known(rounding or _ROUNDINGS[0], _ROUNDINGS, "rounding")
    if cubic is None:
        cubic = -0.5 if smooth else -0.75  # Pillow's and PyTorch's
    cubic = float(finite(cubic, "cubic"))
    cut = bool(smooth) and rule is None
    return Sampler(mode, coordinates, rounding, cubic, bool(smooth), cut)
