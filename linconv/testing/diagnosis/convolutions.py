"""Why a matrix is wrong, if the true matrix is a convolution: hypotheses vary its stencil.

The stencil is read from the rows of one output position.  It is used only if it predicts
every row that reads no sample outside the input.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from linconv.assembly import conv_csr
from linconv.geometry import Axis, Boundary, Geometry
from linconv.testing.diagnosis.case import CHANCE, Case
from linconv.testing.diagnosis.causes import shifted_by
from linconv.testing.diagnosis.moves import kernel_axes, unflipped
from linconv.testing.report import number

# If several rules give the same matrix, the cause names the first of them first.
_RULES = tuple(Boundary)
# The number of combinations of rules on several axes that are tried.
_COMBINATIONS = 12
# Entries of the largest matrix for which all variants of a stencil are built.
_SMALL = 40_000
# Most taps of a stencil in larger matrices, which take long to build.
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

    def dense(self, *rules: Boundary) -> np.ndarray:
        """Return the matrix with these boundary rules: one per axis, or one for all."""
        alike = len(set(rules)) == 1
        found = self._one_rule.get(rules[0]) if alike else None
        if found is None:
            pairs = zip(self.axes, rules[:1] * len(self.axes) if alike else rules, strict=True)
            axes = tuple(replace(axis, boundary=(rule, rule)) for axis, rule in pairs)
            csr = conv_csr(replace(self.geometry, axes=axes), self.kernel)
            found = csr_array((csr.data, csr.indices, csr.indptr), csr.shape).toarray()
        if alike:
            self._one_rule[rules[0]] = found
        return found

    @cached_property
    def _one_rule(self) -> dict[Boundary, np.ndarray]:
        return {}

    @property
    def tight(self) -> bool:
        """Whether some axis has too few interior positions to verify a stencil."""
        lengths = [(len(axis.interior), axis.out) for axis in self.axes]
        return any(length < min(2, out) for length, out in lengths)

    @property
    def reaches_out(self) -> bool:
        """Whether a tap reads a sample outside the input."""
        return any(len(axis.interior) < axis.out for axis in self.axes)

    def inside(self, skip: int = -1) -> np.ndarray:
        """Return which rows read no sample outside the input; axis `skip` does not count."""
        ranges = [
            range(axis.out) if a == skip else axis.interior for a, axis in enumerate(self.axes)
        ]
        return _marked(self.geometry.c_out, [axis.out for axis in self.axes], ranges)

    def central(self) -> np.ndarray:
        """Return which columns lie further from the faces than the kernel reaches."""
        reaches = [max(*axis.padding, axis.extent // 2) for axis in self.axes]
        pairs = zip(self.axes, reaches, strict=True)
        ranges = [range(reach, max(reach, axis.n - reach)) for axis, reach in pairs]
        return _marked(self.geometry.c_in, [axis.n for axis in self.axes], ranges)

    def rules(self, M: np.ndarray, slack: float) -> list[list[Boundary]]:
        """Return the possible rules of each axis, by the rows that pad this axis only."""
        found = []
        for a in range(len(self.axes)):
            rows = np.flatnonzero(self.inside(skip=a))
            some = rows[:: -(-len(rows) // 16)]  # enough for most rules to fail
            likely = [r for r in _RULES if _equal(self.dense(r), M, some, slack)]
            found.append([r for r in likely if _equal(self.dense(r), M, rows, slack)])
        return found

    def full(self, M: np.ndarray, slack: float) -> tuple[Boundary, ...] | None:
        """Return rules with which the fit equals all of `M`, or None."""
        for rules in _combinations(self.rules(M, slack)):
            if not (np.abs(M - self.dense(*rules)) > slack).any():
                return rules
        return None


def _marked(channels: int, lengths: list[int], ranges: list[range]) -> np.ndarray:
    """Return which samples of (channels, *lengths) lie in a range along every axis."""
    marks = np.zeros((channels, *lengths), bool)
    marks[(slice(None), *(slice(one.start, one.stop) for one in ranges))] = True
    return marks.ravel()


def _equal(P: np.ndarray, M: np.ndarray, rows: np.ndarray, slack: float) -> bool:
    return not (np.abs(P[rows] - M[rows]) > slack).any()


def _combinations(options: list[list[Boundary]]) -> list[tuple[Boundary, ...]]:
    """Return choices of one rule per axis; those with one rule for all axes come first."""
    every = itertools.product(*options)
    return sorted(every, key=lambda rules: len(set(rules)))[:_COMBINATIONS]


class Convolutions:
    """The hypotheses of a case whose true matrix, or its transpose, is a convolution."""

    def __init__(self, case: Case) -> None:
        self.case = case

    @cached_property
    def fits(self) -> list[tuple[Case, Fit]]:
        """The fits of C and of its transpose; a fit of the whole matrix comes first."""
        pairs = ((one, fit(one, one.C)) for one in (self.case, self.case.T))
        found = [(one, true) for one, true in pairs if true is not None]
        if len(found) == 2 and found[0][1].full(self.case.C, self.case.slack) is None:
            return found[::-1]
        return found

    @property
    def strides(self) -> tuple[dict[int, int], dict[int, int]]:
        """Strides along the axes of the output (axis -> stride) and of the input."""
        steps: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for one, true in self.fits:
            flag = one.T.channel
            side = 1 if one is self.case else 0
            steps[side].update({a + flag: axis.stride for a, axis in enumerate(true.axes)})
        return steps

    def hypotheses(self) -> dict[str, Callable[[], str | None]]:
        """Return the hypotheses by their names in `causes.ORDER`."""
        tests: dict[str, tuple[Callable[[Case, Fit], str | None], ...]] = {
            "boundary": (
                partial(_boundary, known=True),
                _padded_again,
                partial(_boundary, known=False),
            ),
            "convolution": (_stencil, _other_steps),
            "one tap": (_one_tap,),
            "near boundary": (_near_boundary,),
            "other taps": (_other_taps,),
        }
        return {name: partial(self._first, several) for name, several in tests.items()}

    def _first(self, tests: tuple[Callable[[Case, Fit], str | None], ...]) -> str | None:
        found = (test(one, true) for test in tests for one, true in self.fits)
        return next(filter(None, found), None)


# Reading the stencil of a matrix


def fit(case: Case, M: np.ndarray) -> Fit | None:
    """Read the stencil of `M`, a matrix of the case's shape, and verify it."""
    out, into = case.spaces.spatial
    if len(out) != len(into) or not out:
        return None
    T = _tensor(case, M)
    seen = _tensor(case, np.abs(M) > case.tolerance)
    found = []
    for centre in _centres(seen, len(out)):
        for guess in _guesses(T, seen, centre):
            if _holds(guess, M, case.slack):
                if not guess.tight:
                    return guess
                found.append(guess)
    # A row whose taps wrap around also fits a longer kernel with a gap: take the shortest.
    return min(found, key=lambda guess: guess.kernel.size, default=None)


def _tensor(case: Case, M: np.ndarray) -> np.ndarray:
    """View a matrix as (c_out, *out, c_in, *into); without channels, c_out = c_in = 1."""
    out, into = case.spaces.spatial
    return M.reshape(-1, *out, M.shape[1] // math.prod(into), *into)


def _centres(seen: np.ndarray, d: int) -> list[tuple[int, ...]]:
    """Return likely interior output positions: central, or many reads in a small region."""
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


def _guesses(T: np.ndarray, seen: np.ndarray, centre: tuple[int, ...]) -> Iterator[Fit]:
    """Yield the convolutions whose rows at `centre` are those of `T`."""
    d = len(centre)
    out, into = T.shape[1 : 1 + d], T.shape[2 + d :]
    choices, taps = [], []
    for a, used in enumerate(_reads(seen, centre)):
        if not len(used):
            return
        low, high = int(used[0]), int(used[-1])
        pitch = int(np.gcd.reduce(np.diff(used))) if len(used) > 1 else 1
        k = (high - low) // pitch + 1
        steps = _steps(seen, centre, a)
        guesses = (_axis(into[a], k, s, pitch, low, centre[a], out[a]) for s in steps)
        choices.append([axis for axis in guesses if axis])
        taps.append(slice(low, high + 1, pitch))
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


def _reads(seen: np.ndarray, at: tuple[int, ...]) -> list[np.ndarray]:
    """Return, for every axis, the indices of the samples that an output position reads."""
    reads = seen[(slice(None), *at)].any(axis=(0, 1))
    others: Any = [tuple(b for b in range(len(at)) if b != a) for a in range(len(at))]
    return [np.flatnonzero(reads.any(axis=axes)) for axes in others]


def _steps(seen: np.ndarray, centre: tuple[int, ...], a: int) -> list[int]:
    """Return the likely strides, the distance of the reads of neighbouring positions."""
    if seen.shape[1 + a] == 1:
        return [1]
    mine, moves = _reads(seen, centre)[a], Counter[int]()
    for by in (1, -1):
        at = (*centre[:a], centre[a] + by, *centre[a + 1 :])
        other = _reads(seen, at)[a] if 0 <= at[a] < seen.shape[1 + a] else mine
        if len(other):
            moves.update(by * int(other[end] - mine[end]) for end in (0, -1))
    likely = [s for s, _ in moves.most_common() if s > 0]
    return list(dict.fromkeys([*likely, 1, 2]))[:3]  # taps that wrap around hide the stride


def _holds(guess: Fit, M: np.ndarray, slack: float) -> bool:
    """Whether the fit predicts the interior, or the whole matrix if the interior is small."""
    if not all(axis.interior for axis in guess.axes):
        return False
    inside = guess.inside()
    if guess.tight or inside.sum() < 2 * guess.geometry.c_out:
        return M.size <= _SMALL and guess.full(M, slack) is not None
    P = guess.dense(Boundary.ZEROS)
    return not (np.abs(M[inside] - P[inside]) > slack).any()


# Hypotheses


def _boundary(case: Case, true: Fit, known: bool) -> str | None:
    """Try other rules, with `known` only if C's own rules are known, else only if not."""
    if not true.reaches_out:
        return None
    mine = true.rules(case.C, case.slack)
    theirs = true.rules(case.B, case.slack) if all(mine) == known else [[]]
    if not all(theirs):
        return None
    axes = [a for a, rules in enumerate(theirs) if not set(rules) & set(mine[a])]
    likely = [
        [rule for rule in rules if a in axes or not mine[a] or rule in mine[a]]
        for a, rules in enumerate(theirs)
    ]
    tried = (r for r in _combinations(likely) if case.agrees(true.dense(*r), case.slack))
    rules = next(tried, None)
    axes = axes or [a for a, rules in enumerate(theirs) if len(rules) < len(_RULES)]
    if rules is None or not axes:
        return None
    named = [f"axis {a + case.T.channel}" for a in axes]
    common = [rule for rule in _RULES if all(rule in theirs[a] for a in axes)]
    if not common:
        parts = (f"{rules[a]} along {name}" for a, name in zip(axes, named, strict=True))
        return case.say("boundary", rules=", ".join(parts), remark="")
    remark = f" along {' and '.join(named)}" if len(axes) < len(true.axes) else ""
    remark += f" (here the same as {', '.join(common[1:])})" if common[1:] else ""
    return case.say("boundary", rules=common[0], remark=remark)


def _padded_again(case: Case, true: Fit) -> str | None:
    """Try an adjoint that pads its input like a forward, instead of folding the edges back."""
    if not true.reaches_out or any(axis.stride > 1 for axis in true.axes):
        return None
    axes = tuple(
        replace(
            axis,
            n=axis.out,
            padding=(axis.extent - 1 - axis.padding[0], axis.extent - 1 - axis.padding[1]),
            out=axis.n,
        )
        for axis in true.axes
    )
    kernel = np.flip(true.kernel.swapaxes(0, 1), tuple(range(2, true.kernel.ndim)))
    back = Fit(Geometry(axes, kernel.shape[:2]), np.ascontiguousarray(kernel))
    for rule in _RULES:
        if case.agrees(back.dense(rule).T, case.slack):
            return case.say("boundary", rules=rule, remark=": padded again, not folded back")
    return None


def _stencil(case: Case, true: Fit) -> str | None:
    """Read the stencil of B and compare kernel, stride, dilation and position."""
    got = fit(case, case.B)
    if got is None:
        return None
    # The interior of B is a third of its rows, or the fit is all of B.
    trusted = 3 * got.inside().sum() >= len(case.B)
    if not trusted and got.full(case.B, case.slack) is None:
        return None
    return _difference(case, true, got)


def _difference(case: Case, true: Fit, got: Fit) -> str | None:
    """Say how two convolutions differ, if one change explains it."""
    pairs = list(zip(true.axes, got.axes, strict=True))
    steps = [(mine.stride, yours.stride) for mine, yours in pairs]
    pitches = [(mine.dilation, yours.dilation) for mine, yours in pairs]
    if _same(case, true.kernel, got.kernel):
        long = [
            pair if axis.k > 1 else (1, 1)
            for pair, axis in zip(pitches, true.axes, strict=True)
        ]
        return (
            _steps_differ(case, "stride", steps)
            or _steps_differ(case, "dilation", long)
            or _place(case, pairs)
        )
    if any(a != b for a, b in steps):
        return None
    return _kernels(case, true.kernel, got.kernel, pitches)


def _same(case: Case, first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool((np.abs(first - second) <= case.slack).all())


def _steps_differ(case: Case, name: str, steps: list[tuple[int, int]]) -> str:
    """Say along which axes the strides or dilations differ; "" if they are equal."""
    true = "forward" if case.spaces.what == "adjoint" else "true forward"
    return "; ".join(
        case.say(name, true=true, got=yours, axis=a + case.T.channel, expected=mine)
        for a, (mine, yours) in enumerate(steps)
        if mine != yours
    )


def _place(case: Case, pairs: list[tuple[Axis, Axis]]) -> str | None:
    """Say how far the stencil is shifted."""
    phase, words = "", []
    for a, (mine, yours) in enumerate(pairs):
        by, s = abs(mine.padding[0] - yours.padding[0]), mine.stride
        if by % s:
            phase = "stride phase: "
        if by:
            whole = s > 1 and by % s == 0
            size, space = (by // s, case.space) if whole else (by, case.T.space)
            words.append(shifted_by(size, a + case.T.channel, space))
    return case.say("shift", phase=phase, by=" and ".join(words)) if words else None


def _kernels(
    case: Case, mine: np.ndarray, yours: np.ndarray, pitches: list[tuple[int, int]]
) -> str | None:
    """Say how the second kernel is a rearrangement of the first."""
    d = mine.ndim - 2
    alike = all(a == b for a, b in pitches)
    for a, b in itertools.combinations(range(d), 2):
        swapped = alike or pitches[a] == pitches[b][::-1]
        if swapped and _same(case, mine.swapaxes(2 + a, 2 + b), yours):
            return kernel_axes(case.spaces, a, b)
    if not alike:
        return None
    for axes in [tuple(range(d)), *((a,) for a in range(d))]:
        if _same(case, np.flip(mine, tuple(2 + a for a in axes)), yours):
            return unflipped(case.spaces, axes)
    c_out, c_in = mine.shape[:2]
    if _same(case, mine.reshape(c_in, c_out, *mine.shape[2:]).swapaxes(0, 1), yours):
        return case.say("channels exchanged")
    return None


def _one_tap(case: Case, true: Fit) -> str | None:
    """Try a convolution with one other tap."""
    kernel = _other_kernel(case, true)
    differ = [] if kernel is None else np.argwhere(np.abs(kernel - true.kernel) > case.slack)
    if kernel is None or len(differ) != 1:
        return None
    at = tuple(differ[0])
    return case.say("one tap", got=number(kernel[at]), expected=number(true.kernel[at]))


def _other_taps(case: Case, true: Fit) -> str | None:
    """Try a convolution with other taps and the same geometry."""
    kernel = _other_kernel(case, true)
    if kernel is None:
        return None
    differ = np.count_nonzero(np.abs(kernel - true.kernel) > case.slack)
    return case.say("other taps", count=differ, size=kernel.size)


def _other_kernel(case: Case, true: Fit) -> np.ndarray | None:
    """Return the kernel in B's rows of one interior position, if it explains all of B."""
    if true.kernel.size < 2 or true.tight:
        return None
    at = [axis.interior[len(axis.interior) // 2] for axis in true.axes]
    lows = [axis.stride * i - axis.padding[0] for axis, i in zip(true.axes, at, strict=True)]
    taps = (
        slice(low, low + axis.extent, axis.dilation)
        for axis, low in zip(true.axes, lows, strict=True)
    )
    kernel = np.ascontiguousarray(
        _tensor(case, case.B)[(slice(None), *at, slice(None), *taps)]
    )
    rules = true.full(case.C, case.slack)
    if rules is None or _same(case, kernel, true.kernel):
        return None
    other = Fit(true.geometry, kernel).dense(*rules)
    return kernel if case.agrees(other, case.slack) else None


def _other_steps(case: Case, true: Fit) -> str | None:
    """Try another stride or dilation on small matrices, whose interior shows no stencil."""
    rules = true.full(case.C, case.slack) if case.C.size <= _SMALL else None
    for a, axis in enumerate(true.axes if rules else ()):
        s, pitch, lo = axis.stride, axis.dilation, axis.padding[0]
        options = [(other, pitch, lo) for other in (1, 2, 3) if other != s and axis.out > 1]
        for other in (1, 2, 3) if axis.k > 1 else ():
            # A kernel with another dilation keeps its first tap in place, or its centre.
            starts = (lo, lo + (other - pitch) * (axis.k - 1) // 2)
            options += [(s, other, start) for start in starts if other != pitch]
        for step, spread, low in options:
            other = _axis(axis.n, axis.k, step, spread, -low, 0, axis.out)
            if other and rules:
                axes = (*true.axes[:a], other, *true.axes[a + 1 :])
                changed = Fit(replace(true.geometry, axes=axes), true.kernel)
                if case.agrees(changed.dense(*rules), case.slack):
                    return _difference(case, true, changed)
    return None


def _near_boundary(case: Case, true: Fit) -> str | None:
    """Try whether all wrong entries lie within the kernel's reach of a face."""
    central = true.inside()[:, None] & true.central()[None, :]
    if (case.bad & central).any() or (case.involved & central).sum() < 8:
        return None
    share = 1 - (case.involved & central).sum() / case.total
    return case.say("near boundary") if case.wrong > 1 and share**case.wrong < CHANCE else None
