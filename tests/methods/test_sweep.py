"""Sweeps: steps on what products read, taken line by line, change nothing but the time."""

import itertools

import numpy as np
import pytest

import linconv
from linconv import _arrays
from linconv.methods.direct import direct, plans, sweep
from linconv.solvers import lines, lstsq, vectors

# What sweeps can do: lines in order, and results in order, where little is read twice.
SWEPT = [
    ((3, 3), (90, 7), {"padding": 1}),
    ((3, 3), (90, 7), {"padding": 1, "boundary": "reflect"}),
    ((3, 2), (80, 9), {"padding": "same", "boundary": "replicate"}),
    ((2, 5), (70, 8), {"padding": "same", "boundary": "antireflect", "flip": True}),
    ((3, 1), (95, 5), {"padding": (0, 2), "boundary": "symmetric"}),
    ((4, 3), (97, 6), {}),
    ((3, 3), (97, 6), {"padding": "full"}),
    ((3, 4), (131, 11), {"padding": (1, 0), "dilation": (2, 1)}),
    ((3, 4), (130, 11), {"padding": (-2, 1), "stride": (1, 2)}),
    ((1, 1), (64, 1), {}),
    ((3, 3), (190, 7), {"padding": 1, "stride": (2, 1)}),
    ((2, 2, 3), (40, 4, 5), {}),
    ((2, 3), (80, 8), {"padding": "same", "boundary": ["zeros", "circular"]}),
]
# What they cannot.
UNSWEPT = [
    ((5, 3), (90, 7), {"padding": "same", "boundary": "circular"}),
    ((3, 3, 3), (9, 8, 7), {"padding": 1}),
    ((2, 1, 3, 3), (2, 90, 7), {"padding": 1, "groups": 2}),
    ((5,), (40_000,), {"padding": 2}),
]


def values(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


@pytest.fixture
def eager(monkeypatch):
    """Small vectors are swept as large ones are, in many pieces."""
    monkeypatch.setattr(lines, "_MANY", 1)
    monkeypatch.setattr(direct, "_SWEPT", 0)

    def pieces(threads, nbytes):
        monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
        monkeypatch.setattr(sweep, "_BYTES", nbytes)

    return pieces


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize(("k", "n", "options"), SWEPT + UNSWEPT)
def test_lines_read_what_their_rows_of_the_matrix_hold(k, n, options, adjoint):
    A = linconv.Conv(np.ones(k), n, method="direct", **options)
    reach = sweep.reach(A.geometry, adjoint)
    if reach is None:
        assert ((k, n, options) in UNSWEPT) or adjoint
        return
    M = A.toarray().T if adjoint else A.toarray()
    assert reach.samples == M.shape[1]
    assert reach.lines * reach.results == M.shape[0]
    for e in range(reach.lines + 1):
        above = np.flatnonzero(M[: e * reach.results].any(axis=0))
        below = np.flatnonzero(M[e * reach.results :].any(axis=0))
        assert reach.stop[e] > above.max(initial=-1)
        assert reach.first[e] <= below.min(initial=M.shape[1])


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("columns", [8, 4, 9])
@pytest.mark.parametrize(("threads", "nbytes"), [(1, 1), (2, 1 << 12), (3, 1), (2, 1 << 30)])
@pytest.mark.parametrize(("k", "n", "options"), SWEPT)
def test_a_step_before_a_product(k, n, options, threads, nbytes, columns, dtype, eager):
    eager(threads, nbytes)
    rng = np.random.default_rng(columns)
    A = linconv.Conv(values(rng, k, dtype), n, method="direct", **options)
    matrix, eps = A.toarray().astype(complex), np.finfo(dtype).eps
    swept = 0
    for adjoint, M in ((False, matrix), (True, matrix.conj().T)):
        X, Z = (values(rng, (M.shape[1], columns), dtype) for _ in range(2))
        a = np.linspace(-1, 1, columns)
        x = a * X + Z
        step = vectors.follow(X, a, Z)
        found = A._swept(X, step, None, adjoint=adjoint)
        if found is None:
            np.testing.assert_array_equal(step.total().shape, (columns,))
            continue
        swept += 1
        y, squares = found
        np.testing.assert_allclose(X, x, rtol=0, atol=20 * eps)
        np.testing.assert_allclose(y, M @ x, rtol=0, atol=200 * eps)
        np.testing.assert_allclose(step.total(), (abs(x) ** 2).sum(axis=0), rtol=999 * eps)
        if squares is not None:
            right = (abs(M @ x) ** 2).sum(axis=0)
            np.testing.assert_allclose(squares, right, rtol=999 * eps)
    row = columns * np.dtype(dtype).itemsize
    assert bool(swept) == (row >= 32)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize(("threads", "nbytes"), [(1, 1), (2, 1 << 12), (3, 1)])
@pytest.mark.parametrize("boundary", ["zeros", "reflect", "antireflect"])
@pytest.mark.parametrize("padding", [(1, 1), (0, 2), (-1, 3), (3, -1)])
@pytest.mark.parametrize("adjoint", [False, True])
def test_steps_before_and_after_in_the_memory_of_what_is_spent(
    adjoint, padding, boundary, threads, nbytes, dtype, eager
):
    eager(threads, nbytes)
    rng = np.random.default_rng(7)
    options = {"padding": [padding, padding[::-1]], "boundary": boundary}
    A = linconv.Conv(values(rng, (3, 3), dtype), (91, 6), method="direct", **options)
    M, eps = A.toarray().astype(complex), np.finfo(dtype).eps
    M = M.conj().T if adjoint else M
    R, Q, X, P = (values(rng, (M.shape[1], 8), dtype) for _ in range(4))
    a = np.linspace(-1, 1, 8)
    r, x = R - a * Q, X + a * P
    s = M @ r - 0.25 * x
    step = vectors.subtract(R, a, Q, True)
    step.spent = Q
    y, squares = A._swept(
        R, step, lambda y: vectors.advance(X, a, P, True, 0.25, y), adjoint=adjoint
    )
    assert np.shares_memory(y, Q)
    np.testing.assert_allclose(R, r, rtol=0, atol=20 * eps)
    np.testing.assert_allclose(X, x, rtol=0, atol=20 * eps)
    np.testing.assert_allclose(y, s, rtol=0, atol=200 * eps)
    np.testing.assert_allclose(squares, (abs(s) ** 2).sum(axis=0), rtol=999 * eps)
    assert step.total() is None
    assert step.spent is None


def watched(step, calls):
    """Note the parts that a step is taken along."""
    shares = step.shares

    def along(count):
        return [
            lambda *part, go=go: (calls.append(part[0]), go(*part)) for go in shares(count)
        ]

    step.shares = along
    return step


def test_each_line_asks_for_what_the_steps_after_it_read(eager, monkeypatch):
    eager(1, 1)  # pieces of one line
    asked, befores, afters = [], [], []
    monkeypatch.setattr(sweep, "ahead", lambda *soon: asked.append(soon) or plans.ahead(*soon))
    A = linconv.Conv(np.ones((3, 3)), (90, 7), padding=1, method="direct")
    R, Q, X, P = np.random.default_rng(0).standard_normal((4, A.shape[1], 8))
    A._swept(
        R,
        watched(vectors.subtract(R, 0.5, Q, True), befores),
        lambda y: watched(vectors.advance(X, 0.5, P, True, 0.25, y), afters),
        adjoint=False,
    )
    assert befores == [0, *range(112, 90 * 56, 56)]  # two lines first, then one at a time
    assert afters == [*range(0, 90 * 56, 56)]
    for line, (places, nbytes) in enumerate(asked):
        begins = {
            at: [*befores, R.size][min(line + 1, 89)] for at in (R.ctypes.data, Q.ctypes.data)
        }
        begins |= {each.ctypes.data: afters[line] for each in (X, P)}
        assert sorted(places) == sorted(at + 8 * begin for at, begin in begins.items())
        assert nbytes == 7 * 8 * 8


def test_what_is_asked_for_need_not_exist():
    A = linconv.Conv(np.ones((3, 3)), (90, 33), padding=1, method="direct")
    X = np.random.default_rng(0).standard_normal((A.shape[1], 8))
    plan = plans.plan(A.geometry, False)
    product = direct.Columns(plan, plan.values(np.ones((3, 3))), X)
    soon = plans.ahead([0, 8, 1 << 62, (1 << 63) + 24], 4 * plans.AHEAD + 1)
    assert soon.tolist() == [0, 16, 4, 0, 8, 1 << 62, (1 << 63) + 24]
    for gather, lines in zip(product.gathers, itertools.pairwise(product.edges), strict=True):
        gather(*map(np.uint64, lines), soon)
    assert soon[:3].tolist() == [16, 16, 4]
    np.testing.assert_allclose(product.results, A.tosparse() @ X, rtol=0, atol=1e-14)


def test_nothing_is_asked_for_by_default():
    assert plans.ahead().tolist() == [0, 0, 1]
    assert plans.ahead([64], plans.AHEAD - 1).tolist() == [0, 0, 1, 64]


@pytest.mark.parametrize(("k", "n", "options"), UNSWEPT)
def test_what_cannot_be_swept_is_left_alone(k, n, options, eager):
    eager(2, 1)
    A = linconv.Conv(np.ones(k), n, method="direct", **options)
    X, Z = np.random.default_rng(0).standard_normal((2, A.shape[1], 8))
    x = X.copy()
    step = vectors.follow(X, 0.5, Z)
    assert A._swept(X, step, None, adjoint=False) is None
    np.testing.assert_array_equal(X, x)
    step.total()
    np.testing.assert_array_equal(X, 0.5 * x + Z)
    step.total()
    np.testing.assert_array_equal(X, 0.5 * x + Z)


def test_a_step_is_shared_once(eager):
    eager(2, 1)
    X, Z = np.random.default_rng(0).standard_normal((2, 630, 8))
    right, step = 0.5 * X + Z, vectors.follow(X, 0.5, Z)
    one, other = step.shares(2)
    assert step.shares(2) == []
    one(0, 800)
    other(800, X.size)
    np.testing.assert_allclose(step.total(), (right**2).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(X, right, rtol=0, atol=1e-14)
    assert step.shares(2) == []


def test_real_columns_of_a_complex_operator_are_not_swept(eager):
    eager(2, 1)
    A = linconv.Conv(np.full((3, 3), 1j), (90, 7), padding=1, method="direct")
    X, Z = np.random.default_rng(0).standard_normal((2, A.shape[1], 8))
    assert A._swept(X, vectors.follow(X, 0.5, Z), None, adjoint=False) is None


class Doubled(linconv.Conv):
    """A subclass that multiplies on its own."""

    def _matmat(self, X):
        return 2 * super()._matmat(X)

    def _rmatmat(self, Y):
        return 2 * super()._rmatmat(Y)


def test_what_multiplies_on_its_own_is_not_swept(eager):
    eager(2, 1)
    X, Z = np.random.default_rng(0).standard_normal((2, 630, 8))
    for make in (Doubled, linconv.Conv):
        A = make(np.ones((3, 3)), (90, 7), padding=1, method="direct")
        found = A._swept(X, vectors.follow(X, 0.5, Z), None, adjoint=False)
        assert (found is None) == (make is Doubled)
    A = linconv.Conv(np.ones((3, 3)), (90, 7), padding=1, method="sparse")
    assert A._swept(X, vectors.follow(X, 0.5, Z), None, adjoint=False) is None


OPTIONS = {
    "plain": {},
    "damped": {"damp": 0.1},
    "started": {"x0": np.linspace(0, 1, 630)},
    "penalty": {"penalties": [(0.3, linconv.gradient((90, 7)))]},
    "turned": {"preconditioner": lambda s: np.asfortranarray(2 * s)},
    "itself": {"preconditioner": lambda s: s, "damp": 0.2},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("boundary", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("threads", [1, 2])
def test_lstsq_finds_the_same_with_sweeps(threads, boundary, dtype, name, eager, monkeypatch):
    eager(threads, 1)
    rng = np.random.default_rng(3)
    h = values(rng, (3, 3), dtype)
    h[1, 1] += 9
    A = linconv.Conv(h, (90, 7), padding=1, boundary=boundary, method="direct")
    B = values(rng, (A.shape[0], 8), dtype)
    B[:, 3] = 0
    seen = {}
    for swept in (0, 1 << 60):
        monkeypatch.setattr(direct, "_SWEPT", swept)
        courses = []
        found = lstsq(A, B, tol=1e-12, callback=courses.append, **OPTIONS[name])
        plain = lstsq(A, B, tol=1e-12, **OPTIONS[name])
        assert plain.converged
        assert len(courses) == found.iterations
        np.testing.assert_array_equal(found.x, courses[-1])
        # Steps that a callback waits for are added up in another order.
        np.testing.assert_allclose(found.x, plain.x, rtol=0, atol=1e-10 * abs(plain.x).max())
        seen[swept] = plain, courses
    (one, courses), (other, others) = seen.values()
    assert abs(one.iterations - other.iterations) <= 1
    np.testing.assert_allclose(one.x, other.x, rtol=0, atol=1e-10 * abs(one.x).max())
    for early, late in zip(courses[:5], others, strict=False):
        np.testing.assert_allclose(early, late, rtol=0, atol=1e-9 * abs(one.x).max())
    rows, right = [A.toarray()], [B]
    if damp := OPTIONS[name].get("damp"):
        rows.append(damp * np.eye(A.shape[1]))
    if name == "penalty":
        rows.append(np.sqrt(0.3) * linconv.gradient((90, 7)).toarray())
    right += [np.zeros((len(each), 8)) for each in rows[1:]]
    expected = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right))[0]
    np.testing.assert_allclose(one.x, expected, rtol=0, atol=1e-8 * abs(expected).max())


def test_a_sweep_is_taken_where_it_is_worth_it():
    """Eight images of 256 x 256: the second iteration reads what the first one left."""
    A = linconv.Conv(np.ones((3, 3)), (256, 256), padding=1)
    assert A.method == "direct"
    X, Z = np.random.default_rng(0).standard_normal((2, A.shape[1], 8))
    assert A._swept(X, vectors.follow(X, 0.5, Z), None, adjoint=False) is not None
    assert A._swept(X[:, 0:1], vectors.follow(X, 0.5, Z), None, adjoint=False) is None
    assert plans.plan(A.geometry, False).sizes[1] == 1


def test_lstsq_sweeps_with_all_its_products_but_the_first(eager, monkeypatch):
    eager(2, 1)
    swept, sweep_run = [], sweep.run
    monkeypatch.setattr(
        sweep, "run", lambda *args: swept.append(sweep_run(*args)) or swept[-1]
    )
    A = linconv.Conv(np.ones((3, 3)), (90, 7), padding=1, method="direct")
    B = np.random.default_rng(0).standard_normal((A.shape[0], 8))
    lstsq(A, B, damp=0.1, maxiter=5, tol=0)
    assert swept == [False] + [True] * 9
    swept.clear()
    lstsq(A, B, maxiter=5, tol=0, callback=lambda x: None)
    assert swept == [False, True] * 5
