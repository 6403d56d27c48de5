"""The method "torch": products by PyTorch's convolutions (oneDNN, cuDNN), without a copy.

Where torch lacks the boundary rule, linconv pads the vector before the convolution and, for
the adjoint, folds it afterwards.  CuPy's arrays are exchanged with torch through DLPack.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from linconv import _arrays
from linconv.assembly import arranged
from linconv.geometry import Axis, Boundary, Geometry
from linconv.methods import padding
from linconv.methods.rows import ShapedRows

# The device type of DLPack for the host's memory.
_HOST = 1


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return why this method cannot represent a convolution, or an empty string."""
    if importlib.util.find_spec("torch") is None:
        return "it needs PyTorch: pip install torch"
    if len(geometry.axes) > 3:
        return f"torch has at most 3 axes, got {len(geometry.axes)}"
    if np.dtype(dtype) not in Torch.dtypes:
        known = ", ".join(each.name for each in Torch.dtypes)
        return f"torch convolves {known}, got {np.dtype(dtype).name}"
    return ""


class Torch(ShapedRows):
    """Products of a convolution by torch.nn.functional.conv1d to conv3d."""

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        import torch

        super().__init__(geometry, kernel)
        self._torch, self._on_device = torch, _arrays.on_device(kernel)
        if self._on_device:
            _check_device(torch, kernel)
        d = len(geometry.axes)
        self._conv: Any = getattr(torch.nn.functional, f"conv{d}d")
        self._back: Any = getattr(torch.nn.functional, f"conv_transpose{d}d")
        self._native = all(
            padding.both(axis, Boundary.ZEROS) and axis.padding[0] == axis.padding[1] >= 0
            for axis in geometry.axes
        )
        axes = geometry.axes
        self._options = {
            "stride": tuple(axis.stride for axis in axes),
            "dilation": tuple(axis.dilation for axis in axes),
            "groups": geometry.groups,
        }
        self._padding = {}
        if self._native:
            self._padding["padding"] = tuple(axis.padding[0] for axis in axes)
        self._rest = tuple(_rest(axis) for axis in axes)
        self._fits = self._native and all(
            0 <= more < max(axis.stride, axis.dilation)
            for more, axis in zip(self._rest, axes, strict=True)
        )
        self._wide = padding.Padding(axes, kernel)
        self._weights: dict[tuple[np.dtype, bool], Any] = {}

    def _block(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        with self._aligned(x):
            return super()._block(x, adjoint)

    def _forward(self, x: np.ndarray) -> np.ndarray:
        if not self._native:
            x = self._wide.pad(x)
        weight = self._weight(x.dtype, False)
        y = self._array(self._conv(self._tensor(x), weight, **self._options, **self._padding))
        return y[(..., *(slice(axis.out) for axis in self._geometry.axes))]

    def _adjoint(self, y: np.ndarray) -> np.ndarray:
        options, weight = self._options, self._weight(y.dtype, True)
        if self._fits:
            options = options | self._padding | {"output_padding": self._rest}
            return self._array(self._back(self._tensor(y), weight, **options))
        axes = self._geometry.axes
        z = self._array(self._back(self._tensor(y), weight, **options))
        lead, spatial = z.shape[: -len(axes)], z.shape[-len(axes) :]
        lengths = (padding.padded_length(axis) for axis in axes)
        x = _arrays.namespace(z).zeros((*lead, *lengths), z.dtype)
        x[(..., *map(slice, spatial))] = z
        return self._wide.adjoint(x)

    def _weight(self, dtype: np.dtype, conjugate: bool) -> Any:
        """Return the taps as a tensor of the product's dtype, from a cache."""
        key = dtype, conjugate
        if key not in self._weights:
            taps = arranged(self._geometry, self._kernel, False).astype(dtype)
            self._weights[key] = self._tensor(taps.conj() if conjugate else taps)
        return self._weights[key]

    def _tensor(self, x: np.ndarray) -> Any:
        """Return an array as a tensor that shares its memory, where torch allows it."""
        # torch has neither read-only tensors nor negative strides; CuPy no read-only arrays.
        if min(x.strides, default=0) < 0 or not (self._on_device or x.flags.writeable):
            x = x.copy()
        return self._torch.from_dlpack(x) if self._on_device else self._torch.from_numpy(x)

    def _array(self, tensor: Any) -> Any:
        """Return a tensor as an array that shares its memory."""
        if not self._on_device:
            return tensor.numpy()
        return _arrays.namespace(self._kernel).from_dlpack(tensor)

    def _aligned(self, x: Any) -> contextlib.AbstractContextManager:
        """Return a context in which torch works on CuPy's stream; on the host an empty one."""
        if not self._on_device or x.__dlpack_device__()[0] == _HOST:
            return contextlib.nullcontext()
        return _as_cupy(self._torch, _arrays.namespace(x), x)


def _check_device(torch: Any, kernel: Any) -> None:
    """Raise RuntimeError where torch cannot use the device memory of CuPy's arrays."""
    if kernel.__dlpack_device__()[0] != _HOST and not torch.cuda.is_available():
        raise RuntimeError(
            f"method 'torch' on the GPU needs a PyTorch that sees a CUDA device, got torch "
            f"{torch.__version__}, which sees none: install one with CUDA, or use method='fft'"
        )


@contextlib.contextmanager
def _as_cupy(torch: Any, cupy: Any, x: Any) -> Iterator[None]:
    """Let torch work on CuPy's stream, and in full precision.

    Work on one stream needs no synchronization, and neither library reuses memory that the
    other still reads.  DLPack alone does not tell torch that CuPy reads its result.
    """
    stream, device = cupy.cuda.get_current_stream().ptr, x.__dlpack_device__()[1]
    # ExternalStream(0) would be a new stream, not the default one.
    made = (
        torch.cuda.ExternalStream(stream, device=device)
        if stream
        else torch.cuda.default_stream(device)
    )
    with torch.cuda.stream(made), full_precision(torch, x.dtype):
        yield


@contextlib.contextmanager
def full_precision(torch: Any, dtype: np.dtype) -> Iterator[None]:
    """Keep torch from rounding float32 to TF32, as cuDNN's convolutions do by default.

    The flags belong to the process: convolutions in other threads see them too.
    """
    parts = [torch.backends.cudnn, torch.backends.cuda.matmul]
    if np.finfo(dtype).dtype != np.float32:
        parts = []
    with contextlib.ExitStack() as stack:
        for part in parts:
            stack.enter_context(_without_tf32(part))
        yield


@contextlib.contextmanager
def _without_tf32(part: Any) -> Iterator[None]:
    """Keep one of torch's back ends from rounding to TF32."""
    # From torch 2.9 on each operation has a precision; the older flag may raise an error.
    part, name, off = (
        (part, "allow_tf32", False)
        if not hasattr(part, "fp32_precision")
        else (getattr(part, "conv", part), "fp32_precision", "ieee")
    )
    before = getattr(part, name)
    if before not in (True, "tf32"):
        yield
        return
    setattr(part, name, off)
    try:
        yield
    finally:
        setattr(part, name, before)


def _rest(axis: Axis) -> int:
    """Return how many padded samples lie beyond the last tap."""
    return padding.padded_length(axis) - axis.stride * (axis.out - 1) - axis.extent
