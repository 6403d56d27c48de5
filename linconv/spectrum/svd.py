"""Norms and singular values: exact where the structure gives them, else by Lanczos.

A circular convolution is diagonalised by the Fourier transform, channels by a small matrix
per frequency.  Of an operator on a GPU only kernels, diagonals and small matrices are copied
to the host; arrays that are returned lie where the operator does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from linconv import _arrays, gpu
from linconv._arrays import host
from linconv._options import integer
from linconv.convolution import Conv
from linconv.geometry import Axis, Boundary
from linconv.operators import (
    Block,
    Diagonal,
    Identity,
    Kron,
    LinearOperator,
    Product,
    Restriction,
    Scaled,
    View,
    aslinearoperator,
)
from linconv.spectrum import circulant

# A matrix with a side up to this is decomposed whole rather than iterated on.
_SMALL = 64
# The longest side of a square matrix all of whose singular values are computed.
_DENSE = 1000
# Lanczos steps for a norm: enough for 7 digits of any operator, 8 or more of most.
_STEPS = 20_000
# The steps end when a quarter more of them adds less than this part of the squared norm.
_TOLERANCE = 1e-10


def norm(A: Any) -> float:
    """Return ``|A|_2 = max |A x|_2 / |x|_2``, the largest singular value of `A`.

    Exact, without iterating, where the structure gives it: circular convolutions
    (see `singular_values`), diagonals, views, multiples, ``B.H @ B``, blocks on a
    diagonal and Kronecker products of these.  Otherwise a small matrix is
    decomposed, and a large one takes Lanczos steps, always from the same start, to
    about 8 digits; it is then a lower bound.  Over random starts the mean error of its
    square after k steps is below ``0.103 (ln(n (k - 1)^4) / (k - 1))^2`` of it,
    whatever the gaps of the singular values [1]_.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator; NaN in its entries is not looked for.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `A` is not an operator.

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
    A = aslinearoperator(A)
    if isinstance(A, View):
        return norm(A.base)
    if isinstance(A, Scaled):
        return float(abs(A.scalar)) * norm(A.operands[0])
    if isinstance(A, Kron):
        return math.prod(map(norm, A.operands))
    if isinstance(A, Restriction):
        return math.sqrt(np.bincount(A.to("cpu").tosparse().indices).max())
    if isinstance(A, Block) and _is_diagonal(A):
        return max(map(norm, A.operands))
    half = len(A.operands) // 2 if isinstance(A, Product) else 0
    if isinstance(A, Product) and A.hermitian and len(A.operands) == 2 * half:
        right = A.operands[half:]
        return norm(Product(*right) if half > 1 else right[0]) ** 2
    values = _exact_values(A)
    if values is None:
        A, unit = _in_units(A)
        return unit * (_largest(A) if min(A.shape) > _SMALL else float(_top(A, 1)[0]))
    return float(values.max())


def singular_values(A: Any, k: int | None = None) -> np.ndarray:
    """Return the singular values of `A`, largest first.

    All of a circular convolution's are exact and cost a Fourier transform: those
    whose rule is "circular" on both sides of every axis, with stride 1 and as many
    outputs as inputs; any padding, dilation, flip, channels and groups.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.
    k : int, optional
        How many; ``min(m, n)`` by default, zeros included.

    Returns
    -------
    ndarray, ``(k,)``
        float32 for a single precision `A`, else float64.

    Raises
    ------
    ValueError
        If `k` is not in ``1 .. min(m, n)``, or too many are asked for of a large
        operator without structure.
    MemoryError
        If what has to be decomposed would take more than half of the memory.

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
    values = _exact_values(A)
    if values is None:
        B, unit = _in_units(A)
        values = unit * _top(B, count)
    single = np.dtype(A.dtype).char in "fF"
    found = np.sort(values)[::-1][:count].astype(np.float32 if single else np.float64)
    return placed(found, A)


def placed(values: Any, A: LinearOperator) -> Any:
    """Return an array where the operator lies."""
    return gpu.moved(values, A.device or gpu.device_of(values))


def _in_units(A: LinearOperator) -> tuple[LinearOperator, float]:
    """Return A in a unit, and the unit."""
    unit = unit_of(A)
    return (A, unit) if unit == 1 else (A * (1 / unit), unit)


def unit_of(A: LinearOperator) -> float:
    """Return a power of two: 1 unless squares of A's entries leave the range of numbers."""
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


def _exact_values(A: LinearOperator) -> np.ndarray | None:
    """Return all singular values that the structure gives, in no order."""
    if isinstance(A, View):
        return _exact_values(A.base)
    if isinstance(A, Scaled):
        values = _exact_values(A.operands[0])
        return None if values is None else abs(A.scalar) * values
    if isinstance(A, Identity):
        return np.ones(A.shape[0])
    if isinstance(A, Diagonal):
        return np.abs(circulant.double(host(A.diagonal))).ravel()
    if isinstance(A, Conv) and all(map(_is_circulant, A.geometry.axes)):
        return _circular_values(A)
    return None


def _is_circulant(axis: Axis) -> bool:
    rules = (Boundary.CIRCULAR, Boundary.CIRCULAR)
    return axis.boundary == rules and axis.stride == 1 and axis.out == axis.n


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
    if _largest(A, 1) == 0:
        return np.zeros(k)  # ARPACK cannot start
    values = scipy.sparse.linalg.svds(
        _in_double(A), k, v0=_start(small), return_singular_vectors=False
    )
    return np.asarray(values)


def _start(n: int) -> np.ndarray:
    """Return a vector to start from: one that blurs keep, and some of everything."""
    return 1 + np.random.default_rng(20261).standard_normal(n)


def _largest(A: LinearOperator, steps: int = _STEPS) -> float:
    """Return the largest singular value by Lanczos steps, not restarted.

    The vectors lose their orthogonality, which repeats eigenvalues but harms none; a
    restarted method takes many times the steps where the largest lie close together.
    """
    forward, adjoint = (
        (A.matvec, A.rmatvec) if A.shape[0] >= A.shape[1] else (A.rmatvec, A.matvec)
    )
    dtype: Any = complex if A.dtype.kind == "c" else float
    v = placed(_start(min(A.shape)).astype(dtype), A)
    xp = _arrays.namespace(v)
    v, last, beta = v / xp.linalg.norm(v), 0 * v, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    top, due = 0.0, 8
    for step in range(1, steps + 1):
        w = adjoint(forward(v)).astype(dtype, copy=False) - beta * last
        diagonal.append(float(xp.vdot(v, w).real))
        w -= diagonal[-1] * v
        beta = float(xp.linalg.norm(w))
        if not math.isfinite(beta):
            return math.nan
        if beta == 0 or step in (due, steps):
            which = (step - 1, step - 1)
            pair = scipy.linalg.eigh_tridiagonal(
                diagonal, beside, select="i", select_range=which
            )
            before, top, due = top, float(pair[0][0]), due + due // 4
            settled = (
                top - before <= _TOLERANCE * top and beta * abs(pair[1][-1, 0]) < 1e-4 * top
            )
            if settled or beta == 0:
                break
        beside.append(beta)
        last, v = v, w / beta
    return math.sqrt(max(top, 0.0))


def _in_double(A: LinearOperator) -> Any:
    """Return A as SciPy's solvers want it: double precision, vectors on the host."""
    dtype: Any = complex if A.dtype.kind == "c" else float

    def product(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: host(hook(placed(x.astype(dtype, copy=False), A))).astype(dtype)

    hooks: Any = {
        name: product(getattr(A, name)) for name in ("matvec", "rmatvec", "matmat", "rmatmat")
    }
    hooks["dtype"] = dtype
    return scipy.sparse.linalg.LinearOperator(A.shape, **hooks)
