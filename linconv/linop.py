"""LinearOperator: a map between two shaped spaces, its algebra and its views.

Knows nothing of convolutions.  ``A @ v`` takes flat vectors ``(n,)`` or columns
``(n, b)``; ``A(x)`` takes shaped arrays ``(*batch, *in_shape)``.  Public methods
check shapes once; hooks get NumPy arrays of the right size and trust them.
``.H`` is the adjoint, the conjugate transpose; ``.T`` is the plain transpose.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import textwrap
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from scipy.sparse import csr_array

from linconv import _arrays, _products
from linconv._arrays import CsrArray
from linconv._options import integer, sizes

_Base: Any = scipy.sparse.linalg.LinearOperator  # Any: SciPy has no annotations
# Columns of the identity pushed through an operator whose matrix is not known.
_COLUMNS = 64


class LinearOperator(_Base):
    """A linear map ``A`` from arrays of `in_shape` to arrays of `out_shape`.

    A true subclass of `scipy.sparse.linalg.LinearOperator` with an algebra that
    keeps its structure: ``A.T``, ``A.H``, ``A + B``, ``A @ B``, ``2 * A`` are
    operators that know their operands, and `tosparse` turns any expression into
    one sparse matrix.  Subclasses call ``super().__init__`` and implement

    - ``_matmat(X)``: ``(n, b) -> (m, b)``, the product A X,
    - ``_rmatmat(Y)``: ``(m, b) -> (n, b)``, the product A^H Y,
    - and, where it is known, ``_tosparse()``: a fresh CSR array.

    Parameters
    ----------
    dtype : dtype
        Of the matrix.  A product has ``result_type(A.dtype, x.dtype)``.
    in_shape, out_shape : tuple of int
        Of the arrays that ``A(x)`` takes and returns.

    Attributes
    ----------
    shape : (int, int)
        ``(prod(out_shape), prod(in_shape))``.
    dtype, in_shape, out_shape
        As given.

    Examples
    --------
    >>> import linconv
    >>> A = linconv.Conv([1, 2, 3], (5,))
    >>> (A.H @ A).toarray()
    array([[ 1,  2,  3,  0,  0],
           [ 2,  5,  8,  3,  0],
           [ 3,  8, 14,  8,  3],
           [ 0,  3,  8, 13,  6],
           [ 0,  0,  3,  6,  9]])
    """

    dtype: np.dtype[Any]
    shape: tuple[int, int]

    __array_ufunc__ = None  # ndarray @ A comes here instead of asking NumPy
    __array_priority__ = 100.0

    def __init__(
        self, dtype: Any, in_shape: Sequence[int] | int, out_shape: Sequence[int] | int
    ) -> None:
        self.in_shape = sizes(in_shape, "in_shape")
        self.out_shape = sizes(out_shape, "out_shape")
        shape = (math.prod(self.out_shape), math.prod(self.in_shape))
        super().__init__(np.dtype(dtype), shape)
        self.dims, self.dimsd = self.in_shape, self.out_shape  # PyLops reads these
        self._views = weakref.WeakValueDictionary()

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        """Return A X; (n, b) -> (m, b)."""
        raise NotImplementedError(f"{type(self).__name__} must implement _matmat(X)")

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        """Return A^H X; (m, b) -> (n, b)."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement _rmatmat(X) for its adjoint"
        )

    def _tmatmat(self, Y: np.ndarray) -> np.ndarray:
        """Return A^T Y; (m, b) -> (n, b)."""
        if self.dtype.kind != "c":
            return self._rmatmat(Y)
        return self._rmatmat(Y.conj()).conj()

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        """Return A x; SciPy's composites call this."""
        return self._matmat(x.reshape(-1, 1))[:, 0]

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        """Return A^H x; SciPy's composites call this."""
        return self._rmatmat(x.reshape(-1, 1))[:, 0]

    def _tosparse(self) -> CsrArray:
        """Return a fresh CSR array; by default from products with the identity."""
        blocks = []
        for start in range(0, self.shape[1], _COLUMNS):
            columns = np.arange(start, min(start + _COLUMNS, self.shape[1]))
            X = np.zeros((self.shape[1], len(columns)), self.dtype)
            X[columns, np.arange(len(columns))] = 1
            blocks.append(scipy.sparse.csc_array(self._matmat(X)))
        return _canonical(scipy.sparse.hstack(blocks, format="csr"))

    def _tosparse_transposed(self) -> CsrArray:
        return _canonical(self._tosparse().T.tocsr())

    def __call__(self, x: Any) -> np.ndarray:
        """Return A(x) for shaped arrays: (*batch, *in_shape) -> (*batch, *out_shape)."""
        x = _arrays.as_array(x, "x")
        d = len(self.in_shape)
        if x.shape[max(0, x.ndim - d) :] != self.in_shape:
            flat = x.ndim <= 2 and x.shape[:1] == self.shape[1:]
            raise ValueError(
                f"A(x) expects shape (*batch, {str(self.in_shape)[1:-1].rstrip(',')}), "
                f"got {x.shape}" + ("; for flat vectors write A @ x" if flat else "")
            )
        batch = x.shape[: x.ndim - d]
        X = x.reshape(math.prod(batch), self.shape[1]).T
        return self._apply(self._matmat, X).T.reshape(*batch, *self.out_shape)

    def matvec(self, x: Any) -> np.ndarray:
        """Return A x for x of shape (n,) or (n, 1)."""
        return self._vector("matvec", self._matmat, x, self.shape[1], self.shape[0])

    def rmatvec(self, x: Any) -> np.ndarray:
        """Return A^H x, the adjoint's product, for x of shape (m,) or (m, 1)."""
        return self._vector("rmatvec", self._rmatmat, x, self.shape[0], self.shape[1])

    def matmat(self, X: Any) -> np.ndarray:
        """Return A X for X of shape (n, b)."""
        return self._columns("matmat", self._matmat, X, self.shape[1], self.shape[0])

    def rmatmat(self, X: Any) -> np.ndarray:
        """Return A^H X for X of shape (m, b)."""
        return self._columns("rmatmat", self._rmatmat, X, self.shape[0], self.shape[1])

    def dot(self, x: Any) -> Any:
        """Return A x, A X, or the product operator, by what `x` is."""
        if isinstance(x, _Base) or scipy.sparse.issparse(x):
            return Product(self, aslinearoperator(x))
        if _is_scalar(x):
            raise TypeError(f"A @ x needs a vector, got the scalar {x!r}; write a * A")
        x = _arrays.as_array(x, "x")
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def _vector(self, name: str, hook: Any, x: Any, n: int, other: int) -> np.ndarray:
        x = _arrays.as_array(x, "x")
        if x.shape not in ((n,), (n, 1)):
            raise ValueError(
                f"{name} expects shape ({n},) or ({n}, 1), got {x.shape}"
                + self._hint(x.shape, n, other)
            )
        y = self._apply(hook, x.reshape(n, 1))
        return y[:, 0] if x.ndim == 1 else y

    def _columns(self, name: str, hook: Any, X: Any, n: int, other: int) -> np.ndarray:
        X = _arrays.as_array(X, "X")
        if X.ndim != 2 or X.shape[0] != n:
            raise ValueError(
                f"{name} expects shape ({n}, b), got {X.shape}" + self._hint(X.shape, n, other)
            )
        return self._apply(hook, X)

    def _hint(self, shape: tuple[int, ...], n: int, other: int) -> str:
        if shape in (self.in_shape, self.out_shape) and len(shape) > 1:
            return "; for shaped arrays write A(x)"
        if shape and shape[0] == other != n:
            return f"; {other} is the size of the other side: is A.T or A.H meant?"
        return ""

    def _apply(self, hook: Any, X: np.ndarray) -> np.ndarray:
        """Run a hook on columns of a native dtype and fix the dtype of the result."""
        dtype = np.result_type(self.dtype, X.dtype)
        if not X.dtype.isnative:
            X = X.astype(X.dtype.newbyteorder("="))
        return np.asarray(hook(X)).astype(dtype, copy=False)

    def _view(self, transpose: bool, conjugate: bool) -> LinearOperator:
        """Return a view that holds this operator; weakly known here, so B.T.T is B too."""
        key = (transpose, conjugate and self.dtype.kind == "c")
        if not any(key):
            return self
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(self, *key)
        return view

    @property
    def T(self) -> LinearOperator:
        """The transpose, without conjugation; ``A.T.T is A``."""
        return self._view(True, False)

    @property
    def H(self) -> LinearOperator:
        """The adjoint: the conjugate transpose; ``A.H.H is A``."""
        return self._view(True, True)

    def conj(self) -> LinearOperator:
        """Return the operator with conjugated entries, A itself if it is real."""
        return self._view(False, True)

    def transpose(self) -> LinearOperator:
        """Return ``A.T``."""
        return self.T

    def adjoint(self) -> LinearOperator:
        """Return ``A.H``."""
        return self.H

    conjugate = conj

    def __matmul__(self, x: Any) -> Any:
        return self.dot(x)

    def __rmatmul__(self, x: Any) -> Any:
        if isinstance(x, _Base) or scipy.sparse.issparse(x):
            return Product(aslinearoperator(x), self)
        x = _arrays.as_array(x, "x")
        return (self.T @ x.T).T

    def __mul__(self, x: Any) -> Any:
        return Scaled(x, self) if _is_scalar(x) else self.dot(x)  # dot: as in SciPy

    def __rmul__(self, x: Any) -> Any:
        return Scaled(x, self) if _is_scalar(x) else self.__rmatmul__(x)

    def __truediv__(self, a: Any) -> LinearOperator:
        return Scaled(1 / a, self) if _is_scalar(a) else NotImplemented

    def __neg__(self) -> LinearOperator:
        return Scaled(-1, self)

    def __add__(self, other: Any) -> LinearOperator:
        return NotImplemented if _is_scalar(other) else Sum(self, aslinearoperator(other))

    def __radd__(self, other: Any) -> LinearOperator:
        return NotImplemented if _is_scalar(other) else Sum(aslinearoperator(other), self)

    def __sub__(self, other: Any) -> LinearOperator:
        return NotImplemented if _is_scalar(other) else self + -aslinearoperator(other)

    def __rsub__(self, other: Any) -> LinearOperator:
        return NotImplemented if _is_scalar(other) else aslinearoperator(other) + -self

    def __pow__(self, p: int) -> LinearOperator:
        p = integer(p, "the power of an operator")
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"only a square operator has powers, got shape {self.shape}")
        if p < 0:
            raise ValueError(f"the power of an operator must be >= 0, got {p}: solve instead")
        if p < 2:
            return self if p else Identity(self.in_shape, self.dtype)
        return Product(*(self,) * p)

    def tosparse(self, format: str = "csr") -> Any:
        """Return the matrix of ``A`` as a fresh, canonical sparse array.

        Parameters
        ----------
        format : str
            One of SciPy's formats: "csr", "csc", "coo", ...

        Returns
        -------
        sparse array, ``(prod(out_shape), prod(in_shape))``
        """
        return self._tosparse().asformat(format)

    def toarray(self) -> np.ndarray:
        """Return the matrix of ``A`` as a dense array; for small operators."""
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        what = f"the dense matrix of shape {self.shape}"
        _arrays.require_memory(nbytes, what, "use tosparse()")
        return self._tosparse().toarray()

    def _signature(self) -> str:
        return f"{self.dtype.name}, {self.in_shape} -> {self.out_shape}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._signature()})"

    def __getstate__(self) -> dict[str, Any]:
        # SciPy >= 1.18 keeps a module in _xp; views are made again when asked for.
        return {k: v for k, v in self.__dict__.items() if k not in ("_xp", "_views")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _Base.__init__(self, state["dtype"], state["shape"])
        self.__dict__.update(state)
        self._views = weakref.WeakValueDictionary()


class View(LinearOperator):
    """The transpose, conjugate or adjoint of `base`, to which it holds a reference."""

    def __init__(self, base: LinearOperator, transpose: bool, conjugate: bool) -> None:
        shapes = (base.in_shape, base.out_shape)
        super().__init__(base.dtype, *(shapes[::-1] if transpose else shapes))
        self.base, self._transposes, self._conjugates = base, transpose, conjugate

    def _view(self, transpose: bool, conjugate: bool) -> LinearOperator:
        return self.base._view(transpose ^ self._transposes, conjugate ^ self._conjugates)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        if not self._transposes:
            return self.base._matmat(X.conj()).conj()
        return self.base._rmatmat(X) if self._conjugates else self.base._tmatmat(X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        if not self._transposes:
            return self.base._tmatmat(X)
        if self._conjugates or self.dtype.kind != "c":
            return self.base._matmat(X)
        return self.base._matmat(X.conj()).conj()

    def _tosparse(self) -> CsrArray:
        base = self.base
        matrix = base._tosparse_transposed() if self._transposes else base._tosparse()
        if self._conjugates:
            np.conjugate(matrix.data, out=matrix.data)
        return matrix

    def __getattr__(self, name: str) -> Any:
        # What describes a convolution describes its transpose: kernel, geometry, method.
        if name in ("kernel", "geometry", "method", "explain") and "base" in self.__dict__:
            return getattr(self.base, name)
        if name == "with_kernel" and hasattr(self.__dict__.get("base"), name):
            make: Any = getattr(self.base, name)
            return lambda w: make(w)._view(self._transposes, self._conjugates)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        suffix = {(True, False): ".T", (True, True): ".H", (False, True): ".conj()"}
        return f"{self.base!r}{suffix[self._transposes, self._conjugates]}"


class Identity(LinearOperator):
    """The identity on arrays of `in_shape`.

    Parameters
    ----------
    in_shape : int or tuple of int
        Shape of the arrays.
    dtype : dtype
        Of the ones on the diagonal.

    Examples
    --------
    >>> (2 * Identity(3, dtype=int)).toarray()
    array([[2, 0, 0],
           [0, 2, 0],
           [0, 0, 2]])
    """

    def __init__(self, in_shape: Sequence[int] | int, dtype: Any = float) -> None:
        super().__init__(dtype, in_shape, in_shape)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return X.copy()

    _rmatmat = _matmat

    def _tosparse(self) -> CsrArray:
        n = self.shape[0]
        index = _arrays.index_dtype(self.shape, n)
        ones, places = np.ones(n, self.dtype), np.arange(n + 1, dtype=index)
        return _arrays.sparse_array(ones, places[:-1].copy(), places, self.shape)


class Stored(LinearOperator):
    """An operator whose products are those of a stored, canonical CSR array."""

    def __init__(
        self, csr: CsrArray, in_shape: Sequence[int] | int, out_shape: Sequence[int] | int
    ) -> None:
        super().__init__(csr.dtype, in_shape, out_shape)
        if self.shape != csr.shape:
            raise ValueError(
                f"a matrix of shape {csr.shape} cannot map in_shape {self.in_shape} to "
                f"out_shape {self.out_shape}: they need a matrix of shape {self.shape}"
            )
        self._csr = _products.read_only(csr)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return _products.forward(self._csr, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return _products.adjoint(self._csr, X)

    def _tosparse(self) -> CsrArray:
        return self._csr.copy()

    def _signature(self) -> str:
        return f"{super()._signature()}, nnz={self._csr.nnz}"


class Matrix(Stored):
    """The operator of a sparse array, sparse matrix or dense 2-d array, copied.

    Parameters
    ----------
    matrix : sparse array or array_like, (m, n)
        The matrix.
    in_shape, out_shape : tuple of int, optional
        Shapes of the arrays it maps; flat vectors by default.

    Raises
    ------
    ValueError
        If `matrix` is not 2-d or the shapes have other sizes than it.
    TypeError
        If it holds no numbers.

    Examples
    --------
    >>> Matrix([[1, 2], [3, 4]]).H @ [1, 1]
    array([4, 6])
    """

    def __init__(
        self,
        matrix: Any,
        *,
        in_shape: Sequence[int] | int | None = None,
        out_shape: Sequence[int] | int | None = None,
    ) -> None:
        if not scipy.sparse.issparse(matrix):
            matrix = _arrays.as_values(matrix, None, "matrix")
        if matrix.ndim != 2:
            raise ValueError(f"a matrix must be 2-d, got shape {matrix.shape}")
        csr: CsrArray = csr_array(matrix, dtype=_arrays.matrix_dtype(matrix.dtype), copy=True)
        m, n = csr.shape
        super().__init__(
            _canonical(csr),
            n if in_shape is None else in_shape,
            m if out_shape is None else out_shape,
        )


class _Foreign(LinearOperator):
    """Somebody else's operator, which keeps to SciPy's protocol."""

    def __init__(self, subject: Any) -> None:
        m, n = subject.shape
        self.operator = scipy.sparse.linalg.aslinearoperator(subject)
        super().__init__(self.operator.dtype, n, m)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.operator.matmat(X))

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.operator.rmatmat(X))

    def __repr__(self) -> str:
        return f"aslinearoperator({self._signature()}, {self.operator!r})"


class _Composite(LinearOperator):
    """An operator made of operands, which its repr shows indented."""

    operands: tuple[LinearOperator, ...]

    def __repr__(self) -> str:
        parts = ",\n".join(textwrap.indent(repr(part), "    ") for part in self.operands)
        return f"{type(self).__name__}({self._signature()},\n{parts})"


class Scaled(_Composite):
    """``a A`` for a scalar `a`."""

    def __init__(self, scalar: Any, operand: LinearOperator) -> None:
        scalar = scalar.item() if isinstance(scalar, np.ndarray) else scalar
        dtype = np.result_type(operand.dtype, scalar)
        super().__init__(dtype, operand.in_shape, operand.out_shape)
        self.scalar, self.operands = dtype.type(scalar), (operand,)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.scalar * self.operands[0]._matmat(X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self.scalar.conjugate() * self.operands[0]._rmatmat(X)

    def _tosparse(self) -> CsrArray:
        return self.scalar * self.operands[0]._tosparse()

    def _signature(self) -> str:
        return f"{self.scalar!s} *, {super()._signature()}"


class Sum(_Composite):
    """``A + B + ...`` of operators with the same shape."""

    def __init__(self, *operands: LinearOperator) -> None:
        first = operands[0]
        for other in operands[1:]:
            if other.shape != first.shape:
                raise ValueError(
                    f"operators of a sum must have one shape, got {first.shape} "
                    f"and {other.shape}"
                )
        shaped = next((part for part in operands if len(part.in_shape) > 1), first)
        dtype = np.result_type(*(part.dtype for part in operands))
        super().__init__(dtype, shaped.in_shape, shaped.out_shape)
        flat = (part.operands if isinstance(part, Sum) else (part,) for part in operands)
        self.operands = tuple(part for parts in flat for part in parts)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return functools.reduce(operator.add, (part._matmat(X) for part in self.operands))

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return functools.reduce(operator.add, (part._rmatmat(X) for part in self.operands))

    def _tosparse(self) -> CsrArray:
        parts = (part._tosparse() for part in self.operands)
        return _canonical(functools.reduce(operator.add, parts))


class Product(_Composite):
    """``A B ...``: the last operand is applied first."""

    def __init__(self, *operands: LinearOperator) -> None:
        for left, right in itertools.pairwise(operands):
            if left.shape[1] != right.shape[0]:
                raise ValueError(
                    f"A @ B needs as many columns of A as rows of B, got shapes {left.shape} "
                    f"and {right.shape}"
                )
        dtype = np.result_type(*(part.dtype for part in operands))
        super().__init__(dtype, operands[-1].in_shape, operands[0].out_shape)
        flat = (part.operands if isinstance(part, Product) else (part,) for part in operands)
        self.operands = tuple(part for parts in flat for part in parts)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        for part in reversed(self.operands):
            X = part._matmat(X)
        return X

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        for part in self.operands:
            X = part._rmatmat(X)
        return X

    def _tosparse(self) -> CsrArray:
        parts = (part._tosparse() for part in self.operands)
        return _canonical(functools.reduce(operator.matmul, parts))


def aslinearoperator(A: Any) -> LinearOperator:
    """Return `A` as a linconv operator.

    Parameters
    ----------
    A : LinearOperator, sparse or dense matrix, or any object of SciPy's protocol
        linconv's own operators come back as they are; matrices are copied; other
        objects need ``shape``, ``matvec`` and, for an adjoint, ``rmatvec``.

    Raises
    ------
    TypeError
        If `A` is none of these.
    """
    if isinstance(A, LinearOperator):
        return A
    if scipy.sparse.issparse(A) or isinstance(A, (np.ndarray, list, tuple)):
        return Matrix(A)
    if hasattr(A, "shape") and hasattr(A, "matvec"):
        return _Foreign(A)
    raise TypeError(
        "expected a LinearOperator, a sparse array, a 2-d array or an object with shape and "
        f"matvec, got {type(A).__name__}"
    )


def _canonical(matrix: Any) -> CsrArray:
    matrix.sum_duplicates()  # sorts as well; nothing to do for a canonical one
    return matrix


def _is_scalar(x: Any) -> bool:
    number = (int, float, complex, np.number, np.bool_)
    return isinstance(x, number) or (isinstance(x, np.ndarray) and x.ndim == 0)
