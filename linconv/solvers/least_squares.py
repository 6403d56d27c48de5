"""Least squares with operators: an iterative solver and a direct one.

    minimise  |A x - b|^2 + damp^2 |x|^2 + sum_i w_i |L_i x - t_i|^2

Everything else - sparsity, total variation, bounds, eigenvalues - is for SciPy, PyLops
and pyproximal, which take linconv's operators as they are.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse.linalg import splu

from linconv._arrays import host
from linconv._options import at_least, listed, tolerance
from linconv.methods.memory import Spare
from linconv.operators import Identity, LinearOperator, aslinearoperator
from linconv.solvers.cgls import Run
from linconv.solvers.problem import Squares
from linconv.solvers.vectors import copy, difference, norms

__all__ = ["Solution", "factorized", "lstsq"]

# Iterations on a GPU between looks from the host, for each of which it must wait.
_SELDOM = 16


@dataclass(frozen=True, eq=False)
class Solution:
    """What `lstsq` found, and whether to trust it.

    Attributes
    ----------
    x : ndarray
        The solution, in the shape that `b` asks for: flat for flat, shaped for shaped.
    converged : bool
        Whether the gradient is below the tolerance, for all right-hand sides.
    iterations : int
        Each took one product with every operator and one with its adjoint.
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
        Flat, ``(m,)`` or columns ``(m, k)``; or shaped, ``(*batch, *A.out_shape)``.
        Several right-hand sides are solved at once.
    damp : float
        Its square weighs ``|x|^2``, as in `scipy.sparse.linalg.lsqr`.
    penalties : sequence of (weight, L) or (weight, L, target)
        Each adds ``weight |L x - target|^2``; the weight itself is not squared.
    x0 : array_like, optional
        Where to start, in the shape of the solution; zero by default.
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
    Conjugate gradients on the normal equations, which are never formed [1]_.  What is
    not finite, does not converge, has no exact or no unique solution is said in
    ``message``, and ``converged`` is confirmed by a residual computed afresh.

    For a CuPy `b` the iteration stays on the GPU, and the host looks at it every 16th time
    only, or every time where there is a `callback` or a progress bar.

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
    squares = Squares(A, b, x0, damp, penalties)
    if maxiter is None:
        maxiter = min(max(2 * squares.n, 100), 1000)
    maxiter = at_least(0, maxiter, "maxiter")
    if not squares.finite:
        return _refused(squares)
    patient = squares.xp is not np and callback is None and not progress
    with Spare().in_use(), _bar(progress, maxiter) as bar:
        run = Run(squares, _applied(preconditioner, squares), tol)
        while not run.finished and run.iterations < maxiter:
            run.advance(min(_SELDOM if patient else 1, maxiter - run.iterations))
            if callback is not None:
                callback(squares.restored(copy(run.x)))
            if bar is not None:
                bar.set_postfix_str(f"gradient {run.progress:.1e}", refresh=False)
                bar.update()
        return _solution(squares, run)


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
        ``solve(b)`` returns the x that minimises the sum of squares of `lstsq`; `b` and
        x have the same shapes as there.

    Raises
    ------
    numpy.linalg.LinAlgError
        If N is singular to working precision: damp, or penalise more.
    ValueError, TypeError
        As `lstsq`; TypeError too if an operator lies on a GPU.

    Notes
    -----
    Sparse LU factors in the order of minimum degree (SuperLU).  Those of a two-dimensional
    convolution fill in: about ``n log2(n)`` entries for small kernels, many more for
    large ones.  Best for one dimension, small images and many right-hand sides.

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
    squares = Squares(operator, zero, None, damp, plain)
    rows = sum(L.shape[0] for _, L in squares.operators)
    if rows < squares.n and not squares.shift:
        raise np.linalg.LinAlgError(
            f"the normal matrix is singular, there are {rows} equations for {squares.n} "
            "unknowns: damp, or add a penalty"
        )
    inverse = _factors(_normal_matrix(squares), _worst_condition(squares))

    def solve(b: Any) -> Any:
        """Return the x that minimises the sum of squares for `b`."""
        task = Squares(operator, b, None, damp, penalties)
        if not task.finite:
            raise ValueError("b must be finite, got NaN or infinite values")
        right = task.gradient(task.first_residuals(), task.zeros(task.n))
        return task.shaped(inverse(right) * task.scale)

    return solve


def _normal_matrix(squares: Squares) -> Any:
    """Return the matrix of the normal equations, in double precision: it has squares."""
    total = squares.shift * Identity(squares.n).tosparse()
    for w, L in squares.operators:
        M = L.tosparse()
        M = M.astype(np.result_type(M.dtype, float), copy=False)
        total = total + w * (M.conj().T.tocsr() @ M)
    return total.tocsc()


def _worst_condition(squares: Squares) -> float:
    """Return the condition of the normal matrix from which it says nothing any more."""
    known = [np.dtype(L.dtype) for _, L in squares.operators]
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
            return factors.solve(right.real) + 1j * factors.solve(right.imag)
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


def _applied(preconditioner: Any, squares: Squares) -> Callable[[Any], Any] | None:
    """Return the preconditioner as a function of columns."""
    if preconditioner is None:
        return None
    shape = getattr(preconditioner, "shape", None)
    if shape is None and callable(preconditioner):
        return _in_units(preconditioner, squares)
    if shape != (squares.n, squares.n):
        raise ValueError(
            f"the preconditioner must have shape {(squares.n, squares.n)} or be callable, got "
            f"{type(preconditioner).__name__} of shape {shape}"
        )
    if squares.xp is np:
        return _in_units(aslinearoperator(preconditioner).matmat, squares)
    return _in_units(lambda s: preconditioner @ s, squares)


def _in_units(apply: Callable[[Any], Any], squares: Squares) -> Callable[[Any], Any]:
    """Return a preconditioner of operators that may come to be scaled."""

    def applied(s: Any) -> Any:
        z = apply(s if squares.unit == 1 else s / squares.unit)
        if getattr(z, "shape", None) != s.shape:
            raise ValueError(
                f"the preconditioner must return columns of shape {s.shape}, got "
                f"{getattr(z, 'shape', type(z).__name__)}"
            )
        return z if squares.unit == 1 else z / squares.unit

    return applied


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


def _refused(squares: Squares) -> Solution:
    """Return what there is to say of numbers that are not finite."""
    x = squares.zeros(squares.n) * math.nan
    norm = math.nan if squares.k == 1 else np.full(squares.k, math.nan)
    message = "not solved: b, x0 or a target holds NaN or infinite values"
    return Solution(squares.shaped(x), False, 0, norm, message)


def _solution(squares: Squares, run: Run) -> Solution:
    x = run.solution()
    residual = norms(difference(squares.targets[0], squares.operators[0][1].matmat(x)))
    converged = run.stopped and not run.trouble
    norm: Any = residual * host(squares.scale)
    if squares.k == 1:
        norm = float(norm[0])
    x, message = squares.restored(x), run.message(residual)
    return Solution(x, converged, run.iterations, norm, message)
