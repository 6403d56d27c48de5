"""Why two matrices differ, I: causes of all entries alike, or of a few of them.

A hypothesis takes a `Case` and returns the sentence of its cause, or None.  It
counts only if the matrix it predicts from C equals B everywhere within the
tolerance and is not C itself.  Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from linconv.testing.report import number

__all__ = [
    "Case",
    "conjugate",
    "few_entries",
    "precision",
    "roughly_precision",
    "scale",
    "single_entry",
    "transpose",
    "unequal_parts",
    "uniform_part",
]

# A region is blamed if so few of random wrong entries would all lie in it by chance.
_CHANCE = 0.02
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Case:
    """Two matrices to compare: C is true, B is under test.

    ``tolerance`` has the matrices' shape; ``channels`` says whether axis 0 of the
    output and of the input is a channel axis; ``spaces`` are the names of rows and
    columns, exchanged in the transposed case.
    """

    C: np.ndarray
    B: np.ndarray
    tolerance: np.ndarray
    out_shape: tuple[int, ...]
    in_shape: tuple[int, ...]
    dtype: np.dtype
    what: str
    channels: tuple[bool, bool]
    spaces: tuple[str, str] = ("output", "input")

    @cached_property
    def bad(self) -> np.ndarray:
        """Where B differs from C."""
        return np.abs(self.B - self.C) > self.tolerance

    @cached_property
    def involved(self) -> np.ndarray:
        """Where C is not zero, or B differs from it."""
        return (np.abs(self.C) > self.tolerance) | self.bad

    @cached_property
    def rows(self) -> np.ndarray:
        """At most 32 rows with wrong entries, evenly chosen: most guesses fail there."""
        wrong = np.flatnonzero(self.bad.any(axis=1))
        return wrong[:: -(-len(wrong) // 32)] if len(wrong) else wrong

    @cached_property
    def slack(self) -> float:
        """The tolerance for what a stencil predicts from a few of C's entries."""
        return 4 * float(self.tolerance.max())

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the output and of the input."""
        return self.out_shape, self.in_shape

    def factor(self, s: Any) -> str:
        """Write a factor of B as one of what is wrong: of B's adjoint it is the conjugate."""
        return number(np.conj(s) if self.what == "adjoint" else s)

    @property
    def true(self) -> str:
        """The name of what C belongs to."""
        return "forward" if self.what == "adjoint" else "true forward"

    @cached_property
    def T(self) -> Case:
        """The same case with rows and columns exchanged."""
        return replace(
            self,
            C=self.C.T,
            B=self.B.T,
            tolerance=self.tolerance.T,
            out_shape=self.in_shape,
            in_shape=self.out_shape,
            channels=self.channels[::-1],
            spaces=self.spaces[::-1],
        )

    def agrees(self, P: np.ndarray, tolerance: Any = None) -> bool:
        """Whether B equals `P`, which is not C."""
        limit = np.broadcast_to(self.tolerance if tolerance is None else tolerance, P.shape)
        some = self.rows
        if (np.abs(self.B[some] - P[some]) > limit[some]).any():
            return False
        if (np.abs(self.B - P) > limit).any():
            return False
        return bool((np.abs(P - self.C) > limit).any())

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Whether B is C with its entries moved by `move`, which acts on any matrix."""
        if not any(self.tolerance.strides):
            return self.agrees(move(self.C))
        return self.agrees(move(self.C), np.maximum(self.tolerance, move(self.tolerance)))


def count(value: int) -> str:
    """Write a small whole number as a word."""
    return _WORDS[value] if value < len(_WORDS) else str(value)


def conjugate(case: Case) -> str | None:
    """Try the conjugate, the real part, and the adjoint."""
    C, B, what = case.C, case.B, case.what
    adjoint = what == "adjoint"
    if np.iscomplexobj(C):
        if case.agrees(C.conj()):
            if adjoint:
                return "the adjoint is the transpose: the conjugate is missing"
            return "the forward is the conjugate of the true forward"
        if case.agrees(np.real(C)):
            return f"the {what} keeps only the real part"
    if B.shape[0] != B.shape[1]:
        return None
    if case.moved(lambda M: M.conj().T):
        if adjoint:
            return "the adjoint is the forward itself: the transpose is missing"
        return "the forward is the adjoint of the true forward"
    return None


def transpose(case: Case) -> str | None:
    """Try the transpose of a complex matrix."""
    if not np.iscomplexobj(case.C) or case.C.shape[0] != case.C.shape[1]:
        return None
    if not case.moved(lambda M: M.T):
        return None
    if case.what == "adjoint":
        return "the adjoint is the conjugate of the forward: the transpose is missing"
    return "the forward is the transpose of the true forward"


def precision(case: Case) -> str | None:
    """Try a rounding to fewer bits: B has them and C has not, or the other way round."""
    digits = np.finfo(case.dtype).nmant + 1
    bad = case.bad
    if bad.sum() < 0.2 * case.involved.sum():
        return None
    for bits, name in ((24, "float32"), (11, "half precision"), (8, "half precision")):
        if bits >= digits or not _close(case, bits):
            continue
        for rounded, other in ((case.B, case.C), (case.C, case.B)):
            coarse = _fits(rounded[case.involved], bits)
            if coarse.mean() >= 0.95 and _fits(other[bad], bits).mean() <= 0.1:
                return f"{name} inside a {case.dtype.name} operator"
    return None


def roughly_precision(case: Case) -> str | None:
    """Try errors as small as those of float32 in most entries, however they came about."""
    wide = np.finfo(case.dtype).nmant > 24
    most = case.bad.sum() >= max(8, 0.5 * case.involved.sum())
    if wide and most and _close(case, 24):
        return f"float32 inside a {case.dtype.name} operator"
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
    if np.iscomplexobj(values):
        return _fits(np.real(values), bits) & _fits(np.imag(values), bits)
    mantissa = np.frexp(values)[0] * 2.0**bits
    return mantissa == np.rint(mantissa)


def scale(case: Case) -> str | None:
    """Try one factor for all entries."""
    s = factor(case.C, case.B)
    if s is None or abs(s - 1) <= 4 * float(np.finfo(case.dtype).eps):
        return None
    if not case.agrees(s * case.C, case.tolerance * max(1, abs(s))):
        return None
    text = f"{case.what} = {case.factor(s)} x the true {case.what}"
    (out, rows), (into, columns) = (
        (math.prod(shape[flag:]), math.prod(shape))
        for shape, flag in zip(case.shapes, case.channels, strict=True)
    )
    for size in (columns, rows, into, out):
        names = {"1/N": 1 / size, "N": size, "1/sqrt(N)": size**-0.5, "sqrt(N)": size**0.5}
        for name, value in names.items():
            if size > 1 and abs(s - value) <= 1e-5 * value:
                return f"{text} = {name}, N = {size}"
    return text


def factor(C: np.ndarray, B: np.ndarray) -> Any:
    """Return the s that brings s C closest to B, or None if C is zero."""
    norm = np.vdot(C, C).real
    return np.vdot(C, B) / norm if norm > 0 else None


@dataclass(frozen=True)
class Part:
    """Some rows, or some columns, of the matrix; `where` completes "wrong only"."""

    where: str
    rows: bool
    places: np.ndarray
    remark: str = ""  # said if it is missing
    plain: bool = True  # whether it may be blamed for entries that just differ

    def of(self, M: np.ndarray) -> np.ndarray:
        """Return these rows or columns of `M`."""
        return M[self.places] if self.rows else M[:, self.places]


def parts(case: Case) -> list[Part]:
    """Return the parts that hold all wrong entries, those with fewest entries first."""
    found = [*_parts(case, 0), *_parts(case, 1)]
    sizes = [case.involved.sum(axis=1), case.involved.sum(axis=0)]

    def order(part: Part) -> tuple[int, bool]:
        return int(sizes[not part.rows][part.places].sum()), not part.plain

    return sorted(found, key=order)


def _parts(case: Case, side: int) -> Iterator[Part]:
    space, shape = case.spaces[side], case.shapes[side]
    rows = side == 0
    wrong = np.flatnonzero(case.bad.any(axis=1 - side))
    size = math.prod(shape)
    places = np.arange(size).reshape(shape)
    coordinates = np.unravel_index(wrong, shape)
    for axis, at in enumerate(coordinates):
        low, high, length = int(at.min()), int(at.max()), shape[axis]
        part = places.take(np.arange(low, high + 1), axis).ravel()
        channel = axis == 0 and case.channels[side]
        if low == high and length > 1 and (part.size > 1 or channel):
            where = f"at index {low} along axis {axis} of the {space}"
            where = f"in {space} channel {low}" if channel else where
            remark = "" if channel else _edge(space, axis, low, high, length)
            yield Part(where, rows, part, remark)
        elif low < high and 2 * (high - low + 1) <= length and not channel:
            remark = _edge(space, axis, low, high, length)
            flat = "last" in remark and axis == 0  # the tail below, which says more
            if remark and not flat:
                where = remark.removesuffix(" are missing").removesuffix(" is missing")
                yield Part(f"in {where}", rows, part, remark, plain=False)
    if len(wrong) == 1 and size > 1:
        at = int(wrong[0])
        remark = _edge(space, 0, at, at, size) if len(shape) == 1 else ""
        yield Part(f"in {space} {at}", rows, wrong, remark)
    tail = size - int(wrong[0])
    if 2 <= tail <= size // 2 and len(wrong) > 1:
        pitch = size // shape[0]
        even = tail % pitch == 0 and not case.channels[side]
        remark = _edge(space, 0, (size - tail) // pitch, shape[0] - 1, shape[0])
        where = f"in the last {tail} samples of the {space}"
        used = np.flatnonzero(case.involved.any(axis=1 - side))
        full = len(wrong) >= 0.8 * (used >= size - tail).sum()
        yield Part(where, rows, np.arange(size - tail, size), remark if even else "", full)


def _edge(space: str, axis: int, low: int, high: int, length: int) -> str:
    """Say that samples low..high along an axis are missing, if these are the ends."""
    if length < 2 or (low > 0 and high < length - 1):
        return ""
    end = "last" if low > 0 else "first"
    many = "sample" if low == high else f"{high - low + 1} samples"
    verb = "is" if low == high else "are"
    return f"the {end} {many} along axis {axis} of the {space} {verb} missing"


def uniform_part(case: Case) -> str | None:
    """Try one part that is missing, doubled or scaled, all else right."""
    for part in parts(case):
        C, B, tolerance = part.of(case.C), part.of(case.B), part.of(case.tolerance)
        if _size(case, part) < 2 or not (np.abs(C) > tolerance).any():
            continue
        if (np.abs(B) <= tolerance).all():
            if not part.plain and part.where.removeprefix("in ") in part.remark:
                return part.remark
            remark = f" ({part.remark})" if part.remark else ""
            return f"wrong only {part.where}: missing{remark}"
        s = factor(C, B)
        if (np.abs(B - s * C) <= tolerance * max(1, abs(s))).all():
            kind = "doubled" if abs(s - 2) < 1e-5 else f"scaled by {case.factor(s)}"
            return f"wrong only {part.where}: {kind}"
    return None


def _size(case: Case, part: Part) -> int:
    """Return how many entries a part has."""
    return int(part.of(case.involved).sum())


def unequal_parts(case: Case) -> str | None:
    """Try one part that holds all wrong entries, where chance would not put them."""
    wrong, total = int(case.bad.sum()), int(case.involved.sum())
    for part in parts(case):
        inside = _size(case, part)
        if part.plain and wrong > 1 and by_chance(inside / total, wrong) < _CHANCE:
            return f"wrong only {part.where}: {wrong} entries differ"
    return None


def by_chance(share: float, wrong: int) -> float:
    """Return the chance that all entries lie where the first one lies."""
    return share ** (wrong - 1)


def single_entry(case: Case) -> str | None:
    """Try one entry of several."""
    if not case.bad.sum() == 1 < case.involved.sum():
        return None
    bad = case.bad
    missing = bool(np.all(np.abs(case.B[bad]) <= case.tolerance[bad]))
    remarks = [p.remark for p in parts(case) if _size(case, p) == 1 and p.remark]
    return "a single wrong entry" + (f" ({remarks[0]})" if missing and remarks else "")


def few_entries(case: Case) -> str | None:
    """Try a few entries, a small part of all."""
    wrong, total = int(case.bad.sum()), int(case.involved.sum())
    return f"{wrong} wrong entries" if wrong <= min(8, total // 4) else None
