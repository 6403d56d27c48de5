"""Methods on a GPU: "sparse", CuPy's CSR array, and "direct", the rows it consists of.

"sparse+adjoint" stores C^H as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from linconv import _gpu, _gpu_assembly
from linconv.geometry import Geometry

# Threads of a block of products, and the positions that each of them computes.
_THREADS, _EACH = 128, 4


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return an empty string: all of them represent every convolution."""
    return ""


class Sparse:
    """Products with the stored matrix of a convolution, by cuSPARSE."""

    dtypes = ()

    def __init__(self, geometry: Geometry, kernel: Any) -> None:
        self._geometry = geometry
        self._csr = _gpu_assembly.conv_matrix(geometry, kernel)

    def with_kernel(self, kernel: Any) -> Sparse:
        """Return the products with another kernel; written anew, which takes no longer."""
        return Sparse(self._geometry, kernel)

    def tosparse(self) -> Any:
        """Return a copy of the matrix."""
        return _gpu.copied(self._csr)

    def forward(self, x: Any) -> Any:
        """Return C x; (n, b) -> (m, b)."""
        return _gpu.forward(self._csr, x)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return _gpu.adjoint(self._csr, y)


class WithAdjoint(Sparse):
    """Products with the stored matrices of a convolution and of its adjoint.

    cuSPARSE's product with a transpose is usually slower, and adds in no fixed order.
    """

    def __init__(self, geometry: Geometry, kernel: Any) -> None:
        super().__init__(geometry, kernel)
        self._turned = _gpu_assembly.conv_matrix(geometry, kernel.conj(), transposed=True)

    def with_kernel(self, kernel: Any) -> WithAdjoint:
        """Return the products with another kernel."""
        return WithAdjoint(self._geometry, kernel)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return _gpu.forward(self._turned, y)


class Direct:
    """Products without the matrix: each result by the template that its row is a copy of."""

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))

    def __init__(self, geometry: Geometry, kernel: Any) -> None:
        self._geometry, self._kernel = geometry, kernel
        self._templates: dict[tuple[bool, np.dtype], _gpu_assembly.Templates] = {}

    def with_kernel(self, kernel: Any) -> Direct:
        """Return the products with another kernel."""
        return Direct(self._geometry, kernel)

    def forward(self, x: Any) -> Any:
        """Return C x; (n, b) -> (m, b)."""
        return self._columns(x, transposed=False)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._columns(y, transposed=True)

    def _columns(self, x: Any, *, transposed: bool) -> Any:
        kernel = self._kernel.dtype
        if x.dtype.kind == "c" and kernel.kind != "c":
            parts = (self._columns(part, transposed=transposed) for part in (x.real, x.imag))
            real, imag = parts
            return real + 1j * imag
        cupy, dtype = import_module("cupy"), np.result_type(kernel, x.dtype)
        templates = self._of(dtype, transposed)
        rows = cupy.ascontiguousarray(x.T.astype(dtype, copy=False))
        results = cupy.empty((rows.shape[0], self._geometry.shape[transposed]), dtype)
        if not results.size:
            return results.T
        length = templates.numbers.lengths[-1]
        lines = templates.channels * templates.lines
        threads = min(_THREADS, -(-length // (32 * _EACH)) * 32)
        pieces = -(-length // (threads * _EACH))
        scalars = (*templates.scalars, lines, rows.shape[1], results.shape[1])
        arrays = (*templates.arrays, rows, results)
        count = rows.shape[0] * lines * pieces * threads
        _gpu_assembly.launch("multiply", templates.index, count, threads, arrays, scalars)
        return results.T

    def _of(self, dtype: np.dtype, transposed: bool) -> _gpu_assembly.Templates:
        """Return the templates of C, or of C^H; remembered."""
        key = transposed, dtype
        if key not in self._templates:
            kernel = self._kernel.astype(dtype, copy=False)
            kernel = kernel.conj() if transposed else kernel
            made = _gpu_assembly.templates_of(self._geometry, kernel, transposed)
            self._templates[key] = made
        return self._templates[key]
