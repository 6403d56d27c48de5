"""Matrices of one axis equal a brute-force index map: all small axes, forward and transposed."""

import functools
import itertools

import numpy as np
import pytest
from helpers import NUMPY_MODES, few

from linconv import _arrays, assembly
from linconv.assembly.stencils import segments
from linconv.geometry import Axis, Boundary, Geometry

PAD = 24
TAPS = np.random.default_rng(4127).integers(1, 1 << 40, 17)  # sums tell which taps they hold


@functools.cache
def extension(n: int, rule: str) -> np.ndarray:
    """Row j + PAD: the samples that position j stands for, by numpy.pad."""
    return np.pad(np.eye(n, dtype=np.int64), ((PAD, PAD), (0, 0)), **NUMPY_MODES[rule])


def index_map(axis: Axis) -> np.ndarray:
    """Return how often tap t of output i reads each sample: (out, n, k)."""
    low, high = (extension(axis.n, rule.value) for rule in axis.boundary)
    i, t = np.ogrid[: axis.out, : axis.k]
    j = axis.stride * i - axis.padding[0] + axis.dilation * t
    reads = np.where((j < 0)[..., None], low[j + PAD], high[j + PAD])
    return reads.swapaxes(1, 2)


def matrix(axis: Axis, **options):
    return _arrays.sparse_array(
        *assembly.conv_csr(Geometry((axis,)), TAPS[: axis.k], **options)
    )


def assert_matrices(axis: Axis) -> None:
    """Assert values and patterns of the matrix and of the transposed one."""
    reads = index_map(axis)
    assert axis.nnz == reads.any(axis=2).sum(), axis
    for transposed in (False, True):
        expected = reads.swapaxes(0, 1) if transposed else reads
        found = matrix(axis, transposed=transposed)
        assert (found.toarray() == expected @ TAPS[: axis.k]).all(), axis
        found.data[:] = 1
        assert (found.toarray() == expected.any(axis=2)).all(), axis


@pytest.mark.parametrize("n", few([2, 1, 3, 4, 5, 6], 1))
@pytest.mark.parametrize("rule", [rule.value for rule in Boundary])
def test_every_small_axis_has_the_matrix_of_the_index_map(n, rule):
    checked = 0
    for k, s, d in itertools.product(range(1, 5), range(1, 4), (1, 2)):
        for lo, hi in itertools.product(range(-1, 5), repeat=2):
            if n + lo + hi >= d * (k - 1) + 1:
                assert_matrices(Axis(n, k, s, d, (lo, hi), (rule, rule)))
                checked += 1
    assert checked > 300


RULES = [rule.value for rule in Boundary]
PAIRS = [(low, RULES[i - shift]) for shift in range(1, 6) for i, low in enumerate(RULES)]


@pytest.mark.parametrize("pair", few(PAIRS, 12))
def test_each_side_follows_its_own_rule(pair):
    for n, k, s, d in itertools.product((1, 2, 5), (1, 3), (1, 2), (1, 2)):
        assert_matrices(Axis(n, k, s, d, (n + 3, n + 4), pair))
        assert_matrices(Axis(n, k, s, d, (7, -1), pair))


LONGER = [  # n, k, stride, dilation, padding
    (40, 9, 1, 1, (4, 4)), (40, 5, 4, 3, (6, 5)), (37, 2, 5, 1, (0, 0)),
    (5, 17, 1, 1, (8, 8)), (6, 11, 2, 2, (20, 20)), (50, 3, 2, 4, (-20, -10)),
]  # fmt: skip


@pytest.mark.parametrize("rule", NUMPY_MODES)
def test_longer_axes_wider_kernels_and_fewer_outputs_than_would_fit(rule):
    for axis in LONGER:
        assert_matrices(Axis(*axis, (rule, rule)))
    for out in range(1, 8):
        assert_matrices(Axis(7, 3, 1, 1, (1, 1), (rule, rule), out))


@pytest.mark.parametrize("transposed", [False, True])
def test_the_number_of_stencils_does_not_grow_with_the_axis(transposed):
    def count(axis):
        return sum(len(run.stencils) for run in segments(axis, transposed=transposed))

    for rule in NUMPY_MODES:
        long, short = (Axis(n, 5, 2, 1, (2, 2), (rule, rule)) for n in (10_000, 100))
        assert count(long) == count(short) < 20
    assert count(Axis(10, 3, padding=(100_000, 100_000))) < 30
    assert count(Axis(1_000_000, 3, padding=(-400_000, -400_000))) < 30


@pytest.mark.parametrize("transposed", [False, True])
def test_a_block_of_rows_is_that_of_the_matrix(transposed):
    axis = Axis(23, 4, 3, 2, (5, 4), ("reflect", "zeros"))
    whole = matrix(axis, transposed=transposed).toarray()
    for rows in itertools.combinations(range(len(whole) + 1), 2):
        part = matrix(axis, transposed=transposed, rows=rows)
        assert (part.toarray() == whole[slice(*rows)]).all()


def test_a_nan_tap_stays_in_the_columns_it_touches():
    axis = Axis(5, 3, padding=(2, 2), boundary=("antireflect", "symmetric"))
    csr = assembly.conv_csr(Geometry((axis,)), np.array([1.0, np.nan, 3.0]))
    touched = index_map(axis)[:, :, 1] != 0
    assert (np.isnan(_arrays.sparse_array(*csr).toarray()) == touched).all()
