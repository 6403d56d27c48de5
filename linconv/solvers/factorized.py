"""Direct solution of least-squares problems by one factorisation of the normal equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import splu

from linconv import _arrays
from linconv._options import listed
from linconv.operators import Identity, LinearOperator, aslinearoperator
from linconv.solvers.problem import Problem


def factorized(
    A: Any, *, damp: float = 0, penalties: Sequence[tuple] = ()
) -> Callable[[Any], Any]:
    """Factorise ``N = A^H A + damp^2 I + sum w L^H L`` once, for any number of solves.

    Parameters
    ----------
    A, damp, penalties
        As in `lstsq`; the matrices of `A` and of every L are formed, and N from them.

    Returns
    -------
    solve : callable
        ``solve(b)`` returns the x that minimises the sum of problem of `lstsq`; `b` and
        x have the same shapes as there.

    Raises
    ------
    numpy.linalg.LinAlgError
        If N is singular to working precision: damp, or penalise more.
    ValueError, TypeError
        As `lstsq`; TypeError too if an operator lies on a GPU.

    Notes
    -----
    Sparse LU factors in the order of minimum degree (SuperLU).  The factors of a
    two-dimensional convolution fill in: about ``n log2(n)`` entries for small kernels, many
    more for large ones.  Best for one dimension, small images and many right-hand sides.

    Examples
    --------
    >>> import linconv
    >>> A, G = linconv.Conv([1.0, 3.0], 3, padding=[(0, 1)]), linconv.gradient(3)
    >>> solve = factorized(A, penalties=[(0.5, G)])
    >>> solve([7, 11, 3]).round(3)
    array([1.524, 1.885, 2.98 ])
    """
    operator: LinearOperator = aslinearoperator(A)
    if operator.device == "gpu":
        raise TypeError(
            "factorized works on the host, got an operator on the GPU: A.to('cpu')"
        )
    zero, penalties = np.zeros(operator.shape[0]), listed(penalties)
    plain = [entry[:2] if isinstance(entry, tuple) else entry for entry in penalties]
    problem = Problem(operator, zero, None, damp, plain)
    rows = sum(L.shape[0] for _, L in problem.operators)
    if rows < problem.n and not problem.shift:
        raise np.linalg.LinAlgError(
            f"the normal matrix is singular, there are {rows} equations for {problem.n} "
            "unknowns: damp, or add a penalty"
        )
    inverse = _factors(_normal_matrix(problem), _worst_condition(problem))

    def solve(b: Any) -> Any:
        """Return the x that minimises the sum of problem for `b`."""
        task = Problem(operator, b, None, damp, penalties)
        if not task.finite:
            raise ValueError("b must be finite, got NaN or infinite values")
        right = task.gradient(task.residuals())
        return task.shaped(inverse(right) * task.scale)

    return solve


def _normal_matrix(problem: Problem) -> Any:
    """Return the matrix of the normal equations, in double precision: it has problem."""
    total = problem.shift * Identity(problem.n).tosparse()
    for w, L in problem.operators:
        M = L.tosparse()
        M = M.astype(np.result_type(M.dtype, float), copy=False)
        total = total + w * (M.conj().T.tocsr() @ M)
    return total.tocsc()


def _worst_condition(problem: Problem) -> float:
    """Return the condition of the normal matrix from which it says nothing any more."""
    known = [np.dtype(L.dtype) for _, L in problem.operators]
    coarse = max((np.finfo(d).eps for d in known if d.kind in "fc"), default=0.0)
    # Entries of the operators are rounded, too, and conditions are squared.
    return 0.1 / float(max(coarse**2, np.finfo(float).eps))


def _factors(N: Any, most: float) -> Callable[[Any], Any]:
    """Return what solves with a Hermitian matrix of a condition below `most`."""
    if N.dtype.char not in "dD":
        raise TypeError(
            "factorized takes float32, float64, complex64 and complex128, which SuperLU has, "
            f"got {N.dtype}; lstsq takes it"
        )
    singular = (
        f"the normal matrix of shape {N.shape} is singular to working precision: damp more, "
        "or add a penalty"
    )
    if not np.isfinite(N.data).all():
        raise ValueError("the operators must be finite, got NaN or infinite entries")
    try:
        factors = splu(
            N, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True}
        )
    except RuntimeError as error:
        raise np.linalg.LinAlgError(f"{singular} ({error})") from None
    if not _condition(N, factors) < most:
        raise np.linalg.LinAlgError(singular)

    def solve(right: Any) -> Any:
        if right.dtype.kind == "c" and N.dtype.kind != "c":
            return _arrays.by_real_parts(factors.solve, right)
        return factors.solve(np.ascontiguousarray(right, N.dtype))

    return solve


def _condition(N: Any, factors: Any) -> float:
    """Estimate |N| |N^-1| by inverse iteration, about the largest one if that is large.

    Pivots do not tell: those of some singular matrices are all far from zero.
    """
    rng = np.random.default_rng(7)
    x = rng.standard_normal(N.shape[0]).astype(N.dtype)
    growth = 0.0
    for _ in range(4):
        x /= np.linalg.norm(x)
        x = factors.solve(x)
        growth = max(growth, float(np.linalg.norm(x)))
        if not np.isfinite(growth):
            return np.inf
    return float(abs(N).sum(axis=0).max()) * growth
