"""Stencils equal a brute-force index map: all small axes, forward and transposed."""

import functools
import itertools

import numpy as np
import pytest
from helpers import NUMPY_MODES

from linconv.assembly.stencils import segments
from linconv.geometry import Axis, Boundary

PAD = 24


@functools.cache
def extension(n: int, rule: str) -> np.ndarray:
    """Row j + PAD: the samples that position j stands for, by numpy.pad."""
    return np.pad(np.eye(n, dtype=np.int64), ((PAD, PAD), (0, 0)), **NUMPY_MODES[rule])


def index_map(axis: Axis) -> np.ndarray:
    """What tap t of output i reads: (out, n, k)."""
    low, high = (extension(axis.n, rule.value) for rule in axis.boundary)
    i, t = np.ogrid[: axis.out, : axis.k]
    j = axis.stride * i - axis.padding[0] + axis.dilation * t
    reads = np.where((j < 0)[..., None], low[j + PAD], high[j + PAD])
    return reads.swapaxes(1, 2)


def expanded(axis: Axis, *, transposed: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the stencils say: (rows, columns, k) and the pattern (rows, columns)."""
    shape = (axis.n, axis.out) if transposed else (axis.out, axis.n)
    weights = np.zeros((*shape, axis.k), np.int64)
    pattern = np.zeros(shape, np.int64)
    unit = np.eye(axis.k, dtype=np.int64)
    done = 0
    for run in segments(axis, transposed=transposed):
        assert run.start == done
        done += run.count
        for r, stencil in enumerate(run.stencils[: run.count]):
            rows = np.arange(run.start + r, done, len(run.stencils))
            moves = run.advance * np.arange(len(rows))
            columns = moves[:, None] + stencil.columns
            assert (np.diff(stencil.columns) > 0).all()
            weights[rows[:, None], columns] = stencil.contract(unit, 0)
            pattern[rows[:, None], columns] += 1
    assert done == shape[0]
    return weights, pattern


def assert_stencils(axis: Axis) -> None:
    expected = index_map(axis)
    nonzero = expected.any(axis=2)
    weights, pattern = expanded(axis, transposed=False)
    assert (weights == expected).all(), axis
    assert (pattern == nonzero).all(), axis
    assert axis.nnz == nonzero.sum(), axis
    weights, pattern = expanded(axis, transposed=True)
    assert (weights == expected.swapaxes(0, 1)).all(), axis
    assert (pattern == nonzero.T).all(), axis


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("rule", [rule.value for rule in Boundary])
def test_every_small_axis_has_the_stencils_of_the_index_map(n, rule):
    checked = 0
    for k, s, d in itertools.product(range(1, 5), range(1, 4), (1, 2)):
        for lo, hi in itertools.product(range(-1, 5), repeat=2):
            if n + lo + hi >= d * (k - 1) + 1:
                assert_stencils(Axis(n, k, s, d, (lo, hi), (rule, rule)))
                checked += 1
    assert checked > 300


@pytest.mark.parametrize(("low", "high"), list(itertools.permutations(NUMPY_MODES, 2)))
def test_each_side_follows_its_own_rule(low, high):
    for n, k, s, d in itertools.product((1, 2, 5), (1, 3), (1, 2), (1, 2)):
        assert_stencils(Axis(n, k, s, d, (n + 3, n + 4), (low, high)))
        assert_stencils(Axis(n, k, s, d, (7, -1), (low, high)))


@pytest.mark.parametrize("rule", NUMPY_MODES)
@pytest.mark.parametrize(
    ("n", "k", "s", "d", "padding"),
    [
        (40, 9, 1, 1, (4, 4)),
        (40, 5, 4, 3, (6, 5)),
        (37, 2, 5, 1, (0, 0)),
        (5, 17, 1, 1, (8, 8)),
        (6, 11, 2, 2, (20, 20)),
        (50, 3, 2, 4, (-20, -10)),
    ],
)
def test_longer_axes_and_kernels_wider_than_the_input(rule, n, k, s, d, padding):
    assert_stencils(Axis(n, k, s, d, padding, (rule, rule)))


@pytest.mark.parametrize("rule", NUMPY_MODES)
def test_fewer_outputs_than_would_fit_drop_the_last_ones(rule):
    for out in range(1, 8):
        assert_stencils(Axis(7, 3, 1, 1, (1, 1), (rule, rule), out))


@pytest.mark.parametrize("transposed", [False, True])
def test_the_number_of_stencils_does_not_grow_with_the_axis(transposed):
    def count(n, rule):
        axis = Axis(n, 5, 2, 1, (2, 2), (rule, rule))
        return sum(len(run.stencils) for run in segments(axis, transposed=transposed))

    for rule in NUMPY_MODES:
        assert count(10_000, rule) == count(100, rule) < 20


def test_wide_zero_padding_and_cropping_are_single_runs():
    padded = Axis(10, 3, padding=(100_000, 100_000))
    assert len(list(segments(padded))) < 30
    cropped = Axis(1_000_000, 3, padding=(-400_000, -400_000))
    assert len(list(segments(cropped, transposed=True))) < 10


@pytest.mark.parametrize("transposed", [False, True])
def test_a_clipped_run_is_the_run_between_two_positions(transposed):
    axis = Axis(23, 4, 3, 2, (5, 4), ("reflect", "zeros"))
    whole, _ = expanded(axis, transposed=transposed)
    for start, stop in itertools.combinations(range(len(whole) + 1), 2):
        rows = np.zeros_like(whole)
        for run in segments(axis, transposed=transposed):
            part = run.clip(start, stop)
            if part is None:
                continue
            assert part.nnz == sum(count * stencil.width for _, count, stencil in part.runs)
            for q in range(part.count):
                m, r = divmod(q, len(part.stencils))
                columns = part.stencils[r].columns + part.advance * m
                values = part.stencils[r].contract(np.eye(axis.k, dtype=np.int64), 0)
                rows[part.start + q, columns] = values
        assert (rows[start:stop] == whole[start:stop]).all()
        assert not rows[:start].any()
        assert not rows[stop:].any()


def test_a_nan_tap_stays_in_the_columns_it_touches():
    axis = Axis(5, 3, padding=(2, 2), boundary=("antireflect", "symmetric"))
    taps = np.array([1.0, np.nan, 3.0])
    touched = index_map(axis)[:, :, 1] != 0
    rows = np.zeros((axis.out, axis.n))
    for run in segments(axis):
        for q in range(run.count):
            stencil = run.stencils[0]
            rows[run.start + q, stencil.columns + run.advance * q] = stencil.contract(taps, 0)
    assert (np.isnan(rows) == touched).all()
