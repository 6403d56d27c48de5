"""Least squares on the device: as on the host, and looked at from it only now and then."""

import itertools
import re

import devices
import numpy as np
import nvrtc
import pytest
import standin
from helpers import assert_refused, few, random

import linconv
from linconv import _arrays
from linconv.gpu import decisions, device, vectors
from linconv.solvers import factorized, lstsq
from linconv.solvers.cgls import Columns


def both(cupy, A, b, penalties=(), preconditioner=None, x0=None, **options):
    """Solve on the host and on the device, which is asked for the same."""
    right = lstsq(A, b, penalties=penalties, preconditioner=preconditioner, x0=x0, **options)
    moved = [
        (w, L.to("gpu"), *(cupy.asarray(t) for t in target)) for w, L, *target in penalties
    ]
    if isinstance(preconditioner, linconv.LinearOperator):
        preconditioner = preconditioner.to("gpu")
    if x0 is not None:
        x0 = cupy.asarray(x0)
    got = lstsq(
        A.to("gpu"),
        cupy.asarray(b),
        penalties=moved,
        preconditioner=preconditioner,
        x0=x0,
        **options,
    )
    return got, right


def words(message):
    """Return what is said without its numbers, whose last digits differ on a GPU."""
    return re.sub(r"[-+.e\d]*\d", "#", message)


def assert_agree(cupy, got, right):
    """Assert that both found the same and say the same; they add up in another order."""
    assert isinstance(got.x, cupy.ndarray)
    assert got.converged == right.converged
    assert words(got.message) == words(right.message)
    if right.converged:
        bound = 1e-3 if right.x.dtype.char in "fF" else 1e-5
        atol = bound * np.abs(right.x).max(initial=1)
        np.testing.assert_allclose(got.x.get(), right.x, rtol=0, atol=atol)


TOL = {"float32": 1e-5, "complex64": 1e-5, "float64": 1e-10, "complex128": 1e-10}


@pytest.mark.parametrize("dtype", devices.DTYPES)
@pytest.mark.parametrize("columns", [(), (1,), (4,)])
@pytest.mark.parametrize(
    "shape", few([(30, 20), (150, 300)], 1)
)  # the host looks up small ranks
def test_the_device_solves_as_the_host_does(shape, columns, dtype, cupy):
    A, b = linconv.Matrix(random(shape, dtype)), random((shape[0], *columns), dtype, 5)
    assert_agree(cupy, *both(cupy, A, b, tol=TOL[dtype]))


@pytest.mark.parametrize("dtype", devices.DTYPES)
def test_penalties_damping_targets_starts_and_preconditioners(dtype, cupy):
    A, b = linconv.Matrix(random((30, 20), dtype)), random((30, 3), dtype, 5)
    L, G = linconv.Matrix(random((7, 20), dtype, 6)), linconv.Matrix(random((9, 20), dtype, 7))
    t, x0 = random((7, 3), dtype, 8), random(20, dtype, 9)
    options = {"tol": TOL[dtype], "damp": 0.4, "penalties": [(2.5, L, t), (0.25, G)]}
    assert_agree(cupy, *both(cupy, A, b, **options))
    assert_agree(cupy, *both(cupy, A, b, x0=x0, **options))
    inverse = linconv.Diagonal(np.geomspace(0.1, 1, 20).astype(b.real.dtype))
    assert_agree(cupy, *both(cupy, A, b, preconditioner=inverse, **options))
    assert_agree(cupy, *both(cupy, A, b, preconditioner=lambda s: 0.5 * s, **options))


def test_a_preconditioner_may_be_more_precise(cupy):
    A, b = linconv.Matrix(random((30, 20), "float32")), random((30, 3), "float32", 5)
    inverse = linconv.Diagonal(np.geomspace(0.5, 1, 20))
    for damp in (0, 0.4):
        got, right = both(cupy, A, b, preconditioner=inverse, tol=1e-5, damp=damp)
        assert got.converged
        assert right.converged
        np.testing.assert_allclose(got.x.get(), right.x, rtol=0, atol=1e-4)


def test_columns_that_are_done_wait_for_the_others(cupy):
    A = linconv.Diagonal(np.geomspace(1, 1e3, 12))
    b = np.stack([A.toarray()[:, 0], np.zeros(12), np.ones(12), 1e-150 * np.ones(12)], axis=1)
    got, right = both(cupy, A, b, tol=1e-12, maxiter=200)
    assert_agree(cupy, got, right)
    assert got.converged


class Turning(linconv.LinearOperator):
    """A matrix whose products turn into something else, in one column, after a while."""

    def __init__(self, matrix, after, factor, device="cpu"):
        super().__init__(matrix.dtype, matrix.shape[1], matrix.shape[0])
        self.matrix, self.after, self.factor, self.products = matrix, after, factor, 0
        self.where = device

    @property
    def device(self):
        return self.where

    def _matmat(self, X):
        y = self.matrix @ X
        self.products += 1
        if self.products > self.after:
            y[:, 1] = self.factor * y[:, 1]
        return y

    def _rmatmat(self, Y):
        return self.matrix.T @ Y


@pytest.mark.parametrize("factor", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("after", [0, 3, 20])
def test_one_column_in_trouble_spoils_no_other_one(after, factor, cupy):
    M = random((60, 40))  # rounding errors of worse ones grow from step to step
    b = random((60, 3), seed=6)
    options = {"tol": 1e-12, "maxiter": 40}
    with np.errstate(invalid="ignore"):
        right = lstsq(Turning(M, after, factor), b, **options)
        A = Turning(cupy.asarray(M), after, factor, "gpu")
        got = lstsq(A, cupy.asarray(b), **options)
    assert ("maps a search direction to zero" if factor == 0 else "gave NaN") in right.message
    assert got.iterations == right.iterations == after + 1
    assert not got.converged
    assert words(got.message) == words(right.message)
    np.testing.assert_allclose(got.x.get()[:, ::2], right.x[:, ::2], rtol=1e-9)
    assert np.isfinite(right.x[:, ::2]).all()


@pytest.mark.parametrize(
    ("diagonal", "b", "options"),
    [
        ([3.0, 2, 0], [3.0, 2, 0], {}), ([3.0, 2, 0], [3.0, 2, 4], {}),
        ([1.0, 1, 1e-9], [1.0, 1, 1], {"tol": 1e-12}), ([1.0, 2, 3], [0.0, 0, 0], {}),
        ([1.0, 2, 3], [1.0, np.nan, 1], {}), ([1.0, 2, np.nan], [1.0, 1, 1], {}),
        ([1.0, 2, 3], [1.0, 1, 1], {"maxiter": 2}), ([1.0, 2, 3], [1.0, 1, 1], {"maxiter": 0}),
        ([1.0, 2, 3], [1.0, 1, 1], {"x0": np.array([1.0, 1 / 2, 1 / 3])}),
        ([1.0, 2, 3], [1.0, 1, 1], {"tol": 1e-30, "maxiter": 1000}),
        ([1.0, 2, 3], [1.0, 1, 1], {"preconditioner": linconv.Diagonal([-1.0, -1, -1])}),
        ([1.0, 2, 3], [1.0, 1, 1], {"preconditioner": lambda s: np.nan * s}),
    ],
)  # fmt: skip
def test_what_is_said_is_what_the_host_says(diagonal, b, options, cupy):
    A, b = linconv.Diagonal(diagonal), np.array(b)
    with np.errstate(invalid="ignore"):
        got, right = both(cupy, A, b, **options)
    # The rank of small matrices is looked up on the host only.
    said = right.message.partition("; A is singular, of rank")[0]
    said = said.partition("; the equations are inconsistent")[0]
    assert got.converged == right.converged
    # Sums are added up in another order, and a GPU adds and multiplies in one step.
    assert words(got.message).startswith(words(said))
    np.testing.assert_allclose(got.x.get(), right.x, rtol=1e-6, atol=1e-12)


def test_conditions_and_missing_equations_are_said(cupy):
    wide = linconv.Matrix(linconv.conv_matrix(np.ones(3), 500))
    assert_agree(cupy, *both(cupy, wide, np.ones(498), maxiter=3))
    A = linconv.Diagonal(np.geomspace(1, 1e-12, 300))
    assert_agree(cupy, *both(cupy, A, np.ones(300), tol=1e-14, maxiter=300))
    cliff = np.append(np.ones(250), 1e-9)
    b = np.append(np.ones(250), 1e7)
    got, right = both(cupy, linconv.Diagonal(cliff), b, tol=1e-12)
    assert_agree(cupy, got, right)
    assert "its condition at least 1e+09" in got.message


@pytest.mark.parametrize("columns", [1, 3])
def test_the_host_looks_every_16_iterations_and_copies_nothing_else(columns, cupy):
    A = linconv.Conv(cupy.asarray(random((3, 3))), (30, 30), padding=1)
    B = linconv.vstack([A, linconv.gradient((30, 30)).to("gpu")[:900]])
    b = cupy.asarray(random((1800, columns)))
    M = linconv.Diagonal(cupy.asarray(np.linspace(0.5, 1, 900)))
    for options in ({}, {"penalties": [(0.1, A)]}, {"damp": 1e-3}, {"preconditioner": M}):

        def solve(maxiter, options=options):
            return lstsq(B, b, tol=1e-14, maxiter=maxiter, **options)

        counts = {}
        for maxiter in (1, 16, 17, 32, 48):
            counts[maxiter], solution = devices.copies(cupy, lambda n=maxiter: solve(n))
            assert solution.iterations == maxiter
        assert counts[1] == counts[16]
        assert counts[17] == counts[32] == counts[16] + 1
        assert counts[48] == counts[16] + 2


def test_who_wants_to_see_every_x_gets_it(cupy):
    A = linconv.Matrix(random((30, 20)))
    b, seen, expected = random(30, seed=6), [], []
    # Damped, so that rounding errors do not grow from step to step.
    right = lstsq(A, b, damp=3, callback=expected.append)
    got = lstsq(A.to("gpu"), cupy.asarray(b), damp=3, callback=seen.append)
    assert len(seen) == got.iterations == right.iterations
    for x, y in zip(seen, expected, strict=True):
        atol = 1e-10 * np.abs(y).max()
        np.testing.assert_allclose(x.get(), y, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", devices.DTYPES)
def test_steps_of_columns_are_those_of_the_host(dtype, cupy):
    x, y = random((7, 4), dtype), random((7, 4), dtype, 5)
    x[2, 1] = np.nan  # in a column that is off
    a = np.array([2.0, 0, -0.5, 1], x.real.dtype)
    target = cupy.asarray(y)
    vectors.add(target, cupy.asarray(a), cupy.asarray(x))
    right = np.where(a != 0, y + a * x, y)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(target.get(), right, rtol=0, atol=20 * eps)
    vectors.follow(target, cupy.asarray(a), cupy.asarray(x))
    np.testing.assert_allclose(target.get(), a * right + x, rtol=0, atol=40 * eps)
    vectors.add(target, 0.5, target)
    np.testing.assert_allclose(target.get(), 1.5 * (a * right + x), rtol=0, atol=60 * eps)
    vectors.add(target, cupy.asarray(a), target)
    right = (1 + a) * 1.5 * (a * right + x)
    np.testing.assert_allclose(target.get(), right, rtol=0, atol=200 * eps)


def test_inner_products_and_peaks_of_columns(cupy):
    rng = np.random.default_rng(17)
    x, y = rng.integers(-9, 10, (2, 257, 3)) + 1j * rng.integers(-9, 10, (2, 257, 3))
    X, Y = cupy.asarray(x), cupy.asarray(y)
    np.testing.assert_array_equal(vectors.dots(X, Y).get(), (x.conj() * y).sum(axis=0).real)
    np.testing.assert_array_equal(vectors.dots(X.real, X.real).get(), (x.real**2).sum(axis=0))
    np.testing.assert_array_equal(vectors.peaks(X).get(), abs(x).max(axis=0))


SPECIAL = [0.0, -1.0, 1.0, 2.5, 1e-3, np.inf, np.nan]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 2, 5, 64, 65])
@pytest.mark.parametrize("ordinary", [True, False])
def test_decisions_on_the_device_are_those_of_the_host(ordinary, columns, dtype, cupy):
    rng = np.random.default_rng(columns)
    values = SPECIAL[2:5] if ordinary else SPECIAL
    for _ in range(40 if columns < 64 else 3):
        limit = np.full(columns, 0.5, dtype)
        both_kinds = Columns(np, limit), Columns(cupy, limit)
        for iteration in range(1, 4):
            given = rng.choice(values, (4, columns)).astype(dtype)
            found = []
            for known, asarray in zip(both_kinds, (np.asarray, cupy.asarray), strict=True):
                energy, length, gamma, square = map(asarray, given)
                with np.errstate(all="ignore"):
                    alpha = known.lengths(energy, length, iteration)
                    moved = known.going
                    beta = known.judge(gamma, square)
                state = known.gamma, known.gradient, known.going, known.last
                found.append([alpha, moved, beta, *state, known.lost, known.steepest])
            for right, got in zip(*found, strict=True):
                assert got.dtype == right.dtype
                np.testing.assert_array_equal(got.get(), right)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvidias_compiler_takes_decisions(dtype):
    source = device.with_real(decisions.SOURCE, np.dtype(dtype).char)
    assert nvrtc.compile_ptx(source).count(".visible .entry") == 2


def test_matrices_of_cupy_are_solved_with_as_they_are(cupy):
    rng = np.random.default_rng(31)
    A, L = rng.standard_normal((2, 9, 6)) + 1j * rng.standard_normal((2, 9, 6))
    b = rng.standard_normal((9, 2))
    right = lstsq(A, b, penalties=[(0.3, L)], tol=1e-12).x
    dense = [cupy.asarray(a) for a in (A, L)]
    sparse = [linconv.Matrix(a).to("gpu").tosparse() for a in (A, L)]
    for there, penalty in itertools.product((dense, sparse), repeat=2):
        found = lstsq(there[0], cupy.asarray(b), penalties=[(0.3, penalty[1])], tol=1e-12)
        assert found.converged
        np.testing.assert_allclose(found.x.get(), right, rtol=0, atol=1e-10)
    assert_refused(
        (ValueError, r"a matrix must be 2-d, got shape \(6,\)", lambda: lstsq(dense[0][0], cupy.asarray(b))),
        (TypeError, "matrix has dtype int64, but CuPy's sparse matrices", lambda: linconv.aslinearoperator(cupy.asarray(np.eye(3, dtype=int)))),
    )  # fmt: skip


def test_what_lies_elsewhere_is_never_moved_unasked(cupy):
    A = linconv.Conv(np.ones(3), 6, padding=1)
    B, ones = A.to("gpu"), np.ones(6)
    there = cupy.asarray(ones)
    assert_refused(
        (TypeError, r"b must be a CuPy array, as an operator .* A\.to", lambda: lstsq(B, ones, x0=ones)),
        (TypeError, r"b must be a CuPy array, as an operator .* A\.to", lambda: lstsq(A, ones, penalties=[(1, B)])),
        (TypeError, r"x0 must be a CuPy array.* cupy\.asarray\(x0\)", lambda: lstsq(B, there, x0=ones)),
        (TypeError, r"target must be a CuPy array.*asarray\(target\)", lambda: lstsq(B, there, penalties=[(1, B, [1.0] * 6)])),
        (TypeError, "x0 must be a NumPy array, got a cupy ndarray", lambda: lstsq(A, ones, x0=there)),
        (TypeError, r"factorized works on the host, .* A\.to\('cpu'\)", lambda: factorized(B, damp=1)),
        (TypeError, r"eigs is SciPy's .* A\.to\('cpu'\)\.eigs\(\)", lambda: B.eigs()),
    )  # fmt: skip


@pytest.mark.skipif(devices.GPU, reason="the stand-in is for machines without a CUDA device")
def test_the_stand_in_for_kernels_is_as_strict_as_cupy():
    with standin.installed() as cupy:
        kernel = cupy.ElementwiseKernel("R a, T x", "T y", "y += a * x", "test")
        a, x = cupy.asarray(np.ones(3)), cupy.asarray(np.ones((2, 3), complex))
        kernel(a, x, x)
        np.testing.assert_array_equal(x.get(), np.full((2, 3), 2))
        assert_refused(
            (TypeError, "a number alone does not tell its type", lambda: kernel(2.0, x, x)),
            (TypeError, "Type is mismatched", lambda: kernel(a, x, x.real.copy())),
            (ValueError, "Out shape is mismatched", lambda: kernel(a, x, x[0])),
            (TypeError, "Only cupy arrays can be concatenated", lambda: cupy.concatenate([x, np.ones(3)])),
            (TypeError, "expected a list or tuple", lambda: cupy.concatenate(iter([x]))),
            (TypeError, "sqrt needs a device array", lambda: cupy.sqrt(2.0)),
        )  # fmt: skip


def test_decisions_take_what_is_more_precise_than_the_solution(cupy):
    known = Columns(cupy, np.full(3, 0.5, "float32"))
    energy, length, gamma, square = (
        cupy.asarray(np.array(a)) for a in ([4.0, 2, 1], [2.0, 2, 2], [8.0, 9, 9], [9.0, 9, 0])
    )
    assert known.lengths(energy, length, 1).get().tolist() == [0.25, 0.5, 1]
    assert known.judge(gamma, square).get().tolist() == [8, 9, 9]
    assert known.going.get().tolist() == [True, True, False]
    assert known.steepest.get() == 2


def test_numbers_of_all_kinds_come_to_the_host_at_once(cupy):
    arrays = [
        cupy.asarray(np.array([1.5, np.nan], "f4")),
        cupy.asarray(np.array(True)),
        cupy.asarray(np.array([[3, 4]])),
        cupy.asarray(np.empty(0)),
    ]
    found = _arrays.fetch(arrays)
    for got, array in zip(found, arrays, strict=True):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array.get())
    number, _ = devices.copies(cupy, lambda: _arrays.fetch(arrays))
    assert number == 1
