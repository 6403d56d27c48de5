"""lstsq and factorized against dense algebra; what they say; and everybody's solvers."""

import contextlib
import dataclasses
import io
import re
import time

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg as sla
from helpers import DTYPES, peak, random

import linconv
from linconv.solvers import Solution, factorized, lstsq
from linconv.spectrum import circulant_preconditioner


def dense_solution(A, b, damp=0, penalties=()):
    """Minimise the sum of squares by NumPy, in double precision."""
    wide = np.result_type(A, np.float64)
    n = A.shape[1]
    rows, right = [A.astype(wide), damp * np.eye(n)], [b, np.zeros((n, *b.shape[1:]))]
    for w, L, *target in penalties:
        rows.append(np.sqrt(w) * L)
        zeros = np.zeros((L.shape[0], *b.shape[1:]))
        right.append(np.sqrt(w) * target[0] if target else zeros)
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [(), (1,), (5,)])
@pytest.mark.parametrize("shape", [(30, 20), (20, 20), (12, 20)])
def test_lstsq_is_the_dense_solution(dtype, columns, shape):
    A, b = random(shape, dtype, 1 + shape[0]), random((shape[0], *columns), dtype, 2)
    tol = 1e-6 if np.finfo(dtype).eps > 1e-10 else 1e-13
    solution = lstsq(A, b, tol=tol, maxiter=2000)
    expected = dense_solution(A, b)
    assert solution.x.dtype == dtype
    assert solution.x.shape == expected.shape
    scale = np.abs(expected).max() * np.linalg.cond(A) ** 2
    np.testing.assert_allclose(solution.x, expected, rtol=0, atol=10 * tol * scale)
    if shape != (20, 20):  # square ones of 20 are too ill-conditioned for the tolerance
        assert solution.converged, solution.message
    residual = np.linalg.norm(A @ solution.x - b, axis=0)
    np.testing.assert_allclose(solution.residual_norm, residual, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_damping_and_penalties_add_their_squares(dtype):
    A, b = random((30, 20), dtype, 11), random((30, 3), dtype, 12)
    L, t = random((7, 20), dtype, 13), random((7, 3), dtype, 14)
    G = random((25, 20), dtype, 15)
    damp, penalties = 0.7, [(2.5, L, t), (0.25, G)]
    expected = dense_solution(A, b, damp, penalties)
    tol = 1e-6 if np.finfo(dtype).eps > 1e-10 else 1e-13
    close = {"rtol": 0, "atol": 1e3 * tol * np.abs(expected).max()}
    solution = lstsq(A, b, damp=damp, penalties=penalties, tol=tol)
    np.testing.assert_allclose(solution.x, expected, **close)
    np.testing.assert_allclose(
        solution.residual_norm, np.linalg.norm(A @ expected - b, axis=0), rtol=1e-3
    )
    solve = factorized(A, damp=damp, penalties=penalties)
    np.testing.assert_allclose(solve(b), expected, **close)


def test_a_target_or_a_start_may_serve_all_right_hand_sides():
    A, b, L, t = random((9, 6)), random((9, 4)), random((5, 6)), random(5)
    solution = lstsq(A, b, penalties=[(1.0, L, t)], tol=1e-12, x0=random(6))
    expected = dense_solution(A, b, 0, [(1.0, L, np.repeat(t[:, None], 4, 1))])
    np.testing.assert_allclose(solution.x, expected, rtol=0, atol=1e-9)


def test_real_operators_take_complex_right_hand_sides_and_the_reverse():
    A, b = random((9, 6)), random(9, "complex128")
    x = lstsq(A, b, tol=1e-13).x
    np.testing.assert_allclose(x, dense_solution(A, b), atol=1e-9)
    np.testing.assert_allclose(factorized(A)(b), dense_solution(A, b), atol=1e-9)
    C = random((9, 6), "complex128")
    x = lstsq(C, b.real, tol=1e-13).x
    np.testing.assert_allclose(x, dense_solution(C, b.real), atol=1e-9)
    whole = lstsq(np.array([[1, 2], [3, 4]]), [5, 11], tol=1e-13)
    np.testing.assert_allclose(whole.x, [1, 2], atol=1e-9)
    assert whole.x.dtype == np.float64


def test_shaped_right_hand_sides_give_shaped_solutions():
    A = linconv.Conv(random((3, 3), seed=3), (6, 7), padding=1)
    M = A.toarray() + 0
    images = random((2, 3, *A.out_shape))
    solution = lstsq(A, images, damp=0.5, tol=1e-12)
    expected = dense_solution(M, images.reshape(6, -1).T, 0.5)
    assert solution.x.shape == (2, 3, 6, 7)
    assert solution.residual_norm.shape == (6,)
    np.testing.assert_allclose(solution.x.reshape(6, -1).T, expected, atol=1e-8)
    one = lstsq(A, images[0, 1], damp=0.5, tol=1e-12, x0=images[0, 1])
    np.testing.assert_allclose(one.x, solution.x[0, 1], atol=1e-8)
    assert isinstance(one.residual_norm, float)
    flat = lstsq(A, images[0, 1].ravel(), damp=0.5, tol=1e-12)
    np.testing.assert_allclose(flat.x, one.x.ravel(), atol=1e-8)
    direct = factorized(A, damp=0.5)(images)
    np.testing.assert_allclose(direct, solution.x, atol=1e-8)


@pytest.mark.parametrize("name", ["_matmat", "matmat"])
def test_products_of_a_subclass_are_its_own(name):
    class Doubled(linconv.Conv):
        pass

    def doubled(transposed):
        product = getattr(linconv.Conv, name.replace("mat", "rmat", 1) if transposed else name)
        return lambda self, X: 2 * product(self, X)

    setattr(Doubled, name, doubled(False))
    setattr(Doubled, name.replace("mat", "rmat", 1), doubled(True))
    rng = np.random.default_rng(11)
    A = Doubled(rng.standard_normal(3), 40, padding=1, method="direct")
    b = rng.standard_normal((40, 8))
    got = lstsq(A, b, tol=1e-12)
    right = np.linalg.solve(2 * linconv.conv_matrix(A.kernel, 40, padding=1).toarray(), b)
    np.testing.assert_allclose(got.x, right, rtol=1e-7)


def test_columns_of_different_difficulty_and_size_each_get_their_own_solution():
    A = np.diag(np.geomspace(1, 1e3, 12))
    b = np.stack([A[:, 0], np.zeros(12), 1e-150 * np.ones(12), 1e150 * np.ones(12)], axis=1)
    solution = lstsq(A, b, tol=1e-12, maxiter=200)
    assert solution.converged, solution.message
    np.testing.assert_allclose(solution.x, np.linalg.solve(A, b), rtol=1e-4, atol=0)
    np.testing.assert_array_equal(solution.x[:, 1], 0)


def test_a_preconditioner_saves_iterations_and_changes_no_solution():
    scales = np.geomspace(1, 1000, 40)
    A = linconv.Matrix(random((60, 40), seed=31)) @ linconv.Diagonal(scales)
    b = random(60, seed=32)
    plain = lstsq(A, b, tol=1e-10, maxiter=4000)
    inverse = 1 / (60 * scales**2)
    for M in (
        linconv.Diagonal(inverse),
        np.diag(inverse),
        scipy.sparse.diags_array(inverse),
        lambda s: inverse[:, None] * s,
    ):
        quick = lstsq(A, b, tol=1e-10, maxiter=4000, preconditioner=M)
        assert quick.converged
        assert 3 * quick.iterations < plain.iterations
        np.testing.assert_allclose(quick.x, plain.x, rtol=1e-4, atol=1e-8)


def test_of_all_solutions_the_one_nearest_to_the_start_is_found():
    A, b, x0 = random((4, 9)), random(4), random(9, seed=6)
    plain = lstsq(A, b, tol=1e-12)
    np.testing.assert_allclose(plain.x, np.linalg.pinv(A) @ b, atol=1e-9)
    near = lstsq(A, b, tol=1e-12, x0=x0)
    np.testing.assert_allclose(near.x, x0 + np.linalg.pinv(A) @ (b - A @ x0), atol=1e-9)
    assert "of all solutions this is the one nearest to x0" in near.message


# The fields of a solution


def test_a_solution_is_frozen_and_reads_without_its_numbers():
    solution = lstsq(np.eye(3), np.ones(3))
    assert isinstance(solution, Solution)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        solution.x = 0
    assert repr(solution).startswith(
        "Solution(converged=True, iterations=1, residual_norm=0.0,"
    )
    assert "array" not in repr(solution)


@pytest.mark.parametrize("where", ["b", "x0", "target"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_in_words(where, bad):
    numbers = {"b": np.ones((3, 2)), "x0": np.ones((3, 2)), "target": np.ones((3, 2))}
    numbers[where][1, 0] = bad
    penalties = [(1.0, np.eye(3), numbers["target"])]
    solution = lstsq(np.eye(3), numbers["b"], x0=numbers["x0"], penalties=penalties)
    assert not solution.converged
    assert solution.iterations == 0
    assert "holds NaN or infinite values" in solution.message
    assert np.isnan(solution.x).all()
    assert np.isnan(solution.residual_norm).all()


def test_an_operator_that_gives_nan_is_noticed():
    solution = lstsq(np.diag([1.0, np.nan]), [1.0, 1.0])
    assert not solution.converged
    assert "a product gave NaN or infinite values" in solution.message


def test_singular_equations_are_solved_and_said_to_be_singular():
    A = np.diag([3.0, 2.0, 0.0])
    consistent = lstsq(A, [3.0, 2.0, 0.0])
    np.testing.assert_allclose(consistent.x, [1, 1, 0], atol=1e-9)
    assert consistent.converged
    assert "A is singular, of rank 2 for 3 unknowns" in consistent.message
    assert "inconsistent" not in consistent.message
    inconsistent = lstsq(A, [3.0, 2.0, 4.0])
    np.testing.assert_allclose(inconsistent.x, [1, 1, 0], atol=1e-9)
    assert inconsistent.residual_norm == pytest.approx(4.0)
    assert "the equations are inconsistent, |A x - b| = 0.74 |b|" in inconsistent.message
    assert "singular" not in lstsq(A, [3.0, 2.0, 4.0], damp=0.1).message


def test_more_unknowns_than_equations_and_bad_conditions_are_said():
    wide = linconv.Conv(np.ones(3), 500)
    assert "fewer equations than unknowns" in lstsq(wide, np.ones(498), maxiter=3).message
    A = linconv.Diagonal(np.geomspace(1, 1e-12, 300))
    solution = lstsq(A, np.ones(300), tol=1e-14, maxiter=3000)
    assert not solution.converged
    seen = float(re.search("the condition of A is at least ([0-9e+.]+)", solution.message)[1])
    assert 1e4 < seen < 2e12
    cliff = np.append(np.ones(250), 1e-9)
    solution = lstsq(linconv.Diagonal(cliff), np.append(np.ones(250), 1e7), tol=1e-12)
    assert "A is singular or nearly so, its condition at least 1e+09" in solution.message
    np.testing.assert_allclose(solution.x, 1 / cliff * np.append(np.ones(250), 1e7), rtol=1e-6)


def test_equations_with_a_solution_are_not_called_inconsistent():
    A = random((30, 20))
    solution = lstsq(A, A @ random(20, seed=4))
    assert solution.converged
    assert "inconsistent" not in solution.message


def test_a_limit_of_iterations_is_kept_and_said():
    A = random((200, 200))
    for maxiter in (0, 1, 5):
        solution = lstsq(A, np.ones(200), maxiter=maxiter)
        assert not solution.converged
        assert solution.iterations == maxiter
        assert "stopped at maxiter" in solution.message
    residual = np.linalg.norm(A @ solution.x - 1)
    assert solution.residual_norm == pytest.approx(residual)


def test_a_tolerance_below_rounding_ends_and_is_not_called_converged():
    A = random((60, 40))
    start = time.perf_counter()
    solution = lstsq(A, random(60), tol=1e-30, maxiter=100_000)
    assert time.perf_counter() - start < 20
    assert not solution.converged
    assert solution.iterations < 1000
    assert "rounding" in solution.message
    np.testing.assert_allclose(solution.x, dense_solution(A, random(60)), atol=1e-9)


def test_a_wrong_adjoint_ends_without_being_called_converged():
    class Wrong(linconv.LinearOperator):
        def _matmat(self, X):
            return np.concatenate([X[1:], 0 * X[:1]])

        def _rmatmat(self, X):
            return X

    solution = lstsq(Wrong(float, 2, 2), [1.0, 0.0], maxiter=50)
    assert not solution.converged


def test_a_preconditioner_that_is_not_positive_is_noticed():
    solution = lstsq(np.eye(3), np.ones(3), preconditioner=-np.eye(3))
    assert not solution.converged
    assert "the preconditioner is not positive definite" in solution.message


def test_zero_right_hand_sides_and_exact_starts_need_no_iteration():
    A = random((9, 6))
    zero = lstsq(A, np.zeros(9))
    assert (zero.converged, zero.iterations, zero.residual_norm) == (True, 0, 0.0)
    x = random(6, seed=8)
    exact = lstsq(A, A @ x, x0=x)
    assert (exact.converged, exact.iterations) == (True, 0)
    np.testing.assert_array_equal(exact.x, x)
    far = lstsq(A, np.zeros(9), x0=x, tol=1e-10)
    assert far.converged
    assert np.linalg.norm(far.x) < 1e-8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_tiny_and_huge_right_hand_sides_do_not_overflow(dtype, size):
    limit = np.finfo(dtype)
    if not float(limit.tiny) < size < float(limit.max):
        size = np.sqrt(float(limit.max)) if size > 1 else np.sqrt(float(limit.tiny))
    A, b = random((9, 6), dtype), (random(9) * size).astype(dtype)
    solution = lstsq(A, b, tol=1e-5)
    assert solution.converged, solution.message
    expected = dense_solution(A, b.astype(float) / size)
    np.testing.assert_allclose(solution.x.astype(float) / size, expected, rtol=0, atol=1e-3)


def test_callback_sees_every_x_and_cannot_change_the_run():
    A, b, seen = linconv.Conv(random((2, 2)), (5, 5), padding=[(0, 1)] * 2), random((5, 5)), []

    def callback(x):
        seen.append(x.copy())
        x[:] = np.nan

    solution = lstsq(A, b, damp=0.1, callback=callback)
    assert len(seen) == solution.iterations
    assert seen[0].shape == (5, 5)
    np.testing.assert_array_equal(seen[-1], solution.x)
    assert len({x.tobytes() for x in seen}) == len(seen)


def test_progress_shows_a_bar_and_nothing_otherwise():
    A, b = random((30, 20)), random(30)
    for progress in (True, False):
        stream = io.StringIO()
        with contextlib.redirect_stderr(stream):
            lstsq(A, b, progress=progress)
        assert ("gradient" in stream.getvalue()) == progress


def test_progress_without_tqdm_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="progress=True needs tqdm: pip install tqdm"):
        lstsq(np.eye(2), np.ones(2), progress=True)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"b": np.ones(4)}, r"b must have shape \(3,\), \(\.\.\., 3, k\) for k > 0, got \(4,\)"),
        ({"b": np.ones((3, 0))}, r"b must have shape .* for k > 0, got \(3, 0\)"),
        ({"tol": -1}, "tol must be at least 0 and below 1, got -1"),
        ({"tol": np.nan}, "tol must be at least 0 and below 1, got nan"),
        ({"maxiter": -1}, "maxiter must be >= 0, got -1"),
        ({"damp": -0.5}, "damp must be finite and not negative, got -0.5"),
        ({"damp": np.inf}, "damp must be finite and not negative, got inf"),
        ({"x0": np.ones(4)}, r"x0 must have shape \(3,\) or \(3, 1\), got \(4,\)"),
        ({"penalties": [(1, np.eye(2))]}, r"as many columns as A, 3, got shape \(2, 2\)"),
        ({"penalties": [(-1, np.eye(3))]}, "the weight of a penalty must be finite and not"),
        ({"penalties": [(1,)]}, r"must be \(weight, L\) or .*, got 1 entries"),
        ({"penalties": [7]}, r"must be \(weight, L\) or .*, got 7"),
        ({"penalties": [(1, np.eye(3), np.ones(2))]}, r"target must have shape \(3,\) or \(3, 1\), got \(2,\)"),
        ({"preconditioner": np.eye(2)}, r"must have shape \(3, 3\) or be callable, got ndarray"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(arguments, match):
    options = {"b": np.ones(3), **arguments}
    with pytest.raises(ValueError, match=match):
        lstsq(np.eye(3), options.pop("b"), **options)


def test_kinds_that_make_no_sense_are_refused():
    A = linconv.Conv(np.ones((2, 2)), (4, 4))
    with pytest.raises(ValueError, match=r"or \(\*batch, 3, 3\) for k > 0, got \(3, 4\)"):
        lstsq(A, np.ones((3, 4)))
    with pytest.raises(TypeError, match="damp must be a number, got list"):
        lstsq(np.eye(3), np.ones(3), damp=[1])
    with pytest.raises(TypeError, match="for a weight per row use Diagonal"):
        lstsq(np.eye(3), np.ones(3), penalties=[(np.ones(3), np.eye(3))])
    with pytest.raises(TypeError, match="expected a LinearOperator"):
        lstsq("A", np.ones(3))
    with pytest.raises(TypeError, match="tol must be a number, got str"):
        lstsq(np.eye(3), np.ones(3), tol="a")
    with pytest.raises(TypeError, match="callback must be callable or None, got int"):
        lstsq(np.eye(3), np.ones(3), callback=3)
    nothing = r"penalties must be a sequence of .*, \(\) for none, got NoneType"
    with pytest.raises(TypeError, match=nothing):
        lstsq(np.eye(3), np.ones(3), penalties=None)
    with pytest.raises(TypeError, match=nothing):
        factorized(np.eye(3), penalties=None)
    with pytest.raises(TypeError, match=nothing):
        circulant_preconditioner(linconv.Conv(np.ones(3), 5), penalties=None)


def test_the_solver_asks_of_device_arrays_only_what_cupy_has(cupy):
    M = random((12, 8), "float64", 55)
    b = random((12, 3), "float64", 56)

    class Device:
        """An operator that multiplies device arrays and nothing else."""

        def __init__(self, matrix):
            self.matrix, self.shape, self.dtype = matrix, matrix.shape, matrix.dtype

        @property
        def H(self):
            return Device(self.matrix.T)

        def __matmul__(self, x):
            return self.matrix @ x

    A = Device(cupy.asarray(M))
    solution = lstsq(A, cupy.asarray(b), damp=0.3, tol=1e-12)
    assert isinstance(solution.x, cupy.ndarray)
    np.testing.assert_allclose(cupy.asnumpy(solution.x), dense_solution(M, b, 0.3), atol=1e-9)
    with pytest.raises(TypeError, match="A must have a shape and multiply the arrays"):
        lstsq(7, cupy.asarray(b))


def test_nothing_is_densified():
    """Vectors only: a dense matrix here would take 8 GB, its CSR form takes 34 MB."""
    A = linconv.Conv(random((9, 9)), (180, 180), padding=4, method="sparse")
    b = random(A.shape[0])
    matrix = A._nnz() * 12
    assert peak(lambda: lstsq(A, b, damp=0.1, maxiter=5))[0] < 0.2 * matrix


# Factorised


def test_one_factorisation_solves_for_many_right_hand_sides():
    A = linconv.Conv([1.0, 2.0, 0.5], 60, padding=1, boundary="reflect")
    G = linconv.Conv([1.0, -1.0], 60)
    solve = factorized(A, penalties=[(0.3, G)])
    b = random((60, 4))
    expected = dense_solution(A.toarray(), b, 0, [(0.3, G.toarray())])
    np.testing.assert_allclose(solve(b), expected, atol=1e-10)
    np.testing.assert_allclose(solve(b[:, 2]), expected[:, 2], atol=1e-10)
    # Penalties that can be gone through only once are kept: those of a solve have targets.
    t = random(59, seed=3)
    once = factorized(A, penalties=iter([(0.3, G, t)]))
    expected = lstsq(A, b[:, 0], penalties=[(0.3, G, t)], tol=1e-13).x
    for _ in range(2):
        np.testing.assert_allclose(once(b[:, 0]), expected, atol=1e-10)


def test_a_singular_normal_matrix_is_an_error_that_says_what_to_do():
    with pytest.raises(np.linalg.LinAlgError, match=r"\(3, 3\) is singular .* add a penalty"):
        factorized(np.diag([1.0, 1.0, 0.0]))
    nearly = linconv.Conv([1.0, -2.0, 1.0], 400)
    with pytest.raises(np.linalg.LinAlgError, match="398 equations for 400 unknowns: damp"):
        factorized(nearly)
    assert factorized(nearly, damp=1e-2)(np.ones(398)).shape == (400,)


def test_factors_refuse_what_is_not_finite():
    with pytest.raises(ValueError, match="b must be finite, got NaN or infinite values"):
        factorized(np.eye(2))([1.0, np.nan])
    with pytest.raises(ValueError, match="the operators must be finite"):
        factorized(np.diag([1.0, np.nan]))


# Everybody's solvers


def blur(dtype="float64", n=12):
    h = np.array([1.0, 3.0, 1.0]) / 5
    taps = np.outer(h, h) * (1 if "float" in dtype else 1 + 0.2j)
    return linconv.Conv(taps.astype(dtype), (n, n), padding=1)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", ["cg", "minres", "gmres", "bicgstab", "lsqr", "lsmr"])
def test_scipys_iterative_solvers_take_the_operators_as_they_are(name, dtype):
    if name == "minres" and dtype == "complex128":
        dtype = "float64"  # SciPy's minres is for real matrices
    A = blur(dtype)
    b = random(144, dtype)
    N = A.H @ A + 0.1 * linconv.Identity((12, 12))
    dense = N.toarray()
    solve = getattr(sla, name)
    if name in ("lsqr", "lsmr"):
        x = solve(A, b, damp=np.sqrt(0.1), atol=1e-13, btol=1e-13)[0]
        expected = np.linalg.solve(dense, A.toarray().conj().T @ b)
    else:
        x, info = solve(N, b, rtol=1e-12)
        assert info == 0
        expected = np.linalg.solve(dense, b)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_scipys_bounded_least_squares_takes_the_operator_as_it_is():
    A = blur(n=6)
    b = random(36)
    found = scipy.optimize.lsq_linear(A, b, bounds=(-1, 1), lsq_solver="lsmr", tol=1e-12)
    expected = scipy.optimize.lsq_linear(A.toarray(), b, bounds=(-1, 1), tol=1e-12)
    assert found.success
    np.testing.assert_allclose(found.x, expected.x, atol=1e-5)


def test_scipys_singular_and_eigenvalue_solvers_take_the_operators_as_they_are():
    A = blur("complex128")
    singular = np.linalg.svd(A.toarray(), compute_uv=False)
    values = sla.svds(A, k=4, return_singular_vectors=False, v0=random(144))
    np.testing.assert_allclose(np.sort(values)[::-1], singular[:4], rtol=1e-9)
    N = A.H @ A
    values = sla.eigsh(N, k=4, return_eigenvectors=False, v0=random(144))
    np.testing.assert_allclose(np.sort(values)[::-1], singular[:4] ** 2, rtol=1e-9)
    real = blur()
    singular = np.linalg.svd(real.toarray(), compute_uv=False)
    values, _ = sla.lobpcg(real.H @ real, random((144, 3)), maxiter=200, tol=1e-7)
    np.testing.assert_allclose(values, singular[:3] ** 2, rtol=1e-6)


def test_the_matrices_go_into_scipys_direct_solvers():
    A = blur()
    N = (A.H @ A + 0.1 * linconv.Identity((12, 12))).tosparse("csc")
    b = random(144)
    expected = np.linalg.solve(N.toarray(), b)
    np.testing.assert_allclose(sla.splu(N).solve(b), expected, atol=1e-10)
    np.testing.assert_allclose(sla.spsolve(N, b), expected, atol=1e-10)
    ilu = sla.spilu(N, drop_tol=1e-3)
    M = sla.LinearOperator(N.shape, ilu.solve, dtype=float)
    x, info = sla.cg(N, b, M=M, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(x, expected, atol=1e-8)
