"""Exact mode: on integers floating point makes no rounding errors.

While every partial sum stays below 2^t, t the bits of the mantissa, results are exact in
any order of summation, so they are compared bit for bit, on any device.  The mode draws k
probes x and k probes y from a set S of values.  If D = C - A^H is not zero, D x = 0 for
all x has probability |S|^-k at most, and otherwise y^H D x = 0 for all y as well: the mode
misses a fault, of any size, with probability 2 |S|^-k at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from linconv._options import sizes
from linconv.testing.checks import probes
from linconv.testing.checks.session import Session, Side, sides
from linconv.testing.report import CheckResult, judge, not_applicable
from linconv.testing.subjects import Subject, as_subject

# The largest integer of a probe, and of a kernel made for the test.
MOST = 64
MOST_TAP = 3
# Factor by which partial sums, which the test cannot see, may exceed the results.
_ROOM = 16
# Farther than this from an integer, rounding may not find the right one.
_NEAR = 0.25
_TOO_LARGE = "sums would exceed what is exact in this precision"


class _Unfit(Exception):  # noqa: N818 - not an error
    """Exact mode does not apply to this operator; the message says why."""


def exact_mode(session: Session, factory: Any, kernel_shape: Any) -> list[CheckResult]:
    """E01, E02: results are integers, and <C x, y> = <x, A y> without any tolerance."""
    try:
        return _judged(session, factory, kernel_shape)
    except _Unfit as reason:
        return [not_applicable(code, str(reason)) for code in ("E01", "E02")]


def _judged(session: Session, factory: Any, kernel_shape: Any) -> list[CheckResult]:
    """Apply both sides to integers and compare all inner products as integers.

    Without a kernel of integers made for the test, the mode applies only if the results
    are integers.
    """
    if session.weighted:
        raise _Unfit("the inner product has weights")
    made = _rebuilt(session, factory, kernel_shape)
    pair = session.sides if made is None else made
    q, count = _largest(session, pair, made is not None), 2 if session.quick else 3
    if q < 1:
        raise _Unfit(_TOO_LARGE)
    inputs, images, distance = [], [], 0.0
    for side, own in zip(pair, session.sides, strict=True):
        inputs.append([probes.whole(session.rng, side.n, side.dtype, q) for _ in range(count)])
        images.append([])
        for x in inputs[-1]:
            image, gap = _rounded(side(x))
            own.copied += made is not None
            distance = max(distance, gap)
            if gap and made is None:
                raise _Unfit("its results are not integers for integer inputs")
            if gap >= _NEAR:
                words = f"{side.name} returns non-integers for integer inputs: {gap:.2g} away"
                first = judge("E01", [words], gap, _NEAR, trials=count)
                return [first, not_applicable("E02", "results are not integers")]
            if _ROOM * _peak(image) >= 2.0 ** (np.finfo(side.result_dtype).nmant + 1):
                raise _Unfit(_TOO_LARGE)
            images[-1].append(image)
    faults = _compare(session, inputs, images, q)
    values = (2 * q) ** (2 if inputs[0][0].dtype.kind == "c" else 1)
    session.miss = min(1.0, 2 * values**-count)
    return [
        judge("E01", [], distance, _NEAR, trials=count**2),
        judge("E02", faults[:1], trials=count**2),
    ]


def _largest(session: Session, pair: tuple[Side, Side], integer_kernel: bool) -> int:
    """Return the largest integer for probes, so that sums stay exact."""
    if integer_kernel:
        peak = max(1.0, MOST_TAP * math.sqrt(max(1, session.taps)) * 5)
    else:
        peak = max(_peak(image) for side in session.sides for image in side.images)
    bits = min(np.finfo(side.result_dtype).nmant + 1 for side in pair)
    return int(min(MOST, 2.0 ** (bits - 1) / (_ROOM * max(peak, 1e-300))))


def _peak(image: np.ndarray) -> float:
    parts = (np.real(image), np.imag(image)) if image.dtype.kind == "c" else (image,)
    return max(float(np.max(np.abs(part), initial=0)) for part in parts)


def _rounded(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the nearest integers and the largest distance from them."""
    whole = np.rint(image)
    gap = _peak(image - whole)
    return whole, gap if np.isfinite(gap) else np.inf


def _compare(
    session: Session, inputs: list[list[np.ndarray]], images: list[list[np.ndarray]], q: int
) -> list[str]:
    """Compare <C x, y> with <x, A y> as integers; their real parts if real-linear."""
    (X, Y), (CX, AY) = inputs, images
    most = max(
        len(x) * q * _peak(image)
        for x, several in ((X[0], AY), (Y[0], CX))
        for image in several
    )
    if 4 * most >= 2.0**63:
        raise _Unfit("inner products would exceed 64-bit integers")
    # BLAS adds doubles faster than integers; below 2^53 they are as exact.
    kind = np.dtype(np.float64 if 4 * most < 2.0**53 else np.int64)
    faults = []
    for y, a in zip(Y, AY, strict=True):
        for x, c in zip(X, CX, strict=True):
            left, right = _inner(y, c, kind), _inner(a, x, kind)
            if session.real_linear:
                left, right = (left[0], 0), (right[0], 0)
            if left != right:
                faults.append(f"<y, C x> = {_text(left)}, but <A y, x> = {_text(right)}")
    return faults


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


def _rebuilt(session: Session, factory: Any, kernel_shape: Any) -> tuple[Side, Side] | None:
    """Return both sides of the operator with a kernel of integers, or None without factory."""
    subject = session.subject
    if factory is None and kernel_shape is None:
        factory, kernel_shape = _own_factory(subject)
        if factory is None:
            return None
    if factory is None or kernel_shape is None:
        raise ValueError("exact mode needs both factory= and kernel_shape=, got one of them")
    shape = sizes(kernel_shape, "kernel_shape")
    session.taps = int(np.prod(shape))
    kernel = probes.whole(session.rng, session.taps, session.forward.dtype, MOST_TAP)
    made = factory(kernel.reshape(shape))
    functions = made if isinstance(made, tuple) else (made,)
    pair = {"dtype": session.forward.dtype, "xp": subject.arrays} if len(functions) > 1 else {}
    shapes = {"in_shape": subject.in_shape, "out_shape": subject.out_shape}
    return sides(as_subject(*functions, **shapes, **pair), session.real_linear)


def _own_factory(subject: Subject) -> tuple[Callable[[Any], Any] | None, Any]:
    """Return a function that makes a linconv convolution with another kernel.

    A subclass from another package has none: `with_kernel` may lose its other attributes.
    """
    A, made = subject.portable, subject.geometry
    own = type(getattr(A, "base", A)).__module__.startswith("linconv.")
    if made is None or not own or not hasattr(A, "with_kernel"):
        return None, None
    return lambda kernel: A.with_kernel(subject.arrays.make(kernel)), made.kernel_shape
