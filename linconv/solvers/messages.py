"""How a solution of `lstsq` went, in a sentence."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from linconv._arrays import host
from linconv.solvers.cgls import Cgls


def message(run: Cgls, residual: np.ndarray) -> str:
    """Return in a sentence how an iteration went; `residual` are the norms of A x - b."""
    count = f"{run.iterations} iteration" + "s" * (run.iterations != 1)
    gradient = f"the gradient is {run.progress:.1e} of that at 0, tol {run.tol:g}"
    if run.trouble:
        return f"not converged after {count}: {run.trouble}; {gradient}"
    if run.stopped:
        text = f"converged in {count}: {gradient}" + _inconsistent(run, residual)
    else:
        text = (
            f"not converged: stopped at maxiter after {count}; {gradient}: allow more "
            f"iterations, damp or precondition (the condition of A is at least "
            f"{_condition(run):.1g})"
        )
    return text + _singular(run)


def _inconsistent(run: Cgls, residual: np.ndarray) -> str:
    """Say that no x solves the equations: the residual is orthogonal to them."""
    problem = run.problem
    if problem.shift or len(problem.operators) > 1:
        return ""
    size = np.sqrt(host(run.dots(problem.targets[0], problem.targets[0])))
    limit = 10 * max(run.tol, problem.eps)
    left = residual > limit * size
    orthogonal = run.sizes <= math.sqrt(limit) * run.steepest * residual
    if not (left & orthogonal & (size > 0)).any():
        return ""
    share = f"|A x - b| = {(residual[size > 0] / size[size > 0]).max():.2g} |b|"
    (rows, columns), rank = problem.operators[0][1].shape, problem.rank()
    if rank == rows:
        return f"; {share}, although some x has none: lower tol, A is ill-conditioned"
    if rank is None and rows <= columns:
        return f"; {share}: they are inconsistent, or A too ill-conditioned for this tol"
    return f"; the equations are inconsistent, {share}: this is their least-squares solution"


def _singular(run: Cgls) -> str:
    """Say that the solution is not unique, where that can be seen."""
    problem = run.problem
    rank, rows = problem.rank(), sum(L.shape[0] for _, L in problem.operators)
    if rank is not None and rank < problem.n:
        return f"; A is singular, of rank {rank} for {problem.n} unknowns{_nearest(run)}"
    if rows < problem.n and not problem.shift:
        return f"; there are fewer equations than unknowns{_nearest(run)}"
    condition = _condition(run)
    if condition**2 * problem.eps > 1:
        return f"; A is singular or nearly so, its condition at least {condition:.0e}"
    return ""


def _nearest(run: Cgls) -> str:
    """Say which of all solutions was found, if one was."""
    if not run.converged:
        return ""
    norm = " in the norm of the preconditioner's inverse" * (run.precondition is not None)
    return f": of all solutions this is the one nearest to x0{norm}"


def _condition(run: Cgls) -> float:
    """Return the condition of A from below, as the first column saw it.

    Step lengths of conjugate gradients are a Lanczos matrix (Golub and Van Loan,
    "Matrix Computations", 4th ed., section 11.3.5).
    """
    if run.precondition is not None or run.restarts or len(run.steps) < 2:
        return 1.0
    alpha, beta = np.array(run.steps).T
    if (alpha <= 0).any():
        return 1.0
    diagonal = 1 / alpha
    diagonal[1:] += beta[:-1] / alpha[:-1]
    values = eigvalsh_tridiagonal(diagonal, np.sqrt(beta[:-1]) / alpha[:-1])
    return math.sqrt(values[-1] / max(values[0], values[-1] * 1e-40))
