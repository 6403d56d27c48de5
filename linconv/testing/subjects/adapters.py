"""Operators of any library as a `Subject`, the one interface that all checks use.

A library is recognised by the packages of an object's classes, without importing it.
A Subject's forward and adjoint take and return arrays of that library.  Nothing is
checked or converted on the way, since their results are under test.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from linconv._options import sizes
from linconv.geometry import Geometry
from linconv.operators import LinearOperator, View, aslinearoperator
from linconv.testing.subjects.arrays import Arrays, arrays_for, as_dtype, owners
from linconv.testing.subjects.functions import functions
from linconv.testing.subjects.shaped import odl, scico, sigpy
from linconv.testing.subjects.subject import Shape, Subject, peer_name, title

_SciPyOperator: Any = scipy.sparse.linalg.LinearOperator  # Any: SciPy has no annotations
# The class behind SciPy's own aslinearoperator(matrix), which keeps the matrix as `A`.
_SciPyMatrix: Any = type(scipy.sparse.linalg.aslinearoperator(np.eye(1)))


def as_subject(
    A: Any,
    adjoint: Any = None,
    *,
    in_shape: Any = None,
    out_shape: Any = None,
    dtype: Any = None,
    xp: Any = None,
) -> Subject:
    """Return an operator of any library, a matrix or a pair of functions as a Subject.

    Parameters
    ----------
    A : operator, matrix or callable
        An operator of linconv, SciPy, PyLops, SigPy, SCICO, ODL or CuPy; a sparse or
        dense matrix; an object with ``shape``, ``matvec`` and ``rmatvec``; or the
        first of two functions.
    adjoint : callable, optional
        The second of two functions.
    in_shape, out_shape : int or tuple of int, optional
        Shapes that the two functions map between; without `out_shape`, one call of
        forward shows it.  For an operator on flat vectors: the shapes that they stand for.
    dtype : dtype, optional
        Dtype of the probes; by default the one that the operator declares.
    xp : module or str, optional
        The library whose arrays `A` takes ("torch:cuda" names a device too); by
        default it is detected.

    Raises
    ------
    TypeError
        If `A` is none of these, or lacks its adjoint.
    ValueError
        If shapes, dtype or library contradict the operator's own.
    """
    if isinstance(A, Subject):
        return _relabelled(A, in_shape, out_shape, dtype)
    if adjoint is not None:
        return functions(A, adjoint, in_shape, out_shape, dtype, xp)
    arrays = None if xp is None else arrays_for(xp)
    options = {"in_shape": in_shape, "out_shape": out_shape, "dtype": dtype, "xp": xp}
    subject = replace(_builder(A)(A, arrays), rewrap=partial(as_subject, **options))
    if arrays is not None and arrays.name != subject.arrays.name:
        raise ValueError(
            f"{subject.name} takes {subject.arrays.name} arrays, got xp={arrays.name!r}"
        )
    return _relabelled(subject, in_shape, out_shape, dtype)


def _builder(A: Any) -> Callable[[Any, Arrays | None], Subject]:
    """Return the function that makes a Subject of `A`."""
    if isinstance(A, LinearOperator):
        return _linconv
    for package in owners(A):
        needs, builder = _PEERS.get(package, ((), None))
        if builder is not None and all(hasattr(type(A), n) or hasattr(A, n) for n in needs):
            return builder
    if isinstance(A, _SciPyOperator):
        return _scipy
    if scipy.sparse.issparse(A) or isinstance(A, (np.ndarray, list, tuple)):
        return lambda matrix, xp: _linconv(aslinearoperator(matrix), xp)
    if hasattr(A, "shape") and hasattr(A, "matvec"):
        return _duck
    hint = ""
    if callable(A):
        hint = "; a function needs its adjoint and in_shape: forward, adjoint, in_shape=(...)"
    raise TypeError(
        "expected an operator of linconv, SciPy, PyLops, SigPy, SCICO, ODL or CuPy, a sparse "
        "or dense matrix, an object with shape, matvec and rmatvec, or two functions, "
        f"got {type(A).__name__}{hint}"
    )


def _relabelled(subject: Subject, in_shape: Any, out_shape: Any, dtype: Any) -> Subject:
    """Return `subject` with the caller's shapes and dtype; sizes must agree with its own."""
    changes: dict[str, Any] = {}
    for field, wanted in (("in_shape", in_shape), ("out_shape", out_shape)):
        if wanted is None:
            continue
        shape, actual = sizes(wanted, field), getattr(subject, field)
        if math.prod(shape) != math.prod(actual):
            raise ValueError(
                f"{field} {shape} has {math.prod(shape)} entries, expected "
                f"{math.prod(actual)}: {subject.name} maps {subject.in_shape} to "
                f"{subject.out_shape}"
            )
        changes[field] = shape
    if dtype is not None:
        changes["dtype"] = as_dtype(dtype)
        if subject.in_dtype is not None and changes["dtype"] != subject.dtype:
            raise ValueError(
                f"{subject.name} maps {subject.in_dtype} to {subject.out_dtype}, "
                f"got dtype={changes['dtype'].name!r}: leave it out"
            )
    return replace(subject, **changes)


# Operators with shape (m, n), matvec and rmatvec


def _products(A: Any, name: str, arrays: Arrays, **more: Any) -> Subject:
    """Return the Subject of an object with ``shape``, ``matvec`` and ``rmatvec``."""
    try:
        m, n = (int(size) for size in A.shape)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must have shape (m, n), got {A.shape!r}") from None
    if min(m, n) < 1:
        raise ValueError(f"{name} must have sizes >= 1, got shape {(m, n)}")
    dtype = getattr(A, "dtype", None)
    fields: dict[str, Any] = {
        "in_shape": (n,),
        "out_shape": (m,),
        "call_in_shape": (n,),
        "call_out_shape": (m,),
        "dtype": None if dtype is None else as_dtype(dtype),
        "forward": A.matvec,
        "adjoint": A.rmatvec,
        "matmat": getattr(A, "matmat", None),
        "rmatmat": getattr(A, "rmatmat", None),
        "portable": A,
    }
    return Subject(name=name, arrays=arrays, **(fields | more))


def _linconv(A: Any, xp: Arrays | None) -> Subject:
    _require_both_products(A)
    base = A
    while isinstance(base, View):
        base = base.base
    geometry = getattr(base, "geometry", None)
    # A FilterConv has a geometry too, but no kernel: its input is the kernel.
    if not isinstance(geometry, Geometry) or not hasattr(base, "kernel"):
        geometry = None
    return _products(
        A,
        title(A),
        arrays_for("cupy" if A.device == "gpu" else "numpy"),
        in_shape=A.in_shape,
        out_shape=A.out_shape,
        matrix=partial(_linconv_matrix, A) if _knows_matrix(A) else None,
        geometry=geometry,
    )


def _linconv_matrix(A: LinearOperator) -> Any:
    """Return the matrix on the host; on a GPU, products have no `tosparse`."""
    try:
        matrix = A.tosparse()
    except NotImplementedError:
        return A.to("cpu").tosparse()
    return matrix.get() if A.device == "gpu" else matrix


def _knows_matrix(A: LinearOperator) -> bool:
    """Return whether `tosparse` needs no product with `A` or a part of it."""
    parts = _parts(A)
    if parts:
        return all(_knows_matrix(part) for part in parts)
    default = LinearOperator._tosparse
    return getattr(type(A), "_tosparse", default) is not default


def _scipy(A: Any, xp: Arrays | None) -> Subject:
    _require_both_products(A)
    return _products(A, title(A), arrays_for("numpy"), matrix=_own_matrix(A))


def _own_matrix(A: Any) -> Callable[[], Any] | None:
    if isinstance(A, _SciPyMatrix):
        return partial(scipy.sparse.csr_array, A.A)
    if callable(getattr(A, "tosparse", None)):
        return lambda: scipy.sparse.csr_array(A.tosparse())
    return None


def _duck(A: Any, xp: Arrays | None) -> Subject:
    if getattr(A, "rmatvec", None) is None:
        raise TypeError(f"{title(A)} has matvec but no rmatvec, the product under test")
    shapes: dict[str, Shape] = {}
    # The attributes of linconv or of PyLops, unless their size contradicts A.shape.
    for field, other, side in (("in_shape", "dims", 1), ("out_shape", "dimsd", 0)):
        with contextlib.suppress(TypeError, ValueError):
            shape = sizes(getattr(A, field, getattr(A, other, None)), field)
            shapes |= {field: shape} if math.prod(shape) == A.shape[side] else {}
    return _products(A, title(A), xp or arrays_for("numpy"), matrix=_own_matrix(A), **shapes)


def _pylops(A: Any, xp: Arrays | None) -> Subject:
    _require_both_products(A)
    name, arrays = peer_name(A, "pylops", "PyLops"), xp or arrays_for("numpy")
    shapes = {"in_shape": sizes(A.dims, "dims"), "out_shape": sizes(A.dimsd, "dimsd")}
    return _products(A, name, arrays, real_linear=not A.clinear, **shapes)


def _cupy(A: Any, xp: Arrays | None) -> Subject:
    name, matrix = peer_name(A, "cupyx", "CuPy"), None
    if not hasattr(A, "matvec"):
        if len(A.shape) != 2:
            raise ValueError(f"a matrix must be 2-d, got shape {A.shape}")
        matrix = partial(lambda stored: scipy.sparse.csr_array(stored.get()), A)
        A = importlib.import_module("cupyx.scipy.sparse.linalg").aslinearoperator(A)
    _require_both_products(A)
    return _products(A, name, arrays_for("cupy"), matrix=matrix)


# Which operator lacks which product


def _parts(A: Any) -> list[Any]:
    """Return the operands of a composite operator of linconv, SciPy, PyLops or CuPy."""
    if owners(A)[0] not in ("linconv", "scipy", "pylops", "cupyx"):
        return []
    if isinstance(A, LinearOperator):
        names = ("base", "operator")
        inside = [*getattr(A, "operands", ()), *(getattr(A, name, None) for name in names)]
    else:
        inside = getattr(A, "args", ())
    return [part for part in inside if hasattr(part, "matvec")]


def _require_both_products(A: Any) -> None:
    """Raise TypeError if `A`, or an operand of it, does not implement a product."""
    for transposed, needed in ((False, "matvec"), (True, "rmatvec")):
        found = _lacking(A, transposed)
        if found is not None:
            part, missing = found
            where = "" if part is A else f", a part of {title(A)},"
            use = "" if missing == needed else f", which {needed} needs"
            hook = missing.replace("vec", "mat") if isinstance(A, LinearOperator) else missing
            raise TypeError(
                f"{title(part)}{where} has no {missing}{use}: implement _{hook}, or pass "
                f"{missing}= if the operator is made of functions"
            )


def _lacking(A: Any, transposed: bool) -> tuple[Any, str] | None:
    """Return the part of `A` that lacks a product, and that product's name, or None."""
    parts = _parts(A)
    if parts:
        turned = type(A).__name__ in ("_AdjointLinearOperator", "_TransposedLinearOperator")
        turned = A._transposes if isinstance(A, View) else turned
        found = (_lacking(part, transposed ^ turned) for part in parts)
        return next((lack for lack in found if lack is not None), None)
    product = "rmatvec" if transposed else "matvec"
    given = f"_CustomLinearOperator__{product}_impl"  # the function given to SciPy or CuPy
    if hasattr(A, given):
        return (A, product) if getattr(A, given) is None else None
    base = next((kind for kind in type(A).__mro__ if kind.__name__ == "LinearOperator"), None)
    if base is None or getattr(A, "Op", None) is not None:  # PyLops' wrapper holds an Op
        return None
    block = product.replace("vec", "mat")
    ways = [product, block, f"_{product}", f"_{block}", *(["_adjoint"] * transposed)]
    own = any(getattr(type(A), way, None) is not getattr(base, way, None) for way in ways)
    return None if own or vars(A).keys() & ways else (A, product)


_PEERS: dict[str, tuple[tuple[str, ...], Callable[[Any, Arrays | None], Subject]]] = {
    "pylops": (("shape", "matvec", "rmatvec"), _pylops),
    "sigpy": (("ishape", "oshape", "H"), sigpy),
    "scico": (("input_shape", "output_shape", "adj"), scico),
    "odl": (("domain", "range", "adjoint"), odl),
    "cupyx": (("shape",), _cupy),
    "cupy": (("shape",), _cupy),
}
