"""Shapes that protect: sides of several axes, batches, layouts of other libraries."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse.linalg
from helpers import assert_refused

import linconv
from linconv import Conv, Identity, LinearOperator
from linconv.imaging import average_pool, crop, downsample, gradient, pad, resize
from linconv.solvers import factorized, lstsq

K = np.arange(1.0, 10).reshape(3, 3)


def random(shape, dtype="f8", seed=12):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_sides_of_several_axes_that_differ_are_refused_and_both_named():
    A, B = Conv(K, (10, 4), padding=1), Conv(K, (4, 10), padding=1)
    both = (
        r"joins arrays of shapes \(10, 4\) and \(4, 10\), which have one size but other axes"
    )
    assert_refused(
        (ValueError, "A @ B " + both, lambda: A @ B),
        (ValueError, r"A \+ B " + both, lambda: A + B),
        (ValueError, r"A \+ B " + both, lambda: A - B),
        (ValueError, "column 0 " + both, lambda: linconv.vstack([A, B])),
        (ValueError, "row 0 " + both, lambda: linconv.hstack([A, B])),
        (ValueError, r"a penalty L on A joins arrays of shapes \(4, 10\) and \(10, 4\)",
         lambda: lstsq(A, np.ones((10, 4)), penalties=[(1, B)])),
        (ValueError, "the preconditioner on A joins arrays",
         lambda: lstsq(A, np.ones((10, 4)), preconditioner=Identity((4, 10)))),
        (ValueError, r"write A.reshape\(in_shape=\(4, 10\)\)", lambda: A @ B),
        (ValueError, r"shapes must have the sizes of \(10, 4\) -> \(10, 4\), got \(3, 4\)",
         lambda: A.reshape(in_shape=(3, 4))),
    )  # fmt: skip


def test_flat_sides_go_with_everything_and_reshape_says_so_on_purpose():
    A, B = Conv(K, (10, 4), padding=1), Conv(K, (4, 10), padding=1)
    flat = linconv.Matrix(random((40, 40)))
    for operator in (A @ flat, flat @ A, A + flat, linconv.vstack([A, flat])):
        assert 40 in operator.shape
    assert (A + flat).in_shape == (10, 4)
    C = A.reshape(in_shape=(4, 10))
    assert (C.in_shape, C.out_shape) == ((4, 10), (10, 4))
    np.testing.assert_array_equal((C @ B).toarray(), A.toarray() @ B.toarray())
    np.testing.assert_array_equal(C.T.toarray(), A.toarray().T)
    assert A.reshape() is A
    N = (A.H @ A).reshape(in_shape=40, out_shape=40)
    assert N.hermitian
    assert N.H is N


def test_the_operator_of_one_axis_is_what_lobpcg_means():
    A = Conv(np.array([1j, 3.0, -1j]), 30, padding=1)
    assert (A.toarray() == A.toarray().conj().T).all()
    found = scipy.sparse.linalg.lobpcg(A, random((30, 4)), maxiter=300, tol=1e-9)[0]
    np.testing.assert_allclose(found, np.linalg.eigvalsh(A.toarray())[:-5:-1], rtol=1e-6)
    np.testing.assert_array_equal(A(np.eye(30)), A.toarray())


@pytest.mark.parametrize("lead", [(), (2,), (6, 2)])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_solutions_lie_as_right_hand_sides_do_however_many_there_are(lead, k):
    A = Conv([1.0, 3.0, 0.5], 6, padding=1)
    X = random((*lead, 6, k))
    start, target = random((*lead, 6, k), seed=3), random((*lead, 6, k), seed=4)
    seen = []
    solution = lstsq(A, A @ X, x0=start, tol=1e-13, callback=lambda x: seen.append(x.shape))
    np.testing.assert_allclose(solution.x, X, atol=1e-9)
    assert set(seen) == {X.shape}
    np.testing.assert_allclose(factorized(A)(A @ X), X, atol=1e-9)
    pulled = lstsq(0 * A, A @ X, penalties=[(1.0, Identity(6), target)], tol=1e-13).x
    np.testing.assert_allclose(pulled, target, atol=1e-9)
    with pytest.raises(ValueError, match=r"b must have shape .*; for rows .* b.swapaxes"):
        lstsq(A, np.ones((*lead, k + 6, 6)))
    with pytest.raises(ValueError, match="x0 must have shape"):
        lstsq(A, A @ X, x0=np.ones((*lead, 2 * k, 6)))


def test_a_batch_of_images_is_solved_in_its_shape():
    A = Conv(K / 45, (7, 5), padding=1, boundary="reflect") + 0.5 * Identity((7, 5))
    x = random((2, 3, 7, 5))
    np.testing.assert_allclose(lstsq(A, A(x), tol=1e-13).x, x, atol=1e-8)
    flat = lstsq(A, A.matvec(x.reshape(6, 35)).T, tol=1e-13).x
    np.testing.assert_allclose(flat.T, x.reshape(6, 35), atol=1e-8)


def test_layouts_of_other_libraries_are_refused_with_the_way_out():
    assert_refused(
        (ValueError, r"means a convolution along 4 axes: leave out an axis of the batch.*stride=\(1, 1, 1, 1\)",
         lambda: Conv(np.ones((5, 2, 3, 3)), (8, 2, 20, 20))),
        (ValueError, r"a convolution along 4 axes", lambda: linconv.FilterConv(np.ones((8, 2, 20, 20)), (5, 2, 3, 3))),
        (ValueError, r"channels come first: in_shape=\(2, 20, 21\)", lambda: Conv(np.ones((5, 2, 3, 3)), (20, 21, 2))),
        (ValueError, r"with channels last kron\(Conv\(kernel, \(20, 21\)\), Identity\(3\)\)",
         lambda: Conv(K, (20, 21, 3))),
        (ValueError, r"kernel_size 2 for in_shape \(3, 8, 9\) may mean \(2, 2\), for every channel, or \(2, 2, 2\)",
         lambda: linconv.Unfold((3, 8, 9), 2)),
        (ValueError, r"size 4 for in_shape \(3, 8, 8\) may mean \(1, 4, 4\)", lambda: average_pool((3, 8, 8), 4)),
        (TypeError, r"in_shape must be a shape, .* got an array of shape \(3, 3\)", lambda: Conv((8, 8), K)),
        (TypeError, "a mask must hold bools, .* got dtype uint8", lambda: linconv.Restriction(np.eye(3, dtype="u1"), (3, 3))),
        (TypeError, "a mask must hold bools, .* got dtype float32", lambda: linconv.Restriction(np.eye(3, dtype="f4"))),
        (TypeError, "a mask must hold bools, .* got dtype int64", lambda: Conv([1.0, 2], 5)[np.array([0, 1, 1, 0])]),
    )  # fmt: skip
    four = {"stride": (1, 1, 1, 1)}
    assert Conv(np.ones((2, 2, 2, 2)), (3, 3, 3, 3), **four).out_shape == (2, 2, 2, 2)
    colour = linconv.kron(Conv(K, (20, 21), padding=1), Identity(3))
    x = random((20, 21, 3))
    one = Conv(K, (20, 21), padding=1)
    np.testing.assert_allclose(colour(x)[..., 1], one(x[..., 1]), atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Identity((8, 6)), lambda: linconv.Restriction(np.eye(8, 6, dtype=bool)),
        lambda: linconv.Diagonal(np.eye(8, 6, dtype=bool)), lambda: gradient((8, 6)),
        lambda: pad((8, 6), 1), lambda: crop((8, 6), 1), lambda: downsample((8, 6), 2),
        lambda: average_pool((8, 6), 2), lambda: resize((8, 6), (5, 9)), lambda: -gradient((8, 6)).T,
        lambda: linconv.Unfold((8, 6), 2), lambda: linconv.upsample((8, 6), 2),
        lambda: 2 * (crop((10, 8), 1) @ pad((8, 6), 1)) + Identity((8, 6)),
        lambda: linconv.vstack([pad((8, 6), 1), gradient((8, 6))]),
        lambda: linconv.kron(Identity(8), crop(6, 1)), lambda: resize((8, 6), (5, 9)).T.H,
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_operators_that_no_user_gave_a_dtype_keep_that_of_the_data(make, dtype):
    A = make()
    x, y = random(A.in_shape, dtype), random(A.out_shape, dtype)
    assert A.dtype in (np.float64, np.int64)
    assert A(x).dtype == A.H(y).dtype == (A.T @ y.ravel()).dtype == dtype
    np.testing.assert_allclose(A(x).ravel(), A.toarray() @ x.ravel(), atol=1e-5)
    again = pickle.loads(pickle.dumps(A))
    assert copy.copy(A)(x).dtype == again(x).dtype == dtype
    blur = Conv(K.astype("f4"), A.out_shape[-2:], padding=1) if len(A.out_shape) == 2 else None
    if blur:
        assert (blur @ A).dtype == (blur @ A).tosparse().dtype == np.float32
        assert (blur @ A)(x).dtype == np.result_type("f4", dtype)
        assert lstsq(blur @ A, y.real.astype("f4"), maxiter=2).x.dtype == np.float32


def test_a_dtype_that_is_named_decides():
    assert gradient((4, 5), dtype="f8")(random((4, 5), "f4")).dtype == np.float64
    assert Identity(3, "f8")(random(3, "f4")).dtype == np.float64
    assert linconv.Unfold(5, 2, dtype=float)(random(5, "f4")).dtype == np.float64


def test_attributes_that_describe_an_operator_cannot_be_assigned():
    A = Conv(K, (5, 6))
    for name in ("kernel", "geometry", "shape", "dtype", "in_shape", "method"):
        with pytest.raises(AttributeError, match=f"{name} describes the operator and cannot"):
            setattr(A, name, getattr(A, name))
    with pytest.raises(AttributeError, match="operands describes the operator"):
        (A + A).operands = ()
    A.note = "a user's own attribute"
    assert pickle.loads(pickle.dumps(A)).note == A.note


def returning(result):
    class Careless(LinearOperator):
        def __init__(self):
            super().__init__(float, 4, 3)

        def _matmat(self, X):
            return result(X)

        def _rmatmat(self, Y):
            return np.zeros((4, Y.shape[1]))

    return Careless()


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            lambda X: X[:2],
            r"must return an array of shape \(3, 1\), got ndarray of shape \(2, 1\)",
        ),
        (
            lambda X: X[:1],
            r"must return an array of shape \(3, 1\), got ndarray of shape \(1, 1\)",
        ),
        (lambda X: None, r"must return an array of shape \(3, 1\), got ndarray of shape \(\)"),
        (lambda X: np.zeros((3, 1), object), "must return numbers, got dtype object"),
    ],
)
def test_no_hook_of_a_subclass_is_trusted(result, words):
    A, B = returning(result), Conv([1.0, 2], 4, method="direct" if has_numba() else "sparse")
    for operator in (
        A,
        A + linconv.Matrix(np.ones((3, 4))),
        linconv.vstack([A, A]),
        2 * A,
        B @ A.T @ A,
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            operator @ np.ones(4)


def has_numba():
    return (
        linconv.methods.why_not("direct", Conv([1.0], 4).geometry, np.dtype(float), "cpu")
        == ""
    )


def test_complex_results_of_a_real_operator_are_told():
    A = returning(lambda X: 1j * X[:3])
    with pytest.raises(TypeError, match="its product with float64 is complex128, whose imag"):
        A @ np.ones(4)


def test_subclasses_may_implement_scipys_hooks():
    class Shift(LinearOperator):
        def __init__(self):
            super().__init__(float, 4, 4)

        def _matvec(self, x):
            return np.roll(x, 1)

        def _adjoint(self):
            return linconv.Matrix(np.roll(np.eye(4), -1, axis=0))

    A, X = Shift(), random((4, 3))
    np.testing.assert_array_equal(A @ X, np.roll(X, 1, axis=0))
    np.testing.assert_array_equal(A.rmatmat(X), np.roll(X, -1, axis=0))

    class Nothing(LinearOperator):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must implement _matmat\(X\), or"):
        Nothing(float, 3, 3)


def test_scipys_operators_are_read_as_scipy_defines_them():
    theirs = scipy.sparse.linalg.LinearOperator
    image = theirs((6, 6), matvec=lambda v: 3 * v.reshape(3, 2), rmatvec=lambda v: 3 * v)
    A = linconv.aslinearoperator(image)
    np.testing.assert_array_equal(A.toarray(), 3 * np.eye(6))
    steps = linconv.aslinearoperator(theirs((4, 5), matvec=lambda v: np.diff(v, axis=0)))
    assert steps.dtype in (np.int64, np.float64)  # SciPy 1.14 tries floats
    assert (40 * steps @ np.array([0, 5, 0, 5, 0])).tolist() == [200, -200, 200, -200]
    turned = theirs((3, 3), matvec=lambda v: 1j * v, rmatvec=lambda v: -1j * v, dtype=float)
    A = linconv.aslinearoperator(turned)
    assert A.dtype == np.complex128
    np.testing.assert_array_equal((A + A) @ np.ones(3), [2j, 2j, 2j])
    short = linconv.aslinearoperator(theirs((3, 3), matvec=lambda v: v[:2], dtype=float))
    with pytest.raises(ValueError, match=r"shape|dimension"):
        short @ np.ones(3)


def test_sums_multiples_and_scipys_names():
    A, B = Conv([1.0, 2], 4), Conv([3.0, 1], 4)
    np.testing.assert_array_equal(sum([A, B]).toarray(), A.toarray() + B.toarray())
    np.testing.assert_array_equal(((A * 3) / 3).toarray(), A.toarray())
    assert (A + B).args == (A, B)
    assert A.apply_columns([0, 2]).shape == (3, 2)
    with pytest.raises(TypeError, match=r"an operator is not an array: abs\(A.tosparse\(\)\)"):
        abs(A)
