"""Ways to compute the products of a Conv: the protocol, the table, the choice.

A method is built from a geometry and the kernel's values, and keeps what it
needs.  Every method must agree with the matrix: the matrix is the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from linconv.geometry import Geometry
from linconv.methods import cost


class Method(Protocol):
    """Products with ``C`` and its adjoint, of columns; their dtype is result_type's.

    `dtypes` are those that products can have; empty for all.
    """

    dtypes: tuple[np.dtype, ...]

    def __init__(self, geometry: Geometry, kernel: np.ndarray) -> None: ...

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return C x; (n, b) -> (m, b)."""
        ...

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """Return C^H y; (m, b) -> (n, b)."""
        ...

    def with_kernel(self, kernel: np.ndarray) -> Method:
        """Return the same with another kernel; what the geometry decides is shared."""
        ...


# Where each method lives, its class, and whether "auto" may choose it.
METHODS: dict[str, tuple[str, str, bool]] = {
    "sparse": ("methods.sparse", "Sparse", True),
    "direct": ("methods.direct", "Direct", True),
    "fft": ("methods.fft", "Fft", True),
    "torch": ("methods.torch", "Torch", False),
    "sparse+adjoint": ("methods.sparse", "WithAdjoint", False),
}
# Those for CuPy's arrays.
GPU_METHODS: dict[str, tuple[str, str, bool]] = {
    "sparse": ("methods.sparse", "Sparse", True),
    "direct": ("gpu.products", "Direct", True),
    "fft": ("methods.fft", "Fft", False),
    "torch": ("methods.torch", "Torch", False),
    "sparse+adjoint": ("methods.sparse", "WithAdjoint", False),
}

# Pairs of channels in a group up to which "auto" needs no matrix on a GPU.
_CHANNELS = 16


@dataclass(frozen=True)
class Choice:
    """The method for a convolution, and whether "auto" chose it."""

    name: str
    asked: str
    device: str = "cpu"

    def make(self, geometry: Geometry, kernel: Any) -> Method:
        """Return the chosen method for a kernel."""
        table = METHODS if self.device == "cpu" else GPU_METHODS
        module, kind, _ = table[self.name]
        return getattr(_module(module), kind)(geometry, kernel)

    def description(self, geometry: Geometry, dtype: np.dtype) -> str:
        """Return in words what was chosen, and what every method would cost."""
        how = "chosen by 'auto'" if self.asked == "auto" else "as asked"
        if self.device == "gpu":
            return f"method {self.name!r} on the GPU, {how}; there are {_quoted(GPU_METHODS)}"
        lines = [f"method {self.name!r}, {how}; one product would take about"]
        return "\n".join(lines + [f"  {found}" for found in estimates(geometry, dtype)])


def choose(name: str, geometry: Geometry, dtype: np.dtype, device: str = "cpu") -> Choice:
    """Return the method to use for `name`, which may be "auto", on a device.

    Raises
    ------
    ValueError
        If there is no such method, or it cannot represent the convolution.
    """
    if name != "auto" and name not in METHODS:
        known = ", ".join(map(repr, ("auto", *METHODS)))
        raise ValueError(f"unknown method {name!r}: the methods are {known}")
    if name != "auto":
        if reason := why_not(name, geometry, dtype, device):
            raise ValueError(
                f"method {name!r} cannot represent this convolution: {reason}; "
                "method='sparse' represents them all"
            )
        return Choice(name, name, device)
    if device == "gpu":
        return Choice(_for_gpu(geometry), name, device)
    best = cost.cheapest(estimates(geometry, dtype))
    return Choice(best, name)


def estimates(geometry: Geometry, dtype: np.dtype) -> list[cost.Estimate]:
    """Return what every method would cost, or why it cannot be used."""
    found = []
    for name, (_, _, automatic) in METHODS.items():
        if name != "sparse" and cost.small(geometry):
            # Products of microseconds are not worth the start of another library.
            found.append(cost.Estimate(name, reason="not considered for so few nonzeros"))
            continue
        reason = why_not(name, geometry, dtype, "cpu")
        if not automatic:
            reason = reason or "only when it is asked for"
        found.append(cost.estimate(name, geometry, dtype, reason))
    return found


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _for_gpu(geometry: Geometry) -> str:
    """Return "direct" where rows are mostly alike and channels few, else the matrix.

    Many channels read a sample many times, which "direct" does not share; where most rows
    are edges, templates are the matrix.  Not measured yet.
    """
    few = geometry.c_in * geometry.c_out <= _CHANNELS * geometry.groups**2
    inside = math.prod(len(axis.interior) for axis in geometry.axes)
    alike = 2 * inside > math.prod(axis.out for axis in geometry.axes)
    return "direct" if few and alike else "sparse"


def why_not(name: str, geometry: Geometry, dtype: np.dtype, device: str) -> str:
    """Return why a method cannot represent a convolution there, or an empty string."""
    if name == "auto":
        return ""
    table = METHODS if device == "cpu" else GPU_METHODS
    return _module(table[name][0]).why_not(geometry, dtype)


def _module(name: str) -> Any:
    return import_module(f"linconv.{name}")
