"""CSR arrays of whole matrices, of blocks of rows, of awkward sizes; time and memory."""

import itertools
from unittest import mock

import numpy as np
import pytest
from helpers import assert_refused, examples, few, nbytes, padded, peak, rotated
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import linconv
from linconv import Axis, Boundary, Geometry, _arrays, assembly
from linconv.assembly import csr

RULES = [rule.value for rule in Boundary]


@st.composite
def cases(draw, channels=True):
    """Draw (kernel, in_shape, options) with small integers, so that sums are exact."""
    d = draw(st.integers(1, 3))
    n = tuple(draw(st.integers(1, 6 if d < 3 else 4)) for _ in range(d))
    k = tuple(draw(st.integers(1, 4 if d < 3 else 3)) for _ in range(d))
    options = {
        "stride": tuple(draw(st.integers(1, 3)) for _ in range(d)),
        "dilation": tuple(draw(st.integers(1, 2)) for _ in range(d)),
        "padding": [(draw(st.integers(-1, 7)), draw(st.integers(-1, 7))) for _ in range(d)],
        "boundary": [(draw(st.sampled_from(RULES)),) * 2 for _ in range(d)],
        "flip": draw(st.booleans()),
    }
    for a in range(d):
        lo, hi = options["padding"][a]
        short = options["dilation"][a] * (k[a] - 1) + 1 - n[a] - lo - hi
        options["padding"][a] = (lo, hi + max(0, short))
    if channels and draw(st.booleans()):
        groups, per_in, per_out = (draw(st.integers(1, 2)) for _ in range(3))
        n, k = (groups * per_in, *n), (groups * per_out, per_in, *k)
        options["groups"] = groups
    seed = draw(st.integers(100, 10_000))
    rng = np.random.default_rng(seed)
    kernel = rng.integers(-9, 10, k).astype(draw(st.sampled_from(["i8", "f8", "c16"])))
    if kernel.dtype.kind == "c":
        kernel += 1j * rng.integers(-9, 10, k)
    return kernel, n, options


def by_definition(kernel, in_shape, options):
    """Push every unit array through numpy.pad and a sum over taps: the dense matrix."""
    d = len(options["stride"])
    groups = options.get("groups", 1)
    if len(in_shape) == d:
        kernel, in_shape = kernel[None, None], (1, *in_shape)
    if options["flip"]:
        kernel = np.flip(kernel, tuple(range(2, 2 + d)))
    columns = int(np.prod(in_shape))
    x = np.eye(columns, dtype=kernel.dtype).reshape(columns, *in_shape)
    rules = [pair[0] for pair in options["boundary"]]
    x = padded(x, [(0, 0), (0, 0), *options["padding"]], ["zeros", "zeros", *rules])
    s, e = options["stride"], options["dilation"]
    out = [
        (size - e[a] * (kernel.shape[2 + a] - 1) - 1) // s[a] + 1
        for a, size in enumerate(x.shape[2:])
    ]
    per_in, per_out = kernel.shape[1], kernel.shape[0] // groups
    y = np.zeros((columns, kernel.shape[0], *out), kernel.dtype)
    for c, m in itertools.product(range(kernel.shape[0]), range(per_in)):
        source = x[:, (c // per_out) * per_in + m]
        for t in np.ndindex(*kernel.shape[2:]):
            window = tuple(
                slice(e[a] * t[a], e[a] * t[a] + s[a] * (out[a] - 1) + 1, s[a])
                for a in range(d)
            )
            y[:, c] += kernel[(c, m, *t)] * source[(slice(None), *window)]
    return y.reshape(columns, -1).T


def assert_canonical(matrix):
    matrix.check_format(full_check=True)
    fresh = csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    assert fresh.has_canonical_format
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


@examples(300)
@given(cases())
def test_the_matrix_is_the_convolution_by_definition(case):
    kernel, in_shape, options = case
    expected = by_definition(kernel, in_shape, options)
    matrix = linconv.conv_matrix(kernel, in_shape, **options)
    assert_canonical(matrix)
    assert matrix.dtype == kernel.dtype
    np.testing.assert_array_equal(matrix.toarray(), expected)
    geometry = Geometry.conv(kernel.shape, in_shape, **options)
    assert matrix.nnz == geometry.nnz
    arrays = (matrix.data, matrix.indices, matrix.indptr)
    assert sum(a.nbytes for a in arrays) == geometry.nbytes(kernel.dtype)


@examples(200)
@given(cases(), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_templates_tasks_and_threads_of_any_size_write_the_same(case, block, task, grain):
    """The paths that only large matrices take, taken by small ones."""
    kernel, in_shape, options = case
    expected = by_definition(kernel, in_shape, options)
    geometry = Geometry.conv(kernel.shape, in_shape, **options)
    taps = geometry.kernel_shape[-len(geometry.axes) :]
    gather = {key: options[key] for key in ("stride", "padding", "dilation", "boundary")}
    unfolded = linconv.unfold_matrix(in_shape, taps, **gather).toarray()
    sizes = {"_BLOCK": 8 * block, "_TASK": task, "_GRAIN": grain}
    with mock.patch.multiple(csr, **sizes):
        forward = linconv.conv_matrix(kernel, in_shape, **options)
        backward = _arrays.sparse_array(*assembly.conv_csr(geometry, kernel, transposed=True))
        np.testing.assert_array_equal(forward.toarray(), expected)
        np.testing.assert_array_equal(backward.toarray(), expected.T)
        again = linconv.unfold_matrix(in_shape, taps, **gather)
        np.testing.assert_array_equal(again.toarray(), unfolded)


@examples(200)
@given(cases())
def test_the_transposed_matrix_is_built_directly_bit_for_bit(case):
    kernel, in_shape, options = case
    geometry = Geometry.conv(kernel.shape, in_shape, **options)
    kernel = kernel * kernel.dtype.type(0.37) if kernel.dtype.kind != "i" else kernel
    forward = _arrays.sparse_array(*assembly.conv_csr(geometry, kernel))
    backward = _arrays.sparse_array(*assembly.conv_csr(geometry, kernel, transposed=True))
    assert_canonical(backward)
    assert backward.nnz == forward.nnz
    assert backward.toarray().tobytes() == forward.toarray().T.copy().tobytes()


@examples(150)
@given(cases(), st.data())
def test_blocks_of_rows_are_rows_of_the_matrix(case, data):
    kernel, in_shape, options = case
    geometry = Geometry.conv(kernel.shape, in_shape, **options)

    def block(build, length):
        start = data.draw(st.integers(0, length - 1))
        stop = data.draw(st.integers(start + 1, length))
        whole, part = build(None), build((start, stop))
        assert_canonical(part)
        per = whole.shape[0] // length
        np.testing.assert_array_equal(
            part.toarray(), whole.toarray()[start * per : stop * per]
        )

    block(
        lambda rows: linconv.conv_matrix(kernel, in_shape, rows=rows, **options),
        geometry.out_shape[0],
    )
    block(
        lambda rows: _arrays.sparse_array(
            *assembly.conv_csr(geometry, kernel, transposed=True, rows=rows)
        ),
        geometry.in_shape[0],
    )
    taps = geometry.kernel_shape[-len(geometry.axes) :]
    gather = {key: options[key] for key in ("stride", "padding", "dilation", "boundary")}
    block(
        lambda rows: linconv.unfold_matrix(in_shape, taps, rows=rows, **gather),
        geometry.c_in * int(np.prod(taps)),
    )


@examples(100)
@given(cases())
def test_a_convolution_is_its_kernel_times_unfold(case):
    kernel, in_shape, options = case
    groups = options.pop("groups", 1)
    flip = options.pop("flip")
    expected = linconv.conv_matrix(kernel, in_shape, groups=groups, flip=flip, **options)
    d = len(options["stride"])
    unfold = linconv.unfold_matrix(in_shape, kernel.shape[-d:], dtype=kernel.dtype, **options)
    assert_canonical(unfold)
    taps = kernel[None, None] if len(in_shape) == d else kernel
    taps = np.flip(taps, tuple(range(2, 2 + d))) if flip else taps
    c_out, per_in = taps.shape[:2]
    blocks = taps.reshape(groups, c_out // groups, -1)
    K = np.zeros((c_out, groups * blocks.shape[2]), kernel.dtype)
    for g in range(groups):
        columns = slice(g * blocks.shape[2], (g + 1) * blocks.shape[2])
        K[g * (c_out // groups) : (g + 1) * (c_out // groups), columns] = blocks[g]
    assert K.shape[1] == groups * per_in * int(np.prod(kernel.shape[-d:]))
    U = unfold.toarray().reshape(K.shape[1], -1)
    actual = (K @ U).reshape(expected.shape)
    np.testing.assert_array_equal(actual, expected.toarray())


@examples(100)
@given(cases(channels=False), st.integers(100, 999))
def test_a_varying_convolution_has_each_positions_row(case, seed):
    kernel, in_shape, options = case
    geometry = Geometry.conv(kernel.shape, in_shape, **options)
    rng = np.random.default_rng(seed)
    kernels = rng.integers(-9, 10, (*geometry.out_shape, *kernel.shape)).astype(kernel.dtype)
    A = linconv.VaryingConv(kernels, in_shape, **options)
    rows = [
        by_definition(kernels[i], in_shape, options)[np.ravel_multi_index(i, A.out_shape)]
        for i in np.ndindex(*A.out_shape)
    ]
    np.testing.assert_array_equal(A.toarray(), np.array(rows))
    assert_canonical(A.tosparse())


LARGE = [
    ((3,), (3_000_000,), {"padding": 1}),
    ((2,), (1_500_000,), {"stride": 3, "boundary": "reflect", "padding": 2}),
    ((5, 5), (500, 301), {"padding": 2, "boundary": "symmetric"}),
    ((3, 3, 3), (50, 51, 52), {"padding": 1}),
    ((3, 3, 3), (60, 50, 52), {"padding": 1, "stride": 2}),
    ((3, 1), (400_000, 1), {"padding": (1, 0)}),
    ((3, 2), (300_000, 3), {"stride": (2, 1), "boundary": "circular", "padding": 1}),
    ((2, 2, 2, 2), (20, 21, 11, 12), {"stride": (1, 1, 1, 1)}),
    ((24, 8, 3, 3), (8, 60, 60), {"padding": 1}),
    ((3, 40, 3, 3), (40, 60, 60), {"padding": 1}),
    ((64, 1, 3, 3), (64, 40, 41), {"groups": 64, "stride": 2}),
    ((16, 16, 2), (16, 6_000), {"dilation": 2}),
]


@pytest.mark.parametrize(("transposed", "case"), rotated([False, True], LARGE))
def test_matrices_large_enough_for_threads_and_templates(transposed, case):
    """Row by row against the index map, at rows picked from all over the matrix."""
    kernel_shape, in_shape, options = case
    geometry = Geometry.conv(kernel_shape, in_shape, **options)
    rng = np.random.default_rng(808)
    kernel = rng.integers(-99, 100, kernel_shape).astype(float)
    forward = _arrays.sparse_array(*assembly.conv_csr(geometry, kernel))
    if transposed:
        matrix = _arrays.sparse_array(*assembly.conv_csr(geometry, kernel, transposed=True))
        assert_canonical(matrix)
        difference = abs(matrix - forward.T.tocsr())
        assert difference.nnz == 0 or difference.max() == 0
        assert (matrix.indptr == forward.T.tocsr().indptr).all()
        assert (matrix.indices == forward.T.tocsr().indices).all()
        return
    assert_canonical(forward)
    assert forward.nnz == geometry.nnz
    picked = np.unique(rng.integers(0, forward.shape[0], 300))
    picked = np.unique(np.concatenate([picked, [0, 1, forward.shape[0] - 1]]))
    for row in picked:
        expected = row_by_definition(geometry, kernel, row)
        start, stop = forward.indptr[row : row + 2]
        actual = dict(
            zip(
                forward.indices[start:stop].tolist(),
                forward.data[start:stop].tolist(),
                strict=True,
            )
        )
        assert actual == expected


def row_by_definition(geometry, kernel, row):
    """One row of the matrix as {column: value}."""
    spatial = [axis.out for axis in geometry.axes]
    c, *position = np.unravel_index(row, (geometry.c_out, *spatial))
    per_in = geometry.c_in // geometry.groups
    base = c // (geometry.c_out // geometry.groups) * per_in
    kernel = kernel.reshape(geometry.c_out, per_in, *(axis.k for axis in geometry.axes))
    entries = {}
    for m, *taps in np.ndindex(*kernel.shape[1:]):
        reads = [
            axis.source(axis.stride * int(i) - axis.padding[0] + axis.dilation * t)
            for axis, i, t in zip(geometry.axes, position, taps, strict=True)
        ]
        for terms in itertools.product(*reads):
            place = (base + m, *(sample for sample, _ in terms))
            column = int(
                np.ravel_multi_index(place, (geometry.c_in, *(a.n for a in geometry.axes)))
            )
            weight = float(np.prod([w for _, w in terms]))
            entries[column] = entries.get(column, 0.0) + weight * kernel[(c, m, *taps)]
    return entries


def test_int64_indices_where_int32_does_not_suffice():
    g = Geometry((Axis(2**31 + 5, 2, padding=(1, 0), out=3),))
    csr = assembly.conv_csr(g, np.array([7.0, 8.0]))
    assert csr.indices.dtype == csr.indptr.dtype == np.int64
    matrix = _arrays.sparse_array(*csr)
    assert matrix.shape == (3, 2**31 + 5)
    assert matrix.indices.dtype == np.int64
    assert matrix.indices.tolist() == [0, 0, 1, 1, 2]
    far = Geometry((Axis(2**31 + 5, 2, padding=(-(2**31) - 2, 0), out=2),))
    assert assembly.conv_csr(far, np.array([7.0, 8.0])).indices.tolist() == [
        2**31 + 2, 2**31 + 3, 2**31 + 3, 2**31 + 4,
    ]  # fmt: skip
    small = Geometry((Axis(2**31 - 1, 2, padding=(1, 0), out=3),))
    assert assembly.conv_csr(small, np.array([7.0, 8.0])).indices.dtype == np.int32


def test_a_nan_tap_spoils_only_what_it_touches_and_zeros_are_stored():
    kernel = np.array([[1.0, np.nan], [0.0, np.inf]])
    matrix = linconv.conv_matrix(kernel, (3, 3), padding=1, boundary="reflect")
    touched = linconv.conv_matrix(
        np.array([[0, 1], [0, 0]]), (3, 3), padding=1, boundary="reflect"
    )
    assert matrix.nnz == touched.nnz
    np.testing.assert_array_equal(np.isnan(matrix.data), touched.data != 0)
    y = linconv.Conv([1.0, 0.0, 2.0], 8) @ np.array([0, 0, 0, np.nan, 0, 0, 0, 0])
    assert np.flatnonzero(np.isnan(y)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("kernel", "in_shape", "options"),
    [
        ((3, 3), (700, 700), {"padding": 1, "boundary": "reflect"}),
        ((9,), (500_000,), {"padding": 4}),
        ((2,), (1_000_000,), {"stride": 2, "boundary": "circular", "padding": 1}),
        ((3, 3, 3), (60, 60, 60), {"padding": 1}),
        ((16, 16, 3, 3), (16, 48, 48), {"padding": 1}),
        ((64, 64, 3, 3), (64, 9, 9), {"padding": 1}),
        ((32, 1, 3, 3), (32, 100, 100), {"groups": 32}),
        ((1500,), (1500,), {"padding": "full"}),
    ],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_peak_memory_is_that_of_the_matrix(kernel, in_shape, options, transposed):
    geometry = Geometry.conv(kernel, in_shape, **options)
    taps = np.random.default_rng(91).standard_normal(kernel).astype("f4")
    most, csr = peak(lambda: assembly.conv_csr(geometry, taps, transposed=transposed))
    size = sum(a.nbytes for a in csr[:3])
    assert size == geometry.nbytes("float32") or transposed
    assert most <= 1.2 * size


def test_unfold_and_varying_matrices_also_keep_their_memory():
    kernels = np.ones((498, 498, 3, 3), "f4")
    for build in (
        lambda: linconv.unfold_matrix((500, 500), (3, 3), dtype="f4"),
        lambda: _arrays.sparse_array(
            *assembly.varying_csr(Geometry.conv((3, 3), (500, 500)), kernels)
        ),
    ):
        most, matrix = peak(build)
        assert most <= 1.2 * nbytes(matrix)


@pytest.mark.parametrize("rows", [(0, 0), (2, 1), (-1, 2), (0, 4), (1,), (0, 1, 2)])
def test_rows_outside_the_output_say_so(rows):
    with pytest.raises(
        ValueError, match=r"rows must be \(start, stop\) with 0 <= start < stop <= 3"
    ):
        linconv.conv_matrix([1, 2], 4, rows=rows)
    with pytest.raises(TypeError, match=r"rows must be an integer, got 0\.5"):
        linconv.conv_matrix([1, 2], 4, rows=(0.5, 2))


@pytest.mark.parametrize("rule", RULES)
def test_absurd_padding_is_refused_at_once(rule):
    assert_refused(
        (MemoryError, r"needs [\d,]+ bytes, more than half of the", lambda: linconv.conv_matrix([1.0, 2.0], 5, padding=10**11, boundary=rule)),
        (MemoryError, "needs", lambda: linconv.unfold_matrix(5, 2, padding=10**11, boundary=rule)),
        (MemoryError, "needs", lambda: linconv.conv_transpose_matrix([1.0, 2.0], 10**11, padding=1000, boundary=rule)),
    )  # fmt: skip


def test_wide_padding_and_cropping_cost_what_their_rows_cost():
    wide = linconv.conv_matrix([1.0, 2.0], 3, padding=1_000_000)
    assert wide.shape == (2_000_002, 3)
    assert wide[999_999:1_000_003].toarray().tolist() == [
        [2, 0, 0], [1, 2, 0], [0, 1, 2], [0, 0, 1],
    ]  # fmt: skip
    assert wide.nnz == 6
    around = linconv.conv_matrix([1.0], 3, padding=3_000, boundary="circular")
    assert (around.indices == np.arange(6_003) % 3).all()


def test_a_matrix_that_cannot_fit_is_refused_before_anything_is_allocated():
    assert_refused(
        (MemoryError, r"nonzeros of float64 needs [\d,]+ bytes, more than half of the [\d,]+ bytes available: build it in blocks with conv_matrix",
         lambda: linconv.conv_matrix(np.ones((9, 9)), (200_000, 200_000))),
        (MemoryError, "blocks", lambda: linconv.Conv(np.ones((9, 9)), (200_000, 200_000), method="sparse")),
        (MemoryError, "blocks", lambda: linconv.unfold_matrix((200_000, 200_000), 3)),
    )  # fmt: skip
    block = linconv.conv_matrix(np.ones((3, 3)), (200_000, 200), rows=(77, 79))
    assert block.shape == (2 * 198, 200_000 * 200)


def test_what_fits_is_decided_by_half_of_the_available_memory(monkeypatch):
    geometry = Geometry.conv((3, 3), (40, 40))
    x = np.zeros((40, 40))
    monkeypatch.setattr(_arrays, "available_memory", lambda: 2 * geometry.nbytes("f8"))
    assert linconv.conv_matrix(np.ones((3, 3)), (40, 40)).nnz == geometry.nnz
    monkeypatch.setattr(_arrays, "available_memory", lambda: 2 * geometry.nbytes("f8") - 2)
    assert_refused(
        (MemoryError, f"needs {geometry.nbytes('f8'):,} bytes", lambda: linconv.conv_matrix(np.ones((3, 3)), (40, 40))),
        (MemoryError, r"the patches of shape \(1, 25, 1296\) .* smaller kernel", lambda: linconv.FilterConv(x, (5, 5))),
        (MemoryError, r"the dense matrix of shape \(1521, 1600\).*tosparse", lambda: linconv.Conv(np.ones((2, 2)), (40, 40)).toarray()),
    )  # fmt: skip
    monkeypatch.setattr(_arrays, "available_memory", lambda: None)
    assert linconv.conv_matrix(np.ones((3, 3)), (40, 40)).nnz == geometry.nnz


def test_a_huge_axis_costs_nothing_where_few_rows_are_asked_for():
    block = linconv.conv_matrix([1.0, 2.0, 3.0], 10**9, padding=1, rows=(0, 2))
    assert block.toarray is not None
    assert block.indices.tolist() == [0, 1, 0, 1, 2]
    assert block.data.tolist() == [2.0, 3.0, 1.0, 2.0, 3.0]


def one_dimensional_axes():
    """Axes of every kind: all rules, strides, dilations, long kernels, wide padding, crops."""
    shapes = [
        (1, 1, 1, 1, (0, 0)),
        (1, 2, 1, 1, (2, 3)),
        (4, 2, 3, 2, (3, 1)),
        (5, 4, 1, 1, (4, -1)),
        (6, 3, 2, 1, (-1, 4)),
        (3, 4, 1, 2, (4, 4)),
    ]
    return [Axis(*shape, (rule, rule)) for shape in shapes for rule in RULES]


@pytest.mark.parametrize("step", few([7, 1], 1))
@pytest.mark.parametrize("transposed", [False, True])
def test_n_d_matrices_are_the_products_their_axes_say(transposed, step):
    """Pairs of axes, and some triples: a separable kernel gives a Kronecker product."""
    rng = np.random.default_rng(2718)
    axes = one_dimensional_axes()
    triples = [tuple(axes[i] for i in rng.integers(0, len(axes), 3)) for _ in range(150)]
    pairs = list(itertools.product(axes, repeat=2))
    assert len(pairs) > 1000
    for chosen in (pairs + triples)[::step]:
        taps = [rng.integers(1, 9, axis.k) for axis in chosen]
        kernel = taps[0]
        for other in taps[1:]:
            kernel = np.multiply.outer(kernel, other)
        parts = [
            _arrays.sparse_array(*assembly.conv_csr(Geometry((axis,)), tap)).toarray()
            for axis, tap in zip(chosen, taps, strict=True)
        ]
        expected = parts[0]
        for part in parts[1:]:
            expected = np.kron(expected, part)
        csr = assembly.conv_csr(Geometry(chosen), kernel, transposed=transposed)
        actual = _arrays.sparse_array(*csr).toarray()
        assert (actual == (expected.T if transposed else expected)).all(), chosen


@pytest.mark.parametrize("rule", [rule.value for rule in Boundary])
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("n", [1, 5])
def test_padding_far_wider_than_the_input_is_that_of_numpy(rule, step, n):
    w, low, high = np.array([2, -1, 3, 5]), 400, 301
    options = {"padding": [(low, high)], "boundary": rule, "stride": step, "dilation": 2}
    reads = padded(np.eye(n), [(low, high), (0, 0)], [rule, "zeros"])
    count = (n + low + high - 7) // step + 1
    expected = sum(t * reads[2 * i :][::step][:count] for i, t in enumerate(w))
    A = linconv.Conv(w.astype(float), n, **options, method="sparse")
    np.testing.assert_array_equal(A.toarray(), expected)
    np.testing.assert_array_equal(A.T.toarray(), expected.T)
    assert A.geometry.nnz == A.tosparse().nnz
    x = np.arange(1.0, n + 1)
    for method in ("direct", "fft"):
        if linconv.methods.why_not(method, A.geometry, A.dtype, "cpu") == "":
            B = linconv.Conv(w.astype(float), n, **options, method=method)
            np.testing.assert_allclose(B @ x, expected @ x, rtol=1e-9, atol=1e-6)
            y = np.arange(1.0, count + 1)
            np.testing.assert_allclose(B.T @ y, expected.T @ y, rtol=1e-9, atol=1e-3)


@pytest.mark.parametrize("rule", ["circular", "reflect", "symmetric", "replicate", "zeros"])
def test_far_padding_on_the_device_and_along_two_axes(rule, cupy):
    w = np.arange(1.0, 7).reshape(2, 3)
    options = {"padding": [(90, 200), (3, 150)], "boundary": rule, "stride": (1, 2)}
    matrix = linconv.conv_matrix(w, (3, 2), **options)
    X = padded(
        np.eye(6).reshape(3, 2, 6), [(90, 200), (3, 150), (0, 0)], [rule, rule, "zeros"]
    )
    rows = X.shape[0] - 1, (X.shape[1] - 3) // 2 + 1
    expected = sum(
        w[i, j] * X[i:][: rows[0], j::2][:, : rows[1]] for i in range(2) for j in range(3)
    )
    np.testing.assert_array_equal(matrix.toarray(), expected.reshape(-1, 6))
    there = linconv.conv_matrix(cupy.asarray(w), (3, 2), **options)
    np.testing.assert_array_equal(linconv.gpu.moved(there, "cpu").toarray(), matrix.toarray())
