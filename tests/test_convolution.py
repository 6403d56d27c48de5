"""Builders and operators: dtypes, attributes, options, errors."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from helpers import assert_refused

import linconv
from linconv import Conv, FilterConv, Identity, Matrix, Unfold, VaryingConv, conv_transpose


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("?", "i8"), ("i1", "i8"), ("u1", "i8"), ("i4", "i8"), ("u4", "i8"), ("i8", "i8"), ("u8", "i8"),
        ("f2", "f4"), ("f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("g", "g"), ("c8", "c8"),
        ("c16", "c16"), ("G", "G"),
    ],
)  # fmt: skip
def test_the_kernels_dtype_decides_that_of_the_matrix(given, expected):
    kernel = np.ones((2, 2)).astype(given)
    for C in (
        linconv.conv_matrix(kernel, (3, 3)),
        linconv.conv_transpose_matrix(kernel, (3, 3)),
        Conv(kernel, (3, 3)),
        Conv(kernel, (3, 3)).tosparse(),
        VaryingConv(np.ones((2, 2, 2, 2)).astype(given), (3, 3)),
        FilterConv(np.ones((3, 3)).astype(given), (2, 2)),
        Matrix(kernel),
    ):
        assert C.dtype == np.dtype(expected)
        assert C.dtype.isnative


def test_dtype_overrides_that_of_the_kernel():
    assert linconv.conv_matrix([1, 2], 4, dtype="f4").dtype == np.float32
    assert linconv.conv_matrix([1, 2], 4, dtype="i2").dtype == np.int16
    assert Conv([1, 2], 4, dtype=complex).dtype == np.complex128
    assert linconv.unfold_matrix(4, 2, dtype="c8").dtype == np.complex64
    assert Unfold(4, 2).dtype == np.float64
    assert FilterConv([1, 2], 2, dtype="f4").dtype == np.float32


@pytest.mark.parametrize("dtype", [">i4", ">f4", ">f8", ">c16"])
def test_a_dtype_of_another_byte_order_is_taken_as_the_native_one(dtype):
    native = np.dtype(dtype).newbyteorder("=")
    crop = linconv.crop(4, 1, dtype=dtype)
    for A in (
        Conv([1, 2], 4, dtype=dtype),
        Conv([1, 2], 4).with_kernel(np.array([1, 2], ">i8")),
        VaryingConv(np.ones((3, 2)), 4, dtype=">f8"),
        FilterConv([1, 2, 3], 2, dtype=dtype),
        Unfold(4, 2, dtype=dtype),
        Identity(2, dtype),
        linconv.Diagonal([1, 2], dtype=dtype),
        linconv.Restriction([1], 2, dtype=dtype),
        crop,
        linconv.kron(crop, Identity(2, dtype)),
        linconv.conv_matrix([1, 2], 4, dtype=dtype),
        linconv.unfold_matrix(4, 2, dtype=dtype),
    ):
        assert A.dtype.isnative
        assert A.toarray().dtype.isnative
    assert crop.dtype == native
    assert crop.toarray().tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert linconv.kron(crop, crop).toarray().dtype == native
    foreign = linconv.aslinearoperator(Foreign(dtype)).dtype
    assert foreign == (np.int64 if native.kind == "i" else native)


def test_loops_take_a_dtype_of_another_byte_order():
    pytest.importorskip("numba")
    A = Conv(np.ones(9), 100, dtype=">f8", method="direct")
    assert A.dtype.isnative
    assert (A @ np.ones(100)).tolist() == [9.0] * 92


def test_kernels_that_cannot_be_a_matrix_say_so():
    assert_refused(
        (TypeError, "kernel of dtype complex128 would lose its fractions or imaginary part as dtype float64", lambda: Conv([1j, 2], 4, dtype=float)),
        (TypeError, "would lose its fractions or imaginary part as dtype int64", lambda: Conv([1.5, 2], 4, dtype=int)),
        (ValueError, "kernel has values from 1 to 300, which do not fit int8: pass dtype=float", lambda: Conv([1, 300], 4, dtype="i1")),
        (ValueError, "do not fit int64", lambda: Conv(np.array([2**63], "u8"), 4)),
        (TypeError, r"dtype must be one a sparse matrix can hold .* got float16", lambda: Conv([1.0], 4, dtype="f2")),
        (TypeError, "got object", lambda: linconv.unfold_matrix(4, 2, dtype=object)),
    )  # fmt: skip
    for dtype, got in (("str", "<U0"), (object, "object"), ("f2", "float16"), (bool, "bool")):
        with pytest.raises(
            TypeError, match=f"dtype must be one a sparse matrix can hold .* got {got}$"
        ):
            Identity(2, dtype)
    assert_refused(
        (TypeError, "kernel must hold numbers, got dtype object", lambda: linconv.conv_matrix(np.array([1, None]), 4)),
        (TypeError, "kernel must hold numbers, got dtype <U1", lambda: linconv.conv_matrix(["a", "b"], 4)),
        (ValueError, "kernel is not a rectangular array", lambda: linconv.conv_matrix([[1, 2], [3]], (4, 4))),
        (TypeError, "kernel is a masked array, whose mask would be lost", lambda: Conv(np.ma.masked_array([1, 2], [True, False]), 4)),
        (TypeError, "kernel must be a dense array, got a sparse csr_array", lambda: Conv(scipy.sparse.eye_array(3, format="csr"), (4, 4))),
        (ValueError, r"kernel of shape .* does not fit", lambda: Conv(3.0, 4)),
        (ValueError, r"unknown method 'gpu': the methods are 'auto', 'sparse', 'direct'", lambda: Conv([1, 2], 4, method="gpu")),
    )  # fmt: skip


def test_arrays_of_torch_and_jax_on_the_host_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.bfloat16))
    A = Conv(weight, 6, padding=1)
    assert A.dtype == np.float32
    x = np.arange(6.0, dtype="f4")
    for given in (torch.tensor(x), jnp.array(x), torch.tensor(x).to(torch.bfloat16)):
        result = A @ given
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, A @ x)
    conjugate = torch.tensor([1j, 2.0]).conj()
    np.testing.assert_array_equal(Conv(conjugate, 2).kernel, [-1j, 2])
    kept = linconv.Restriction(torch.tensor([[True, False], [False, True]]))
    np.testing.assert_array_equal(kept(jnp.array([[1.0, 2.0], [3.0, 4.0]])), [1, 4])
    assert_refused(
        (TypeError, r"x must be a dense array on the host, got a tensor on meta: pass x.cpu\(\)",
         lambda: A @ torch.ones(6, device="meta")),
        (TypeError, r"kernel must be .*, got a tensor in the layout torch.sparse_coo: pass kernel.to_dense\(\)",
         lambda: Conv(torch.eye(3).to_sparse(), (4, 4))),
    )  # fmt: skip


def test_a_conv_shows_its_parts():
    kernel = np.arange(72.0).reshape(4, 2, 3, 3)
    A = Conv(kernel, (2, 5, 5))
    assert repr(A) == "Conv(float64[4, 2, 3, 3], (2, 5, 5) -> (4, 3, 3), method='sparse')"
    assert A.shape == (36, 50)
    assert (A.in_shape, A.out_shape) == ((2, 5, 5), (4, 3, 3))
    assert (A.dims, A.dimsd) == (A.in_shape, A.out_shape)
    assert A.geometry.nnz == A.tosparse().nnz
    assert A.method == A.T.method == A.H.method == "sparse"
    assert A.T.geometry is A.geometry
    assert A.T.kernel is A.kernel
    with pytest.raises(AttributeError, match="'View' object has no attribute 'nonsense'"):
        _ = A.T.nonsense
    B = conv_transpose(kernel, (4, 3, 3), stride=2)
    assert (B.in_shape, B.out_shape) == ((4, 3, 3), (2, 7, 7))
    assert B.kernel.shape == kernel.shape
    composite = repr(2 * A.H @ A + Identity((2, 5, 5)))
    assert composite.splitlines()[0] == "Sum(float64, (2, 5, 5) -> (2, 5, 5),"
    assert "        Conv(float64[4, 2, 3, 3]" in composite


def test_the_callers_kernel_is_copied_and_the_operators_is_read_only():
    kernel = np.array([1.0, 2.0])
    A = Conv(kernel, 3)
    kernel[:] = 99
    assert A.toarray().tolist() == [[1, 2, 0], [0, 1, 2]]
    assert A.kernel.tolist() == [1, 2]
    for again in (A, pickle.loads(pickle.dumps(A)), copy.deepcopy(A)):
        with pytest.raises(ValueError, match="read-only"):
            again.kernel[0] = 5
    x = np.array([1.0, 2.0, 3.0])
    F = FilterConv(x, 2)
    x[:] = 99
    assert F.toarray().tolist() == [[1, 2], [2, 3]]
    M = scipy.sparse.csr_array(np.eye(2))
    B = Matrix(M)
    M.data[:] = 99
    assert B.toarray().tolist() == [[1, 0], [0, 1]]


def test_a_pickle_holds_the_kernel_and_not_the_matrix():
    A = Conv(np.ones((5, 5)), (200, 200))
    assert len(pickle.dumps(A)) < 5_000
    assert len(pickle.dumps(A.T)) < 5_000


def test_from_geometry_needs_the_geometrys_kernel():
    geometry = linconv.Geometry.conv((3, 3), (5, 5), flip=True)
    A = Conv.from_geometry(geometry, np.arange(9.0).reshape(3, 3))
    assert (A.toarray() == linconv.conv_matrix(A.kernel, (5, 5), flip=True).toarray()).all()
    with pytest.raises(
        ValueError, match=r"kernel has shape \(3,\), but the geometry needs \(3, 3\)"
    ):
        Conv.from_geometry(geometry, [1, 2, 3])


def test_unfold_with_and_without_channels():
    flat, deep = Unfold((4, 5), (2, 3)), Unfold((2, 4, 5), (2, 3))
    assert (flat.out_shape, deep.out_shape) == ((6, 3, 3), (12, 3, 3))
    assert Unfold((4, 5), 2).out_shape == (4, 3, 4)
    assert flat.geometry.in_shape == (4, 5)
    x = np.arange(40.0).reshape(2, 4, 5)
    np.testing.assert_array_equal(deep(x), np.concatenate([flat(x[0]), flat(x[1])]))
    ones = np.ones((6, 3, 3))
    counts = flat.T(ones)  # fold: how many windows cover each sample
    assert counts[0].tolist() == [1, 2, 3, 2, 1]
    assert counts[1].tolist() == [2, 4, 6, 4, 2]


def test_a_varying_conv_of_one_kernel_is_the_conv():
    rng = np.random.default_rng(303)
    kernel = rng.standard_normal((3, 2))
    options = {"padding": 1, "stride": (1, 2), "boundary": "antireflect", "flip": True}
    A = Conv(kernel, (5, 6), **options)
    kernels = np.broadcast_to(kernel, (*A.out_shape, 3, 2))
    V = VaryingConv(kernels, (5, 6), **options)
    np.testing.assert_array_equal(V.toarray(), A.toarray())
    assert_refused(
        (ValueError, r"kernels must have 4 axes, \(o1..od, k1..kd\), for an input of shape \(5, 6\), got shape \(3, 2\)",
         lambda: VaryingConv(kernel, (5, 6))),
        (ValueError, r"kernels has shape \(1, 1, 3, 2\), but the geometry needs \(3, 5, 3, 2\)", lambda: VaryingConv(kernel[None, None], (5, 6))),
    )  # fmt: skip


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize(
    ("kernel_shape", "in_shape", "options"),
    [
        ((3,), (7,), {"boundary": "antireflect", "padding": 2}),
        ((2, 3), (5, 4), {"stride": (2, 1), "dilation": (1, 2), "padding": 2, "flip": True}),
        ((6, 2, 3), (4, 9), {"groups": 2, "padding": "same", "boundary": "circular"}),
        ((2, 3, 2, 2), (3, 4, 5), {"stride": 2, "padding": [(1, 0), (-1, 2)]}),
        ((4, 1, 2, 2, 2), (4, 3, 3, 3), {"groups": 4, "boundary": "symmetric", "padding": 1}),
    ],
)
def test_filter_conv_is_the_convolution_seen_from_the_kernel(
    kernel_shape, in_shape, options, complex_
):
    rng = np.random.default_rng(8080)
    x, w = rng.standard_normal(in_shape), rng.standard_normal(kernel_shape)
    if complex_:
        x, w = (
            x + 1j * rng.standard_normal(in_shape),
            w - 1j * rng.standard_normal(kernel_shape),
        )
    A, F = Conv(w, in_shape, **options), FilterConv(x, kernel_shape, **options)
    assert (F.in_shape, F.out_shape) == (kernel_shape, A.out_shape)
    np.testing.assert_allclose(F(w), A(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(F.tosparse() @ w.ravel(), A(x).ravel(), rtol=1e-12, atol=1e-12)
    linconv.testing.assert_adjoint(F)
    y = rng.standard_normal((2, F.shape[0]))
    np.testing.assert_allclose(F.H.matvec(y), y @ F.toarray().conj(), atol=1e-11)
    with pytest.raises(ValueError, match="does not fit an input of shape"):
        FilterConv(x, (1, 1, *kernel_shape))


def test_the_algebra_refuses_what_is_no_operator():
    A = Conv([1.0, 2.0], 3)
    assert_refused(
        (TypeError, "unsupported operand", lambda: 2 / A),
        (TypeError, "unsupported operand", lambda: A + 2),
        (TypeError, "unsupported operand", lambda: 2 - A),
        (ValueError, r"operators of a sum must have one shape, got \(2, 3\) and \(3, 2\)", lambda: A + A.T),
        (ValueError, r"as many columns of A as rows of B, got shapes \(2, 3\) and \(2, 3\)", lambda: A @ A),
        (ValueError, r"only a square operator has powers, got shape \(2, 3\)", lambda: A**2),
        (ValueError, "must be >= 0, got -1: solve instead", lambda: (A.T @ A) ** -1),
        (TypeError, r"the power of an operator must be an integer, got 0\.5", lambda: (A.T @ A) ** 0.5),
        (TypeError, r"expected a LinearOperator, a sparse array, .* got NoneType", lambda: linconv.aslinearoperator(None)),
        (ValueError, r"a matrix must be 2-d, got shape \(3,\)", lambda: Matrix([1, 2, 3])),
        (TypeError, "matrix must hold numbers, got dtype object", lambda: Matrix([[None]])),
        (ValueError, r"a matrix of shape \(2, 2\) cannot map in_shape \(3,\)", lambda: Matrix(np.eye(2), in_shape=3)),
        (ValueError, r"in_shape must have one or more sizes", lambda: Identity(0)),
    )  # fmt: skip


def test_an_operator_without_hooks_says_which_are_missing():
    class Half(linconv.LinearOperator):
        def _matmat(self, X):
            return X / 2

    A = Half(float, 3, 3)
    assert (A @ [2, 4, 6]).tolist() == [1, 2, 3]
    assert A.toarray().tolist() == [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    with pytest.raises(NotImplementedError, match=r"Half must implement _rmatmat\(X\)"):
        A.rmatvec([1, 2, 3])

    class Nothing(linconv.LinearOperator):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must implement _matmat\(X\)"):
        Nothing(float, 3, 3) @ [1, 2, 3]


class Foreign:
    """Two on the diagonal, by the least of SciPy's protocol: no adjoint."""

    shape = (100, 100)

    def __init__(self, dtype=float):
        self.dtype = np.dtype(dtype)

    def matvec(self, x):
        return 2 * x


class ForeignSubclass(scipy.sparse.linalg.LinearOperator):
    def _matvec(self, x):
        return 2 * x


@pytest.mark.parametrize(
    "theirs",
    [
        Foreign(),
        ForeignSubclass(float, (100, 100)),
        scipy.sparse.linalg.LinearOperator((100, 100), lambda x: 2 * x),
        scipy.sparse.linalg.LinearOperator((100, 100), lambda x: 2 * x) * 1.0,
    ],
    ids=["protocol", "subclass", "functions", "composite"],
)
def test_a_foreign_operator_without_rmatvec_multiplies_but_has_no_adjoint(theirs):
    A = linconv.aslinearoperator(theirs)
    x = np.arange(100.0)
    assert (A @ x).tolist() == (2 * x).tolist()
    assert (Identity(100) @ A @ x).tolist() == (2 * x).tolist()
    for adjoint in (
        lambda: A.rmatvec(x),
        lambda: A.H @ x,
        lambda: A.T @ x,
        lambda: A.rmatmat(np.eye(100)),
        lambda: linconv.spectrum.norm(theirs),
    ):
        with pytest.raises(
            TypeError, match=r"<100x100 .* has no rmatvec, .* adjoint needs: .* rmatvec="
        ):
            adjoint()


def test_the_errors_of_a_foreign_adjoint_are_its_own():
    def rmatvec(y):
        raise TypeError("a bug of theirs")

    sl = scipy.sparse.linalg
    theirs = sl.LinearOperator((3, 3), lambda x: x, rmatvec=rmatvec)
    with pytest.raises(TypeError, match=r"^a bug of theirs$"):
        linconv.aslinearoperator(theirs).H @ np.ones(3)
    columns = sl.LinearOperator((3, 3), lambda x: x, rmatmat=lambda Y: 3 * Y)
    assert (linconv.aslinearoperator(columns).H @ np.ones(3)).tolist() == [3, 3, 3]


def test_operators_are_scipys_operators_and_its_solvers_take_them():
    rng = np.random.default_rng(66)
    A = Conv([0.25, 1.0, 0.25], 40, padding=1)
    assert isinstance(A, scipy.sparse.linalg.LinearOperator)
    assert scipy.sparse.linalg.aslinearoperator(A) is A
    x = rng.standard_normal(40)
    b = A @ x
    sl = scipy.sparse.linalg
    for solve in (sl.lsqr, sl.lsmr):
        np.testing.assert_allclose(solve(A, b, atol=1e-14, btol=1e-14)[0], x, atol=1e-8)
    for solve in (sl.cg, sl.gmres, sl.bicgstab, sl.minres):
        np.testing.assert_allclose(solve(A, b, rtol=1e-12)[0], x, atol=1e-8)
    values = np.linalg.svd(A.toarray(), compute_uv=False)
    np.testing.assert_allclose(sl.svds(A, k=3)[1], values[2::-1], rtol=1e-10)
    np.testing.assert_allclose(
        sl.eigsh(A, k=2, return_eigenvectors=False)[::-1],
        np.linalg.eigvalsh(A.toarray())[: -2 - 1 : -1],
        rtol=1e-10,
    )
    np.testing.assert_allclose(sl.spsolve(A.tosparse("csc"), b), x, atol=1e-10)
    theirs = sl.aslinearoperator(np.diag(np.arange(40.0)))
    np.testing.assert_allclose((A @ theirs) @ x, A @ (np.arange(40) * x))
    np.testing.assert_allclose((theirs @ A) @ x, np.arange(40) * b)
    np.testing.assert_allclose((theirs + A) @ x, np.arange(40) * x + b)
    np.testing.assert_allclose((theirs @ A).T @ x, A.T @ (np.arange(40) * x))
    assert (A * x == A @ x).all()
    assert (x * A == x @ A).all()


def test_a_shaped_call_takes_flat_vectors_as_scipys_protocol_has_it():
    A = Conv(np.arange(4.0).reshape(2, 2), (3, 3))
    x = np.arange(27.0).reshape(9, 3)
    np.testing.assert_array_equal(A(x), A.toarray() @ x)
    np.testing.assert_array_equal(A(x[:, 1]), A.toarray() @ x[:, 1])
    np.testing.assert_array_equal(
        A(x.reshape(3, 3, 3)), (A.toarray() @ x.reshape(3, 9).T).T.reshape(3, 2, 2)
    )
    assert_refused(
        (ValueError, r"A\(x\) expects shape \(\*batch, 3, 3\), got \(8,\)", lambda: A(np.zeros(8))),
        (ValueError, r"expects shape \(\.\.\., 9, k\), got \(3, 3\); for shaped arrays write A\(x\)", lambda: A @ np.zeros((3, 3))),
        (ValueError, r"matvec expects shape \(\.\.\., 9\) or \(9, 1\), got \(4,\); 4 is the size of the other side: is A.T or A.H meant",
         lambda: A.matvec(np.zeros(4))),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["sparse", "fft"])
def test_tosparse_returns_a_copy_that_the_operator_does_not_see(method):
    A = Conv([[1.0, 2], [3, 4]], (5, 6), padding=1, method=method)
    first, x = A.tosparse(), np.arange(30.0)
    expected = A @ x
    assert first.has_canonical_format
    first.data[:] = 7
    first.indices[:] = 0
    np.testing.assert_array_equal(A @ x, expected)
    np.testing.assert_allclose(A.tosparse() @ x, expected, rtol=0, atol=1e-10)
    assert (A.tosparse() != A.with_kernel(A.kernel).tosparse()).nnz == 0
