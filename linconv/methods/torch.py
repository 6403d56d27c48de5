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


def why_not(geometry: Geometry, dtype: np.dtype) -> str:
    """Return why this method cannot represent a convolution, or an empty string."""
    if importlib.util.find_spec("torch") is None:
        return "it needs PyTorch: pip install torch"
    if len(geometry.axes) > 3:
        return f"torch has at most 3 axes, got {len(geometry.axes)}"
    if np.dtype(dtype).name not in Torch.dtypes:
        return f"torch convolves {', '.join(Torch.dtypes)}, got {np.dtype(dtype).name}"
    return ""


class Torch:
    """Products of a convolution by torch.nn.functional.conv1d to conv3d."""

    dtypes = ("float32", "float64", "complex64", "complex128")

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None:
        import torch

        self._geometry, self._kernel, self._torch = geometry, kernel, torch
        d = len(geometry.axes)
        self._conv: Any = getattr(torch.nn.functional, f"conv{d}d")
        self._back: Any = getattr(torch.nn.functional, f"conv_transpose{d}d")
        self._native = all(
            padding.both(axis, Boundary.ZEROS) and axis.padding[0] == axis.padding[1] >= 0
            for axis in geometry.axes
        )
        self._weights: dict[tuple[np.dtype, bool], Any] = {}

    def with_kernel(self, kernel: np.ndarray) -> Torch:
        """Return the products with another kernel."""
        return Torch(self._geometry, kernel)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        return self._product(x, adjoint=False)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        return self._product(y, adjoint=True)

    def _product(self, x: np.ndarray, *, adjoint: bool) -> np.ndarray:
        g, dtype = self._geometry, np.result_type(self._kernel.dtype, x.dtype)
        m, n = g.shape
        if x.shape[1] == 0:
            return np.empty((n if adjoint else m, 0), dtype)
        if dtype.kind == "c" and self._kernel.dtype.kind != "c":
            both = self._product(np.concatenate((x.real, x.imag), axis=1), adjoint=adjoint)
            return (both[:, : x.shape[1]] + 1j * both[:, x.shape[1] :]).astype(dtype)
        shape = g.out_shape if adjoint else g.in_shape
        rows = np.ascontiguousarray(x.T, dtype).reshape(x.shape[1], *shape)
        if g.channels is None:
            rows = rows[:, None]
        product = self._gather(rows) if adjoint else self._spread(rows)
        return product.reshape(x.shape[1], -1).T

    def _options(self) -> dict[str, Any]:
        axes = self._geometry.axes
        return {
            "stride": tuple(axis.stride for axis in axes),
            "dilation": tuple(axis.dilation for axis in axes),
            "groups": self._geometry.groups,
        }

    def _spread(self, x: np.ndarray) -> np.ndarray:
        axes = self._geometry.axes
        options = self._options()
        if self._native:
            options["padding"] = tuple(axis.padding[0] for axis in axes)
        else:
            x = padding.pad(x, axes)
        y = self._conv(self._tensor(x), self._weight(x.dtype, False), **options).numpy()
        return y[(..., *(slice(axis.out) for axis in axes))]

    def _gather(self, y: np.ndarray) -> np.ndarray:
        axes = self._geometry.axes
        weight = self._weight(y.dtype, True)
        rest = [self._rest(axis) for axis in axes]
        if self._native and all(
            0 <= more < max(axis.stride, axis.dilation)
            for more, axis in zip(rest, axes, strict=True)
        ):
            options = {
                "padding": tuple(axis.padding[0] for axis in axes),
                "output_padding": tuple(rest),
            }
            return self._back(self._tensor(y), weight, **self._options(), **options).numpy()
        z = self._back(self._tensor(y), weight, **self._options()).numpy()
        lengths = [padding.padded_length(axis) for axis in axes]
        x = np.zeros((*z.shape[: z.ndim - len(axes)], *lengths), z.dtype)
        x[(..., *(slice(length) for length in z.shape[z.ndim - len(axes) :]))] = z
        return padding.pad_adjoint(x, axes)

    def _rest(self, axis: Axis) -> int:
        """Return how many padded samples lie beyond the last tap."""
        reach = axis.stride * (axis.out - 1) + axis.extent
        return padding.padded_length(axis) - reach

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
