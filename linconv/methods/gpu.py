"""The method "sparse" on a GPU: CuPy's CSR array, written there and multiplied there."""

from __future__ import annotations

from typing import Any

from linconv import _gpu, _gpu_assembly
from linconv.geometry import Geometry


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
