"""check_adjoint and assert_adjoint: test a linear operator and say what is wrong with it.

Both take operators of linconv, SciPy, PyLops, SigPy, SCICO, ODL and CuPy, matrices, any
object with ``shape``, ``matvec`` and ``rmatvec``, and a pair of functions.  linconv imports
none of these libraries but SciPy, unless the operator comes from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from linconv._options import at_least
from linconv.testing.checks import Session, identity, open_session, run
from linconv.testing.diagnosis import causes_of
from linconv.testing.report import CHECKS, AdjointError, AdjointReport, CheckResult

LEVELS = ("quick", "standard", "thorough")
SEED = 20111


def check_adjoint(
    A: Any,
    adjoint: Callable[[Any], Any] | None = None,
    *,
    level: str = "standard",
    seed: int = SEED,
    in_shape: Any = None,
    out_shape: Any = None,
    dtype: Any = None,
    xp: Any = None,
    matrix: Any = None,
    reference: Any = None,
    factory: Callable[[np.ndarray], Any] | None = None,
    kernel_shape: Any = None,
    deterministic: bool = True,
    real_linear: bool | None = None,
    only: Iterable[str] | None = None,
    leave_out: Iterable[str] = (),
) -> AdjointReport:
    """Test whether rmatvec is the adjoint of matvec, and whether both are linear.

    Tests ``<A x, y> = <x, A^H y>`` for random and structured vectors, and the matrix
    entry by entry.  Also tests linearity, shapes and dtypes of results, that products
    leave their inputs unchanged and return arrays of their own, and that matmat,
    threads, pickling and strided inputs work.  There is no tolerance to tune: errors
    are compared with the operator's measured rounding noise.

    Parameters
    ----------
    A : operator, matrix or function
        A linconv, SciPy, PyLops, SigPy, SCICO, ODL or CuPy operator, a sparse or dense
        matrix, any object with ``shape``, ``matvec`` and ``rmatvec`` (and ``dtype``,
        ``matmat``, ``rmatmat`` if it has them), or the forward function of a pair.
    adjoint : callable, optional
        The adjoint function of a pair, which also needs `in_shape`.
    level : {"standard", "quick", "thorough"}
        "quick": at most 30 + 30 products; "standard": 60 + 60, and every entry of a
        matrix of at most 2.5 million entries; "thorough": more probes.  The diagnosis
        of a failure takes further products.
    seed : int
        Seed of the random generator, at least 0; the same seed gives the same report.
    in_shape, out_shape : tuple of int, optional
        Shapes of the arrays.  For an operator on flat vectors they give the axes
        that a diagnosis names.
    dtype : dtype, optional
        Dtype of an operator that has none; a torch or JAX dtype also chooses the library.
    xp : module or str, optional
        The array library of a pair of functions: numpy, torch, jax.numpy or cupy.
    matrix : sparse or dense matrix, optional
        The matrix that the operator must have, if you know it.
    reference : callable, operator or matrix, optional
        An independent forward, to detect an error that forward and adjoint share.
    factory : callable, optional
        Function that makes the operator with another kernel, of shape `kernel_shape`;
        exact mode calls it with a kernel of integers.
    kernel_shape : tuple of int, optional
        Shape of the kernels for `factory`.
    deterministic : bool
        False if the operator may round differently from call to call.
    real_linear : bool, optional
        True if the operator is linear over the reals only, such as ``x -> x.real``;
        the inner product is then ``Re <x, y>``.
    only, leave_out : iterable of str
        Codes of the only checks to run, and of checks to leave out, such as "C09".

    Returns
    -------
    AdjointReport
        ``report.passed``, ``report.diagnosis``, ``print(report)``.

    Raises
    ------
    TypeError
        If `A` is no operator or has no adjoint.
    ValueError
        If an option is invalid or contradicts the operator.

    Examples
    --------
    >>> import numpy as np
    >>> import linconv
    >>> check_adjoint(linconv.Conv([1.0, 2.0], 5)).passed
    True
    >>> report = check_adjoint(np.diff, lambda y: np.diff(y), in_shape=4, out_shape=3)
    >>> report.passed, report.diagnosis
    (False, 'adjoint returns shape (2,), expected (4,)')
    """
    began = time.perf_counter()
    codes = _chosen(level, only, leave_out)
    seed = at_least(0, seed, "seed")
    session = open_session(
        A,
        adjoint,
        level=level,
        seed=seed,
        in_shape=in_shape,
        out_shape=out_shape,
        dtype=dtype,
        xp=xp,
        deterministic=deterministic,
        real_linear=real_linear,
    )
    session.reference = reference
    with np.errstate(all="ignore"):  # a broken operator may return NaN and infinity
        options = {"matrix": matrix, "factory": factory, "kernel_shape": kernel_shape}
        results = run(session, codes, **options)
        causes, entries = causes_of(session, results)
        return _report(session, results, causes, entries, seed, time.perf_counter() - began)


def assert_adjoint(A: Any, adjoint: Any = None, **options: Any) -> AdjointReport:
    """Run `check_adjoint`, which has the same parameters; raise AdjointError if it fails.

    Returns
    -------
    AdjointReport

    Raises
    ------
    AdjointError
        An AssertionError that carries the report as ``error.report``.

    Examples
    --------
    >>> import numpy as np
    >>> report = assert_adjoint(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> report.causes
    ()
    """
    __tracebackhide__ = True
    report = check_adjoint(A, adjoint, **options)
    if not report.passed:
        raise AdjointError(report)
    return report


def _chosen(level: str, only: Iterable[str] | None, leave_out: Iterable[str]) -> set[str]:
    """Return the codes of the checks to run."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    names = {name: code for code, name in CHECKS.items()}
    chosen = {names.get(code, code) for code in (CHECKS if only is None else _listed(only))}
    left = {names.get(code, code) for code in _listed(leave_out)}
    for code in chosen | left:
        if code not in CHECKS:
            raise ValueError(f"no check is called {code!r}; there are {', '.join(CHECKS)}")
    if not chosen - left:
        raise ValueError("no check is left to run: only= and leave_out= exclude them all")
    return chosen - left


def _listed(codes: Iterable[str]) -> list[str]:
    return [codes] if isinstance(codes, str) else list(codes)


def _report(
    session: Session,
    results: dict[str, CheckResult],
    causes: list[str],
    entries: list[Any],
    seed: int,
    seconds: float,
) -> AdjointReport:
    forward, adjoint = session.forward, session.adjoint
    complete = bool(forward.images and adjoint.images) and not session.stopped
    checks = tuple(
        results.get(code, CheckResult(code, name, "left out")) for code, name in CHECKS.items()
    )
    return AdjointReport(
        passed=all(check.passed for check in checks),
        subject=session.subject.name,
        shape=(forward.m, forward.n),
        dtype=forward.dtype if session.subject.dtype is None else session.subject.dtype,
        level=session.level,
        seed=seed,
        checks=checks,
        causes=tuple(causes),
        entries=tuple(entries),
        error=identity.norm_scaled_error(session) if complete else np.nan,
        resolution=identity.resolution(session) if complete else np.nan,
        miss_probability=session.miss,
        products=(forward.products + forward.copied, adjoint.products + adjoint.copied),
        seconds=seconds,
    )
