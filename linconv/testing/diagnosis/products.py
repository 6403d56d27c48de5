"""Why forward and adjoint differ, if the matrix is too large to be written out.

Hypotheses about the whole operator are tested on the random block, with few further
products.  Bisection of x, then of y, leads to one entry or to the range of samples that
the mismatch is confined to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from linconv.testing.checks import FAR, Session, Side, Vectors, gram, identity, probes
from linconv.testing.diagnosis.case import channel_axes
from linconv.testing.diagnosis.causes import first_cause, place, say, slice_place
from linconv.testing.diagnosis.moves import MOVES, Move, Spaces, shift
from linconv.testing.report import Entry, number

# The shifts that are tried along every axis of the input.
_SHIFTS = (1, -1, 2, -2)


def diagnose_products(session: Session) -> tuple[str, list[Entry]]:
    """Return the cause, "unknown" if no hypothesis holds, and the wrong entry if found."""
    case = Products(session)
    cause = first_cause(
        {
            "precision": case.precision,
            "conjugate": case.conjugate,
            "scale": case.scale,
            "single entry": case.single_entry,
            "moves": lambda: case.moved(
                move for of in MOVES.values() for move in of(case.spaces)
            ),
            "shifts": lambda: case.moved(case.shifts()),
            "region": case.region,
        }
    )
    return cause, case.entries


class Products:
    """The hypotheses about a wrong adjoint that need only products with the operator."""

    def __init__(self, session: Session) -> None:
        identity.random_mismatch(session)  # computes session.probed, unless a check has
        self.session = session
        self.X, self.Y = session.probed
        self.entries: list[Entry] = []
        forward, adjoint = session.sides
        shapes = (adjoint.in_shape, forward.in_shape)
        channels = channel_axes(*shapes, session.subject.geometry)
        self.spaces = Spaces(shapes, channels, "adjoint")

    @cached_property
    def right(self) -> np.ndarray:
        """Y^H (C X)."""
        return gram(self.Y.probes, self.X.images)

    @cached_property
    def got(self) -> np.ndarray:
        """(A Y)^H X."""
        return gram(self.Y.images, self.X.probes)

    def vanishes(self, gap: np.ndarray) -> bool:
        """Whether a predicted mismatch of the random block is no more than its noise."""
        sigma = np.maximum(self.session.mismatch.sigma, np.finfo(float).tiny)
        return identity.Mismatch(gap, sigma).vanishes

    def precision(self) -> str | None:
        """Try single precision: results of rmatvec or of matvec have no more bits."""
        small = np.abs(self.got - self.right).max() <= 2.0**-18 * np.abs(self.right).max()
        for side in self.session.sides:
            if side.u < 2.0**-40 and small and np.any(side.images[0]):
                short = probes.round_bits(side.images[0], 24)
                if np.array_equal(short, side.images[0]):
                    return single_precision(side)
        return None

    def conjugate(self) -> str | None:
        """Try Y^T (C X) = (A Y)^T X: the adjoint is the plain transpose."""
        if not self.session.complex:
            return None
        P, Q = (
            Vectors([y.conj() for y in one.vectors], one.scale)
            for one in (self.Y.probes, self.Y.images)
        )
        gap = gram(P, self.X.images) - gram(Q, self.X.probes)
        return say("conjugate") if self.vanishes(gap) else None

    def scale(self) -> str | None:
        """Try (A Y)^H X = s Y^H (C X) for one s."""
        power = np.sum(np.abs(self.right) ** 2) or 1
        s = complex(np.sum(self.right.conj() * self.got) / power)
        u = max(side.u for side in self.session.sides)
        if abs(s) < 1e-6 or abs(s - 1) <= 8 * u:
            return None
        if not self.vanishes((self.got - s * self.right) / abs(s)):
            return None
        return say("scale", factor=number(s.conjugate()), remark="")

    def shifts(self) -> Iterator[Move]:
        """Yield short shifts along the axes of the input."""
        into = self.spaces.shapes[1]
        for axis, by in itertools.product(range(len(into)), _SHIFTS):
            if abs(by) < into[axis]:
                yield shift(self.spaces, 1, axis, by)

    def moved(self, moves: Iterator[Move]) -> str | None:
        """Try <A y, x> = <y, B x> for moved matrices B, on vectors zero at all faces."""
        forward = self.session.forward
        x, y, images = self._inner_products
        got = gram(images, Vectors([x]))[:, 0]
        size = np.linalg.norm(y.vectors[0]) * np.linalg.norm(forward.images[0])
        noise = FAR * max(side.noise for side in self.session.sides) * size
        if not np.max(np.abs(got)) > 100 * noise:
            return None
        for move in moves:
            right = gram(y, Vectors([move.product(forward, x)]))[:, 0]
            if np.max(np.abs(right - got)) <= noise:
                return move.cause
        return None

    @cached_property
    def _inner_products(self) -> tuple[np.ndarray, Vectors, Vectors]:
        """One random x, two random y, zero at faces, and the images of y by the adjoint."""
        forward, adjoint = self.session.sides
        x, *Y = (_inner(side, self.session.rng) for side in (forward, adjoint, adjoint))
        return x, Vectors(Y), Vectors([adjoint(y) for y in Y])

    def single_entry(self) -> str | None:
        """Bisect the largest mismatch; try whether its entry explains the whole block."""
        entry = _worst_entry(self.session)
        if entry is None:
            return None
        self.entries = [entry]
        i, j = entry.index
        wrong = (entry.expected - entry.got) / self.session.scale
        y = np.array([probe[i] for probe in self.Y.probes.vectors])
        x = np.array([probe[j] for probe in self.X.probes.vectors])
        gap = self.session.mismatch.gap - np.outer(y.conj(), x) * wrong
        return say("single entry", remark="") if self.vanishes(gap) else None

    def region(self) -> str | None:
        """Name the sample, the index along an axis or the tail that has the whole mismatch."""
        found = []
        for i, side in enumerate(self.session.sides[::-1]):
            space, shape = self.spaces.names[i], self.spaces.shapes[i]
            first, last = _extent(self.session, side, np.arange(side.n), side.n)
            if first == last:
                where = place("sample", space=space, at=first)
                return say("region", where=where, how=": more than one entry")
            tail = side.n - first
            if last == side.n - 1 and 2 * first >= side.n:
                found.append((tail / side.n, place("tail", space=space, count=tail)))
            for axis, length in enumerate(shape if len(shape) > 1 else ()):
                index = np.unravel_index(np.arange(side.n), shape)[axis]
                first, last = _extent(self.session, side, index, length)
                if first == last and length > 1:
                    channel = axis == 0 and self.spaces.channels[i]
                    where = slice_place(space, axis, first, channel)
                    found.append((1 / length, where))
        return say("region", where=min(found)[1], how="") if found else None


def single_precision(side: Side) -> str:
    """Return the cause "single precision inside" for a side."""
    dtype, where = side.result_dtype.name, f": {side.name}"
    return say("precision", precision="float32", dtype=dtype, side=where)


def _inner(side: Side, rng: np.random.Generator) -> np.ndarray:
    """Return a random probe that is zero near all faces, to exclude effects of the edges."""
    x = probes.gaussian(rng, side.n, side.dtype).reshape(side.in_shape)
    for axis, length in enumerate(side.in_shape):
        if length >= 32:
            for edge in (slice(0, 8), slice(length - 8, length)):
                x[(slice(None),) * axis + (edge,)] = 0
    return x.ravel()


def _worst_entry(session: Session) -> Entry | None:
    """Bisect the largest mismatch to one entry, in about log2 n + log2 m + 2 products."""
    found = session.mismatch
    b, a = np.unravel_index(int(np.argmax(found.ratio)), found.ratio.shape)
    forward, adjoint = session.sides
    x, y, ay = forward.probes[a], adjoint.probes[b], adjoint.images[b]
    j = _bisect(x, lambda part: _gap(session, part, forward(part), y, ay), found.gap[b, a])
    one = _unit(forward, j)
    column = forward(one)
    i = _bisect(
        y,
        lambda part: _gap(session, one, column, part, adjoint(part)),
        _gap(session, one, column, y, ay),
    )
    expected, got = complex(column[i]), complex(adjoint(_unit(adjoint, i))[j]).conjugate()
    noise = FAR * max(side.noise for side in session.sides) * max(abs(expected), abs(got))
    return Entry((i, j), expected, got) if abs(expected - got) > noise else None


def _gap(
    session: Session, x: np.ndarray, image: np.ndarray, y: np.ndarray, back: np.ndarray
) -> complex:
    """Return <y, C x> - <A y, x> in the session's scale."""
    left = gram(Vectors([y]), Vectors([image], session.scale))
    right = gram(Vectors([back], session.scale), Vectors([x]))
    return complex((left - right)[0, 0])


def _unit(side: Side, place: int) -> np.ndarray:
    one = np.zeros(side.n, side.dtype)
    one[place] = 1
    return one


def _bisect(x: np.ndarray, mismatch: Callable[[np.ndarray], complex], total: complex) -> int:
    """Return the sample of x that has the mismatch: halve x and keep the larger half."""
    support = np.flatnonzero(x)
    while len(support) > 1:
        half = support[: len(support) // 2]
        part = np.zeros_like(x)
        part[half] = x[half]
        found = mismatch(part)
        if abs(found) >= abs(total - found):
            support, total = half, found
        else:
            support, total = support[len(half) :], total - found
    return int(support[0])


def _extent(session: Session, side: Side, index: np.ndarray, length: int) -> tuple[int, int]:
    """Return the first and last index of the samples of a side that cause the mismatch."""
    other = session.adjoint if side is session.forward else session.forward
    one = side.dtype.type(1)
    probe = np.where(side.probes[0] == 0, one, side.probes[0])  # probes have some zeros

    def wrong(keep: np.ndarray) -> bool:
        x = np.where(keep, probe, side.dtype.type(0))
        image = side(x)
        pairs = list(zip(other.probes, other.images, strict=True))[:3]
        if side is session.forward:
            gaps = [_gap(session, x, image, y, back) for y, back in pairs]
        else:
            gaps = [_gap(session, z, forth, x, image) for z, forth in pairs]
        return bool(
            np.max(np.abs(gaps)) > identity.MOST_SIGMA * np.max(session.mismatch.sigma)
        )

    low, high = 0, length - 1  # search the first p for which indices 0..p are wrong
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(index <= middle) else (middle + 1, high)
    first = low
    low, high = first, length - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if wrong(index >= middle) else (low, middle - 1)
    return first, low
