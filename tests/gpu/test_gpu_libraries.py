"""CuPy's and PyLops' solvers on operators that lie on a GPU: these need the real thing."""

import importlib

import devices
import numpy as np
import pytest

import linconv
from linconv import spectrum
from linconv.solvers import cgls, lstsq

pytestmark = [
    *devices.needs_gpu,
    # CuPy deprecates what tells of waiting, as it does not see all of it; copies it does.
    pytest.mark.filterwarnings("ignore:cupyx.allow_synchronize"),
]


def blur(n=24):
    """A well-conditioned blur, as an operator on the GPU, and its matrix."""
    h = np.array([1.0, 3.0, 1.0]) / 5
    A = linconv.Conv(np.outer(h, h), (n, n), padding=1)
    return A.to("gpu"), A.toarray()


def right_hand_side(size):
    return np.random.default_rng(5521).standard_normal(size)


@pytest.fixture
def linalg():
    pytest.importorskip("cupy")
    return importlib.import_module("cupyx.scipy.sparse.linalg")


@pytest.mark.parametrize("name", ["cg", "gmres", "minres"])
@pytest.mark.parametrize("method", ["direct", "sparse"])
def test_cupys_solvers_take_the_operators_as_they_are(name, method, linalg):
    import cupy

    A, dense = blur()
    A = linconv.Conv(A.kernel, A.in_shape, padding=1, method=method)
    # CuPy asks for nothing but shape, dtype, matvec, rmatvec and rmatmat.
    N = A.H @ A + 0.1 * linconv.Identity(A.in_shape)
    b = right_hand_side(A.shape[0])
    expected = np.linalg.solve(dense.T @ dense + 0.1 * np.eye(b.size), b)
    # minres names its tolerance as SciPy once did.
    options = {"tol": 1e-12} if name == "minres" else {"rtol": 1e-12}
    x, info = getattr(linalg, name)(N, cupy.asarray(b), **options)
    assert info == 0
    assert isinstance(x, cupy.ndarray)
    np.testing.assert_allclose(x.get(), expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_cupys_conjugate_gradients_take_the_preconditioner(linalg):
    import cupy

    A, dense = blur()
    N = A.H @ A + 1e-3 * linconv.Identity(A.in_shape)
    M = spectrum.circulant_preconditioner(A, 1e-3**0.5)
    b = right_hand_side(A.shape[0])
    counts = []
    for preconditioner in (None, M):
        steps = []
        x, info = linalg.cg(
            N, cupy.asarray(b), rtol=1e-10, M=preconditioner, callback=steps.append
        )
        assert info == 0
        residual = np.linalg.norm((dense.T @ dense + 1e-3 * np.eye(b.size)) @ x.get() - b)
        assert residual <= 1e-8 * np.linalg.norm(b)
        counts.append(len(steps))
    assert counts[1] < counts[0]


def test_cupys_lsmr_takes_rectangular_operators(linalg):
    import cupy

    A, _ = blur()
    seen = np.arange(A.shape[0]).reshape(A.in_shape) % 3 > 0
    B = linconv.Restriction(seen).to("gpu") @ A
    dense = B.to("cpu").toarray()
    b = right_hand_side(B.shape[0])
    x = linalg.lsmr(B, cupy.asarray(b), damp=0.5, atol=1e-13, btol=1e-13, maxiter=2000)[0]
    expected = np.linalg.solve(dense.T @ dense + 0.25 * np.eye(B.shape[1]), dense.T @ b)
    np.testing.assert_allclose(x.get(), expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_pylops_cgls_takes_the_operator_and_the_arrays():
    cupy = pytest.importorskip("cupy")
    basic = pytest.importorskip("pylops.optimization.basic")
    A, dense = blur()
    b = right_hand_side(A.shape[0])
    x = basic.cgls(A, cupy.asarray(b), niter=400, damp=0.1, tol=1e-14)[0]
    assert isinstance(x, cupy.ndarray)
    expected = np.linalg.solve(dense.T @ dense + 0.01 * np.eye(b.size), dense.T @ b)
    np.testing.assert_allclose(x.get(), expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", devices.DTYPES)
@pytest.mark.parametrize("method", ["direct", "sparse"])
def test_products_wait_for_nothing(method, dtype):
    """CuPy raises if a copy to the host, or anything else, waits for the device."""
    cupy = pytest.importorskip("cupy")
    cupyx = importlib.import_module("cupyx")
    kernel = cupy.asarray(np.ones((3, 3), dtype))
    A = linconv.Conv(kernel, (24, 24), padding=1, method=method)
    M = spectrum.circulant_preconditioner(A, 0.5)
    G = linconv.vstack([A, 2 * A.H, linconv.Diagonal(cupy.ones((24, 24), dtype))])
    x = cupy.ones((A.shape[1], 2), dtype)
    for B in (A, A.H, G, G.H, M):
        given = cupy.ones((B.shape[1], 2), dtype)
        B @ given  # kernels are compiled and plans are made at the first product
        with cupyx.allow_synchronize(False):
            got = B @ given
        assert got.shape == (B.shape[0], 2)
    assert (A @ x).dtype == dtype


@pytest.mark.parametrize("method", ["direct", "sparse"])
def test_steps_of_least_squares_wait_for_nothing(method, monkeypatch):
    cupy = pytest.importorskip("cupy")
    cupyx = importlib.import_module("cupyx")
    A = linconv.Conv(cupy.ones((3, 3)) / 9, (24, 24), padding=1, method=method)
    b = cupy.asarray(right_hand_side((576, 3)))
    options = {"damp": 0.1, "penalties": [(0.1, linconv.gradient((24, 24)).to("gpu"))]}
    right = lstsq(A, b, **options)  # kernels are compiled
    step, turns = cgls.Run._step, []

    def watched(run):
        turns.append(run.iterations)
        with cupyx.allow_synchronize(False):
            step(run)

    monkeypatch.setattr(cgls.Run, "_step", watched)
    got = lstsq(A, b, **options)
    assert len(turns) >= got.iterations > 0
    np.testing.assert_allclose(got.x.get(), right.x.get(), rtol=0, atol=1e-10)
