"""Average pooling, with the options of PyTorch and ONNX."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linconv._options import named_padding, paddings, per_axis, positive, sizes
from linconv.convolution import Conv
from linconv.geometry import Boundary, boundaries
from linconv.operators import Diagonal, LinearOperator


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
        pad = named_padding(pad, n, s, extent)
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
