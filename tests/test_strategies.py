"""Every operator that the strategies draw, in exact arithmetic; and what they find.

The expected products are numpy.pad and loops over taps: nothing here but the
geometry's integers comes from linconv.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from rules import NUMPY_MODES

import linconv
from linconv import Axis, Boundary, Conv, Geometry
from linconv.testing.strategies import FAMILIES, geometries, kernels, operators

thoroughly = settings(
    max_examples=1000,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
)
seeds = st.integers(1000, 2**32 - 1)
dtypes = st.sampled_from(["i8", "c16"])
SMALL = {1: {}, 2: {"max_size": 5}, 3: {"max_size": 3, "max_taps": 3}}
DIMS = [1, 2, 3]


def whole(rng, shape, dtype):
    x = rng.integers(-9, 10, shape)
    if np.dtype(dtype).kind == "c":
        return x + 1j * rng.integers(-9, 10, shape)
    return x.astype(dtype)


def gaussian(array):
    """The real and imaginary parts as int64, which must hold them exactly."""
    array = np.asarray(array)
    parts = np.stack([array.real, array.imag])
    result = parts.astype(np.int64)
    assert (result == parts).all()
    assert np.abs(parts).max(initial=0) < 2**53
    return result


def inner(a, b):
    """<a, b> as (real, imaginary) int64, conjugating a."""
    (ar, ai), (br, bi) = gaussian(a), gaussian(b)
    return (ar * br + ai * bi).sum(), (ar * bi - ai * br).sum()


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert (gaussian(actual) == gaussian(expected)).all()


def extended(x, axis, a):
    """Extend axis `a` of x by both rules, each applied to x alone, or crop it."""
    sides = []
    for side in (0, 1):
        width = max(0, axis.padding[side])
        pads = [(0, 0)] * x.ndim
        pads[a] = (0, width) if side else (width, 0)
        wide = np.pad(x, pads, **NUMPY_MODES[axis.boundary[side]])
        sides.append(np.take(wide, range(axis.n, axis.n + width) if side else range(width), a))
    wide = np.concatenate([sides[0], x, sides[1]], axis=a)
    low, high = (max(0, -p) for p in axis.padding)
    return np.take(wide, range(low, wide.shape[a] - high), a)


def windows(g, x):
    """Yield every tap's index and what it reads, (c_in, *out)."""
    x = x.reshape(g.c_in, *(axis.n for axis in g.axes))
    for a, axis in enumerate(g.axes):
        x = extended(x, axis, a + 1)
    for t in np.ndindex(*(axis.k for axis in g.axes)):
        reads = [
            slice(
                first := axis.dilation * (axis.k - 1 - tap if g.flip else tap),
                first + axis.stride * (axis.out - 1) + 1,
                axis.stride,
            )
            for tap, axis in zip(t, g.axes, strict=True)
        ]
        yield t, x[:, *reads]


def convolved(g, w, x):
    w = w.reshape(g.c_out, g.c_in // g.groups, *(axis.k for axis in g.axes))
    y = 0
    for t, read in windows(g, x):
        read = read.reshape(g.groups, g.c_in // g.groups, *read.shape[1:])
        taps = w[:, :, *t].reshape(g.groups, g.c_out // g.groups, g.c_in // g.groups)
        y = y + np.einsum("goc,gc...->go...", taps, read)
    return y.reshape(g.out_shape)


def assert_exact(A, seed, expected):
    """Assert A(x) == expected(x), the adjoint identity, and A.T.T is A."""
    rng = np.random.default_rng(seed)
    x, y = whole(rng, A.in_shape, A.dtype), whole(rng, A.out_shape, A.dtype)
    Ax, Ay = A(x), A.H(y)
    assert Ax.dtype == Ay.dtype == A.dtype
    assert_same(Ax, expected(x))
    assert inner(y, Ax) == inner(Ay, x)
    assert_same(A.T(y.conj()), Ay.conj())
    assert A.T.T is A
    assert A.H.H is A


def drawn(families, **options):
    """Draw integer operators as often as complex ones."""
    return st.one_of(
        operators(families=families, dtype=dtype, **options) for dtype in ("i8", "c16")
    )


@pytest.mark.parametrize("d", DIMS)
def test_convolutions_are_exact(d):
    @thoroughly
    @given(drawn("Conv", dims=d, **SMALL[d]), seeds)
    def check(A, seed):
        assert len(A.geometry.axes) == d
        assert_exact(A, seed, lambda x: convolved(A.geometry, A.kernel, x))

    check()


@thoroughly
@given(drawn("conv_transpose", max_size=4, max_taps=3), seeds)
def test_transposed_convolutions_are_exact(A, seed):
    C = A.T
    assert isinstance(C, Conv)
    assert_exact(C, seed, lambda x: convolved(C.geometry, C.kernel, x))
    for axis in C.geometry.axes:
        rest = axis.n + sum(axis.padding) - axis.extent - axis.stride * (axis.out - 1)
        assert 0 <= rest < max(axis.stride, axis.dilation)


@thoroughly
@given(drawn(["Unfold", "fold"], **SMALL[3]), seeds)
def test_unfold_and_fold_are_exact(A, seed):
    U = A if isinstance(A, linconv.Unfold) else A.T
    g = U.geometry

    def expected(x):
        patches = np.stack([read for _, read in windows(g, x)], axis=1)
        return patches.reshape(-1, *(axis.out for axis in g.axes))

    assert_exact(U, seed, expected)


def options(g):
    return {
        name: [getattr(axis, name) for axis in g.axes]
        for name in ("stride", "padding", "dilation", "boundary")
    }


@thoroughly
@given(geometries(transposed=False, channels=False, **SMALL[3]), dtypes, seeds)
def test_varying_convolutions_are_exact(g, dtype, seed):
    taps = whole(np.random.default_rng(seed), (*g.out_shape, *g.kernel_shape), dtype)
    A = linconv.VaryingConv(taps, g.in_shape, **options(g), flip=g.flip)
    assert A.geometry == g
    assert_exact(
        A, seed + 1, lambda x: sum(taps[(..., *t)] * read[0] for t, read in windows(g, x))
    )


@thoroughly
@given(geometries(transposed=False, **SMALL[3]), dtypes, seeds)
def test_convolutions_as_functions_of_the_kernel_are_exact(g, dtype, seed):
    x = whole(np.random.default_rng(seed), g.in_shape, dtype)
    more = {"groups": g.groups, "flip": g.flip}
    A = linconv.FilterConv(x, g.kernel_shape, **options(g), **more)
    assert A.geometry == g
    assert_exact(A, seed + 1, lambda w: convolved(g, w, x))


def evaluated(A):
    """The matrix of an expression, by the matrices of its leaves."""
    if hasattr(A, "scalar"):
        return A.scalar * evaluated(A.operands[0])
    if hasattr(A, "operands"):
        parts = [evaluated(part) for part in A.operands]
        return sum(parts) if type(A).__name__ == "Sum" else np.linalg.multi_dot(parts)
    if hasattr(A, "base"):
        matrix = evaluated(A.base).T if A._transposes else evaluated(A.base)
        return matrix.conj() if A._conjugates else matrix
    return A.toarray()


@thoroughly
@given(drawn("composition", max_size=3, max_taps=3, dims=(1, 2)), seeds)
def test_compositions_are_exact(A, seed):
    matrix = evaluated(A)
    assert_exact(A, seed, lambda x: (matrix @ x.ravel()).reshape(A.out_shape))


def refitted(axis, *, n=None, dilation=None, stride=None, lo=None, boundary=None):
    """Another axis with as many outputs: the high padding is what they need."""
    n, stride = n or axis.n, stride or axis.stride
    dilation = dilation or axis.dilation
    lo = axis.padding[0] if lo is None else lo
    hi = stride * (axis.out - 1) + dilation * (axis.k - 1) + 1 - n - lo
    return Axis(n, axis.k, stride, dilation, (lo, hi), boundary or axis.boundary, axis.out)


def rest(axis):
    """Samples at the end of the padded input that no tap reads."""
    return axis.n + sum(axis.padding) - axis.extent - axis.stride * (axis.out - 1)


def same_puts_the_odd_sample_first(axis):
    lo, hi = axis.padding
    return refitted(axis, lo=hi) if axis.k % 2 == 0 and lo + 1 == hi else axis


def strides_start_at_the_end(axis):
    return refitted(axis, lo=axis.padding[0] - rest(axis))


def output_padding_is_lost(axis):
    return refitted(axis, n=axis.n - rest(axis)) if rest(axis) < axis.n else axis


def crops_are_ignored(axis):
    return refitted(axis, lo=max(0, axis.padding[0]))


def the_low_rule_holds_on_both_sides(axis):
    return refitted(axis, boundary=(axis.boundary[0],) * 2)


def reflect_repeats_the_edge_where_it_is_widest(axis):
    sides = zip(axis.boundary, axis.padding, strict=True)
    return refitted(
        axis,
        boundary=tuple(
            "symmetric" if rule == "reflect" and pad == axis.n - 1 else rule
            for rule, pad in sides
        ),
    )


def circular_goes_round_once(axis):
    sides = zip(axis.boundary, axis.padding, strict=True)
    return refitted(
        axis,
        boundary=tuple(
            "zeros" if rule == "circular" and pad > axis.n else rule for rule, pad in sides
        ),
    )


def one_sample_has_no_edge(axis):
    return refitted(axis, boundary=("zeros", "zeros")) if axis.n == 1 else axis


def every_axis(bug):
    return lambda g, w: (replace(g, axes=tuple(map(bug, g.axes))), w)


def groups_forget_dilation(g, w):
    axes = tuple(refitted(axis, dilation=1) for axis in g.axes)
    return replace(g, axes=axes if g.groups > 1 else g.axes), w


def the_last_axis_forgets_dilation(g, w):
    if len(g.axes) == 1:
        return g, w
    return replace(g, axes=(*g.axes[:-1], refitted(g.axes[-1], dilation=1))), w


def three_strides_are_reversed(g, w):
    strides = [axis.stride for axis in g.axes]
    if len(strides) < 3:
        return g, w
    axes = zip(g.axes, reversed(strides), strict=True)
    return replace(g, axes=tuple(refitted(axis, stride=s) for axis, s in axes)), w


def long_kernels_are_cut(g, w):
    for a, axis in enumerate(g.axes):
        taps = np.arange(axis.k).reshape(-1, *(1,) * (len(g.axes) - 1 - a))
        w = w * (taps < axis.n)
    return g, w


def square_channels_are_exchanged(g, w):
    square = g.channels is not None and w.shape[0] == w.shape[1]
    return g, w.swapaxes(0, 1) if square else w


def flips_are_forgotten_with_channels(g, w):
    return replace(g, flip=g.flip and g.channels is None), w


def is_caught(g, bug):
    """Whether <A x, y> differs from <x, B y> for the adjoint B of a wrong geometry."""
    w = np.resize([1, 2, 3, 5, 7, -4, -6, 8, 9], g.kernel_shape)
    wrong, taps = bug(g, w)
    if wrong == g and (taps == w).all():
        return False
    rng = np.random.default_rng(1729)  # large numbers: nothing cancels by chance
    x, y = (rng.integers(1, 10**6, shape) for shape in (g.in_shape, g.out_shape))
    By = Conv.from_geometry(wrong, taps).H(y)
    seen = x[tuple(slice(size) for size in By.shape)]  # a shorter By is zero beyond
    return (Conv.from_geometry(g, w)(x) * y).sum() != (seen * By).sum()


def one(n, k=1, boundary=("zeros", "zeros"), **fields):
    return Geometry((Axis(n, k, boundary=tuple(map(Boundary, boundary)), **fields),))


dot = Axis(1, 1)
BUGS = [
    (every_axis(same_puts_the_odd_sample_first), one(1, 2, padding=(0, 1))),
    (every_axis(strides_start_at_the_end), one(2, stride=2)),
    (every_axis(output_padding_is_lost), one(2, stride=2, padding=(1, 1))),
    (every_axis(crops_are_ignored), one(3, padding=(-1, -1))),
    (
        every_axis(the_low_rule_holds_on_both_sides),
        one(1, padding=(1, 1), boundary=("zeros", "circular")),
    ),
    (
        every_axis(reflect_repeats_the_edge_where_it_is_widest),
        one(2, padding=(1, 1), boundary=("reflect",) * 2),
    ),
    (
        every_axis(circular_goes_round_once),
        one(1, padding=(2, 2), boundary=("circular",) * 2),
    ),
    (every_axis(one_sample_has_no_edge), one(1, padding=(1, 1), boundary=("circular",) * 2)),
    (groups_forget_dilation, Geometry((Axis(3, 2, dilation=2),), (2, 2), 2)),
    (the_last_axis_forgets_dilation, Geometry((dot, Axis(3, 2, dilation=2)))),
    (three_strides_are_reversed, Geometry((dot, dot, Axis(3, 1, stride=2)))),
    (long_kernels_are_cut, one(1, 2, padding=(1, 1))),
    (square_channels_are_exchanged, Geometry((dot,), (2, 2))),
    (flips_are_forgotten_with_channels, Geometry((Axis(2, 2),), (1, 1), flip=True)),
]
