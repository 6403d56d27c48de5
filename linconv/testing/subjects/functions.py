"""A pair of functions as a `Subject`; a trial call finds the library of their arrays."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

from linconv._options import sizes
from linconv.testing.subjects.arrays import Arrays, arrays_for, as_dtype
from linconv.testing.subjects.subject import Shape, Subject, function_name, shaped


def functions(
    forward: Any, adjoint: Any, in_shape: Any, out_shape: Any, dtype: Any, xp: Any
) -> Subject:
    """Return the Subject of two functions; call forward for what the options leave open."""
    for what, function in (("forward", forward), ("adjoint", adjoint)):
        if not callable(function):
            raise TypeError(f"{what} must be a function, got {type(function).__name__}")
    if in_shape is None:
        raise TypeError("a pair of functions needs in_shape, the shape that forward takes")
    shape = sizes(in_shape, "in_shape")
    wanted = None if dtype is None else as_dtype(dtype)
    arrays = _named_library(dtype, xp)
    if arrays is None or wanted is None or out_shape is None:
        arrays, found, result = _first_accepted(forward, shape, wanted, arrays)
        if wanted is None and found != np.float64:
            wanted = found
        if out_shape is None and not arrays.is_array(result):
            raise TypeError(
                f"forward returned a {type(result).__name__}, expected an array of "
                f"{arrays.name}; give out_shape= to have it tested nevertheless"
            )
        out_shape = tuple(map(int, result.shape)) if out_shape is None else out_shape
    name = f"the pair {function_name(forward)}, {function_name(adjoint)}"
    products = {"forward": forward, "adjoint": adjoint}
    return shaped(name, shape, out_shape, arrays, "adjoint", dtype=wanted, **products)


def _named_library(dtype: Any, xp: Any) -> Arrays | None:
    """Return the library that `xp` names, or that a dtype not of NumPy belongs to."""
    if xp is not None:
        return arrays_for(xp)
    arrays = None if dtype is None else arrays_for(dtype)
    return None if arrays is None or arrays.name == "numpy" else arrays


def _first_accepted(
    forward: Any, shape: Shape, dtype: np.dtype | None, named: Arrays | None
) -> tuple[Arrays, np.dtype, Any]:
    """Return the first library and dtype that `forward` accepts, and its result for zeros."""
    libraries = _loaded_libraries() if named is None else [named]
    dtypes = [np.dtype(np.float64), np.dtype(np.float32)] if dtype is None else [dtype]
    refusals = []
    for arrays in libraries:
        for number in dtypes:
            if named is not None and dtype is not None:
                arrays.make(np.zeros(1, dtype))  # the caller's dtype must exist there
            try:
                result = forward(arrays.make(np.zeros(shape, number)))
            except Exception as error:
                text = str(error).partition("\n")[0]
                refusals.append(f"{arrays.name} {number}: {type(error).__name__}: {text}")
                continue
            home = _home(result)
            if named is None and home is not None and home.name != arrays.name:
                with contextlib.suppress(TypeError):  # forward may refuse its own library
                    return _first_accepted(forward, shape, dtype, home)
            return arrays, number, result
    raise TypeError(
        f"forward accepts no zeros of shape {shape}; xp= and dtype= must be the library and "
        "dtype of the arrays it takes.  It refused\n  " + "\n  ".join(refusals)
    )


def _loaded_libraries() -> list[Arrays]:
    """Return NumPy and the other array libraries that are already imported."""
    loaded = [name for name in ("torch", "jax", "cupy") if sys.modules.get(name) is not None]
    return [arrays_for(name) for name in ("numpy", *loaded)]


def _home(result: Any) -> Arrays | None:
    """Return the library of an array, or None if `result` is no array."""
    with contextlib.suppress(TypeError):
        arrays = arrays_for(result)
        return arrays if arrays.is_array(result) else None
    return None
