"""The laws of operators, over the whole zoo, for operators that lie on the device."""

import copy
import pickle

import devices
import numpy as np
import pytest
import zoo
from helpers import assert_refused, random, rotated

import linconv

# Members that linconv can move to a GPU: all but the operator of another library.
MOVABLE = [m for m in zoo.ZOO if m.name != "somebody else's operator"]


@pytest.fixture(params=zoo.DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=MOVABLE, ids=str)
def member(request):
    return request.param


in_turn = pytest.mark.parametrize(("dtype", "member"), rotated(zoo.DTYPES, MOVABLE), ids=str)


@pytest.fixture
def A(member, dtype, cupy):
    made = member.make(zoo.scale(dtype))
    return made.to("gpu")


@pytest.fixture
def M(member, dtype):
    return np.asarray(member.matrix(zoo.scale(dtype))).astype(dtype)


def assert_close(got, expected, scale):
    """Sums of a few products, each of them rounded once."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    atol = 64 * np.finfo(got.dtype).eps * (1 + scale)
    np.testing.assert_allclose(got.get(), expected, rtol=0, atol=atol)


def test_what_stays_on_the_host_says_so(cupy):
    for member in zoo.ZOO:
        if member not in MOVABLE:
            with pytest.raises(TypeError, match="cannot be moved: it lies on the cpu"):
                member.make(np.float64(1)).to("gpu")


def test_operators_keep_what_they_are(A, member, dtype):
    assert A.device == (None if member.name == "Identity" else "gpu")
    assert A.dtype == dtype
    assert (A.in_shape, A.out_shape) == (member.in_shape, member.out_shape)
    assert A.T.T is A
    assert A.H.H is A
    assert A.conj().conj() is A
    assert (A.T.in_shape, A.T.out_shape) == (A.out_shape, A.in_shape)
    assert A.T.shape == A.shape[::-1]
    assert A.hermitian == member.make(zoo.scale(dtype)).hermitian


@in_turn
@pytest.mark.parametrize("other", zoo.DTYPES)
def test_products_are_those_of_the_matrix_and_copy_nothing(A, M, other, cupy):
    scale = (
        30
        * np.abs(M).sum()
        * (np.finfo(A.dtype).eps / np.finfo(np.result_type(A.dtype, other)).eps)
    )
    for B, matrix in ((A, M), (A.T, M.T), (A.H, M.conj().T), (A.conj(), M.conj())):
        wide = matrix.astype(np.result_type(matrix, np.dtype(other)))
        X = random((B.shape[1], 3), other)
        given, vector = cupy.asarray(X), cupy.asarray(X[:, 0].copy())
        if devices.is_counted(cupy):
            assert devices.copies(cupy, lambda B=B, x=given: B @ x)[0] == 0
        assert_close(B @ given, wide @ X, scale)
        assert_close(B @ vector, wide @ X[:, 0], scale)
        assert_close(B @ given[:, :0], wide @ X[:, :0], scale)
        assert_close(
            B.rmatvec(cupy.asarray(random(B.shape[0], other))),
            wide.conj().T @ random(B.shape[0], other),
            scale,
        )
    np.testing.assert_array_equal(given.get(), X)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (0,), (2, 0)])
def test_shaped_calls_are_flat_products(A, M, batch, cupy):
    x = random((*batch, *A.in_shape), A.dtype)
    flat = x.reshape(*batch, A.shape[1])
    expected = (flat.reshape(-1, A.shape[1]) @ M.T).reshape(*batch, A.shape[0])
    bound = 4 * np.abs(M).sum()
    assert_close(A.matvec(cupy.asarray(flat)), expected, bound)
    assert_close(A @ cupy.asarray(flat[..., None]), expected[..., None], bound)
    if len(A.in_shape) > 1:
        shaped = expected.reshape(*batch, *A.out_shape)
        assert_close(A(cupy.asarray(x)), shaped, bound)


@in_turn
def test_expressions_are_expressions_of_the_matrices(A, M, cupy):
    N = random(A.shape, A.dtype, 555)
    B = linconv.Matrix(N).to("gpu")
    keep = np.arange(A.shape[0]) % 2 == 0
    rows = linconv.Restriction(keep, dtype=A.dtype).to("gpu")
    zero = np.zeros_like(N)
    for operator, expected in (
        (A + B, M + N), (A - B, M - N), (-A, -M), (A / 2, M / 2), (3 * A + B, 3 * M + N),
        (A @ B.T, M @ N.T), (A.H @ B, M.conj().T @ N), ((A + 2 * B) @ A.T, (M + 2 * N) @ M.T),
        ((A @ B.H) ** 2, (M @ N.conj().T) @ (M @ N.conj().T)),
        (linconv.vstack([A, B]), np.vstack([M, N])), (linconv.hstack([A, B]), np.hstack([M, N])),
        (linconv.block([[A, None], [B, A]]), np.block([[M, zero], [N, M]])),
        (linconv.block_diag([A, B]), np.block([[M, zero], [zero, N]])),
        (linconv.kron(A, B), np.kron(M, N)), (rows @ A, M[keep]), (A[keep], M[keep]),
        (A[:, ::2], M[:, ::2]), (linconv.Diagonal(cupy.asarray(N[:, 0].copy())) @ A, N[:, :1] * M),
    ):  # fmt: skip
        assert operator.device == "gpu" or A.device is None
        operator = operator.to("gpu")
        expected = expected.astype(A.dtype)
        scale = 30 * np.abs(expected).sum() * (1 + np.abs(M).sum() + np.abs(N).sum())
        for C, matrix in ((operator, expected), (operator.H, expected.conj().T)):
            x = random(C.shape[1], A.dtype)
            assert_close(C @ cupy.asarray(x), matrix @ x, scale)


def has_matrix(A):
    """Whether an expression has one on the device: no products, no transforms in it."""
    if type(A).__name__ in ("Product", "Kron", "Circulant"):
        return False
    parts = getattr(A, "operands", ()) or filter(None, [getattr(A, "base", None)])
    return all(has_matrix(part) for part in parts)


@in_turn
def test_matrices_of_expressions_are_on_the_device(A, M, cupy):
    B = linconv.Matrix(random(A.shape, A.dtype, 555)).to("gpu")
    N = random(A.shape, A.dtype, 555)
    for operator, expected in (
        (A, M),
        (A.H, M.conj().T),
        (A + B, M + N),
        (3 * A.T, 3 * M.T),
        (linconv.block([[A, None], [B, A]]), np.block([[M, 0 * M], [N, M]])),
    ):
        if not has_matrix(operator):
            with pytest.raises(NotImplementedError, match=r"has no matrix on the GPU"):
                operator.tosparse()
        elif operator.device == "gpu":
            matrix = operator.tosparse()
            assert matrix.dtype == A.dtype
            scale = np.abs(expected).max()
            assert_close(matrix.toarray(), expected.astype(A.dtype), scale)
        assert_close(
            cupy.asarray(operator.to("cpu").toarray()),
            expected.astype(A.dtype),
            99 * np.abs(M).max(),
        )


def test_arrays_and_operators_of_two_devices_do_not_meet(A, member, dtype, cupy):
    if A.device is None:
        return
    host = member.make(zoo.scale(dtype))
    apart = "must lie on one device, got some on the cpu"
    assert_refused(
        (TypeError, r"x must be a CuPy array, as the operator lies on the", lambda: A @ np.ones(A.shape[1])),
        (TypeError, r"x must be a CuPy array, as the operator lies on the", lambda: A(np.ones(A.in_shape))),
        (TypeError, r"x must be a NumPy array, got a cupy", lambda: host @ cupy.asarray(np.ones(A.shape[1]))),
        (TypeError, apart, lambda: A + host),
        (TypeError, apart, lambda: A @ host.T),
        (TypeError, apart, lambda: linconv.vstack([host, A])),
        (TypeError, apart, lambda: linconv.kron(A, host)),
    )  # fmt: skip


def test_wrong_shapes_say_what_was_expected(A, cupy):
    m, n = A.shape
    assert_refused(
        (ValueError, rf"matvec expects shape \(\.\.\., {n}\) or \({n}, 1\), got", lambda: A.matvec(cupy.asarray(np.zeros(n + 7)))),
        (ValueError, rf"rmatmat expects shape \(\.\.\., {m}, k\), got", lambda: A.rmatmat(cupy.asarray(np.zeros((m + 7, 2))))),
        (ValueError, r"(A\(x\) expects shape \(\*batch, |matmat expects)", lambda: A(cupy.asarray(np.zeros((n + 7, 9, 9))))),
    )  # fmt: skip


def test_what_is_one_operator_here_is_one_there(cupy):
    A = linconv.Conv([1.0, 2], 5)
    N = (A.H @ A + linconv.Identity(5)).to("gpu")
    assert N.hermitian
    assert N.H is N
    product = N.operands[0]
    assert product.operands[0].base is product.operands[1]
    block = linconv.block([[None, A], [A.H, None]]).to("gpu")
    assert block.H is block
    moved = A.to("gpu")
    assert moved is A.to("gpu")
    assert moved is not A.with_kernel([1.0, 2]).to("gpu")


def assert_again(cupy, got, expected):
    """Assert that a product is that of before; cuSPARSE adds in another order every time."""
    units = 0 if devices.is_counted(cupy) else 64
    atol = units * np.finfo(got.dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(got.get(), expected, rtol=0, atol=atol)


def test_copies_and_pickles_compute_the_same(A, cupy):
    x = cupy.asarray(random(A.shape[1], A.dtype))
    for again in (pickle.loads(pickle.dumps(A)), copy.copy(A)):
        assert repr(again) == repr(A)
        assert again.device == A.device
        assert_again(cupy, again @ x, (A @ x).get())


def test_results_are_not_shared_with_the_operator(A, cupy):
    x = cupy.asarray(random(A.shape[1], A.dtype))
    first = A @ x
    expected = first.get()
    first[:] = 99.0
    assert_again(cupy, A @ x, expected)
