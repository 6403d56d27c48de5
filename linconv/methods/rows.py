"""The common part of methods that multiply the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np

from linconv import _arrays
from linconv.geometry import Geometry


def in_blocks(product: Callable[[Any], Any], rows: Any) -> Any:
    """Return the product of rows, (b, n) -> (b, m), multiplied in blocks that fit a cache."""
    blocks = _arrays.blocks(len(rows), rows.nbytes // len(rows))
    if len(blocks) == 1 or _arrays.on_device(rows):
        return product(rows)
    first = product(rows[blocks[0]])
    results = np.empty((len(rows), first.shape[1]), first.dtype)
    results[blocks[0]] = first
    for block in blocks[1:]:
        results[block] = product(rows[block])
    return results


class Rows:
    """A method that multiplies arrays of rows, NumPy's or CuPy's: columns in, columns out.

    Subclasses implement `_rows`.
    """

    dtypes: tuple[np.dtype, ...] = ()

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        self._geometry, self._kernel = geometry, kernel

    def with_kernel(self, kernel: np.ndarray) -> Self:
        """Return the products with another kernel."""
        return type(self)(self._geometry, kernel)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        return self._columns(x, adjoint=False)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._columns(y, adjoint=True)

    def _columns(self, x: np.ndarray, *, adjoint: bool) -> np.ndarray:
        dtype = np.result_type(self._kernel.dtype, x.dtype)
        if dtype.kind == "c" and self._kernel.dtype.kind != "c":
            return _arrays.by_real_parts(partial(self._columns, adjoint=adjoint), x)
        xp, rows = _arrays.namespace(x), x.T
        if not len(rows):
            return xp.empty((self._geometry.shape[adjoint], 0), dtype)
        # Large vectors are multiplied one by one anyway; small ones are copied in a cache.
        large = len(_arrays.blocks(len(rows), rows.nbytes // len(rows))) == len(rows)
        if large or rows.flags.c_contiguous:
            return self._rows(xp.ascontiguousarray(rows, dtype), adjoint).T

        def product(part: Any) -> Any:
            return self._rows(xp.ascontiguousarray(part, dtype), adjoint)

        return in_blocks(product, rows).T

    def _rows(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        """Return C x, or C^H x, for rows x of the result's dtype: (b, n) -> (b, m)."""
        raise NotImplementedError(f"{type(self).__name__} must implement _rows(x, adjoint)")


class ShapedRows(Rows):
    """A method that multiplies shaped arrays, (b, channels, *spatial), in blocks of rows.

    Subclasses implement `_forward`, the product with C, and `_adjoint`, that with C^H.
    """

    _forward: Callable[[Any], Any]
    _adjoint: Callable[[Any], Any]

    def _rows(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        return in_blocks(partial(self._block, adjoint=adjoint), x)

    def _block(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        g = self._geometry
        lead = (len(x),) if g.channels else (len(x), 1)
        shaped = x.reshape(*lead, *(g.out_shape if adjoint else g.in_shape))
        product = self._adjoint(shaped) if adjoint else self._forward(shaped)
        return product.astype(x.dtype, copy=False).reshape(len(x), -1)
