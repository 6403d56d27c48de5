"""The method "sparse": the stored CSR matrix, with which every other method must agree.

"sparse+adjoint" stores C^H as well, so that the adjoint product reads rows of a matrix, too.
On a GPU the product with a transpose is usually slower, and its sums have no fixed order.
"""

from __future__ import annotations

import weakref
from typing import Any, Self

import numpy as np

from linconv import gpu
from linconv.geometry import Geometry

# The first `Sparse` of each geometry and device; later matrices share its index arrays.
_known: weakref.WeakValueDictionary[tuple[Geometry, str], Sparse]
_known = weakref.WeakValueDictionary()


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return an empty string: the matrix represents every convolution."""
    return ""


class Sparse:
    """Products with the stored matrix of a convolution."""

    dtypes = ()

    def __init__(self, geometry: Geometry, kernel: Any, other: Any = None) -> None:
        self._geometry, self._place = geometry, gpu.home(kernel)
        key = geometry, gpu.device_of(kernel)
        other = other or _known.get(key)
        self._csr = self._matrix(kernel, getattr(other, "_csr", None))
        _known.setdefault(key, self)

    def _matrix(self, kernel: Any, like: Any, **options: Any) -> Any:
        make, read_only = self._place.conv_matrix, self._place.read_only
        return read_only(make(self._geometry, kernel, like=like, **options))

    def with_kernel(self, kernel: Any) -> Self:
        """Return the products with another kernel; both matrices share their indices."""
        return type(self)(self._geometry, kernel, self)

    def tosparse(self) -> Any:
        """Return a copy of the matrix."""
        return self._place.copied(self._csr)

    def forward(self, x: Any) -> Any:
        """Return C x; (n, b) -> (m, b)."""
        return self._place.forward(self._csr, x)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._place.adjoint(self._csr, y)


class WithAdjoint(Sparse):
    """Products with the stored matrices of a convolution and of its adjoint."""

    def __init__(self, geometry: Geometry, kernel: Any, other: Any = None) -> None:
        super().__init__(geometry, kernel, other)
        like = getattr(other, "_turned", None)
        self._turned = self._matrix(kernel.conj(), like, transposed=True)

    def adjoint(self, y: Any) -> Any:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._place.forward(self._turned, y)
