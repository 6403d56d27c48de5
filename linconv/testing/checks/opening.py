"""From a subject to a session: which dtypes to try, which results to expect."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from linconv._options import sizes
from linconv.testing.checks import exact, known, probes
from linconv.testing.checks.session import Session, Side
from linconv.testing.subjects.adapters import Subject, as_subject

# Bytes up to which glibc comes to keep freed memory, if it sees that much freed.
_LARGEST_KEPT = 31 << 20


def open_session(
    A: Any,
    adjoint: Callable[[Any], Any] | None,
    *,
    level: str,
    seed: int,
    in_shape: Any,
    out_shape: Any,
    dtype: Any,
    xp: Any,
    matrix: Any,
    deterministic: bool,
    real_linear: bool | None,
) -> Session:
    """Return a session with both sides, before any probe was tried."""
    _settle_allocator()
    subject = as_subject(
        A, adjoint, in_shape=in_shape, out_shape=out_shape, dtype=dtype, xp=xp
    )
    real = subject.real_linear if real_linear is None else bool(real_linear)
    forward, back = _sides(subject, real)
    if not forward.n or not forward.m:
        raise ValueError(f"there is nothing to test: the shape is {(forward.m, forward.n)}")
    session = Session(
        subject=subject,
        forward=forward,
        adjoint=back,
        rng=np.random.default_rng(seed),
        level=level,
        deterministic=deterministic,
        real_linear=real,
    )
    if matrix is None and subject.matrix is not None:
        matrix = subject.matrix()
    session.matrix = known.known_matrix(session, matrix)
    return session


@functools.cache
def _settle_allocator() -> None:
    """Free one large array, which is never touched, once.

    Until then glibc takes every array of 128 kB and more from the system and gives it
    back, page by page: a fifth of the time of a test of ten thousand samples.
    """
    np.empty(_LARGEST_KEPT, np.uint8)


def _sides(subject: Subject, real_linear: bool) -> tuple[Side, Side]:
    """Return both sides with the dtypes of their probes and results."""
    given, back = _probe_dtypes(subject, real_linear)
    promised = subject.dtype is not None and not real_linear
    declared = subject.in_dtype is not None
    expected = np.result_type(subject.dtype or given, given) if promised else None
    returned = np.result_type(subject.dtype or back, back) if promised else None
    domain, range_ = subject.weights or (None, None)
    forward = Side(
        subject,
        subject.forward_name,
        subject.forward,
        subject.matmat,
        "matmat",
        subject.in_shape,
        subject.out_shape,
        subject.call_in_shape,
        subject.call_out_shape,
        given,
        subject.out_dtype if declared else expected,
    )
    adjoint = Side(
        subject,
        subject.adjoint_name,
        subject.adjoint,
        subject.rmatmat,
        "rmatmat",
        subject.out_shape,
        subject.in_shape,
        subject.call_out_shape,
        subject.call_in_shape,
        back,
        subject.in_dtype if declared else returned,
        pre=_flat(range_),
        post=_flat(domain),
    )
    return forward, adjoint


def _flat(weights: Any) -> Any:
    if weights is None:
        return None
    weights = np.asarray(weights, float)
    return weights.reshape(-1) if weights.ndim else float(weights)


def _probe_dtypes(subject: Subject, real_linear: bool) -> tuple[np.dtype, np.dtype]:
    """Return the dtypes of x and y: those declared, else what the operator takes and gives."""
    if subject.in_dtype is not None and subject.out_dtype is not None:
        return subject.in_dtype, subject.out_dtype
    if subject.dtype is not None:
        given = _floating(subject.dtype)
        if not real_linear:
            return given, given
        result = _result_dtype(subject, given)
        return given, given if result is None else result
    for dtype in (np.dtype(np.complex128), np.dtype(np.float64)):
        result = _result_dtype(subject, dtype)
        if result is not None and (dtype.kind == "f" or result.kind == "c" or real_linear):
            return dtype, np.result_type(result, np.float16)
    return np.dtype(np.float64), np.dtype(np.float64)


def _floating(dtype: np.dtype) -> np.dtype:
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def _result_dtype(subject: Subject, dtype: np.dtype) -> np.dtype | None:
    """Return the dtype of one result, None if the operator refuses such an input."""
    x = np.ones(subject.call_in_shape, dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return subject.arrays.read(subject.forward(subject.arrays.make(x))).dtype
    except Exception:  # whatever it raises, it refuses
        return None


def rebuilt(session: Session, factory: Any, kernel_shape: Any) -> tuple[Side, Side] | None:
    """Return both sides of the operator with a kernel of whole numbers, if it can be made."""
    subject = session.subject
    if factory is None and kernel_shape is None:
        factory, kernel_shape = _own_factory(subject)
        if factory is None:
            return None
    if factory is None or kernel_shape is None:
        raise ValueError("exact mode needs both factory= and kernel_shape=, got one of them")
    shape = sizes(kernel_shape, "kernel_shape")
    session.taps = int(np.prod(shape))
    kernel = probes.whole(session.rng, session.taps, session.forward.dtype, exact.MOST_TAP)
    made = factory(kernel.reshape(shape))
    functions = made if isinstance(made, tuple) else (made,)
    pair = {"dtype": session.forward.dtype, "xp": subject.arrays} if len(functions) > 1 else {}
    other = as_subject(
        *functions, in_shape=subject.in_shape, out_shape=subject.out_shape, **pair
    )
    return _sides(other, session.real_linear)


def _own_factory(subject: Subject) -> tuple[Callable[[Any], Any] | None, Any]:
    """Return what makes a linconv convolution again, with another kernel.

    Not a subclass of somebody else's: what it keeps besides the kernel would be lost.
    """
    A, made = subject.portable, subject.geometry
    own = type(getattr(A, "base", A)).__module__.startswith("linconv.")
    if made is None or not own or not hasattr(A, "with_kernel"):
        return None, None
    return lambda kernel: A.with_kernel(subject.arrays.make(kernel)), made.kernel_shape
