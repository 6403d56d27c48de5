"""Why two matrices differ, III: a convolution's stencil is read off and varied.

The stencil comes from the rows of one output position and counts only if it
predicts every row that reads no sample outside the input.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from linconv.assembly import conv_csr
from linconv.geometry import Axis, Boundary, Geometry
from linconv.testing.diagnosis.hypotheses import _CHANCE, Case, count
from linconv.testing.diagnosis.move_hypotheses import kernel_axes, unflipped
from linconv.testing.report import number

__all__ = [
    "Fit",
    "boundary",
    "fit",
    "near_boundary",
    "one_tap",
    "other_taps",
    "padded_again",
    "stencil",
    "variants",
]

# Where rules agree for a padding, the first of them is named first.
_RULES = tuple(Boundary)
# Entries up to which all variants of a stencil are built and compared.
_SMALL = 40_000
# Taps of a stencil that larger matrices may have: to build them takes a while.
_TAPS = 512


@dataclass(frozen=True)
class Fit:
    """A convolution that equals a matrix in its interior; the kernel has channels."""

    geometry: Geometry
    kernel: np.ndarray

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The spatial axes."""
        return self.geometry.axes

    def dense(self, rules: tuple[Boundary, ...]) -> np.ndarray:
        """Return the matrix with these boundary rules, one per axis."""
        pairs = zip(self.axes, rules, strict=True)
        axes = tuple(replace(axis, boundary=(rule, rule)) for axis, rule in pairs)
        csr = conv_csr(replace(self.geometry, axes=axes), self.kernel)
        return csr_array((csr.data, csr.indices, csr.indptr), csr.shape).toarray()

    @cached_property
    def matrices(self) -> dict[Boundary, np.ndarray]:
        """The matrices with one rule on all axes."""
        return {rule: self.dense((rule,) * len(self.axes)) for rule in _RULES}

    @property
    def tight(self) -> bool:
        """Whether no two positions along some axis are inside: the whole must agree."""
        lengths = [(len(axis.interior), axis.out) for axis in self.axes]
        return any(length < min(2, out) for length, out in lengths)

    @property
    def reaches_out(self) -> bool:
        """Whether a tap reads outside the input."""
        return any(len(axis.interior) < axis.out for axis in self.axes)

    def inside(self, skip: int = -1) -> np.ndarray:
        """Return which rows read no sample outside, but for axis `skip`."""
        marks = np.ones((self.geometry.c_out, *(axis.out for axis in self.axes)), bool)
        for a, axis in enumerate(self.axes):
            if a != skip:
                mark = np.zeros(axis.out, bool)
                mark[axis.interior.start : axis.interior.stop] = True
                marks &= mark.reshape(-1, *(1,) * (len(self.axes) - a - 1))
        return marks.ravel()

    def central(self) -> np.ndarray:
        """Return which columns lie further from the faces than the kernel reaches."""
        marks = np.ones((self.geometry.c_in, *(axis.n for axis in self.axes)), bool)
        for a, axis in enumerate(self.axes):
            mark = np.zeros(axis.n, bool)
            reach = max(*axis.padding, axis.extent // 2)
            mark[reach : max(reach, axis.n - reach)] = True
            marks &= mark.reshape(-1, *(1,) * (len(self.axes) - a - 1))
        return marks.ravel()

    def rules(self, M: np.ndarray, slack: float) -> list[list[Boundary]]:
        """Return the rules that each axis alone may have in `M`."""
        found = []
        for a in range(len(self.axes)):
            rows = np.flatnonzero(self.inside(skip=a))
            some = rows[:: -(-len(rows) // 16)]  # enough for most rules to fail
            likely = [r for r, P in self.matrices.items() if _equal(P, M, some, slack)]
            found.append([r for r in likely if _equal(self.matrices[r], M, rows, slack)])
        return found

    def full(self, M: np.ndarray, slack: float) -> tuple[Boundary, ...] | None:
        """Return rules with which the fit is all of `M`, if there are any."""
        options = self.rules(M, slack)
        for rules in itertools.islice(_combinations(options), 12):
            P = self.matrices[rules[0]] if len(set(rules)) == 1 else self.dense(rules)
            if not (np.abs(M - P) > slack).any():
                return rules
        return None


def _equal(P: np.ndarray, M: np.ndarray, rows: np.ndarray, slack: float) -> bool:
    return not (np.abs(P[rows] - M[rows]) > slack).any()


def _combinations(options: list[list[Boundary]]) -> Iterator[tuple[Boundary, ...]]:
    """Yield one rule per axis, the same for all axes first."""
    every = list(itertools.product(*options))
    return iter(sorted(every, key=lambda rules: len(set(rules))))


def fit(case: Case, M: np.ndarray) -> Fit | None:
    """Read the stencil of `M`, a matrix of the case's shape, and verify it."""
    out, into = (shape[flag:] for shape, flag in zip(case.shapes, case.channels, strict=True))
    if len(out) != len(into) or not out:
        return None
    T = M.reshape(-1, *out, M.shape[1] // math.prod(into), *into)
    seen = (np.abs(M) > case.tolerance).reshape(T.shape)
    found = []
    for centre in _centres(seen, len(out)):
        for guess in _guesses(T, seen, centre, case.slack):
            if _holds(guess, M, case.slack):
                if not guess.tight:
                    return guess
                found.append(guess)
    # Where taps wrap around, a row may be read as a longer kernel with a gap.
    return min(found, key=lambda guess: guess.kernel.size, default=None)


def _centres(seen: np.ndarray, d: int) -> list[tuple[int, ...]]:
    """Return output positions likely to be inside: central, or many reads in a small box."""
    out = seen.shape[1 : 1 + d]
    reads = seen.sum(axis=(0, 1 + d)).reshape(math.prod(out), *seen.shape[2 + d :])
    total = reads.sum(axis=tuple(range(1, 1 + d)))
    volume, distance = np.ones(len(reads)), np.zeros(len(reads))
    for a, at in enumerate(np.unravel_index(np.arange(len(reads)), out)):
        line = reads.any(axis=tuple(b + 1 for b in range(d) if b != a))
        volume *= line.shape[1] - line[:, ::-1].argmax(axis=1) - line.argmax(axis=1)
        distance = np.maximum(distance, np.abs(at - out[a] // 2))
    most = 9 if seen.size <= _SMALL else 2
    central = np.argsort(distance, kind="stable")[:most]
    best = dict.fromkeys([*central, *np.lexsort((distance, volume, -total))[:2]])
    return [tuple(int(i) for i in np.unravel_index(b, out)) for b in best]


def _guesses(
    T: np.ndarray, seen: np.ndarray, centre: tuple[int, ...], slack: float
) -> Iterator[Fit]:
    """Yield the convolutions whose rows at `centre` are those of `T`."""
    d = len(centre)
    out, into = T.shape[1 : 1 + d], T.shape[2 + d :]
    boxes = _box(seen, centre)
    if boxes is None:
        return
    choices = []
    for a in range(d):
        low, high, pitch = boxes[a]
        k = (high - low) // pitch + 1
        steps = _steps(T, seen, centre, a, slack)
        guesses = (_axis(into[a], k, s, pitch, low, centre[a], out[a]) for s in steps)
        choices.append([axis for axis in guesses if axis])
    taps = tuple(slice(low, high + 1, pitch) for low, high, pitch in boxes)
    kernel = T[(slice(None), *centre, slice(None), *taps)]
    few = math.prod(kernel.shape[2:]) <= _TAPS or T.size <= _SMALL
    if all(choices) and few and kernel[0].size <= 4096:
        for axes in itertools.product(*choices):
            yield Fit(Geometry(axes, kernel.shape[:2]), np.ascontiguousarray(kernel))


def _axis(n: int, k: int, s: int, pitch: int, low: int, at: int, out: int) -> Axis | None:
    lo = s * at - low
    hi = s * (out - 1) + pitch * (k - 1) + 1 - n - lo
    if max(lo, hi) > 4 * n:
        return None
    return Axis(n, k, s, pitch, (lo, hi), out=out)


def _box(seen: np.ndarray, at: tuple[int, ...]) -> list[tuple[int, int, int]] | None:
    """Return first and last sample read at an output position, and their pitch."""
    d = len(at)
    reads = seen[(slice(None), *at)].any(axis=(0, 1))
    if not reads.any():
        return None
    boxes = []
    for a in range(d):
        others: Any = tuple(b for b in range(d) if b != a)
        used = np.flatnonzero(reads.any(axis=others))
        pitch = int(np.gcd.reduce(np.diff(used))) if len(used) > 1 else 1
        boxes.append((int(used[0]), int(used[-1]), pitch))
    return boxes


def _steps(
    T: np.ndarray, seen: np.ndarray, centre: tuple[int, ...], a: int, slack: float
) -> list[int]:
    """Return the likely strides: those that move most of a row onto its neighbour."""
    length, scores = T.shape[1 + a], dict.fromkeys(range(1, 5), 0)
    if length == 1:
        return [1]
    rows = [T[(slice(None), *centre)], seen[(slice(None), *centre)]]
    row, used = (np.moveaxis(M, 2 + a, 0) for M in rows)
    first, last = np.flatnonzero(used.any(axis=tuple(range(1, used.ndim))))[[0, -1]]
    for by in (1, -1):
        at = (*centre[:a], centre[a] + by, *centre[a + 1 :])
        if not 0 <= at[a] < length:
            continue
        other = np.moveaxis(T[(slice(None), *at)], 2 + a, 0)
        reads = np.moveaxis(seen[(slice(None), *at)], 2 + a, 0)
        ends = np.flatnonzero(reads.any(axis=tuple(range(1, used.ndim))))
        moves = (by * (ends[0] - first), by * (ends[-1] - last)) if len(ends) else ()
        for s in {*scores, *moves}:
            if 1 <= s < len(row):
                old, new = (slice(0, -s), slice(s, None))[::by]
                same = used[old] & (np.abs(row[old] - other[new]) <= slack)
                scores[int(s)] = scores.get(int(s), 0) + int(same.sum())
    likely = [s for s, score in scores.items() if score]
    return sorted(likely, key=lambda s: -scores[s])[:2]


def _holds(guess: Fit, M: np.ndarray, slack: float) -> bool:
    """Whether the interior, or for want of one the whole matrix, is as predicted."""
    if not all(axis.interior for axis in guess.axes):
        return False
    inside = guess.inside()
    if guess.tight or inside.sum() < 2 * guess.geometry.c_out:
        return M.size <= _SMALL and guess.full(M, slack) is not None
    P = guess.dense((Boundary.ZEROS,) * len(guess.axes))
    return not (np.abs(M[inside] - P[inside]) > slack).any()


def boundary(case: Case, true: Fit, known: bool) -> str | None:
    """Try the same convolution with each rule, where C is, or is not, known to have one."""
    if not true.reaches_out:
        return None
    mine = true.rules(case.C, case.slack)
    if all(mine) != known:
        return None
    theirs = true.rules(case.B, case.slack)
    return _other_rules(case, true, mine, theirs) if all(theirs) else None


def _other_rules(
    case: Case, true: Fit, mine: list[list[Boundary]], theirs: list[list[Boundary]]
) -> str | None:
    axes = [a for a, rules in enumerate(theirs) if not set(rules) & set(mine[a])]
    same = [
        [r for r in rules if a in axes or not mine[a] or r in mine[a]]
        for a, rules in enumerate(theirs)
    ]
    for rules in itertools.islice(_combinations(same), 12):
        P = true.matrices[rules[0]] if len(set(rules)) == 1 else true.dense(rules)
        if case.agrees(P, case.slack):
            break
    else:
        return None
    offset, reaching = case.channels[1], [a for a, r in enumerate(theirs) if len(r) < 6]
    axes = axes or reaching
    if not axes:
        return None
    common = [r for r in _RULES if all(r in theirs[a] for a in axes)]
    if not common:
        parts = [f"{rules[a]} along axis {a + offset}" for a in axes]
        return f"the boundary is treated as {', '.join(parts)} in the {case.what}"
    along = [f"axis {a + offset}" for a in axes] if len(axes) < len(true.axes) else []
    where = f" along {' and '.join(along)}" if along else ""
    other = f" (here the same as {', '.join(common[1:])})" if common[1:] else ""
    return f"the boundary is treated as {common[0]} in the {case.what}{where}{other}"


def padded_again(case: Case, true: Fit) -> str | None:
    """Try an adjoint that pads with a rule as a forward does, instead of folding back."""
    if not true.reaches_out or any(axis.stride > 1 for axis in true.axes):
        return None
    axes = tuple(
        Axis(
            axis.out,
            axis.k,
            1,
            axis.dilation,
            (axis.extent - 1 - axis.padding[0], axis.extent - 1 - axis.padding[1]),
            out=axis.n,
        )
        for axis in true.axes
    )
    kernel = np.flip(true.kernel.swapaxes(0, 1), tuple(range(2, true.kernel.ndim)))
    back = Fit(Geometry(axes, kernel.shape[:2]), np.ascontiguousarray(kernel))
    for rule in _RULES:
        if case.agrees(back.matrices[rule].T, case.slack):
            how = "padded again, not folded back"
            return f"the boundary is treated as {rule} in the {case.what}: {how}"
    return None


def stencil(case: Case, true: Fit) -> str | None:
    """Try to read another stencil off B: kernel, stride, dilation or place differ."""
    got = fit(case, case.B)
    if got is None or not _trusted(case, got):
        return None
    return _compare(case, true, got)


def _trusted(case: Case, got: Fit) -> bool:
    """Whether the interior of B is a third of its rows, or the fit is all of B."""
    if 3 * got.inside().sum() >= len(case.B):
        return True
    return got.full(case.B, case.slack) is not None


def _compare(case: Case, true: Fit, got: Fit) -> str | None:
    """Say how two convolutions differ, if it is one change."""
    pairs = list(zip(true.axes, got.axes, strict=True))
    steps = [(mine.stride, yours.stride) for mine, yours in pairs]
    pitches = [(mine.dilation, yours.dilation) for mine, yours in pairs]
    if _same(case, true.kernel, got.kernel):
        if any(a != b for a, b in steps):
            text = "stride: the {0} advances by {2} along axis {3}, the {1} by {4}"
            return _told(case, text, steps)
        pitches = [
            (a, b) if mine.k > 1 else (1, 1)
            for (a, b), (mine, _) in zip(pitches, pairs, strict=True)
        ]
        if any(a != b for a, b in pitches):
            text = "dilation: the {0}'s taps are {2} apart along axis {3}, the {1}'s {4} apart"
            return _told(case, text, pitches)
        return _moved(case, pairs)
    if any(a != b for a, b in steps):
        return None
    if all(a == b for a, b in pitches):
        return _kernels(case, true.kernel, got.kernel)
    return _kernels(case, true.kernel, got.kernel, pitches)


def _same(case: Case, first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool((np.abs(first - second) <= case.slack).all())


def _told(case: Case, text: str, values: list[tuple[int, int]]) -> str:
    offset = case.channels[1]
    return "; ".join(
        text.format(case.what, case.true, yours, a + offset, mine)
        for a, (mine, yours) in enumerate(values)
        if mine != yours
    )


def _moved(case: Case, pairs: list[tuple[Axis, Axis]]) -> str | None:
    """Say how far the stencil is from its place."""
    output, given = case.spaces
    phase, words = "", []
    for a, (mine, yours) in enumerate(pairs):
        by, s = abs(mine.padding[0] - yours.padding[0]), mine.stride
        if by % s:
            phase = "stride phase: "
        if by:
            size, space = (by, given) if s == 1 or by % s else (by // s, output)
            words.append(f"by {count(size)} along axis {a + case.channels[1]} of the {space}")
    return f"{phase}shifted {' and '.join(words)}" if words else None


def _kernels(
    case: Case,
    mine: np.ndarray,
    yours: np.ndarray,
    pitches: list[tuple[int, int]] | None = None,
) -> str | None:
    """Say how one kernel's entries are arranged in the other."""
    d = mine.ndim - 2
    for a, b in itertools.combinations(range(d), 2):
        swapped = not pitches or pitches[a] == pitches[b][::-1]
        if swapped and _same(case, mine.swapaxes(2 + a, 2 + b), yours):
            return kernel_axes(case, a, b)
    if pitches:
        return None
    for axes in [tuple(range(d)), *((a,) for a in range(d))]:
        if _same(case, np.flip(mine, tuple(2 + a for a in axes)), yours):
            return unflipped(case, axes, d)
    c_out, c_in = mine.shape[:2]
    if _same(case, mine.reshape(c_in, c_out, *mine.shape[2:]).swapaxes(0, 1), yours):
        return "input and output channels are exchanged"
    return None


def one_tap(case: Case, true: Fit) -> str | None:
    """Try a convolution of which one tap differs."""
    found = _other_kernel(case, true)
    if found is None or found.sum() != 1:
        return None
    kernels = _kernel_of(case.B, case, true), true.kernel
    got, expected = (number(kernel[found][0]) for kernel in kernels)
    return f"one tap of the kernel is {got} in the {case.what}, expected {expected}"


def other_taps(case: Case, true: Fit) -> str | None:
    """Try a convolution of which only the taps differ."""
    found = _other_kernel(case, true)
    if found is None:
        return None
    return f"the {case.what} has another kernel: {found.sum()} of {found.size} taps differ"


def _other_kernel(case: Case, true: Fit) -> np.ndarray | None:
    """Return which taps differ, if B is the same convolution with other taps."""
    if true.kernel.size < 2 or true.tight:
        return None
    kernel = _kernel_of(case.B, case, true)
    differ = np.abs(kernel - true.kernel) > case.slack
    rules = true.full(case.C, case.slack)
    if rules is None or not differ.any():
        return None
    other = replace(true, kernel=kernel).dense(rules)
    return differ if case.agrees(other, case.slack) else None


def _kernel_of(M: np.ndarray, case: Case, true: Fit) -> np.ndarray:
    """Read the taps of `M` off its rows of one output position inside."""
    out, into = (shape[flag:] for shape, flag in zip(case.shapes, case.channels, strict=True))
    T = M.reshape(-1, *out, M.shape[1] // math.prod(into), *into)
    at = [axis.interior[len(axis.interior) // 2] for axis in true.axes]
    lows = [axis.stride * i - axis.padding[0] for axis, i in zip(true.axes, at, strict=True)]
    taps = (
        slice(low, low + axis.extent, axis.dilation)
        for axis, low in zip(true.axes, lows, strict=True)
    )
    return np.ascontiguousarray(T[(slice(None), *at, slice(None), *taps)])


def variants(case: Case, true: Fit) -> str | None:
    """Build small convolutions with one change, and compare all entries."""
    if case.C.size > _SMALL:
        return None
    rules = true.full(case.C, case.slack)
    if rules is None:
        return None
    for changed in _changes(true):
        if changed.geometry.shape == case.C.shape and case.agrees(
            changed.dense(rules), case.slack
        ):
            return _compare(case, true, changed)
    return None


def _changes(true: Fit) -> Iterator[Fit]:
    """Yield convolutions that differ from `true` in one thing."""
    w, d = true.kernel, len(true.axes)
    for axes in {tuple(range(d)), *((a,) for a in range(d))}:
        flipped = np.flip(w, tuple(2 + a for a in axes))
        yield replace(true, kernel=np.ascontiguousarray(flipped))
    for a, b in itertools.combinations(range(d), 2):
        if w.shape[2 + a] == w.shape[2 + b]:
            yield replace(true, kernel=np.ascontiguousarray(w.swapaxes(2 + a, 2 + b)))
    for a, axis in enumerate(true.axes):
        s, pitch, lo = axis.stride, axis.dilation, axis.padding[0]
        options = [(s, pitch, lo + by) for by in (1, -1, 2, -2)]
        options += [(s, other, lo) for other in (1, 2, 3) if other != pitch and axis.k > 1]
        # A kernel spread differently about the same centre.
        options += [
            (s, other, lo + (other - pitch) * (axis.k - 1) // 2)
            for other in (1, 2, 3)
            if other != pitch and axis.k > 1
        ]
        options += [(other, pitch, lo) for other in (1, 2, 3) if other != s and axis.out > 1]
        for step, spread, low in options:
            other = _axis(axis.n, axis.k, step, spread, -low, 0, axis.out)
            if other:
                axes = (*true.axes[:a], other, *true.axes[a + 1 :])
                yield replace(true, geometry=replace(true.geometry, axes=axes))


def near_boundary(case: Case, true: Fit) -> str | None:
    """Try the rows and columns within the kernel's reach of a face."""
    central = true.inside()[:, None] & true.central()[None, :]
    if (case.bad & central).any() or (case.involved & central).sum() < 8:
        return None
    total, wrong = int(case.involved.sum()), int(case.bad.sum())
    share = 1 - (case.involved & central).sum() / total
    if wrong > 1 and share**wrong < _CHANCE:
        return "wrong only near the boundary"
    return None
