"""lstsq and factorized where numbers or conditions are extreme, and what they say then."""

import warnings

import numpy as np
import pytest
from helpers import DTYPES, random
from test_solvers import dense_solution

import linconv
from linconv.solvers import factorized, lstsq

# Numbers near the ends of the range


def outside(dtype):
    """Scales of operators whose squares, or fourth powers, leave the range of a dtype."""
    if np.finfo(dtype).eps > 1e-10:
        return (1e-25, 1e-15, 1e-10, 1e9, 1e15)
    return (1e-200, 1e-120, 1e-80, 1e80, 1e150)


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_of_any_scale_are_solved(dtype):
    M, b = random((6, 4), dtype, 301), random((6, 2), dtype, 302)
    inverse = np.linalg.inv(M.conj().T @ M + 0.01 * np.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in outside(dtype):
            A, start = (scale * M).astype(dtype), (random(4, dtype, 303) / scale).astype(dtype)
            for options in (
                {}, {"x0": start}, {"penalties": [(0.25, A[:4], b[:4])]},
                {"damp": scale / 10, "preconditioner": lambda s, a=scale: inverse @ (s / a) / a},
            ):  # fmt: skip
                solution = lstsq(A, b, tol=1e-5, **options)
                options |= {"damp": 0.1} if "damp" in options else {}
                penalties = [(0.25, M[:4], b[:4])] if "penalties" in options else []
                expected = dense_solution(M, b, options.get("damp", 0), penalties)
                assert solution.converged, (scale, options, solution.message)
                np.testing.assert_allclose(solution.x * scale, expected, rtol=1e-3, atol=1e-4)
                left = np.linalg.norm(M @ (solution.x * scale) - b, axis=0)
                np.testing.assert_allclose(solution.residual_norm, left, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 8])
@pytest.mark.parametrize("method", ["sparse", "direct"])
def test_gradients_whose_squares_overflow_are_solved_without_a_warning(method, columns, dtype):
    if method == "direct":
        pytest.importorskip("numba")
    scale = 1e25 if np.finfo(dtype).eps > 1e-10 else 1e200
    kernel = random((2, 2), dtype, 305) + 4 * np.eye(2, dtype=dtype)
    one = linconv.Conv(kernel, (5, 6), padding="full", method=method)
    A, b = one.with_kernel((scale * kernel).astype(dtype)), random((42, columns), dtype, 306)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = lstsq(A, b, tol=1e-5)
        stacked = lstsq(A, b, tol=1e-5, penalties=[(0.25, A, b)])
    expected = dense_solution(one.toarray(), b, 0, [])
    for each in (solution, stacked):
        assert each.converged, each.message
        np.testing.assert_allclose(each.x * scale, expected, rtol=1e-3, atol=1e-4)


def test_what_a_callback_sees_is_in_the_units_of_the_solution():
    seen = []
    A = 1e-100 * random((6, 4), seed=304)
    solution = lstsq(A, np.ones(6), tol=1e-10, callback=seen.append)
    np.testing.assert_array_equal(seen[-1], solution.x)


def test_a_damping_whose_square_is_too_large_is_refused():
    with pytest.raises(ValueError, match=r"the square of damp must be finite, got 1e\+160"):
        lstsq(np.eye(2), [1.0, 2.0], damp=1e160)


# The fields of a solution


def test_square_equations_of_full_rank_are_not_called_inconsistent():
    hilbert = 1 / (np.arange(6)[:, None] + np.arange(6) + 1.0)
    for A, b in ((np.diag([1, 1e-9]), np.ones(2)), (hilbert, hilbert @ np.ones(6))):
        message = lstsq(A, b).message
        assert "inconsistent" not in message
    solution = lstsq(np.diag([1, 1e-9]), np.ones(2))
    assert (
        "|A x - b| = 0.71 |b|, although some x has none: lower tol, A is ill-"
        in solution.message
    )
    large = linconv.Diagonal(np.append(np.ones(250), 1e-9))
    said = "= 0.063 |b|: they are inconsistent, or A too ill-conditioned for this tol"
    assert said in lstsq(large, np.ones(251)).message


def test_with_a_preconditioner_the_nearest_solution_is_so_in_another_norm():
    solution = lstsq(np.array([[1.0, 1]]), [2.0], preconditioner=np.diag([1.0, 10]), tol=1e-12)
    np.testing.assert_allclose(solution.x, [2 / 11, 20 / 11])  # least x0^2 + x1^2 / 10
    words = "nearest to x0 in the norm of the preconditioner's inverse"
    assert words in solution.message


def test_no_solution_is_called_the_nearest_before_it_is_one():
    message = lstsq(random((30, 60), seed=305), np.ones(30), maxiter=2).message
    assert "stopped at maxiter" in message
    assert "nearest" not in message


# Factorised


@pytest.mark.parametrize("seed", range(401, 421))
def test_singular_normal_matrices_are_refused_however_they_come_about(seed):
    rng = np.random.default_rng(seed)
    taps, n = rng.standard_normal(5), int(rng.integers(20, 80))
    with pytest.raises(np.linalg.LinAlgError, match=f"{n - 4} equations for {n} unknowns"):
        factorized(linconv.Conv(taps, n))
    left, right = rng.standard_normal((30, 7)), rng.standard_normal((7, 8))
    with pytest.raises(np.linalg.LinAlgError, match="singular to working precision"):
        factorized(left @ right)
    with pytest.raises(np.linalg.LinAlgError, match="singular to working precision"):
        factorized((left @ right).astype(np.float32))


def test_a_kernel_whose_spectrum_vanishes_is_refused():
    # (1, -1, 1, ...) becomes 0.
    ends = linconv.Conv([1.0, 1.0], 64, padding=[(0, 1)], boundary="circular")
    with pytest.raises(np.linalg.LinAlgError, match="singular to working precision"):
        factorized(ends)
    with pytest.raises(np.linalg.LinAlgError, match="singular to working precision"):
        factorized(linconv.gradient(50, boundary="circular"))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_ill_conditioned_equations_are_solved_as_well_as_that_allows(condition, dtype):
    Q = np.linalg.qr(random((40, 40), dtype, 431))[0]
    A = Q @ np.diag(np.geomspace(1, 1 / condition, 40)) @ Q[::-1].conj().T
    x = random(40, dtype, 432)
    found = factorized(A)(A @ x)
    np.testing.assert_allclose(found, x, atol=1e-14 * condition**2)


def test_numbers_that_superlu_has_not_are_refused():
    with pytest.raises(
        TypeError, match=r"factorized takes float32, .* got (longdouble|float128)"
    ):
        factorized(np.eye(2, dtype=np.longdouble))


# A start that is too far away


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_start_beside_which_nothing_is_left_of_the_right_hand_side_is_refused(dtype):
    A = np.eye(3, dtype=dtype)
    far = np.full(3, 1e30 if np.finfo(dtype).eps > 1e-10 else 1e200, dtype)
    b = np.ones(3, dtype)
    words = r"map x0 to more than .* times the right-hand side .* scale x0, or leave it out"
    with pytest.raises(ValueError, match=words):
        lstsq(A, b, x0=far)
    with pytest.raises(ValueError, match=words):
        lstsq(A, np.stack([b, np.zeros(3, dtype)], axis=1), x0=far)
    solution = lstsq(A, np.zeros(3, dtype), x0=far, tol=1e-5)  # 0 is as near as can be said
    assert solution.converged
    assert (abs(solution.x) <= 1e-4 * abs(far)).all()
