"""Norms and singular values: exact where the structure gives them, else by Lanczos.

The Fourier transform diagonalises a circular convolution, or leaves one small matrix of
channels per frequency.  Of an operator on a GPU only kernels, diagonals and small matrices
are copied to the host; returned arrays are on the operator's device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from linconv import _arrays, gpu
from linconv._arrays import host
from linconv._options import integer, tolerance
from linconv.convolution import Conv
from linconv.operators import (
    Block,
    Diagonal,
    Identity,
    Kron,
    LinearOperator,
    Product,
    Reshaped,
    Restriction,
    Scaled,
    View,
    aslinearoperator,
)
from linconv.solvers import vectors
from linconv.spectrum import circulant

# A matrix with at most so many rows or columns is decomposed as a dense matrix.
_SMALL = 64
# The largest number of rows and columns for which all singular values are computed.
_DENSE = 1000
# Lanczos steps for a norm: enough for 7 digits of any operator, and for 8 of most.
_STEPS = 20_000


def norm(A: Any, *, tol: float = 1e-8) -> float:
    """Return ``|A|_2 = max |A x|_2 / |x|_2``, the largest singular value of `A`.

    Exact, without iterating, where the structure gives it: circular convolutions
    (see `singular_values`), diagonals, views, multiples, ``B.H @ B``, blocks on a
    diagonal and Kronecker products of these.  Otherwise a small matrix is
    decomposed, and the norm of a large one is found by Lanczos steps, always from the same
    start; the result is then a lower bound, and `norm_bound` gives an upper one.  Over
    random starts the mean relative error of the squared norm after k steps is below
    ``0.103 (ln(n (k - 1)^4) / (k - 1))^2``, whatever the gaps of the singular values [1]_.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator; its entries are not checked for NaN.
    tol : float
        Relative error to aim at: Lanczos stops where a quarter more steps adds less than a
        hundredth of `tol` to the squared norm.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `A` is not an operator.
    ValueError
        If `tol` is not at least 0 and below 1.

    References
    ----------
    .. [1] J. Kuczynski and H. Wozniakowski, "Estimating the largest eigenvalue by the
       power and Lanczos algorithms with a random start", SIAM J. Matrix Anal. Appl. 13
       (1992) 1094-1122, doi:10.1137/0613066, theorem 3.2.

    Examples
    --------
    >>> import linconv
    >>> norm(linconv.Conv([1, 2, 1], 6, padding=1, boundary="circular"))
    4.0
    >>> round(norm([[1, 1], [0, 1]]), 6)  # the golden ratio
    1.618034
    """
    A, tol = aslinearoperator(A), tolerance(tol)
    again = partial(norm, tol=tol)
    if isinstance(A, View | Reshaped):
        return again(A.base if isinstance(A, View) else A.operands[0])
    if isinstance(A, Scaled):
        return float(abs(A.scalar)) * again(A.operands[0])
    if isinstance(A, Kron):
        return math.prod(map(again, A.operands))
    if isinstance(A, Restriction):
        return math.sqrt(np.bincount(A.to("cpu").tosparse().indices).max())
    if isinstance(A, Block) and _is_diagonal(A):
        return max(map(again, A.operands))
    half = len(A.operands) // 2 if isinstance(A, Product) else 0
    if isinstance(A, Product) and A.hermitian and len(A.operands) == 2 * half:
        right = A.operands[half:]
        return again(Product(*right) if half > 1 else right[0]) ** 2
    values = exact_values(A)
    if values is None:
        A, unit = _in_units(A)
        return unit * (_largest(A, tol) if min(A.shape) > _SMALL else float(_top(A, 1)[0]))
    return float(values.max())


def singular_values(A: Any, k: int | None = None) -> np.ndarray:
    """Return the singular values of `A`, largest first.

    The singular values of a circular convolution are exact and cost a Fourier transform.
    A convolution is circular if the rule of both sides of every axis is "circular", the
    stride is 1 and there are as many outputs as inputs; any padding, dilation, flip,
    channels and groups will do.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.
    k : int, optional
        Number of singular values; ``min(m, n)`` by default, zeros included.

    Returns
    -------
    ndarray, ``(k,)``
        float32 for a single precision `A`, else float64.

    Raises
    ------
    ValueError
        If `k` is not in ``1 .. min(m, n)``, or too large for a large operator without
        structure.
    MemoryError
        If the decomposition would take more than half of the memory.

    References
    ----------
    Sedghi, Gupta and Long, "The singular values of convolutional layers", ICLR 2019,
    arXiv:1805.10408, theorem 6: one small matrix per frequency.

    Examples
    --------
    >>> import linconv
    >>> singular_values(linconv.Conv([1, 1], 4, padding="same", boundary="circular")).round(6)
    array([2.      , 1.414214, 1.414214, 0.      ])
    >>> singular_values([[3, 0, 0], [0, 4, 0]])
    array([4., 3.])
    """
    A = aslinearoperator(A)
    most = min(A.shape)
    count = most if k is None else integer(k, "k")
    if not 1 <= count <= most:
        raise ValueError(
            f"k must be in 1..{most} = min(shape) for an operator of shape {A.shape}, got {k}"
        )
    values = exact_values(A)
    if values is None:
        B, unit = _in_units(A)
        values = unit * _top(B, count)
    single = np.dtype(A.dtype).char in "fF"
    found = np.sort(values)[::-1][:count].astype(np.float32 if single else np.float64)
    return placed(found, A)


def placed(values: Any, A: LinearOperator) -> Any:
    """Return an array on the operator's device."""
    return gpu.moved(values, A.device or gpu.device_of(values))


def _in_units(A: LinearOperator) -> tuple[LinearOperator, float]:
    """Return A divided by its unit, and the unit."""
    unit = unit_of(A)
    return (A, unit) if unit == 1 else (A * (1 / unit), unit)


def unit_of(A: LinearOperator) -> float:
    """Return a power of two: 1 unless squares of A's entries over- or underflow."""
    if np.finfo(np.result_type(A.dtype, np.float32)).maxexp < np.finfo(float).maxexp:
        return 1.0
    size = float(abs(A.matvec(placed(_start(A.shape[1]), A))).max())
    if size == 0 or not math.isfinite(size) or 1e-100 <= size <= 1e100:
        return 1.0
    return 2.0 ** max(round(math.log2(size)), -1000)


def _is_diagonal(A: Block) -> bool:
    """Whether every row and every column of blocks holds one operator."""
    rows = [[part is not None for part in row] for row in A.grid]
    return all(sum(line) == 1 for line in (*rows, *zip(*rows, strict=True)))


def exact_values(A: LinearOperator) -> np.ndarray | None:
    """Return all singular values, unordered, if the structure gives them."""
    if isinstance(A, View):
        return exact_values(A.base)
    if isinstance(A, Scaled):
        values = exact_values(A.operands[0])
        return None if values is None else abs(A.scalar) * values
    if isinstance(A, Identity):
        return np.ones(A.shape[0])
    if isinstance(A, Diagonal):
        return np.abs(circulant.double(host(A.diagonal))).ravel()
    axes = A.geometry.axes if isinstance(A, Conv) else ()
    if axes and all(a.stride == 1 and circulant.is_circular(a, a.n) for a in axes):
        return _circular_values(A)
    return None


def _circular_values(A: Conv) -> np.ndarray:
    """Return the singular values of the (c_out, c_in) matrices of all frequencies."""
    g = A.geometry
    lengths = tuple(axis.n for axis in g.axes)
    symbol = circulant.transformed(A, lengths, real=False, optimal=False)
    # (groups, o, i, n1..nd) -> (frequencies, groups, o, i)
    matrices = np.moveaxis(symbol.reshape(*symbol.shape[:3], -1), -1, 0)
    if matrices.shape[-2:] == (1, 1):
        values = np.abs(matrices)
    else:
        values = np.linalg.svd(matrices, compute_uv=False)
    return values.ravel()


def _top(A: LinearOperator, k: int) -> np.ndarray:
    """Return the k largest singular values, of the dense matrix or by Lanczos."""
    small = min(A.shape)
    what = f"the decomposition of a matrix of shape {A.shape}"
    if small <= _SMALL or (2 * k > small and small <= _DENSE):
        item = np.dtype(complex if A.dtype.kind == "c" else float).itemsize
        _arrays.require_memory(
            3 * item * math.prod(A.shape), what, "ask for fewer singular values with k"
        )
        return np.linalg.svd(circulant.double(A.to("cpu").toarray()), compute_uv=False)[:k]
    if 2 * k > small:
        raise ValueError(
            f"{k} of {small} singular values need the dense matrix, which is made for "
            f"up to {_DENSE} rows or columns: pass k <= {small // 2}, shape {A.shape}"
        )
    if _largest(A, 0, 1) == 0:
        return np.zeros(k)  # ARPACK cannot start
    values = scipy.sparse.linalg.svds(
        _in_double(A), k, v0=_start(small), return_singular_vectors=False
    )
    return np.asarray(values)


def _start(n: int) -> np.ndarray:
    """Return a start for Lanczos: a constant, which blurs preserve, plus noise."""
    return 1 + np.random.default_rng(20261).standard_normal(n)


def _largest(A: LinearOperator, tol: float, steps: int = _STEPS) -> float:
    """Return the largest singular value by Lanczos steps without restarts.

    The vectors lose their orthogonality, which repeats eigenvalues but leaves them accurate.
    A restarted method takes many times the steps where the largest values are close.
    """
    tall = A.shape[0] >= A.shape[1]
    forward, adjoint = (A.matmat, A.rmatmat) if tall else (A.rmatmat, A.matmat)
    dtype: Any = complex if A.dtype.kind == "c" else float
    v = placed(_start(min(A.shape)).astype(dtype)[:, None], A)
    # Not BLAS, whose threads wait by spinning on the cores that the products need.
    dots = (vectors if isinstance(v, np.ndarray) else gpu.vectors).dots
    v, last, beta = v / math.sqrt(dots(v, v)[0]), 0 * v, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    top, due = 0.0, 8
    for step in range(1, steps + 1):
        w = adjoint(forward(v)).astype(dtype, copy=False) - beta * last
        diagonal.append(float(dots(v, w)[0]))
        w -= diagonal[-1] * v
        beta = math.sqrt(dots(w, w)[0])
        if not math.isfinite(beta):
            return math.nan
        if beta == 0 or step in (due, steps):
            which = (step - 1, step - 1)
            pair = scipy.linalg.eigh_tridiagonal(
                diagonal, beside, select="i", select_range=which
            )
            before, top, due = top, float(pair[0][0]), due + due // 4
            rest = beta * abs(pair[1][-1, 0])
            settled = top - before <= 0.01 * tol * top and rest < max(1e-4, tol) * top
            if settled or beta == 0:
                break
        beside.append(beta)
        last, v = v, w / beta
    return math.sqrt(max(top, 0.0))


def _in_double(A: LinearOperator) -> Any:
    """Return A for SciPy's solvers: in double precision, with vectors on the host."""
    dtype: Any = complex if A.dtype.kind == "c" else float

    def product(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: host(hook(placed(x.astype(dtype, copy=False), A))).astype(dtype)

    hooks: Any = {
        name: product(getattr(A, name)) for name in ("matvec", "rmatvec", "matmat", "rmatmat")
    }
    hooks["dtype"] = dtype
    return scipy.sparse.linalg.LinearOperator(A.shape, **hooks)
