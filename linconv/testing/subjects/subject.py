"""The class `Subject`, an operator under test, and the names of operators in reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from linconv._options import sizes
from linconv.geometry import Geometry
from linconv.operators import View
from linconv.testing.subjects.arrays import Arrays, owners

Shape = tuple[int, ...]

_NAME_LENGTH = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """An operator under test: its two products, their names, shapes, dtypes and arrays."""

    name: str  # in reports
    # Shapes of input and output, to place probes on and to word diagnoses.
    in_shape: Shape
    out_shape: Shape
    # Shapes of the arrays that `forward` takes and returns; for `adjoint` exchanged.
    call_in_shape: Shape
    call_out_shape: Shape
    arrays: Arrays  # the library of its arrays
    forward: Callable[[Any], Any]
    adjoint: Callable[[Any], Any]
    # Names of the two products in their library.
    forward_name: str = "matvec"
    adjoint_name: str = "rmatvec"
    dtype: np.dtype | None = None  # None if the operator declares none
    # Dtypes of input and output, for libraries where they may differ (SCICO, ODL).
    in_dtype: np.dtype | None = None
    out_dtype: np.dtype | None = None
    real_linear: bool = False  # True if A(s x) = s A(x) for real s only
    # Products with several columns: (n, k) -> (m, k) and (m, k) -> (n, k).
    matmat: Callable[[Any], Any] | None = None
    rmatmat: Callable[[Any], Any] | None = None
    # Returns the matrix as a sparse array where it is known without products.
    matrix: Callable[[], Any] | None = None
    # The weights w of the inner products <u, v> = sum w conj(u) v of input and output.
    weights: tuple[np.ndarray | float, np.ndarray | float] | None = None
    geometry: Geometry | None = None  # of a convolution, or of its transpose
    portable: Any = None  # the object to pickle; None for a pair of functions
    # Makes a Subject of the unpickled object.
    rewrap: Callable[[Any], Subject] | None = None


def title(A: Any) -> str:
    """Return the first line of an operator's repr, or its class and shape."""
    if isinstance(A, View):
        return title(A.base) + repr(A).removeprefix(repr(A.base))
    try:
        lines = repr(A).splitlines()
    except Exception:
        lines = []
    if not lines or " object at 0x" in lines[0]:
        return f"{type(A).__name__} of shape {getattr(A, 'shape', None)}"
    text = lines[0] if len(lines) == 1 else lines[0].rstrip(", (") + ", ...)"
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 3] + "..."


def peer_name(A: Any, package: str, library: str) -> str:
    """Return "Class of Library", or "Class (Library)" for a user's class built on it."""
    own = owners(A)[0] in (package, library.lower())
    return f"{type(A).__name__} " + (f"of {library}" if own else f"({library})")


def function_name(function: Any) -> str:
    """Return the name of a function."""
    if isinstance(function, partial):
        return function_name(function.func)
    return getattr(function, "__name__", type(function).__name__)


def shaped(
    name: str, in_shape: Any, out_shape: Any, arrays: Arrays, adjoint_name: str, **more: Any
) -> Subject:
    """Return the Subject of functions that take and return shaped arrays."""
    in_shape, out_shape = sizes(in_shape, "in_shape"), sizes(out_shape, "out_shape")
    shapes = {"in_shape": in_shape, "out_shape": out_shape}
    return Subject(
        name=name,
        **shapes,
        **{f"call_{field}": shape for field, shape in shapes.items()},
        arrays=arrays,
        forward_name="forward",
        adjoint_name=adjoint_name,
        **more,
    )
