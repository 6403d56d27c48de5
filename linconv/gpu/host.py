"""The functions of `linconv.gpu`, under the same names, for the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from linconv import _arrays, assembly
from linconv._arrays import CsrArray
from linconv._arrays import as_array as as_array
from linconv._arrays import as_values as as_values
from linconv._arrays import require_memory as require_memory
from linconv._arrays import sparse_array as sparse_array
from linconv.assembly import check_size as check_size
from linconv.geometry import Geometry
from linconv.gpu.host_products import adjoint as adjoint
from linconv.gpu.host_products import forward as forward


def read_only(value: Any) -> Any:
    """Return an array or a CSR matrix, made read-only: SciPy sums duplicates in place."""
    sparse = scipy.sparse.issparse(value)
    for array in (value.data, value.indices, value.indptr) if sparse else (value,):
        array.setflags(write=False)
    return value


def as_csr(matrix: Any) -> CsrArray:
    """Return a canonical CSR copy of a sparse matrix or of a 2-d array-like."""
    if not scipy.sparse.issparse(matrix):
        matrix = as_values(matrix, None, "matrix")
    if matrix.ndim != 2:
        raise ValueError(f"a matrix must be 2-d, got shape {matrix.shape}")
    dtype = _arrays.matrix_dtype(matrix.dtype)
    return canonical(scipy.sparse.csr_array(matrix, dtype=dtype, copy=True))


def canonical(csr: CsrArray) -> CsrArray:
    """Sort a matrix and sum its duplicates, in place; return it."""
    csr.sum_duplicates()
    return csr


def copied(csr: CsrArray) -> CsrArray:
    """Return a copy, which is faster than to build the same matrix again."""
    check_size(csr.shape, csr.nnz, csr.dtype)
    return sparse_array(csr.data.copy(), csr.indices.copy(), csr.indptr.copy(), csr.shape)


def block_matrix(
    grid: Iterable[Iterable[Any]], rows: Sequence[int], columns: Sequence[int], dtype: np.dtype
) -> CsrArray:
    """Return a grid of CSR arrays as one canonical CSR array; None stands for zeros.

    `grid` may be a generator: only one of its rows is held at a time.
    """
    lines = []
    for line, m in zip(grid, rows, strict=True):
        blocks = [
            scipy.sparse.csr_array((m, n), dtype=dtype) if block is None else block
            for block, n in zip(line, columns, strict=True)
        ]
        lines.append(blocks[0] if len(blocks) == 1 else scipy.sparse.hstack(blocks, "csr"))
        del blocks
    matrix: Any = scipy.sparse.vstack(lines, "csr")
    index = _arrays.index_dtype(matrix.shape, matrix.nnz)
    arrays = (
        matrix.data.astype(dtype, copy=False),
        matrix.indices.astype(index, copy=False),
        matrix.indptr.astype(index, copy=False),
    )
    return canonical(scipy.sparse.csr_array(arrays, shape=matrix.shape))


def conv_matrix(
    geometry: Geometry, kernel: np.ndarray, *, like: Any = None, **options: Any
) -> CsrArray:
    """Return the matrix of a convolution; see `assembly.conv_csr`.

    `like` is the matrix of another kernel, with which this one shares its indices.
    """
    if like is not None:
        like = assembly.Csr(like.data, like.indices, like.indptr, like.shape)
    return sparse_array(*assembly.conv_csr(geometry, kernel, pattern=like, **options))


def unfold_matrix(geometry: Geometry, dtype: Any, rows: Any = None) -> CsrArray:
    """Return the matrix that gathers every tap; see `assembly.unfold_csr`."""
    return sparse_array(*assembly.unfold_csr(geometry, dtype, rows))


def varying_matrix(geometry: Geometry, kernels: np.ndarray) -> CsrArray:
    """Return the matrix of a kernel per position; see `assembly.varying_csr`."""
    return sparse_array(*assembly.varying_csr(geometry, kernels))
