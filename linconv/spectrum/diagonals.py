"""Norms of rows and columns, and the diagonal of the normal matrix ``A^H A``."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from linconv import _arrays, gpu
from linconv._arrays import host
from linconv.convolution import Conv
from linconv.geometry import Geometry
from linconv.operators import (
    Block,
    Kron,
    LinearOperator,
    Scaled,
    Stored,
    View,
    aslinearoperator,
    with_data,
)
from linconv.spectrum.svd import placed, unit_of

# Nonzeros of a convolution matrix that are built at a time.
_ENTRIES = 1 << 22


def gram_diagonal(A: Any) -> np.ndarray:
    """Return ``diag(A^H A)``: the squared norm of every column of `A`.

    The matrix of a convolution is built a few million nonzeros at a time, never as a
    whole, also within views, multiples, blocks and Kronecker products.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.

    Returns
    -------
    ndarray, ``A.in_shape``
        Real; float64 for an integer `A`, else in the precision of `A`.

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
    return placed(_squares(A, 0), A).reshape(A.in_shape).astype(_real(A))


def column_norms(A: Any) -> np.ndarray:
    """Return the 2-norm of every column of `A`, shaped as its input.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.

    Returns
    -------
    ndarray, ``A.in_shape``
        The square roots of `gram_diagonal`.

    Examples
    --------
    >>> column_norms([[3, 0], [4, 2]])
    array([5., 2.])
    """
    A = aslinearoperator(A)
    unit = unit_of(A)
    found = unit * np.sqrt(placed(_squares(A, 0, 1 / unit), A))
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
        The norms of the columns of ``A.T``, see `gram_diagonal`.

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
        units = [unit_of(part) for part in A.operands]
        parts = (
            placed(_squares(part, axis, 1 / u), A)
            for part, u in zip(A.operands, units, strict=True)
        )
        whole = functools.reduce(lambda a, b: (a.reshape(-1, 1) * b).ravel(), parts)
        return (unit * math.prod(units)) ** 2 * whole
    if isinstance(A, Block):
        lines = A.grid if axis else zip(*A.grid, strict=True)
        sums = (
            sum(placed(_squares(B, axis, unit), A) for B in line if B is not None)
            for line in lines
        )
        return np.concatenate(list(sums))
    if isinstance(A, Conv):
        return _conv_squares(A, axis, unit)
    return _summed(A.tosparse(), axis, unit)


def _summed(csr: Any, axis: int, unit: float) -> np.ndarray:
    """Return the sums of |unit entries|^2 of a CSR array along an axis, on its device."""
    weights = (unit * np.abs(csr.data).astype(float)) ** 2
    ones = _arrays.namespace(weights).ones(csr.shape[axis])
    S = Stored(with_data(csr, weights), csr.shape[1], csr.shape[0])
    return S.matvec(ones) if axis else S.rmatvec(ones)


def _conv_squares(A: Conv, axis: int, unit: float) -> np.ndarray:
    """Sum over blocks of rows of a convolution, or over pairs of large channels."""
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
    """Sum over blocks of rows along the first axis of the output."""
    lines = g.out_shape[0]
    step = max(1, _ENTRIES * lines // max(1, g.nnz))
    parts: list[np.ndarray] = []
    total = np.zeros(g.shape[1])
    for start in range(0, lines, step):
        csr = gpu.host.conv_matrix(g, kernel, rows=(start, min(start + step, lines)))
        if axis:
            parts.append(_summed(csr, 1, unit))
        else:
            total += _summed(csr, 0, unit)
    return np.concatenate(parts) if axis else total
