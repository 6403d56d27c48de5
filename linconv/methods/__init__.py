"""Ways to compute the products of a Conv: the protocol, the table, the choice.

A method is built from a geometry and the kernel's values, and keeps what it
needs.  Every method must agree with the matrix: the matrix is the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from linconv.geometry import Geometry
from linconv.methods import cost

__all__ = ["METHODS", "Choice", "Method", "choose"]


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
    "sparse": ("sparse", "Sparse", True),
    "direct": ("direct", "Direct", True),
    "fft": ("fft", "Fft", True),
    "torch": ("torch", "Torch", False),
}
# Those for CuPy's arrays.
GPU_METHODS: dict[str, tuple[str, str, bool]] = {"sparse": ("gpu", "Sparse", True)}


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
        return getattr(import_module(f"{__name__}.{module}"), kind)(geometry, kernel)

    def explain(self, geometry: Geometry, dtype: np.dtype) -> str:
        """Return in words what was chosen, and what every method would cost."""
        how = "chosen by 'auto'" if self.asked == "auto" else "as asked"
        if self.device == "gpu":
            return f"method {self.name!r} on the GPU, {how}; there is no other there"
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
        return Choice("sparse", name, device)
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
        reason = _why_not(name)(geometry, dtype)
        if not automatic:
            reason = reason or "only when it is asked for"
        found.append(cost.estimate(name, geometry, dtype, reason))
    return found


def why_not(name: str, geometry: Geometry, dtype: np.dtype, device: str) -> str:
    """Return why a method cannot represent a convolution there, or an empty string."""
    if name == "auto" or (device == "gpu" and name in GPU_METHODS):
        return ""
    if device == "gpu":
        return f"on the GPU there is only {', '.join(map(repr, GPU_METHODS))}"
    return _why_not(name)(geometry, dtype)


def _why_not(name: str) -> Callable[[Geometry, np.dtype], str]:
    module: Any = import_module(f"{__name__}.{METHODS[name][0]}")
    return module.why_not
