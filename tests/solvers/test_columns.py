"""What lstsq does with columns: compiled loops and plain expressions agree."""

import numpy as np
import pytest

from linconv import _arrays
from linconv.methods import compiling
from linconv.solvers import vectors

DTYPES = ("float32", "float64", "complex64", "complex128", "longdouble")
ORDERS = [("C", "C"), ("F", "F"), ("C", "F")]
# One, two and many pieces, several threads, rows that are no multiple of anything.
SHAPES = [(5, 3), (40_001, 1), (12_345, 5), (70_001, 8), (33_000, 11)]


def pair(shape, dtype, orders):
    rng = np.random.default_rng(shape)
    found = []
    for order in orders:
        x = rng.standard_normal(shape)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * rng.standard_normal(shape)
        found.append(np.array(x, dtype, order=order))
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orders", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_columns_are_multiplied_and_added(shape, orders, dtype, threads, monkeypatch):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
    x, y = pair(shape, dtype, orders)
    a = np.linspace(-1, 2, shape[1])
    eps = np.finfo(dtype).eps
    wide = np.result_type(dtype, np.complex128)
    right = (x.astype(wide).conj() * y.astype(wide)).sum(axis=0).real
    bound = 20 * eps * (abs(x) * abs(y)).sum(axis=0)
    assert (abs(vectors.dots(x, y) - right) <= bound).all()
    for factors in (a, 0.5):
        target = y.copy(order="K")
        vectors.add(target, factors, x)
        np.testing.assert_allclose(target, y + factors * x, rtol=0, atol=40 * eps)
        assert target.dtype == dtype
        right = factors * y + x
        squares = vectors.follow(y, factors, x).total()
        np.testing.assert_allclose(y, right, rtol=0, atol=99 * eps)
        assert_squares(squares, y)


def assert_squares(got, x):
    """Assert that these are the squared norms of the columns of x.

    A sum of n positive numbers, added in any order, is right to n roundings.
    """
    right = (abs(x.astype(np.result_type(x, np.complex128))) ** 2).sum(axis=0)
    np.testing.assert_allclose(got, right, rtol=len(x) * np.finfo(x.dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orders", [*ORDERS, ("F", "C")])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shift", [0.25, 0.75])
def test_a_step_and_what_it_gives_the_gradient(
    shift, shape, orders, dtype, threads, monkeypatch
):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
    x, p, s = pair(shape, dtype, (orders[0], *orders))
    a, eps = np.linspace(-1, 2, shape[1]), np.finfo(dtype).eps
    moved = x + a * p
    gradient = s - shift * moved
    squares = vectors.advance(x, a, p, True, shift, s).total()
    np.testing.assert_allclose(x, moved, rtol=0, atol=40 * eps)
    np.testing.assert_allclose(s, gradient, rtol=0, atol=40 * eps)
    assert_squares(squares, s)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orders", [*ORDERS, ("F", "C")])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_solution_moves_and_then_the_direction(shape, orders, dtype, threads, monkeypatch):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
    x, p, z = pair(shape, dtype, (orders[0], *orders))
    a, b = np.linspace(-1, 2, shape[1]), np.linspace(0.5, 1.5, shape[1])
    moved, turned = x + a * p, b * p + z
    squares = vectors.move(x, a, p, True, b, z).total()
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(x, moved, rtol=0, atol=40 * eps)
    np.testing.assert_allclose(p, turned, rtol=0, atol=40 * eps)
    assert_squares(squares, p)


@pytest.mark.parametrize("orders", [*ORDERS, ("F", "F")])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_columns_are_blanked_subtracted_and_multiplied(shape, threads, orders, monkeypatch):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
    x, y = pair(shape, "float64", orders)
    np.testing.assert_array_equal(vectors.difference(x, y), x - y)
    x[0, 0] = np.nan
    blank = vectors.zeros_like(x)
    assert not blank.any()
    assert blank.flags.c_contiguous == x.flags.c_contiguous
    scale = 2.0 ** np.arange(shape[1])
    right = y * scale
    vectors.multiply(y, scale)
    np.testing.assert_array_equal(y, right)


def test_without_numba_there_are_plain_expressions(monkeypatch):
    monkeypatch.setattr(compiling, "why_not", lambda: "no Numba")
    x, y = pair((40_000, 2), "float64", ("C", "C"))
    expected = np.einsum("ij,ij->j", x, y)
    np.testing.assert_allclose(vectors.dots(x, y), expected, rtol=1e-10)
    right = y + 3 * x
    vectors.add(y, 3, x)
    np.testing.assert_array_equal(y, right)


def test_columns_follow_the_memory_order_of_others():
    x, y = pair((4, 3), "float64", ("C", "F"))
    assert vectors.like(x, x) is x
    turned = vectors.like(x, y)
    assert turned.flags.f_contiguous
    np.testing.assert_array_equal(turned, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_columns_are_copied_scaled_and_measured(shape, order, dtype, threads, monkeypatch):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: threads)
    (x,) = pair(shape, dtype, [order])
    copy = vectors.copy(x)
    np.testing.assert_array_equal(copy, x)
    assert copy.flags.f_contiguous == x.flags.f_contiguous
    assert copy.ctypes.data % 64 == 0
    assert not np.shares_memory(copy, x)
    scale = 2.0 ** np.arange(shape[1])
    scaled = vectors.scaled(x, np.complex128, scale)
    np.testing.assert_array_equal(scaled, (x / scale).astype(np.complex128))
    assert scaled.flags.c_contiguous
    np.testing.assert_array_equal(vectors.peaks(x), abs(x).max(axis=0))
    x[-1, 0], x[shape[0] // 2, -1] = np.nan, np.inf
    peaks = vectors.peaks(x)
    assert np.isnan(peaks[0])
    assert not np.isfinite(peaks[-1])
    assert np.isfinite(peaks[1:-1]).all()
