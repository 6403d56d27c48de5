"""The GPU: all code that uses CuPy, behind one entry point.

`home` returns the functions for an array: this module for CuPy's arrays, and `host`, which
has functions of the same names, for all other arrays.  May import assembly, geometry, _arrays
and _options.  CuPy is imported inside functions, and only for a CuPy array or for an operator
that is moved to the GPU.
"""

import sys
from functools import partial
from importlib import import_module
from typing import Any

from linconv import _arrays
from linconv.gpu import host
from linconv.gpu import vectors as vectors
from linconv.gpu.decisions import decide_lengths as decide_lengths
from linconv.gpu.decisions import decide_who_goes_on as decide_who_goes_on
from linconv.gpu.decisions import decides as decides
from linconv.gpu.device import adjoint as adjoint
from linconv.gpu.device import as_csr as as_csr
from linconv.gpu.device import as_values as as_values
from linconv.gpu.device import block_matrix as block_matrix
from linconv.gpu.device import canonical as canonical
from linconv.gpu.device import check_dtype as check_dtype
from linconv.gpu.device import copied as copied
from linconv.gpu.device import forward as forward
from linconv.gpu.device import is_matrix as is_matrix
from linconv.gpu.device import library as library
from linconv.gpu.device import owns as owns
from linconv.gpu.device import raw_module as raw_module
from linconv.gpu.device import read_only as read_only
from linconv.gpu.device import sparse_array as sparse_array
from linconv.gpu.device import to_device as to_device
from linconv.gpu.device import to_host as to_host
from linconv.gpu.matrices import check_size as check_size
from linconv.gpu.matrices import conv_matrix as conv_matrix
from linconv.gpu.matrices import require_memory as require_memory
from linconv.gpu.matrices import unfold_matrix as unfold_matrix
from linconv.gpu.matrices import varying_matrix as varying_matrix
from linconv.gpu.products import Direct as Direct

as_array = _arrays.as_device_array
# Samples of a Fourier transform that are worth a thread.
_GRAIN = 1 << 15


def device_of(value: Any) -> str:
    """Return the device of an array or a matrix, "gpu" or "cpu"."""
    return "gpu" if owns(value) else "cpu"


def at(device: str) -> Any:
    """Return the functions for arrays and matrices on a device."""
    return sys.modules[__name__] if device == "gpu" else host


def home(value: Any) -> Any:
    """Return the functions for the device of an array or a matrix."""
    return at(device_of(value))


def moved(value: Any, device: str, name: str = "the matrix") -> Any:
    """Return an array or a CSR matrix on a device: the same object if it is there already.

    Raises
    ------
    RuntimeError
        If there is no GPU, or no CuPy that can use it.
    TypeError
        If CuPy's matrices cannot hold its dtype; the error names the value by `name`.
    """
    if device_of(value) == device:
        return value
    return to_device(value, name) if device == "gpu" else to_host(value)


def transforms(x: Any, real: bool) -> tuple[Any, Any]:
    """Return the Fourier transform for arrays like `x`, and the inverse, which overwrites."""
    options = {} if owns(x) else {"workers": _arrays.workers(x.size, _GRAIN)}
    fft = import_module("cupyx.scipy.fft" if owns(x) else "scipy.fft")
    transform, inverse = (fft.rfftn, fft.irfftn) if real else (fft.fftn, fft.ifftn)
    return partial(transform, **options), partial(inverse, overwrite_x=True, **options)
