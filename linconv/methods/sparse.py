"""The method "sparse": the stored CSR matrix, the truth of all other methods."""

from __future__ import annotations

import numpy as np

from linconv import _arrays, _products, assembly
from linconv.geometry import Geometry


class Sparse:
    """Products with the stored matrix of a convolution."""

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        csr = _arrays.sparse_array(*assembly.conv_csr(geometry, kernel))
        self._csr = _products.read_only(csr)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        return _products.forward(self._csr, x)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return _products.adjoint(self._csr, y)
