"""Operators of other libraries that follow SciPy's protocol, as operators of linconv."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from linconv import _arrays, gpu
from linconv.operators.hooks import by_columns
from linconv.operators.linear import LinearOperator
from linconv.operators.stored import Matrix


def aslinearoperator(A: Any) -> LinearOperator:
    """Return `A` as a linconv operator.

    Parameters
    ----------
    A : LinearOperator, sparse or dense matrix, or any object of SciPy's protocol
        linconv's own operators are returned unchanged; matrices are copied; other
        objects need ``shape``, ``matvec`` and, for the adjoint, ``rmatvec``.

    Raises
    ------
    TypeError
        If `A` is none of these.
    """
    if isinstance(A, LinearOperator):
        return A
    if gpu.owns(A) or scipy.sparse.issparse(A) or isinstance(A, (np.ndarray, list, tuple)):
        return Matrix(A)
    if hasattr(A, "shape") and hasattr(A, "matvec"):
        return _Foreign(A)
    raise TypeError(
        "expected a LinearOperator, a sparse array, a 2-d array or an object with shape and "
        f"matvec, got {type(A).__name__}"
    )


class _Foreign(LinearOperator):
    """An operator of another library, which follows SciPy's protocol."""

    def __init__(self, subject: Any) -> None:
        m, n = subject.shape
        self.operator = scipy.sparse.linalg.aslinearoperator(subject)
        super().__init__(_dtype(self.operator), n, m)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return _columns(self.operator.matmat, self.operator.matvec, X, self.shape[0])

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return foreign_adjoint(self.operator, X)

    def __repr__(self) -> str:
        return f"aslinearoperator({self._signature()}, {self.operator!r})"


def foreign_adjoint(theirs: Any, Y: np.ndarray) -> np.ndarray:
    """Return A^H Y for an operator of another library; raise where A has no adjoint.

    SciPy has no attribute for a missing adjoint, and some of its errors do not name it.
    """
    try:
        return _columns(theirs.rmatmat, theirs.rmatvec, Y, theirs.shape[1])
    except (TypeError, NotImplementedError) as error:
        if _has_rmatvec(theirs):
            raise
        raise TypeError(
            f"{theirs!r} has no rmatvec, which a product with its adjoint needs: make it with "
            "one, as scipy.sparse.linalg.LinearOperator(shape, matvec, rmatvec=...) or as a "
            "method"
        ) from error


def _dtype(theirs: Any) -> np.dtype:
    """Return the dtype of an operator: what it declares, complex if its products are.

    SciPy infers int8 for operators of unknown dtype; integers become int64, as in matrices.
    """
    declared = np.dtype(theirs.dtype)
    if declared.kind not in "biufc":
        raise TypeError(f"{theirs!r} has dtype {declared}, expected a dtype of numbers")
    if declared.kind != "c":
        try:
            seen = np.asarray(theirs.matvec(np.zeros(theirs.shape[1]))).dtype
        except Exception:  # the first product that is asked for raises it again
            seen = declared
        if seen.kind == "c":
            declared = np.result_type(declared, seen)
    return _arrays.matrix_dtype(declared)


def _columns(matmat: Any, matvec: Any, X: np.ndarray, rows: int) -> np.ndarray:
    """Return products with the columns of X, whose shape is checked.

    SciPy reshapes the results of matvec, which may be images, but since 1.18 not those that
    matmat makes of them.
    """
    Y = np.asarray(matmat(X))
    if Y.shape != (rows, X.shape[1]) or Y.dtype.kind not in "biufc":
        Y = by_columns(matvec, X, rows)
    return Y


def _has_rmatvec(theirs: Any) -> bool:
    """Whether a product with the adjoint is implemented, right or wrong."""
    try:
        theirs.rmatvec(np.zeros(theirs.shape[0]))
    except NotImplementedError:
        return False
    except Exception:
        return True
    return True
