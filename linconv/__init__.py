"""linconv: convolutions as sparse matrices and linear operators.

Taps are not flipped (cross-correlation, as in PyTorch) unless ``flip=True``.
``A @ v`` takes flat vectors, ``A(x)`` takes shaped arrays.

>>> import linconv
>>> linconv.conv_matrix([1, -1], 4).toarray()
array([[ 1, -1,  0,  0],
       [ 0,  1, -1,  0],
       [ 0,  0,  1, -1]])
"""

from linconv import symbolic, testing
from linconv.convolution import Conv, conv_matrix, conv_transpose, conv_transpose_matrix
from linconv.geometry import Axis, Boundary, Geometry
from linconv.linop import Identity, LinearOperator, Matrix, aslinearoperator
from linconv.patches import FilterConv, Unfold, VaryingConv, unfold_matrix

__version__ = "0.1.0"

__all__ = [
    "Axis",
    "Boundary",
    "Conv",
    "FilterConv",
    "Geometry",
    "Identity",
    "LinearOperator",
    "Matrix",
    "Unfold",
    "VaryingConv",
    "aslinearoperator",
    "conv_matrix",
    "conv_transpose",
    "conv_transpose_matrix",
    "symbolic",
    "testing",
    "unfold_matrix",
]
