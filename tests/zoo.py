"""One small instance of every operator, its matrix written out.

`make(c)` builds the operator with all its values multiplied by the scalar c,
whose type gives the dtype; `matrix(c)` is what it must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from helpers import DTYPES as DTYPES

import linconv
from linconv import spectrum
from linconv.operators import LinearOperator


def scale(dtype: str) -> Any:
    """The scalar by which a member of this dtype is multiplied."""
    return np.dtype(dtype).type(2 - 1j if "complex" in dtype else -2)


@dataclass(frozen=True)
class Member:
    name: str
    make: Callable[[Any], LinearOperator]
    matrix: Callable[[Any], Any]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    def __str__(self) -> str:
        return self.name


def taps(c: Any, values: Any) -> np.ndarray:
    return np.asarray(values, c.dtype) * c


def real_and_imaginary(A: LinearOperator) -> LinearOperator:
    """Take a complex operator apart and put it together again."""
    return A.real + 1j * A.imag if A.dtype.kind == "c" else A.real


CONV = [[1, 2, 3, 0], [0, 1, 2, 3]]
EVEN_2D = [[1, 2, 0, 3, 4, 0], [0, 1, 2, 0, 3, 4]]
CIRCULAR = [[2, 0, 1], [1, 2, 0], [0, 1, 2]]
ANTIREFLECT = [
    # taps 1, 2, 3 on 3 samples, padding 1: the edges read 2 x_edge - x_mirrored
    [4, 2, 0],
    [1, 2, 3],
    [0, -2, 8],
]
CHANNELS = [
    # kernel (2, 2, 2), input (2, 3): row (c_out, i), column (c_in, j)
    [1, 2, 0, 3, 4, 0],
    [0, 1, 2, 0, 3, 4],
    [5, 6, 0, 7, 8, 0],
    [0, 5, 6, 0, 7, 8],
]
GROUPS = [[1, 2, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 0, 0, 3, 4, 0], [0, 0, 0, 0, 3, 4]]
STRIDED = [
    # taps 1, 2 on 5 samples, stride 2, dilation 2, padding (1, 0): the stride does not divide
    [0, 2, 0, 0, 0],
    [0, 1, 0, 2, 0],
]
WIDE = [[3, 4], [2, 3], [1, 2]]  # 4 taps on 2 samples, padding 2
TRANSPOSE = [[1, 0], [2, 0], [3, 1], [0, 2], [0, 3]]
UNFOLD = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
VARYING = [[1, 2, 0], [0, 3, 4]]
FILTER = [[1, 2], [2, 3], [3, 4]]
DENSE = [[1, 0, 2], [0, 3, 4]]

ZOO = [
    Member("Conv", lambda c: linconv.Conv(taps(c, [1, 2, 3]), 4), lambda c: c * np.array(CONV), (4,), (2,)),
    Member("Conv, even kernel, size-1 axes", lambda c: linconv.Conv(taps(c, [[1, 2], [3, 4]]), (2, 3)),
           lambda c: c * np.array(EVEN_2D), (2, 3), (1, 2)),
    Member("Conv, circular", lambda c: linconv.Conv(taps(c, [1, 2]), 3, padding=[(1, 0)], boundary="circular"),
           lambda c: c * np.array(CIRCULAR), (3,), (3,)),
    Member("Conv, antireflect",
           lambda c: linconv.Conv(taps(c, [1, 2, 3]), 3, padding=1, boundary="antireflect"),
           lambda c: c * np.array(ANTIREFLECT), (3,), (3,)),
    Member("Conv, channels", lambda c: linconv.Conv(taps(c, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), (2, 3)),
           lambda c: c * np.array(CHANNELS), (2, 3), (2, 2)),
    Member("Conv, groups", lambda c: linconv.Conv(taps(c, [[[1, 2]], [[3, 4]]]), (2, 3), groups=2),
           lambda c: c * np.array(GROUPS), (2, 3), (2, 2)),
    Member("Conv, stride, dilation, one-sided padding",
           lambda c: linconv.Conv(taps(c, [1, 2]), 5, stride=2, dilation=2, padding=[(1, 0)]),
           lambda c: c * np.array(STRIDED), (5,), (2,)),
    Member("Conv, kernel larger than the input", lambda c: linconv.Conv(taps(c, [1, 2, 3, 4]), 2, padding=2),
           lambda c: c * np.array(WIDE), (2,), (3,)),
    Member("Conv, flipped, not the last axis",
           lambda c: linconv.Conv(taps(c, [[3], [2], [1]]), (4, 1), flip=True),
           lambda c: c * np.array(CONV), (4, 1), (2, 1)),
    Member("conv_transpose", lambda c: linconv.conv_transpose(taps(c, [1, 2, 3]), 2, stride=2),
           lambda c: c * np.array(TRANSPOSE), (2,), (5,)),
    Member("Unfold", lambda c: linconv.Unfold((2, 2), (1, 2), dtype=c.dtype),
           lambda c: np.array(UNFOLD), (2, 2), (2, 2, 1)),
    Member("Unfold, transposed: fold", lambda c: linconv.Unfold((2, 2), (1, 2), dtype=c.dtype).T,
           lambda c: np.array(UNFOLD).T, (2, 2, 1), (2, 2)),
    Member("VaryingConv", lambda c: linconv.VaryingConv(taps(c, [[1, 2], [3, 4]]), 3),
           lambda c: c * np.array(VARYING), (3,), (2,)),
    Member("FilterConv", lambda c: linconv.FilterConv(taps(c, [1, 2, 3, 4]), 2),
           lambda c: c * np.array(FILTER), (2,), (3,)),
    Member("Identity", lambda c: linconv.Identity((1, 2), dtype=c.dtype), lambda c: np.eye(2), (1, 2), (1, 2)),
    Member("Matrix, sparse", lambda c: linconv.Matrix(scipy.sparse.coo_array(taps(c, DENSE))),
           lambda c: c * np.array(DENSE), (3,), (2,)),
    Member("Matrix, dense and shaped",
           lambda c: linconv.Matrix(taps(c, DENSE), in_shape=(3, 1), out_shape=(1, 2)),
           lambda c: c * np.array(DENSE), (3, 1), (1, 2)),
    Member("somebody else's operator",
           lambda c: linconv.aslinearoperator(scipy.sparse.linalg.aslinearoperator(taps(c, DENSE))),
           lambda c: c * np.array(DENSE), (3,), (2,)),
    Member("View, adjoint", lambda c: linconv.Conv(taps(c, [1, 2, 3]), 4).H,
           lambda c: np.conj(c) * np.array(CONV).T, (2,), (4,)),
    Member("View, conjugate", lambda c: linconv.Conv(taps(c, [1, 2, 3]), 4).conj(),
           lambda c: np.conj(c) * np.array(CONV), (4,), (2,)),
    Member("Scaled", lambda c: c * linconv.Matrix(taps(c, DENSE)),
           lambda c: c * c * np.array(DENSE), (3,), (2,)),
    Member("Sum",
           lambda c: (linconv.Matrix(taps(c, [[1, 0, 2, 1], [0, 3, 4, 1]])) - linconv.Conv(taps(c, [1, 2, 3]), 4)),
           lambda c: c * np.array([[0, -2, -1, 1], [0, 2, 2, -2]]), (4,), (2,)),
    Member("Product", lambda c: linconv.Conv(taps(c, [1, 2, 3]), 4) @ linconv.Conv(taps(c, [1, 1]), 5),
           lambda c: c * c * np.array([[1, 3, 5, 3, 0], [0, 1, 3, 5, 3]]), (5,), (2,)),
    Member("Reshaped", lambda c: linconv.Conv(taps(c, [1, 2, 3]), 4).reshape(in_shape=(2, 2)),
           lambda c: c * np.array(CONV), (2, 2), (2,)),
    Member("Product, normal equations", lambda c: (lambda A: A.H @ A)(linconv.Conv(taps(c, [1, 2]), 3)),
           lambda c: abs(c) ** 2 * np.array([[1, 2, 0], [2, 5, 2], [0, 2, 4]]), (3,), (3,)),
    Member("Product, a power", lambda c: linconv.Conv(taps(c, [1, 2]), 3, padding=[(1, 0)]) ** 2,
           lambda c: c * c * np.array([[4, 0, 0], [4, 4, 0], [1, 4, 4]]), (3,), (3,)),
    Member("Restriction, a mask", lambda c: linconv.Restriction([[False, True], [True, True]], dtype=c.dtype),
           lambda c: np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (2, 2), (3,)),
    Member("Restriction, one sample twice, transposed",
           lambda c: linconv.Restriction([2, 0, 2], 3, dtype=c.dtype).T,
           lambda c: np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]]), (3,), (3,)),
    Member("a row and some columns", lambda c: linconv.Matrix(taps(c, DENSE))[1, ::2],
           lambda c: c * np.array([[0, 4]]), (2,), (1,)),
    Member("ComplexPart, real and imaginary", lambda c: real_and_imaginary(linconv.Conv(taps(c, [1, 2, 3]), 4)),
           lambda c: c * np.array(CONV), (4,), (2,)),
    Member("Diagonal", lambda c: linconv.Diagonal(taps(c, [[1, 2, 3]])),
           lambda c: c * np.diag([1, 2, 3]), (1, 3), (1, 3)),
    Member("Block, vstack of one shape",
           lambda c: linconv.vstack([linconv.Conv(taps(c, [1, 2]), 3), linconv.Conv(taps(c, [3, 4]), 3)]),
           lambda c: c * np.array([[1, 2, 0], [0, 1, 2], [3, 4, 0], [0, 3, 4]]), (3,), (2, 2)),
    Member("Block, hstack of two shapes",
           lambda c: linconv.hstack([linconv.Conv(taps(c, [1, 2, 3]), 4), linconv.Matrix(taps(c, DENSE))]),
           lambda c: c * np.hstack([CONV, DENSE]), (7,), (2,)),
    Member("Block, a grid with gaps",
           lambda c: linconv.block([[linconv.Matrix(taps(c, DENSE)), None], [None, linconv.Conv(taps(c, [1, 2]), 2)]]),
           lambda c: c * np.array([[1, 0, 2, 0, 0], [0, 3, 4, 0, 0], [0, 0, 0, 1, 2]]), (5,), (3,)),
    Member("Block, hermitian",
           lambda c: (lambda A: linconv.block([[None, A], [A.H, None]]))(linconv.Matrix(taps(c, [[1, 2], [3, 4]]))),
           lambda c: np.block([[np.zeros((2, 2)), c * np.array([[1, 2], [3, 4]])], [np.conj(c) * np.array([[1, 3], [2, 4]]), np.zeros((2, 2))]]),
           (2, 2), (2, 2)),
    Member("Kron", lambda c: linconv.kron(taps(c, [[1, 2]]), linconv.Conv(taps(c, [1, 3]), 3)),
           lambda c: c * c * np.array([[1, 3, 0, 2, 6, 0], [0, 1, 3, 0, 2, 6]]), (2, 3), (1, 2)),
    Member("Circulant",
           lambda c: spectrum.Circulant(np.reshape(taps(c, [3, 1]), (1, 1, 1, 2)), 2, (2,), dtype=c.dtype),
           lambda c: c * np.array([[2, 1], [1, 2]]), (2,), (2,)),
]  # fmt: skip
