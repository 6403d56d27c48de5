"""PyLops', pyproximal's and PyAMG's solvers on linconv's operators, unchanged."""

import numpy as np
import pytest
from helpers import random

import linconv
from linconv.testing import assert_adjoint

SHAPE = (14, 11)
N = 14 * 11


def kernel(dtype="float64"):
    h = np.array([1.0, 3.0, 2.0]) / 6
    taps = np.outer(h, h[::-1])
    return taps if dtype == "float64" else taps * (1 + 0.3j)


def blur(dtype="float64"):
    return linconv.Conv(kernel(dtype), SHAPE, padding=1, flip=True)


def block_image():
    x = np.zeros(SHAPE)
    x[3:9, 4:8] = 1
    x[10:, :3] = -0.5
    return x.ravel()


@pytest.fixture
def pylops():
    return pytest.importorskip("pylops")


@pytest.fixture
def pyproximal(pylops):
    return pytest.importorskip("pyproximal")


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_pylops_operators_compose_with_ours_in_both_directions(pylops, dtype):
    A, d = blur(dtype), np.arange(1.0, N + 1)
    theirs = pylops.Diagonal(d, dtype=dtype)
    M, D = A.toarray(), np.diag(d)
    x = random(N) + (1j * random(N, seed=6) if dtype == "complex128" else 0)
    for operator, matrix in (
        (A @ theirs, M @ D), (theirs @ A, D @ M), (A.H @ theirs @ A, M.conj().T @ D @ M),
        (A + theirs, M + D), (theirs + A, D + M), (A - theirs, M - D), (A * theirs, M @ D),
        (linconv.vstack([A, theirs]), np.concatenate([M, D])),
        (pylops.VStack([A, theirs]), np.concatenate([M, D])),
    ):  # fmt: skip
        y = random(matrix.shape[0], seed=7)
        product, back = operator.matvec(x).ravel(), operator.rmatvec(y).ravel()
        np.testing.assert_allclose(product, matrix @ x, rtol=0, atol=1e-11)
        np.testing.assert_allclose(back, matrix.conj().T @ y, rtol=0, atol=1e-11)
        assert_adjoint(operator)
    assert isinstance(A @ theirs, linconv.LinearOperator)
    assert isinstance(theirs @ A, pylops.LinearOperator)


def test_pylops_least_squares_agrees_with_lstsq(pylops):
    A, b = blur(), random(N)
    theirs = pylops.optimization.basic.cgls(A, b, niter=400, damp=0.1, tol=1e-14)[0]
    ours = linconv.solvers.lstsq(A, b, damp=0.1, tol=1e-10)
    dense = np.linalg.lstsq(
        np.concatenate([A.toarray(), 0.1 * np.eye(N)]), np.append(b, np.zeros(N)), rcond=None
    )[0]
    np.testing.assert_allclose(np.ravel(theirs), dense, atol=1e-6)
    np.testing.assert_allclose(ours.x, dense, atol=1e-8)


@pytest.mark.parametrize("name", ["ista", "fista"])
def test_pylops_sparse_solvers_find_their_step_and_the_solution_of_their_own_operator(
    pylops, name
):
    A = blur()
    theirs = pylops.signalprocessing.Convolve2D(SHAPE, kernel(), offset=(1, 1))
    b = theirs.matvec(block_image())
    np.testing.assert_allclose(A @ block_image(), b, atol=1e-12)
    solve = getattr(pylops.optimization.sparsity, name)
    x = np.ravel(solve(A, b, niter=60, eps=1e-3)[0])
    expected = np.ravel(solve(theirs, b, niter=60, eps=1e-3)[0])
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_pylops_omp_takes_our_operators_as_its_own(pylops):
    A, x = linconv.Conv([1.0, 0.5, 0.25], 20, padding="full"), np.zeros(20)
    x[[3, 11]] = 1, -2
    omp, b = pylops.optimization.sparsity.omp, A @ x
    for operator in (A, pylops.aslinearoperator(A)):
        found = omp(operator, b, niter_outer=4, sigma=1e-10)[0]
        np.testing.assert_allclose(np.ravel(found), x, atol=1e-8)


def test_eigenvalues_are_numpys(pylops):
    A = blur()
    values = np.linalg.eigvalsh((A.H @ A).toarray())[::-1]
    np.testing.assert_allclose((A.H @ A).eigs(neigs=3, symmetric=True), values[:3], rtol=1e-8)
    general = np.linalg.eigvals(A.toarray())
    largest = general[np.argsort(-np.abs(general))][:1]
    np.testing.assert_allclose(np.abs(A.eigs(neigs=1)), np.abs(largest), rtol=1e-8)
    theirs = pylops.MatrixMult(A.toarray()).eigs(neigs=1, symmetric=False)
    np.testing.assert_allclose(np.abs(A.eigs(neigs=1)), np.abs(theirs), rtol=1e-8)


def total_variation(pyproximal, A, G, b, method):
    """Minimise 1/2 |A x - b|^2 + 0.02 |G x|_{2,1}."""
    data = pyproximal.L2(Op=A, b=b, niter=100, warm=True)
    penalty = pyproximal.L21(ndim=2, sigma=0.02)
    if method == "PrimalDual":
        step = 0.99 / np.sqrt(8)
        return pyproximal.optimization.primaldual.PrimalDual(
            data, penalty, G, tau=step, mu=step, theta=1.0, x0=np.zeros(N), niter=60
        )
    if method == "LinearizedADMM":
        return pyproximal.optimization.primal.LinearizedADMM(
            data, penalty, G, tau=0.99 / 8, mu=1.0, x0=np.zeros(N), niter=60
        )[0]
    return pyproximal.optimization.primal.ADMML2(
        penalty,
        A,
        b,
        G,
        tau=1.0,
        x0=np.zeros(N),
        niter=60,
        iter_lim=60,
        atol=1e-14,
        btol=1e-14,
    )[0]


@pytest.mark.parametrize("method", ["PrimalDual", "LinearizedADMM", "ADMML2"])
def test_pyproximal_solves_total_variation_on_our_operators_as_on_pylops(
    pylops, pyproximal, method
):
    b = blur() @ block_image() + 0.01 * random(N)
    ours = total_variation(pyproximal, blur(), linconv.gradient(SHAPE), b, method)
    blurring = pylops.signalprocessing.Convolve2D(SHAPE, kernel(), offset=(1, 1))
    gradient = pylops.Gradient(SHAPE, kind="forward", edge=False)
    np.testing.assert_allclose(
        gradient.matvec(b).ravel(), linconv.gradient(SHAPE) @ b, atol=1e-12
    )
    theirs = total_variation(pyproximal, blurring, gradient, b, method)
    np.testing.assert_allclose(np.ravel(ours), np.ravel(theirs), atol=1e-5)
    error = np.linalg.norm(np.ravel(ours) - block_image())
    assert error < np.linalg.norm(b - block_image())


def test_pyamg_takes_the_matrices():
    pyamg = pytest.importorskip("pyamg")
    G = linconv.gradient((40, 40))
    N = (G.H @ G + 1e-3 * linconv.Identity((40, 40))).tosparse()
    b = random(1600)
    solver = pyamg.smoothed_aggregation_solver(N)
    residuals = []
    x = solver.solve(b, tol=1e-10, residuals=residuals, accel="cg")
    assert len(residuals) < 40
    np.testing.assert_allclose(x, np.linalg.solve(N.toarray(), b), atol=1e-6)
    preconditioned = linconv.solvers.lstsq(
        linconv.vstack([G, np.sqrt(1e-3) * linconv.Identity((40, 40))]),
        np.zeros(2 * 1600 + 1600) + 1.0,
        preconditioner=solver.aspreconditioner(),
        tol=1e-8,
    )
    assert preconditioned.converged, preconditioned.message
    assert preconditioned.iterations < 60
