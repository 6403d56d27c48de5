"""Average pooling, with the options of PyTorch and ONNX."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from linconv._options import (
    named_padding,
    one_for_all_axes,
    paddings,
    per_axis,
    positive,
    sizes,
)
from linconv.convolution import Conv, conv_matrix
from linconv.geometry import Boundary, boundaries
from linconv.imaging.dtypes import data_decides
from linconv.operators import Diagonal, LinearOperator


@data_decides
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
    dtype: Any = None,
) -> LinearOperator:
    """Return the means of windows, those of PyTorch's and ONNX's average pooling.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of the input.
    size : int or one per axis
        Samples of a window; 1 for an axis of channels.  One int stands for all axes where
        there are one or two.
    stride : int or one per axis, optional
        Distance of windows, `size` by default.
    padding : int, one per axis, one (lo, hi) pair per axis, or a word
        See `conv_matrix`; not negative.
    dilation : int or one per axis
        Distance of the samples of a window.
    ceil_mode : bool
        Add a window that extends beyond the padded end, if it starts before the padding at
        the end.
    count_include_pad : bool
        Whether zeros of the padding count; samples beyond the padded end never do.  ONNX's
        default is False.
    divisor_override : float, optional
        Divide by this instead of the number of samples; 1 gives sums.
    boundary : str, one per axis, or one (lo, hi) pair per axis
        See `conv_matrix`.  Samples of another rule than "zeros" always count.
    dtype : dtype, optional
        Dtype of the matrix; by default float64, and products have the dtype of the data.

    Returns
    -------
    LinearOperator
        A `Conv` if all windows count the same number of samples, else ``Diagonal @ Conv``.

    Raises
    ------
    ValueError, TypeError
        If an option is none of these, or a window contains no sample at all.

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
    one_for_all_axes(size, shape, "size")
    taps = per_axis(size, d, "size", least=1)
    steps = taps if stride is None else per_axis(stride, d, "stride", least=1)
    gaps = per_axis(dilation, d, "dilation", least=1)
    rules = boundaries(boundary, d)
    options = zip(shape, taps, steps, gaps, paddings(padding, d), rules, strict=True)
    along = [_windows(a, each, ceil_mode, count_include_pad) for a, each in enumerate(options)]
    counts = functools.reduce(np.multiply.outer, (counted for _, counted in along))
    if divisor_override is not None:
        counts = np.full((1,) * d, float(positive(divisor_override, "divisor_override")))
    ones = np.ones(taps, int)
    same = counts.min() == counts.max()
    pool = Conv(
        ones if not same or counts.flat[0] == 1 else ones / counts.flat[0],
        shape,
        stride=steps,
        padding=[pad for pad, _ in along],
        dilation=gaps,
        boundary=rules,
        dtype=dtype,
    )
    return pool if same else Diagonal(1 / counts, dtype=dtype) @ pool


def _windows(
    a: int, options: tuple, ceil_mode: bool, include: bool
) -> tuple[tuple[int, int], np.ndarray]:
    """Return the padding along axis `a`, and the number of samples that each window counts."""
    n, k, s, d, pad, rules = options
    extent = d * (k - 1) + 1
    lo, hi = pad = named_padding(pad, n, s, extent)
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
    length = lo + n + reached
    sums = conv_matrix(np.ones(k, int), length, stride=s, dilation=d)

    def counts(zeros: bool) -> np.ndarray:
        """Count samples that are not zero padding, or with `zeros` the wanted padding too."""
        below, above = (rule is Boundary.ZEROS for rule in rules)
        start = lo if below and not zeros else 0
        stop = lo + n + (hi if zeros else 0) if above else length
        places = np.arange(length)
        return sums @ ((places >= start) & (places < stop)).astype(int)

    if (blind := np.flatnonzero(counts(False) == 0)).size:
        raise ValueError(
            f"window {blind[0]} along axis {a} sees no sample: size {k}, stride {s}, dilation "
            f"{d} and padding {pad} of {n} samples; pad less, or use another boundary rule"
        )
    return (lo, reached), counts(include)
