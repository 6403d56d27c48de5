"""Hypothesis strategies for geometries, kernels and operators; needs hypothesis.

Every example is valid by construction.  hypothesis shrinks a failing example towards
one axis, one tap of value 1, no padding and the boundary rule "zeros".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import coo_array

from linconv._options import at_least, sizes, spread
from linconv.convolution import Conv, conv_transpose
from linconv.geometry import Boundary, Geometry
from linconv.operators import Identity, LinearOperator, Matrix
from linconv.patches import FilterConv, Unfold, VaryingConv

__all__ = ["FAMILIES", "geometries", "kernels", "operators"]

FAMILIES = (
    "Conv",
    "conv_transpose",
    "Unfold",
    "fold",
    "VaryingConv",
    "FilterConv",
    "Identity",
    "Matrix",
    "composition",
)

# Arrays of more numbers are filled from a seed: to shrink them one by one takes too long.
_ONE_BY_ONE = 64
_WHOLE = (*range(1, 10), *range(-1, -10, -1))  # 1 first: hypothesis shrinks to the left
# Most samples that a side pads or crops, unless the kernel needs more padding.
_PADDING, _CROP = 4, 2
_GROUPS = 3
_SEEDS = st.integers(1000, 2**32 - 1)


@dataclass(frozen=True)
class _Limits:
    """The limits of one axis, and the boundary rules of its two sides, simplest first."""

    size: int
    taps: int
    step: int
    sides: tuple[tuple[Boundary, Boundary], ...]


def geometries(
    *,
    dims: Sequence[int] | int = (1, 2, 3),
    max_size: int = 6,
    max_taps: int = 4,
    max_step: int = 3,
    channels: bool = True,
    transposed: bool | None = None,
    boundaries: Sequence[str] | str | None = None,
) -> st.SearchStrategy[Geometry]:
    """Draw the geometry of a convolution, with any options that linconv has.

    The examples have strides, dilations, paddings (one number, pairs, crops, names
    such as "same"), a boundary rule per axis and side, channels, groups, flipped taps,
    kernels longer than the input, axes of one sample, and output paddings.

    Parameters
    ----------
    dims : int or tuple of int
        The numbers of axes to choose from.
    max_size : int
        The largest number of input samples along an axis.
    max_taps : int
        The largest number of taps along an axis.
    max_step : int
        The largest stride and dilation.
    channels : bool
        Whether some of the geometries have channel axes and groups.
    transposed : bool, optional
        Whether the geometries are those of `conv_transpose`; by default some are.
    boundaries : str or sequence of str, optional
        The boundary rules to choose from, all six by default.

    Returns
    -------
    SearchStrategy of Geometry

    Raises
    ------
    ValueError, TypeError
        If a limit is no integer or below 1, if a boundary rule is unknown, or if
        there is none.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=20, deadline=None, database=None)
    ... @given(geometries(dims=2, boundaries=["zeros", "circular"]))
    ... def test_each_tap_gives_at_most_one_entry_per_output(g):
    ...     assert g.nnz <= g.shape[0] * math.prod(g.kernel_shape[1 if g.channels else 0 :])
    >>> test_each_tap_gives_at_most_one_entry_per_output()
    """
    counts = sorted(set(sizes(dims, "dims")))
    rules = spread(tuple(Boundary) if boundaries is None else boundaries, 1)
    if not rules:
        raise ValueError(f"boundaries must name one or more rules, got {boundaries!r}")
    limits = _Limits(
        at_least(1, max_size, "max_size"),
        at_least(1, max_taps, "max_taps"),
        at_least(1, max_step, "max_step"),
        _sides([Boundary.parse(rule) for rule in rules]),
    )
    axes = (_axes(limits, False), _axes(limits, True))
    return _geometries(tuple(counts), axes, channels, transposed)


def _sides(rules: Sequence[Boundary]) -> tuple[tuple[Boundary, Boundary], ...]:
    rules = [rule for rule in Boundary if rule in rules]
    mixed = [(low, high) for low in rules for high in rules if low != high]
    return (*[(rule, rule) for rule in rules] * 3, *mixed)  # mostly the same rule twice


@st.composite
def _geometries(
    draw: st.DrawFn,
    counts: tuple[int, ...],
    axes: tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]],
    channels: bool,
    transposed: bool | None,
) -> Geometry:
    backwards = draw(st.booleans()) if transposed is None else transposed
    groups, first, second = 0, 0, 0
    if channels and draw(st.booleans()):
        groups, first, second = (draw(st.integers(1, most)) for most in (_GROUPS, 2, 2))
    flip = draw(st.booleans())
    # The number of axes is drawn first: hypothesis lowers it and deletes an axis it can spare.
    drawn = [draw(axes[backwards]) for _ in range(draw(st.sampled_from(counts)))]
    taps, spatial, options = zip(*drawn, strict=True)
    kernel_shape, in_shape = taps, spatial
    if groups:
        kernel_shape = (groups * first, second, *taps)
        in_shape = (groups * (first if backwards else second), *spatial)
    build = Geometry.conv_transpose if backwards else Geometry.conv
    per_axis = {name: tuple(axis[name] for axis in options) for name in options[0]}
    return build(kernel_shape, in_shape, **per_axis, groups=max(1, groups), flip=flip)


@st.composite
def _axes(
    draw: st.DrawFn, limits: _Limits, backwards: bool
) -> tuple[int, int, dict[str, Any]]:
    """Draw the taps, the input samples and the options of one axis."""
    k = draw(st.integers(1, limits.taps))
    d, s = (draw(st.integers(1, limits.step)) for _ in range(2))
    extent = d * (k - 1) + 1
    padding, sides = _padding(draw, extent, limits.size, not backwards or s <= limits.size)
    options: dict[str, Any] = {"stride": s, "dilation": d, "padding": padding}
    if sides is not None:
        total = sum(sides)
        samples = range(max(1, extent - total), limits.size + 1)
        # Boundary rules differ most where the padding is n - 1 wide, so draw such n often.
        choice = [*samples, *(p + 1 for p in sides if p + 1 in samples)]
        n = choice[draw(st.integers(0, len(choice) - 1))]  # one draw, even for one choice
        if backwards:
            steps = n + total - extent
            n, options["output_padding"] = _shorter_side(draw, steps, s, d)
    else:  # "same": the shorter side has ceil(n / s) samples
        n = draw(st.integers(1, limits.size // s if backwards else limits.size))
        options |= {"output_padding": 0} if backwards else {}
    return k, n, options | {"boundary": draw(st.sampled_from(limits.sides))}


def _padding(
    draw: st.DrawFn, extent: int, size: int, same: bool
) -> tuple[Any, tuple[int, int] | None]:
    """Draw padding that `size` samples can have, and its two sides (None for "same")."""
    least = extent - size
    half = -(-least // 2)
    # All kinds but "pair" draw one integer; a kind that shrinks to "even" keeps it.
    ranges = {"even": (max(-_CROP, half), max(_PADDING, half)), "pair": (-_CROP, _PADDING)}
    ranges |= {"full": (extent - 1,) * 2} | ({"valid": (0, 0)} if least <= 0 else {})
    ranges |= {"same": (0, 0), "same_lower": (0, 0)} if same else {}
    kind = draw(st.sampled_from((*ranges, "even", "pair")))
    lo = draw(st.integers(*ranges[kind]))
    if kind == "pair":
        hi = draw(st.integers(max(-_CROP, least - lo), max(_PADDING, least - lo)))
        return (lo, hi), (lo, hi)
    if kind == "even":
        return lo, (lo, lo)
    return kind, None if kind.startswith("same") else (lo, lo)


def _shorter_side(draw: st.DrawFn, steps: int, s: int, d: int) -> tuple[int, int]:
    """Split `steps` into s * (outputs - 1) + output_padding; return outputs and padding."""
    most, rest = divmod(steps, s)
    dropped = draw(st.integers(0, min(most, (max(s, d) - 1 - rest) // s)))
    return most + 1 - dropped, rest + s * dropped


def kernels(
    geometry_or_shape: Geometry | Sequence[int] | int,
    dtype: Any = "float64",
    *,
    exact: bool = True,
) -> st.SearchStrategy[np.ndarray]:
    """Draw a kernel, or another array, of nonzero numbers from -9 to 9.

    Parameters
    ----------
    geometry_or_shape : Geometry, or tuple of int
        The geometry that needs the kernel, or the shape of the array.
    dtype : dtype
        A signed integer, float or complex dtype; imaginary parts are not zero
        either.
    exact : bool
        Whether to draw integers only, so that sums of products are exact.

    Returns
    -------
    SearchStrategy of ndarray
        Up to 64 numbers are drawn one by one and shrink to 1; more come from a seed.

    Raises
    ------
    ValueError
        If `exact` is False for an integer `dtype`.
    TypeError
        If `dtype` has no negative numbers.

    Examples
    --------
    >>> from hypothesis import find, settings
    >>> quiet = settings(deadline=None, database=None)
    >>> find(kernels((2, 2), dtype=int), lambda w: w[0, 1] < 0, settings=quiet)
    array([[ 1, -1],
           [ 1,  1]])
    """
    shape = geometry_or_shape
    shape = shape.kernel_shape if isinstance(shape, Geometry) else sizes(shape, "shape")
    dtype = np.dtype(dtype)
    if dtype.kind not in "ifc":
        raise TypeError(f"dtype must be a signed integer, float or complex one, got {dtype}")
    if dtype.kind == "i" and not exact:
        raise ValueError(f"exact=False needs a float or complex dtype, got {dtype}")
    count = math.prod(shape) * (2 if dtype.kind == "c" else 1)

    def shaped(numbers: Any) -> np.ndarray:
        array = np.asarray(numbers)
        if dtype.kind == "c":
            array = array[::2] + 1j * array[1::2]
        return array.astype(dtype).reshape(shape)

    if math.prod(shape) > _ONE_BY_ONE:
        return _SEEDS.map(lambda seed: shaped(_from_seed(seed, count, exact)))
    if exact:  # bytes are one draw, as fast as a seed, and each byte shrinks alone
        return st.binary(min_size=count, max_size=count).map(
            lambda drawn: shaped([_WHOLE[byte % len(_WHOLE)] for byte in drawn])
        )
    return st.lists(_fractions(dtype), min_size=count, max_size=count).map(shaped)


def _from_seed(seed: int, count: int, exact: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    whole = rng.choice(_WHOLE, count)
    return whole if exact else whole * rng.uniform(1 / 9, 1, count)


def _fractions(dtype: np.dtype) -> st.SearchStrategy[float]:
    half, single = np.dtype(np.float16), np.finfo(dtype).dtype.itemsize <= 4
    width = 16 if dtype == half else 32 if single else 64
    return st.floats(0.125, 9, width=width) | st.floats(-9, -0.125, width=width)


@dataclass(frozen=True)
class _Space:
    """The strategies for the numbers and the geometries of operators."""

    dtype: np.dtype
    exact: bool
    max_size: int
    forward: st.SearchStrategy[Geometry]
    backward: st.SearchStrategy[Geometry]
    without_channels: st.SearchStrategy[Geometry]

    def numbers(self, draw: st.DrawFn, shape: Geometry | Sequence[int]) -> np.ndarray:
        return draw(kernels(shape, self.dtype, exact=self.exact))


def operators(
    *,
    families: Sequence[str] | str = FAMILIES,
    dtype: Any = "float64",
    exact: bool = True,
    **options: Any,
) -> st.SearchStrategy[LinearOperator]:
    """Draw a linconv operator.

    Parameters
    ----------
    families : str or sequence of str
        The kinds to choose from: "Conv", "conv_transpose", "Unfold", "fold" (the
        transpose of "Unfold"), "VaryingConv", "FilterConv", "Identity", "Matrix", and
        "composition": transposes, adjoints, conjugates, multiples, sums and products
        of the other families in the list, or of all families if it stands alone.
    dtype, exact
        Numbers of the operators, as for `kernels`.
    **options
        As for `geometries`, except `transposed`, which the family decides.  A
        "VaryingConv" has no channels.

    Returns
    -------
    SearchStrategy of LinearOperator

    Raises
    ------
    ValueError
        If a family is unknown, or if there is none.
    TypeError, ValueError
        As for `geometries` and `kernels`.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=20, deadline=None, database=None)
    ... @given(operators(families=["Conv", "composition"], dtype=int))
    ... def test_the_adjoint_is_the_transposed_matrix(A):
    ...     y = np.arange(A.shape[0])
    ...     assert (A.H @ y == A.toarray().T @ y).all()
    >>> test_the_adjoint_is_the_transposed_matrix()
    """
    chosen = spread(families, 1)
    if not chosen:
        raise ValueError(f"families must name one or more of {FAMILIES}, got {families!r}")
    for name in chosen:
        if name not in FAMILIES:
            raise ValueError(f"unknown family {name!r}: the families are {FAMILIES}")
    if "transposed" in options:
        raise TypeError("transposed is set by the family: 'Conv' or 'conv_transpose'")
    kernels((1,), dtype, exact=exact)  # to raise now, not at the first draw
    space = _Space(
        np.dtype(dtype),
        exact,
        options.get("max_size", 6),
        geometries(**options, transposed=False),
        geometries(**options, transposed=True),
        geometries(**{**options, "channels": False}, transposed=False),
    )
    return _operators(tuple(name for name in FAMILIES if name in chosen), space)


@st.composite
def _operators(draw: st.DrawFn, families: tuple[str, ...], space: _Space) -> LinearOperator:
    family = draw(st.sampled_from(families))
    if family != "composition":
        return _BUILDERS[family](draw, space)
    names = tuple(name for name in families if name in _BUILDERS) or tuple(_BUILDERS)
    A, steps = draw(_operators(names, space)), tuple(_STEPS)
    for _ in range(3):
        step = draw(st.sampled_from(steps))
        A = _STEPS[step](draw, space, A)
        if step in _PRODUCTS:  # one product at most: small numbers stay exact
            steps = tuple(name for name in steps if name not in _PRODUCTS)
        if not draw(st.booleans()):
            break
    return A


def _options(geometry: Geometry) -> dict[str, Any]:
    """Return the options of an `Unfold` or `Conv` that has this geometry."""
    return {
        name: tuple(getattr(axis, name) for axis in geometry.axes)
        for name in ("stride", "dilation", "padding", "boundary")
    }


def _conv(draw: st.DrawFn, space: _Space) -> LinearOperator:
    g = draw(space.forward)
    more = {"groups": g.groups, "flip": g.flip}
    return Conv(space.numbers(draw, g), g.in_shape, **_options(g), **more)


def _conv_transpose(draw: st.DrawFn, space: _Space) -> LinearOperator:
    g = draw(space.backward)
    rest = [
        axis.n + sum(axis.padding) - axis.extent - axis.stride * (axis.out - 1)
        for axis in g.axes
    ]
    more = {"groups": g.groups, "flip": g.flip, "output_padding": rest}
    return conv_transpose(space.numbers(draw, g), g.out_shape, **_options(g), **more)


def _unfold(draw: st.DrawFn, space: _Space) -> LinearOperator:
    g = draw(space.forward)
    taps = tuple(axis.k for axis in g.axes)
    return Unfold(g.in_shape, taps, **_options(g), dtype=space.dtype)


def _varying(draw: st.DrawFn, space: _Space) -> LinearOperator:
    g = draw(space.without_channels)
    taps = space.numbers(draw, (*g.out_shape, *g.kernel_shape))
    return VaryingConv(taps, g.in_shape, **_options(g), flip=g.flip)


def _filter(draw: st.DrawFn, space: _Space) -> LinearOperator:
    g = draw(space.forward)
    more = {"groups": g.groups, "flip": g.flip}
    return FilterConv(space.numbers(draw, g.in_shape), g.kernel_shape, **_options(g), **more)


def _identity(draw: st.DrawFn, space: _Space) -> LinearOperator:
    shape = st.lists(st.integers(1, space.max_size), min_size=1, max_size=3)
    return Identity(draw(shape), space.dtype)


def _matrix(draw: st.DrawFn, space: _Space) -> LinearOperator:
    shape = [draw(st.integers(1, space.max_size)) for _ in range(2)]
    values = space.numbers(draw, shape)
    return Matrix(coo_array(values) if draw(st.booleans()) else values)


_BUILDERS: dict[str, Callable[[st.DrawFn, _Space], LinearOperator]] = {
    "Conv": _conv,
    "conv_transpose": _conv_transpose,
    "Unfold": _unfold,
    "fold": lambda draw, space: _unfold(draw, space).T,
    "VaryingConv": _varying,
    "FilterConv": _filter,
    "Identity": _identity,
    "Matrix": _matrix,
}


def _scalar(draw: st.DrawFn, space: _Space) -> Any:
    return space.numbers(draw, (1,))[0].item()


def _like(draw: st.DrawFn, space: _Space, A: LinearOperator) -> LinearOperator:
    """Draw a sparse matrix with the shapes of `A`."""
    values = space.numbers(draw, (draw(st.integers(1, 4)),))
    places = [[draw(st.integers(0, size - 1)) for _ in values] for size in A.shape]
    matrix = coo_array((values, places), shape=A.shape)
    return Matrix(matrix, in_shape=A.in_shape, out_shape=A.out_shape)


def _rows(draw: st.DrawFn, space: _Space, A: LinearOperator) -> LinearOperator:
    """Draw a matrix that can be applied after `A`."""
    return Matrix(space.numbers(draw, (draw(st.integers(1, 3)), A.shape[0])))


_PRODUCTS: dict[str, Callable[[st.DrawFn, _Space, LinearOperator], LinearOperator]] = {
    "B @ A": lambda draw, space, A: _rows(draw, space, A) @ A,
    "A @ B": lambda draw, space, A: A @ _rows(draw, space, A.T).H,
    "A.H @ A": lambda draw, space, A: A.H @ A,
    "A @ A.T": lambda draw, space, A: A @ A.T,
    "power": lambda draw, space, A: A**2 if A.in_shape == A.out_shape else A @ A.H,
}
_STEPS: dict[str, Callable[[st.DrawFn, _Space, LinearOperator], LinearOperator]] = {
    "transpose": lambda draw, space, A: A.T,
    "adjoint": lambda draw, space, A: A.H,
    "conjugate": lambda draw, space, A: A.conj(),
    "multiple": lambda draw, space, A: _scalar(draw, space) * A,
    "negative": lambda draw, space, A: -A,
    "sum": lambda draw, space, A: A + _like(draw, space, A),
    "difference": lambda draw, space, A: _like(draw, space, A) - A,
    **_PRODUCTS,
}
