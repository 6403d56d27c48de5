"""The diagnosis names planted faults; the wrong matrices are made by NumPy alone."""

import itertools
import math

import numpy as np
import pytest
from helpers import DTYPES, NUMPY_MODES, assert_refused, few, rotated

import linconv
from linconv.geometry import Geometry
from linconv.testing.diagnosis import Diagnosis, diagnose
from linconv.testing.report import Entry


def matrix(w, n, *, stride, dilation, low, out, rule="zeros"):
    """The matrix of a convolution, w (c_out, c_in, *k), by numpy.pad and slices."""
    size = w.shape[1] * math.prod(n)
    X = np.eye(size).reshape(size, w.shape[1], *n)
    reach = [
        s * (o - 1) + d * (k - 1) + 1 - length - lo
        for s, o, d, k, length, lo in zip(
            stride, out, dilation, w.shape[2:], n, low, strict=True
        )
    ]
    widths = [(max(lo, 0), max(hi, 0)) for lo, hi in zip(low, reach, strict=True)]
    X = np.pad(X, [(0, 0), (0, 0), *widths], **NUMPY_MODES[rule])
    X = X[(..., *(slice(max(-lo, 0), None) for lo in low))]
    Y = np.zeros((size, len(w), *out), w.dtype)
    for t in np.ndindex(*w.shape[2:]):
        at = tuple(
            slice(d * i, d * i + s * (o - 1) + 1, s)
            for d, i, s, o in zip(dilation, t, stride, out, strict=True)
        )
        Y += np.einsum("oc,nc...->no...", w[(slice(None), slice(None), *t)], X[(..., *at)])
    return Y.reshape(size, -1).T.astype(w.dtype)


class Example:
    """A convolution; `build` makes its matrix with anything changed."""

    def __init__(self, seed, n, k, *, channels=(), dtype="float64", rule="zeros", **options):
        rng = np.random.default_rng(seed)
        d = len(n)
        w = rng.standard_normal((*(channels or (1, 1)), *k))
        if "complex" in dtype:
            w = w + 1j * rng.standard_normal(w.shape)
        self.w, self.n, self.rule = w.astype(dtype), n, rule
        self.stride = options.get("stride", (1,) * d)
        self.dilation = options.get("dilation", (1,) * d)
        extent = [e * (t - 1) + 1 for e, t in zip(self.dilation, k, strict=True)]
        self.low = options.get("low", tuple((e - 1) // 2 for e in extent))
        high = options.get("high", tuple(e // 2 for e in extent))
        self.out = tuple(
            (size + lo + hi - e) // s + 1
            for size, lo, hi, e, s in zip(n, self.low, high, extent, self.stride, strict=True)
        )
        self.in_shape, self.out_shape = n, self.out
        if channels:
            self.in_shape, self.out_shape = (channels[1], *n), (channels[0], *self.out)
        self.C = self.build()

    def build(self, w=None, **changes):
        names = ("n", "stride", "dilation", "low", "out", "rule")
        options = {name: getattr(self, name) for name in names} | changes
        return matrix(self.w if w is None else w, **options)

    def tensor(self, M):
        """View M as (c_out, *out, c_in, *n)."""
        return M.reshape(len(self.w), *self.out, self.w.shape[1], *self.n)


def cause(example, B, what="adjoint", **options):
    return diagnosis(example, B, what, **options).cause


def diagnosis(example, B, what="adjoint", C=None, **options):
    C = example.C if C is None else C
    eps = float(np.finfo(C.dtype).eps)
    norms = [np.linalg.norm(C, axis=axis, keepdims=True) for axis in (0, 1)]
    return diagnose(
        C,
        B,
        example.in_shape,
        example.out_shape,
        tolerance=14 * eps * (np.abs(C) + norms[0] + norms[1]),
        dtype=C.dtype,
        what=what,
        **options,
    )


def transposed(example, B):
    """Diagnose the transposed operator instead, its input being the other's output."""
    eps = float(np.finfo(example.C.dtype).eps)
    limit = 100 * eps * np.abs(example.C).max()
    shapes = (example.out_shape, example.in_shape)
    return diagnose(example.C.T, B.T, *shapes, tolerance=limit, dtype=example.C.dtype).cause


def causes(example, B):
    """Diagnose both ways; equal causes are one."""
    return {cause(example, B), transposed(example, B)}


def flip(w):
    return np.flip(w, tuple(range(2, w.ndim)))


def spoiled(example, index, factor, tensor=True):
    """Return the matrix with some of its entries, or of its tensor's, times a factor."""
    B = example.C.copy()
    (example.tensor(B) if tensor else B)[index] *= factor
    return B


# Seeds, shapes, rules and dtypes of every kind; all of them reach outside the input.
ZOO = {
    "1-d": {"seed": 101, "n": (23,), "k": (4,)},
    "1-d dilated float32": {
        "seed": 102, "n": (19,), "k": (3,), "dilation": (2,), "dtype": "float32"
    },
    "1-d strided complex64": {
        "seed": 103, "n": (22,), "k": (3,), "stride": (2,), "dtype": "complex64"
    },
    "2-d": {"seed": 104, "n": (8, 9), "k": (3, 2), "rule": "reflect"},
    "2-d complex128": {"seed": 105, "n": (7, 8), "k": (3, 3), "dtype": "complex128"},
    "1-d channels": {
        "seed": 106, "n": (13,), "k": (3,), "channels": (3, 2), "rule": "replicate"
    },
    "2-d channels float32": {
        "seed": 107, "n": (8, 7), "k": (3, 2), "channels": (2, 3), "dtype": "float32"
    },
    "2-d channels strided circular": {
        "seed": 108, "n": (8, 9), "k": (2, 3), "channels": (2, 2), "stride": (1, 2),
        "rule": "circular",
    },
}  # fmt: skip
ALL = pytest.mark.parametrize("name", ZOO)
FEW = pytest.mark.parametrize("name", ["1-d", "2-d complex128", "2-d channels float32"])
FACTORS = pytest.mark.parametrize(
    ("s", "word"),
    [(0, "missing"), (2, "doubled"), (0.5, "scaled by 0.5"), (-1, "scaled by -1")],
)
WITH_CHANNELS = pytest.mark.parametrize("name", [name for name in ZOO if "channels" in name])


def example(name, **changes):
    return Example(**(ZOO[name] | changes))


def noise(name):
    return np.random.default_rng(sum(map(ord, name)))


@ALL
def test_equal_matrices_have_no_cause(name):
    one = example(name)
    assert diagnosis(one, one.C.copy()) == Diagnosis("", ())


def test_the_reference_is_linconvs_matrix():
    one = Example(109, (9, 8), (3, 2), stride=(2, 1), dilation=(1, 2), rule="antireflect")
    padding = [(1, 1), (1, 1)]
    C = linconv.conv_matrix(
        one.w[0, 0], (9, 8), stride=(2, 1), dilation=(1, 2), padding=padding, boundary=one.rule
    )
    np.testing.assert_allclose(one.C, C.toarray(), atol=1e-14)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@ALL
def test_a_missing_conjugate_and_a_lost_imaginary_part_are_named(name, dtype):
    one = example(name, dtype=dtype)
    expected = "the adjoint is the transpose: the conjugate is missing"
    assert cause(one, one.C.conj()) == expected
    assert cause(one, one.C.conj(), "forward").startswith("the forward is the conjugate")
    for what in ("adjoint", "forward"):
        assert cause(one, one.C.real, what) == f"the {what} keeps only the real part"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [(), (2, 2)])
def test_the_forward_instead_of_the_adjoint_is_named(dtype, channels):
    for n, k in (((14,), (4,)), ((6, 7), (3, 2))):
        one = Example(110, n, k, channels=channels, dtype=dtype)
        said = cause(one, one.C.conj().T)
        assert said.startswith("the adjoint is the forward itself: the transpose is missing")
        assert cause(one, one.C.conj().T, "forward").startswith("the forward is the adjoint")


def test_the_transpose_of_a_complex_matrix_is_named():
    rng = np.random.default_rng(111)
    C = rng.standard_normal((9, 9)) + 1j * rng.standard_normal((9, 9))
    told = [
        diagnose(C, C.T, (9,), (9,), tolerance=1e-12, dtype=complex, what=what).cause
        for what in ("adjoint", "forward")
    ]
    assert told == [
        "the adjoint is the conjugate of the forward: the transpose is missing",
        "the forward is the transpose of the true forward",
    ]


@ALL
def test_an_unflipped_kernel_is_named(name):
    one = example(name)
    B = one.build(flip(one.w))
    expected = "the adjoint correlates with the unflipped kernel"
    assert expected in cause(one, B)
    assert expected in transposed(one, B)


def test_a_kernel_unflipped_along_one_axis_is_named():
    one = Example(112, (9, 8), (3, 4), channels=(2, 3))
    expected = "the adjoint correlates with the unflipped kernel along axis "
    assert cause(one, one.build(one.w[..., ::-1])) == expected + "2"
    assert cause(one, one.build(one.w[..., ::-1, :])) == expected + "1"


@pytest.mark.parametrize("n", [(8, 8), (7, 9)])
@pytest.mark.parametrize("rule", ["zeros", "symmetric"])
def test_exchanged_kernel_axes_are_named(n, rule):
    expected = "axes 0 and 1 of the kernel are exchanged"
    one = Example(113, n, (3, 3), rule=rule)
    assert cause(one, one.build(one.w.swapaxes(2, 3))) == expected
    one = Example(114, n, (3, 3), rule=rule, channels=(2, 3), stride=(2, 1), dtype="float32")
    assert cause(one, one.build(one.w.swapaxes(2, 3))) == "spatial " + expected


def test_exchanged_axes_of_an_array_are_named():
    one = Example(115, (6, 8), (3, 3))
    B = one.tensor(one.C).swapaxes(-1, -2).reshape(one.C.shape)
    assert cause(one, B) == "axes 0 and 1 of the input are exchanged"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), [((11,), (3,)), ((6, 5), (2, 3))])
def test_exchanged_channels_and_a_wrong_order_of_them_are_named(n, k, dtype):
    for channels in [(2, 2), (3, 3), (2, 4), (3, 2)]:
        one = Example(116, n, k, channels=channels, dtype=dtype)
        w = one.w.reshape(*channels[::-1], *k).swapaxes(0, 1)
        assert causes(one, one.build(w)) == {"input and output channels are exchanged"}
    for order, told in [
        ((1, 0, 2), "1, 0, 2"),
        ((2, 0, 1), "2, 0, 1"),
        ((0, 2, 1), "0, 2, 1"),
    ]:
        one = Example(117, n, k, channels=(2, 3), dtype=dtype)
        B = one.build(one.w[:, order])
        assert cause(one, B) == f"the order of the input channels is wrong: {told}"
        assert transposed(one, B) == f"the order of the output channels is wrong: {told}"


@pytest.mark.parametrize(("by", "word"), [(1, "one"), (-1, "one"), (2, "two"), (-3, "three")])
@FEW
def test_a_circular_shift_is_named(name, by, word):
    one = example(name)
    flag = len(one.in_shape) - len(one.n)
    for axis in range(len(one.n)):
        B = np.roll(one.tensor(one.C), by, axis - len(one.n)).reshape(one.C.shape)
        expected = f"shifted by {word} along axis {axis + flag} of the input"
        assert cause(one, B) == expected
        B = np.roll(one.tensor(one.C), by, axis + 1).reshape(one.C.shape)
        assert cause(one, B) == expected.replace("input", "output")


@pytest.mark.parametrize("by", [1, -1])
@ALL
def test_a_shift_with_zeros_is_named(name, by):
    one = example(name)
    B = np.roll(one.tensor(one.C), by, -1)
    B[..., 0 if by > 0 else -1] = 0
    axis = len(one.in_shape) - 1
    expected = f"shifted by one along axis {axis} of the input"
    assert cause(one, B.reshape(one.C.shape)).endswith(expected)


@pytest.mark.parametrize("by", [1, -1])
@ALL
def test_a_kernel_off_its_place_is_named(name, by):
    one = example(name)
    low = (one.low[0] + by, *one.low[1:])
    axis = len(one.in_shape) - len(one.n)
    phase = "stride phase: " if one.stride[0] > 1 else ""
    expected = f"{phase}shifted by one along axis {axis} of the "
    assert cause(one, one.build(low=low)).startswith(expected)


def test_a_shift_along_two_axes_is_named():
    one = Example(118, (9, 10), (3, 3))
    B = one.build(low=(one.low[0] - 1, one.low[1] - 2))
    expected = "shifted by one along axis 0 of the input and by two along axis 1 of the input"
    assert cause(one, B) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "axis"), [((25,), 0), ((9, 12), 0), ((9, 12), 1)])
def test_a_wrong_stride_phase_is_named(n, axis, dtype):
    one = Example(119, n, (3,) * len(n), stride=(3,) * len(n), dtype=dtype)
    low = tuple(lo + (a == axis) for a, lo in enumerate(one.low))
    expected = f"stride phase: shifted by one along axis {axis}"
    assert cause(one, one.build(low=low)).startswith(expected)
    assert transposed(one, one.build(low=low)).startswith(expected)


@pytest.mark.parametrize("channels", [(), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_a_missing_dilation_is_named(channels, dtype):
    flag = len(channels) // 2
    for n, k, axis in (((20,), (3,), 0), ((10, 11), (2, 3), 1)):
        d = len(n)
        one = Example(120, n, k, channels=channels, dtype=dtype, dilation=(2,) * d)
        dilation = tuple(1 if a == axis else 2 for a in range(d))
        expected = (
            f"dilation: the adjoint's taps are 1 apart along axis {axis + flag}, "
            "the forward's 2 apart"
        )
        for shift in (0, 1):
            low = tuple(lo - shift * (a == axis) for a, lo in enumerate(one.low))
            B = one.build(dilation=dilation, low=low)
            assert causes(one, B) == {expected}


@pytest.mark.parametrize("channels", [(), (3, 2)])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_a_missing_stride_is_named(channels, dtype):
    flag = len(channels) // 2
    for n, k, axis in (((26,), (3,), 0), ((11, 12), (2, 3), 1)):
        d = len(n)
        one = Example(121, n, k, channels=channels, dtype=dtype, stride=(2,) * d)
        stride = tuple(1 if a == axis else 2 for a in range(d))
        expected = (
            f"stride: the adjoint advances by 1 along axis {axis + flag}, the forward by 2"
        )
        assert causes(one, one.build(stride=stride)) == {expected}
        said = cause(one, one.build(stride=stride), "forward")
        assert said == expected.replace("forward", "true forward").replace(
            "adjoint", "forward"
        )


@pytest.mark.parametrize(("true", "got"), list(itertools.permutations(NUMPY_MODES, 2)))
def test_a_wrong_boundary_rule_is_named(true, got):
    for options in (
        {"n": (21,), "k": (5,), "dtype": "complex64"},
        {"n": (9, 10), "k": (5, 5), "dtype": "float32"},
        {"n": (17,), "k": (5,), "channels": (2, 3), "stride": (2,)},
    ):
        one = Example(122, rule=true, **options)
        expected = f"the boundary is treated as {got} in the adjoint"
        assert causes(one, one.build(rule=got)) == {expected}


def test_rules_that_agree_are_both_named():
    one = Example(123, (12,), (3,), rule="circular")
    expected = (
        "the boundary is treated as symmetric in the adjoint (here the same as replicate)"
    )
    assert cause(one, one.build(rule="replicate")) == expected


@pytest.mark.parametrize("rule", ["reflect", "symmetric", "replicate", "antireflect"])
def test_padding_again_instead_of_folding_back_is_named(rule):
    for n, k in (((18,), (5,)), ((9, 8), (5, 5))):
        one = Example(124, n, k, rule=rule)
        B = one.build(flip(one.w)).T
        expected = f"the boundary is treated as {rule} in the adjoint: padded again"
        assert cause(one, B).startswith(expected)


@pytest.mark.parametrize("n", [(30,), (12, 13)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_unknown_boundary_is_still_located(n, dtype):
    one = Example(125, n, (5,) * len(n), rule="reflect", dtype=dtype)
    Z = one.build(rule="zeros")
    weights = np.random.default_rng(126).uniform(0.2, 0.8, Z.shape)
    B = (Z + (one.C - Z) * weights).astype(dtype)
    assert cause(one, B) == "wrong only near the boundary"


@pytest.mark.parametrize("s", [0.5, 2, -1, 3, 0])
@ALL
def test_a_factor_is_named(name, s):
    one = example(name)
    assert cause(one, s * one.C).startswith(f"adjoint = {s:g} x the true adjoint")
    assert cause(one, s * one.C, "forward").startswith(f"forward = {s:g} x the true forward")


@pytest.mark.parametrize("name", ["1-d", "2-d channels float32"])
def test_a_factor_of_a_size_is_named(name):
    one = example(name)
    N = math.prod(one.in_shape)
    for word, s in (("1/N", 1 / N), ("N", N), ("1/sqrt(N)", N**-0.5), ("sqrt(N)", N**0.5)):
        expected = f"adjoint = {s:.6g} x the true adjoint = {word}, N = {N}"
        assert cause(one, (s * one.C).astype(one.C.dtype)) == expected
    spatial = math.prod(one.n)
    B = (one.C / spatial).astype(one.C.dtype)
    assert cause(one, B).endswith(f" = 1/N, N = {spatial}")


def test_a_complex_factor_is_named():
    one = example("2-d complex128")
    # The part under test is the adjoint of the second matrix, so its factor is the conjugate.
    assert cause(one, 1j * one.C) == "adjoint = -1j x the true adjoint"
    assert cause(one, (1 - 2j) * one.C) == "adjoint = (1+2j) x the true adjoint"
    assert cause(one, (1 - 2j) * one.C, "forward") == "forward = (1-2j) x the true forward"
    B = spoiled(one, 7, 3j, tensor=False)
    assert cause(one, B) == "wrong only in output 7: scaled by -3j"
    B = one.C * np.where(np.arange(len(one.C)) % 2, 1, 2j)[:, None]
    said = cause(one, B)
    assert said.startswith("scaled differently along axis 1 of the output: -2j, 1, -2j, 1")


@FACTORS
@WITH_CHANNELS
def test_one_wrong_channel_is_named(name, s, word):
    one = example(name)
    assert cause(one, spoiled(one, 1, s)) == f"wrong only in output channel 1: {word}"
    channel = (..., 1, *[slice(None)] * len(one.n))
    assert cause(one, spoiled(one, channel, s)) == f"wrong only in input channel 1: {word}"


@WITH_CHANNELS
def test_entries_that_differ_in_one_channel_are_counted(name):
    one = example(name)
    B = one.C.copy()
    places = np.argwhere(one.tensor(B)[1])
    wrong = places[noise(name).permutation(len(places))[:20]]
    for at in wrong:
        one.tensor(B)[(1, *at)] *= 1.5
    assert cause(one, B) == "wrong only in output channel 1: 20 entries differ"


@FACTORS
@pytest.mark.parametrize("name", ["2-d", "2-d complex128", "2-d channels float32"])
def test_one_wrong_index_along_an_axis_is_named(name, s, word):
    one = example(name)
    flag = len(one.in_shape) - 2
    for index, place in [
        (np.s_[:, :, 3], f"axis {1 + flag} of the output"),
        (np.s_[..., 3, :], f"axis {flag} of the input"),
    ]:
        said = cause(one, spoiled(one, index, s))
        assert said == f"wrong only at index 3 along {place}: {word}"


@ALL
def test_missing_ends_of_an_axis_are_named(name):
    one = example(name)
    axis = len(one.in_shape) - 1
    for start, words, verb in (-1, "the last sample", "is"), (-3, "the last 3 samples", "are"):
        said = cause(one, spoiled(one, np.s_[..., start:], 0))
        assert f"{words} along axis {axis} of the input {verb} missing" in said


@FACTORS
@ALL
def test_one_wrong_row_or_column_is_named(name, s, word):
    one = example(name)
    B = spoiled(one, 7, s, tensor=False)
    assert cause(one, B) == f"wrong only in output 7: {word}"
    if np.count_nonzero(one.C[:, 8]) > 1:
        B = spoiled(one, np.s_[:, 8], s, tensor=False)
        assert cause(one, B) == f"wrong only in input 8: {word}"


@FEW
def test_different_factors_along_an_axis_are_named(name):
    one = example(name)
    for axis in range(len(one.out_shape)):
        s = noise(name).choice([1.0, 2.0, 0.25, -1.0], one.out_shape[axis])
        s[:3] = (1, 0.5, 2)[: len(s)]
        B = one.C.reshape(*one.out_shape, -1) * np.expand_dims(
            s, tuple(a for a in range(len(one.out_shape) + 1) if a != axis)
        )
        said = cause(one, B.reshape(one.C.shape).astype(one.C.dtype))
        if np.count_nonzero(s != 1) > 1:
            expected = f"scaled differently along axis {axis} of the output: 1, 0.5"
            assert said.startswith(expected)


def test_different_factors_of_every_sample_are_named():
    one = example("2-d complex128")
    s = np.random.default_rng(127).uniform(1, 2, one.C.shape[1])
    assert cause(one, one.C * s).startswith(
        "scaled differently from sample to sample of the input"
    )


@pytest.mark.parametrize("s", [0, 2, -1, 1.01])
@ALL
def test_a_single_wrong_entry_is_named_and_listed(name, s):
    one = example(name)
    places = np.argwhere(np.abs(one.C) > 0.05)
    i, j = places[len(places) // 3]
    B = spoiled(one, (i, j), s, tensor=False)
    said = diagnosis(one, B)
    assert said.cause == "a single wrong entry"
    assert said.entries == (Entry((i, j), one.C[i, j].item(), B[i, j].item()),)


@pytest.mark.parametrize("wrong", [2, 3, 5, 8])
@pytest.mark.parametrize("name", ["2-d complex128", "2-d channels float32", "2-d"])
def test_a_few_wrong_entries_are_counted_and_listed_by_size(name, wrong):
    one = example(name)
    places = np.argwhere(np.abs(one.C) > 0.05)
    chosen = places[np.random.default_rng(140 + wrong).permutation(len(places))[:wrong]]
    B = one.C.copy()
    for size, (i, j) in enumerate(chosen, 1):
        B[i, j] += size
    said = diagnosis(one, B)
    assert said.cause == f"{wrong} wrong entries"
    worst = [tuple(int(v) for v in at) for at in chosen[::-1][:5]]
    assert [entry.index for entry in said.entries] == worst
    for entry in said.entries:
        assert entry.expected == one.C[entry.index]
        assert entry.got == B[entry.index]


@pytest.mark.parametrize("name", ["1-d", "1-d dilated float32", "2-d", "2-d complex128"])
def test_a_wrong_tail_is_named(name):
    one = example(name)
    B = one.C.copy()
    B[:, -7:] *= noise(name).uniform(1.2, 2, B[:, -7:].shape).astype("float32")
    assert cause(one, B).startswith("wrong only in the last 7 samples of the input: ")
    B = spoiled(one, np.s_[-7:], 0, tensor=False)
    assert "wrong only in the last 7 samples of the output: missing" in cause(one, B)


@ALL
def test_single_precision_inside_is_named(name):
    for wide, narrow in (("float64", "float32"), ("complex128", "complex64")):
        one = example(name, dtype=wide)
        B = one.C.astype(narrow).astype(wide)
        assert cause(one, B) == f"float32 inside a {wide} operator"
        assert cause(one, one.C, C=B) == f"float32 inside a {wide} operator"


def test_the_noise_of_single_precision_is_named_however_it_came_about():
    one = example("2-d")
    B = one.C * (1 + 5e-8 * np.random.default_rng(128).standard_normal(one.C.shape))
    assert cause(one, B) == "float32 inside a float64 operator"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [(20,), (7, 8)])
def test_half_precision_inside_is_named(n, dtype):
    one = Example(129, n, (3,) * len(n), dtype=dtype)
    expected = f"half precision inside a {dtype} operator"
    assert cause(one, one.C.astype("float16").astype(dtype)) == expected
    bits = one.C.astype("float32").view("uint32")
    rounded = ((bits + 0x8000) & 0xFFFF0000).astype("uint32").view("float32")  # bfloat16
    assert cause(one, rounded.astype(dtype)) == expected


@FEW
def test_nan_and_infinity_are_listed(name):
    one = example(name)
    B = one.C.copy()
    B[3, 4], B[5, 6] = np.nan, np.inf
    said = diagnosis(one, B)
    assert said.cause == "the adjoint has NaN or infinite entries"
    assert {entry.index for entry in said.entries} == {(3, 4), (5, 6)}


@pytest.mark.parametrize("seed", few(range(201, 216), 3))
def test_unrelated_matrices_are_unknown(seed):
    rng = np.random.default_rng(seed)
    m, n = (int(v) for v in rng.integers(6, 30, 2))
    C, B = (
        rng.standard_normal((m, n)) * (rng.random((m, n)) < rng.choice([0.3, 1])) for _ in "CB"
    )
    assert diagnose(C, B, (n,), (m,), tolerance=1e-12, dtype=float).cause == "unknown"


@pytest.mark.parametrize(("seed", "name"), rotated(range(231, 236), ZOO))
def test_noise_is_unknown(seed, name):
    rng = np.random.default_rng(seed)
    one = example(name, seed=seed)
    B = rng.standard_normal(one.C.shape).astype(one.C.dtype)
    assert cause(one, B) == "unknown"


@pytest.mark.parametrize(("seed", "name"), rotated(range(231, 236), ZOO))
def test_another_kernel_is_named(seed, name):
    rng = np.random.default_rng(seed + 1000)
    one = example(name, seed=seed)
    w = rng.standard_normal(one.w.shape).astype(one.C.dtype)
    words = f"another kernel: {w.size} of {w.size} taps differ"
    assert cause(one, one.build(w)) == f"the adjoint has {words}"
    assert cause(one, one.build(w), "forward") == f"the forward has {words}"
    w = one.w.copy()
    w.flat[1] += 2
    w.flat[-1] -= 2
    said = cause(one, one.build(w))
    assert said == f"the adjoint has another kernel: 2 of {w.size} taps differ"


@pytest.mark.parametrize("got", [0, 7.5])
@ALL
def test_one_wrong_tap_is_named(name, got):
    one = example(name)
    for place in (0, one.w.size - 1):
        w = one.w.copy()
        w.flat[place] = got
        said = cause(one, one.build(w))
        assert said.startswith(f"one tap of the kernel is {got:g} in the adjoint, expected ")
        value = complex(said.rpartition(" ")[2])
        assert value == pytest.approx(complex(one.w.flat[place]), rel=1e-5)


def test_a_symmetric_kernel_is_never_called_unflipped():
    w = np.array([1.0, 2.5, 4, 2.5, 1])
    one = Example(130, (17,), (5,))
    one.w = w.reshape(1, 1, 5)
    one.C = one.build()
    assert cause(one, one.C.T.copy()) == ""
    assert cause(one, one.build(rule="circular")).endswith("circular in the adjoint")
    assert cause(one, np.roll(one.C, 1, 1)) == "shifted by one along axis 0 of the input"
    assert cause(one, 2 * one.C) == "adjoint = 2 x the true adjoint"
    B = spoiled(one, 4, 0, tensor=False)
    assert cause(one, B) == "wrong only in output 4: missing"


def test_a_symmetric_kernel_in_two_dimensions_leads_to_no_wrong_claim():
    one = Example(131, (8, 8), (3, 3))
    one.w = np.array([[1.0, 2, 1], [2, 5, 2], [1, 2, 1]]).reshape(1, 1, 3, 3)
    one.C = one.build()
    for w in (flip(one.w), one.w.swapaxes(2, 3)):
        assert cause(one, one.build(w)) == ""
    assert cause(one, one.build(rule="replicate")).startswith("the boundary is treated as")
    B = one.C.copy()
    B[20, 20] += 1
    assert cause(one, B) == "a single wrong entry"


@pytest.mark.parametrize("what", ["adjoint", "forward"])
def test_one_entry_is_diagnosed(what):
    def said(c, b, dtype):
        C, B = np.array([[c]], dtype), np.array([[b]], dtype)
        return diagnose(C, B, (1,), (1,), tolerance=1e-9, dtype=dtype, what=what).cause

    assert said(2, 2, float) == ""
    assert said(2, 1, float) == f"{what} = 0.5 x the true {what}"
    assert said(2, 0, float) == f"{what} = 0 x the true {what}"
    assert said(0, 1, float) == "unknown"
    assert "conjugate" in said(2 + 1j, 2 - 1j, complex)
    assert said(2 + 1j, 2, complex) == f"the {what} keeps only the real part"


def test_shapes_without_axes_are_diagnosed():
    C, B = np.array([[3.0]]), np.array([[4.5]])
    said = diagnose(C, B, (), (), tolerance=0, dtype=np.int64)
    assert said == Diagnosis("adjoint = 1.5 x the true adjoint", (Entry((0, 0), 3.0, 4.5),))


def test_a_geometry_says_that_there_are_no_channels():
    rng = np.random.default_rng(132)
    kernel = rng.standard_normal((2, 2, 2))
    geometry = Geometry.conv(kernel.shape, (4, 5, 6))
    C = linconv.conv_matrix(kernel, (4, 5, 6)).toarray()
    B = C.copy()
    B.reshape(3, -1)[1] = 0
    options = {"tolerance": 1e-12, "dtype": float}
    shapes = (geometry.in_shape, geometry.out_shape)
    said = diagnose(C, B, *shapes, geometry=geometry, **options).cause
    assert said == "wrong only at index 1 along axis 0 of the output: missing"
    assert (
        diagnose(C, B, *shapes, **options).cause == "wrong only in output channel 1: missing"
    )
    B = linconv.conv_matrix(kernel[::-1, ::-1, ::-1], (4, 5, 6)).toarray()
    said = diagnose(C, B, *shapes, geometry=geometry, **options).cause
    assert said == "the adjoint correlates with the unflipped kernel"


@pytest.mark.parametrize("shape", few([(38, 39), (1500,), (3, 22, 22)], 1))
def test_large_matrices_are_diagnosed(shape):
    k = {1: (5,), 2: (3, 3), 3: (3, 3, 3, 3)}[len(shape)]
    w = np.random.default_rng(133).standard_normal(k)
    C, B = (
        linconv.conv_matrix(w, shape, padding="same", boundary=rule).toarray()
        for rule in ("circular", "zeros")
    )
    options = {"tolerance": 1e-12, "dtype": float}
    said = diagnose(C, B, shape, shape, **options).cause
    assert said == "the boundary is treated as zeros in the adjoint"
    B = C.copy()
    B[700, 700] += 1
    assert diagnose(C, B, shape, shape, **options).cause == "a single wrong entry"
    B = np.random.default_rng(134).standard_normal(C.shape)
    assert diagnose(C, B, shape, shape, **options).cause == "unknown"


def test_other_shapes_and_unknown_parts_are_refused():
    C, options = np.ones((2, 3)), {"tolerance": 0, "dtype": float}
    assert_refused(
        (ValueError, r"C has shape \(2, 3\), .* need a matrix of shape \(3, 2\)", lambda: diagnose(C, C, (2,), (3,), **options)),
        (ValueError, r"B has shape \(3, 2\)", lambda: diagnose(C, C.T, (3,), (2,), **options)),
        (ValueError, "what must be 'adjoint' or 'forward', got 'inverse'", lambda: diagnose(C, C, (3,), (2,), **options, what="inverse")),
    )  # fmt: skip
