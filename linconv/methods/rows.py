"""What methods have in common that compute row by row of a batch."""

from __future__ import annotations

from typing import Self

import numpy as np

from linconv import _arrays
from linconv.geometry import Geometry


class Rows:
    """A method that computes arrays of rows, NumPy's or CuPy's: columns in, columns out.

    Subclasses implement `_rows`.  A complex vector meets a real operator as two real
    ones, which is half the work of a complex product.
    """

    dtypes: tuple[np.dtype, ...] = ()

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        self._geometry, self._kernel = geometry, kernel

    def with_kernel(self, kernel: np.ndarray) -> Self:
        """Return the products with another kernel; plans are remembered by geometry."""
        return type(self)(self._geometry, kernel)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        return self._columns(x, adjoint=False)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._columns(y, adjoint=True)

    def _columns(self, x: np.ndarray, *, adjoint: bool) -> np.ndarray:
        dtype = np.result_type(self._kernel.dtype, x.dtype)
        xp = _arrays.namespace(x)
        if x.shape[1] == 0:
            return xp.empty((self._geometry.shape[adjoint], 0), dtype)
        if dtype.kind != "c" or self._kernel.dtype.kind == "c":
            return self._rows(xp.ascontiguousarray(x.T, dtype), adjoint).T
        b = x.shape[1]
        parts = xp.concatenate((np.real(x), np.imag(x)), axis=1)
        both = self._columns(parts, adjoint=adjoint).T
        result = xp.empty((b, both.shape[1]), dtype)
        result.real, result.imag = both[:b], both[b:]
        return result.T

    def _rows(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        """Return C x, or C^H x, for rows x of the result's dtype: (b, n) -> (b, m)."""
        raise NotImplementedError(f"{type(self).__name__} must implement _rows(x, adjoint)")
