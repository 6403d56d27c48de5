"""Operators of other libraries that take and return shaped arrays: SigPy, SCICO, ODL.

The functions here read attributes of the operators and import none of these libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from linconv.testing.subjects.arrays import Arrays, arrays_for, as_dtype
from linconv.testing.subjects.subject import Shape, Subject, peer_name, shaped


def sigpy(A: Any, xp: Arrays | None) -> Subject:
    """Return the Subject of a SigPy Linop: ``A(x)`` and ``A.H(y)``."""
    name, arrays = peer_name(A, "sigpy", "SigPy"), xp or arrays_for("numpy")
    products = {"forward": A, "adjoint": _own_adjoint(A, "H", name)}
    return shaped(name, A.ishape, A.oshape, arrays, "H", portable=A, **products)


def scico(A: Any, xp: Arrays | None) -> Subject:
    """Return the Subject of a SCICO operator: ``A(x)`` and ``A.adj(y)``."""
    name = peer_name(A, "scico", "SCICO")
    shapes = (A.input_shape, A.output_shape)
    if not all(isinstance(size, (int, np.integer)) for shape in shapes for size in shape):
        raise TypeError(
            f"{name} maps {A.input_shape} to {A.output_shape}: expected plain shapes, got "
            "block arrays; test its blocks one at a time"
        )
    dtypes = _dtypes(as_dtype(A.input_dtype), as_dtype(A.output_dtype))
    products = {"forward": A, "adjoint": A.adj}
    return shaped(name, *shapes, arrays_for("jax"), "adj", portable=A, **products, **dtypes)


def _dtypes(in_dtype: np.dtype, out_dtype: np.dtype) -> dict[str, Any]:
    """Return the fields for two dtypes; a map between R^n and C^m is real-linear only."""
    return {
        "dtype": np.result_type(in_dtype, out_dtype),
        "in_dtype": in_dtype,
        "out_dtype": out_dtype,
        "real_linear": (in_dtype.kind == "c") != (out_dtype.kind == "c"),
    }


def _own_adjoint(A: Any, attribute: str, name: str) -> Any:
    try:
        found = getattr(A, attribute)
    except Exception as error:  # ODL raises several kinds
        raise TypeError(f"{name} has no adjoint: .{attribute} raised {error!r}") from None
    if found is None:
        raise TypeError(f"{name} has no adjoint: .{attribute} is None")
    return found


@dataclass(frozen=True)
class _Space:
    """A space of ODL, with functions that turn arrays into elements (enter) and back."""

    shape: Shape
    dtype: np.dtype
    weight: np.ndarray | float
    enter: Callable[[Any], Any]
    leave: Callable[[Any], Any]


def odl(A: Any, xp: Arrays | None) -> Subject:
    """Return the Subject of an ODL operator, with the weights of its spaces."""
    name = peer_name(A, "odl", "ODL")
    adjoint = _own_adjoint(A, "adjoint", name)
    leaves = (_leaf(A.domain, name), _leaf(A.range, name))
    torch = [leaf.device for leaf in leaves if getattr(leaf, "impl", "numpy") != "numpy"]
    arrays = arrays_for(f"torch:{torch[0]}" if torch else "numpy")
    X, Y = (_odl_space(space, arrays, name) for space in (A.domain, A.range))
    trivial = all(isinstance(w, float) and w == 1 for w in (X.weight, Y.weight))
    return shaped(
        name,
        X.shape,
        Y.shape,
        arrays,
        "adjoint",
        forward=lambda x: Y.leave(A(X.enter(x))),
        adjoint=lambda y: X.leave(adjoint(Y.enter(y))),
        weights=None if trivial else (X.weight, Y.weight),
        portable=A,
        **_dtypes(X.dtype, Y.dtype),
    )


def _leaf(space: Any, name: str) -> Any:
    """Return the base of a power space, of a power of a power space, and so on."""
    while hasattr(space, "spaces"):
        if not space.is_power_space:
            raise TypeError(
                f"{name} maps from or to a product of different spaces: expected powers of "
                f"one space, got {space}; test its parts one at a time"
            )
        space = space[0]
    return space


def _odl_space(space: Any, arrays: Arrays, name: str) -> _Space:
    """Return the _Space of a tensor space, of its power, or of the real or complex numbers."""
    if not hasattr(space, "shape"):  # RealNumbers or ComplexNumbers, ranges of functionals
        dtype = np.dtype(complex if "Complex" in type(space).__name__ else float)
        return _Space(
            (1,),
            dtype,
            1.0,
            enter=lambda x: x[0].item(),
            leave=lambda number: arrays.make(np.array([number], dtype)),
        )
    weight, dtype = _odl_weight(space, arrays, name), as_dtype(_leaf(space, name).dtype)
    return _Space(space.shape, dtype, weight, space.element, lambda r: r.asarray())


def _odl_weight(space: Any, arrays: Arrays, name: str) -> np.ndarray | float:
    """Return the weights w of a space's inner product ``sum w conj(u) v``."""
    weighting = space.weighting
    weight = getattr(weighting, "weight", None)
    if weight is None or weighting.exponent != 2:
        raise TypeError(
            f"{name} has a space weighted by {weighting!r}: expected constant or array "
            "weights and exponent 2; other weightings have no inner product known here"
        )
    outer = np.asarray(arrays.read(weight) if arrays.is_array(weight) else weight)
    if hasattr(space, "spaces"):  # outer: one weight for each part, or one for all
        outer = outer.reshape(outer.shape + (1,) * (outer.ndim * len(space[0].shape)))
        outer = outer * _odl_weight(space[0], arrays, name)
    return np.broadcast_to(outer, space.shape).copy() if outer.ndim else float(outer)
