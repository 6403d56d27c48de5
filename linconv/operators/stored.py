"""Operators that store their matrix: `Matrix`, and `Restriction`, which selects samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from linconv import _arrays, gpu
from linconv._arrays import CsrArray, is_mask
from linconv._options import sizes
from linconv.operators.linear import LinearOperator


class Stored(LinearOperator):
    """An operator whose products are those of a stored, canonical CSR array."""

    def __init__(
        self, csr: CsrArray, in_shape: Sequence[int] | int, out_shape: Sequence[int] | int
    ) -> None:
        super().__init__(csr.dtype, in_shape, out_shape)
        if self.shape != csr.shape:
            raise ValueError(
                f"a matrix of shape {csr.shape} cannot map in_shape {self.in_shape} to "
                f"out_shape {self.out_shape}: they need a matrix of shape {self.shape}"
            )
        self._csr = gpu.home(csr).read_only(csr)

    def _device(self) -> str:
        return gpu.device_of(self._csr)

    def _moved(self, device: str) -> Self:
        return self._replaced(_csr=gpu.moved(self._csr, device))

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._as_data(gpu.home(self._csr).forward(self._csr, X), X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._as_data(gpu.home(self._csr).adjoint(self._csr, X), X)

    def _nnz(self) -> int:
        return self._csr.nnz

    def _tosparse(self) -> CsrArray:
        return gpu.home(self._csr).copied(self._csr)

    def _signature(self) -> str:
        return f"{super()._signature()}, nnz={self._csr.nnz}"


class Restriction(Stored):
    """Keep some samples of an array; the transpose fills the other samples with zeros.

    Parameters
    ----------
    where : bool array, or an index of an array
        A mask of the samples to keep, whose shape is then `in_shape`; or slices,
        integers and index arrays, one or a tuple of them, as in ``x[where]``.
    in_shape : int or tuple of int
        Shape of the arrays; a mask implies it.
    dtype : dtype, optional
        Dtype of the matrix.  By default it is float64, and products have the dtype of the
        data.

    Attributes
    ----------
    out_shape : tuple of int
        The shape of ``x[where]``: flat for a mask, a rectangular block for slices.

    Raises
    ------
    ValueError, IndexError
        If a mask has another shape than `in_shape`, no sample is kept, or an index is out
        of range.

    Examples
    --------
    >>> Restriction([False, True, True], dtype=int).toarray()
    array([[0, 1, 0],
           [0, 0, 1]])
    >>> Restriction((slice(1, 3), slice(0, 2)), (4, 4))
    Restriction(float64, (4, 4) -> (2, 2), nnz=4)
    """

    def __init__(
        self, where: Any, in_shape: Sequence[int] | int | None = None, *, dtype: Any = None
    ) -> None:
        csr, shape, kept = selection(where, in_shape, float if dtype is None else dtype)
        super().__init__(csr, shape, kept or 1)
        self._yield(dtype)


class Matrix(Stored):
    """The operator of a sparse array, sparse matrix or dense 2-d array, copied.

    Parameters
    ----------
    matrix : sparse array or array_like, (m, n)
        The matrix.
    in_shape, out_shape : tuple of int, optional
        Shapes of the arrays that the operator maps; flat vectors by default.

    Raises
    ------
    ValueError
        If `matrix` is not 2-d, or its shape does not fit the shapes of the arrays.
    TypeError
        If `matrix` holds no numbers.

    Examples
    --------
    >>> Matrix([[1, 2], [3, 4]]).H @ [1, 1]
    array([4, 6])
    """

    def __init__(
        self,
        matrix: Any,
        *,
        in_shape: Sequence[int] | int | None = None,
        out_shape: Sequence[int] | int | None = None,
    ) -> None:
        csr = gpu.home(matrix).as_csr(matrix)
        m, n = csr.shape
        super().__init__(
            csr, n if in_shape is None else in_shape, m if out_shape is None else out_shape
        )


def _refuse_number_masks(where: Any, shape: tuple[int, ...]) -> None:
    """Raise for a mask of numbers, which would be read as indices."""
    if not isinstance(where, np.ndarray) or where.dtype == bool or where.size < 3:
        return
    if where.dtype.kind in "fc" or (
        where.shape == shape and not ((where != 0) & (where != 1)).any()
    ):
        raise TypeError(
            f"a mask must hold bools, and indices must be integers, got dtype {where.dtype}: "
            "pass mask.astype(bool)"
        )


def selection(
    where: Any, in_shape: Sequence[int] | int | None, dtype: Any
) -> tuple[CsrArray, tuple[int, ...], tuple[int, ...]]:
    """Return the matrix that selects ``x[where]``, and the shapes of x and of x[where]."""
    if any(map(_arrays.on_device, where if isinstance(where, tuple) else (where,))):
        raise TypeError(
            "a mask or indices must be NumPy arrays, on the host, got a CuPy array: pass "
            "where.get(), and move the operator with .to('gpu')"
        )
    if not isinstance(where, (tuple, slice, type(...))):
        given = where
        try:
            where = np.asarray(_arrays.on_host(where, "where"))
        except ValueError as error:
            raise ValueError(f"where is not a rectangular array: {error}") from None
        if not where.size and not hasattr(given, "dtype"):
            where = where.astype(int)  # NumPy's index of an empty list, too
    mask: Any = where if is_mask(where) else None
    if in_shape is None and mask is not None:
        in_shape = mask.shape
    if in_shape is None and isinstance(where, np.ndarray) and where.dtype.kind in "fc":
        in_shape = where.shape
    if in_shape is None:
        raise ValueError(f"in_shape is needed: {where!r} does not imply it, as a mask would")
    shape = sizes(in_shape, "in_shape")
    n = math.prod(shape)
    _refuse_number_masks(where, shape)
    if mask is not None and mask.shape != shape:
        raise ValueError(f"a mask needs the shape of the arrays, {shape}, got {mask.shape}")
    _arrays.require_memory(16 * n, f"the selection from {n:,} samples", "select from a part")
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
