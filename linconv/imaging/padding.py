"""Padding by the boundary rules, and cropping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from linconv import _arrays
from linconv._options import integer, paddings, sizes, spread
from linconv.convolution import Conv
from linconv.imaging.dtypes import data_decides
from linconv.operators import LinearOperator, Restriction


@data_decides
def pad(
    in_shape: Sequence[int] | int, padding: Any, *, boundary: Any = "zeros", dtype: Any = None
) -> LinearOperator:
    """Return the operator that extends an array beyond its edges, as `numpy.pad` does.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    padding : int, one per axis, or one (lo, hi) pair per axis
        Number of samples to add, which may exceed the input's; negative numbers crop.
    boundary : str, one per axis, or one (lo, hi) pair per axis
        Values of the added samples, see `conv_matrix`.
    dtype : dtype, optional
        Dtype of the matrix; by default float64, and products have the dtype of the data.

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


@data_decides
def crop(in_shape: Sequence[int] | int, margins: Any, *, dtype: Any = None) -> LinearOperator:
    """Return the operator that removes margins from an array.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    margins : int, one per axis, or one (lo, hi) pair per axis
        Number of samples to remove, at least 0.
    dtype : dtype, optional
        Dtype of the matrix; by default float64, and products have the dtype of the data.

    Returns
    -------
    LinearOperator
        A `Restriction`; its transpose pads with zeros.

    Raises
    ------
    ValueError, TypeError
        If `margins` are none of these or leave no sample.

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
    one = _arrays.as_values(1, dtype, "1")  # raises where no matrix has this dtype
    return Restriction(tuple(kept), shape, dtype=one.dtype)
