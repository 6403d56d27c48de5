"""Arrays and CSR matrices of CuPy: moving, checking and multiplying them.

CuPy is imported only when a user moves an operator to the GPU or passes a CuPy array.
Products neither copy anything to the host nor synchronize with the device.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.gpu import host

_DTYPES = "fdFD"


def library() -> Any:
    """Return CuPy; raise where there is no usable GPU.

    Raises
    ------
    RuntimeError
        If CuPy is not installed, or finds no driver or no device.
    """
    try:
        cupy = import_module("cupy")
    except ImportError as error:
        raise RuntimeError(
            f"the GPU needs CuPy: pip install linconv[cuda12] or linconv[cuda13] ({error})"
        ) from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"CuPy finds no GPU that it can use: {error}") from None
    if not count:
        raise RuntimeError("CuPy finds no GPU that it can use: it sees no device")
    return cupy


@functools.cache
def raw_module(source: str, real: str) -> Any:
    """Return the compiled kernels of a source for a real dtype, given by its character."""
    code = with_real(source, real)
    return import_module("cupy").RawModule(code=code, options=("-std=c++17",))


def with_real(source: str, real: str) -> str:
    """Return CUDA C++ in which REAL is a dtype, given by its character."""
    return f"#define REAL {'float' if real == 'f' else 'double'}\n{source}"


def as_values(value: Any, dtype: Any, name: str) -> Any:
    """Return a fresh CuPy array of a dtype that a CuPy matrix can have."""
    wanted = np.dtype(value.dtype if dtype is None else dtype).newbyteorder("=")
    check_dtype(wanted, name)
    if value.dtype.kind == "c" and wanted.kind != "c":
        raise TypeError(
            f"{name} of dtype {value.dtype} would lose its imaginary part as dtype {wanted}"
        )
    return value.astype(wanted)


def check_dtype(dtype: np.dtype, name: str) -> None:
    """Raise TypeError for a dtype that no matrix of CuPy's can have."""
    if dtype.char not in _DTYPES:
        raise TypeError(
            f"{name} has dtype {dtype}, but CuPy's sparse matrices hold float32, float64, "
            "complex64 and complex128 only: pass dtype=, or the kernel with astype(...)"
        )


def is_matrix(value: Any) -> bool:
    """Whether `value` is one of CuPy's sparse matrices."""
    return type(value).__module__.startswith("cupyx.scipy.sparse") and hasattr(value, "tocsr")


def owns(value: Any) -> bool:
    """Whether `value` is one of CuPy's sparse matrices or arrays."""
    return is_matrix(value) or _arrays.on_device(value)


def sparse_array(data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> Any:
    """Wrap sorted, duplicate-free CSR arrays on the device without copying them."""
    kind = import_module("cupyx.scipy.sparse").csr_array
    matrix = kind((data, indices, indptr), shape=shape)
    # Without the flag the first product searches for duplicates and synchronizes.
    matrix.has_canonical_format = True
    return matrix


def read_only(value: Any) -> Any:
    """Return the array or matrix itself: CuPy has no read-only arrays."""
    return value


def to_device(value: Any, name: str = "the matrix") -> Any:
    """Return an array of the host, or a CSR matrix, on the device."""
    cupy = library()
    check_dtype(value.dtype, name)
    if not hasattr(value, "indptr"):
        return cupy.asarray(value)
    data, indices, indptr = map(cupy.asarray, (value.data, value.indices, value.indptr))
    return sparse_array(data, indices, indptr, value.shape)


def to_host(value: Any) -> Any:
    """Return an array of the device, or a CSR matrix, on the host; read-only."""
    if not is_matrix(value):
        return host.read_only(value.get())
    data, indices, indptr = value.data.get(), value.indices.get(), value.indptr.get()
    return host.read_only(host.sparse_array(data, indices, indptr, value.shape))


def as_csr(matrix: Any) -> Any:
    """Return a canonical CSR copy of a device's sparse matrix or 2-d array."""
    if not is_matrix(matrix):
        if matrix.ndim != 2:
            raise ValueError(f"a matrix must be 2-d, got shape {matrix.shape}")
        values = as_values(matrix, None, "matrix")
        matrix = import_module("cupyx.scipy.sparse").csr_array(values)
    return canonical(matrix)


def canonical(matrix: Any) -> Any:
    """Return a canonical CSR copy of a device's sparse matrix."""
    csr = matrix.tocsr().copy()
    csr.sum_duplicates()
    values = as_values(csr.data, None, "matrix")
    return sparse_array(values, csr.indices, csr.indptr, csr.shape)


def block_matrix(
    grid: Iterable[Iterable[Any]], rows: Sequence[int], columns: Sequence[int], dtype: np.dtype
) -> Any:
    """Return a grid of CSR arrays as one canonical CSR array; None stands for zeros."""
    sparse = import_module("cupyx.scipy.sparse")
    blocks = [
        [
            sparse.csr_array((m, n), dtype=dtype) if block is None else block
            for block, n in zip(line, columns, strict=True)
        ]
        for line, m in zip(grid, rows, strict=True)
    ]
    return canonical(sparse.bmat(blocks, format="csr", dtype=dtype))


def copied(csr: Any) -> Any:
    """Return a copy that shares nothing."""
    return sparse_array(csr.data.copy(), csr.indices.copy(), csr.indptr.copy(), csr.shape)


def forward(matrix: Any, x: Any) -> Any:
    """Return matrix @ x; x: (n, b) -> (m, b)."""
    if x.dtype.kind == "c" and matrix.dtype.kind != "c":
        return _arrays.by_real_parts(partial(forward, matrix), x)
    # CuPy would cast the whole matrix where dtypes differ.
    x = x.astype(np.result_type(matrix.dtype, x.dtype), copy=False)
    if x.shape[1] == 0:  # cuSPARSE rejects empty arrays
        return import_module("cupy").empty((matrix.shape[0], 0), x.dtype)
    if x.shape[1] == 1:
        return (matrix @ x[:, 0]).reshape(-1, 1)
    return matrix @ x


def adjoint(matrix: Any, y: Any) -> Any:
    """Return matrix^H @ y; y: (m, b) -> (n, b); the matrix is not copied."""
    if matrix.dtype.kind != "c":
        return forward(matrix.T, y)
    return forward(matrix.T, y.conj()).conj()
