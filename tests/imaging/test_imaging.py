"""Imaging operators against numpy.pad and slices, torch, and the examples of ONNX."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.ndimage
from helpers import NUMPY_MODES, assert_refused, padded
from numpy.testing import assert_allclose, assert_array_equal

import linconv
from linconv import (
    average_pool,
    crop,
    divergence,
    downsample,
    gradient,
    laplacian,
    pad,
    resize,
    upsample,
)
from linconv.testing import assert_adjoint

RULES = sorted(NUMPY_MODES)
SHAPES = [(1,), (2,), (7,), (1, 4), (3, 2), (1, 1, 1), (2, 3, 4)]
X25 = np.arange(1.0, 26).reshape(5, 5)
X16 = np.arange(1.0, 17).reshape(4, 4)
X8 = np.arange(1.0, 9).reshape(2, 4)
X4 = np.array([[1.0, 2.0], [3.0, 4.0]])


def columns(f, in_shape):
    """Return the matrix of a linear function, a column per unit vector."""
    unit = np.eye(int(np.prod(in_shape)))
    return np.stack([f(e.reshape(in_shape)).ravel() for e in unit], axis=1)


def part(x, axis, start, stop, step=1):
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def assert_matrix(A, expected, out_shape, rtol=0, atol=0):
    """Assert the matrix, its shape and form, and products with it and its adjoint."""
    assert isinstance(A, linconv.LinearOperator)
    assert A.out_shape == out_shape
    matrix = A.tosparse()
    assert matrix.has_canonical_format
    assert matrix.dtype == A.dtype
    assert_allclose(matrix.toarray(), expected, rtol=rtol, atol=atol)
    rng = np.random.default_rng(2711)
    x, y = rng.integers(-9, 10, A.in_shape), rng.integers(-9, 10, out_shape)
    forward = (expected @ x.ravel()).reshape(out_shape)
    adjoint = (expected.T @ y.ravel()).reshape(A.in_shape)
    for dtype in ("f4", "f8", "c16"):
        for B, v, result in ((A, x, forward), (A.H, y, adjoint)):
            given = B(v.astype(dtype))
            named = A.dtype != np.float64  # the default, which yields to the data
            assert given.dtype == np.result_type(A.dtype, dtype) if named else dtype
            assert_allclose(given, result, rtol=1e-6, atol=1e-3 * (dtype == "f4") + 1e-10)
    unit = 1j * y
    assert_allclose(A.H(unit), 1j * adjoint, rtol=1e-6, atol=1e-10)


# Differences


def differences(x, kind, axes, spacing, rules):
    """Return what gradient() must, from numpy.pad and slices."""
    parts = []
    for a, h, rule in zip(axes, spacing, rules, strict=True):
        pairs, pair_rules = [(0, 0)] * x.ndim, ["zeros"] * x.ndim
        pairs[a], pair_rules[a] = (1, 1), rule
        wide = padded(x, pairs, pair_rules)
        n = x.shape[a]
        before, here, after = (part(wide, a, i, i + n) for i in range(3))
        steps = {"forward": after - here, "backward": here - before}
        parts.append(steps.get(kind, (after - before) / 2) / h)
    return np.stack(parts)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["forward", "backward", "central"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gradient_is_the_difference_of_neighbours_in_the_padded_array(shape, kind, rule):
    d = len(shape)
    expected = columns(lambda x: differences(x, kind, range(d), (1,) * d, (rule,) * d), shape)
    A = gradient(shape, kind=kind, boundary=rule)
    assert_matrix(A, expected, (d, *shape))
    D = divergence(shape, kind=kind, boundary=rule)
    assert D.in_shape == (d, *shape)
    assert_matrix(D, -expected.T, shape)


def test_gradient_options_belong_to_the_axes_that_are_named():
    shape = (3, 4, 2)
    rules = ["circular", ("reflect", "zeros")]
    options = {"axes": (-1, 0), "spacing": (0.5, 4), "boundary": rules}
    expected = columns(lambda x: differences(x, "central", (2, 0), (0.5, 4), rules), shape)
    assert_matrix(gradient(shape, kind="central", **options), expected, (2, *shape))
    assert_matrix(divergence(shape, kind="central", **options), -expected.T, shape)
    one = columns(lambda x: differences(x, "forward", (1,), (2,), ["symmetric"]), shape)
    A = gradient(shape, axes=1, spacing=2, boundary="symmetric")
    assert_matrix(A, one, (1, *shape))
    A = gradient(shape, axes=[1], spacing=[2], boundary=["symmetric"])
    assert_matrix(A, one, (1, *shape))


def test_central_differences_with_antireflect_are_those_of_numpy_gradient():
    for shape in [(2,), (6,), (3, 4), (2, 3, 4)]:
        x = np.random.default_rng(77).standard_normal(shape)
        spacing = [0.3, 2.0, 5.0][: len(shape)]
        A = gradient(shape, kind="central", spacing=spacing, boundary="antireflect")
        expected = np.stack(np.atleast_1d(np.gradient(x, *spacing)).reshape(-1, *shape))
        assert_allclose(A(x), expected, rtol=1e-12, atol=1e-12)


def test_gradients_written_out():
    G = gradient(3, kind="backward", dtype=int)
    assert G.toarray().tolist() == [[0, 0, 0], [-1, 1, 0], [0, -1, 1]]
    G = gradient(3, kind="central", boundary="zeros")
    assert G.toarray().tolist() == [[0, 0.5, 0], [-0.5, 0, 0.5], [0, -0.5, 0]]
    G = gradient(3, boundary="circular", spacing=2, dtype="f4")
    assert G.dtype == np.float32
    assert G.toarray().tolist() == [[-0.5, 0.5, 0], [0, -0.5, 0.5], [0.5, 0, -0.5]]
    assert gradient((2, 2), dtype=int).toarray().tolist() == [
        [-1, 0, 1, 0], [0, -1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [-1, 1, 0, 0], [0, 0, 0, 0],
        [0, 0, -1, 1], [0, 0, 0, 0],
    ]  # fmt: skip


def test_only_zeros_lets_a_gradient_see_a_constant():
    for rule, kind in itertools.product(RULES, ["forward", "backward", "central"]):
        y = gradient((3, 1, 4), kind=kind, boundary=rule)(np.ones((3, 1, 4)))
        assert y.any() == (rule == "zeros")


@pytest.mark.parametrize("dtype", [int, "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("rule", ["replicate", "circular"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_laplacian_is_the_divergence_of_the_gradient(shape, rule, dtype):
    options = {"boundary": rule, "dtype": dtype}
    L = laplacian(shape, **options)
    product = divergence(shape, **options) @ gradient(shape, **options)
    assert L.dtype == product.dtype == np.dtype(dtype)
    assert_array_equal(L.toarray(), product.toarray())
    spacing = [0.5, 2, 0.25][: len(shape)]
    L = laplacian(shape, spacing=spacing, boundary=rule)
    options = {"spacing": spacing, "boundary": rule}
    product = divergence(shape, **options) @ gradient(shape, **options)
    assert_array_equal(L.toarray(), product.toarray())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_laplacian_sums_second_differences_in_the_padded_array(shape, rule):
    def peer(x):
        total = 0
        for a, h in enumerate(spacing):
            pairs = [(int(b == a),) * 2 for b in range(x.ndim)]
            wide = padded(x, pairs, [rule] * x.ndim)
            total = total + np.diff(wide, 2, axis=a) / h**2
        return total

    spacing = [0.3, 2.0, 5.0][: len(shape)]
    A = laplacian(shape, spacing=spacing, boundary=rule)
    assert isinstance(A, linconv.Conv)
    assert np.count_nonzero(A.kernel) == 2 * len(shape) + 1
    assert_matrix(A, columns(peer, shape), shape, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("mode", ["constant", "wrap", "mirror", "reflect", "nearest"])
def test_a_laplacian_is_that_of_ndimage(mode):
    x = np.random.default_rng(31).integers(-9, 10, (4, 1, 5))
    A = laplacian(x.shape, boundary=f"ndimage:{mode}", dtype=int)
    assert_array_equal(A(x), scipy.ndimage.laplace(x, mode=mode))


def test_a_laplacian_leaves_axes_out_that_are_not_named():
    A = laplacian((2, 3, 4), axes=(1, 2), boundary=("circular", "zeros"), dtype=int)
    B = linconv.Conv(
        [[0, 1, 0], [1, -4, 1], [0, 1, 0]], (3, 4), padding=1, boundary=("circular", "zeros")
    )
    expected = linconv.kron(linconv.Identity(2, int), B).toarray()
    assert A.in_shape == A.out_shape == (2, 3, 4)
    assert_array_equal(A.toarray(), expected)
    assert A.kernel.shape == (1, 3, 3)
    assert laplacian((9, 9), method="fft").method == "fft"


@pytest.mark.parametrize("make", [gradient, divergence, laplacian])
def test_differences_say_what_is_wrong(make):
    assert_refused(
        (ValueError, r"axes must be distinct axes .* each in -2..1, got \(0, -2\)", lambda: make((3, 4), axes=(0, -2))),
        (ValueError, r"each in -2..1, got \(2,\)", lambda: make((3, 4), axes=2)),
        (ValueError, r"that has 2, each in -2..1, got \(\)", lambda: make((3, 4), axes=())),
        (TypeError, r"axes must be an integer, got 1.0", lambda: make((3, 4), axes=1.0)),
        (ValueError, r"spacing must be one number or one per axis: expected 2, got 3 in", lambda: make((3, 4), spacing=(1, 2, 3))),
        (ValueError, "spacing must be > 0, got 0", lambda: make((3, 4), spacing=0)),
        (ValueError, "spacing must be > 0, got -1", lambda: make((3, 4), spacing=(1, -1))),
        (ValueError, "spacing must be finite, got nan", lambda: make((3, 4), spacing=np.nan)),
        (TypeError, "spacing must be a real number, got 1j", lambda: make((3, 4), spacing=1j)),
        (ValueError, r"boundary must be .* expected 1 entries, got 2", lambda: make((3, 4), axes=0, boundary=("zeros", "circular"))),
        (ValueError, "unknown boundary 'nonsense'", lambda: make((3, 4), boundary="nonsense")),
        (ValueError, "in_shape must have one or more sizes, each >= 1", lambda: make((3, 0))),
        (TypeError, r"would lose its fractions .* as dtype int64", lambda: make((3, 4), spacing=0.5, dtype=int)),
        (TypeError, "dtype must be one a sparse matrix can hold", lambda: make((3, 4), dtype="f2")),
    )  # fmt: skip


def test_a_kind_of_difference_that_is_unknown_is_refused():
    kinds = "unknown kind 'sobel': it is one of 'forward', 'backward', 'central'"
    for make in (gradient, divergence):
        with pytest.raises(ValueError, match=kinds):
            make(4, kind="sobel")
    with pytest.raises(TypeError, match=r"would lose its fractions .* as dtype int64"):
        gradient(4, kind="central", dtype=int)


# Samples kept, put back, added and taken off


def test_downsampling_keeps_every_sth_sample_and_upsampling_puts_it_back():
    rng = np.random.default_rng(901)
    for _ in range(60):
        shape = tuple(rng.integers(1, 8, rng.integers(1, 4)).tolist())
        factor = tuple(rng.integers(1, 5, len(shape)).tolist())
        phase = tuple(
            int(rng.integers(0, min(s, n))) for s, n in zip(factor, shape, strict=True)
        )
        keep = tuple(slice(p, None, s) for p, s in zip(phase, factor, strict=True))
        expected = columns(lambda x, keep=keep: x[keep], shape)
        out_shape = np.empty(shape)[keep].shape
        A = downsample(shape, factor, phase=phase)
        assert isinstance(A, linconv.Conv)
        assert_matrix(A, expected, out_shape)
        assert_matrix(
            upsample(out_shape, factor, phase=phase, out_shape=shape), expected.T, shape
        )
        whole = tuple(s * n for s, n in zip(factor, shape, strict=True))
        U = upsample(shape, factor, phase=phase)
        x = rng.standard_normal(shape)
        y = np.zeros(whole)
        y[keep] = x
        assert_array_equal(U(x), y, strict=True)
        assert_array_equal(U.T(y), x, strict=True)


def test_one_factor_stands_for_every_axis():
    assert downsample((6, 7), 3).out_shape == (2, 3)
    assert upsample((2, 3), 3).out_shape == (6, 9)
    assert downsample((3, 6, 7), (1, 3, 3), dtype="c8").out_shape == (3, 2, 3)
    assert downsample((3, 6, 7), (1, 3, 3), dtype="c8").dtype == np.complex64
    U = upsample(2, 3, phase=1, out_shape=5, dtype=int)
    assert U.toarray().tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [0, 1]]


def test_resampling_by_factors_says_what_is_wrong():
    assert_refused(
        (ValueError, "factor must be >= 1 along every axis", lambda: downsample(5, 0)),
        (TypeError, r"factor must be an integer, got 1.5", lambda: downsample(5, 1.5)),
        (ValueError, "factor must be one integer or one per axis", lambda: upsample((5, 5), (2, 2, 2))),
        (ValueError, "phase must be >= 0 along every axis", lambda: upsample(5, 2, phase=-1)),
        (ValueError, r"phase must be below the factor .* got phase \(2,\) for factor \(2,\) and in_shape \(5,\): crop first",
         lambda: downsample(5, 2, phase=2)),
        (ValueError, r"phase \(1,\) for factor \(2,\) and in_shape \(1,\)", lambda: downsample(1, 2, phase=1)),
    )  # fmt: skip
    for out_shape, back in ((7, "(4,)"), (4, "(2,)"), ((6, 1), "(3, 1)")):
        with pytest.raises(ValueError, match=r"leads back to .*, not to in_shape") as error:
            upsample(3, 2, out_shape=out_shape)
        assert back in str(error.value)
        assert "factor (n - 1) + phase + 1 to factor n + phase samples" in str(error.value)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pad_is_numpy_pad(shape, rule):
    for width in (0, 1, 2, 9 if len(shape) < 3 else 4):
        pairs = [(width, max(0, width - a - 1)) for a in range(len(shape))]
        expected = columns(lambda x, p=pairs: np.pad(x, p, **NUMPY_MODES[rule]), shape)
        A = pad(shape, pairs, boundary=rule)
        assert isinstance(A, linconv.Conv)
        out_shape = tuple(n + lo + hi for n, (lo, hi) in zip(shape, pairs, strict=True))
        assert_matrix(A, expected, out_shape)
    assert_array_equal(
        pad(shape, 2, boundary=rule).toarray(),
        columns(lambda x: np.pad(x, 2, **NUMPY_MODES[rule]), shape),
    )


def test_pad_takes_rules_per_axis_and_side_and_crops_with_negative_widths():
    rules = [("circular", "antireflect"), "symmetric"]
    pairs = [(4, 1), (0, 5)]
    expected = columns(lambda x: padded(x, pairs, rules), (3, 2))
    assert_matrix(pad((3, 2), pairs, boundary=rules), expected, (8, 7))
    A = pad((4, 3), [(-1, 2), (-2, 0)], boundary="reflect", dtype=int)
    expected = columns(lambda x: padded(x, [(0, 2), (0, 0)], ["reflect"] * 2)[1:, 2:], (4, 3))
    assert_matrix(A, expected, (5, 1))


def test_pad_says_what_is_wrong():
    assert_refused(
        (ValueError, r"padding of pad\(\) must be numbers of samples, got 'same': a word", lambda: pad(4, "same")),
        (ValueError, r"padding must be .* one pair per axis is", lambda: pad(4, (1, 2))),
        (ValueError, "axis 0: the output would be empty", lambda: pad(4, -2)),
        (TypeError, r"padding must be an integer, got 1.5", lambda: pad(4, 1.5)),
    )  # fmt: skip


def test_crop_takes_margins_off():
    cases = [
        ((5,), 1, np.s_[1:4]),
        ((5,), [(0, 3)], np.s_[0:2]),
        ((4, 3), (1, 0), np.s_[1:3, :]),
        ((4, 3), [(0, 2), (2, 0)], np.s_[:2, 2:]),
        ((2, 5, 4), (0, 2, 1), np.s_[:, 2:3, 1:3]),
        ((3, 1), [0, (0, 0)], np.s_[:, :]),
    ]
    for shape, margins, where in cases:
        expected = columns(lambda x, where=where: x[where], shape)
        A = crop(shape, margins)
        assert isinstance(A, linconv.Restriction)
        assert_matrix(A, expected, np.empty(shape)[where].shape)
        assert crop(shape, margins, dtype="c8").dtype == np.complex64


def test_crop_undoes_pad_and_its_transpose_pads_with_zeros():
    pairs = [(2, 1), (0, 3)]
    P = pad((3, 2), pairs, dtype=int)
    assert_array_equal((crop(P.out_shape, pairs, dtype=int) @ P).toarray(), np.eye(6))
    assert_array_equal(crop(P.out_shape, pairs, dtype=int).T.toarray(), P.toarray())


def test_crop_says_what_is_wrong():
    assert_refused(
        (ValueError, r"margins must be >= 0 and leave a sample, got \(2, 3\) for the 5 samples of axis 1", lambda: crop((4, 5), [(0, 0), (2, 3)])),
        (ValueError, r"got \(-1, -1\) for the 4 .* pad\(\) adds samples", lambda: crop(4, -1)),
        (ValueError, r"margins must be .* expected 2 entries, got \(1,\)", lambda: crop((4, 5), (1,))),
        (ValueError, r"one \(lo, hi\) pair per axis: expected 1 entries", lambda: crop(4, [(1, 1, 1)])),
        (TypeError, r"margins must be an integer, got 0.5", lambda: crop(4, 0.5)),
        (TypeError, "margins must be an integer, got 's'", lambda: crop(4, "s")),
        (TypeError, "dtype must be one a sparse matrix can hold", lambda: crop(4, 1, dtype=object)),
    )  # fmt: skip


# Interpolation


def taps_of(i, n, o, ratio, mode, a, coordinates):
    """Return {position: weight} of output i, as the ONNX operator's text says it."""
    r = Fraction(o, n) if ratio is None else ratio
    centre = (i + Fraction(1, 2)) / r - Fraction(1, 2)
    x = {
        "half_pixel": centre,
        "pytorch_half_pixel": centre if o > 1 else 0,
        "align_corners": Fraction(i * (n - 1), o - 1) if o > 1 else 0,
        "asymmetric": i / r,
        "half_pixel_symmetric": Fraction(n, 2) * (1 - o / (r * n)) + centre,
    }[coordinates]
    x = Fraction(x)
    low = x.numerator // x.denominator
    if mode in NEAREST:
        return {NEAREST[mode](x): 1.0}
    f = float(x - low)
    if mode == "linear":
        return {low: 1 - f, low + 1: f}
    near = [((a + 2) * s - (a + 3)) * s * s + 1 for s in (f, 1 - f)]
    far = [((a * s - 5 * a) * s + 8 * a) * s - 4 * a for s in (1 + f, 2 - f)]
    return dict(zip(range(low - 1, low + 3), [far[0], *near, far[1]], strict=True))


NEAREST = {
    "floor": lambda x: x.numerator // x.denominator,
    "ceil": lambda x: -(-x.numerator // x.denominator),
    "round_prefer_floor": lambda x: NEAREST["ceil"](x - Fraction(1, 2)),
    "round_prefer_ceil": lambda x: NEAREST["floor"](x + Fraction(1, 2)),
}
COORDINATES = ["half_pixel", "align_corners", "asymmetric"]
COORDINATES += ["pytorch_half_pixel", "half_pixel_symmetric"]


def interpolation(n, o, ratio, mode, a, coordinates, rule):
    """Return the matrix of one axis, through rows of a padded identity."""
    wide = 2 * n + 8
    rows = padded(np.eye(n), [(wide, wide), (0, 0)], [rule, "zeros"])
    matrix = np.zeros((o, n))
    for i in range(o):
        for j, w in taps_of(i, n, o, ratio, mode, a, coordinates).items():
            matrix[i] += w * rows[j + wide]
    return matrix


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", [*NEAREST, "linear", "cubic"])
def test_resize_is_the_interpolation_the_onnx_operator_describes(mode, coordinates):
    rng = np.random.default_rng(1981)
    options = {"rounding": mode} if mode in NEAREST else {}
    word = "nearest" if options else mode
    for case in range(24):
        n, o = (int(v) for v in rng.integers(1, 10, 2))
        rule, ratio = RULES[case % 6], None
        if case % 3 == 0:
            ratio = Fraction(int(rng.integers(1, 20)), int(rng.integers(1, 10)))
            ratio = max(ratio, Fraction(1, n))
            o = (n * ratio).__floor__()
        a = float(rng.choice([-0.75, -0.5, -1 / 3]))
        if mode == "cubic":
            options = {"cubic": a}
        size = {"out_shape": o} if ratio is None else {"scale": ratio}
        A = resize(n, **size, mode=word, coordinates=coordinates, boundary=rule, **options)
        expected = interpolation(n, o, ratio, mode, a, coordinates, rule)
        assert_matrix(A, expected, (o,), rtol=1e-13, atol=1e-14)


def test_resize_acts_along_each_axis_with_its_own_rule():
    rules = [("reflect", "zeros"), "antireflect", "circular"]
    shape, out_shape = (3, 2, 4), (4, 2, 3)
    A = resize(shape, out_shape, mode="cubic", coordinates="asymmetric", boundary=rules)
    expected = np.eye(1)
    for n, o, rule in zip(shape, out_shape, rules, strict=True):
        one = interpolation(n, o, None, "cubic", -0.75, "asymmetric", rule)
        expected = np.kron(expected, one)
    assert_matrix(A, expected, out_shape, rtol=1e-13, atol=1e-14)
    assert [type(part).__name__ for part in A.operands] == ["Matrix", "Identity", "Matrix"]


def test_an_axis_that_keeps_its_places_gets_an_identity():
    for coordinates in COORDINATES:
        for n in (1, 5):
            A = resize(n, n, coordinates=coordinates, mode="cubic", dtype="c8")
            assert isinstance(A, linconv.Identity)
            assert A.dtype == np.complex64
    assert isinstance(resize(5, 5, mode="nearest", rounding="ceil"), linconv.Identity)
    assert isinstance(resize(5, 5, antialias=True), linconv.Identity)
    # of the same length, but at other places
    assert not isinstance(resize(5, scale=1.1), linconv.Identity)
    assert isinstance(resize(5, scale=1.1, align_corners=True), linconv.Identity)


ONNX_RESIZE = [  # input, options, output: the examples of Resize-19 in onnx/docs/Operators.md
    (X4, {"scale": (2, 3), "mode": "nearest"}, np.repeat(np.repeat(X4, 2, 0), 3, 1)),
    (X8, {"scale": 0.6, "mode": "nearest"}, [[1, 3]]),
    (X4, {"out_shape": (7, 8), "mode": "nearest"}, np.repeat(np.repeat(X4, [4, 3], 0), 4, 1)),
    (X8, {"out_shape": (1, 3), "mode": "nearest"}, [[1, 2, 4]]),
    (X4, {"scale": 2},
     [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]]),
    (X4, {"scale": 2, "coordinates": "align_corners"},
     [[1, 1.33333333, 1.66666667, 2], [1.66666667, 2, 2.33333333, 2.66666667],
      [2.33333333, 2.66666667, 3, 3.33333333], [3, 3.33333333, 3.66666667, 4]]),
    (X8, {"scale": 0.6}, [[2.6666665, 4.3333331]]),
    (X16, {"scale": 0.8, "mode": "cubic"},
     [[1.47119141, 2.78125, 4.08251953], [6.71142578, 8.02148438, 9.32275391],
      [11.91650391, 13.2265625, 14.52783203]]),
    (X16, {"out_shape": (3, 3), "mode": "cubic"},
     [[1.63078704, 3.00462963, 4.37847222], [7.12615741, 8.5, 9.87384259],
      [12.62152778, 13.99537037, 15.36921296]]),
    (X16[:2], {"scale": (1, 2), "mode": "cubic", "coordinates": "asymmetric"},
     [[1, 1.40625, 2, 2.5, 3, 3.59375, 4, 4.09375], [5, 5.40625, 6, 6.5, 7, 7.59375, 8, 8.09375]]),
    (X16, {"out_shape": (3, 1), "coordinates": "pytorch_half_pixel"}, [[1.6666666], [7], [12.333333]]),
    (X16[:1], {"out_shape": (1, 8), "mode": "nearest", "coordinates": "align_corners", "rounding": "floor"},
     [[1, 1, 1, 2, 2, 3, 3, 4]]),
    (X16[:1], {"out_shape": (1, 8), "mode": "nearest", "coordinates": "asymmetric", "rounding": "round_prefer_ceil"},
     [[1, 2, 2, 3, 3, 4, 4, 4]]),
    (X16[:1], {"out_shape": (1, 8), "mode": "nearest", "rounding": "ceil"}, [[1, 2, 2, 3, 3, 4, 4, 4]]),
    (X16, {"scale": 0.6, "antialias": True, "boundary": "replicate"}, [[2.875, 4.5], [9.375, 11]]),
    (X16, {"out_shape": (3, 3), "antialias": True, "boundary": "replicate"},
     [[2.3636363, 3.590909, 4.818182], [7.2727275, 8.5, 9.727273], [12.181818, 13.409091, 14.636364]]),
    (X16, {"scale": 0.6, "mode": "cubic", "cubic": -0.75, "antialias": True, "boundary": "replicate"},
     [[2.5180721, 4.2858863], [9.589329, 11.357142]]),
    (X16, {"out_shape": (3, 3), "mode": "cubic", "cubic": -0.75, "antialias": True, "boundary": "replicate"},
     [[1.7750092, 3.1200073, 4.4650054], [7.1550016, 8.5, 9.844998], [12.534994, 13.8799925, 15.224991]]),
    (np.array(
     [[1.0, 2, 3, 4]]), {"scale": (1, 0.6), "coordinates": "half_pixel_symmetric"},
      [[1.6666667, 3.3333333]]),
    (X4, {"scale": (2.3, 2.94), "coordinates": "half_pixel_symmetric"},
     [[1, 1.15986395, 1.5, 1.84013605, 2], [1.56521738, 1.72508133, 2.06521738, 2.40535343, 2.56521738],
      [2.43478262, 2.59464657, 2.93478262, 3.27491867, 3.43478262], [3, 3.15986395, 3.5, 3.84013605, 4]]),
]  # fmt: skip


@pytest.mark.parametrize(("x", "options", "y"), ONNX_RESIZE)
def test_resize_gives_what_the_onnx_operator_is_documented_to_give(x, options, y):
    assert_allclose(resize(x.shape, **options)(x), y, rtol=2e-6)


def test_a_float_scale_is_the_simplest_fraction_that_rounds_to_it():
    # 1 / 0.1 is above 10 as a fraction: every sample would be one too early
    A = resize(60, scale=0.1, mode="nearest", coordinates="asymmetric", rounding="floor")
    assert_array_equal(A(np.arange(60.0)), np.arange(0.0, 60, 10))
    for scale in (0.6, np.float32(0.6), Fraction(3, 5), np.float64(0.6)):
        assert resize(5, scale=scale).out_shape == (3,)
        assert_array_equal(resize(5, scale=scale).toarray(), resize(5, 3).toarray())
    assert resize(3, scale=1 / 3).out_shape == (1,)
    assert resize((2, 3), scale=2).out_shape == (4, 6)
    assert resize((2, 3), scale=(1, np.int64(3))).out_shape == (2, 9)
    pi = 3.141592653589793
    A = resize(7, scale=pi, mode="nearest", rounding="floor", coordinates="asymmetric")
    assert_array_equal(A(np.arange(7.0)), np.floor(np.arange(21) / pi))
    assert resize(4, scale=1.0000000000000002).shape == (4, 4)


def test_places_are_exact_where_floats_are_not():
    # i * 49 / 49**2 in floats misses whole numbers
    A = resize(49, 49 * 49, mode="nearest", coordinates="asymmetric", rounding="floor")
    assert_array_equal(A(np.arange(49.0)), np.repeat(np.arange(49.0), 49))
    B = resize(10**6 + 3, 3, mode="nearest", coordinates="align_corners")
    assert B.tosparse().indices.tolist() == [0, 500001, 1000002]
    scale = Fraction(10**17 + 1, 10**17)  # beyond 64 bits on the way
    C = resize(10**4, scale=scale, coordinates="asymmetric")
    assert_allclose(C(np.arange(1e4)), np.arange(1e4) / float(scale), rtol=1e-14)


def test_nearest_may_be_of_integers_and_other_modes_may_not():
    assert resize(2, 4, mode="nearest", dtype=int).tosparse().dtype == np.int64
    with pytest.raises(TypeError, match=r"the weights of dtype float64 would lose its fract"):
        resize(2, 4, dtype=int)
    for out_shape in (3, 4):  # whether it is an identity or not
        for dtype in ("f2", bool, object):
            with pytest.raises(TypeError, match="dtype must be one a sparse matrix can hold"):
                resize(3, out_shape, mode="nearest", dtype=dtype)
        assert resize(3, out_shape, mode="nearest", dtype="i2").dtype == np.int64
    A = resize((2, 3), (4, 5), dtype="f4")
    assert A.dtype == A.tosparse().dtype == np.float32


def test_resize_says_what_is_wrong():
    assert_refused(
        (ValueError, "give one of out_shape and scale, got out_shape=None and scale=None", lambda: resize(4)),
        (ValueError, "got out_shape=3 and scale=2", lambda: resize(4, 3, scale=2)),
        (ValueError, r"out_shape must have one entry per axis of in_shape \(4,\), got \(3, 3", lambda: resize(4, (3, 3))),
        (ValueError, r"scale must have one entry per axis .* got \(2,\)", lambda: resize((4, 4), scale=(2,))),
        (ValueError, r"empty: scale \(0.2, 0.2\) of in_shape \(4, 5\) gives \(0, 1\)", lambda: resize((4, 5), scale=0.2)),
        (ValueError, r"scale \(1e-20,\) of in_shape \(4,\) gives \(0,\)", lambda: resize(4, scale=1e-20)),
        (ValueError, "scale must be > 0, got -1", lambda: resize(4, scale=-1)),
        (ValueError, "scale must be finite, got inf", lambda: resize(4, scale=np.inf)),
        (TypeError, "scale must be a real number, got 1j", lambda: resize(4, scale=1j)),
        (ValueError, "unknown mode 'bicubic': it is one of 'nearest', 'linear', 'cubic'", lambda: resize(4, 3, mode="bicubic")),
        (ValueError, "unknown coordinates 'corners': it is one of 'half_p", lambda: resize(4, 3, coordinates="corners")),
        (ValueError, "unknown rounding 'up': it is one of 'round_prefer_f", lambda: resize(4, 3, mode="nearest", rounding="up")),
        (ValueError, "rounding='floor' needs mode 'nearest', got mode='lin", lambda: resize(4, 3, rounding="floor")),
        (ValueError, r"cubic=-0\.5 needs mode 'cubic', got mode='linear'", lambda: resize(4, 3, cubic=-0.5)),
        (TypeError, "cubic must be a real number, got 'a'", lambda: resize(4, 3, mode="cubic", cubic="a")),
        (ValueError, "align_corners=True means coordinates='align_corners', but coordinates='asymmetric'",
         lambda: resize(4, 3, align_corners=True, coordinates="asymmetric")),
        (TypeError, "align_corners must be True, False or None, got 'no'", lambda: resize(4, 3, align_corners="no")),
        (ValueError, "align_corners=False means coordinates='half_pixel'", lambda: resize(4, 3, align_corners=False, coordinates="align_corners")),
    )  # fmt: skip
    for options in ({"mode": "nearest"}, {"align_corners": True}):
        with pytest.raises(
            ValueError, match="antialias=True needs mode 'linear' or 'cubic' and coordinates"
        ):
            resize(4, 3, antialias=True, **options)
    with pytest.raises(ValueError, match=r"boundary must be .* expected 1 entries, got 2"):
        resize(4, 3, boundary=("zeros", "zeros"))


# Pooling


def pooled(x, size, stride, pads, dilation, ceil_mode, include, rules):
    """Return means of windows, one window after the other, from the padded array."""
    wide = [
        (lo, hi + s + k * g)
        for (lo, hi), s, k, g in zip(pads, stride, size, dilation, strict=False)
    ]
    values = padded(x, wide, rules)
    counted = np.ones(x.shape)
    for a, ((lo, hi), (_, all_hi), rule) in enumerate(zip(pads, wide, rules, strict=True)):
        at = [(0, 0)] * x.ndim
        if rule == "zeros":
            at[a] = (lo, hi)
            counted = np.pad(counted, at, constant_values=include)
            at[a] = (0, all_hi - hi)
            counted = np.pad(counted, at)
        else:
            at[a] = (lo, all_hi)
            counted = np.pad(counted, at, constant_values=1)
    starts = []
    for n, k, s, (lo, hi), g in zip(x.shape, size, stride, pads, dilation, strict=True):
        last = n + lo + hi - g * (k - 1) - 1  # where a window inside the padding may start
        if ceil_mode:
            last = min(-(-last // s) * s, n + lo - 1)
        starts.append(range(0, last + 1, s))
    y = np.empty([len(axis) for axis in starts])
    for place in np.ndindex(y.shape):
        window = tuple(
            slice(axis[i], axis[i] + g * (k - 1) + 1, g)
            for axis, i, k, g in zip(starts, place, size, dilation, strict=True)
        )
        y[place] = values[window].sum() / counted[window].sum()
    return y


@pytest.mark.parametrize("rule", RULES)
def test_average_pool_takes_means_of_windows_of_the_padded_array(rule):
    rng = np.random.default_rng(2048)
    for _ in range(18):
        d = int(rng.integers(1, 4))
        most = {1: 9, 2: 5, 3: 3}[d]
        size, dilation = (tuple(rng.integers(1, 4, d).tolist()) for _ in range(2))
        stride = tuple(rng.integers(1, 5, d).tolist())
        pads = [tuple(rng.integers(0, k // 2 + 1, 2).tolist()) for k in size]
        spans = [g * (k - 1) + 1 for k, g in zip(size, dilation, strict=True)]
        shape = tuple(int(rng.integers(e, e + most)) for e in spans)
        ceil_mode, include = (bool(v) for v in rng.integers(0, 2, 2))
        args = (size, stride, pads, dilation, ceil_mode, include, [rule] * d)
        expected = columns(lambda x, args=args: pooled(x, *args), shape)
        options = {"stride": stride, "padding": pads, "dilation": dilation}
        options |= {"ceil_mode": ceil_mode, "count_include_pad": include, "boundary": rule}
        A = average_pool(shape, size, **options)
        out_shape = pooled(np.ones(shape), *args).shape
        assert_matrix(A, expected, out_shape, rtol=1e-14, atol=1e-15)
        assert rule == "zeros" or isinstance(A, linconv.Conv)
        if rule != "zeros" or not include:  # means of ones
            assert_allclose(A(np.ones(shape)), 1, rtol=1e-13)


ONNX_POOL = [  # options, output: the examples of AveragePool-22 in onnx/docs/Operators.md
    ({"size": 5, "stride": 1, "padding": 2, "count_include_pad": False},
     [[7, 7.5, 8, 8.5, 9], [9.5, 10, 10.5, 11, 11.5], [12, 12.5, 13, 13.5, 14], [14.5, 15, 15.5, 16, 16.5],
      [17, 17.5, 18, 18.5, 19]]),
    ({"size": 5, "stride": 1, "padding": 2},
     [[2.52, 3.6, 4.8, 4.08, 3.24], [4.56, 6.4, 8.4, 7.04, 5.52], [7.2, 10, 13, 10.8, 8.4],
      [6.96, 9.6, 12.4, 10.24, 7.92], [6.12, 8.4, 10.8, 8.88, 6.84]]),
    ({"size": 2, "stride": 2}, [[4, 6], [14, 16]]),
    ({"size": 3, "stride": 2, "padding": "same", "count_include_pad": False},
     [[4, 5.5, 7], [11.5, 13, 14.5], [19, 20.5, 22]]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "y"), ONNX_POOL)
def test_average_pool_gives_what_the_onnx_operator_is_documented_to_give(options, y):
    A = average_pool((5, 5), **options)
    assert_allclose(A(X25), y, rtol=1e-14)


def test_average_pool_of_words_channels_and_divisors():
    A = average_pool(4, 2, stride=1, padding="same_lower")
    twice = (2 * A.toarray()).tolist()
    assert twice == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    A = average_pool(4, 2, stride=1, padding="same", count_include_pad=False)
    assert A.toarray().tolist()[-2:] == [[0, 0, 0.5, 0.5], [0, 0, 0, 1]]
    assert average_pool((3, 4, 6), (1, 2, 3)).out_shape == (3, 2, 2)
    sums = average_pool((2, 3), (2, 2), stride=1, divisor_override=1, dtype=int)
    assert sums.dtype == np.int64
    assert sums.toarray().tolist() == [[1, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 1]]
    A = average_pool(3, 2, padding=[(1, 0)], divisor_override=4, count_include_pad=False)
    assert isinstance(A, linconv.Conv)
    assert A.toarray().tolist() == [[0.25, 0, 0], [0, 0.25, 0.25]]
    A = average_pool(5, 2, ceil_mode=True, boundary="circular", dtype="f4")
    assert A.dtype == np.float32
    assert A.toarray().tolist()[-1] == [0.5, 0, 0, 0, 0.5]
    # rules that differ: zeros of the low side do not count, samples of the high side do
    rules = [("zeros", "replicate")]
    A = average_pool(3, 3, stride=1, padding=1, count_include_pad=False, boundary=rules)
    third = 1 / 3
    expected = [[0.5, 0.5, 0], [third, third, third], [0, third, 2 * third]]
    assert_allclose(A.toarray(), expected, rtol=1e-15)
    # wide padding is fine where every window still sees a sample
    A = average_pool(1, 3, stride=1, padding=2, count_include_pad=False)
    assert A.toarray().tolist() == [[1], [1], [1]]
    A = average_pool(2, 2, stride=3, padding=[(0, 9)], ceil_mode=True, boundary="circular")
    assert A.out_shape == (1,)


def test_average_pool_says_what_is_wrong():
    assert_refused(
        (ValueError, r"window 0 along axis 1 sees no sample: size 2, stride 2, dilation 1 and padding \(2, 2\) of 4 samples; pad less, or use another boundary rule",
         lambda: average_pool((4, 4), 2, padding=(0, 2))),
        (ValueError, r"window 0 along axis 0 sees no sample.* dilation 2", lambda: average_pool(1, 2, dilation=2, padding=1)),
    )  # fmt: skip
    assert average_pool((4, 4), 2, padding=(0, 2), boundary="reflect").out_shape == (2, 4)
    assert_refused(
        (ValueError, r"empty along axis 1: n \+ lo \+ hi = 2 samples, but .* d \(k - 1\) \+ 1 = 3", lambda: average_pool((4, 2), 3)),
        (ValueError, r"padding must be >= 0, got \(-1, 0\) for axis 0: use", lambda: average_pool(4, 2, padding=[(-1, 0)])),
        (ValueError, "size must be >= 1 along every axis", lambda: average_pool(4, 0)),
        (ValueError, "size must be one integer or one per axis", lambda: average_pool((4, 4), (2, 2, 2))),
        (ValueError, "stride must be >= 1 along every axis", lambda: average_pool(4, 2, stride=0)),
        (ValueError, "dilation must be >= 1 along every axis", lambda: average_pool(4, 2, dilation=0)),
        (ValueError, "unknown padding 'SAME': the words are", lambda: average_pool(4, 2, padding="SAME")),
        (ValueError, "divisor_override must be > 0, got 0", lambda: average_pool(4, 2, divisor_override=0)),
        (TypeError, "divisor_override must be a real number, got 1j", lambda: average_pool(4, 2, divisor_override=1j)),
        (TypeError, r"would lose its fractions .* as dtype int64", lambda: average_pool(4, 2, dtype=int)),
    )  # fmt: skip


# Laws of all imaging operators

EXAMPLES = [
    gradient((3, 4), boundary="antireflect"), gradient((3, 4), axes=1, kind="central"),
    divergence((3, 2, 2), boundary="circular"), laplacian((3, 4), spacing=(1, 2), dtype="f4"),
    downsample((5, 4), 2, phase=1), upsample((3, 2), (2, 3)), resize((3, 4), (5, 2), mode="cubic"),
    resize((5, 4), (2, 4), antialias=True, dtype="c16"), resize((5, 4), (2, 7), mode="nearest"),
    pad((3, 2), [(4, 1), (0, 2)], boundary=("antireflect", "symmetric")), crop((4, 5), (1, 2)),
    average_pool((5, 4), 2),
    average_pool((5, 4), 3, stride=2, ceil_mode=True, padding=1, count_include_pad=False),
]  # fmt: skip


@pytest.mark.parametrize("A", EXAMPLES, ids=lambda A: f"{A.in_shape}->{A.out_shape}")
def test_adjoints_are_exact(A):
    assert_adjoint(A)
    assert A.T.T is A
    assert_array_equal(A.T.tosparse().toarray(), A.tosparse().toarray().T)


@pytest.mark.parametrize("A", EXAMPLES, ids=lambda A: f"{A.in_shape}->{A.out_shape}")
def test_products_refuse_what_does_not_fit_and_pass_nan_on(A):
    assert_refused(
        (ValueError, r"expects shape", lambda: A(np.ones((9, 9, 9)))),
        (TypeError, "x must hold numbers, got dtype object", lambda: A(np.full(A.in_shape, None))),
    )  # fmt: skip
    x = np.zeros(A.in_shape)
    x.flat[0] = np.nan
    seen = A.toarray()[:, 0] != 0
    assert np.isnan(A(x).ravel()[seen]).all()
    batch = np.random.default_rng(5).standard_normal((2, *A.in_shape))
    assert_allclose(A(batch)[1], A(batch[1]), rtol=1e-14, atol=1e-14)


# PyTorch, where it is installed


@pytest.fixture(scope="module")
def interpolate():
    """PyTorch's functions for arrays without batch and channels; one thread."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def apply(f, x, *args, **options):
        function = getattr(torch.nn.functional, f)
        return function(torch.tensor(x)[None, None], *args, **options)[0, 0].numpy()

    yield apply
    torch.set_num_threads(threads)


def random_sizes(rng, d):
    return tuple(rng.integers(1, {1: 30, 2: 10, 3: 6}[d], d).tolist())


@pytest.mark.parametrize("d", [1, 2, 3])
def test_torch_interpolate_equals_resize(interpolate, d):
    rng = np.random.default_rng(260 + d)
    for _ in range(40):
        n, o = random_sizes(rng, d), random_sizes(rng, d)
        x = rng.standard_normal(n)
        words = {"linear": ("linear", "bilinear", "trilinear")[d - 1]}
        if d == 2:
            words["cubic"] = "bicubic"
        for (ours, theirs), corners in itertools.product(words.items(), (True, False)):
            y = interpolate("interpolate", x, size=o, mode=theirs, align_corners=corners)
            A = resize(n, o, mode=ours, align_corners=corners)
            assert_allclose(A(x), y, rtol=1e-12, atol=1e-13)
        A = resize(n, o, mode="nearest", rounding="round_prefer_ceil")
        assert_array_equal(A(x), interpolate("interpolate", x, size=o, mode="nearest-exact"))
        A = resize(n, o, mode="nearest", rounding="floor", coordinates="asymmetric")
        assert_array_equal(A(x), interpolate("interpolate", x, size=o, mode="nearest"))


@pytest.mark.parametrize(("ours", "theirs"), [("linear", "bilinear"), ("cubic", "bicubic")])
def test_torch_antialias_and_scale_factor_equal_resize(interpolate, ours, theirs):
    rng = np.random.default_rng(415)
    for _ in range(40):
        n = random_sizes(rng, 2)
        o = (int(rng.integers(1, 9)), int(rng.integers(2, 9)))  # torch: wrong for a width of 1
        x = rng.standard_normal(n)
        y = interpolate("interpolate", x, size=o, mode=theirs, antialias=True)
        A = resize(n, o, mode=ours, antialias=True)
        assert_allclose(A(x), y, rtol=1e-12, atol=1e-12)
        scale = tuple(rng.choice([0.1, 1 / 3, 0.6, 0.7, 1.5, 2.3, 3.0], 2).tolist())
        n = tuple(int(rng.integers(10, 20)) for _ in range(2))
        x = rng.standard_normal(n)
        y = interpolate("interpolate", x, scale_factor=scale, mode=theirs)
        A = resize(n, scale=scale, mode=ours)
        assert_allclose(A(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_torch_avg_pool_equals_average_pool(interpolate, d):
    rng = np.random.default_rng(500 + d)
    for _ in range(80):
        size = tuple(rng.integers(1, {1: 7, 2: 5, 3: 4}[d], d).tolist())
        n = tuple(k + int(rng.integers(0, 6)) for k in size)
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in size)
        options = {"stride": tuple(rng.integers(1, 6, d).tolist()), "padding": padding}
        options["ceil_mode"] = bool(rng.integers(2))
        options["count_include_pad"] = bool(rng.integers(2))
        if d > 1 and rng.integers(2):
            options["divisor_override"] = int(rng.integers(1, 9))
        x = rng.standard_normal(n)
        y = interpolate(f"avg_pool{d}d", x, size, **options)
        A = average_pool(n, size, **options)
        assert_allclose(A(x), y, rtol=1e-12, atol=1e-13)
