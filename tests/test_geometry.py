"""Shape arithmetic, counts before anything is allocated, and every error message."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_refused
from hypothesis import given
from hypothesis import strategies as st

from linconv import Axis, Boundary, Geometry
from linconv.geometry import csr_nbytes, index_bytes


def test_output_length_is_the_number_of_positions_a_window_fits():
    for n, k, s, d, lo, hi in itertools.product(
        range(1, 8), range(1, 5), range(1, 4), range(1, 4), range(-1, 4), range(-1, 4)
    ):
        starts = range(-lo, n + hi - d * (k - 1), s)
        if len(starts):
            assert Axis(n, k, s, d, (lo, hi)).out == len(starts)
        else:
            with pytest.raises(ValueError, match="the output would be empty"):
                Axis(n, k, s, d, (lo, hi))


@given(
    n=st.integers(1, 9),
    k=st.integers(1, 5),
    s=st.integers(1, 4),
    d=st.integers(1, 4),
    lo=st.integers(-2, 5),
    hi=st.integers(-2, 5),
    data=st.data(),
)
def test_transposed_length_is_relationship_14_and_inverts_the_convolution(
    n, k, s, d, lo, hi, data
):
    extra = data.draw(st.integers(0, max(s, d) - 1))
    length = s * (n - 1) + d * (k - 1) + 1 - lo - hi + extra
    options = {"stride": s, "dilation": d, "padding": [(lo, hi)], "output_padding": extra}
    if length < 1:
        with pytest.raises(
            ValueError, match=f"output would be empty along axis 0.* = {length}"
        ):
            Geometry.conv_transpose((k,), (n,), **options)
        return
    geometry = Geometry.conv_transpose((k,), (n,), **options)
    assert geometry.in_shape == (length,)
    assert geometry.out_shape == (n,)


def test_padding_words():
    for n, k, s, d in itertools.product(range(1, 9), range(1, 6), range(1, 4), range(1, 3)):
        same = Geometry.conv((k,), n, stride=s, dilation=d, padding="same").axes[0]
        lower = Geometry.conv((k,), n, stride=s, dilation=d, padding="same_lower").axes[0]
        assert same.out == lower.out == math.ceil(n / s)
        assert same.padding == lower.padding[::-1]
        assert 0 <= same.padding[1] - same.padding[0] <= 1
        full = Geometry.conv((k,), n, padding="full", dilation=d).axes[0]
        assert full.out == n + d * (k - 1)
        wide = Geometry.conv_transpose((k,), n, stride=s, dilation=d, padding="same")
        assert wide.in_shape == (s * n,)
        assert wide.out_shape == (n,)
        full = Geometry.conv_transpose((k,), n + d * k, dilation=d, padding="full")
        assert full.in_shape == (n + d,)
    assert Geometry.conv((3,), 5, padding="valid").axes[0].padding == (0, 0)
    assert Geometry.conv_transpose((3,), 5, padding="valid").in_shape == (7,)


def test_options_are_one_for_all_one_per_axis_or_pairs():
    one = Geometry.conv((3, 3), (9, 8), padding=1, stride=2, dilation=1, boundary="reflect")
    per_axis = Geometry.conv(
        (3, 3), (9, 8), padding=(1, 1), stride=[2, 2], dilation=np.array([1, 1])
    )
    pairs = Geometry.conv(
        (3, 3),
        (9, 8),
        padding=np.ones((2, 2), int),
        stride=np.int64(2),
        boundary=[("reflect", "numpy:reflect"), Boundary.REFLECT],
    )
    assert one == pairs
    assert hash(one) == hash(pairs)
    assert one != per_axis
    assert one.out_shape == per_axis.out_shape == (5, 4)
    mixed = Geometry.conv((3, 3), (9, 8), padding=("same", (0, 1)))
    assert [axis.padding for axis in mixed.axes] == [(1, 1), (0, 1)]


def test_channels_and_groups_make_the_shapes():
    g = Geometry.conv((6, 2, 3, 3), (4, 5, 5), groups=2, padding=1)
    assert (g.c_out, g.c_in, g.groups) == (6, 4, 2)
    assert g.kernel_shape == (6, 2, 3, 3)
    assert (g.in_shape, g.out_shape, g.shape) == ((4, 5, 5), (6, 5, 5), (150, 100))
    t = Geometry.conv_transpose((4, 3, 2), (4, 5), groups=2, stride=2)
    assert (t.c_out, t.c_in, t.in_shape, t.out_shape) == (4, 6, (6, 10), (4, 5))


def test_nnz_and_nbytes_are_exact_and_need_no_memory():
    g = Geometry.conv((3, 3), (4, 4))
    assert (g.nnz, g.nbytes("float64"), g.nbytes(np.float32)) == (
        36,
        36 * 12 + 20,
        36 * 8 + 20,
    )
    assert g.nbytes(np.dtype("c16")) == g.nbytes(complex) == 36 * 20 + 20
    assert g.nbytes(float) == g.nbytes("<f8") == g.nbytes("f8") == g.nbytes(int) == 452
    huge = Geometry.conv((64, 64, 3, 3), (64, 10**6, 10**6), padding=1)
    per_axis = 3 * 10**6 - 2
    assert huge.nnz == 64 * 64 * per_axis**2
    assert huge.nbytes("float32") == huge.nnz * 12 + (64 * 10**12 + 1) * 8


def test_indices_are_int32_exactly_while_they_suffice():
    most = 2**31 - 1
    assert index_bytes((most, most), most) == 4
    assert index_bytes((1, 1), most + 1) == 8
    assert index_bytes((most + 1, 1), 1) == 8
    assert index_bytes((1, most + 1), 1) == 8
    assert csr_nbytes((2, 1), 3, 8) == 3 * 12 + 3 * 4


@pytest.mark.parametrize(
    ("alias", "rule"),
    [
        ("numpy:wrap", "circular"), ("numpy:edge", "replicate"), ("numpy:constant", "zeros"),
        ("ndimage:mirror", "reflect"), ("ndimage:reflect", "symmetric"),
        ("ndimage:nearest", "replicate"), ("ndimage:grid-wrap", "circular"),
        ("torch:replicate", "replicate"), ("torch:constant", "zeros"), ("scipy:symm", "symmetric"),
        ("scipy:fill", "zeros"), ("pywt:antireflect", "antireflect"), ("onnx:edge", "replicate"),
        ("Reflect", "reflect"),
    ],
)  # fmt: skip
def test_other_libraries_words_for_a_boundary(alias, rule):
    assert Boundary.parse(alias) is Boundary(rule)
    assert Geometry.conv((3,), 5, boundary=alias) == Geometry.conv((3,), 5, boundary=rule)


def test_sources_beyond_the_input():
    def reads(rule, *positions, n=4):
        axis = Axis(n, 1, boundary=(rule, rule))
        return [axis.source(j) for j in positions]

    assert reads("zeros", -1, 0, 4) == [(), ((0, 1),), ()]
    assert reads("circular", -1, 4, 9) == [((3, 1),), ((0, 1),), ((1, 1),)]
    assert reads("reflect", -1, 4, -4) == [((1, 1),), ((2, 1),), ((2, 1),)]
    assert reads("symmetric", -1, 4, -5) == [((0, 1),), ((3, 1),), ((3, 1),)]
    assert reads("replicate", -9, 9) == [((0, 1),), ((3, 1),)]
    assert reads("antireflect", -1, 4) == [((0, 2), (1, -1)), ((2, -1), (3, 2))]
    assert reads("antireflect", -6) == [((0, 3), (3, -2))]
    assert reads("antireflect", -6, n=1) == [((0, 1),)]


BAD = [
    (ValueError, r"stride must be >= 1 along every axis, got \(0, 1\)", {"stride": (0, 1)}),
    (TypeError, r"stride must be an integer, got 1\.5 \(float\)", {"stride": 1.5}),
    (TypeError, r"dilation must be an integer, got 'a' \(str\)", {"dilation": "a"}),
    (ValueError, r"dilation must be >= 1 along every axis, got \(-1, -1\)", {"dilation": -1}),
    (ValueError, r"stride must be one integer or one per axis: expected 2, got 3", {"stride": (1, 1, 1)}),
    (ValueError, r"unknown padding 'sam': the words are \('valid', 'full', 'same'", {"padding": "sam"}),
    (ValueError, r"padding must be an integer.*expected 2 entries, got 3", {"padding": (1, 1, 1)}),
    (ValueError, r"padding of an axis must be a \(lo, hi\) pair, got \(1, 2, 3\)", {"padding": ((1, 2, 3), 1)}),
    (TypeError, r"padding must be an integer, got 0\.5", {"padding": 0.5}),
    (ValueError, r"unknown boundary 'periodic'.*write 'pywt:periodic'", {"boundary": "periodic"}),
    (ValueError, r"unknown boundary 'mirror': the rules are 'zeros', .*write 'ndimage:mirror'", {"boundary": "mirror"}),
    (ValueError, r"unknown boundary 'numpy:symm'.*linconv knows 'numpy:constant'", {"boundary": "numpy:symm"}),
    (ValueError, r"unknown boundary 'nothing'.*or 'numpy:wrap'", {"boundary": "nothing"}),
    (TypeError, r"boundary must be a string such as 'zeros', got int", {"boundary": 3}),
    (ValueError, r"expected 2 entries, got 3 in", {"boundary": ("zeros",) * 3}),
    (ValueError, r"boundary of an axis must be a \(lo, hi\) pair", {"boundary": (("zeros",) * 3, "zeros")}),
    (ValueError, r"axis 1: the output would be empty: n \+ lo \+ hi = 4 \+ -1 \+ -1 = 2 samples, but the kernel spans .* = 3", {"padding": (0, -1)}),
    (ValueError, r"groups=2 needs channels", {"groups": 2}),
    (ValueError, r"groups must be >= 1, got 0", {"groups": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "options"), BAD)
def test_bad_options_say_what_was_expected_and_what_came(error, message, options):
    with pytest.raises(error, match=message):
        Geometry.conv((3, 3), (5, 4), **options)
    if "output would be empty" not in message:
        with pytest.raises(error, match=message):
            Geometry.conv_transpose((3, 3), (5, 4), **options)


@pytest.mark.parametrize(
    ("kernel", "shape", "groups", "message"),
    [
        ((3,), (5, 5), 1, r"shape \(3,\) does not fit an input of shape \(5, 5\): expected 2 kernel axes.*or 3 with channels, got 1"),
        ((1, 1, 3), (5,), 1, r"expected 1 kernel axes for one channel, got 3"),
        ((3, 0), (5, 5), 1, r"the kernel's shape must have one or more sizes, each >= 1, got \(3, 0\)"),
        ((3, 3), (5, 0), 1, r"in_shape must have one or more sizes, each >= 1, got \(5, 0\)"),
        ((3, 3), (), 1, r"in_shape must have one or more sizes, each >= 1, got \(\)"),
        ((4, 1, 3, 3), (4, 5, 5), 2, r"kernel has shape \(4, 1, 3, 3\), but the geometry needs \(4, 2, 3, 3\) = \(c_out, c_in // groups, \*k\)"),
        ((4, 2, 3, 3), (4, 5, 5), 3, r"groups must divide the input and the output channels: got groups=3 for channels \(4, 4\)"),
        ((3, 1, 3, 3), (4, 5, 5), 4, r"groups=4 for channels \(3, 4\)"),
    ],
)  # fmt: skip
def test_kernels_that_do_not_fit_say_so(kernel, shape, groups, message):
    with pytest.raises(ValueError, match=message):
        Geometry.conv(kernel, shape, groups=groups)


def test_transposed_errors():
    assert_refused(
        (ValueError, r"output_padding must be below max\(stride, dilation\) = 3 along axis 1, got 3",
         lambda: Geometry.conv_transpose((3, 3), (4, 4), stride=3, output_padding=(2, 3))),
        (ValueError, "output_padding must be >= 0 along every axis", lambda: Geometry.conv_transpose((3,), (4,), output_padding=-1)),
        (ValueError, r"padding='same' makes the output stride \* n long",
         lambda: Geometry.conv_transpose((3,), (4,), stride=2, padding="same", output_padding=1)),
        (ValueError, r"kernel has shape \(3, 2, 3\), but the geometry needs \(4, 2, 3\) = \(c_in, c_out // groups, \*k\)",
         lambda: Geometry.conv_transpose((3, 2, 3), (4, 5))),
        (ValueError, "groups must divide", lambda: Geometry.conv_transpose((4, 2, 3), (4, 5), groups=3)),
    )  # fmt: skip


def test_axis_errors():
    assert_refused(
        (ValueError, "the input length n must be >= 1, got 0", lambda: Axis(0, 1)),
        (ValueError, "the number of taps k must be >= 1, got 0", lambda: Axis(1, 0)),
        (ValueError, r"out must be in 1\.\.3 for this axis, got 4", lambda: Axis(5, 3, out=4)),
        (ValueError, r"one pair per axis is \(\(1, 2\),\)", lambda: Geometry.conv((3,), 5, padding=(1, 2))),
        (TypeError, "dtype must be a numeric dtype such as 'float32', got", lambda: Geometry.conv((3,), 5).nbytes("quaternion")),
    )  # fmt: skip


def test_a_geometry_is_immutable():
    g = Geometry.conv((3,), 5)
    with pytest.raises(AttributeError):
        g.groups = 2
    with pytest.raises(AttributeError):
        g.axes[0].n = 7


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Geometry((Axis(8, 3),), (3, 4), 2), ValueError, "groups must divide the input and"),
        (lambda: replace(Geometry.conv((4, 2, 3), (4, 9), groups=2), channels=(5, 4)), ValueError, "groups must divide"),
        (lambda: Geometry((Axis(8, 3),), None, 2), ValueError, "groups=2 needs channels"),
        (lambda: Geometry((Axis(8, 3),), (3, 0)), ValueError, "channels must be >= 1, got 0"),
        (lambda: Geometry((Axis(8, 3),), (3,)), ValueError, r"channels of an axis must be a \(lo, hi\) pair|channels"),
        (lambda: Geometry(()), TypeError, r"axes must be one or more Axis, got \(\)"),
        (lambda: Geometry((type("Wide", (Axis,), {})(8, 3),)), TypeError, "axes must be one or more Axis"),
        (lambda: Geometry((Axis(8, 3),), flip="no"), TypeError, "flip must be True or False, got 'no'"),
        (lambda: Axis(8, 3, padding=(1,)), ValueError, r"padding of an axis must be a \(lo, hi\) pair"),
        (lambda: Axis(8, 3, boundary=("zeros",)), ValueError, r"boundary of an axis must be a \(lo, hi\) pair"),
        (lambda: Axis(8, 3, out=2.5), TypeError, "out must be an integer, got 2.5"),
        (lambda: Axis(2**61, 3), ValueError, "an axis spans at most"),
        (lambda: Axis(5, 3, padding=(2**62, 0)), ValueError, "an axis spans at most"),
        (lambda: Geometry(tuple(Axis(2**31, 1) for _ in range(2))), ValueError, "an array has at most"),
        (lambda: Geometry.conv((3,), 9, stride={2}), TypeError, "got a set, which has no order"),
        (lambda: Geometry.conv((3,), 9, padding={1: 1}), TypeError, "got a dict, which has no order"),
    ],
)  # fmt: skip
def test_geometries_validate_themselves_however_they_are_made(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_unknown_libraries_of_boundary_rules_are_told_the_known_ones():
    with pytest.raises(ValueError, match="those of the libraries ndimage, numpy, onnx, pywt"):
        Boundary.parse("octave:circular")
