"""Operations on columns, whatever their order in memory, dtype and number of threads."""

import numpy as np
import pytest
from helpers import DTYPES, values

from linconv import _arrays
from linconv.solvers import vectors

SHAPES = [(1, 1), (3, 5), (1 << 14, 1), (20_011, 3), (7, 20_011)]


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(_arrays, "workers", lambda work, grain: request.param)


def columns(shape, dtype, order, seed):
    x = np.round(3 * values(np.random.default_rng(seed), shape, dtype))
    return np.asarray(x, order=order)


@pytest.mark.parametrize("orders", ["FF", "CC", "FC"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_columns_are_added_and_multiplied(shape, dtype, orders, threads):
    x, y = (columns(shape, dtype, o, s) for s, o in enumerate(orders, 31))
    a = np.arange(shape[1]).astype(x.real.dtype)
    np.testing.assert_array_equal(vectors.dots(x, y), (x.conj() * y).sum(axis=0).real)
    np.testing.assert_array_equal(vectors.peaks(x), abs(x).max(axis=0))
    added, followed = y.copy(order="K"), y.copy(order="K")
    vectors.add(added, a, x)
    np.testing.assert_array_equal(added, y + a * x)
    vectors.follow(followed, a, x)
    np.testing.assert_array_equal(followed, a * y + x)
    vectors.add(added, 2, added)
    np.testing.assert_array_equal(added, 3 * (y + a * x))


def test_a_peak_is_nan_where_a_column_holds_one():
    x = np.ones((20_000, 2))
    x[-1, 1] = np.nan
    np.testing.assert_array_equal(vectors.peaks(x), [1, np.nan])
