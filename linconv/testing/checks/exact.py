"""Exact mode: whole numbers, for which floating point makes no error at all.

While every partial sum stays below 2^t all results are exact in any order of summation,
so equality is bitwise, on any device.  For k probes x and k probes y drawn from a set S
of values, a fault of any size is missed with probability of at most 2 |S|^-k: A - C^H
sends all x to zero with at most |S|^-k, and what is left, all y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from linconv.testing.checks import probes
from linconv.testing.checks.session import Session, Side
from linconv.testing.report import CheckResult, judge, not_applicable

# Largest whole number of probes, and of kernels that are made for the test.
MOST = 64
MOST_TAP = 3
# As many values as two of the first have together.
_MANY = 2 * MOST**2
# Room for partial sums that are larger than the results: they are not seen.
_ROOM = 16
# Much more room than numbers need: products by FFT stay near whole numbers, too.
_AMPLE = 1 << 20
# Beyond this distance from a whole number there is no telling which one was meant.
_NEAR = 0.25


@dataclass
class Exact:
    """What exact mode found: `reason` says why it did not run."""

    reason: str = ""
    faults: tuple[str, ...] = ()  # results that are no whole numbers
    distance: float = 0.0
    equal: bool = True
    example: str = ""
    trials: int = 0
    miss: float | None = None


def run(session: Session, forward: Side, adjoint: Side, *, integer_kernel: bool) -> Exact:
    """Try whole numbers on both sides and compare all inner products in integers.

    Without a kernel known to be of whole numbers, an operator whose results are whole
    for whole inputs is taken for one.
    """
    q, count = _drawn(session, forward, adjoint, integer_kernel)
    if q < 1:
        return Exact("sums would exceed what is exact in this precision")
    images, inputs, distance = [], [], 0.0
    for side in (forward, adjoint):
        inputs.append([probes.whole(session.rng, side.n, side.dtype, q) for _ in range(count)])
        images.append([])
        for x in inputs[-1]:
            image = side(x)
            whole, gap = _rounded(image)
            distance = max(distance, gap)
            if gap and (not integer_kernel or gap >= _NEAR):
                if integer_kernel:
                    return Exact(faults=(_fault(side, gap),), distance=gap, trials=count)
                return Exact("its results are no whole numbers for whole inputs")
            if _ROOM * _peak(whole) >= 2.0 ** (np.finfo(side.result_dtype).nmant + 1):
                return Exact("sums would exceed what is exact in this precision")
            images[-1].append(whole)
    return _compare(session, inputs, images, q, distance)


def _drawn(
    session: Session, forward: Side, adjoint: Side, integer_kernel: bool
) -> tuple[int, int]:
    """Return the largest whole number that leaves sums exact, and how many vectors to try.

    By what random probes gave.  One vector of values from a set misses no more than two
    from a set of its square root: complex numbers are so many, and long mantissas have
    room for as many.
    """
    bits = min(np.finfo(side.result_dtype).nmant + 1 for side in (forward, adjoint))
    if integer_kernel:
        peak = max(1.0, MOST_TAP * math.sqrt(max(1, session.taps)) * 5)
    else:
        peak = max(_peak(image) for side in session.sides for image in side.images)
    room = 2.0 ** (bits - 1) / (_ROOM * max(peak, 1e-300))
    q = int(min(MOST, room))
    if not session.quick:
        return q, 3
    if session.complex:
        return q, 1
    inner = max(forward.n, forward.m) * _MANY**2 * max(peak, 1.0)
    if room >= _AMPLE * _MANY and _ROOM * inner < 2.0**62:
        return _MANY, 1
    return q, 2


def _peak(image: np.ndarray) -> float:
    parts = (np.real(image), np.imag(image)) if image.dtype.kind == "c" else (image,)
    return max(float(np.max(np.abs(part), initial=0)) for part in parts)


def _rounded(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the nearest whole numbers and the largest distance from them."""
    if image.dtype.kind == "c":
        real, imag = np.rint(np.real(image)), np.rint(np.imag(image))
        gap = max(_peak(np.real(image) - real), _peak(np.imag(image) - imag))
        return (real + 1j * imag).astype(image.dtype), gap
    whole = np.rint(image)
    gap = _peak(image - whole)
    return whole, gap if np.isfinite(gap) else np.inf


def _fault(side: Side, gap: float) -> str:
    return f"{side.name} returns no whole numbers for whole inputs: {gap:.2g} away"


def _compare(
    session: Session,
    inputs: list[list[np.ndarray]],
    images: list[list[np.ndarray]],
    q: int,
    distance: float,
) -> Exact:
    """Compare <C x, y> with <x, A y> as whole numbers; real parts if real-linear."""
    (X, Y), (CX, AY) = inputs, images
    sizes = [len(X[0]) * q * _peak(a) for a in AY] + [len(Y[0]) * q * _peak(c) for c in CX]
    if 4 * max(sizes) >= 2.0**63:
        return Exact("inner products would exceed 64-bit integers")
    # Doubles, where they hold all sums exactly, are added by BLAS.
    kind = np.dtype(np.float64 if 4 * max(sizes) < 2.0**53 else np.int64)
    set_size = (2 * q) ** (2 if X[0].dtype.kind == "c" else 1)
    result = Exact(
        distance=distance, trials=len(X) * len(Y), miss=min(1.0, 2 * set_size ** -len(X))
    )
    for y, a in zip(Y, AY, strict=True):
        for x, c in zip(X, CX, strict=True):
            left, right = _inner(y, c, kind), _inner(a, x, kind)
            if session.real_linear:
                left, right = (left[0], 0), (right[0], 0)
            if left != right and result.equal:
                result.equal = False
                result.example = f"<y, C x> = {_text(left)}, but <A y, x> = {_text(right)}"
    return result


def _inner(a: np.ndarray, b: np.ndarray, kind: np.dtype) -> tuple[int, int]:
    """Return sum conj(a) b as a pair of integers, computed in the dtype `kind`."""
    if a.dtype.kind != "c" and b.dtype.kind != "c":
        return int(a.astype(kind, copy=False) @ b.astype(kind, copy=False)), 0
    ar, ai, br, bi = (
        part.astype(kind) for part in (np.real(a), np.imag(a), np.real(b), np.imag(b))
    )
    return int(ar @ br + ai @ bi), int(ar @ bi - ai @ br)


def _text(value: tuple[int, int]) -> str:
    return f"{value[0]}" if not value[1] else f"{value[0]}{value[1]:+d}i"


def judged(found: Exact) -> tuple[CheckResult, CheckResult]:
    """Return E01 and E02."""
    if found.reason:
        return not_applicable("E01", found.reason), not_applicable("E02", found.reason)
    trials = found.trials
    first = judge("E01", list(found.faults), found.distance, _NEAR, trials=trials)
    if found.faults:
        return first, not_applicable("E02", "results are no whole numbers")
    faults = [] if found.equal else [found.example]
    return first, judge("E02", faults, trials=trials)
