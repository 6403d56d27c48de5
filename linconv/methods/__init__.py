"""Ways to compute the products of a Conv: the protocol, the table, the choice.

A method is built from a geometry and the kernel's values, and keeps what it
needs.  Every method must agree with the matrix: the matrix is the truth.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from linconv.geometry import Geometry
from linconv.methods.sparse import Sparse

__all__ = ["METHODS", "Method", "choose"]


class Method(Protocol):
    """Products with ``C`` and its adjoint, of columns; their dtype is result_type's."""

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None: ...

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        ...

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        ...


METHODS: dict[str, type[Method]] = {"sparse": Sparse}


def choose(name: str) -> str:
    """Return the name of the method to use for `name`, which may be "auto"."""
    if name == "auto":
        return "sparse"
    if name not in METHODS:
        known = ", ".join(map(repr, ("auto", *METHODS)))
        raise ValueError(f"unknown method {name!r}: the methods are {known}")
    return name
