"""LinearOperator: a map between two shaped spaces, its algebra and its views.

Knows nothing of convolutions; the products are those of _map.  ``.H`` is the
adjoint, the conjugate transpose; ``.T`` is the plain transpose.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import operator
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from scipy.sparse import csr_array

from linconv import _arrays, gpu
from linconv._arrays import CsrArray, is_everything, is_mask, is_operator, is_scalar
from linconv._options import integer
from linconv.methods import csr_products
from linconv.operators import notebook
from linconv.operators.shaped import ShapedMap, canonical, common_device, foreign_adjoint
from linconv.operators.stored import Held, selection


class LinearOperator(ShapedMap):
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

    __array_ufunc__ = None  # ndarray @ A comes here instead of asking NumPy
    __array_priority__ = 100.0

    def dot(self, x: Any) -> Any:
        """Return A x, A X, or the product operator, by what `x` is."""
        if is_operator(x):
            return Product(self, aslinearoperator(x))
        if is_scalar(x):
            raise TypeError(f"A @ x needs a vector, got the scalar {x!r}; write a * A")
        x = self._taken(x, "x")
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def _view(self, transpose: bool, conjugate: bool) -> LinearOperator:
        """Return a view that holds this operator; weakly known here, so B.T.T is B too."""
        if transpose and self.hermitian:  # A^T = conj(A)
            transpose, conjugate = False, not conjugate
        key = (transpose, conjugate and self.dtype.kind == "c")
        if not any(key):
            return self
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(self, *key)
        return view

    @property
    def real(self) -> LinearOperator:
        """The operator of the real parts of the matrix; A itself if it is real."""
        return Part(self, "real") if self.dtype.kind == "c" else self

    @property
    def imag(self) -> LinearOperator:
        """The operator of the imaginary parts of the matrix; ``0 * A`` if it is real."""
        return Part(self, "imag") if self.dtype.kind == "c" else 0 * self

    def __getitem__(self, key: Any) -> LinearOperator:
        """Return some rows and columns of the matrix: ``A[rows]`` or ``A[rows, columns]``.

        Each is a slice, a mask, an array of indices or an integer, which keeps its axis;
        a mask may have the shape of the arrays, `out_shape` or `in_shape`.
        """
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        parts = [self]
        if not is_everything(rows):
            parts.insert(0, _selection(rows, self.out_shape, self))
        if not is_everything(columns):
            parts.append(_selection(columns, self.in_shape, self).T)
        return Product(*parts) if len(parts) > 1 else self

    def __matmul__(self, x: Any) -> Any:
        return self.dot(x)

    def __rmatmul__(self, x: Any) -> Any:
        if is_operator(x):
            return Product(aslinearoperator(x), self)
        return (self.T @ self._taken(x, "x").T).T

    def __mul__(self, x: Any) -> Any:
        return Scaled(x, self) if is_scalar(x) else self.dot(x)  # dot: as in SciPy

    def __rmul__(self, x: Any) -> Any:
        return Scaled(x, self) if is_scalar(x) else self.__rmatmul__(x)

    def __truediv__(self, a: Any) -> LinearOperator:
        return Scaled(1 / a, self) if is_scalar(a) else NotImplemented

    def __neg__(self) -> LinearOperator:
        return Scaled(-1, self)

    def __add__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else Sum(self, aslinearoperator(other))

    def __radd__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else Sum(aslinearoperator(other), self)

    def __sub__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else self + -aslinearoperator(other)

    def __rsub__(self, other: Any) -> LinearOperator:
        return NotImplemented if is_scalar(other) else aslinearoperator(other) + -self

    def __pow__(self, p: int) -> LinearOperator:
        p = integer(p, "the power of an operator")
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"only a square operator has powers, got shape {self.shape}")
        if p < 0:
            raise ValueError(f"the power of an operator must be >= 0, got {p}: solve instead")
        if p < 2:
            return self if p else Identity(self.in_shape, self.dtype)
        return Product(*(self,) * p)

    def _repr_html_(self) -> str:
        """Return the operator as a notebook shows it: shapes, nonzeros, bytes, parts."""
        return notebook.tree(self)


class View(LinearOperator):
    """The transpose, conjugate or adjoint of `base`, to which it holds a reference."""

    def __init__(self, base: LinearOperator, transpose: bool, conjugate: bool) -> None:
        shapes = (base.in_shape, base.out_shape)
        super().__init__(base.dtype, *(shapes[::-1] if transpose else shapes))
        self.base, self._transposes, self._conjugates = base, transpose, conjugate

    @property
    def device(self) -> str | None:
        """Where its arrays lie: where those of its base do."""
        return self.base.device

    def _moved(self, device: str) -> LinearOperator:
        return self.base.to(device)._view(self._transposes, self._conjugates)

    def _view(self, transpose: bool, conjugate: bool) -> LinearOperator:
        return self.base._view(transpose ^ self._transposes, conjugate ^ self._conjugates)

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H`` is ``A``."""
        return self.base.hermitian

    def _nnz(self) -> int | None:
        return self.base._nnz()

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
            matrix.data = matrix.data.conj()
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
        Of the ones on the diagonal, one that a sparse matrix can hold.

    Examples
    --------
    >>> (2 * Identity(3, dtype=int)).toarray()
    array([[2, 0, 0],
           [0, 2, 0],
           [0, 0, 2]])
    """

    def __init__(self, in_shape: Sequence[int] | int, dtype: Any = float) -> None:
        super().__init__(_arrays.storable(dtype), in_shape, in_shape)

    @property
    def device(self) -> None:
        """Where its arrays lie: anywhere."""
        return None

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H`` is ``A``: yes."""
        return True

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return X.copy()

    _rmatmat = _matmat

    def _nnz(self) -> int:
        return self.shape[0]

    def _tosparse(self) -> CsrArray:
        n = self.shape[0]
        index = _arrays.index_dtype(self.shape, n)
        ones, places = np.ones(n, self.dtype), np.arange(n + 1, dtype=index)
        return _arrays.sparse_array(ones, places[:-1].copy(), places, self.shape)


class Stored(Held, LinearOperator):
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
        self._csr = csr if gpu.is_matrix(csr) else csr_products.read_only(csr)

    def _signature(self) -> str:
        return f"{super()._signature()}, nnz={self._csr.nnz}"


class Restriction(Stored):
    """Keep some samples of an array; the transpose puts them back, zeros elsewhere.

    Parameters
    ----------
    where : bool array, or what indexes an array
        A mask of the samples to keep, whose shape is then `in_shape`; or slices,
        integers and index arrays, one or a tuple of them, as in ``x[where]``.
    in_shape : int or tuple of int
        Shape of the arrays.  A mask has it already.
    dtype : dtype
        Of the ones in the matrix.

    Attributes
    ----------
    out_shape : tuple of int
        That of ``x[where]``: flat for a mask, a box for slices.

    Raises
    ------
    ValueError, IndexError
        If a mask has another shape than `in_shape`, nothing is kept, or it lies outside.

    Examples
    --------
    >>> Restriction([False, True, True], dtype=int).toarray()
    array([[0, 1, 0],
           [0, 0, 1]])
    >>> Restriction((slice(1, 3), slice(0, 2)), (4, 4))
    Restriction(float64, (4, 4) -> (2, 2), nnz=4)
    """

    def __init__(
        self, where: Any, in_shape: Sequence[int] | int | None = None, *, dtype: Any = float
    ) -> None:
        csr, shape, kept = selection(where, in_shape, dtype)
        super().__init__(csr, shape, kept or 1)


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
        if gpu.owns(matrix):
            csr: CsrArray = gpu.canonical(matrix)
        else:
            if not scipy.sparse.issparse(matrix):
                matrix = _arrays.as_values(matrix, None, "matrix")
            if matrix.ndim != 2:
                raise ValueError(f"a matrix must be 2-d, got shape {matrix.shape}")
            dtype = _arrays.matrix_dtype(matrix.dtype)
            csr = canonical(csr_array(matrix, dtype=dtype, copy=True))
        m, n = csr.shape
        super().__init__(
            csr,
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
        return foreign_adjoint(self.operator, X)

    def __repr__(self) -> str:
        return f"aslinearoperator({self._signature()}, {self.operator!r})"


class Composite(LinearOperator):
    """An operator made of operands, which its repr shows indented."""

    operands: tuple[LinearOperator, ...]

    @property
    def device(self) -> str | None:
        """Where its arrays lie: where those of its operands do."""
        return common_device(self.operands)

    def _moved(self, device: str) -> Composite:
        moved = copy.copy(self)
        moved.operands = tuple(part.to(device) for part in self.operands)
        return moved

    def _matrices(self) -> Iterator[CsrArray]:
        """Yield the operands' matrices, all on the device of the whole."""
        for part in self.operands:
            matrix = part._tosparse()
            moved = self.device == "gpu" and not gpu.is_matrix(matrix)
            yield gpu.to_device(matrix) if moved else matrix

    def _nnz(self) -> int | None:
        """Return the sum over the operands, for those whose entries do not meet."""
        return notebook.total(part._nnz() for part in self.operands)

    def __repr__(self) -> str:
        parts = ",\n".join(textwrap.indent(repr(part), "    ") for part in self.operands)
        return f"{type(self).__name__}({self._signature()},\n{parts})"


class Scaled(Composite):
    """``a A`` for a scalar `a`."""

    def __init__(self, scalar: Any, operand: LinearOperator) -> None:
        scalar = scalar.item() if isinstance(scalar, np.ndarray) else scalar
        dtype = np.result_type(operand.dtype, scalar)
        super().__init__(dtype, operand.in_shape, operand.out_shape)
        self.scalar, self.operands = dtype.type(scalar), (operand,)

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H`` is ``A``: a real multiple of such an operator."""
        return self.scalar.imag == 0 and self.operands[0].hermitian

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.scalar * self.operands[0]._matmat(X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self.scalar.conjugate() * self.operands[0]._rmatmat(X)

    def _tosparse(self) -> CsrArray:
        multiply = gpu.scaled if self.device == "gpu" else operator.mul
        return multiply(self.scalar, self.operands[0]._tosparse())

    def _signature(self) -> str:
        return f"{self.scalar!s} *, {super()._signature()}"


class Sum(Composite):
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
        common_device(operands)

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H`` is ``A``: a sum of such operators."""
        return all(part.hermitian for part in self.operands)

    def _nnz(self) -> None:
        return None

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return functools.reduce(operator.add, (part._matmat(X) for part in self.operands))

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return functools.reduce(operator.add, (part._rmatmat(X) for part in self.operands))

    def _tosparse(self) -> CsrArray:
        return canonical(functools.reduce(operator.add, self._matrices()))


class Product(Composite):
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
        common_device(operands)

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H`` is ``A``: each operand the adjoint of its mirror image."""
        parts = self.operands
        half = (len(parts) + 1) // 2
        return all(parts[i] is parts[-1 - i].H for i in range(half))

    def _nnz(self) -> None:
        return None

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        for part in reversed(self.operands):
            X = part._matmat(X)
        return X

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        for part in self.operands:
            X = part._rmatmat(X)
        return X

    def _tosparse(self) -> CsrArray:
        if self.device == "gpu":
            raise NotImplementedError(
                "a product has no matrix on the GPU, where CuPy's own products of sparse "
                "matrices may be wrong (cupy issue 10033): use A.to('cpu').tosparse()"
            )
        return canonical(functools.reduce(operator.matmul, self._matrices()))


class Part(Composite):
    """The real or the imaginary parts of the entries of a complex operator."""

    def __init__(self, operand: LinearOperator, part: str) -> None:
        real = np.finfo(operand.dtype).dtype
        super().__init__(real, operand.in_shape, operand.out_shape)
        self.operands, self._part = (operand,), part

    @property
    def hermitian(self) -> bool:
        """Whether ``A.H`` is ``A``: the real parts of such an operator."""
        return self._part == "real" and self.operands[0].hermitian

    def _of(self, product: Any, X: np.ndarray) -> np.ndarray:
        """Return the part of a product: a real vector meets the matrix's parts apart."""
        if X.dtype.kind != "c":
            return getattr(product(X), self._part)
        both = getattr(product(np.concatenate([np.real(X), np.imag(X)], axis=1)), self._part)
        return both[:, : X.shape[1]] + 1j * both[:, X.shape[1] :]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._of(self.operands[0]._matmat, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._of(self.operands[0]._tmatmat, X)

    def _tosparse(self) -> CsrArray:
        matrix = self.operands[0]._tosparse()
        data = getattr(matrix.data, self._part).copy()
        wrap = gpu.sparse_array if gpu.is_matrix(matrix) else _arrays.sparse_array
        return wrap(data, matrix.indices, matrix.indptr, self.shape)

    def _signature(self) -> str:
        return f"{self._part}, {super()._signature()}"


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
    if gpu.owns(A) or scipy.sparse.issparse(A) or isinstance(A, (np.ndarray, list, tuple)):
        return Matrix(A)
    if hasattr(A, "shape") and hasattr(A, "matvec"):
        return _Foreign(A)
    raise TypeError(
        "expected a LinearOperator, a sparse array, a 2-d array or an object with shape and "
        f"matvec, got {type(A).__name__}"
    )


def _selection(key: Any, shape: tuple[int, ...], A: LinearOperator) -> Restriction:
    """Return what takes rows or columns of A: flat ones, or a mask of shaped arrays."""
    shaped = is_mask(key) and key.shape == shape
    kept = Restriction(key, shape if shaped else math.prod(shape), dtype=A.dtype)
    return kept.to(A.device or "cpu")
