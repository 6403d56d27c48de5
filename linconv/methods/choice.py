"""The protocol of methods, which compute the products of a Conv, and the choice among them.

A method is constructed from a geometry and a kernel.  Every method must agree with the stored
matrix, which defines the convolution.
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
    """Products of ``C`` and its adjoint with columns, of dtype ``result_type(C, x)``.

    `dtypes` lists the dtypes of products that the method supports; it is empty for all.
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
        """Return the method for another kernel; parts that depend on geometry are shared."""
        ...


# Module and class of each method, and whether "auto" may choose it.
METHODS: dict[str, tuple[str, str, bool]] = {
    "sparse": ("methods.sparse", "Sparse", True),
    "direct": ("methods.direct", "Direct", True),
    "fft": ("methods.fft", "Fft", True),
    "torch": ("methods.torch", "Torch", False),
    "sparse+adjoint": ("methods.sparse", "WithAdjoint", False),
}
# The methods for CuPy's arrays.
GPU_METHODS: dict[str, tuple[str, str, bool]] = METHODS | {
    "direct": ("gpu.products", "Direct", True),
    "fft": ("methods.fft", "Fft", False),
}

# With at most so many pairs of channels in a group, "auto" needs no matrix on a GPU.
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
        """Return a text on the chosen method and the estimated cost of every method."""
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
    """Return the cost of every method, or the reason why it cannot be used."""
    found = []
    for name, (_, _, automatic) in METHODS.items():
        if name != "sparse" and cost.small(geometry):
            # A product of microseconds does not justify importing another library.
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
    """Return "direct" for few channels and mostly interior rows, else "sparse".

    With many channels "direct" reads each sample many times; with mostly edge rows its
    templates are as large as the matrix.  The bounds have not been measured.
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
