"""Block operators, diagonal operators and Kronecker products.

Blocks keep their operands, so that views are exact and `tosparse` gives one matrix.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from linconv import _arrays, gpu
from linconv._arrays import CsrArray, is_mask, is_operator
from linconv.operators.algebra import (
    Composite,
    Identity,
    common_device,
    common_dtype,
    common_shape,
    diagonal_matrix,
)
from linconv.operators.foreign import aslinearoperator
from linconv.operators.linear import LinearOperator

# Nonzeros of a Kronecker product that are computed at a time.
_PIECE = 1 << 16


def vstack(operators: Sequence[Any]) -> LinearOperator:
    """Return ``[A; B; ...]``: the outputs of operators on the same input, stacked.

    Parameters
    ----------
    operators : sequence of LinearOperator, sparse or dense matrices
        Operators with the same number of columns.

    Returns
    -------
    LinearOperator
        Its `out_shape` is ``(k, *out_shape)`` for k operators with equal `out_shape`, as
        `numpy.stack` gives it, else flat.

    Raises
    ------
    ValueError
        If the numbers of columns differ, or there is no operator.
    TypeError
        If `operators` is one operator rather than a sequence of operators.

    Examples
    --------
    >>> import linconv
    >>> vstack([linconv.Conv([1, -1], 3), linconv.Identity(3, int)]).toarray()
    array([[ 1, -1,  0],
           [ 0,  1, -1],
           [ 1,  0,  0],
           [ 0,  1,  0],
           [ 0,  0,  1]])
    """
    return Block([[A] for A in _listed(operators, "vstack([A, B])")])


def hstack(operators: Sequence[Any]) -> LinearOperator:
    """Return ``[A, B, ...]``: the sum of operators on the parts of a stacked input.

    Parameters
    ----------
    operators : sequence of LinearOperator, sparse or dense matrices
        Operators with the same number of rows.

    Returns
    -------
    LinearOperator
        Its `in_shape` is ``(k, *in_shape)`` for k operators with equal `in_shape`, else
        flat.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or there is no operator.
    TypeError
        If `operators` is one operator.

    Examples
    --------
    >>> hstack([[[1, 2]], [[3]]]).toarray()
    array([[1, 2, 3]])
    """
    return Block([_listed(operators, "hstack([A, B])")])


def block(rows: Sequence[Sequence[Any]]) -> LinearOperator:
    """Return the operator of a grid of operators, in which None stands for zeros.

    Parameters
    ----------
    rows : nested sequence of LinearOperator, matrices or None
        One list per row of blocks, as in `numpy.block`.

    Returns
    -------
    LinearOperator
        Its shapes follow from those of its rows and columns, as in `vstack` and `hstack`.

    Raises
    ------
    ValueError
        If the grid has gaps, a whole row or column of None, or sizes that do not fit.
    TypeError
        If `rows`, or one of them, is one operator.

    Examples
    --------
    >>> block([[[[1, 2]], None], [None, [[3]]]]).toarray()
    array([[1, 2, 0],
           [0, 0, 3]])
    """
    form = "block([[A, B], [C, None]])"
    return Block([_listed(row, form) for row in _listed(rows, form)])


def block_diag(operators: Sequence[Any]) -> LinearOperator:
    """Return the operator with `operators` along its diagonal, zero elsewhere.

    Raises
    ------
    ValueError
        If there is no operator.
    TypeError
        If `operators` is one operator.

    Examples
    --------
    >>> block_diag([[[1, 2]], [[3]]]).toarray()
    array([[1, 2, 0],
           [0, 0, 3]])
    """
    parts = _listed(operators, "block_diag([A, B])")
    return Block(
        [[A if i == j else None for j in range(len(parts))] for i, A in enumerate(parts)]
    )


def kron(*operators: Any) -> LinearOperator:
    """Return the Kronecker product: each operator along its own axes of an array.

    Parameters
    ----------
    *operators : LinearOperator, sparse or dense matrices
        The first acts along the first axes.

    Returns
    -------
    LinearOperator
        From ``(*A.in_shape, *B.in_shape)`` to ``(*A.out_shape, *B.out_shape)``.

    Raises
    ------
    ValueError
        If there is no operator.

    Examples
    --------
    >>> import linconv
    >>> kron(linconv.Identity(2, int), [[1, -1]]).toarray()
    array([[ 1, -1,  0,  0],
           [ 0,  0,  1, -1]])
    """
    return Kron(*map(aslinearoperator, operators))


class Diagonal(LinearOperator):
    """Multiply every sample by its own factor.

    Parameters
    ----------
    diagonal : array_like, ``in_shape``
        The factors; copied.
    dtype : dtype, optional
        Dtype of the matrix; by default that of the factors.

    Attributes
    ----------
    diagonal : ndarray, ``in_shape``
        The factors, read-only.

    Raises
    ------
    TypeError
        If `diagonal` holds no numbers.

    Examples
    --------
    >>> Diagonal([1, 2, 3]).toarray()
    array([[1, 0, 0],
           [0, 2, 0],
           [0, 0, 3]])
    """

    def __init__(self, diagonal: Any, *, dtype: Any = None) -> None:
        place = gpu.home(diagonal)
        values = place.as_values(diagonal, dtype, "diagonal")
        super().__init__(values.dtype, values.shape or 1, values.shape or 1)
        self.diagonal = place.read_only(values)
        self._weak = dtype is None and is_mask(diagonal)

    def _device(self) -> str:
        return gpu.device_of(self.diagonal)

    def _moved(self, device: str) -> Diagonal:
        return self._replaced(diagonal=gpu.moved(self.diagonal, device, "diagonal"))

    def _is_hermitian(self) -> bool:
        return self.dtype.kind != "c"

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self.diagonal.reshape(-1, 1) * X

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self.diagonal.conj().reshape(-1, 1) * X

    def _nnz(self) -> int:
        return self.shape[0]

    def _tosparse(self) -> CsrArray:
        return diagonal_matrix(self.diagonal.flatten())


class Block(Composite):
    """A grid of operators; None stands for zeros."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        grid = [[None if A is None else aslinearoperator(A) for A in row] for row in rows]
        if not grid or not grid[0] or len({len(row) for row in grid}) != 1:
            lengths = [len(row) for row in grid]
            raise ValueError(
                f"blocks must form a grid, rows of one length, at least 1: got {lengths}"
            )
        self.grid = tuple(map(tuple, grid))
        self.operands = tuple(A for row in grid for A in row if A is not None)
        common_device(self.operands)
        columns = list(zip(*grid, strict=True))
        out = [_common(row, 0, f"row {i}") for i, row in enumerate(grid)]
        into = [_common(column, 1, f"column {j}") for j, column in enumerate(columns)]
        self._weak = all(part._weak for part in self.operands)
        super().__init__(common_dtype(self.operands), _stacked(into), _stacked(out))
        self._row_cuts, self._column_cuts = _cuts(out), _cuts(into)

    def _moved(self, device: str) -> Block:
        grid = [[None if A is None else A.to(device) for A in row] for row in self.grid]
        return Block(grid)

    def _is_hermitian(self) -> bool:
        k = len(self.grid)
        return k == len(self.grid[0]) and all(
            A is B is None or (A is not None and B is not None and A.H is B)
            for i in range(k)
            for A, B in ((self.grid[i][j], self.grid[j][i]) for j in range(i + 1))
        )

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, self.grid, self._column_cuts, self._row_cuts, "_matmat")

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        grid = tuple(zip(*self.grid, strict=True))
        return self._product(X, grid, self._row_cuts, self._column_cuts, "_rmatmat")

    def _product(
        self, X: np.ndarray, grid: Any, cuts: list[slice], places: list[slice], hook: str
    ) -> np.ndarray:
        """Return the sums over every row of blocks, one row after the other."""
        dtype = np.result_type(self._promotes, X.dtype)
        Y = _arrays.namespace(X).empty((places[-1].stop, X.shape[1]), dtype)
        for row, place in zip(grid, places, strict=True):
            parts = (
                getattr(A, hook)(X[cut])
                for A, cut in zip(row, cuts, strict=True)
                if A is not None
            )
            Y[place] = next(parts)
            for part in parts:
                Y[place] += part
        return Y

    def _tosparse(self) -> CsrArray:
        rows, columns = (
            [cut.stop - cut.start for cut in cuts]
            for cuts in (self._row_cuts, self._column_cuts)
        )
        matrices = self._matrices()
        grid = ((None if A is None else next(matrices) for A in row) for row in self.grid)
        place = gpu.at(self.device or "cpu")
        return place.block_matrix(grid, rows, columns, self.dtype)


class Kron(Composite):
    """The Kronecker product of operators, each along its own axes."""

    def __init__(self, *operands: LinearOperator) -> None:
        if not operands:
            raise ValueError("a Kronecker product needs at least one operator, got none")
        self._hold(operands)
        self._factors: dict[tuple[int, int, int], LinearOperator | None] = {}
        super().__init__(
            common_dtype(self.operands),
            [n for part in self.operands for n in part.in_shape],
            [m for part in self.operands for m in part.out_shape],
        )

    def _moved(self, device: str) -> Kron:
        return Kron(*(part.to(device) for part in self.operands))

    def _is_hermitian(self) -> bool:
        return all(part.hermitian for part in self.operands)

    def _nnz(self) -> int | None:
        counts = [part._nnz() for part in self.operands]
        known = [count for count in counts if count is not None]
        return math.prod(known) if len(known) == len(counts) else None

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, "_matmat", 1)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, "_rmatmat", 0)

    def _product(self, X: np.ndarray, hook: str, side: int) -> np.ndarray:
        """Apply each operand along its axis, first those that shrink the array most."""
        lengths = [part.shape[side] for part in self.operands]
        order = sorted(
            (a for a, part in enumerate(self.operands) if not isinstance(part, Identity)),
            key=lambda a: self.operands[a].shape[1 - side] / self.operands[a].shape[side],
        )
        Y, b = X, X.shape[1]
        for a in order:
            part, n = self.operands[a], lengths[a]
            before, after = math.prod(lengths[:a]), math.prod(lengths[a + 1 :])
            lengths[a] = part.shape[1 - side]
            if whole := self._factor(a, before, after):
                Y = getattr(whole, hook)(Y.reshape(before * n * after, b))
                continue
            moved = np.moveaxis(Y.reshape(before, n, after * b), 1, 0)
            flat = getattr(part, hook)(moved.reshape(n, before * after * b))
            Y = np.moveaxis(flat.reshape(lengths[a], before, after * b), 0, 1)
        return Y.reshape(self.shape[1 - side], b) if order else X.copy()

    def _factor(self, a: int, before: int, after: int) -> LinearOperator | None:
        """Return operand `a` along the middle of arrays (before, n, after), if it can."""
        key = a, before, after
        if key not in self._factors:
            self._factors[key] = self.operands[a]._along(before, after)
        return self._factors[key]

    def _tosparse(self) -> CsrArray:
        if self.device == "gpu":
            raise NotImplementedError(
                "a Kronecker product has no matrix on the GPU: use A.to('cpu').tosparse()"
            )
        return functools.reduce(_kron, (part._tosparse() for part in self.operands))


def _listed(operators: Any, form: str) -> list[Any]:
    """Return operators as a list; raise for a single one, which would be split into rows."""
    array = isinstance(operators, np.ndarray) and operators.dtype != object
    matrix = array and operators.ndim < 3
    if matrix or is_operator(operators) or not isinstance(operators, Iterable):
        raise TypeError(
            f"expected a list of operators, as in {form}, got {type(operators).__name__}"
        )
    return list(operators)


def _common(blocks: Sequence[Any], side: int, where: str) -> tuple[int, ...]:
    """Return the shape that the blocks of a row or column share on one side."""
    known = [A for A in blocks if A is not None]
    if not known:
        raise ValueError(f"{where} of blocks holds no operator, so its size is not known")
    shapes = [A.in_shape if side else A.out_shape for A in known]
    counts = [A.shape[side] for A in known]
    if len(set(counts)) != 1:
        what = "columns" if side else "rows"
        raise ValueError(
            f"operators in {where} of blocks must have as many {what}: got {counts}"
        )
    return common_shape(shapes, where, "in_shape" if side else "out_shape")


def _stacked(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of arrays of `shapes`, stacked or, where they differ, flat."""
    if len(shapes) == 1:
        return shapes[0]
    if len(set(shapes)) == 1:
        return (len(shapes), *shapes[0])
    return (sum(math.prod(shape) for shape in shapes),)


def _cuts(shapes: list[tuple[int, ...]]) -> list[slice]:
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _kron(A: CsrArray, B: CsrArray) -> CsrArray:
    """Return the Kronecker product, computed for a few rows of A at a time."""
    shape = (A.shape[0] * B.shape[0], A.shape[1] * B.shape[1])
    nnz = A.nnz * B.nnz
    dtype, index = np.result_type(A, B), _arrays.index_dtype(shape, nnz)
    gpu.host.check_size(shape, nnz, dtype)
    data, indices = np.empty(nnz, dtype), np.empty(nnz, index)
    counts = np.multiply.outer(np.diff(A.indptr).astype(index), np.diff(B.indptr))
    indptr = np.concatenate([np.zeros(1, index), np.cumsum(counts, dtype=index)])
    rows = max(1, _PIECE // max(1, nnz // max(1, A.shape[0])))
    for first in range(0, A.shape[0], rows):
        last = min(first + rows, A.shape[0])
        piece: Any = scipy.sparse.kron(A[first:last], B, "csr")
        piece.sum_duplicates()
        place = slice(indptr[first * B.shape[0]], indptr[last * B.shape[0]])
        data[place], indices[place] = piece.data, piece.indices
    return _arrays.sparse_array(data, indices, indptr, shape)
