"""Least squares with operators: an iterative solver and a direct one.

    minimise  |A x - b|^2 + damp^2 |x|^2 + sum_i w_i |L_i x - t_i|^2

Everything else - sparsity, total variation, bounds, eigenvalues - is for SciPy, PyLops
and pyproximal, which take linconv's operators as they are.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from linconv import _arrays
from linconv._arrays import host
from linconv._options import at_least, tolerance
from linconv.operators import aslinearoperator, common_shape
from linconv.solvers.cgls import Cgls
from linconv.solvers.messages import message
from linconv.solvers.problem import Problem

__all__ = ["Solution", "lstsq"]

# Iterations on a GPU after which the host waits for it and reads how they went.
_SELDOM = 16


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of `lstsq`, and whether to trust it.

    Attributes
    ----------
    x : ndarray
        The solution, in the shape that `b` asks for: flat for flat, shaped for shaped.
    converged : bool
        Whether the gradient is below the tolerance, for all right-hand sides.
    iterations : int
        Of the right-hand side that took most.  Each iteration takes one product with every
        operator and one with its adjoint.
    residual_norm : float, or ndarray (k,)
        ``|A x - b|``, without damping and penalties, of every right-hand side.
    message : str
        How it went, in a sentence.
    """

    x: Any = field(repr=False)
    converged: bool
    iterations: int
    residual_norm: Any
    message: str


def lstsq(
    A: Any,
    b: Any,
    *,
    damp: float = 0,
    penalties: Sequence[tuple] = (),
    x0: Any = None,
    preconditioner: Any = None,
    tol: float = 1e-6,
    maxiter: int | None = None,
    callback: Callable[[Any], Any] | None = None,
    progress: bool = False,
) -> Solution:
    """Minimise ``|A x - b|^2 + damp^2 |x|^2 + sum_i w_i |L_i x - t_i|^2`` by CGLS.

    Parameters
    ----------
    A : LinearOperator, sparse or dense matrix, (m, n)
        For a CuPy `b`: whatever multiplies CuPy arrays, as ``A @ X`` and ``A.H @ Y``.
    b : array_like
        Flat, ``(m,)`` or columns ``(..., m, k)``; or shaped, ``(*batch, *A.out_shape)``,
        where A has several axes.  Several right-hand sides are solved at once.
    damp : float
        Its square weighs ``|x|^2``, as in `scipy.sparse.linalg.lsqr`.
    penalties : sequence of (weight, L) or (weight, L, target)
        Each adds ``weight |L x - target|^2``; the weight itself is not squared.
    x0 : array_like, optional
        Where to start, in the shape of the solution, or one vector for all right-hand
        sides; zero by default.
    preconditioner : LinearOperator, matrix or callable, optional
        About the inverse of ``A^H A + damp^2 + sum w L^H L``, Hermitian and positive
        definite, as `linconv.spectrum.circulant_preconditioner` makes it.  A callable
        gets columns ``(n, k)``.
    tol : float
        Stop when the gradient of the sum, ``A^H (b - A x) - ...``, is at most `tol`
        times what it is at x = 0.
    maxiter : int, optional
        By default twice as many as unknowns, at least 100 and at most 1000.
    callback : callable, optional
        Called with a copy of x, in its final shape, after every iteration.
    progress : bool
        Show a progress bar; needs tqdm.

    Returns
    -------
    Solution
        Frozen: ``x, converged, iterations, residual_norm, message``.  Where the
        solution is not unique, x is the one nearest to `x0`: in the norm of its inverse
        if there is a `preconditioner`.

    Raises
    ------
    ValueError
        If shapes do not fit, a weight is negative, or `tol` or `maxiter` is out of range.
    TypeError
        If `A` is no operator, or `b` holds no numbers.
    ImportError
        If `progress` is asked for and tqdm is missing.

    Notes
    -----
    Conjugate gradients on the normal equations, which are never formed [1]_.  ``message``
    says what was not finite, did not converge, or has no exact or no unique solution.  A
    residual that is computed afresh confirms ``converged``.

    Right-hand sides are solved in blocks that fit the processor's caches: thousands of small
    ones at once, large images one after another.  With a `callback` all are one block.

    For a CuPy `b` the iteration stays on the GPU.  The host waits for the GPU every 16
    iterations only, or after each where there is a `callback` or a progress bar.

    References
    ----------
    .. [1] Bjorck, "Numerical Methods for Least Squares Problems", SIAM 1996,
       algorithms 7.4.1 (CGLS) and 7.4.3 (preconditioned).

    Examples
    --------
    >>> import linconv
    >>> A = linconv.Conv([1.0, 3.0], 3, padding=[(0, 1)])
    >>> A.toarray()
    array([[1., 3., 0.],
           [0., 1., 3.],
           [0., 0., 1.]])
    >>> solution = lstsq(A, [7, 11, 3], tol=1e-12)
    >>> solution.x.round(6), solution.converged, solution.iterations
    (array([1., 2., 3.]), True, 3)
    """
    tol = tolerance(tol)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, got {type(callback).__name__}")
    problem = Problem(A, b, x0, damp, penalties)
    if maxiter is None:
        maxiter = min(max(2 * problem.n, 100), 1000)
    maxiter = at_least(0, maxiter, "maxiter")
    if not problem.finite:
        return _refused(problem)
    precondition = _applied(preconditioner, problem)
    blocks = _blocks(problem, callback)
    found = []
    with _bar(progress, maxiter * len(blocks)) as bar:
        for columns in blocks:
            part = problem.take(columns)
            run = Cgls(part, precondition, tol)
            _run(run, maxiter, callback, bar)
            found.append(_Found.of(run))
    return _solution(problem, found)


def _blocks(problem: Problem, callback: Any) -> list[slice]:
    """Return the columns that are solved at once: as many as fit a processor's caches.

    A callback sees all columns after every iteration, so they are one block then; and on a
    GPU, where one launch works on all of them.
    """
    if callback is not None or problem.xp is not np:
        return [slice(0, problem.k)]
    rows = max(problem.n, *(L.shape[0] for _, L in problem.operators))
    return _arrays.blocks(problem.k, rows * problem.dtype.itemsize)


def _run(run: Cgls, maxiter: int, callback: Any, bar: Any) -> None:
    """Iterate to the end; on a GPU the host waits for the device every 16 iterations only."""
    problem = run.problem
    seldom = problem.xp is not np and callback is None and bar is None
    while not run.finished() and run.iterations < maxiter:
        run.advance(min(_SELDOM if seldom else 1, maxiter - run.iterations))
        if callback is not None:
            callback(problem.shaped(problem.restored(run.x.copy(order="K"))))
        if bar is not None:
            bar.set_postfix_str(f"gradient {run.progress:.1e}", refresh=False)
            bar.update()
    if bar is not None:
        bar.total -= maxiter - run.iterations
        bar.refresh()


def _applied(preconditioner: Any, problem: Problem) -> Callable[[Any], Any] | None:
    """Return the preconditioner as a function of columns."""
    if preconditioner is None:
        return None
    shape = getattr(preconditioner, "shape", None)
    if shape is None and callable(preconditioner):
        return lambda s: preconditioner(s.copy(order="K"))  # it may work in place
    if shape != (problem.n, problem.n):
        raise ValueError(
            f"the preconditioner must have shape {(problem.n, problem.n)} or be callable, got "
            f"{type(preconditioner).__name__} of shape {shape}"
        )
    if problem.xp is np:
        M = aslinearoperator(preconditioner)
        common_shape([M.in_shape, problem.in_shape], "the preconditioner on A", "in_shape")
        return M.matmat
    return partial(operator.matmul, preconditioner)


@contextlib.contextmanager
def _bar(wanted: bool, total: int) -> Iterator[Any]:
    """Show tqdm's bar, or nothing."""
    if not wanted:
        yield None
        return
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from None
    with tqdm(total=total, unit="it", desc="lstsq") as bar:
        yield bar


class _Found(NamedTuple):
    """The result of one block of columns."""

    x: Any
    converged: bool
    iterations: int
    residual_norm: Any
    message: str
    progress: float

    @classmethod
    def of(cls, run: Cgls) -> _Found:
        """Return x in the caller's units, with the norms of A x - b and a sentence."""
        problem = run.problem
        residual = problem.residuals(run.x)[0]
        norm = np.sqrt(host(run.dots(residual, residual)))
        text = message(run, norm)
        x, norm = problem.restored(run.x), norm * host(problem.scale)
        return cls(x, run.converged, run.iterations, norm, text, run.progress)


def _refused(problem: Problem) -> Solution:
    """Return what there is to say of numbers that are not finite."""
    x = problem.zeros(problem.n) * math.nan
    norm = math.nan if problem.k == 1 else np.full(problem.k, math.nan)
    text = "not solved: b, x0 or a target holds NaN or infinite values"
    return Solution(problem.shaped(x), False, 0, norm, text)


def _solution(problem: Problem, found: list[_Found]) -> Solution:
    """Return one solution of all blocks; its sentence is that of the worst one."""
    worst = max(found, key=lambda each: (not each.converged, each.progress))
    norm: Any = np.concatenate([each.residual_norm for each in found])
    x = found[0].x
    if len(found) > 1:
        x = problem.xp.concatenate([each.x.T for each in found]).T
    return Solution(
        problem.shaped(x),
        all(each.converged for each in found),
        max(each.iterations for each in found),
        float(norm[0]) if problem.k == 1 else norm,
        worst.message,
    )
