"""Named operators of imaging: differences, resampling, padding, pooling.

Each is a `Conv` or a few operators put together, so adjoints are exact.  Options are
given once or one per axis of `in_shape`; an axis of channels is an axis with factor
or size 1, or one that `axes` leaves out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from linconv import _arrays
from linconv._options import integer, paddings, per_axis, sizes, spread
from linconv._sampling import (
    differentiated,
    known,
    positive,
    ratios_and_lengths,
    sampler,
    windows,
)
from linconv.blocks import Diagonal, kron, vstack
from linconv.convolution import Conv
from linconv.geometry import boundaries
from linconv.linop import Identity, LinearOperator, Restriction

# Taps, their distance, and the padding that keeps an axis as long as it is.
_DIFFERENCES: dict[str, tuple[list[Any], int, tuple[int, int]]] = {
    "forward": ([-1, 1], 1, (0, 1)),
    "backward": ([-1, 1], 1, (1, 0)),
    "central": ([-0.5, 0.5], 2, (1, 1)),
}


def gradient(
    in_shape: Sequence[int] | int,
    *,
    axes: Sequence[int] | int | None = None,
    kind: str = "forward",
    spacing: Any = 1,
    boundary: Any = "replicate",
    dtype: Any = float,
) -> LinearOperator:
    """Return the differences of neighbours along each axis: ``y[a] = D_a x``.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    axes : int or sequence of int, optional
        Axes to differentiate along, all by default.
    kind : str
        "forward" is ``x[i + 1] - x[i]``, "backward" is ``x[i] - x[i - 1]``, "central"
        is ``(x[i + 1] - x[i - 1]) / 2``.
    spacing : float or one per entry of `axes`
        Distance of samples; differences are divided by it.
    boundary : str, one per entry of `axes`, or one (lo, hi) pair per entry
        What is read outside the input, see `conv_matrix`.  With "replicate" a
        one-sided difference across the edge is 0.
    dtype : dtype
        Of the matrix.

    Returns
    -------
    LinearOperator
        Its `out_shape` is ``(len(axes), *in_shape)``, for one axis too.

    Raises
    ------
    ValueError, TypeError
        If an option is none of these, or `dtype` cannot hold the taps.

    References
    ----------
    Chambolle, "An algorithm for total variation minimization and applications",
    J. Math. Imaging Vision 20 (2004) 89-97, section 2,
    doi:10.1023/B:JMIV.0000011325.36760.1e: forward differences with "replicate".

    Examples
    --------
    >>> gradient(4, dtype=int).toarray()
    array([[-1,  1,  0,  0],
           [ 0, -1,  1,  0],
           [ 0,  0, -1,  1],
           [ 0,  0,  0,  0]])
    >>> gradient((2, 3)).out_shape
    (2, 2, 3)
    """
    shape = sizes(in_shape, "in_shape")
    d = len(shape)
    taps, dilation, pad = _DIFFERENCES[known(kind, tuple(_DIFFERENCES), "kind")]
    parts: list[LinearOperator] = []
    for a, h, rule in differentiated(axes, spacing, boundary, d):
        parts.append(
            Conv(
                np.reshape(taps if h == 1 else np.divide(taps, h), _only(a, d, 2, 1)),
                shape,
                padding=_only(a, d, pad, (0, 0)),
                dilation=_only(a, d, dilation, 1),
                boundary=_only(a, d, rule, "zeros"),
                dtype=dtype,
            )
        )
    if len(parts) == 1:  # vstack would add no axis; the identity only gives a shape
        return Identity((1, *shape), dtype) @ parts[0]
    return vstack(parts)


def divergence(
    in_shape: Sequence[int] | int,
    *,
    axes: Sequence[int] | int | None = None,
    kind: str = "forward",
    spacing: Any = 1,
    boundary: Any = "replicate",
    dtype: Any = float,
) -> LinearOperator:
    """Return the divergence, ``-gradient(...).T``: from one array per axis to one.

    Parameters
    ----------
    in_shape, axes, kind, spacing, boundary, dtype
        Those of the `gradient`; `in_shape` is the shape of the *output* here.

    Returns
    -------
    LinearOperator
        From ``(len(axes), *in_shape)`` to `in_shape`.

    Raises
    ------
    ValueError, TypeError
        As `gradient`.

    Examples
    --------
    >>> divergence(4, dtype=int).toarray()
    array([[ 1,  0,  0,  0],
           [-1,  1,  0,  0],
           [ 0, -1,  1,  0],
           [ 0,  0, -1,  0]])
    """
    options: dict[str, Any] = {"axes": axes, "kind": kind, "spacing": spacing}
    return -gradient(in_shape, boundary=boundary, dtype=dtype, **options).T


def laplacian(
    in_shape: Sequence[int] | int,
    *,
    axes: Sequence[int] | int | None = None,
    spacing: Any = 1,
    boundary: Any = "replicate",
    dtype: Any = float,
    method: str = "auto",
) -> LinearOperator:
    """Return the sum of second differences, ``x[i + 1] - 2 x[i] + x[i - 1]`` per axis.

    One `Conv` with 2 d + 1 taps that are not zero.  With "replicate" and with
    "circular" it is ``divergence(...) @ gradient(...)`` of forward differences.

    Parameters
    ----------
    in_shape, axes, boundary, dtype
        See `gradient`.
    spacing : float or one per entry of `axes`
        Distance of samples; second differences are divided by its square.
    method : str
        How products are computed, see `Conv`.

    Returns
    -------
    LinearOperator
        From `in_shape` to `in_shape`.

    Raises
    ------
    ValueError, TypeError
        As `gradient`.

    References
    ----------
    LeVeque, "Finite Difference Methods for Ordinary and Partial Differential
    Equations", SIAM 2007, section 3.2, doi:10.1137/1.9780898717839.

    Examples
    --------
    >>> laplacian(4, boundary="zeros", dtype=int).toarray()
    array([[-2,  1,  0,  0],
           [ 1, -2,  1,  0],
           [ 0,  1, -2,  1],
           [ 0,  0,  1, -2]])
    >>> laplacian((9, 9), dtype=int).kernel
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    """
    shape = sizes(in_shape, "in_shape")
    d = len(shape)
    along = differentiated(axes, spacing, boundary, d)
    rules = {a: rule for a, _, rule in along}
    kernel: Any = 0
    for a, h, _ in along:
        taps = np.array([1, -2, 1]) if h == 1 else np.array([1, -2, 1]) * (1 / h) ** 2
        around = [int(b in rules and b != a) for b in range(d)]
        kernel = kernel + np.pad(taps.reshape(_only(a, d, 3, 1)), [(w, w) for w in around])
    return Conv(
        kernel,
        shape,
        padding=[int(b in rules) for b in range(d)],
        boundary=[rules.get(b, "zeros") for b in range(d)],
        dtype=dtype,
        method=method,
    )


def downsample(
    in_shape: Sequence[int] | int, factor: Any, *, phase: Any = 0, dtype: Any = float
) -> LinearOperator:
    """Return the operator that keeps samples ``phase, phase + factor, ...`` of an axis.

    Nothing is smoothed; `average_pool` and ``resize(..., antialias=True)`` do that.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    factor : int or one per axis
        Distance of the samples that stay; 1 keeps an axis.
    phase : int or one per axis
        The first of them, below `factor`.
    dtype : dtype
        Of the ones in the matrix.

    Returns
    -------
    LinearOperator
        A `Conv` of one tap; an axis of n samples has ``ceil((n - phase) / factor)``.

    Raises
    ------
    ValueError, TypeError
        If an option is not an integer or out of its range, or nothing is kept.

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


def upsample(
    in_shape: Sequence[int] | int,
    factor: Any,
    *,
    phase: Any = 0,
    out_shape: Sequence[int] | int | None = None,
    dtype: Any = float,
) -> LinearOperator:
    """Return the operator that puts zeros between samples, ``downsample(...).T``.

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
    dtype: Any = float,
) -> LinearOperator:
    """Return the interpolation at `out_shape` places, one axis after the other.

    Places are computed with integers and divided once, so that no sample is chosen by
    a rounding error.  The words are those of ONNX, whose results, like those of
    `torch.nn.functional.interpolate`, it gives.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input; an axis that keeps its places gets an identity.
    out_shape : tuple of int, optional
        Shape of the output.  Either this or `scale`.
    scale : float, int, Fraction, or one per axis, optional
        An axis gets ``floor(n scale)`` samples, whose places it also decides.  A float
        is the simplest fraction that rounds to it: 0.1 is 1/10.
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
        Of "nearest": "round_prefer_floor" (default, ONNX), "round_prefer_ceil"
        (PyTorch's "nearest-exact"), "floor" (with "asymmetric" PyTorch's "nearest") or
        "ceil".
    cubic : float, optional
        The parameter a of "cubic"; -0.75, with `antialias` -0.5, by default.
    antialias : bool
        Widen the filter of "linear" and "cubic" where an axis shrinks, as Pillow and
        PyTorch do, and divide it by its sum.
    boundary : str, one per axis, or one (lo, hi) pair per axis, optional
        What is read outside the input, see `conv_matrix`; "replicate" by default.
        With `antialias` the filter is, by default, cut at the edges instead.
    dtype : dtype
        Of the matrix.

    Returns
    -------
    LinearOperator
        The Kronecker product of one sparse matrix per axis.

    Raises
    ------
    ValueError, TypeError
        If an option is none of these, contradicts another or would be without effect.

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


def pad(
    in_shape: Sequence[int] | int,
    padding: Any,
    *,
    boundary: Any = "zeros",
    dtype: Any = float,
) -> LinearOperator:
    """Return the operator that continues an array beyond its edges, as `numpy.pad`.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    padding : int, one per axis, or one (lo, hi) pair per axis
        Samples to add, as many as you like; negative ones crop.
    boundary : str, one per axis, or one (lo, hi) pair per axis
        What they are, see `conv_matrix`.
    dtype : dtype
        Of the matrix.

    Returns
    -------
    LinearOperator
        A `Conv` of one tap.

    Raises
    ------
    ValueError, TypeError
        As `conv_matrix`, or if `padding` is a word.

    Examples
    --------
    >>> pad(3, [(2, 1)], boundary="reflect", dtype=int).toarray()
    array([[0, 0, 1],
           [0, 1, 0],
           [1, 0, 0],
           [0, 1, 0],
           [0, 0, 1],
           [0, 1, 0]])
    """
    shape = sizes(in_shape, "in_shape")
    pads = paddings(padding, len(shape))
    if any(isinstance(entry, str) for entry in pads):
        raise ValueError(
            f"padding of pad() must be numbers of samples, got {padding!r}: a word needs a "
            "kernel, pass it to Conv"
        )
    taps = np.ones((1,) * len(shape), int)
    return Conv(taps, shape, padding=pads, boundary=boundary, dtype=dtype)


def crop(in_shape: Sequence[int] | int, margins: Any, *, dtype: Any = float) -> LinearOperator:
    """Return the operator that takes margins off an array.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    margins : int, one per axis, or one (lo, hi) pair per axis
        Samples to take off, at least 0.
    dtype : dtype
        Of the ones in the matrix.

    Returns
    -------
    LinearOperator
        A `Restriction`; its transpose pads with zeros.

    Raises
    ------
    ValueError, TypeError
        If `margins` are none of these or leave nothing.

    Examples
    --------
    >>> crop(4, [(1, 2)], dtype=int).toarray()
    array([[0, 1, 0, 0]])
    """
    shape = sizes(in_shape, "in_shape")
    pairs = [spread(entry, 2) for entry in spread(margins, len(shape))]
    if len(pairs) != len(shape) or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            "margins must be an integer, one per axis or one (lo, hi) pair per axis: "
            f"expected {len(shape)} entries, got {margins!r}"
        )
    kept = []
    for a, (n, pair) in enumerate(zip(shape, pairs, strict=True)):
        lo, hi = (integer(margin, "margins") for margin in pair)
        if min(lo, hi) < 0 or lo + hi >= n:
            raise ValueError(
                f"margins must be >= 0 and leave a sample, got {(lo, hi)} for the {n} samples "
                f"of axis {a}; pad() adds samples"
            )
        kept.append(slice(lo, n - hi))
    one = _arrays.as_values(1, dtype, "1")  # refuses a dtype that no matrix can have
    return Restriction(tuple(kept), shape, dtype=one.dtype)


def average_pool(
    in_shape: Sequence[int] | int,
    size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
    boundary: Any = "zeros",
    dtype: Any = float,
) -> LinearOperator:
    """Return the means of windows, those of PyTorch's and ONNX's average pooling.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    size : int or one per axis
        Samples of a window; 1 for an axis of channels.
    stride : int or one per axis, optional
        Distance of windows, `size` by default.
    padding : int, one per axis, one (lo, hi) pair per axis, or a word
        See `conv_matrix`; not negative.
    dilation : int or one per axis
        Distance of the samples of a window.
    ceil_mode : bool
        Add a window that hangs over the end, if it starts before it (padding at the
        end does not count there).
    count_include_pad : bool
        Whether zeros of the padding count; what hangs over never does.  ONNX's default
        is False.
    divisor_override : float, optional
        Divide by this instead of the number of samples; 1 gives sums.
    boundary : str, one per axis, or one (lo, hi) pair per axis
        See `conv_matrix`.  Samples of another rule than "zeros" always count.
    dtype : dtype
        Of the matrix.

    Returns
    -------
    LinearOperator
        One `Conv` if all windows count as many samples, else ``Diagonal @ Conv``.

    Raises
    ------
    ValueError, TypeError
        If an option is none of these, or a window sees no sample at all.

    References
    ----------
    ONNX operator AveragePool, version 22; `torch.nn.AvgPool2d`.

    Examples
    --------
    >>> average_pool(5, 2, ceil_mode=True).toarray()
    array([[0.5, 0.5, 0. , 0. , 0. ],
           [0. , 0. , 0.5, 0.5, 0. ],
           [0. , 0. , 0. , 0. , 1. ]])
    """
    shape = sizes(in_shape, "in_shape")
    d = len(shape)
    taps = per_axis(size, d, "size", least=1)
    steps = taps if stride is None else per_axis(stride, d, "stride", least=1)
    gaps = per_axis(dilation, d, "dilation", least=1)
    options = (shape, taps, steps, gaps, paddings(padding, d), boundaries(boundary, d))
    along = windows(*options, ceil_mode)
    counts = functools.reduce(
        np.multiply.outer, (axis.counts(count_include_pad) for axis in along)
    )
    if divisor_override is not None:
        counts = np.full((1,) * d, float(positive(divisor_override, "divisor_override")))
    ones = np.ones(taps, int)
    same = counts.min() == counts.max()
    pool = Conv(
        ones if not same or counts.flat[0] == 1 else ones / counts.flat[0],
        shape,
        stride=steps,
        padding=[(axis.lo, axis.hi) for axis in along],
        dilation=gaps,
        boundary=[axis.rules for axis in along],
        dtype=dtype,
    )
    return pool if same else Diagonal(1 / counts, dtype=dtype) @ pool


def _only(a: int, d: int, value: Any, others: Any) -> tuple[Any, ...]:
    """Return an option per axis: `value` along axis `a`."""
    return tuple(value if b == a else others for b in range(d))
