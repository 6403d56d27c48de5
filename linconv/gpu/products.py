"""The method "direct" on a GPU: products by the templates that rows of a matrix repeat."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.geometry import Geometry
from linconv.gpu import kernels, matrices

# Threads of a block of products.
_THREADS = 128


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return an empty string: the method represents every convolution."""
    return ""


class Direct:
    """Products without the matrix: each row is a shifted copy of one of its templates."""

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))

    def __init__(self, geometry: Geometry, kernel: Any) -> None:
        self._geometry, self._kernel = geometry, kernel
        self._templates: dict[tuple[bool, np.dtype], matrices.Templates] = {}

    def with_kernel(self, kernel: Any) -> Direct:
        """Return the products with another kernel."""
        return Direct(self._geometry, kernel)

    def forward(self, x: Any) -> Any:
        """Return C x; (n, b) -> (m, b)."""
        return self._product(x, transposed=False)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._product(y, transposed=True)

    def _product(self, x: Any, *, transposed: bool) -> Any:
        if x.dtype.kind == "c" and self._kernel.dtype.kind != "c":
            return _arrays.by_real_parts(partial(self._product, transposed=transposed), x)
        cupy, dtype = import_module("cupy"), np.result_type(self._kernel.dtype, x.dtype)
        vectors = cupy.ascontiguousarray(x.T.astype(dtype, copy=False))
        results = cupy.empty((vectors.shape[0], self._geometry.shape[transposed]), dtype)
        if results.size:
            _multiply(self._rows(dtype, transposed), vectors, results)
        return results.T

    def _rows(self, dtype: np.dtype, transposed: bool) -> matrices.Templates:
        """Return the different rows of C, or of C^H, from a cache."""
        key = transposed, dtype
        if key not in self._templates:
            kernel = self._kernel.astype(dtype, copy=False)
            kernel = kernel.conj() if transposed else kernel
            self._templates[key] = matrices.templates_of(self._geometry, kernel, transposed)
        return self._templates[key]


def _multiply(templates: matrices.Templates, vectors: Any, results: Any) -> None:
    """Write C x for rows of `vectors` into rows of `results`."""
    length = templates.numbers.lengths[-1]
    lines = templates.channels * templates.lines
    threads = min(_THREADS, -(-length // (32 * kernels.EACH)) * 32)
    pieces = -(-length // (threads * kernels.EACH))
    count = len(vectors) * lines * pieces * threads
    scalars = (*templates.scalars, lines, vectors.shape[1], results.shape[1])
    arrays = (*templates.arrays, vectors, results)
    matrices.launch("multiply", templates.index, count, threads, arrays, scalars)
