"""Moves: permutations of the rows and columns of a matrix, and the causes they stand for.

A `Move` is the hypothesis that samples are in a wrong order.  It is applied to the matrix,
or, for matrices too large to write out, to the vectors of a product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from linconv.testing.diagnosis.causes import say, shifted_by

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """Entry (i, j) of the moved matrix is entry (rows[i], columns[j]) of the true one.

    None stands for rows or columns that are not moved.
    """

    cause: str
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None

    def __call__(self, M: np.ndarray) -> np.ndarray:
        """Return the moved matrix."""
        M = M if self.rows is None else M[self.rows]
        return M if self.columns is None else M[:, self.columns]

    def product(
        self, forward: Callable[[np.ndarray], np.ndarray], x: np.ndarray
    ) -> np.ndarray:
        """Return the product of the moved matrix with x, by one product of the true matrix."""
        if self.columns is not None:
            moved = np.empty_like(x)
            moved[self.columns] = x
            x = moved
        image = forward(x)
        return image if self.rows is None else image[self.rows]


@dataclass(frozen=True)
class Spaces:
    """Shapes of output and input, and whether axis 0 of each is a channel axis."""

    shapes: tuple[Shape, Shape]
    channels: tuple[bool, bool]
    what: str
    names: tuple[str, str] = ("output", "input")

    @property
    def spatial(self) -> tuple[Shape, Shape]:
        """The shapes without channel axes."""
        (out, into), (first, second) = self.shapes, self.channels
        return out[first:], into[second:]


def _order(shape: Shape, change: Callable[..., np.ndarray], *options: Any) -> np.ndarray:
    """Return the order of the samples of an array after a NumPy function such as flip."""
    return change(np.arange(math.prod(shape)).reshape(shape), *options).ravel()


def _one(cause: str, side: int, moved: np.ndarray) -> Move:
    """Return the move of the rows (0) or of the columns (1)."""
    return Move(cause, moved, None) if side == 0 else Move(cause, None, moved)


def _kernel_axes(spaces: Spaces) -> Iterator[Move]:
    """Exchange two spatial axes of both arrays, that is two axes of the kernel."""
    (out, into), (f, g) = spaces.shapes, map(int, spaces.channels)
    d = len(out) - f
    for a, b in itertools.combinations(range(d if len(into) - g == d else 0), 2):
        if out[f + a] == out[f + b] and into[g + a] == into[g + b]:
            rows = _order(out, np.swapaxes, f + a, f + b)
            columns = _order(into, np.swapaxes, g + a, g + b)
            yield Move(kernel_axes(spaces, a, b), rows, columns)


def _axes(spaces: Spaces) -> Iterator[Move]:
    """Exchange two spatial axes of one array, also as if it had the exchanged shape."""
    for side in (1, 0):
        shape = spaces.shapes[side]
        for a, b in itertools.combinations(range(spaces.channels[side], len(shape)), 2):
            turned = list(shape)
            turned[a], turned[b] = shape[b], shape[a]
            cause = say("axes", a=a, b=b, space=spaces.names[side])
            for start in dict.fromkeys((shape, tuple(turned))):
                if 1 not in (shape[a], shape[b]):
                    yield _one(cause, side, _order(start, np.swapaxes, a, b))


def _reversed(spaces: Spaces) -> Iterator[Move]:
    """Reverse all spatial axes of both arrays, then each one alone."""
    (out, into), (f, g) = spaces.shapes, map(int, spaces.channels)
    d = len(out) - f
    for axes in dict.fromkeys([tuple(range(d)), *((a,) for a in range(d))]):
        if len(into) - g == d:
            rows = _order(out, np.flip, tuple(f + a for a in axes))
            columns = _order(into, np.flip, tuple(g + a for a in axes))
            yield Move(unflipped(spaces, axes), rows, columns)


# Name of a cause -> its moves, in the order in which they are tried.  Shifts are not here:
# a matrix written out shows which of them are worth a trial.
MOVES = {"kernel axes": _kernel_axes, "axes": _axes, "reversed": _reversed}


def shift(spaces: Spaces, side: int, axis: int, by: int, phase: str = "") -> Move:
    """Return the circular shift along one axis of the output (0) or the input (1)."""
    cause = say("shift", phase=phase, by=shifted_by(by, axis, spaces.names[side]))
    return _one(cause, side, _order(spaces.shapes[side], np.roll, by, axis))


def kernel_axes(spaces: Spaces, a: int, b: int) -> str:
    """Return the cause "two spatial axes of the kernel are exchanged"."""
    spatial = "spatial " if any(spaces.channels) else ""
    return say("kernel axes", spatial=spatial, a=a, b=b)


def unflipped(spaces: Spaces, axes: tuple[int, ...]) -> str:
    """Return the cause "the kernel is reversed along these spatial axes"."""
    some = len(axes) < len(spaces.spatial[1])
    along = f" along axis {axes[0] + spaces.channels[1]}" if some else ""
    return say("reversed", spaces.what, along=along)


def exchanged_channels(c_out: int, c_in: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that reads a kernel (c_out, c_in, *k) as (c_in, c_out, *k).

    The result has other entries in its rows and columns than M, so this is no `Move`.
    """

    def change(M: Any) -> np.ndarray:
        blocks = M.reshape(c_out, len(M) // c_out, c_in, -1).swapaxes(1, 2)
        blocks = blocks.reshape(c_in, c_out, *blocks.shape[2:])
        return blocks.transpose(1, 2, 0, 3).reshape(M.shape)

    return change
