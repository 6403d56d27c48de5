"""LinearOperator: a linear map between arrays of two shapes, and its algebra.

Knows nothing of convolutions.  ``.H`` is the adjoint, the conjugate transpose; ``.T`` is the
transpose without conjugation.  Public methods check shapes once; hooks get arrays of the right
size.  The results of hooks that are defined outside linconv are checked, too.

Arrays of more axes are read as SciPy reads them since version 1.18: ``matvec`` takes vectors
``(..., n)``; ``matmat`` and ``A @ X`` take columns ``(..., n, k)``.  ``A(x)`` takes shaped
arrays ``(*batch, *in_shape)``; for operators of one axis it is ``A @ x``.
"""

from __future__ import annotations

import copy
import math
import sys
import weakref
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from linconv import _arrays, gpu
from linconv._arrays import CsrArray, is_operator, is_scalar
from linconv._options import at_least, integer, sizes

# Operators make composites, which are operators themselves.  This circular import works since
# the package imports algebra first and only methods, which run later, use its names.
from linconv.operators import algebra, hooks, notebook

_Base: Any = scipy.sparse.linalg.LinearOperator  # Any: SciPy has no annotations
# Columns of the identity that are multiplied at once to find an unknown matrix.
_COLUMNS = 64
# Attributes that describe an operator: each is assigned once.
_FIXED = {
    *("dtype", "shape", "in_shape", "out_shape", "dims", "dimsd", "kernel", "geometry"),
    *("method", "diagonal", "base", "operands", "scalar", "grid", "operator"),
}
# The formats of sparse arrays.
_FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


class LinearOperator(_Base):
    """A linear map ``A`` from arrays of `in_shape` to arrays of `out_shape`.

    A true subclass of `scipy.sparse.linalg.LinearOperator` with an algebra that
    keeps its structure: ``A.T``, ``A.H``, ``A + B``, ``A @ B``, ``2 * A`` are
    operators that know their operands, and `tosparse` turns any expression into
    one sparse matrix.  Subclasses call ``super().__init__`` and implement

    - ``_matmat(X)``: ``(n, b) -> (m, b)``, the product A X, or SciPy's ``_matvec(x)``,
    - ``_rmatmat(Y)``: ``(m, b) -> (n, b)``, the product A^H Y, or SciPy's ``_rmatvec(y)`` or
      ``_adjoint()``,
    - and, where the matrix is known, ``_tosparse()``: a fresh CSR array.

    Attributes that describe an operator, such as its shape, cannot be assigned.

    Parameters
    ----------
    dtype : dtype
        Dtype of the matrix.  A product has dtype ``result_type(A.dtype, x.dtype)``.
    in_shape, out_shape : tuple of int
        Shapes of the arrays that ``A(x)`` takes and returns.

    Attributes
    ----------
    shape : (int, int)
        ``(prod(out_shape), prod(in_shape))``.

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

    __array_ufunc__ = None  # makes ndarray @ A call __rmatmul__ here
    __array_priority__ = 100.0
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    explicit = False  # PyLops and pyproximal read this, dims and dimsd

    # Whether the dtype of a product is that of the data, as with a Python number: operators
    # of zeros and ones, whose user named no dtype.
    _weak = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "linconv":
            for name in hooks.HOOKS & set(vars(cls)):
                setattr(cls, name, hooks.checked(name, vars(cls)[name]))

    def __init__(
        self, dtype: Any, in_shape: Sequence[int] | int, out_shape: Sequence[int] | int
    ) -> None:
        if not (self._implements("_matmat") or self._implements("_matvec")):
            raise NotImplementedError(
                f"{type(self).__name__} must implement _matmat(X), or _matvec(x)"
            )
        self.in_shape = sizes(in_shape, "in_shape")
        self.out_shape = sizes(out_shape, "out_shape")
        shape = (math.prod(self.out_shape), math.prod(self.in_shape))
        super().__init__(_arrays.native(dtype), shape)
        self.dims, self.dimsd = self.in_shape, self.out_shape
        self._views = weakref.WeakValueDictionary()

    def _implements(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(LinearOperator, hook)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(
                f"{name} describes the operator and cannot be assigned: make a new operator"
            )
        super().__setattr__(name, value)

    def _replaced(self, **attributes: Any) -> Any:
        """Return a copy with other attributes."""
        changed = copy.copy(self)
        changed.__dict__.update(attributes)
        return changed

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        """Return A X; (n, b) -> (m, b)."""
        return hooks.by_columns(self._matvec, X, self.shape[0])

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        """Return A^H X; (m, b) -> (n, b)."""
        if self._implements("_rmatvec"):
            return hooks.by_columns(self._rmatvec, X, self.shape[1])
        if type(self)._adjoint is not _Base._adjoint:
            return self._adjoint().matmat(X)
        raise NotImplementedError(
            f"{type(self).__name__} must implement _rmatmat(X), or _rmatvec(x), for its "
            "adjoint"
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
        if self.device == "gpu":
            raise NotImplementedError(
                f"{type(self).__name__} has no matrix on the GPU: use A.to('cpu').tosparse()"
            )
        blocks = []
        for start in range(0, self.shape[1], _COLUMNS):
            columns = np.arange(start, min(start + _COLUMNS, self.shape[1]))
            X = np.zeros((self.shape[1], len(columns)), self.dtype)
            X[columns, np.arange(len(columns))] = 1
            blocks.append(scipy.sparse.csc_array(self._matmat(X)))
        return gpu.host.canonical(scipy.sparse.hstack(blocks, format="csr"))

    def _tosparse_transposed(self) -> CsrArray:
        matrix = self._tosparse().T.tocsr()
        return gpu.home(matrix).canonical(matrix)

    def __call__(self, x: Any) -> np.ndarray:
        """Return A(x) for shaped arrays: (*batch, *in_shape) -> (*batch, *out_shape).

        An operator of one axis, on both sides, computes ``A @ x``, as SciPy and its `lobpcg`
        mean it; its batches go through `matvec`.  Where no other meaning is possible, flat
        arrays, ``(n,)`` and ``(n, k)``, give ``A @ x`` too.
        """
        x = self._as_operand(x, "x")
        d, n = len(self.in_shape), self.shape[1]
        if d == len(self.out_shape) == 1:
            return self.dot(x)
        if x.shape[max(0, x.ndim - d) :] != self.in_shape:
            if x.ndim in (1, 2) and x.shape[0] == n != self.in_shape[0]:
                return self.dot(x)
            raise ValueError(
                f"A(x) expects shape (*batch, {str(self.in_shape)[1:-1].rstrip(',')}), "
                f"got {x.shape}{self._hint(x.shape, *self.shape[::-1])}"
            )
        batch = x.shape[: x.ndim - d]
        X = x.reshape(math.prod(batch), self.shape[1]).T
        return self._apply(self._matmat, X).T.reshape(*batch, *self.out_shape)

    def matvec(self, x: Any) -> np.ndarray:
        """Return A x for vectors x of shape (..., n), or one column (n, 1)."""
        return self._vectors("matvec", self._matmat, x, self.shape[1], self.shape[0])

    def rmatvec(self, x: Any) -> np.ndarray:
        """Return A^H x for vectors x of shape (..., m), or one column (m, 1)."""
        return self._vectors("rmatvec", self._rmatmat, x, self.shape[0], self.shape[1])

    def matmat(self, X: Any) -> np.ndarray:
        """Return A X for columns X of shape (..., n, k)."""
        return self._columns("matmat", self._matmat, X, self.shape[1], self.shape[0])

    def rmatmat(self, X: Any) -> np.ndarray:
        """Return A^H X for columns X of shape (..., m, k)."""
        return self._columns("rmatmat", self._rmatmat, X, self.shape[0], self.shape[1])

    def _vectors(self, name: str, hook: Any, x: Any, n: int, other: int) -> np.ndarray:
        x = self._as_operand(x, "x")
        if x.shape == (n, 1):
            return self._apply(hook, x)
        if x.ndim < 1 or x.shape[-1] != n:
            raise ValueError(
                f"{name} expects shape (..., {n}) or ({n}, 1), got {x.shape}"
                + self._hint(x.shape, n, other)
            )
        y = self._apply(hook, x.reshape(math.prod(x.shape[:-1]), n).T)
        return y[:, 0] if x.ndim == 1 else y.T.reshape(*x.shape[:-1], other)

    def _columns(self, name: str, hook: Any, X: Any, n: int, other: int) -> np.ndarray:
        X = self._as_operand(X, "X")
        if X.ndim < 2 or X.shape[-2] != n:
            raise ValueError(
                f"{name} expects shape (..., {n}, k), got {X.shape}"
                + self._hint(X.shape, n, other)
            )
        if X.ndim == 2:
            return self._apply(hook, X)
        rows = np.moveaxis(X, -2, 0)
        Y = self._apply(hook, rows.reshape(n, math.prod(rows.shape[1:])))
        return np.moveaxis(Y.reshape(other, *rows.shape[1:]), 0, -2)

    def _hint(self, shape: tuple[int, ...], n: int, other: int) -> str:
        """Return what may have been meant by an array of the wrong shape."""
        inner = self.in_shape if n == self.shape[1] else self.out_shape
        if len(inner) > 1 and shape[-len(inner) :] == inner:
            return "; for shaped arrays write A(x)"
        if len(shape) > 1 and shape[-1] == n:
            return "; for a batch of vectors (..., n) write A.matvec(x)"
        if len(shape) > 1 and shape[-2] == n:
            return "; for columns (..., n, k) write A @ x"
        if other != n and other in (shape[:1] + shape[-2:]):
            return f"; {other} is the size of the other side: is A.T or A.H meant?"
        return ""

    @property
    def _promotes(self) -> Any:
        """The argument for `numpy.result_type`: a dtype, or a Python number if weak."""
        return self.dtype.type(0).item() if self._weak else self.dtype

    def _yield(self, dtype: Any) -> Self:
        """Let data decide the dtype of products where the user named none; return self."""
        self._weak = dtype is None
        return self

    def _as_data(self, Y: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Return a product in the dtype of the data where the operator does not decide it."""
        dtype = np.result_type(self._promotes, X.dtype)
        return Y.astype(dtype, copy=False) if self._weak else Y

    def _apply(self, hook: Any, X: np.ndarray) -> np.ndarray:
        """Call a hook on columns of a native dtype; return the result in the right dtype."""
        dtype = np.result_type(self._promotes, X.dtype)
        if not X.dtype.isnative:
            X = X.astype(X.dtype.newbyteorder("="))
        Y = hook(X)
        if Y.dtype.kind == "c" != dtype.kind:
            raise TypeError(
                f"{type(self).__name__} has dtype {self.dtype}, but its product with "
                f"{X.dtype} is {Y.dtype}, whose imaginary part would be lost: declare a "
                "complex dtype"
            )
        return Y.astype(dtype, copy=False)

    def _as_operand(self, x: Any, name: str) -> Any:
        """Return `x` as an array on this operator's device."""
        return gpu.at(self.device or gpu.device_of(x)).as_array(x, name)

    @property
    def _xp(self) -> Any:
        """The array namespace, which SciPy's composites read since version 1.18."""
        on_gpu = self.device == "gpu"
        return sys.modules["cupy"] if on_gpu else self.__dict__.get("_host_xp", np)

    @_xp.setter
    def _xp(self, namespace: Any) -> None:
        self.__dict__["_host_xp"] = namespace

    @property
    def device(self) -> str | None:
        """Device of the arrays: "cpu" for NumPy's, "gpu" for CuPy's, None for either."""
        return self._device()

    def _device(self) -> str | None:
        return "cpu"

    def to(self, device: str) -> Any:
        """Return the operator for arrays on the "cpu" (NumPy) or the "gpu" (CuPy).

        Parameters
        ----------
        device : str
            "cpu" or "gpu".  An operator already on this device is returned itself.

        Raises
        ------
        ValueError
            If there is no such device.
        RuntimeError
            If there is no GPU, or no CuPy that can use it.
        TypeError
            If CuPy's matrices cannot hold its dtype, or it cannot be moved.
        """
        if device not in ("cpu", "gpu"):
            raise ValueError(f'device must be "cpu" or "gpu", got {device!r}')
        if self.device in (device, None):
            return self
        # This weak cache makes A.H @ A become B.H @ B with the same B twice.
        moved = self._views.get(device)
        if moved is None:
            moved = self._views[device] = self._moved(device)
        return moved

    def _moved(self, device: str) -> Any:
        """Return the operator on the other device."""
        raise TypeError(
            f"{type(self).__name__} cannot be moved: it lies on the {self.device}, and its "
            "class does not implement _moved(device)"
        )

    @property
    def T(self) -> Any:
        """The transpose, without conjugation; ``A.T.T is A``."""
        return self._view(True, False)

    @property
    def H(self) -> Any:
        """The adjoint: the conjugate transpose; ``A.H.H is A``."""
        return self._view(True, True)

    def conj(self) -> Any:
        """Return the operator with conjugated entries, A itself if it is real."""
        return self._view(False, True)

    def transpose(self) -> Any:
        """Return ``A.T``."""
        return self.T

    def adjoint(self) -> Any:
        """Return ``A.H``."""
        return self.H

    conjugate = conj

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H is A``, by the operator's structure, as that of ``A.H @ A``."""
        return self._is_hermitian()

    def _is_hermitian(self) -> bool:
        return False

    def _view(self, transpose: bool, conjugate: bool) -> LinearOperator:
        """Return a view of this operator, from a weak cache, so that ``A.T is A.T``."""
        if transpose and self.hermitian:  # A^T = conj(A)
            transpose, conjugate = False, not conjugate
        key = (transpose, conjugate and self.dtype.kind == "c")
        if not any(key):
            return self
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = algebra.View(self, *key)
        return view

    @property
    def real(self) -> LinearOperator:
        """The operator of the real parts of the matrix; A itself if it is real."""
        return algebra.ComplexPart(self, "real") if self.dtype.kind == "c" else self

    @property
    def imag(self) -> LinearOperator:
        """The operator of the imaginary parts of the matrix; ``0 * A`` if it is real."""
        return algebra.ComplexPart(self, "imag") if self.dtype.kind == "c" else 0 * self

    def __getitem__(self, key: Any) -> LinearOperator:
        """Return some rows and columns of the matrix: ``A[rows]`` or ``A[rows, columns]``.

        Rows and columns are a slice, a mask, an array of indices or an integer, which keeps
        its axis; a mask may have the shape of the arrays, `out_shape` or `in_shape`.
        """
        pair = isinstance(key, tuple) and len(key) == 2
        return algebra.submatrix(self, *(key if pair else (key, slice(None))))

    def dot(self, x: Any) -> Any:
        """Return A x for a vector, A X for columns, or the operator A B for an operator."""
        if is_operator(x):
            return algebra.Product(self, x)
        if is_scalar(x):
            raise TypeError(f"A @ x needs a vector, got the scalar {x!r}; write a * A")
        x = self._as_operand(x, "x")
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def rdot(self, x: Any) -> Any:
        """Return x A for rows x of shape (m,) or (..., k, m); for an operator x a product."""
        if is_operator(x):
            return algebra.Product(x, self)
        x = self._as_operand(x, "x")
        if x.ndim < 2:
            return self.T.dot(x)
        return np.moveaxis(self.T.matmat(np.moveaxis(x, -1, -2)), -1, -2)

    def __matmul__(self, x: Any) -> Any:
        return self.dot(x)

    def __rmatmul__(self, x: Any) -> Any:
        return self.rdot(x)

    def __mul__(self, x: Any) -> Any:
        return algebra.Scaled(x, self) if is_scalar(x) else self.dot(x)  # SciPy's * is dot

    def __rmul__(self, x: Any) -> Any:
        return algebra.Scaled(x, self) if is_scalar(x) else self.__rmatmul__(x)

    def __truediv__(self, a: Any) -> LinearOperator:
        return self._divided(a) if is_scalar(a) else NotImplemented

    def _divided(self, a: Any) -> LinearOperator:
        return algebra.Scaled(1 / a, self)

    def __neg__(self) -> LinearOperator:
        return algebra.Scaled(-1, self)

    def __add__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else algebra.Sum(self, other)

    def __radd__(self, other: Any) -> LinearOperator:
        if is_scalar(other):  # sum([A, B]) begins with 0
            return self if other == 0 else NotImplemented
        return algebra.Sum(other, self)

    def __sub__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else self + algebra.Scaled(-1, other)

    def __rsub__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else algebra.Sum(other, -self)

    def __pow__(self, p: int) -> LinearOperator:
        p = integer(p, "the power of an operator")
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"only a square operator has powers, got shape {self.shape}")
        if p < 0:
            raise ValueError(f"the power of an operator must be >= 0, got {p}: solve instead")
        if p < 2:
            return self if p else algebra.Identity(self.in_shape, self.dtype)
        return algebra.Product(*(self,) * p)

    def reshape(self, *, in_shape: Any = None, out_shape: Any = None) -> LinearOperator:
        """Return the operator of the same matrix between arrays of other shapes.

        Parameters
        ----------
        in_shape, out_shape : int or tuple of int, optional
            Shapes of the same sizes; by default those of this operator.

        Raises
        ------
        ValueError
            If a shape has another size.

        Examples
        --------
        >>> import linconv
        >>> linconv.Identity((2, 6)).reshape(out_shape=(3, 4)).out_shape
        (3, 4)
        """
        given = in_shape or self.in_shape, out_shape or self.out_shape
        return algebra.reshaped(
            self, sizes(given[0], "in_shape"), sizes(given[1], "out_shape")
        )

    def apply_columns(self, columns: Any) -> LinearOperator:
        """Return ``A[:, columns]``, which PyLops' solvers for sparse signals call."""
        return self[:, columns]

    def tosparse(self, format: str = "csr") -> Any:
        """Return the matrix of ``A`` as a fresh, canonical sparse array.

        Parameters
        ----------
        format : str
            One of SciPy's formats: "csr", "csc", "coo", ...

        Returns
        -------
        sparse array, ``(prod(out_shape), prod(in_shape))``

        Raises
        ------
        ValueError, TypeError
            If there is no such format.
        """
        if format not in _FORMATS:
            kind = ValueError if isinstance(format, str) else TypeError
            raise kind(f"format must be one of {', '.join(_FORMATS)}, got {format!r}")
        return algebra.of_dtype(self._tosparse(), self.dtype).asformat(format)

    def toarray(self) -> np.ndarray:
        """Return the matrix of ``A`` as a dense array; for small operators."""
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        what = f"the dense matrix of shape {self.shape}"
        _arrays.require_memory(nbytes, what, "use tosparse()")
        return self._tosparse().toarray()

    def eigs(
        self, neigs: int = 1, symmetric: bool = False, niter: int | None = None, **options: Any
    ) -> np.ndarray:
        """Return the eigenvalues of largest magnitude by SciPy, as PyLops' solvers expect.

        Parameters
        ----------
        neigs : int
            Number of eigenvalues, below the number of rows minus 1.
        symmetric : bool
            Whether the operator is Hermitian.
        niter : int, optional
            Largest number of iterations.
        **options
            Options of `scipy.sparse.linalg.eigsh` or `eigs`.

        Returns
        -------
        ndarray, (neigs,)
            The largest magnitude first.

        Raises
        ------
        TypeError
            If the operator lies on a GPU, where SciPy cannot multiply.
        """
        if self.device == "gpu":
            raise TypeError(
                "eigs is SciPy's and needs an operator on the host: A.to('cpu').eigs(); "
                "spectrum.norm(A) and singular_values(A, k) work on the GPU"
            )
        neigs = at_least(1, neigs, "neigs")
        solve = scipy.sparse.linalg.eigsh if symmetric else scipy.sparse.linalg.eigs
        options = {"return_eigenvectors": False, "maxiter": niter} | options
        values = solve(self, k=neigs, **options)
        return values[np.argsort(-np.abs(values))]

    def _along(self, before: int, after: int) -> LinearOperator | None:
        """Return ``kron(I, A, I)`` on arrays (before, n, after) as one operator, if known."""
        return None

    def __abs__(self) -> Any:
        raise TypeError(
            "an operator is not an array: abs(A.tosparse()) has the magnitudes of its "
            "entries, A.toarray() is its matrix, linconv.spectrum.norm(A) is its norm"
        )

    def _nnz(self) -> int | None:
        """Return the number of entries of `tosparse`, None where it is not known before."""
        return None

    def _signature(self) -> str:
        return f"{self.dtype.name}, {self.in_shape} -> {self.out_shape}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._signature()})"

    def __getstate__(self) -> dict[str, Any]:
        # SciPy >= 1.18 sets a module as _xp; views are made anew when they are needed.
        return {k: v for k, v in self.__dict__.items() if k not in ("_host_xp", "_views")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _Base.__init__(self, state["dtype"], state["shape"])
        self.__dict__.update(state)
        self._views = weakref.WeakValueDictionary()

    def _repr_html_(self) -> str:
        """Return the operator as a notebook shows it: shapes, nonzeros, bytes, parts."""
        return notebook.tree(self)
