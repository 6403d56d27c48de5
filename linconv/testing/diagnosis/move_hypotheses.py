"""Why two matrices differ, II: entries moved, or scaled, along the axes of the arrays.

Shifts and orders are looked for in one random combination of all rows (or
columns), a vector, and then checked in the whole matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from linconv.testing.diagnosis.hypotheses import Case, count

__all__ = ["axes_exchanged", "channels_moved", "reversed_kernel", "scaled_along", "shifted"]

_SHOWN = 12  # of a list of factors or channels


def channels_moved(case: Case) -> str | None:
    """Try input and output channels exchanged, and the order of one kind permuted."""
    if all(case.channels) and min(case.out_shape[0], case.in_shape[0]) > 1:
        for one in (case, case.T):
            if one.moved(_exchange(one.out_shape[0], one.in_shape[0])):
                return "input and output channels are exchanged"
    for side in (1, 0):
        if case.channels[side] and case.shapes[side][0] > 1:
            found = _permuted(case, side)
            if found:
                return found
    return None


def _exchange(c_out: int, c_in: int) -> Callable[[np.ndarray], np.ndarray]:
    """Take a kernel for (c_in, c_out, *k) although it is (c_out, c_in, *k)."""

    def move(M: np.ndarray) -> np.ndarray:
        blocks = M.reshape(c_out, len(M) // c_out, c_in, -1).swapaxes(1, 2)
        blocks = blocks.reshape(c_in, c_out, *blocks.shape[2:])
        return blocks.transpose(1, 2, 0, 3).reshape(M.shape)

    return move


def _permuted(case: Case, side: int) -> str | None:
    channels = case.shapes[side][0]
    true, got, _ = _traces(case, side)
    true, got = true.reshape(channels, -1), got.reshape(channels, -1)
    costs = np.array([np.abs(true - one).sum(axis=1) for one in got])
    order = linear_sum_assignment(costs)[1]
    if (order == np.arange(channels)).all():
        return None

    def permute(M: np.ndarray) -> np.ndarray:
        sides = M.swapaxes(0, side)
        moved = sides.reshape(channels, -1, sides.shape[1])[order]
        return moved.reshape(sides.shape).swapaxes(0, side)

    if not case.moved(permute):
        return None
    numbers = _list([str(channel) for channel in order])
    return f"the order of the {case.spaces[side]} channels is wrong: {numbers}"


def _list(words: list[str]) -> str:
    return ", ".join(words[:_SHOWN] + ["..."] * (len(words) > _SHOWN))


def _traces(case: Case, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one random combination of C, of B, and the tolerance of their difference."""
    signs = np.random.default_rng(30731).choice([-1.0, 1.0], case.C.shape[1 - side])
    signs *= np.random.default_rng(30732).uniform(0.5, 1.5, len(signs))
    turned = (M.swapaxes(0, 1 - side) for M in (case.C, case.B, case.tolerance))
    C, B, tolerance = turned
    return signs @ C, signs @ B, 2 * np.abs(signs) @ tolerance


def shifted(case: Case, strides: tuple[dict[int, int], dict[int, int]]) -> str | None:
    """Try shifts along one axis: circular, filled with zeros, or with anything.

    `strides` gives, for the output and the input, the stencil's step along some axes.
    """
    found: list[tuple[int, int, int, int]] = []
    for side in (1, 0):
        for axis in range(case.channels[side], len(case.shapes[side])):
            for fill, by in _candidates(case, side, axis):
                found.append((fill, abs(by), -side, axis if by > 0 else ~axis))
    for fill, size, side, axis in sorted(found):
        by, axis = (size, axis) if axis >= 0 else (-size, ~axis)
        if _is_shift(case, -side, axis, by, fill):
            step = strides[-side].get(axis, 1)
            phase = "stride phase: " if size % step else ""
            where = f"along axis {axis} of the {case.spaces[-side]}"
            return f"{phase}shifted by {count(size)} {where}"
    return None


def _candidates(case: Case, side: int, axis: int) -> Iterator[tuple[int, int]]:
    """Return (fill, by) of possible shifts: 0 circular, 1 zeros, 2 anything."""
    shape = case.shapes[side]
    true, got, limit = (
        np.moveaxis(trace.reshape(shape), axis, 0) for trace in _traces(case, side)
    )
    length, worst = shape[axis], limit.max()
    for by in itertools.chain(*((h, -h) for h in range(1, length // 2 + 1))):
        old, new, edge = _overlap(length, by)
        if (np.abs(got[new] - true[old]) > worst).any():
            continue
        if by != -length / 2 and (np.abs(got - np.roll(true, by, axis=0)) <= worst).all():
            yield 0, by
        if 2 * abs(by) < length:
            yield (1 if (np.abs(got[edge]) <= worst).all() else 2), by


def _overlap(length: int, by: int) -> tuple[slice, slice, slice]:
    """Return the samples that stay inside, where they go, and what they leave."""
    if by > 0:
        return slice(0, length - by), slice(by, length), slice(0, by)
    return slice(-by, length), slice(0, length + by), slice(length + by, length)


def _is_shift(case: Case, side: int, axis: int, by: int, fill: int) -> bool:
    shape = case.shapes[side]
    at = axis if side == 0 else axis + 1

    def tensor(M: np.ndarray) -> np.ndarray:
        split = (*shape, M.shape[1]) if side == 0 else (M.shape[0], *shape)
        return np.moveaxis(M.reshape(split), at, 0)

    if fill == 0:
        split = (*shape, -1) if side == 0 else (-1, *shape)
        return case.moved(lambda M: np.roll(M.reshape(split), by, axis=at).reshape(M.shape))
    C, B, tolerance = tensor(case.C), tensor(case.B), tensor(case.tolerance)
    old, new, _ = _overlap(shape[axis], by)
    limit = np.maximum(tolerance[old], tolerance[new])
    if (np.abs(B[new] - C[old]) > limit).any():
        return False
    # The rest may be anything, so what agrees must be most of both, and say something.
    covered = (np.abs(B[new]) > limit).sum()
    most = 2 * covered > max((np.abs(M) > tolerance).sum() for M in (C, B))
    return bool(most and (np.abs(C[new] - C[old]) > limit).sum() >= 4)


def axes_exchanged(case: Case) -> str | None:
    """Try two spatial axes exchanged: of both arrays, that is of the kernel, or of one."""
    out, into = (shape[flag:] for shape, flag in zip(case.shapes, case.channels, strict=True))
    if len(out) == len(into):
        for a, b in itertools.combinations(range(len(out)), 2):
            if out[a] == out[b] and into[a] == into[b] and case.moved(_swap(case, a, b)):
                return kernel_axes(case, a, b)
    for side in (1, 0):
        shape, flag = case.shapes[side], case.channels[side]
        for a, b in itertools.combinations(range(flag, len(shape)), 2):
            turned = list(shape)
            turned[a], turned[b] = turned[b], turned[a]
            for start in (shape, tuple(turned)):
                if 1 not in (shape[a], shape[b]) and case.moved(_relabel(side, start, a, b)):
                    return f"axes {a} and {b} of the {case.spaces[side]} are exchanged"
    return None


def kernel_axes(case: Case, a: int, b: int) -> str:
    """Say that spatial axes of the kernel are exchanged."""
    spatial = "spatial " if any(case.channels) else ""
    return f"{spatial}axes {a} and {b} of the kernel are exchanged"


def _swap(case: Case, a: int, b: int) -> Callable[[np.ndarray], np.ndarray]:
    first, second = case.channels[0], len(case.out_shape) + case.channels[1]

    def move(M: np.ndarray) -> np.ndarray:
        T = M.reshape(*case.out_shape, *case.in_shape)
        T = T.swapaxes(first + a, first + b).swapaxes(second + a, second + b)
        return T.reshape(M.shape)

    return move


def _relabel(
    side: int, shape: tuple[int, ...], a: int, b: int
) -> Callable[[np.ndarray], np.ndarray]:
    def move(M: np.ndarray) -> np.ndarray:
        if side == 0:
            return M.reshape(*shape, -1).swapaxes(a, b).reshape(M.shape)
        return M.reshape(-1, *shape).swapaxes(a + 1, b + 1).reshape(M.shape)

    return move


def reversed_kernel(case: Case) -> str | None:
    """Try all spatial axes of both arrays reversed, then one of them."""
    out, into = case.shapes
    first, second = int(case.channels[0]), len(out) + case.channels[1]
    dimensions = len(out) - first
    if dimensions != len(into) - case.channels[1]:
        return None
    single = [(a,) for a in range(dimensions)] if dimensions > 1 else []
    for axes in [tuple(range(dimensions)), *single]:
        flipped = tuple(start + a for start in (first, second) for a in axes)
        if case.moved(
            lambda M, at=flipped: np.flip(M.reshape(*out, *into), at).reshape(M.shape)
        ):
            return unflipped(case, axes, dimensions)
    return None


def unflipped(case: Case, axes: tuple[int, ...], dimensions: int) -> str:
    """Say that the kernel is reversed along these spatial axes."""
    along = "" if len(axes) == dimensions else f" along axis {axes[0] + case.channels[1]}"
    return f"the {case.what} correlates with the unflipped kernel{along}"


def scaled_along(case: Case) -> str | None:
    """Try one factor per index along an axis, then one per sample."""
    products, squares = case.C.conj() * case.B, np.abs(case.C) ** 2
    for flat in (False, True):
        for side in (0, 1):
            shape = case.shapes[side]
            if flat and len(shape) == 1:
                continue
            sums = [M.sum(axis=1 - side) for M in (products, squares)]
            entries = case.involved.sum(axis=1 - side)
            for axis in [-1] if flat else range(len(shape)):
                s = _factors(case, side, axis, sums, entries)
                if s is not None:
                    along = "from sample to sample" if flat else f"along axis {axis}"
                    factors = _list([case.factor(v) for v in s])
                    return f"scaled differently {along} of the {case.spaces[side]}: {factors}"
    return None


def _factors(
    case: Case, side: int, axis: int, sums: list[np.ndarray], entries: np.ndarray
) -> np.ndarray | None:
    """Return the factors along `axis` (-1: of every sample), if they explain B."""
    shape = case.shapes[side] if axis >= 0 else entries.shape
    axis = max(axis, 0)
    others = tuple(a for a in range(len(shape)) if a != axis)
    product, square, entries = (v.reshape(shape).sum(axis=others) for v in (*sums, entries))
    used = square > 0
    spare = int((entries[used] - 1).sum())  # entries that no factor is chosen for
    if used.sum() < 2 or spare < max(4, 0.25 * used.sum()):
        return None
    s = np.where(used, product / np.where(used, square, 1), 1)
    if case.bad.sum() < 1.5 * (np.abs(s - 1) > 1e-5).sum():
        return None
    table = np.expand_dims(s, others) * np.ones(shape)
    weights = table.reshape(-1, 1) if side == 0 else table.reshape(1, -1)
    if not case.agrees(weights * case.C, case.tolerance * np.maximum(1, np.abs(weights))):
        return None
    return s
