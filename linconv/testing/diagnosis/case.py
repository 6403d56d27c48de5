"""A case: the true matrix and the one under test, by which hypotheses are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from linconv.geometry import Geometry
from linconv.testing.diagnosis.causes import say
from linconv.testing.diagnosis.moves import Spaces
from linconv.testing.report import number

# A region is a cause if random wrong entries all lie in it with less probability.
CHANCE = 0.02


@dataclass(frozen=True)
class Case:
    """C is true, B is under test: a hypothesis holds if it predicts B from C.

    ``tolerance`` has the shape of the matrices; ``spaces`` describes rows and columns,
    which the transposed case exchanges.
    """

    C: np.ndarray
    B: np.ndarray
    tolerance: np.ndarray
    spaces: Spaces
    dtype: np.dtype

    @cached_property
    def bad(self) -> np.ndarray:
        """Where B differs from C."""
        return np.abs(self.B - self.C) > self.tolerance

    @cached_property
    def involved(self) -> np.ndarray:
        """Where C is not zero, or B differs from C."""
        return (np.abs(self.C) > self.tolerance) | self.bad

    @cached_property
    def wrong(self) -> int:
        """The number of entries that differ."""
        return int(self.bad.sum())

    @cached_property
    def total(self) -> int:
        """The number of entries involved."""
        return int(self.involved.sum())

    @cached_property
    def rows(self) -> np.ndarray:
        """At most 32 rows with wrong entries, to refute most hypotheses quickly."""
        wrong = np.flatnonzero(self.bad.any(axis=1))
        return wrong[:: -(-len(wrong) // 32)] if len(wrong) else wrong

    @cached_property
    def slack(self) -> float:
        """The tolerance for predictions of a stencil, which has the rounding errors of C."""
        return 4 * float(self.tolerance.max())

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the arrays that the rows stand for."""
        return self.spaces.shapes[0]

    @property
    def channel(self) -> bool:
        """Whether axis 0 of these arrays is a channel axis."""
        return self.spaces.channels[0]

    @property
    def space(self) -> str:
        """The name of the space that the rows stand for."""
        return self.spaces.names[0]

    @cached_property
    def T(self) -> Case:
        """The same case with rows and columns exchanged."""
        spaces = self.spaces
        turned = replace(
            spaces,
            shapes=spaces.shapes[::-1],
            channels=spaces.channels[::-1],
            names=spaces.names[::-1],
        )
        return Case(self.C.T, self.B.T, self.tolerance.T, turned, self.dtype)

    def say(self, name: str, **words: Any) -> str:
        """Return the sentence of a cause of B."""
        return say(name, self.spaces.what, **words)

    def factor(self, s: Any) -> str:
        """Write a factor of B as one of the part under test: its conjugate for an adjoint."""
        return number(np.conj(s) if self.spaces.what == "adjoint" else s)

    def agrees(self, P: np.ndarray, tolerance: Any = None) -> bool:
        """Whether B equals the prediction `P`, and `P` differs from C."""
        limit = np.broadcast_to(self.tolerance if tolerance is None else tolerance, P.shape)
        some = self.rows
        if (np.abs(self.B[some] - P[some]) > limit[some]).any():
            return False
        if (np.abs(self.B - P) > limit).any():
            return False
        return bool((np.abs(P - self.C) > limit).any())

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Whether B is C with its entries moved."""
        if not any(self.tolerance.strides):
            return self.agrees(move(self.C))
        return self.agrees(move(self.C), np.maximum(self.tolerance, move(self.tolerance)))


def make_case(
    C: np.ndarray,
    B: np.ndarray,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    tolerance: Any,
    dtype: Any,
    what: str,
    geometry: Geometry | None,
) -> Case:
    """Return the case of two matrices; `shapes` are those of the output and the input."""
    needed = (int(np.prod(shapes[0])), int(np.prod(shapes[1])))
    for name, M in (("C", C), ("B", B)):
        if M.shape != needed:
            raise ValueError(
                f"{name} has shape {M.shape}, but out_shape {shapes[0]} and in_shape "
                f"{shapes[1]} need a matrix of shape {needed}"
            )
    if what not in ("adjoint", "forward"):
        raise ValueError(f"what must be 'adjoint' or 'forward', got {what!r}")
    kind = complex if np.iscomplexobj(C) or np.iscomplexobj(B) else float
    C, B = np.asarray(C, kind), np.asarray(B, kind)
    limit = np.broadcast_to(np.asarray(tolerance, float), needed)
    dtype = np.dtype(dtype) if np.dtype(dtype).kind in "fc" else np.dtype(float)
    coupled = (np.abs(C) > limit).reshape(shapes[0] + shapes[1])
    channels = channel_axes(*shapes, geometry, coupled)
    return Case(C, B, limit, Spaces(shapes, channels, what), dtype)


def channel_axes(
    out: tuple[int, ...],
    into: tuple[int, ...],
    geometry: Geometry | None,
    coupled: np.ndarray | None = None,
) -> tuple[bool, bool]:
    """Say whether axis 0 of the output, and of the input, is a channel axis.

    `coupled`, of shape (*out, *into), says which outputs depend on which inputs.  It
    decides for arrays of two axes: axis 0 is one of channels if its indices all couple, or
    all couple within groups.
    """
    if geometry is not None and {geometry.in_shape, geometry.out_shape} == {out, into}:
        both = geometry.channels is not None
        return both, both
    if len(out) != len(into):
        return len(out) > len(into), len(into) > len(out)
    if len(out) != 2 or coupled is None:
        return len(out) > 2, len(out) > 2
    blocks = coupled.any(axis=(1, 3))
    rows, members = np.unique(blocks, axis=0, return_counts=True)
    apart = bool((rows.sum(axis=0) == 1).all())
    grouped = apart and int(min(members)) > 1 and int(min(rows.sum(axis=1))) > 1
    both = bool(blocks.all()) or grouped
    return both, both
