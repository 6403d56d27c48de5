"""Memory of large vectors is used again once nobody refers to it, and not before."""

import gc

import numpy as np
import pytest

import linconv
from linconv.methods.memory import Spare, aligned, empty
from linconv.solvers import lstsq

LARGE = (1 << 17, 3)


def address(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", ["int8", "float32", "complex128", "longdouble"])
@pytest.mark.parametrize("shape", [(1, 1), (1001, 7), LARGE])
def test_arrays_begin_on_cache_lines(shape, dtype):
    with Spare().in_use():
        spare = aligned(shape, dtype)
    for array in (aligned(shape, dtype), spare):
        assert array.shape == shape
        assert array.dtype == dtype
        assert address(array) % 64 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_memory_is_used_again_when_the_last_view_is_gone():
    spare = Spare()
    with spare.in_use():
        first = empty(LARGE, float)
        where, view = address(first), first.T[1:, ::2]
        del first
        gc.collect()
        second = empty(LARGE, float)
        assert not np.shares_memory(second, view)
        del view
        third = empty(LARGE, float)
        assert address(third) == where
        del third
        assert address(empty(LARGE, np.int64)) == where
        assert address(empty((1 << 16, 3), float)) != where  # another size


def test_without_spare_memory_in_use_small_arrays_are_numpys_and_large_ones_on_cache_lines():
    spare, found = Spare(), []
    with pytest.raises(KeyError), spare.in_use():
        raise KeyError(found.append(address(empty(LARGE, float))))
    assert empty((9, 3), float).base is None
    large = empty(LARGE, float)
    assert address(large) % 64 == 0
    assert address(large) not in found  # which the spare memory keeps


def test_arrays_survive_the_spare_memory_they_came_from():
    spare = Spare()
    with spare.in_use():
        kept = empty(LARGE, float)
    kept[:] = 3
    del spare
    gc.collect()
    assert (kept == 3).all()
    assert aligned(LARGE, float).fill(0) is None
    assert (kept == 3).all()


class Keeping(linconv.Conv):
    """A Conv that keeps its results, as somebody may who looks at them later."""

    def _matmat(self, X):
        self.given.append(X.copy())
        self.kept.append(super()._matmat(X))
        return self.kept[-1]


class Passing(linconv.Conv):
    """A Conv that keeps nothing, whose products come from a subclass as well."""

    def _matmat(self, X):
        return super()._matmat(X)


@pytest.mark.parametrize("columns", [1, 8])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_what_an_operator_keeps_is_not_written_into(padding, columns):
    A = Keeping([[1.0, 2.0], [3.0, 9.0]], (400, 400), padding=padding, method="direct")
    plain = Passing(A.kernel, A.in_shape, padding=padding, method="direct")
    A.given, A.kept = [], []
    b = np.random.default_rng(columns).standard_normal((A.shape[0], columns))
    solution = lstsq(A, b, damp=1, tol=0, maxiter=5)
    assert len(A.kept) == 6  # five iterations, and the residual
    for X, Y in zip(A.given, A.kept, strict=True):
        np.testing.assert_array_equal(plain @ X, Y)
    right = lstsq(plain, b, damp=1, tol=0, maxiter=5)
    np.testing.assert_array_equal(solution.x, right.x)
