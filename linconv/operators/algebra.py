"""The algebra of operators: views, multiples, sums, products, real and imaginary parts.

Composites store their operands, so that ``.T`` and ``.H`` are exact and `tosparse` gives one
matrix.  Composites convert operands to linconv's operators and check that their shapes fit.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from linconv import _arrays, gpu
from linconv._arrays import CsrArray, is_everything, is_mask
from linconv.operators import notebook
from linconv.operators.foreign import aslinearoperator
from linconv.operators.linear import LinearOperator
from linconv.operators.stored import Restriction


class View(LinearOperator):
    """The transpose, conjugate or adjoint of `base`, to which it holds a reference."""

    def __init__(self, base: LinearOperator, transpose: bool, conjugate: bool) -> None:
        shapes = (base.in_shape, base.out_shape)
        super().__init__(base.dtype, *(shapes[::-1] if transpose else shapes))
        self.base, self._transposes, self._conjugates = base, transpose, conjugate
        self._weak = base._weak

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        key = self._transposes, self._conjugates
        self.base._views[key] = self  # so that A.H of the restored A is this view

    def _yield(self, dtype: Any) -> LinearOperator:
        self._weak = self.base._yield(dtype)._weak
        return self

    def _device(self) -> str | None:
        return self.base.device

    def _moved(self, device: str) -> LinearOperator:
        return self.base.to(device)._view(self._transposes, self._conjugates)

    def _view(self, transpose: bool, conjugate: bool) -> LinearOperator:
        return self.base._view(transpose ^ self._transposes, conjugate ^ self._conjugates)

    def _is_hermitian(self) -> bool:
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
        # The kernel, geometry and method of a convolution are those of its transpose, too.
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
    dtype : dtype, optional
        Dtype of the matrix, one that sparse matrices can hold.  By default it is float64, and
        products have the dtype of the data.

    Examples
    --------
    >>> (2 * Identity(3, dtype=int)).toarray()
    array([[2, 0, 0],
           [0, 2, 0],
           [0, 0, 2]])
    """

    def __init__(self, in_shape: Sequence[int] | int, dtype: Any = None) -> None:
        known = _arrays.storable(float if dtype is None else dtype)
        super().__init__(known, in_shape, in_shape)
        self._yield(dtype)

    def _device(self) -> None:
        return None

    def _is_hermitian(self) -> bool:
        return True

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return X.copy()

    _rmatmat = _matmat

    def _nnz(self) -> int:
        return self.shape[0]

    def _tosparse(self) -> CsrArray:
        return diagonal_matrix(np.ones(self.shape[0], self.dtype))


class Composite(LinearOperator):
    """An operator made of operands, which its repr shows indented."""

    operands: tuple[LinearOperator, ...]

    def _hold(self, operands: Sequence[LinearOperator]) -> None:
        """Store the operands; a composite of this class is replaced by its own operands."""
        flat = (
            part.operands if isinstance(part, type(self)) else (part,) for part in operands
        )
        self.operands = tuple(part for parts in flat for part in parts)
        self._weak = all(part._weak for part in self.operands)
        common_device(self.operands)

    @property
    def args(self) -> tuple[Any, ...]:
        """The operands, by SciPy's name."""
        return self.operands

    def _device(self) -> str | None:
        return common_device(self.operands)

    def _moved(self, device: str) -> Composite:
        return self._replaced(operands=tuple(part.to(device) for part in self.operands))

    def _matrices(self) -> Iterator[CsrArray]:
        """Yield the operands' matrices, all on the composite's device."""
        for part in self.operands:
            matrix = of_dtype(part._tosparse(), self.dtype)
            yield gpu.moved(matrix, self.device or "cpu")

    def _nnz(self) -> int | None:
        """Return the sum over operands, right where their entries do not overlap."""
        return notebook.total(part._nnz() for part in self.operands)

    def __repr__(self) -> str:
        parts = ",\n".join(textwrap.indent(repr(part), "    ") for part in self.operands)
        return f"{type(self).__name__}({self._signature()},\n{parts})"


class Scaled(Composite):
    """``a A`` for a scalar `a`."""

    def __init__(self, scalar: Any, operand: Any) -> None:
        operand = aslinearoperator(operand)
        scalar = scalar.item() if isinstance(scalar, np.ndarray) else scalar
        weak = operand._weak and isinstance(scalar, int | float | complex)
        dtype = np.result_type(operand._promotes, scalar)
        super().__init__(dtype, operand.in_shape, operand.out_shape)
        self.scalar, self.operands, self._weak = dtype.type(scalar), (operand,), weak

    def _divided(self, a: Any) -> LinearOperator:
        return Scaled(self.scalar / a, self.operands[0])

    def _is_hermitian(self) -> bool:
        return self.scalar.imag == 0 and self.operands[0].hermitian

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.scalar * self.operands[0]._matmat(X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self.scalar.conjugate() * self.operands[0]._rmatmat(X)

    def _tosparse(self) -> CsrArray:
        matrix = self.operands[0]._tosparse()
        return with_data(matrix, self.scalar * matrix.data)

    def _signature(self) -> str:
        return f"{self.scalar!s} *, {super()._signature()}"


class Sum(Composite):
    """``A + B + ...`` of operators with the same shape."""

    def __init__(self, *terms: Any) -> None:
        operands = [aslinearoperator(term) for term in terms]
        first = operands[0]
        for other in operands[1:]:
            if other.shape != first.shape:
                raise ValueError(
                    f"operators of a sum must have one shape, got {first.shape} "
                    f"and {other.shape}"
                )
        in_shape = common_shape([A.in_shape for A in operands], "A + B", "in_shape")
        out_shape = common_shape([A.out_shape for A in operands], "A + B", "out_shape")
        super().__init__(common_dtype(operands), in_shape, out_shape)
        self._hold(operands)

    def _is_hermitian(self) -> bool:
        return all(part.hermitian for part in self.operands)

    def _nnz(self) -> None:
        return None

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return functools.reduce(operator.add, (part._matmat(X) for part in self.operands))

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return functools.reduce(operator.add, (part._rmatmat(X) for part in self.operands))

    def _tosparse(self) -> CsrArray:
        total = functools.reduce(operator.add, self._matrices())
        return gpu.home(total).canonical(total)


class Product(Composite):
    """``A B ...``: the last operand is applied first."""

    def __init__(self, *factors: Any) -> None:
        operands = [aslinearoperator(factor) for factor in factors]
        for left, right in itertools.pairwise(operands):
            if left.shape[1] != right.shape[0]:
                raise ValueError(
                    f"A @ B needs as many columns of A as rows of B, got shapes {left.shape} "
                    f"and {right.shape}"
                )
            common_shape([left.in_shape, right.out_shape], "A @ B", "in_shape")
        super().__init__(common_dtype(operands), operands[-1].in_shape, operands[0].out_shape)
        self._hold(operands)

    def _is_hermitian(self) -> bool:
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
        return gpu.host.canonical(functools.reduce(operator.matmul, self._matrices()))


class ComplexPart(Composite):
    """The real or the imaginary parts of the entries of a complex operator."""

    def __init__(self, operand: LinearOperator, part: str) -> None:
        real = np.finfo(operand.dtype).dtype
        super().__init__(real, operand.in_shape, operand.out_shape)
        self.operands, self._part, self._weak = (operand,), part, operand._weak

    def _is_hermitian(self) -> bool:
        return self._part == "real" and self.operands[0].hermitian

    def _of(self, product: Any, X: np.ndarray) -> np.ndarray:
        """Return the real or the imaginary part of a product with the complex operator."""
        if X.dtype.kind == "c":
            return _arrays.by_real_parts(partial(self._of, product), X)
        return getattr(product(X), self._part)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._of(self.operands[0]._matmat, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._of(self.operands[0]._tmatmat, X)

    def _tosparse(self) -> CsrArray:
        matrix = self.operands[0]._tosparse()
        return with_data(matrix, getattr(matrix.data, self._part).copy())

    def _signature(self) -> str:
        return f"{self._part}, {super()._signature()}"


class Reshaped(Composite):
    """An operator of the same matrix between arrays of other shapes."""

    def __init__(
        self, operand: LinearOperator, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
    ) -> None:
        super().__init__(operand.dtype, in_shape, out_shape)
        self.operands, self._weak = (operand,), operand._weak

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.operands[0]._matmat(X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self.operands[0]._rmatmat(X)

    def _is_hermitian(self) -> bool:
        return self.in_shape == self.out_shape and self.operands[0].hermitian

    def _tosparse(self) -> CsrArray:
        return self.operands[0]._tosparse()


def reshaped(
    A: LinearOperator, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> LinearOperator:
    """Return A between arrays of other shapes; A itself if the shapes are its own."""
    if (in_shape, out_shape) == (A.in_shape, A.out_shape):
        return A
    if (math.prod(out_shape), math.prod(in_shape)) != A.shape:
        raise ValueError(
            f"shapes must have the sizes of {A.in_shape} -> {A.out_shape}, got {in_shape} -> "
            f"{out_shape}"
        )
    return Reshaped(A, in_shape, out_shape)


def common_shape(shapes: Sequence[tuple[int, ...]], where: str, side: str) -> tuple[int, ...]:
    """Return the shape that sides of operators share, where sides of one axis fit all.

    Sides have one size.  They are refused where several axes differ: data would be read in
    the wrong order, although the flat sizes agree.
    """
    shaped = list(dict.fromkeys(shape for shape in shapes if len(shape) > 1))
    if len(shaped) > 1:
        raise ValueError(
            f"{where} joins arrays of shapes {shaped[0]} and {shaped[1]}, which have one size "
            f"but other axes; if that is meant, write A.reshape({side}={shaped[1]})"
        )
    return shaped[0] if shaped else shapes[0]


def common_dtype(operands: Sequence[LinearOperator]) -> np.dtype:
    """Return the dtype of a composite, which weak operands do not decide."""
    return np.result_type(*(part._promotes for part in operands))


def with_data(matrix: CsrArray, data: Any) -> CsrArray:
    """Return a matrix with the same pattern and other values."""
    wrap = gpu.home(matrix).sparse_array
    return wrap(data, matrix.indices, matrix.indptr, matrix.shape)


def of_dtype(matrix: CsrArray, dtype: np.dtype) -> CsrArray:
    """Return a matrix in a dtype, the same object if it has this dtype."""
    return matrix if matrix.dtype == dtype else with_data(matrix, matrix.data.astype(dtype))


def diagonal_matrix(values: Any) -> CsrArray:
    """Return the diagonal matrix of a vector, on the vector's device."""
    n, xp = len(values), _arrays.namespace(values)
    gpu.home(values).check_size((n, n), n, values.dtype)
    places = xp.arange(n + 1, dtype=_arrays.index_dtype((n, n), n))
    return gpu.home(values).sparse_array(values, places[:-1].copy(), places, (n, n))


def common_device(operands: Sequence[LinearOperator]) -> str | None:
    """Return the device of all operands, None for either; raise where devices differ."""
    found = {part.device for part in operands if part.device}
    if len(found) > 1:
        raise TypeError(
            "operators that are composed must lie on one device, got some on the cpu and some "
            "on the gpu: move them with .to('cpu') or .to('gpu')"
        )
    return found.pop() if found else None


def submatrix(A: LinearOperator, rows: Any, columns: Any) -> LinearOperator:
    """Return the operator of some rows and columns of the matrix of A."""
    parts = [A]
    if not is_everything(rows):
        parts.insert(0, _selection(rows, A.out_shape, A))
    if not is_everything(columns):
        parts.append(_selection(columns, A.in_shape, A).T)
    return Product(*parts) if len(parts) > 1 else A


def _selection(key: Any, shape: tuple[int, ...], A: LinearOperator) -> Restriction:
    """Return the operator that selects samples of arrays: flat ones, or by a shaped mask."""
    shaped = is_mask(key) and key.shape == shape
    kept = Restriction(key, shape if shaped else math.prod(shape), dtype=A.dtype)
    return kept.to(A.device or "cpu")
