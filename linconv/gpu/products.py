"""Methods on a GPU: "sparse", CuPy's CSR array, and "direct", the rows it consists of.

"sparse+adjoint" stores C^H as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from linconv import assembly
from linconv.geometry import Geometry
from linconv.gpu import device, kernels, matrices, tiles

# Threads of a block of products without tiles.
_THREADS = 128


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return an empty string: all of them represent every convolution."""
    return ""


class Sparse:
    """Products with the stored matrix of a convolution, by cuSPARSE."""

    dtypes = ()

    def __init__(self, geometry: Geometry, kernel: Any) -> None:
        self._geometry = geometry
        self._csr = matrices.conv_matrix(geometry, kernel)

    def with_kernel(self, kernel: Any) -> Sparse:
        """Return the products with another kernel; written anew, which takes no longer."""
        return Sparse(self._geometry, kernel)

    def tosparse(self) -> Any:
        """Return a copy of the matrix."""
        return device.copied(self._csr)

    def forward(self, x: Any) -> Any:
        """Return C x; (n, b) -> (m, b)."""
        return device.forward(self._csr, x)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return device.adjoint(self._csr, y)


class WithAdjoint(Sparse):
    """Products with the stored matrices of a convolution and of its adjoint.

    cuSPARSE's product with a transpose is usually slower, and adds in no fixed order.
    """

    def __init__(self, geometry: Geometry, kernel: Any) -> None:
        super().__init__(geometry, kernel)
        self._turned = matrices.conv_matrix(geometry, kernel.conj(), transposed=True)

    def with_kernel(self, kernel: Any) -> WithAdjoint:
        """Return the products with another kernel."""
        return WithAdjoint(self._geometry, kernel)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return device.forward(self._turned, y)


class Direct:
    """Products without the matrix: each result by the template that its row is a copy of.

    Most rows of a convolution with unit strides have one template: tiles of them share the
    samples that they read.  `tiled` is for tests and timings: False never asks for that,
    True asks wherever it can be done.
    """

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))

    def __init__(self, geometry: Geometry, kernel: Any, tiled: bool | None = None) -> None:
        self._geometry, self._kernel, self._tiled = geometry, kernel, tiled
        self._rows: dict[tuple[bool, np.dtype], _Rows] = {}

    def with_kernel(self, kernel: Any) -> Direct:
        """Return the products with another kernel."""
        return Direct(self._geometry, kernel, self._tiled)

    def forward(self, x: Any) -> Any:
        """Return C x; (n, b) -> (m, b)."""
        return self._columns(x, transposed=False)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._columns(y, transposed=True)

    def tiles(self, dtype: Any, *, transposed: bool) -> tiles.Tiles | None:
        """Return the tiles of C, or of C^H, for numbers of a dtype; None: it uses none."""
        if self._tiled is False:
            return None
        part = assembly.part_of(self._geometry, transposed, None)
        c_in, c_out = self._geometry.c_in, self._geometry.c_out
        per_group = (c_out if transposed else c_in) // self._geometry.groups
        found = tiles.tiles(part.grid, part.plane, per_group, np.dtype(dtype).itemsize)
        return found if found and (self._tiled or found.pays) else None

    def _columns(self, x: Any, *, transposed: bool) -> Any:
        kernel = self._kernel.dtype
        if x.dtype.kind == "c" and kernel.kind != "c":
            parts = (self._columns(part, transposed=transposed) for part in (x.real, x.imag))
            real, imag = parts
            return real + 1j * imag
        cupy, dtype = import_module("cupy"), np.result_type(kernel, x.dtype)
        vectors = cupy.ascontiguousarray(x.T.astype(dtype, copy=False))
        results = cupy.empty((vectors.shape[0], self._geometry.shape[transposed]), dtype)
        if results.size:
            self._of(dtype, transposed).multiply(vectors, results)
        return results.T

    def _of(self, dtype: np.dtype, transposed: bool) -> _Rows:
        """Return the rows of C, or of C^H; remembered."""
        key = transposed, dtype
        if key not in self._rows:
            kernel = self._kernel.astype(dtype, copy=False)
            kernel = kernel.conj() if transposed else kernel
            made = matrices.templates_of(self._geometry, kernel, transposed)
            self._rows[key] = _Rows(made, self.tiles(dtype, transposed=transposed))
        return self._rows[key]


class _Rows:
    """The different rows of a matrix, and how to multiply by all."""

    def __init__(self, templates: matrices.Templates, tiles: tiles.Tiles | None) -> None:
        self._templates, self._tiles = templates, tiles
        if tiles:
            self._numbers = import_module("cupy").asarray(tiles.numbers)

    def multiply(self, vectors: Any, results: Any) -> None:
        """Write C x for rows of `vectors` into rows of `results`."""
        if self._tiles:
            self._by_tiles(self._tiles, vectors, results)
        else:
            self._by_lines(vectors, results)

    def _by_lines(self, vectors: Any, results: Any) -> None:
        templates = self._templates
        length = templates.numbers.lengths[-1]
        lines = templates.channels * templates.lines
        threads = min(_THREADS, -(-length // (32 * kernels.EACH)) * 32)
        pieces = -(-length // (threads * kernels.EACH))
        count = len(vectors) * lines * pieces * threads
        scalars = (*templates.scalars, lines, vectors.shape[1], results.shape[1])
        arrays = (*templates.arrays, vectors, results)
        matrices.launch("multiply", templates.index, count, threads, arrays, scalars)

    def _by_tiles(self, tiles: tiles.Tiles, vectors: Any, results: Any) -> None:
        templates = self._templates
        count = len(vectors) * templates.channels * tiles.count * tiles.threads
        sizes = templates.channels, tiles.begin, vectors.shape[1], results.shape[1]
        matrices.launch(
            "multiply_tiles",
            templates.index,
            count,
            tiles.threads,
            (*templates.arrays, self._numbers, vectors, results),
            (*templates.scalars, *sizes),
            tiles.shared,
        )
