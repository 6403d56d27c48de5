"""The convolution matrix with symbolic taps: the same stencils with a kernel of objects.

Needs sympy (extra ``symbolic``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from linconv import assembly
from linconv.geometry import Geometry


def conv_matrix(w: Any, in_shape: Sequence[int] | int, **options: Any) -> Any:
    """Return the matrix of a convolution with symbolic taps.

    Parameters
    ----------
    w : sympy MatrixSymbol, Matrix, Array, or nested sequence of expressions
        The taps, ``(k1..kd)`` or ``(c_out, c_in // groups, k1..kd)``.
    in_shape : tuple of int, ``(n1..nd)`` or ``(c_in, n1..nd)``
        Shape of the input.
    **options
        stride, padding, dilation, groups, boundary, flip: see
        `linconv.conv_matrix`.

    Returns
    -------
    sympy.SparseMatrix, ``(prod(out_shape), prod(in_shape))``

    Raises
    ------
    ImportError
        If sympy is not installed.
    ValueError, TypeError
        As `linconv.conv_matrix`.

    Examples
    --------
    >>> import sympy
    >>> a, b = sympy.symbols("a b")
    >>> conv_matrix([a, b], 3)
    Matrix([
    [a, b, 0],
    [0, a, b]])
    """
    try:
        import sympy
    except ImportError:
        raise ImportError(
            "linconv.symbolic needs sympy, which is not installed: "
            "pip install 'linconv[symbolic]'"
        ) from None
    if isinstance(w, sympy.MatrixExpr):
        w = w.as_explicit()
    taps = np.array(w.tolist() if hasattr(w, "tolist") else w, dtype=object)
    taps[...] = np.vectorize(sympy.sympify, otypes=[object])(taps)
    geometry = Geometry.conv(taps.shape, in_shape, **options)
    csr = assembly.conv_csr(geometry, taps)
    rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    places = zip(rows.tolist(), csr.indices.tolist(), strict=True)
    return sympy.SparseMatrix(*csr.shape, dict(zip(places, csr.data, strict=True)))
