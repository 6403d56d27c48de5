"""Columns of vectors, on their way to and from a method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def complex_as_two(
    product: Callable[[np.ndarray], np.ndarray], x: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """Return the product of a real operator with complex columns: each part on its own.

    x: (n, b) -> (m, b); half the work of a complex product.
    """
    b = x.shape[1]
    both = product(np.concatenate((np.real(x), np.imag(x)), axis=1))
    result = np.empty((b, len(both)), dtype)
    result.real, result.imag = both[:, :b].T, both[:, b:].T
    return result.T
