"""Norms, singular values and circulant preconditioners of operators.

What the structure tells exactly is never iterated for: a circular convolution is
diagonalised by the Fourier transform, channels by a small matrix per frequency.  Of an
operator on a GPU only kernels, diagonals and small matrices are copied to the host; arrays
that are returned lie where the operator does.
May import convolution, blocks and what lies below them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from linconv import _arrays, _circulant, _gpu, assembly
from linconv._circulant import Circulant as Circulant
from linconv._columns import host
from linconv._map import common_device
from linconv._options import integer
from linconv._squares import listed, weight, weight_and_operator
from linconv.blocks import Block, Diagonal, Kron
from linconv.convolution import Conv
from linconv.geometry import Axis, Boundary, Geometry
from linconv.linop import (
    Identity,
    LinearOperator,
    Product,
    Restriction,
    Scaled,
    View,
    aslinearoperator,
)

# A matrix with a side up to this is decomposed whole rather than iterated on.
_SMALL = 64
# The longest side of a square matrix all of whose singular values are computed.
_DENSE = 1000
# Lanczos steps for a norm: enough for 7 digits of any operator, 8 or more of most.
_STEPS = 20_000
# They end when a quarter more of them adds less than this part of the squared norm.
_TOLERANCE = 1e-10
# Nonzeros of a convolution matrix built at a time for its columns' norms.
_ENTRIES = 1 << 22


def norm(A: Any) -> float:
    """Return ``|A|_2 = max |A x|_2 / |x|_2``, the largest singular value of `A`.

    Exact, without iterating, where the structure tells it: circular convolutions
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
    return _placed(found, A)


def _placed(values: Any, A: LinearOperator) -> Any:
    """Return an array where the operator lies."""
    if A.device != "gpu" or _arrays.on_device(values):
        return values
    return _gpu.library().asarray(values)


def _in_units(A: LinearOperator) -> tuple[LinearOperator, float]:
    """Return A in a unit, and the unit."""
    unit = _unit(A)
    return (A, unit) if unit == 1 else (A * (1 / unit), unit)


def _unit(A: LinearOperator) -> float:
    """Return a power of two: 1 unless squares of A's entries leave the range of numbers."""
    if np.finfo(np.result_type(A.dtype, np.float32)).maxexp < np.finfo(float).maxexp:
        return 1.0
    size = float(abs(A.matvec(_placed(_start(A.shape[1]), A))).max())
    if size == 0 or not math.isfinite(size) or 1e-100 <= size <= 1e100:
        return 1.0
    return 2.0 ** max(round(math.log2(size)), -1000)


def _is_diagonal(A: Block) -> bool:
    """Whether every row and every column of blocks holds one operator."""
    rows = [[part is not None for part in row] for row in A.grid]
    return all(sum(line) == 1 for line in (*rows, *zip(*rows, strict=True)))


def _exact_values(A: LinearOperator) -> np.ndarray | None:
    """Return all singular values that the structure tells, in no order."""
    if isinstance(A, View):
        return _exact_values(A.base)
    if isinstance(A, Scaled):
        values = _exact_values(A.operands[0])
        return None if values is None else abs(A.scalar) * values
    if isinstance(A, Identity):
        return np.ones(A.shape[0])
    if isinstance(A, Diagonal):
        return np.abs(_circulant.double(host(A.diagonal))).ravel()
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
    symbol = _circulant.transformed(A, lengths, real=False, optimal=False)
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
        return np.linalg.svd(_circulant.double(A.to("cpu").toarray()), compute_uv=False)[:k]
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
    ahead, back = (A.matvec, A.rmatvec) if A.shape[0] >= A.shape[1] else (A.rmatvec, A.matvec)
    dtype: Any = complex if A.dtype.kind == "c" else float
    v = _placed(_start(min(A.shape)).astype(dtype), A)
    xp = _arrays.namespace(v)
    v, last, beta = v / xp.linalg.norm(v), 0 * v, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    top, due = 0.0, 8
    for step in range(1, steps + 1):
        w = back(ahead(v)).astype(dtype, copy=False) - beta * last
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
        return lambda x: host(hook(_placed(x.astype(dtype, copy=False), A))).astype(dtype)

    hooks: Any = {
        name: product(getattr(A, name)) for name in ("matvec", "rmatvec", "matmat", "rmatmat")
    }
    hooks["dtype"] = dtype
    return scipy.sparse.linalg.LinearOperator(A.shape, **hooks)


def gram_diagonal(A: Any) -> np.ndarray:
    """Return ``diag(A^H A)``: the squared norm of every column of `A`.

    The matrix of a convolution is built a few million nonzeros at a time, never
    whole; so are those of views, multiples, blocks and Kronecker products of some.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.

    Returns
    -------
    ndarray, ``A.in_shape``
        Real; float64 for an integer `A`, else of its precision.

    Raises
    ------
    MemoryError
        If the matrix of any other operator does not fit.

    Examples
    --------
    >>> import linconv
    >>> gram_diagonal(linconv.Conv([1, 2, 3], 5))
    array([ 1.,  5., 14., 13.,  9.])
    """
    A = aslinearoperator(A)
    return _placed(_squares(A, 0), A).reshape(A.in_shape).astype(_real(A))


def column_norms(A: Any) -> np.ndarray:
    """Return the 2-norm of every column of `A`, shaped as its input.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.

    Returns
    -------
    ndarray, ``A.in_shape``
        The square roots of `gram_diagonal`, which says more.

    Examples
    --------
    >>> column_norms([[3, 0], [4, 2]])
    array([5., 2.])
    """
    A = aslinearoperator(A)
    unit = _unit(A)
    found = unit * np.sqrt(_placed(_squares(A, 0, 1 / unit), A))
    return found.reshape(A.in_shape).astype(_real(A))


def _real(A: LinearOperator) -> np.dtype:
    """Return the dtype of sums over entries of A."""
    dtype = np.result_type(np.float32 if A.dtype.kind in "fc" else float, A.dtype)
    return np.finfo(dtype).dtype


def row_norms(A: Any) -> np.ndarray:
    """Return the 2-norm of every row of `A`, shaped as its output.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.

    Returns
    -------
    ndarray, ``A.out_shape``
        Those of the columns of ``A.T``, see `gram_diagonal`.

    Examples
    --------
    >>> row_norms([[3, 4], [0, 2]])
    array([5., 2.])
    """
    return column_norms(aslinearoperator(A).T)


def _squares(A: LinearOperator, axis: int, unit: float = 1.0) -> np.ndarray:
    """Return the sums of |unit entries|^2 down the columns (axis 0) or along the rows (1)."""
    if isinstance(A, View):
        return _squares(A.base, axis ^ A._transposes, unit)
    if isinstance(A, Scaled):
        return _squares(A.operands[0], axis, unit * float(abs(A.scalar)))
    if isinstance(A, Kron):
        units = [_unit(part) for part in A.operands]
        parts = (
            _placed(_squares(part, axis, 1 / u), A)
            for part, u in zip(A.operands, units, strict=True)
        )
        whole = functools.reduce(lambda a, b: (a.reshape(-1, 1) * b).ravel(), parts)
        return (unit * math.prod(units)) ** 2 * whole
    if isinstance(A, Block):
        lines = A.grid if axis else zip(*A.grid, strict=True)
        sums = (
            sum(_placed(_squares(B, axis, unit), A) for B in line if B is not None)
            for line in lines
        )
        return np.concatenate(list(sums))
    if isinstance(A, Conv):
        return _conv_squares(A, axis, unit)
    return _summed(A.tosparse(), axis, unit)


def _summed(csr: Any, axis: int, unit: float) -> np.ndarray:
    """Return the sums of |unit entries|^2 of a CSR array along an axis, where it lies."""
    weights = (unit * np.abs(csr.data).astype(float)) ** 2
    if _gpu.is_matrix(csr):
        squares = _gpu.sparse_array(weights, csr.indices, csr.indptr, csr.shape)
        ones = _arrays.namespace(weights).ones((csr.shape[axis], 1))
        return (_gpu.forward if axis else _gpu.adjoint)(squares, ones)[:, 0]
    if axis == 0:
        return np.bincount(csr.indices, weights, csr.shape[1])
    rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    return np.bincount(rows, weights, csr.shape[0])


def _conv_squares(A: Conv, axis: int, unit: float) -> np.ndarray:
    """Add up the blocks of rows of a convolution; one pair of channels at a time if big."""
    g, kernel = A.geometry, host(A.kernel)
    lines = g.out_shape[0]
    if g.channels is None or g.nnz <= _ENTRIES * lines:
        return _block_squares(g, kernel, axis, unit)
    per_group, rows = g.c_in // g.groups, g.c_out // g.groups
    alone = replace(g, channels=None, groups=1)
    total = np.zeros((g.c_out if axis else g.c_in, alone.shape[1 - axis]))
    for o, i in itertools.product(range(g.c_out), range(per_group)):
        where = o if axis else o // rows * per_group + i
        total[where] += _block_squares(alone, kernel[o, i], axis, unit)
    return total.ravel()


def _block_squares(g: Geometry, kernel: np.ndarray, axis: int, unit: float) -> np.ndarray:
    """Add up blocks of rows along the first axis of the output."""
    lines = g.out_shape[0]
    step = max(1, _ENTRIES * lines // max(1, g.nnz))
    parts: list[np.ndarray] = []
    total = np.zeros(g.shape[1])
    for start in range(0, lines, step):
        csr = assembly.conv_csr(g, kernel, rows=(start, min(start + step, lines)))
        if axis:
            parts.append(_summed(csr, 1, unit))
        else:
            total += _summed(csr, 0, unit)
    return np.concatenate(parts) if axis else total


def circulant_preconditioner(
    A: Any,
    damp: float = 0,
    penalties: Sequence[tuple] = (),
    *,
    kind: str = "embedded",
) -> Circulant:
    """Return an approximate inverse of ``A^H A + damp^2 I + sum w L^H L``, by FFT.

    It is Hermitian and positive definite: the ``M`` of `scipy.sparse.linalg.cg` on
    the normal equations of ``|A x - b|^2 + damp^2 |x|^2 + sum w |L x|^2``.

    - "embedded" takes a convolution as what it is on a larger circle, where it is
      diagonal, inverts there and cuts out: ``P (|S|^2 + ...)^-1 P^T`` [2]_.  P takes
      zeros away, and averages the samples that the boundary rule of `A` copies.
    - "optimal" takes the circulant matrix C nearest to each convolution, the
      minimiser of ``|C - A|_F`` [1]_: ``(|C|^2 + ...)^-1``.  Each axis averages the
      wrapped diagonals of its taps, ``c_j = 1/n sum P[p, q] over p - q = j mod n``.

    Where every axis is circular they are one, and the inverse is exact.  Elsewhere
    "embedded" needs fewer iterations: for a 9 x 9 blur with "zeros", a third of
    "optimal" and a fifth of none; the other rules gain less (see Notes).

    Parameters
    ----------
    A : LinearOperator
        A `Conv`, or made of such by views, multiples, sums, products, `Identity` and
        `Diagonal`; or a `vstack` of these, itself in no view, sum or product; behind a
        `Restriction` or `Diagonal` or not.  A mask m counts as the mean of ``|m|^2``,
        and so does a stride.
    damp : float
        Of the normal equations, >= 0.
    penalties : sequence of (weight, L) or (weight, L, target)
        Those of `lstsq`: weights w >= 0 and operators L, of the same kinds as `A`; no
        target changes the preconditioner.
    kind : str
        "embedded" or "optimal".

    Returns
    -------
    Circulant, ``(n, n)``
        Single precision if all operators are; complex if one of them is.  On the GPU
        if they are: made on the host, from their kernels.

    Raises
    ------
    ValueError
        If `damp` or a weight is negative, a penalty has other entries, the operators
        have different inputs, or "optimal" meets a stride or another number of outputs
        than inputs.
    TypeError
        If an operator is of another kind.

    Notes
    -----
    Eigenvalues below 1e-10 of the largest are raised to it before inversion, so that
    a singular circulant without `damp` does not explode.  Axes of length n with k taps
    need circles of about ``n + 4 k`` samples, wide padding included up to k.

    Iterations of `scipy.sparse.linalg.cg` to 1e-6, 256 x 256 samples, a Gaussian of 9 x 9
    taps (sigma 2), damp 0.01, "same" (valid needs "embedded"):

    ========== ===== ======= ========= ========= =========== =====
    M          zeros reflect symmetric replicate antireflect valid
    ========== ===== ======= ========= ========= =========== =====
    none       298   298     297       298       359         303
    "optimal"  187   788     292       1051      3593        --
    "embedded" 54    97      75        91        130         15
    ========== ===== ======= ========= ========= =========== =====

    References
    ----------
    .. [1] T. F. Chan, "An optimal circulant preconditioner for Toeplitz systems",
       SIAM J. Sci. Stat. Comput. 9 (1988) 766-771, doi:10.1137/0909051; R. H. Chan and
       M. K. Ng, "Conjugate gradient methods for Toeplitz systems", SIAM Review 38
       (1996) 427-482, doi:10.1137/S0036144594276474.
    .. [2] M. Hanke and J. Nagy, "Inverse Toeplitz preconditioners for ill-posed
       problems", Linear Algebra Appl. 284 (1998) 137-156.

    Examples
    --------
    >>> import linconv
    >>> A = linconv.Conv([1, 2], 3, padding=[(1, 0)], boundary="circular")
    >>> M = circulant_preconditioner(A, damp=1)
    >>> (M @ (A.H @ A + linconv.Identity(3))).toarray().round(12) + 0.0
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    if kind not in ("embedded", "optimal"):
        raise ValueError(f"kind must be 'embedded' or 'optimal', got {kind!r}")
    pairs = [(1.0, A), *map(weight_and_operator, listed(penalties))]
    terms = [(w, aslinearoperator(L)) for w, L in pairs]
    grid = _circulant.grid_of([L for _, L in terms], kind == "optimal")
    ones = np.ones((grid.channels, 1, 1, *(1,) * len(grid.lengths)))
    total: Any = weight(damp, "damp") ** 2 * ones
    for w, L in terms:
        total = _circulant.added(total, w * _circulant.gram(L, grid))
    inverse = _circulant.inverse_of(total)
    dtype = np.result_type(np.float32, *(L.dtype for _, L in terms))
    if dtype.char in "fF":
        inverse = inverse.astype(np.complex64 if inverse.dtype.kind == "c" else np.float32)
    in_shape = terms[0][1].in_shape
    M = Circulant(inverse, in_shape, grid.lengths, spread=grid.spread, dtype=dtype)
    return M.to(common_device([L for _, L in terms]) or "cpu")
