"""The adjoint test: right operators pass in every dtype, wrong ones do not."""

import numpy as np
import pytest
import scipy.sparse.linalg

import linconv
from linconv.testing import AdjointError, AdjointReport, assert_adjoint, check_adjoint


class Wrong(linconv.LinearOperator):
    """A convolution whose adjoint is `broken`, a function of the right one."""

    def __init__(self, conv, broken):
        super().__init__(conv.dtype, conv.in_shape, conv.out_shape)
        self.conv, self.broken = conv, broken

    def _matmat(self, X):
        return self.conv._matmat(X)

    def _rmatmat(self, X):
        return self.broken(self.conv, X)


def conv(dtype="f8", n=(40, 41)):
    kernel = np.random.default_rng(99).standard_normal((3, 3)).astype(dtype)
    if kernel.dtype.kind == "c":
        kernel = kernel * (1 + 2j)
    return linconv.Conv(kernel.astype(dtype), n, padding=1)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("n", [(1, 1), (3, 5), (300, 301)])
def test_right_adjoints_pass_for_many_seeds(dtype, n):
    A = conv(dtype, n)
    for seed in range(100, 130 if n[0] < 100 else 103):
        report = check_adjoint(A, seed=seed)
        assert report.passed, str(report)
        assert report.error < report.tolerance / 8


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize(
    "broken",
    [
        lambda C, Y: 1.001 * C._rmatmat(Y),
        lambda C, Y: -C._rmatmat(Y),
        lambda C, Y: np.roll(C._rmatmat(Y), 1, axis=0),
        lambda C, Y: C._matmat(Y),
        lambda C, Y: 0 * Y,
        lambda C, Y: C._rmatmat(Y) * np.nan,
        lambda C, Y: np.r_[0 * C._rmatmat(Y)[:1], C._rmatmat(Y)[1:]],
    ],
    ids=["scaled", "negated", "shifted", "unflipped", "zero", "NaN", "a row lost"],
)
def test_wrong_adjoints_fail_for_every_seed(broken, dtype):
    A = Wrong(conv(dtype), broken)
    for seed in range(200, 220):
        assert not check_adjoint(A, seed=seed).passed
    with pytest.raises(
        AdjointError, match=r"adjoint test FAILED: error .* > .* of \|A x\| \|y\|"
    ):
        assert_adjoint(A)


def test_a_missing_conjugate_fails():
    A = Wrong(conv("c16"), lambda C, Y: C._tmatmat(Y))
    assert not check_adjoint(A).passed


def test_the_report_is_frozen_readable_and_reproducible():
    A = conv("f4")
    report = check_adjoint(A, trials=2, seed=515)
    assert isinstance(report, AdjointReport)
    assert report.error == check_adjoint(A, trials=2, seed=515).error
    assert "adjoint test passed" in str(report)
    assert "seed 515" in str(report)
    assert (report.shape, report.dtype, report.trials) == (A.shape, np.float32, 2)
    with pytest.raises(AttributeError):
        report.passed = False
    with pytest.raises(AdjointError, match="FAILED") as caught:
        assert_adjoint(Wrong(A, lambda C, Y: 2 * C._rmatmat(Y)))
    assert isinstance(caught.value, AssertionError)
    assert not caught.value.report.passed


def test_it_takes_matrices_other_peoples_operators_and_integers():
    values = np.random.default_rng(71).standard_normal((8, 5))
    matrix = scipy.sparse.csr_array(np.where(values > 0.3, values, 0))
    operator = scipy.sparse.linalg.aslinearoperator(matrix)
    for subject in (matrix, matrix.toarray(), operator, linconv.Conv([1, 2], 5)):
        assert_adjoint(subject)
    zero = np.zeros((3, 4))
    assert check_adjoint(zero).error == 0
    with pytest.raises(TypeError, match="expected a LinearOperator"):
        check_adjoint("operator")
    with pytest.raises(ValueError, match="trials must be >= 1, got 0"):
        check_adjoint(zero, trials=0)
