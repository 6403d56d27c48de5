"""Random configurations on which linconv is compared with other people's software.

All values are small whole numbers stored as floats: every product and sum is
exact, so results are compared bit for bit and no tolerance is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

DTYPES = (np.dtype(np.float64), np.dtype(np.complex128))

# By number of axes, so that a 3-d matrix stays as cheap as a 1-d one.
_MOST_TAPS = {1: 8, 2: 4, 3: 3}
_MOST_PADDING = {1: 9, 2: 6, 3: 3}
_MOST_MORE = {1: 9, 2: 5, 3: 2}  # samples beyond the fewest that give an output


@dataclass(frozen=True)
class Configuration:
    """A batch of inputs, ``(batch, *in_shape)``, a kernel, and linconv's options."""

    x: np.ndarray
    kernel: np.ndarray
    options: dict[str, Any]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    @property
    def d(self) -> int:
        return len(self.options["stride"])

    def ask(self, peer: Callable[[np.ndarray, np.ndarray], Any]) -> np.ndarray:
        """Return the answer of a `peer` that wants channel axes and one dtype."""
        dtype = np.result_type(self.x, self.kernel)
        x, w = self.x.astype(dtype), self.kernel.astype(dtype)
        if w.ndim == x.ndim:  # (c_out, c_in // groups, *k), (batch, c_in, *n)
            return np.asarray(peer(x, w))
        return np.asarray(peer(x[:, None], w[None, None]))[:, 0]

    def ask_each(self, peer: Callable[..., Any], *args: Any, **kwargs: Any) -> np.ndarray:
        """Return the answers of a `peer` that knows neither batches nor channels."""
        return np.stack([peer(x, self.kernel, *args, **kwargs) for x in self.x])


def whole_numbers(shape: Sequence[int], dtype: Any) -> st.SearchStrategy[np.ndarray]:
    """Draw an array of whole numbers from -9 to 9, imaginary ones too if complex."""

    def fill(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        array = rng.integers(-9, 10, shape).astype(dtype)
        return array + 1j * rng.integers(-9, 10, shape) if array.dtype.kind == "c" else array

    return st.integers(1000, 2**32 - 1).map(fill)


@st.composite
def configurations(
    draw: st.DrawFn,
    padding: Sequence[str],
    *,
    dims: Sequence[int] = (1, 2, 3),
    groups: int = 3,
    steps: int = 3,
    within: bool = False,
) -> Configuration:
    """Draw a geometry that gives an output, a batch of inputs and a kernel.

    `padding` lists what to choose from: "even" (one size per axis), "pairs",
    "crops" (pairs that may be negative), or linconv's words.  `steps` is the
    largest stride and dilation, `groups` the most groups of channels (0: no channel
    axes); `within` keeps padding narrower than the input.
    """
    kind, d, k, options, extents = _taps_and_steps(draw, padding, dims, steps)
    fewest = [1] * d
    if kind in ("even", "pairs", "crops"):
        sizes = st.integers(-2 if kind == "crops" else 0, _MOST_PADDING[d])
        even = sizes.map(lambda p: (p, p))
        pairs = _per_axis(draw, d, even if kind == "even" else st.tuples(sizes, sizes))
        options["padding"] = tuple(lo for lo, _ in pairs) if kind == "even" else pairs
        for a, (lo, hi) in enumerate(pairs):
            wider = max(abs(lo), abs(hi)) + 1 if within else 1
            fewest[a] = max(1, extents[a] - lo - hi, wider)
    elif kind == "valid":
        fewest = extents
    more = _per_axis(draw, d, st.integers(0, _MOST_MORE[d]))
    spatial = tuple(n + extra for n, extra in zip(fewest, more, strict=True))
    c_out, c_in, c_per_group = _channels(draw, options, groups)
    return _filled(draw, (*c_in, *spatial), (*c_out, *c_per_group, *k), options)


@st.composite
def transposed_configurations(
    draw: st.DrawFn, padding: Sequence[str], *, groups: int = 3
) -> Configuration:
    """Draw the same for `conv_transpose`; "even" comes with an output_padding."""
    kind, d, k, options, extents = _taps_and_steps(draw, padding, (1, 2, 3), 3)
    spatial = _per_axis(draw, d, st.integers(1, _MOST_MORE[d] + 1))
    if kind == "even":
        axes = list(zip(spatial, options["stride"], options["dilation"], extents, strict=True))
        more = tuple(draw(st.integers(0, max(s, step) - 1)) for _, s, step, _ in axes)
        options["output_padding"] = more
        widths = [s * (n - 1) + e for n, s, _, e in axes]  # before padding is taken off
        most = [(width + extra - 1) // 2 for width, extra in zip(widths, more, strict=True)]
        options["padding"] = tuple(
            draw(st.integers(0, min(p, _MOST_PADDING[d]))) for p in most
        )
    c_in, _, c_per_group = _channels(draw, options, groups)
    return _filled(draw, (*c_in, *spatial), (*c_in, *c_per_group, *k), options)


def _per_axis(draw: st.DrawFn, d: int, entries: st.SearchStrategy[Any]) -> tuple[Any, ...]:
    return tuple(draw(entries) for _ in range(d))


def _taps_and_steps(
    draw: st.DrawFn, padding: Sequence[str], dims: Sequence[int], steps: int
) -> tuple[str, int, tuple[int, ...], dict[str, Any], list[int]]:
    """Draw the kind of padding, axes, taps and options; also return the taps' extents."""
    kind, d = draw(st.sampled_from(padding)), draw(st.sampled_from(dims))
    k = _per_axis(draw, d, st.integers(1, _MOST_TAPS[d]))
    stride, dilation = (_per_axis(draw, d, st.integers(1, steps)) for _ in range(2))
    extents = [(taps - 1) * step + 1 for taps, step in zip(k, dilation, strict=True)]
    return kind, d, k, {"stride": stride, "dilation": dilation, "padding": kind}, extents


def _channels(
    draw: st.DrawFn, options: dict[str, Any], groups: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Draw the kernel's two channel axes and their groups; at random, no such axes."""
    if not groups or draw(st.booleans()):
        return (), (), ()
    options["groups"] = drawn = draw(st.integers(1, groups))
    first, second = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return (drawn * first,), (drawn * second,), (second,)


def _filled(
    draw: st.DrawFn, in_shape: Sequence[int], kernel_shape: Sequence[int], options: Any
) -> Configuration:
    batch = draw(st.integers(1, 3))
    x = draw(whole_numbers((batch, *in_shape), draw(st.sampled_from(DTYPES))))
    kernel = draw(whole_numbers(kernel_shape, draw(st.sampled_from(DTYPES))))
    return Configuration(x, kernel, options)


def assert_maps(A: Any, matrix: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Assert that an operator and its matrix map every ``x[b]`` to ``y[b]``, exactly."""
    batch = A.matvec(x.reshape(len(x), -1)).reshape(y.shape)
    assert_array_equal(batch, y, strict=True)
    rows = (matrix @ x.reshape(len(x), -1).T).T
    assert_array_equal(rows.reshape(y.shape), y, strict=True)
