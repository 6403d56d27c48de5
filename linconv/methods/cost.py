"""The estimated cost of a product by each method: the model behind ``method="auto"``.

Estimates are nanoseconds of one product of one vector, fitted to the workloads of
tests/benchmarks/products.py on two threads.  Only their ratios matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from linconv import _arrays
from linconv.geometry import Axis, Boundary, Geometry

# A product of a matrix with fewer nonzeros takes microseconds.
SMALL = 1 << 17
# Nanoseconds per combination of stencils, spread over a few dozen products.
_COMBINED = 800
# Largest share of the available memory for a matrix that "auto" chooses.
_SHARE = 0.25


@dataclass(frozen=True)
class Estimate:
    """Seconds of one product, or the reason why there is no estimate."""

    method: str
    seconds: float = math.inf
    nbytes: int = 0
    reason: str = ""

    def __str__(self) -> str:
        name = f"{self.method:<14}"
        memory = f", {self.nbytes / 1e6:,.1f} MB for the matrix" if self.nbytes else ""
        if self.reason:
            return f"{name} -: {self.reason}"
        return f"{name} {1e3 * self.seconds:.3g} ms{memory}"


def small(geometry: Geometry) -> bool:
    """Whether the matrix is so small that no other method is considered."""
    return geometry.nnz < SMALL


def cheapest(estimates: list[Estimate]) -> str:
    """Return the method with the lowest estimate, "sparse" where there is no estimate."""
    best = min(estimates, key=lambda estimate: estimate.seconds)
    return best.method if best.seconds < math.inf else "sparse"


def estimate(method: str, geometry: Geometry, dtype: np.dtype, reason: str) -> Estimate:
    """Return the estimate of one product."""
    if reason:
        return Estimate(method, reason=reason)
    dtype = np.dtype(dtype)
    if method == "sparse":
        nbytes = geometry.nbytes(dtype)
        available = _arrays.available_memory() if nbytes > 1 << 24 else None
        if available is not None and nbytes > _SHARE * available:
            gigabytes = f"{nbytes / 1e9:.3g} of {available / 1e9:.3g} GB available"
            return Estimate(method, reason=f"the matrix would take {gigabytes}")
        return Estimate(method, 1e-9 * _sparse(geometry, dtype), nbytes)
    model = {"direct": _direct, "fft": _fft}[method]
    return Estimate(method, 1e-9 * model(geometry, dtype))


def _sparse(geometry: Geometry, dtype: np.dtype) -> float:
    """Every nonzero is read once, with its index."""
    return geometry.nnz * 0.09 * (dtype.itemsize + 4) + sum(geometry.shape)


def _direct(geometry: Geometry, dtype: np.dtype) -> float:
    """Multiplications in vector registers, and passes over the samples."""
    rate = 0.012 * dtype.itemsize * (2 if dtype.kind == "c" else 1)
    # Stencils are combined once for many products; wide padding by a rule has many stencils.
    combined = _COMBINED * math.prod(_stencils(axis) for axis in geometry.axes)
    samples = 0.12 * dtype.itemsize * sum(geometry.shape)
    return 20_000 + geometry.nnz * rate + samples + combined


def _stencils(axis: Axis) -> int:
    """Return an estimate of the stencils of an axis: its interior's and its edges'."""
    edges = axis.out - len(axis.interior)
    if axis.boundary == (Boundary.ZEROS, Boundary.ZEROS):
        edges = min(edges, 2 * axis.k)
    return 1 + edges


def _fft(geometry: Geometry, dtype: np.dtype) -> float:
    """Transforms of all channels there and back, and a product for every pair of them."""
    size = 1.0
    for axis in geometry.axes:
        circular = axis.boundary == (Boundary.CIRCULAR, Boundary.CIRCULAR)
        size *= axis.n if circular else axis.n + max(0, sum(axis.padding))
    transforms = geometry.c_in + geometry.c_out
    pairs = geometry.c_out * geometry.c_in / geometry.groups
    work = 0.1 * transforms * math.log2(size + 1) + 0.5 * pairs
    return 50_000 + size * dtype.itemsize * work
