"""Matrices, products and operators of CuPy arrays: the host's are the truth.

Where there is no GPU, a strict stand-in for CuPy runs them and the kernels' source is
compiled for the host; with one, the same tests run on it, marked `gpu`.
"""

import importlib.util
import pickle

import devices
import numpy as np
import nvrtc
import pytest
import standin
from devices import DTYPES, GPU, needs
from helpers import assert_refused, few, random_geometry, rotated, values

import linconv
from linconv import assembly, gpu
from linconv.geometry import Geometry
from linconv.gpu import device, matrices
from linconv.solvers import lstsq

METHODS = ("sparse", "sparse+adjoint", "direct", "fft", "torch")


def whole(kernel, dtype):
    """Whole numbers: sums of taps are exact in any order."""
    kernel = np.round(4 * kernel)
    return (kernel if np.dtype(dtype).kind == "c" else kernel.real).astype(dtype)


def assert_same(matrix, csr):
    """Assert that a matrix on the device has the arrays of one on the host."""
    for name in ("data", "indices", "indptr"):
        got, right = getattr(matrix, name).get(), getattr(csr, name)
        assert got.dtype == right.dtype
        np.testing.assert_array_equal(got, right)
    assert matrix.shape == csr.shape
    assert matrix.has_canonical_format


@pytest.mark.parametrize(
    "seeds", few([range(20), range(20, 100), range(100, 250), range(250, 500)], 1), ids=str
)
def test_matrices_on_the_device_are_those_of_the_host(seeds, cupy):
    for seed in seeds:
        kernel, in_shape, options = random_geometry(seed)
        kernel = whole(kernel, DTYPES[seed % 4])
        geometry = Geometry.conv(kernel.shape, in_shape, **options)
        device = cupy.asarray(kernel)
        rng = np.random.default_rng(seed)
        for transposed in (False, True):
            length = (geometry.in_shape if transposed else geometry.out_shape)[0]
            start = int(rng.integers(0, length))
            for rows in (None, (start, int(rng.integers(start + 1, length + 1)))):
                asked = {"transposed": transposed, "rows": rows}
                got = matrices.conv_matrix(geometry, device, **asked)
                assert_same(got, assembly.conv_csr(geometry, kernel, **asked))
        got = matrices.unfold_matrix(geometry, kernel.dtype)
        assert_same(got, assembly.unfold_csr(geometry, kernel.dtype))
        length = geometry.c_in * int(np.prod([axis.k for axis in geometry.axes]))
        start = int(rng.integers(0, length))
        rows = start, int(rng.integers(start + 1, length + 1))
        got = matrices.unfold_matrix(geometry, kernel.dtype, rows)
        assert_same(got, assembly.unfold_csr(geometry, kernel.dtype, rows))


@pytest.mark.parametrize(
    "seeds", few([range(8), range(8, 40), range(40, 80), range(80, 120)], 1), ids=str
)
@pytest.mark.parametrize("method", METHODS)
def test_products_of_every_method_are_those_of_the_matrix(method, seeds, cupy):
    needs(method)
    for seed in seeds:
        kernel, in_shape, options = random_geometry(seed)
        A = linconv.Conv(cupy.asarray(kernel), in_shape, method=method, **options)
        assert A.method == method
        C = linconv.conv_matrix(kernel, in_shape, **options)
        rng = np.random.default_rng(seed)
        for dtype in DTYPES:
            for B, matrix in ((A, C), (A.H, C.conj().T.tocsr()), (A.T, C.T.tocsr())):
                X = values(rng, (B.shape[1], 3), dtype)
                eps = max(np.finfo(dtype).eps, np.finfo(kernel.dtype).eps)
                bound = 4000 * eps * max(1, np.abs(kernel).sum())  # antireflect weighs by 5
                for x in (X, X[:, 0], X[:, :1], X[:, :0], X.T.copy().T):
                    got, right = (B @ cupy.asarray(x)).get(), matrix @ x
                    assert (got.shape, got.dtype) == (right.shape, right.dtype)
                    assert np.abs(got - right).max(initial=0) <= bound


@pytest.mark.parametrize("n", [1, 31, 129, 512, 1100])
@pytest.mark.parametrize("boundary", ["zeros", "reflect"])
def test_lines_may_have_any_length(n, boundary, cupy):
    kernel = np.arange(1.0, 16).reshape(3, 5)
    options = {"padding": "same", "boundary": boundary}
    A = linconv.Conv(cupy.asarray(kernel), (3, n), method="direct", **options)
    C = linconv.conv_matrix(kernel, (3, n), **options)
    x = np.arange(3.0 * n) % 7
    np.testing.assert_array_equal((A @ cupy.asarray(x)).get(), C @ x)
    np.testing.assert_array_equal((A.T @ cupy.asarray(x)).get(), C.T @ x)
    empty = cupy.asarray(np.empty((3 * n, 0)))
    assert (A @ empty).shape == (3 * n, 0)


def test_more_blocks_than_a_device_has_are_refused():
    # CuPy would cut their number to 32 bits, and the results to what those compute.
    with pytest.raises(ValueError, match=r"at most 2,147,483,647 blocks .* fewer columns"):
        matrices.launch("multiply", np.dtype("i4"), 128 << 31, 128, (), ())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_transposed_convolutions_are_their_matrices(dtype, method, cupy):
    needs(method)
    rng = np.random.default_rng(14)
    for in_shape, shape, options in (
        ((4, 5), (3, 2), {"stride": (3, 2), "output_padding": (2, 1), "padding": [(1, 0), 1]}),
        ((4, 6), (4, 3, 5), {"stride": 2, "output_padding": 1, "groups": 2, "dilation": 2}),
        ((7,), (4,), {"stride": 2, "padding": "same", "boundary": "reflect"}),
        ((6,), (5,), {"padding": "same", "boundary": "circular", "flip": True}),
    ):
        kernel = whole(values(rng, shape, "complex128"), dtype)
        A = linconv.conv_transpose(cupy.asarray(kernel), in_shape, method=method, **options)
        right = linconv.conv_transpose_matrix(kernel, in_shape, **options)
        assert (A.method, A.shape) == (method, right.shape)
        for B, matrix in ((A, right), (A.H, right.conj().T.tocsr())):
            X = whole(values(rng, (B.shape[1], 2), "complex128"), dtype)
            bound = 100 * np.finfo(dtype).eps * np.abs(kernel).sum() * np.abs(X).max()
            assert np.abs((B @ cupy.asarray(X)).get() - matrix @ X).max() <= bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_adjoint_can_be_stored_as_well(dtype, cupy):
    rng = np.random.default_rng(9)
    for in_shape, shape, options in (
        ((6, 7), (3, 3), {"padding": 2, "boundary": "antireflect"}),
        ((4, 9), (6, 2, 3), {"stride": 2, "groups": 2, "flip": True}),
    ):
        kernel = whole(values(rng, shape, "complex128"), dtype)
        options |= {"method": "sparse+adjoint"}
        A = linconv.Conv(cupy.asarray(kernel), in_shape, **options)
        other = linconv.Conv(kernel, in_shape, **options)
        right = other.tosparse().conj().T
        y = cupy.asarray(np.arange(A.shape[0]) % 7 - 3.0)
        for B in (A, A.with_kernel(cupy.asarray(kernel)), other.to("gpu")):
            np.testing.assert_array_equal((B.H @ y).get(), right @ y.get())


def test_the_device_chooses_its_own_methods(cupy):
    kernel = cupy.asarray(np.ones((3, 3)))
    assert linconv.Conv(kernel, (30, 30), padding=1).method == "direct"
    assert linconv.Conv(kernel, (4, 4), padding=2).method == "sparse"  # edges, most of it
    layer = cupy.asarray(np.ones((8, 8, 3, 3)))
    assert linconv.Conv(layer, (8, 30, 30)).method == "sparse"
    host = linconv.Conv(np.ones((3, 3)), (30, 30), method="direct")
    assert host.to("gpu").method == "direct"
    assert host.to("gpu").with_kernel(kernel).method == "direct"


def test_the_public_builders_follow_the_kernel(cupy):
    kernel = np.arange(1.0, 7).reshape(2, 3)
    device = cupy.asarray(kernel)
    assert_same(linconv.conv_matrix(device, (4, 5)), linconv.conv_matrix(kernel, (4, 5)))
    options = {"stride": 2, "output_padding": 1, "dtype": "float32"}
    right = linconv.conv_transpose_matrix(kernel, (4, 5), **options)
    assert_same(linconv.conv_transpose_matrix(device, (4, 5), **options), right)
    right = linconv.conv_matrix(kernel, (4, 5), rows=(1, 3))
    assert_same(linconv.conv_matrix(device, (4, 5), rows=(1, 3)), right)


@pytest.mark.parametrize(
    ("shape", "in_shape", "options"),
    [
        ((1,), (3000,), {}),  # more rows than a block writes
        ((5,), (2049,), {"padding": 2, "boundary": "reflect"}),
        ((600,), (2000,), {"padding": [(0, 599)]}),  # a few rows, the last ones cut
        ((5000,), (5003,), {}),  # more entries in a row than a block is meant for
        ((3, 40, 3, 3), (40, 5, 70), {"padding": 1, "boundary": "circular"}),
        ((2, 2), (3, 2500), {"stride": (1, 2), "dilation": (1, 7)}),
        ((3,), (10,), {"padding": [(40, 40)]}),  # rows without entries
    ],
)
def test_long_lines_are_written_in_pieces(shape, in_shape, options, cupy):
    kernel = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    geometry = Geometry.conv(shape, in_shape, **options)
    for transposed in (False, True):
        got = matrices.conv_matrix(geometry, cupy.asarray(kernel), transposed=transposed)
        assert_same(got, assembly.conv_csr(geometry, kernel, transposed=transposed))


AWKWARD = [
    ((3, 3), (6, 7), {"padding": "same", "boundary": "reflect"}),
    ((3, 3), (6, 7), {"padding": 2, "boundary": "antireflect", "stride": 2}),
    ((5,), (3,), {"padding": 9, "boundary": "circular", "stride": 2}),
    ((4, 2, 3), (4, 11), {"stride": 2, "padding": [(2, -1)], "groups": 2}),
    ((2, 3, 2, 2), (3, 5, 4), {"padding": 1, "dilation": 2, "flip": True}),
]


@pytest.mark.parametrize(("dtype", "method", "case"), rotated(DTYPES, METHODS, AWKWARD))
def test_products_stay_on_the_device(dtype, method, case, cupy):
    needs(method)
    devices.skip_unless_counted(cupy)
    shape, in_shape, options = case
    kernel = cupy.asarray(np.ones(shape, dtype))
    before = standin.transfers.to_host
    linconv.conv_matrix(kernel, in_shape, **options)
    assert standin.transfers.to_host == before
    A = linconv.Conv(kernel, in_shape, method=method, **options)
    columns = [cupy.asarray(np.ones((A.shape[1], b), "c16")) for b in (0, 1, 3)]
    for X in columns:
        A.H @ (A @ X)  # the first product places taps and tables
    before = standin.transfers.to_host, standin.transfers.to_device
    for X in columns:
        A.T @ (A @ X), A.H @ (A @ X.real)
    assert (standin.transfers.to_host, standin.transfers.to_device) == before


def test_a_folded_nan_goes_where_it_belongs(cupy):
    kernel = np.array([1.0, np.nan, 3.0])
    for boundary in ("zeros", "antireflect", "circular"):
        options = {"padding": 3, "boundary": boundary}
        got = linconv.conv_matrix(cupy.asarray(kernel), 4, **options).data.get()
        np.testing.assert_array_equal(got, linconv.conv_matrix(kernel, 4, **options).data)


def test_a_multiple_has_the_dtype_of_its_number_as_well(cupy):
    A = linconv.Conv(np.arange(1, 4, dtype="f4"), 7)
    for scalar in (2, 2j, np.float32(2), np.float64(2), np.complex64(2j), np.complex128(1)):
        right = (scalar * A).tosparse()
        assert right.dtype == (scalar * A).dtype
        assert_same((scalar * A.to("gpu")).tosparse(), right)


def test_products_of_operators_have_no_matrix_on_the_device(cupy):
    A = linconv.Conv(cupy.asarray(np.ones(3)), 7, padding=1)
    assert_refused(
        (NotImplementedError, "a product has no matrix on the GPU", lambda: (A @ A).tosparse()),
        (NotImplementedError, "a Kronecker product has no matrix on the", lambda: linconv.kron(A, A).tosparse()),
    )  # fmt: skip
    right = np.linalg.matrix_power(A.to("cpu").toarray(), 2)
    np.testing.assert_allclose((A @ A).to("cpu").toarray(), right)


def test_arrays_are_never_moved_unasked(cupy):
    kernel, x = np.ones(3), np.ones(7)
    A = linconv.Conv(kernel, 7)
    B = linconv.Conv(cupy.asarray(kernel), 7)
    assert_refused(
        (TypeError, r"x must be a CuPy array.*cupy\.asarray\(x\).*to\('cpu'\)", lambda: B @ x),
        (TypeError, r"must be a CuPy array, as the operator lies on the GPU", lambda: B(x)),
        (TypeError, r"must be a NumPy array, got a cupy.*A\.to\('gpu'\)", lambda: A @ cupy.asarray(x)),
        (TypeError, "must lie on one device, got some on the cpu and some", lambda: A + B),
        (TypeError, "must lie on one device", lambda: linconv.vstack([A, B])),
        (TypeError, "the kernel must be on the gpu", lambda: B.with_kernel(kernel)),
    )  # fmt: skip
    C = B.with_kernel(cupy.asarray(2 * kernel))
    np.testing.assert_array_equal((C @ cupy.asarray(x)).get(), np.full(5, 6.0))


def test_what_a_device_cannot_hold_is_said(cupy, monkeypatch):
    assert_refused(
        (TypeError, "kernel has dtype int64, but CuPy's sparse matrices hold", lambda: linconv.conv_matrix(cupy.asarray(np.arange(3)), 7)),
        (TypeError, "kernel has dtype float16, but CuPy's", lambda: linconv.Conv(cupy.asarray(np.ones(3, "f2")), 7)),
        (TypeError, "would lose its imaginary part as dtype float32", lambda: linconv.conv_matrix(cupy.asarray(np.ones(3, "c8")), 7, dtype="f4")),
        (TypeError, "the matrix has dtype int64, but CuPy's", lambda: linconv.Unfold(5, 2, dtype=int).to("gpu")),
        (TypeError, "has dtype int64, but CuPy's", lambda: linconv.Matrix([[1, 2]]).to("gpu")),
        (ValueError, "has at most 16 axes, got 17", lambda: linconv.conv_matrix(cupy.asarray(np.ones((1,) * 17)), (1,) * 17, stride=(1,) * 17)),
    )  # fmt: skip
    kernel = cupy.asarray(np.ones((9, 9)))
    with pytest.raises(MemoryError, match=r"fewer than 2\^31: build it in blocks"):
        linconv.conv_matrix(kernel, (6000, 6000))
    monkeypatch.setattr(matrices, "_free", lambda: 10_000)
    with pytest.raises(
        MemoryError, match="bytes, and the device has 10,000 left: build it in"
    ):
        linconv.conv_matrix(kernel, (60, 60))


def test_a_method_is_kept_where_the_device_has_it(cupy):
    kernel = cupy.asarray(np.ones((3, 3)))
    A = linconv.Conv(kernel, (8, 8), method="sparse")
    assert repr(A).endswith("method='sparse')")
    assert "on the GPU" in A.explain()
    host = linconv.Conv(np.ones((3, 3)), (8, 8), method="fft")
    assert host.to("gpu").method == host.to("gpu").to("cpu").method == "fft"
    again = pickle.loads(pickle.dumps(host)).to("gpu")
    assert again.device == "gpu"


def test_devices_have_names(cupy):
    A = linconv.Conv(cupy.asarray(np.ones(3)), 7)
    assert A.device == A.T.device == (2 * A).device == "gpu"
    assert A.to("gpu") is A
    assert A.to("cpu").to("cpu").device == "cpu"
    eye = linconv.Identity(5)
    assert eye.device is None
    assert eye.to("gpu") is eye
    x = np.arange(5.0)
    np.testing.assert_array_equal((eye @ cupy.asarray(x)).get(), eye @ x)
    with pytest.raises(ValueError, match='device must be "cpu" or "gpu", got \'tpu\''):
        A.to("tpu")


def test_a_cupy_matrix_becomes_an_operator(cupy):
    matrix = linconv.conv_matrix(cupy.asarray(np.arange(1.0, 4)), 5)
    A = linconv.aslinearoperator(matrix)
    assert A.device == "gpu"
    right = linconv.conv_matrix(np.arange(1.0, 4), 5)
    np.testing.assert_array_equal(A.to("cpu").toarray(), right.toarray())
    x = cupy.asarray(np.ones(3))
    np.testing.assert_array_equal((A @ (A.H @ x)).get(), right @ (right.T @ np.ones(3)))


@pytest.mark.parametrize("columns", [1, 3])
def test_least_squares_stay_on_the_device(columns, cupy):
    rng = np.random.default_rng(8)
    kernel, shape = rng.standard_normal((3, 3)), (9, 8)
    A = linconv.Conv(kernel, shape, padding=1)
    G = linconv.gradient(shape)
    b = rng.standard_normal((72, columns))
    options = {"damp": 0.1, "tol": 1e-10}
    right = lstsq(A, b, penalties=[(0.5, G)], **options)
    got = lstsq(A.to("gpu"), cupy.asarray(b), penalties=[(0.5, G.to("gpu"))], **options)
    assert got.converged
    np.testing.assert_allclose(got.x.get(), right.x, atol=1e-7)


def test_without_a_gpu_asking_for_one_says_so(monkeypatch):
    if GPU:
        pytest.skip("the stand-in is for machines without a CUDA device")
    A = linconv.Conv(np.ones(3), 7)
    if importlib.util.find_spec("cupy") is None:
        with pytest.raises(
            RuntimeError, match=r"the GPU needs CuPy: pip install linconv\[cuda12\]"
        ):
            A.to("gpu")
    with standin.installed() as cupy:

        class CUDARuntimeError(RuntimeError):
            pass

        def none():
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

        monkeypatch.setattr(
            cupy.cuda.runtime, "CUDARuntimeError", CUDARuntimeError, raising=False
        )
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", none)
        with pytest.raises(
            RuntimeError, match="CuPy finds no GPU that it can use: cudaErrorNoD"
        ):
            A.to("gpu")
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
        with pytest.raises(RuntimeError, match="it sees no device"):
            A.to("gpu")


def test_rows_and_columns_are_taken_where_the_operator_lies(cupy):
    A = linconv.Conv(np.arange(1.0, 10).reshape(3, 3), (6, 7), padding=1)
    seen = np.arange(42).reshape(6, 7) % 3 > 0
    for key in (slice(3, 30, 2), ([4, 2], seen), (seen, slice(5)), 7):
        got, right = A.to("gpu")[key], A[key]
        assert got.device == "gpu"
        x = np.arange(right.shape[1]) % 5 - 2.0
        np.testing.assert_array_equal((got @ cupy.asarray(x)).get(), right @ x)
        y = np.arange(right.shape[0]) % 3 - 1.0
        np.testing.assert_array_equal((got.H @ cupy.asarray(y)).get(), right.T @ y)


def test_numbers_masks_and_indices_are_the_hosts(cupy):
    A = linconv.Conv(cupy.asarray(np.ones(3)), 6, padding=1)
    two, indices = cupy.asarray(np.array(2.0)), cupy.asarray(np.array([0, 2]))
    for work in (lambda: two * A, lambda: A * two, lambda: A / two, lambda: A @ two):
        with pytest.raises(TypeError, match=r"multiplied by a number, .* write a\.item\(\)"):
            work()
    mask = cupy.asarray(np.array([True, False] * 3))
    where = r"a mask or indices must be NumPy arrays.* got a CuPy array: pass where\.get\(\)"
    for key in (indices, mask, (slice(None), mask), (indices, indices)):
        with pytest.raises(TypeError, match=where):
            A[key]
    for key in (mask, (indices, slice(None))):
        with pytest.raises(TypeError, match=where):
            linconv.Restriction(key, (6, 2))


def test_arrays_and_matrices_of_cupy_are_operands(cupy):
    A = linconv.Conv(np.arange(1.0, 4), 5, padding=1)
    B, dense = A.to("gpu"), np.arange(25.0).reshape(5, 5) % 7
    D, M = cupy.asarray(dense), linconv.Matrix(cupy.asarray(dense))
    assert_same(M.tosparse(), linconv.Matrix(dense).tosparse())
    np.testing.assert_array_equal((D @ B).get(), dense @ A.toarray())
    np.testing.assert_array_equal((B @ D).get(), A.toarray() @ dense)
    x = np.arange(5.0)
    for there, here in (
        (M.tosparse() @ B, dense @ A.toarray()),
        (B @ M.tosparse(), A.toarray() @ dense),
        (M.tosparse() + B, dense + A.toarray()),
        (B + D, dense + A.toarray()),
        (D + B, dense + A.toarray()),
        (D - B, dense - A.toarray()),
    ):
        assert isinstance(there, linconv.LinearOperator)
        np.testing.assert_array_equal((there @ cupy.asarray(x)).get(), here @ x)


def test_an_operator_that_does_not_say_how_cannot_be_moved(cupy):
    class Own(linconv.LinearOperator):
        def _matmat(self, X):
            return X[:4]

    with pytest.raises(TypeError, match="Own cannot be moved: it lies on the cpu"):
        Own(float, 5, 4).to("gpu")


@pytest.mark.parametrize("boundary", ["zeros", "reflect", "circular"])
def test_what_is_not_finite_stays_where_it_belongs(boundary, cupy):
    kernel = np.arange(1.0, 16).reshape(3, 5)
    x = np.ones((40, 70))
    x[0, 3], x[20, 31], x[39, 69] = np.inf, np.nan, -np.inf
    options = {"padding": "same", "boundary": boundary}
    C = linconv.conv_matrix(kernel, x.shape, **options)
    A = linconv.Conv(cupy.asarray(kernel), x.shape, method="direct", **options)
    np.testing.assert_array_equal((A @ cupy.asarray(x.ravel())).get(), C @ x.ravel())
    np.testing.assert_array_equal((A.H @ cupy.asarray(x.ravel())).get(), C.T @ x.ravel())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_nvidias_compiler_takes_every_kernel(dtype, index):
    ptx = nvrtc.compile_ptx(matrices.source(np.dtype(dtype).char, np.dtype(index).char))
    assert ptx.count(".visible .entry") == 4


def test_a_typo_in_a_kernel_is_found():
    source = matrices.source("d", "i").replace("shift += at[1];", "shift += att[1];")
    with pytest.raises(AssertionError, match='identifier "att" is undefined'):
        nvrtc.compile_ptx(source)


def test_a_matrix_of_another_library_is_none_of_cupys():
    assert not device.is_matrix(linconv.conv_matrix([1.0], 3))
    assert not device.is_matrix(np.ones(3))


def test_the_host_has_functions_of_the_same_names():
    names = [name for name, value in vars(gpu.host).items() if callable(value)]
    functions = [name for name in names if name[0] != "_" and name.islower()]
    assert {"as_values", "canonical", "conv_matrix"} <= {*functions}
    assert all(callable(getattr(gpu, name)) for name in functions)
    assert gpu.home([1.0]) is gpu.at("cpu") is gpu.host
    assert gpu.at("gpu") is gpu
