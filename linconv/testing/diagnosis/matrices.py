"""Why a matrix is not the true one: hypotheses that predict each entry from the true matrix.

`diagnose` names the first hypothesis of `causes.ORDER` that holds.  The last ones only say
where the wrong entries are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from linconv.geometry import Geometry
from linconv.testing.checks import probes
from linconv.testing.diagnosis.case import CHANCE, Case, make_case
from linconv.testing.diagnosis.causes import first_cause, place, slice_place
from linconv.testing.diagnosis.convolutions import Convolutions
from linconv.testing.diagnosis.moves import MOVES, Move, exchanged_channels, shift
from linconv.testing.report import Entry

_LISTED = 5
_SHOWN = 12  # of the factors or channels in a list


@dataclass(frozen=True)
class Diagnosis:
    """The cause, "" for a right matrix, and at most five wrong entries, worst first."""

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

    C, of shape (m, n), is the true matrix.  Its rows stand for arrays of `out_shape`, its
    columns for arrays of `in_shape`.  B is the matrix of the part under test, `what`: of
    the "forward" itself, or the conjugate transpose of that of the "adjoint", so that a
    right B equals C.  `tolerance` is the largest ``|B - C|`` of a right B.  The `geometry`
    of the operator, or of its transpose, says whether axis 0 is a channel axis.  Without
    one, it is a channel axis of arrays with three or more axes, and of arrays with two
    axes if every pair of indices along it couples.

    Examples
    --------
    >>> C = np.array([[1.0, 2, 0], [0, 1, 2], [0, 0, 1]])
    >>> diagnose(C, C / 2, (3,), (3,), tolerance=1e-9, dtype=float).cause
    'adjoint = 0.5 x the true adjoint'
    >>> diagnose(C, np.roll(C, 1, axis=1), (3,), (3,), tolerance=1e-9, dtype=float).cause
    'shifted by one along axis 0 of the input'
    """
    shapes = (tuple(out_shape), tuple(in_shape))
    case = make_case(C, B, shapes, tolerance, dtype, what, geometry)
    strange = ~np.isfinite(case.B)
    if strange.any():
        return Diagnosis(case.say("not finite"), _entries(C, B, strange))
    if not case.wrong:
        return Diagnosis("", ())
    stencils = Convolutions(case)
    tests = stencils.hypotheses()
    tests |= {name: partial(test, case) for name, test in _HYPOTHESES.items()}
    cause = first_cause(tests | {"shifts": lambda: shifted(case, stencils.strides)})
    return Diagnosis(cause, _entries(C, B, np.abs(case.B - case.C) * case.bad))


def _entries(C: np.ndarray, B: np.ndarray, weights: np.ndarray) -> tuple[Entry, ...]:
    """Return the entries with the largest nonzero weights."""
    flat = -weights.ravel().astype(float)
    most = min(_LISTED, np.count_nonzero(flat))
    worst = np.argpartition(flat, most - 1)[:most]
    worst = worst[np.argsort(flat[worst], kind="stable")]
    places = [divmod(int(at), C.shape[1]) for at in worst]
    return tuple(Entry((i, j), C[i, j].item(), B[i, j].item()) for i, j in places)


# Causes that all entries share


def precision(case: Case) -> str | None:
    """Try a lower precision: either B or C has entries of few bits, the other one has not."""
    digits = np.finfo(case.dtype).nmant + 1
    if case.wrong < 0.2 * case.total:
        return None
    for bits, name in probes.PRECISIONS:
        if bits >= digits or not _close(case, bits):
            continue
        for rounded, other in ((case.B, case.C), (case.C, case.B)):
            coarse = _fits(rounded[case.involved], bits)
            if coarse.mean() >= 0.95 and _fits(other[case.bad], bits).mean() <= 0.1:
                return case.say("precision", precision=name, dtype=case.dtype.name, side="")
    return None


def roughly_precision(case: Case) -> str | None:
    """Try errors of the size of float32 in most entries, without a look at their bits."""
    wide = np.finfo(case.dtype).nmant > 24
    if wide and case.wrong >= max(8, 0.5 * case.total) and _close(case, 24):
        return case.say("precision", precision="float32", dtype=case.dtype.name, side="")
    return None


def _close(case: Case, bits: int) -> bool:
    """Whether B - C could be the rounding of a product with `bits` bits."""
    size = np.abs(case.C)
    if bits == 24:  # Fourier transforms spread their errors over a row
        norms = [np.sqrt((size**2).sum(axis=axis, keepdims=True)) for axis in (0, 1)]
        size = size + np.minimum(*norms)
    # Half precision loses more bits below its smallest normal number, 2^-14.
    units, floor = (4, 0.0) if bits == 24 else (2, 2.0**-24)
    return bool((np.abs(case.B - case.C) <= units * 2.0**-bits * size + floor).all())


def _fits(values: np.ndarray, bits: int) -> np.ndarray:
    """Return which values have significands of at most `bits` bits."""
    return probes.round_bits(values, bits) == values


def conjugate(case: Case) -> str | None:
    """Try the conjugate, the real part and the adjoint of C."""
    if np.iscomplexobj(case.C):
        if case.agrees(case.C.conj()):
            return case.say("conjugate")
        if case.agrees(np.real(case.C)):
            return case.say("real part")
    if case.C.shape[0] != case.C.shape[1] or not case.moved(lambda M: M.conj().T):
        return None
    same = (
        _named(case, MOVES["reversed"](case.spaces)) if case.spaces.what == "adjoint" else None
    )
    return case.say("adjoint") + (f" ({same})" if same else "")


def transpose(case: Case) -> str | None:
    """Try the transpose, if C is complex."""
    if not np.iscomplexobj(case.C) or case.C.shape[0] != case.C.shape[1]:
        return None
    return case.say("transpose") if case.moved(lambda M: M.T) else None


def scale(case: Case) -> str | None:
    """Try one factor for all entries; name it if it is 1/N or so, N the size of an array."""
    s = _factor(case.C, case.B)
    if s is None or abs(s - 1) <= 4 * float(np.finfo(case.dtype).eps):
        return None
    if not case.agrees(s * case.C, case.tolerance * max(1, abs(s))):
        return None
    sizes = (*case.C.shape[::-1], *map(math.prod, case.spaces.spatial[::-1]))
    for size in sizes:
        names = {"1/N": 1 / size, "N": size, "1/sqrt(N)": size**-0.5, "sqrt(N)": size**0.5}
        for name, value in names.items():
            if size > 1 and abs(s - value) <= 1e-5 * value:
                known = f" = {name}, N = {size}"
                return case.say("scale", factor=case.factor(s), remark=known)
    return case.say("scale", factor=case.factor(s), remark="")


def _factor(C: np.ndarray, B: np.ndarray) -> Any:
    """Return the s that brings s C closest to B, or None if C is zero."""
    norm = np.vdot(C, C).real
    return np.vdot(C, B) / norm if norm > 0 else None


def scaled_along(case: Case) -> str | None:
    """Try one factor per index along an axis, then one per sample."""
    for flat in (False, True):
        for one in (case, case.T):
            if flat and len(one.shape) == 1:
                continue
            for axis in [None] if flat else range(len(one.shape)):
                s = _factors(one, axis)
                if s is not None:
                    along = "from sample to sample" if flat else f"along axis {axis}"
                    factors = _list([case.factor(v) for v in s])
                    return case.say("factors", along=along, space=one.space, factors=factors)
    return None


def _factors(case: Case, axis: int | None) -> np.ndarray | None:
    """Return factors along an axis of the rows (None: one per row), if they explain B."""
    shape = case.involved.shape[:1] if axis is None else case.shape
    others = tuple(a for a in range(len(shape)) if a != (axis or 0))
    sums = (case.C.conj() * case.B, np.abs(case.C) ** 2, case.involved)
    product, square, entries = (M.sum(axis=1).reshape(shape).sum(axis=others) for M in sums)
    used = square > 0
    spare = int((entries[used] - 1).sum())  # entries that test a factor
    if used.sum() < 2 or spare < max(4, 0.25 * used.sum()):
        return None
    s = np.where(used, product / np.where(used, square, 1), 1)
    if case.wrong < 1.5 * (np.abs(s - 1) > 1e-5).sum():
        return None
    weights = (np.expand_dims(s, others) * np.ones(shape)).reshape(-1, 1)
    if not case.agrees(weights * case.C, case.tolerance * np.maximum(1, np.abs(weights))):
        return None
    return s


def _list(words: list[str]) -> str:
    return ", ".join(words[:_SHOWN] + ["..."] * (len(words) > _SHOWN))


# Moved entries


def moved(case: Case) -> str | None:
    """Try exchanged channels, permuted channels, then the moves in `MOVES`."""
    found = _exchanged_channels(case) or _named(case, _channel_orders(case))
    for name in MOVES:
        found = found or _named(case, MOVES[name](case.spaces))
    return found


def _named(case: Case, moves: Iterator[Move]) -> str | None:
    """Return the cause of the first of these moves that turns C into B."""
    return next((move.cause for move in moves if case.moved(move)), None)


def _exchanged_channels(case: Case) -> str | None:
    if all(case.spaces.channels) and min(case.shape[0], case.T.shape[0]) > 1:
        for one in (case, case.T):
            if one.moved(exchanged_channels(one.shape[0], one.T.shape[0])):
                return case.say("channels exchanged")
    return None


def _channel_orders(case: Case) -> Iterator[Move]:
    """Yield the most likely order of the input's channels, then of the output's."""
    for one in (case.T, case):
        channels = one.shape[0] if one.channel else 0
        if channels < 2:
            continue
        true, got, _ = (trace.reshape(channels, -1) for trace in _traces(one))
        costs = np.array([np.abs(true - row).sum(axis=1) for row in got])
        found = linear_sum_assignment(costs)[1]
        numbers = _list([str(channel) for channel in found])
        places = np.arange(len(one.C)).reshape(channels, -1)[found].ravel()
        cause = case.say("channel order", space=one.space, order=numbers)
        yield Move(cause, places, None) if one is case else Move(cause, None, places)


def _traces(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one random combination of the columns of C, of B, and of the tolerance."""
    rng = np.random.default_rng(30731)
    weights = rng.choice([-1.0, 1.0], case.C.shape[1])
    weights *= rng.uniform(0.5, 1.5, len(weights))
    return case.C @ weights, case.B @ weights, 2 * case.tolerance @ np.abs(weights)


def shifted(case: Case, strides: tuple[dict[int, int], dict[int, int]]) -> str | None:
    """Try shifts along one axis: circular, filled with zeros, or with anything.

    One random combination of all columns or rows shows candidates, which are then verified
    by the matrix.  `strides` gives the known strides, axis -> stride, of output and input.
    """
    found: list[tuple[int, int, bool, int, bool]] = []
    for side, one in ((1, case.T), (0, case)):
        for axis in range(one.channel, len(one.shape)):
            for fill, by in _candidates(one, axis):
                found.append((fill, abs(by), side == 0, axis, by < 0))
    for fill, size, output, axis, back in sorted(found):
        one, side, by = (case, 0, size) if output else (case.T, 1, size)
        by = -size if back else size
        if _is_shift(one, axis, by, fill):
            phase = "stride phase: " if size % strides[side].get(axis, 1) else ""
            return shift(case.spaces, side, axis, by, phase).cause
    return None


def _candidates(case: Case, axis: int) -> Iterator[tuple[int, int]]:
    """Return (fill, by) of possible shifts: 0 circular, 1 zeros, 2 anything."""
    true, got, limit = (
        np.moveaxis(trace.reshape(case.shape), axis, 0) for trace in _traces(case)
    )
    length, worst = len(true), limit.max()
    for size in range(1, length // 2 + 1):
        for by in (size, -size):
            wrapped = slice(0, by) if by > 0 else slice(length + by, length)
            gap = np.abs(got - np.roll(true, by, axis=0)) > worst
            edge = gap[wrapped].any()
            gap[wrapped] = False
            if gap.any():
                continue
            if not edge and by != -length / 2:
                yield 0, by
            if 2 * size < length:
                yield (1 if (np.abs(got[wrapped]) <= worst).all() else 2), by


def _is_shift(case: Case, axis: int, by: int, fill: int) -> bool:
    """Whether the rows of B are those of C, shifted along an axis of their arrays."""
    move = shift(case.spaces, 0, axis, by)
    if fill == 0:
        return case.moved(move)
    at = np.arange(case.shape[axis])
    stays = (at >= by) & (at < len(at) + by)
    others = tuple(a for a in range(len(case.shape)) if a != axis)
    inside = np.broadcast_to(np.expand_dims(stays, others), case.shape).ravel()
    B, P, C = case.B[inside], move(case.C)[inside], case.C[inside]
    limit = np.maximum(case.tolerance[inside], move(case.tolerance)[inside])
    if (np.abs(B - P) > limit).any():
        return False
    # B agrees with the shifted C inside; to be convincing, that must be most of B and of C.
    covered = (np.abs(B) > limit).sum()
    most = 2 * covered > max((np.abs(M) > case.tolerance).sum() for M in (case.C, case.B))
    return bool(most and (np.abs(C - P) > limit).sum() >= 4)


# Regions and entries


@dataclass(frozen=True)
class Region:
    """Some rows of a case, or of its transpose; `where` completes "wrong only"."""

    case: Case
    where: str
    places: np.ndarray
    remark: str = ""  # added to the cause if the region is missing in B
    plain: bool = True  # whether it may be a cause where entries just differ

    @property
    def size(self) -> int:
        """The number of entries involved."""
        return int(self.case.involved[self.places].sum())


def regions(case: Case) -> list[Region]:
    """Return the regions that contain all wrong entries, the smallest first."""
    found = [*_regions(case), *_regions(case.T)]
    return sorted(found, key=lambda one: (one.size, not one.plain))


def _regions(case: Case) -> Iterator[Region]:
    space, shape = case.space, case.shape
    wrong = np.flatnonzero(case.bad.any(axis=1))
    size = math.prod(shape)
    places = np.arange(size).reshape(shape)
    for axis, at in enumerate(np.unravel_index(wrong, shape)):
        low, high, length = int(at.min()), int(at.max()), shape[axis]
        part = places.take(np.arange(low, high + 1), axis).ravel()
        channel = axis == 0 and case.channel
        edge = "" if channel else _edge(space, axis, low, high, length)
        if low == high and length > 1 and (part.size > 1 or channel):
            yield Region(case, slice_place(space, axis, low, channel), part, _missing(edge, 1))
        elif low < high and 2 * (high - low + 1) <= length and edge and (axis or not low):
            # The last samples along axis 0 are a tail, see below.
            remark = _missing(edge, high - low + 1)
            yield Region(case, f"in {edge}", part, remark, plain=False)
    if len(wrong) == 1 and size > 1:
        at = int(wrong[0])
        edge = _edge(space, 0, at, at, size) if len(shape) == 1 else ""
        yield Region(case, place("sample", space=space, at=at), wrong, _missing(edge, 1))
    tail = size - int(wrong[0])
    if 2 <= tail <= size // 2 and len(wrong) > 1:
        slices, rest = divmod(tail, size // shape[0])
        even = not rest and not case.channel
        edge = _edge(space, 0, shape[0] - slices, shape[0] - 1, shape[0]) if even else ""
        used = np.flatnonzero(case.involved.any(axis=1))
        full = len(wrong) >= 0.8 * (used >= size - tail).sum()
        where = place("tail", space=space, count=tail)
        yield Region(case, where, np.arange(size - tail, size), _missing(edge, slices), full)


def _edge(space: str, axis: int, low: int, high: int, length: int) -> str:
    """Name the samples low..high along an axis, or return "" if they touch neither end."""
    if length < 2 or (low > 0 and high < length - 1):
        return ""
    many = "sample" if low == high else f"{high - low + 1} samples"
    return f"the {'last' if low else 'first'} {many} along axis {axis} of the {space}"


def _missing(edge: str, count: int) -> str:
    return edge and f"{edge} {'is' if count == 1 else 'are'} missing"


def uniform_region(case: Case) -> str | None:
    """Try one region that is missing, doubled or scaled."""
    for one in regions(case):
        C, B, tolerance = (M[one.places] for M in (one.case.C, one.case.B, one.case.tolerance))
        if one.size < 2 or not (np.abs(C) > tolerance).any():
            continue
        if (np.abs(B) <= tolerance).all():
            if not one.plain and one.where.removeprefix("in ") in one.remark:
                return one.remark
            how = ": missing" + (f" ({one.remark})" if one.remark else "")
            return case.say("region", where=one.where, how=how)
        s = _factor(C, B)
        if (np.abs(B - s * C) <= tolerance * max(1, abs(s))).all():
            how = ": doubled" if abs(s - 2) < 1e-5 else f": scaled by {case.factor(s)}"
            return case.say("region", where=one.where, how=how)
    return None


def region(case: Case) -> str | None:
    """Try one region that contains all wrong entries, too many to be so by chance."""
    for one in regions(case):
        chance = (one.size / case.total) ** (case.wrong - 1)
        if one.plain and case.wrong > 1 and chance < CHANCE:
            return case.say("region", where=one.where, how=f": {case.wrong} entries differ")
    return None


def single_entry(case: Case) -> str | None:
    """Try one wrong entry among several right ones."""
    if not case.wrong == 1 < case.total:
        return None
    missing = bool(np.all(np.abs(case.B[case.bad]) <= case.tolerance[case.bad]))
    remarks = [one.remark for one in regions(case) if one.size == 1 and one.remark]
    return case.say("single entry", remark=f" ({remarks[0]})" if missing and remarks else "")


def few_entries(case: Case) -> str | None:
    """Try up to eight entries, at most a quarter of all."""
    few = case.wrong <= min(8, case.total // 4)
    return case.say("few entries", count=case.wrong) if few else None


_HYPOTHESES: dict[str, Callable[[Case], str | None]] = {
    "precision": precision,
    "conjugate": conjugate,
    "scale": scale,
    "single entry": single_entry,
    "uniform region": uniform_region,
    "moves": moved,
    "transpose": transpose,
    "factors": scaled_along,
    "rough precision": roughly_precision,
    "region": region,
    "few entries": few_entries,
}
