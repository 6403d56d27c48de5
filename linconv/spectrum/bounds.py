"""An upper bound of the norm, without products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from linconv._arrays import host
from linconv.convolution import Conv, conv_matrix
from linconv.operators import (
    Block,
    ComplexPart,
    Kron,
    LinearOperator,
    Product,
    Reshaped,
    Scaled,
    Sum,
    View,
    aslinearoperator,
)
from linconv.spectrum.svd import exact_values


def norm_bound(A: Any) -> float:
    """Return an upper bound of ``|A|_2``, from the taps and entries alone.

    A convolution is bounded by ``sqrt(|K|_1 |K|_inf)``, the largest sums of magnitudes of
    taps over an output and over an input channel [1]_, times the same bound of the padding
    of each axis.  Sums, products and blocks are bounded by those of their operands.

    Parameters
    ----------
    A : LinearOperator, matrix, or any object of SciPy's protocol, (m, n)
        The operator.

    Returns
    -------
    float
        At least ``norm(A)``; equal to it where the structure gives all singular values.

    Raises
    ------
    TypeError
        If `A` is not an operator.

    References
    ----------
    .. [1] Golub and Van Loan, "Matrix Computations", 4th ed., corollary 2.3.2:
       ``|A|_2 <= sqrt(|A|_1 |A|_inf)``.

    Examples
    --------
    >>> import linconv
    >>> norm_bound(linconv.Conv([1, 2, 1], 100, padding=1))
    4.0
    """
    A = aslinearoperator(A)
    values = exact_values(A)
    if values is not None:
        return float(values.max())
    if isinstance(A, View):
        return norm_bound(A.base)
    if isinstance(A, Reshaped | ComplexPart):
        return norm_bound(A.operands[0])
    if isinstance(A, Scaled):
        return float(abs(A.scalar)) * norm_bound(A.operands[0])
    if isinstance(A, Sum):
        return math.fsum(map(norm_bound, A.operands))
    if isinstance(A, Product | Kron):
        return math.prod(map(norm_bound, A.operands))
    if isinstance(A, Block):
        sizes = [[0.0 if part is None else norm_bound(part) for part in row] for row in A.grid]
        return float(np.linalg.norm(sizes, 2))
    return _of_conv(A) if isinstance(A, Conv) else _of_matrix(A)


def _of_matrix(A: LinearOperator) -> float:
    matrix = abs(A.to("cpu").tosparse())
    return math.sqrt(float(matrix.sum(axis=0).max()) * float(matrix.sum(axis=1).max()))


def _of_conv(A: Conv) -> float:
    g = A.geometry
    taps = np.abs(host(A.kernel).astype(np.longdouble if A.dtype.char in "gG" else complex))
    taps = taps.reshape(g.groups, g.c_out // g.groups, g.c_in // g.groups, -1)
    square = float(taps.sum(axis=(2, 3)).max()) * float(taps.sum(axis=(1, 3)).max())
    paddings = (
        conv_matrix([1.0], axis.n, padding=[axis.padding], boundary=[axis.boundary])
        for axis in g.axes
    )
    return math.sqrt(square) * math.prod(_of_matrix(aslinearoperator(P)) for P in paddings)
