"""Why an operator's matrix is wrong, in words: hypotheses tried one after another.

The most specific cause that predicts every entry comes first, then causes that
only say where the wrong entries are; what none explains is "unknown".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from linconv.geometry import Geometry
from linconv.testing.diagnosis import hypotheses, move_hypotheses, stencil_hypotheses
from linconv.testing.diagnosis.hypotheses import Case
from linconv.testing.diagnosis.stencil_hypotheses import Fit
from linconv.testing.report import Entry

__all__ = ["Diagnosis", "diagnose"]

_LISTED = 5


@dataclass(frozen=True)
class Diagnosis:
    """Why a matrix is wrong.

    Attributes
    ----------
    cause : str
        In words, "unknown" if no hypothesis explains every entry, "" if nothing
        is wrong.
    entries : tuple of Entry
        The worst entries, at most five, the worst first.
    """

    cause: str
    entries: tuple[Entry, ...]


def diagnose(
    C: np.ndarray,
    B: np.ndarray,
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    tolerance: Any,
    dtype: Any,
    what: str = "adjoint",
    geometry: Geometry | None = None,
) -> Diagnosis:
    """Say why B is not C, by hypotheses that predict B from C.

    Parameters
    ----------
    C : ndarray, (m, n)
        The true matrix; m and n are the sizes of `out_shape` and `in_shape`.
    B : ndarray, (m, n)
        What the part under test implies.  For an adjoint, the conjugate transpose
        of its matrix: it is right if and only if B is C.
    in_shape, out_shape : tuple of int
        Shapes of the arrays that the columns and the rows stand for.
    tolerance : array_like, (m, n) or broadcastable
        The largest ``|B - C|`` that is right.
    dtype : dtype
        Of the operator.
    what : {"adjoint", "forward"}
        What B belongs to; the word in the sentences.
    geometry : Geometry, optional
        Of the operator, or of its transpose: says which axes are channels.
        Otherwise axis 0 is a channel axis of arrays with three or more axes, and
        of those with two if every pair of indices along it couples.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If the matrices do not have the shapes' sizes.

    Examples
    --------
    >>> C = np.array([[1.0, 2, 0], [0, 1, 2], [0, 0, 1]])
    >>> diagnose(C, C / 2, (3,), (3,), tolerance=1e-9, dtype=float).cause
    'adjoint = 0.5 x the true adjoint'
    >>> diagnose(C, np.roll(C, 1, axis=1), (3,), (3,), tolerance=1e-9, dtype=float).cause
    'shifted by one along axis 0 of the input'
    """
    case = _case(C, B, in_shape, out_shape, tolerance, dtype, what, geometry)
    strange = ~np.isfinite(case.B)
    if strange.any():
        return Diagnosis(f"the {what} has NaN or infinite entries", _entries(C, B, strange))
    if not case.bad.any():
        return Diagnosis("", ())
    for hypothesis in _hypotheses(case):
        cause = hypothesis()
        if cause:
            break
    else:
        cause = "unknown"
    return Diagnosis(cause, _entries(C, B, np.abs(case.B - case.C) * case.bad))


def _hypotheses(case: Case) -> Iterator[Callable[[], str | None]]:
    """Yield them in order: no parameter, few, many; then those that only say where."""
    for simple in (hypotheses.precision, _conjugate, hypotheses.scale):
        yield partial(simple, case)
    fits = _fits(case)
    for one, true in fits:
        yield partial(stencil_hypotheses.boundary, one, true, known=True)
    for one, true in fits:
        yield partial(stencil_hypotheses.padded_again, one, true)
    for one, true in fits:
        yield partial(stencil_hypotheses.boundary, one, true, known=False)
    for simple in (
        hypotheses.single_entry,
        hypotheses.uniform_part,
        move_hypotheses.channels_moved,
        move_hypotheses.axes_exchanged,
        move_hypotheses.reversed_kernel,
        hypotheses.transpose,
    ):
        yield partial(simple, case)
    yield partial(move_hypotheses.shifted, case, _strides(case, fits))
    for one, true in fits:
        yield partial(stencil_hypotheses.stencil, one, true)
        yield partial(stencil_hypotheses.variants, one, true)
    for simple in (move_hypotheses.scaled_along, hypotheses.roughly_precision):
        yield partial(simple, case)
    for one, true in fits:
        yield partial(stencil_hypotheses.one_tap, one, true)
    yield partial(hypotheses.unequal_parts, case)
    for one, true in fits:
        yield partial(stencil_hypotheses.near_boundary, one, true)
    for one, true in fits:
        yield partial(stencil_hypotheses.other_taps, one, true)
    yield partial(hypotheses.few_entries, case)


def _conjugate(case: Case) -> str | None:
    """Try the conjugate and the adjoint; the latter may be a reversed kernel as well."""
    cause = hypotheses.conjugate(case)
    if cause and cause.endswith("the transpose is missing"):
        same = move_hypotheses.reversed_kernel(case)
        return f"{cause} ({same})" if same else cause
    return cause


def _fits(case: Case) -> list[tuple[Case, Fit]]:
    """Return the convolution that C is, and that its transpose is; the exact one first."""
    pairs = ((one, stencil_hypotheses.fit(one, one.C)) for one in (case, case.T))
    found = [(one, true) for one, true in pairs if true is not None]
    if len(found) == 2 and found[0][1].full(case.C, case.slack) is None:
        return found[::-1]
    return found


def _strides(
    case: Case, fits: Iterable[tuple[Case, Fit]]
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the stencil's steps along the axes of the output and of the input."""
    steps: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for one, true in fits:
        side = 1 if one is case else 0
        flag = case.channels[side]
        steps[side].update({a + flag: axis.stride for a, axis in enumerate(true.axes)})
    return steps


def _case(
    C: np.ndarray,
    B: np.ndarray,
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    tolerance: Any,
    dtype: Any,
    what: str,
    geometry: Geometry | None,
) -> Case:
    out, into = tuple(out_shape), tuple(in_shape)
    needed = (int(np.prod(out)), int(np.prod(into)))
    for name, M in (("C", C), ("B", B)):
        if M.shape != needed:
            raise ValueError(
                f"{name} has shape {M.shape}, but out_shape {out} and in_shape {into} need "
                f"a matrix of shape {needed}"
            )
    if what not in ("adjoint", "forward"):
        raise ValueError(f"what must be 'adjoint' or 'forward', got {what!r}")
    kind = complex if np.iscomplexobj(C) or np.iscomplexobj(B) else float
    C, B = np.asarray(C, kind), np.asarray(B, kind)
    limit = np.broadcast_to(np.asarray(tolerance, float), needed)
    dtype = np.dtype(dtype) if np.dtype(dtype).kind in "fc" else np.dtype(float)
    channels = _channels(C, limit, out, into, geometry)
    return Case(C, B, limit, out, into, dtype, what, channels)


def _channels(
    C: np.ndarray,
    tolerance: np.ndarray,
    out: tuple[int, ...],
    into: tuple[int, ...],
    geometry: Geometry | None,
) -> tuple[bool, bool]:
    """Say whether axis 0 of the output, and of the input, is a channel axis."""
    if geometry is not None and {geometry.in_shape, geometry.out_shape} == {out, into}:
        both = geometry.channels is not None
        return both, both
    if len(out) != len(into):
        return len(out) > len(into), len(into) > len(out)
    if len(out) != 2:
        return len(out) > 2, len(out) > 2
    blocks = (np.abs(C) > tolerance).reshape(out[0], out[1], into[0], into[1])
    both = _in_groups(np.asarray(blocks.any(axis=(1, 3))))
    return both, both


def _in_groups(coupled: np.ndarray) -> bool:
    """Whether outputs and inputs couple all to all, or so in groups of at least two each."""
    if coupled.all():
        return True
    rows, members = np.unique(coupled, axis=0, return_counts=True)
    apart = bool((rows.sum(axis=0) == 1).all())
    return apart and int(min(members)) > 1 and int(min(rows.sum(axis=1))) > 1


def _entries(C: np.ndarray, B: np.ndarray, weights: np.ndarray) -> tuple[Entry, ...]:
    """Return the entries of the largest weights, none of zero."""
    flat = weights.ravel()
    most = min(_LISTED, np.count_nonzero(flat))
    worst = np.argpartition(-flat.astype(float), most - 1)[:most]
    worst = worst[np.argsort(-flat[worst].astype(float), kind="stable")]
    places = [divmod(int(at), C.shape[1]) for at in worst]
    return tuple(Entry((i, j), C[i, j].item(), B[i, j].item()) for i, j in places)
