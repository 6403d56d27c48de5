"""Finite differences: gradient, divergence and Laplacian.

Each is a stack of convolutions along single axes, so adjoints are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from linconv._options import integer, known, positive, sizes, spread
from linconv.convolution import Conv
from linconv.geometry import boundaries
from linconv.imaging.dtypes import data_decides
from linconv.operators import LinearOperator, vstack

# Taps, their dilation, and the padding with which the output is as long as the input.
_DIFFERENCES: dict[str, tuple[list[Any], int, tuple[int, int]]] = {
    "forward": ([-1, 1], 1, (0, 1)),
    "backward": ([-1, 1], 1, (1, 0)),
    "central": ([-0.5, 0.5], 2, (1, 1)),
}


@data_decides
def gradient(
    in_shape: Sequence[int] | int,
    *,
    axes: Sequence[int] | int | None = None,
    kind: str = "forward",
    spacing: Any = 1,
    boundary: Any = "replicate",
    dtype: Any = None,
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
        Distance of samples, by which differences are divided.
    boundary : str, one per entry of `axes`, or one (lo, hi) pair per entry
        The samples outside the input, see `conv_matrix`.  With "replicate" a
        one-sided difference across the edge is 0.
    dtype : dtype, optional
        Dtype of the matrix; by default float64, and products have the dtype of the data.

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
    parts: list[LinearOperator] = [
        Conv(
            np.reshape(taps if h == 1 else np.divide(taps, h), _only(a, d, 2, 1)),
            shape,
            padding=_only(a, d, pad, (0, 0)),
            dilation=_only(a, d, dilation, 1),
            boundary=_only(a, d, rule, "zeros"),
            dtype=dtype,
        )
        for a, h, rule in differentiated(axes, spacing, boundary, d)
    ]
    if len(parts) == 1:  # vstack of one operator adds no axis
        return parts[0].reshape(out_shape=(1, *shape))
    return vstack(parts)


@data_decides
def divergence(
    in_shape: Sequence[int] | int,
    *,
    axes: Sequence[int] | int | None = None,
    kind: str = "forward",
    spacing: Any = 1,
    boundary: Any = "replicate",
    dtype: Any = None,
) -> LinearOperator:
    """Return the divergence, ``-gradient(...).T``: from one array per axis to one.

    Parameters
    ----------
    in_shape, axes, kind, spacing, boundary, dtype
        See `gradient`; `in_shape` is the shape of the *output* of the divergence.

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


@data_decides
def laplacian(
    in_shape: Sequence[int] | int,
    *,
    axes: Sequence[int] | int | None = None,
    spacing: Any = 1,
    boundary: Any = "replicate",
    dtype: Any = None,
    method: str = "auto",
) -> LinearOperator:
    """Return the sum of second differences, ``x[i + 1] - 2 x[i] + x[i - 1]`` per axis.

    The operator is one `Conv` with 2 d + 1 nonzero taps.  With "replicate" and "circular"
    it equals ``divergence(...) @ gradient(...)`` of forward differences.

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


def _only(a: int, d: int, value: Any, others: Any) -> tuple[Any, ...]:
    """Return one entry per axis: `value` for axis `a`, and `others`."""
    return tuple(value if b == a else others for b in range(d))


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
