"""Products of stored matrices: threads, dtypes, memory, determinism."""

import numpy as np
import pytest
import scipy.sparse
from helpers import DTYPES, in_threads, peak, values

import linconv
from linconv import _arrays
from linconv.gpu import host_products as csr_products


@pytest.fixture(scope="module")
def large():
    """An operator large enough for several threads, with its matrix."""
    taps = np.random.default_rng(611).standard_normal((7, 7))
    A = linconv.Conv(taps, (600, 601), padding=3, boundary="reflect", method="sparse")
    assert A.geometry.nnz > 4 * csr_products._GRAIN
    return A, A.tosparse()


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: max(1, min(4, work // grain)))


def vectors(A, dtype="f8"):
    rng = np.random.default_rng(90210)
    return values(rng, A.shape[1], dtype), values(rng, A.shape[0], dtype)


def test_threaded_products_equal_scipys(large, four_threads):
    A, matrix = large
    x, y = vectors(A)
    np.testing.assert_array_equal(A @ x, matrix @ x)
    np.testing.assert_allclose(A.H @ y, matrix.T @ y, rtol=1e-12, atol=1e-12)
    X = np.stack([x, -x, 2 * x], axis=1)
    np.testing.assert_allclose(A @ X, matrix @ X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", ["large", "small"])
def test_many_threads_calling_at_once_get_the_bits_of_one(size, large):
    A, _ = large
    if size == "small":
        A = linconv.Conv(np.random.default_rng(4711).standard_normal((4, 3, 3, 3)), (3, 9, 9))
    x, y = vectors(A)
    forward, adjoint = A @ x, A.rmatvec(y)
    wrong = []

    def work():
        for _ in range(4 if size == "large" else 100):
            if (A @ x).tobytes() != forward.tobytes():
                wrong.append("forward")
            if A.rmatvec(y).tobytes() != adjoint.tobytes():
                wrong.append("adjoint")

    in_threads(8, work)
    assert wrong == []


@pytest.mark.parametrize(
    ("matrix_dtype", "vector_dtype"),
    [
        ("f4", "f8"), ("f4", "c16"), ("f4", "i8"), ("f8", "f4"), ("f8", "c8"), ("c8", "f8"), ("c8", "c16"),
        ("c16", "f4"), ("i8", "f4"), ("i8", "c16"), ("f8", "g"), ("f4", "G"), ("i8", "i1"), ("i8", "?"),
    ],
)  # fmt: skip
def test_mixed_dtypes_are_as_accurate_as_the_result_promises(matrix_dtype, vector_dtype):
    rng = np.random.default_rng(1234567)
    taps = (100 * rng.standard_normal((5, 5))).astype(matrix_dtype)
    A = linconv.Conv(taps, (150, 150), padding=2, boundary="circular", method="sparse")
    assert A.geometry.nnz > 2 * csr_products._CAST
    x = (100 * rng.standard_normal(A.shape[1])).astype(vector_dtype)
    wide = np.result_type(A.dtype, x.dtype)
    exact = A.tosparse().astype("G" if wide.kind == "c" else "g")
    for actual, expected in ((A @ x, exact @ x), (A.T @ x, exact.T @ x)):
        assert actual.dtype == wide
        if wide.kind == "i":
            np.testing.assert_array_equal(actual, expected.real.astype("i8"))
        else:
            error = np.linalg.norm(
                (actual - expected).astype("c16" if wide.kind == "c" else "f8")
            )
            assert error <= 8 * np.finfo(wide).eps * np.linalg.norm(expected.astype("c16"))


def test_no_product_copies_the_matrix(large):
    A, matrix = large
    for dtype in ("f4", "f8", "c16", "g"):
        x, y = vectors(A, dtype)
        most, _ = peak(lambda x=x, y=y: (A @ x, A.rmatvec(y)))
        width = np.result_type(A.dtype, dtype).itemsize
        assert most < matrix.nnz * width / 3, dtype


def test_small_integers_never_wrap():
    A = linconv.Conv(np.array([100, 100, 100], "i1"), 5)
    assert A.dtype == np.int64
    y = A @ np.array([100, 100, 100, 100, 100], "i1")
    assert y.dtype == np.int64
    assert y.tolist() == [30_000] * 3
    big = linconv.Conv(np.array([2**53 + 1, 1]), 2)
    assert (big @ np.array([1, 1])).tolist() == [2**53 + 2]


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
@pytest.mark.parametrize("b", [2, 3, 4, 8, 11])
@pytest.mark.parametrize("threads", [1, 3])
def test_columns_of_any_number_and_order_are_the_dense_product(monkeypatch, dtype, b, threads):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
    rng = np.random.default_rng(4021)
    A = linconv.Conv(
        rng.integers(-9, 10, (3, 4)).astype(dtype), (13, 7), padding=2, boundary="reflect"
    )
    M = A.tosparse()
    dense = M.toarray()
    for x in (rng.integers(-9, 10, (91, b)), rng.integers(-9, 10, (b, 91)).T):
        x = x.astype(dtype)
        y = rng.integers(-9, 10, (M.shape[0], b)).astype(dtype)
        np.testing.assert_array_equal(csr_products.forward(M, x), dense @ x)
        np.testing.assert_array_equal(csr_products.adjoint(M, y), dense.conj().T @ y)
        assert csr_products.forward(M, x).dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_products_read_long_indices(dtype):
    rng = np.random.default_rng(31)
    dense = rng.integers(-3, 4, (12, 9)).astype(dtype)
    M = scipy.sparse.csr_array(dense)
    M.indices, M.indptr = M.indices.astype(np.int64), M.indptr.astype(np.int64)
    x, y = (rng.integers(-9, 10, (n, 10)).astype(dtype) for n in (9, 12))
    np.testing.assert_array_equal(csr_products.forward(M, x), dense @ x)
    np.testing.assert_array_equal(csr_products.adjoint(M, y), dense.conj().T @ y)
