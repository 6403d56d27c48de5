"""The method "torch": products by PyTorch's convolutions (oneDNN), without a copy.

Where torch does not know the boundary rule, the vector is padded by it beforehand and
folded afterwards.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from linconv.assembly import arranged
from linconv.geometry import Axis, Boundary, Geometry
from linconv.methods import padding
from linconv.methods.columns import Rows


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


class Torch(Rows):
    """Products of a convolution by torch.nn.functional.conv1d to conv3d."""

    dtypes = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        import torch

        super().__init__(geometry, kernel)
        self._torch = torch
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
        self._shapes = geometry.in_shape, geometry.out_shape
        self._weights: dict[tuple[np.dtype, bool], Any] = {}

    def _rows(self, x: np.ndarray, adjoint: bool) -> np.ndarray:
        lead = (len(x),) if self._geometry.channels else (len(x), 1)
        shaped = x.reshape(*lead, *self._shapes[adjoint])
        return (self._gather(shaped) if adjoint else self._spread(shaped)).reshape(len(x), -1)

    def _spread(self, x: np.ndarray) -> np.ndarray:
        if not self._native:
            x = padding.pad(x, self._geometry.axes)
        weight = self._weight(x.dtype, False)
        y = self._conv(self._tensor(x), weight, **self._options, **self._padding).numpy()
        return y[(..., *(slice(axis.out) for axis in self._geometry.axes))]

    def _gather(self, y: np.ndarray) -> np.ndarray:
        options, weight = self._options, self._weight(y.dtype, True)
        if self._fits:
            options = options | self._padding | {"output_padding": self._rest}
            return self._back(self._tensor(y), weight, **options).numpy()
        axes = self._geometry.axes
        z = self._back(self._tensor(y), weight, **options).numpy()
        lengths = [padding.padded_length(axis) for axis in axes]
        x = np.zeros((*z.shape[: z.ndim - len(axes)], *lengths), z.dtype)
        x[(..., *(slice(length) for length in z.shape[z.ndim - len(axes) :]))] = z
        return padding.pad_adjoint(x, axes)

    def _weight(self, dtype: np.dtype, conjugate: bool) -> Any:
        """Return the taps as a tensor of the product's dtype; remembered."""
        key = dtype, conjugate
        if key not in self._weights:
            taps = arranged(self._geometry, self._kernel, False).astype(dtype)
            self._weights[key] = self._torch.from_numpy(taps.conj() if conjugate else taps)
        return self._weights[key]

    def _tensor(self, x: np.ndarray) -> Any:
        """Return an array as a tensor that shares its memory, where torch allows it."""
        if not x.flags.writeable or min(x.strides, default=0) < 0:
            x = x.copy()  # torch has neither read-only tensors nor negative strides
        return self._torch.from_numpy(x)


def _rest(axis: Axis) -> int:
    """Return how many padded samples lie beyond the last tap."""
    return padding.padded_length(axis) - axis.stride * (axis.out - 1) - axis.extent
