"""Products of a matrix that is held where its vectors lie, and matrices that select.

May import _arrays, _products, _gpu, _options; knows nothing of operators.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from linconv import _arrays, gpu
from linconv._arrays import CsrArray, is_mask
from linconv._options import sizes
from linconv.methods import csr_products


class Held:
    """Hooks of an operator that holds a canonical CSR array, NumPy's or CuPy's."""

    _csr: CsrArray

    @property
    def device(self) -> str:
        """Where the matrix lies."""
        return "gpu" if gpu.is_matrix(self._csr) else "cpu"

    def _moved(self, device: str) -> Self:
        moved = copy.copy(self)
        if device == "gpu":
            moved._csr = gpu.to_device(self._csr)
        else:
            csr = _arrays.sparse_array(*gpu.to_host(self._csr))
            moved._csr = csr_products.read_only(csr)
        return moved

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return (csr_products if self.device == "cpu" else gpu).forward(self._csr, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return (csr_products if self.device == "cpu" else gpu).adjoint(self._csr, X)

    def _nnz(self) -> int:
        return self._csr.nnz

    def _tosparse(self) -> CsrArray:
        return self._csr.copy() if self.device == "cpu" else gpu.copied(self._csr)


def selection(
    where: Any, in_shape: Sequence[int] | int | None, dtype: Any
) -> tuple[CsrArray, tuple[int, ...], tuple[int, ...]]:
    """Return the matrix that keeps ``x[where]``, the shape of x and that of what is kept."""
    if any(map(_arrays.on_device, where if isinstance(where, tuple) else (where,))):
        raise TypeError(
            "a mask or indices must be NumPy arrays, on the host, got a CuPy array: pass "
            "where.get(), and move the operator with .to('gpu')"
        )
    if not isinstance(where, (tuple, slice, type(...))):
        given = where
        try:
            where = np.asarray(where)
        except ValueError as error:
            raise ValueError(f"where is not a rectangular array: {error}") from None
        if not where.size and not hasattr(given, "dtype"):
            where = where.astype(int)  # as NumPy takes an empty list
    mask: Any = where if is_mask(where) else None
    if in_shape is None and mask is not None:
        in_shape = mask.shape
    if in_shape is None:
        raise ValueError(f"in_shape is needed: {where!r} does not tell it, as a mask does")
    shape = sizes(in_shape, "in_shape")
    n = math.prod(shape)
    if mask is not None and mask.shape != shape:
        raise ValueError(f"a mask needs the shape of the arrays, {shape}, got {mask.shape}")
    try:
        places = np.arange(n).reshape(shape)[where]
    except IndexError as error:
        raise IndexError(
            f"rows, columns and samples are taken as in x[where], on arrays of shape {shape}: "
            f"{error}"
        ) from None
    if not places.size:
        raise ValueError(f"nothing is kept of arrays of shape {shape}")
    index = _arrays.index_dtype((places.size, n), places.size)
    indptr = np.arange(places.size + 1, dtype=index)
    ones = _arrays.as_values(np.ones(places.size, np.int8), dtype, "1")
    csr = ones, places.ravel().astype(index), indptr, (places.size, n)
    return _arrays.sparse_array(*csr), shape, places.shape
