"""Is rmatvec the adjoint of matvec?  A dot test with an error that means something.

The error is ``|<A x, y> - <x, A^H y>| / (|A x| |y|)``, in units of no more than
rounding: dividing by the inner product itself, which may be near zero by
chance, rejects correct operators.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from linconv.linop import aslinearoperator

# Correct operators stayed below 0.4 eps in every dtype; products of many taps round more.
_EPS = 64


@dataclass(frozen=True)
class AdjointReport:
    """What `check_adjoint` found.

    Attributes
    ----------
    passed : bool
        Whether `error` is at most `tolerance`.
    error : float
        The largest norm-scaled error of all trials.
    tolerance : float
        64 times the machine epsilon of `dtype`.
    trials : int
        Pairs of random vectors.
    seed : int
        Of their generator: the same seed gives the same report.
    shape : (int, int)
        Of the operator.
    dtype : numpy.dtype
        Of the products.
    seconds : float
        Time taken.
    """

    passed: bool
    error: float
    tolerance: float
    trials: int
    seed: int
    shape: tuple[int, int]
    dtype: np.dtype
    seconds: float

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        sign = "<=" if self.passed else ">"
        return (
            f"adjoint test {verdict}: error {self.error:.2e} {sign} {self.tolerance:.2e} of "
            f"|A x| |y|, {self.trials} trials, shape {self.shape}, {self.dtype.name}, "
            f"seed {self.seed}, {self.seconds:.3f} s"
        )


class AdjointError(AssertionError):
    """An operator's rmatvec is not the adjoint of its matvec; see `report`."""

    def __init__(self, report: AdjointReport) -> None:
        super().__init__(str(report))
        self.report = report


def check_adjoint(A: Any, *, trials: int = 3, seed: int = 20111) -> AdjointReport:
    """Test ``<A x, y> = <x, A^H y>`` for random vectors, complex ones if A is.

    Parameters
    ----------
    A : operator or matrix
        A linconv operator, a SciPy LinearOperator, a matrix, or any object with
        ``shape``, ``dtype``, ``matvec`` and ``rmatvec``.
    trials : int
        Pairs of vectors to try.
    seed : int
        Of the random generator.

    Returns
    -------
    AdjointReport

    Raises
    ------
    ValueError
        If `trials` is less than 1.
    TypeError
        If `A` is no operator.

    Examples
    --------
    >>> import linconv
    >>> check_adjoint(linconv.Conv([1.0, 2.0], 5)).passed
    True
    """
    if trials < 1:
        raise ValueError(f"trials must be >= 1, got {trials}")
    A = aslinearoperator(A)
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    dtype = np.result_type(A.dtype, np.float32 if A.dtype.kind == "f" else np.float64)
    if A.dtype.kind == "c":
        dtype = A.dtype
    error = 0.0
    for _ in range(trials):
        x, y = (_random(rng, n, dtype) for n in reversed(A.shape))
        Ax, Ay = A.matvec(x), A.rmatvec(y)
        mismatch = abs(_inner(y, Ax) - _inner(Ay, x))
        scale = max(_norm(Ax) * _norm(y), _norm(x) * _norm(Ay))
        if mismatch or not np.isfinite(mismatch):
            error = max(error, float(mismatch / scale)) if np.isfinite(mismatch) else np.inf
    tolerance = _EPS * float(np.finfo(dtype).eps)
    seconds = time.perf_counter() - start
    passed = error <= tolerance
    return AdjointReport(passed, error, tolerance, trials, seed, A.shape, dtype, seconds)


def assert_adjoint(A: Any, *, trials: int = 3, seed: int = 20111) -> None:
    """Raise AdjointError unless `check_adjoint` passes; same parameters.

    Raises
    ------
    AdjointError
        An AssertionError that carries the report as ``error.report``.
    """
    report = check_adjoint(A, trials=trials, seed=seed)
    if not report.passed:
        raise AdjointError(report)


def _random(rng: np.random.Generator, n: int, dtype: np.dtype) -> np.ndarray:
    x = rng.standard_normal(n)
    if dtype.kind == "c":
        return (x + 1j * rng.standard_normal(n)).astype(dtype)
    return x.astype(dtype)


def _inner(a: np.ndarray, b: np.ndarray) -> Any:
    """Return <a, b>, conjugating a, more accurately than the products under test."""
    kind = np.clongdouble if "c" in (a.dtype.kind, b.dtype.kind) else np.longdouble
    return (a.conj().astype(kind) * b.astype(kind)).sum()


def _norm(a: np.ndarray) -> np.longdouble:
    return np.sqrt((np.abs(a.astype(np.result_type(a.dtype, np.longdouble))) ** 2).sum())
