"""The method "sparse": the stored CSR matrix, the truth of all other methods.

"sparse+adjoint" stores C^H as well, so that the adjoint's product reads rows, too.
"""

from __future__ import annotations

import weakref

import numpy as np

from linconv import _arrays, assembly
from linconv.geometry import Geometry
from linconv.methods import csr_products

# One of each geometry: it tells where the entries of its matrices lie.
_known: weakref.WeakValueDictionary[Geometry, Sparse] = weakref.WeakValueDictionary()


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return an empty string: the matrix represents every convolution."""
    return ""


class Sparse:
    """Products with the stored matrix of a convolution."""

    dtypes = ()

    def __init__(
        self, geometry: Geometry, kernel: np.ndarray, pattern: assembly.Csr | None = None
    ) -> None:
        self._geometry = geometry
        known = _known.get(geometry)
        if pattern is None and known is not None:
            pattern = _arrays_of(known._csr)
        arrays = assembly.conv_csr(geometry, kernel, pattern=pattern)
        self._csr = csr_products.read_only(_arrays.sparse_array(*arrays))
        _known.setdefault(geometry, self)

    def with_kernel(self, kernel: np.ndarray) -> Sparse:
        """Return the products with another kernel; the indices are shared."""
        return Sparse(self._geometry, kernel, _arrays_of(self._csr))

    def tosparse(self) -> _arrays.CsrArray:
        """Return a copy of the matrix."""
        return _arrays.sparse_array(*assembly.copied(_arrays_of(self._csr)))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        return csr_products.forward(self._csr, x)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return csr_products.adjoint(self._csr, y)


class WithAdjoint(Sparse):
    """Products with the stored matrices of a convolution and of its adjoint."""

    def __init__(
        self,
        geometry: Geometry,
        kernel: np.ndarray,
        patterns: tuple[assembly.Csr, assembly.Csr] | tuple[None, None] = (None, None),
    ) -> None:
        super().__init__(geometry, kernel, patterns[0])
        arrays = assembly.conv_csr(
            geometry, kernel.conj(), transposed=True, pattern=patterns[1]
        )
        self._turned = csr_products.read_only(_arrays.sparse_array(*arrays))

    def with_kernel(self, kernel: np.ndarray) -> WithAdjoint:
        """Return the products with another kernel; the indices are shared."""
        patterns = _arrays_of(self._csr), _arrays_of(self._turned)
        return WithAdjoint(self._geometry, kernel, patterns)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return csr_products.forward(self._turned, y)


def _arrays_of(csr: _arrays.CsrArray) -> assembly.Csr:
    return assembly.Csr(csr.data, csr.indices, csr.indptr, csr.shape)
