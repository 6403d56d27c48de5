"""linconv: convolutions as sparse matrices and linear operators.

Taps are not flipped (cross-correlation, as in PyTorch) unless ``flip=True``.
``A @ v`` takes flat vectors, ``A(x)`` takes shaped arrays.

>>> import linconv
>>> linconv.conv_matrix([1, -1], 4).toarray()
array([[ 1, -1,  0,  0],
       [ 0,  1, -1,  0],
       [ 0,  0,  1, -1]])
"""

# Wherever linconv is installed, every run of pytest imports linconv.testing.plugin and hence
# this file.  NumPy and SciPy are therefore imported when a name is first used (PEP 562).
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linconv import imaging as imaging
    from linconv import solvers as solvers
    from linconv import spectrum as spectrum
    from linconv import symbolic as symbolic
    from linconv import testing as testing
    from linconv.convolution import Conv as Conv
    from linconv.convolution import conv_matrix as conv_matrix
    from linconv.convolution import conv_transpose as conv_transpose
    from linconv.convolution import conv_transpose_matrix as conv_transpose_matrix
    from linconv.geometry import Axis as Axis
    from linconv.geometry import Boundary as Boundary
    from linconv.geometry import Geometry as Geometry
    from linconv.imaging import average_pool as average_pool
    from linconv.imaging import crop as crop
    from linconv.imaging import divergence as divergence
    from linconv.imaging import downsample as downsample
    from linconv.imaging import gradient as gradient
    from linconv.imaging import laplacian as laplacian
    from linconv.imaging import pad as pad
    from linconv.imaging import resize as resize
    from linconv.imaging import upsample as upsample
    from linconv.operators import Diagonal as Diagonal
    from linconv.operators import Identity as Identity
    from linconv.operators import LinearOperator as LinearOperator
    from linconv.operators import Matrix as Matrix
    from linconv.operators import Restriction as Restriction
    from linconv.operators import aslinearoperator as aslinearoperator
    from linconv.operators import block as block
    from linconv.operators import block_diag as block_diag
    from linconv.operators import hstack as hstack
    from linconv.operators import kron as kron
    from linconv.operators import vstack as vstack
    from linconv.patches import FilterConv as FilterConv
    from linconv.patches import Unfold as Unfold
    from linconv.patches import VaryingConv as VaryingConv
    from linconv.patches import unfold_matrix as unfold_matrix

__version__ = "0.1.0"

_MODULES = ("imaging", "solvers", "spectrum", "symbolic", "testing")
_NAMES = {
    "convolution": "Conv conv_matrix conv_transpose conv_transpose_matrix",
    "geometry": "Axis Boundary Geometry",
    "imaging": "average_pool crop divergence downsample gradient laplacian pad resize "
    "upsample",
    "operators": "Diagonal Identity LinearOperator Matrix Restriction aslinearoperator "
    "block block_diag hstack kron vstack",
    "patches": "FilterConv Unfold VaryingConv unfold_matrix",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = [*_MODULES, *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in (*_MODULES, *_NAMES):
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
