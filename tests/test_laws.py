"""Every law over every zoo member and every dtype; the laws are those of the design."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import zoo
from helpers import assert_refused, random, rotated
from scipy.sparse import csr_array

import linconv
from linconv import testing
from linconv.operators import linear


@pytest.fixture(params=zoo.DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=zoo.ZOO, ids=str)
def member(request):
    return request.param


# For laws that take long: every member with one dtype, the other dtypes thorough.
in_turn = pytest.mark.parametrize(("dtype", "member"), rotated(zoo.DTYPES, zoo.ZOO), ids=str)


@pytest.fixture
def A(member, dtype):
    return member.make(zoo.scale(dtype))


def assert_close(actual, expected):
    expected = np.asarray(expected)
    bound = 16 * np.finfo(actual.dtype).eps * max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def test_the_matrix_is_the_one_written_out(A, member, dtype):
    expected = np.asarray(member.matrix(zoo.scale(dtype)))
    assert A.dtype == dtype
    assert (A.in_shape, A.out_shape) == (member.in_shape, member.out_shape)
    assert A.shape == expected.shape
    assert_close(A.toarray(), expected.astype(dtype))


def test_tosparse_is_canonical_and_of_the_format_asked_for(A):
    matrix = A.tosparse()
    assert isinstance(matrix, csr_array)
    assert matrix.dtype == A.dtype
    matrix.check_format(full_check=True)
    fresh = csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    assert fresh.has_canonical_format
    assert A.tosparse("coo").format == "coo"
    assert (A.tosparse("csc").toarray() == matrix.toarray()).all()


@pytest.mark.parametrize("other", ["int64", "float16", *zoo.DTYPES])
def test_law_1_and_8_products_equal_the_matrix_and_have_its_promoted_dtype(A, other):
    rng = np.random.default_rng(77)
    x = (8 * rng.standard_normal(A.shape[1])).astype(other)
    y = (8 * rng.standard_normal(A.shape[0])).astype(other)
    wide = np.result_type(A.dtype, other)
    matrix = A.toarray().astype(wide)
    for actual, expected in (
        (A @ x, matrix @ x.astype(wide)),
        (A.matvec(x), matrix @ x.astype(wide)),
        (A.rmatvec(y), matrix.conj().T @ y.astype(wide)),
        (A.H @ y, matrix.conj().T @ y.astype(wide)),
        (A.T @ y, matrix.T @ y.astype(wide)),
        (y @ A, y.astype(wide) @ matrix),
    ):
        assert type(actual) is np.ndarray
        assert actual.dtype == wide
        bound = 64 * np.finfo(A.dtype).eps * (np.abs(matrix).sum() * 32)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@in_turn
def test_law_2_the_adjoint_identity(A):
    testing.assert_adjoint(A)
    testing.assert_adjoint(A.H)
    testing.assert_adjoint(A.T)


def test_law_3_the_transpose_is_the_transposed_matrix_bit_for_bit(A):
    matrix = A.tosparse().toarray()
    for view, expected in ((A.T, matrix.T), (A.H, matrix.conj().T), (A.conj(), matrix.conj())):
        assert view.tosparse().toarray().tobytes() == (expected + 0).copy("C").tobytes()


def test_law_4_views_of_views_are_the_operator_itself(A):
    assert A.T.T is A
    assert A.H.H is A
    assert A.conj().conj() is A
    transpose, adjoint = A.T, A.H
    assert transpose.T.T is transpose
    assert adjoint.H.H is adjoint
    assert A.transpose().transpose() is A
    assert A.adjoint().adjoint() is A
    assert A.T.shape == A.shape[::-1]
    assert (A.T.in_shape, A.T.out_shape) == (A.out_shape, A.in_shape)
    if A.dtype.kind == "c":
        np.testing.assert_array_equal(A.T.H.toarray(), A.conj().toarray())
        np.testing.assert_array_equal(A.H.T.toarray(), A.conj().toarray())
        np.testing.assert_array_equal(A.T.conj().toarray(), A.H.toarray())


def test_law_4_no_operator_is_in_a_reference_cycle(member):
    gc.disable()
    try:
        A = member.make(np.float64(1))
        views = [A.T, A.H, A.conj(), A + A, A.H @ A, 2 * A]
        watch = weakref.ref(A)
        del A, views
        assert watch() is None
    finally:
        gc.enable()


def test_law_5_linearity(A):
    x, y = random((2, A.shape[1]), A.dtype)
    a = A.dtype.type(0.75 if A.dtype.kind == "f" else 0.75 - 0.5j)
    assert_close(A @ (a * x + y), a * (A @ x) + A @ y)
    assert not (A @ np.zeros_like(x)).any()


def test_law_6_products_with_columns_are_the_columns_products(A):
    X, Y = random((A.shape[1], 3), A.dtype), random((A.shape[0], 3), A.dtype)
    for block in (X, np.asfortranarray(X)):
        assert_close(A @ block, np.stack([A @ x for x in X.T], axis=1))
        assert_close(A.matmat(block), np.stack([A @ x for x in X.T], axis=1))
    assert_close(A.rmatmat(Y), np.stack([A.rmatvec(y) for y in Y.T], axis=1))
    assert (A @ X[:, :1]).shape == (A.shape[0], 1)
    assert A.matvec(X[:, :1]).shape == (A.shape[0], 1)
    assert (A @ X[:, :0]).shape == (A.shape[0], 0)
    assert A.rmatmat(Y[:, :0]).shape == (A.shape[1], 0)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (0,), (2, 0)])
def test_shaped_calls_are_flat_products(A, batch):
    x = random((*batch, *A.in_shape), A.dtype)
    flat = x.reshape(*batch, A.shape[1])
    expected = (flat.reshape(-1, A.shape[1]) @ A.toarray().T).reshape(*batch, A.shape[0])
    assert_close(A.matvec(flat), expected)
    assert_close(A.matmat(flat[..., None]), expected[..., None])
    if len(A.in_shape) == len(A.out_shape) == 1:
        assert_close(A(flat[..., None]), expected[..., None])  # as A @ x
        return
    y = A(x)
    assert y.shape == (*batch, *A.out_shape)
    assert_close(y.reshape(expected.shape), expected)
    assert_close(A(np.asfortranarray(x)), y)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_columns_of_more_axes_are_read_as_scipy_reads_them(A, lead):
    (m, n), M = A.shape, A.toarray()
    for k in {3, n, m} - {1}:  # square blocks, too; one column is a vector of its own
        X, Y = random((*lead, n, k), A.dtype), random((*lead, m, k), A.dtype)
        assert_close(A @ X, M @ X)
        assert_close(A.rmatmat(Y), M.conj().T @ Y)
        assert_close(A.rmatvec(np.swapaxes(Y, -1, -2)), np.swapaxes(M.conj().T @ Y, -1, -2))
        assert_close(np.swapaxes(Y, -1, -2) @ A, np.swapaxes(Y, -1, -2) @ M)
        assert_close(A.rdot(np.swapaxes(Y, -1, -2)), np.swapaxes(Y, -1, -2) @ M)


@in_turn
def test_law_7_expressions_are_expressions_of_the_matrices(A):
    M = A.toarray()
    B = linconv.Matrix(random(A.shape, A.dtype, 555))
    N = B.toarray()
    z = A.dtype.type(3)
    for operator, expected in (
        (A + B, M + N), (A - B, M - N), (A + N, M + N), (N - A, N - M), (N + A, N + M),
        (A + B.tosparse(), M + N), (-A, -M), (z * A, z * M), (A * z, z * M), (A / 2, M / 2),
        (A @ B.T, M @ N.T), (A @ B.tosparse().T, M @ N.T), (B.tosparse().T @ A, N.T @ M),
        (A.H @ B, M.conj().T @ N), ((A + 2 * B) @ A.T, (M + 2 * N) @ M.T),
        ((A @ B.H) ** 2, (M @ N.conj().T) @ (M @ N.conj().T)), ((A @ B.H) ** 1, M @ N.conj().T),
        ((A @ B.H) ** 0, np.eye(A.shape[0])),
    ):  # fmt: skip
        assert isinstance(operator, linconv.LinearOperator)
        assert operator.dtype == A.dtype
        assert_close(operator.toarray(), expected)
        assert_close(operator.H.toarray(), np.conj(expected).T)
        x = random(operator.shape[1], A.dtype)
        bound = 256 * np.finfo(A.dtype).eps * (1 + np.abs(expected).sum())
        np.testing.assert_allclose(operator @ x, expected @ x, rtol=0, atol=bound)
    for operator in ((A + 2 * B) @ A.T, (A @ B.H) ** 2):
        testing.assert_adjoint(operator, level="quick")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_law_9_wrong_shapes_and_kinds_say_what_was_expected(A):
    m, n = A.shape
    assert_refused(
        (ValueError, rf"matvec expects shape \(\.\.\., {n}\) or \({n}, 1\), got", lambda: A.matvec(np.zeros(n + 7))),
        (ValueError, rf"matmat expects shape \(\.\.\., {n}, k\), got", lambda: A @ np.zeros((n + 7, 2))),
        (ValueError, rf"rmatvec expects shape \(\.\.\., {m}\)", lambda: A.rmatvec(np.zeros(m + 7))),
        (ValueError, rf"rmatmat expects shape \(\.\.\., {m}, k\)", lambda: A.rmatmat(np.zeros((m + 7, 2)))),
        (ValueError, r"(A\(x\) expects shape \(\*batch, |matmat expects)", lambda: A(np.zeros((n + 7, 9, 9)))),
        (TypeError, "masked array", lambda: A @ np.ma.masked_array(np.zeros(n), np.zeros(n))),
        (TypeError, r"numpy\.matrix", lambda: A @ np.matrix(np.zeros(n)).T),
        (TypeError, "must hold numbers, got dtype object", lambda: A @ np.full(n, None)),
        (TypeError, "x must hold numbers, got dtype <U1", lambda: np.array("a") * A),
        (TypeError, "x must hold numbers, got dtype <U1", lambda: A * np.array("a")),
        (TypeError, "x must hold numbers, got dtype <U1", lambda: A @ np.array("a")),
        (TypeError, r"format must be one of bsr, coo, .*, got 1\.5", lambda: A.tosparse(1.5)),
        (ValueError, r"format must be one of bsr, coo, .*, got 'tiff'", lambda: A.tosparse("tiff")),
        (TypeError, r"neigs must be an integer, got 1\.5", lambda: A.eigs(1.5)),
        (ValueError, "neigs must be >= 1, got 0", lambda: A.eigs(0)),
        (TypeError, "needs a vector, got the scalar", lambda: A @ 2.0),
    )  # fmt: skip
    if m != n:
        with pytest.raises(ValueError, match=r"is the size of the other side: is A.T or A.H"):
            A.matvec(np.zeros(m))


def test_law_10_pickles_and_copies_compute_the_same(A):
    x, y = random(A.shape[1], A.dtype), random(A.shape[0], A.dtype)
    for again in (pickle.loads(pickle.dumps(A)), copy.copy(A), copy.deepcopy(A)):
        assert type(again) is type(A)
        assert repr(again) == repr(A)
        assert (again @ x).tobytes() == (A @ x).tobytes()
        assert (again.rmatvec(y)).tobytes() == (A.rmatvec(y)).tobytes()


def test_law_11_every_operator_class_is_in_the_zoo():
    seen = set()

    def walk(A):
        seen.update(type(A).__mro__)
        for part in getattr(A, "operands", ()) or filter(None, [getattr(A, "base", None)]):
            walk(part)

    for member in zoo.ZOO:
        walk(member.make(np.complex128(1j)))

    def subclasses(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from subclasses(sub)

    ours = {c for c in subclasses(linear.LinearOperator) if c.__module__.startswith("linconv")}
    ours = {c for c in ours if c.__module__ != "linconv.__main__"}  # the demo's own
    assert len(ours) >= 10
    assert ours <= seen, f"not in the zoo: {ours - seen}"


def test_law_12_inputs_are_not_modified_and_results_are_not_shared(A):
    for product, n in (
        (A.matvec, A.shape[1]),
        (A.rmatvec, A.shape[0]),
        (A.T.matvec, A.shape[0]),
        (A.conj().matvec, A.shape[1]),
    ):
        x = random(n, A.dtype)
        before = x.copy()
        x.setflags(write=False)
        first = product(x)
        expected = first.copy()
        assert (x == before).all()
        assert not np.shares_memory(first, x)
        first[:] = 99
        again = product(x)
        assert again.tobytes() == expected.tobytes()
        assert not np.shares_memory(first, again)
    matrix = A.tosparse()
    expected = matrix.toarray()
    matrix.data[:] = 99
    assert (A.toarray() == expected).all()


def test_strided_negative_big_endian_and_list_inputs_are_accepted(A):
    x = random(2 * A.shape[1], A.dtype)
    expected = A @ x[::2].copy()
    assert (A @ x[::2] == expected).all()
    assert (A @ x[::-2][::-1] == A @ x[1::2].copy()).all()
    assert (A @ x[::2].astype(x.dtype.newbyteorder(">")) == expected).all()
    as_list = x[::2].tolist()
    assert (A @ as_list == A @ np.array(as_list)).all()


def test_repr_is_one_signature_without_data(A):
    text = repr(A)
    assert "->" in text
    assert "array(" not in text
    assert len(text) < 400
