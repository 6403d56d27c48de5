"""Why forward and adjoint differ, where the matrix is too large to be written out.

Hypotheses about the whole operator are tested on the random block, at no or few
products; then bisection follows the mismatch to one entry, or to the range of samples
it is confined to: half of x, half of what is left, and so on, then y.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from linconv.testing.checks import FAR, Session, Side, identity, inner, probes
from linconv.testing.report import Entry, number

MOST_SIGMA, MOST_RMS = identity.MOST_SIGMA, identity.MOST_RMS

# Shifts that are tried along every axis, and axes that may be exchanged.
_SHIFTS = (1, -1, 2, -2)
_NUMBERS = {1: "one", 2: "two"}


def explain(session: Session) -> tuple[str, list[Entry]]:
    """Return the cause in words, "unknown" if no hypothesis holds, and wrong entries."""
    cause = _transposed(session) or _scaled(session) or _single_precision(session)
    if cause:
        return cause, []
    entry = single_entry(session)
    if entry is not None and _alone(session, entry):
        return "a single wrong entry", [entry]
    cause = _moved(session) or _confined(session)
    return cause or "unknown", [] if entry is None else [entry]


def _fits(session: Session, gap: np.ndarray) -> bool:
    """Whether a predicted mismatch of the random block vanishes within its noise."""
    sigma = identity.random_mismatch(session).sigma
    ratio = np.abs(gap) / np.maximum(sigma, np.finfo(float).tiny)
    return bool(np.max(ratio) <= MOST_SIGMA and np.sqrt(np.mean(ratio**2)) <= MOST_RMS)


def _transposed(session: Session) -> str:
    """Y^T (C X) = (A Y)^T X: the adjoint is the plain transpose."""
    X, Y = session.probed
    if session.complex and _fits(
        session,
        inner.gram(_conjugate(Y.probes), X.images)
        - inner.gram(_conjugate(Y.images), X.probes),
    ):
        return "the adjoint is the transpose: the conjugate is missing"
    return ""


def _conjugate(rows: inner.Vectors) -> inner.Vectors:
    return inner.Vectors([x.conj() for x in rows.vectors], rows.scale)


def _scaled(session: Session) -> str:
    """(A Y)^H X = s Y^H (C X) for one s."""
    X, Y = session.probed
    right = inner.gram(Y.probes, X.images)
    got = inner.gram(Y.images, X.probes)
    s = complex(np.sum(right.conj() * got) / (np.sum(np.abs(right) ** 2) or 1))
    u = max(side.u for side in session.sides)
    if abs(s) < 1e-6 or abs(s - 1) <= 8 * u or not _fits(session, (got - s * right) / abs(s)):
        return ""
    return f"adjoint = {number(s.conjugate())} x the true adjoint"


def _single_precision(session: Session) -> str:
    """All that rmatvec or matvec returns has no more bits than single precision."""
    for side in session.sides:
        if side.u < 2.0**-40 and np.any(side.images[0]):
            short = probes.round_bits(side.images[0], 24)
            if np.array_equal(short, side.images[0]):
                return f"float32 inside a {side.result_dtype.name} operator: {side.name}"
    return ""


def _moved(session: Session) -> str:
    """<A y, x> = <G y, C F x> for maps F and G that move samples without changing them."""
    forward, adjoint = session.sides
    x = _inner(forward, session.rng)
    Y = [_inner(adjoint, session.rng) for _ in range(2)]
    images = [adjoint(y) for y in Y]
    got = inner.gram(inner.Vectors(images), inner.Vectors([x]))[:, 0]
    size = np.linalg.norm(Y[0]) * np.linalg.norm(forward.images[0])
    for words, move, move_back in _moves(forward.in_shape, adjoint.in_shape):
        image = forward(move(x))
        moved = inner.Vectors([move_back(y) for y in Y])
        right = inner.gram(moved, inner.Vectors([image]))[:, 0]
        noise = FAR * max(side.noise for side in session.sides) * size
        if np.max(np.abs(got)) > 100 * noise and np.max(np.abs(right - got)) <= noise:
            return words
    return ""


Move = Callable[[np.ndarray], np.ndarray]


def _moves(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> Iterator[tuple]:
    """Yield (words, F, G): what is said if the adjoint is G C^H F in this sense."""
    spatial = tuple(range(len(in_shape) > 2, len(in_shape)))

    def shaped(shape: tuple[int, ...], move: Move) -> Move:
        return lambda x: np.ascontiguousarray(move(x.reshape(shape))).ravel()

    def same(x: np.ndarray) -> np.ndarray:
        return x

    if len(in_shape) == len(out_shape):
        flip = [
            shaped(shape, lambda x: np.flip(x, spatial)) for shape in (in_shape, out_shape)
        ]
        yield "the adjoint correlates with the unflipped kernel", *flip
        for axis in spatial if len(spatial) > 1 else ():
            flip = [shaped(s, lambda x, a=axis: np.flip(x, a)) for s in (in_shape, out_shape)]
            yield f"the adjoint correlates with the unflipped kernel along axis {axis}", *flip
    for axis in range(len(in_shape)):
        for shift in _SHIFTS:
            if abs(shift) < in_shape[axis]:
                words = f"shifted by {_NUMBERS[abs(shift)]} along axis {axis} of the input"
                yield (
                    words,
                    shaped(in_shape, lambda x, a=axis, s=shift: np.roll(x, s, a)),
                    same,
                )
    if len(in_shape) == len(out_shape) >= 2:
        a, b = len(in_shape) - 2, len(in_shape) - 1
        square = [shape[a] == shape[b] for shape in (in_shape, out_shape)]
        swap = [shaped(shape, lambda x: x.swapaxes(a, b)) for shape in (in_shape, out_shape)]
        if all(square):
            yield f"axes {a} and {b} of the kernel are exchanged", *swap
        if square[0]:
            yield f"axes {a} and {b} of the input are exchanged", swap[0], same
        if square[1]:
            yield f"axes {a} and {b} of the output are exchanged", same, swap[1]


def _inner(side: Side, rng: np.random.Generator) -> np.ndarray:
    """Return a random probe that is zero near all faces, so that edges play no part."""
    x = probes.gaussian(rng, side.n, side.dtype).reshape(side.in_shape)
    for axis, length in enumerate(side.in_shape):
        if length >= 32:
            for edge in (slice(0, 8), slice(length - 8, length)):
                x[(slice(None),) * axis + (edge,)] = 0
    return x.ravel()


def single_entry(session: Session) -> Entry | None:
    """Follow the largest mismatch to one entry, in about log2 n + log2 m + 2 products."""
    found = identity.random_mismatch(session)
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
    left = inner.gram(inner.Vectors([y]), inner.Vectors([image], session.scale))
    right = inner.gram(inner.Vectors([back], session.scale), inner.Vectors([x]))
    return complex((left - right)[0, 0])


def _unit(side: Side, place: int) -> np.ndarray:
    one = np.zeros(side.n, side.dtype)
    one[place] = 1
    return one


def _bisect(x: np.ndarray, mismatch: Callable[[np.ndarray], complex], total: complex) -> int:
    """Return a sample of x to which mismatch belongs: always the half that has more of it."""
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


def _alone(session: Session, entry: Entry) -> bool:
    """Whether one entry explains the whole random block."""
    X, Y = session.probed
    i, j = entry.index
    wrong = (entry.expected - entry.got) / session.scale
    y = np.array([probe[i] for probe in Y.probes.vectors])
    x = np.array([probe[j] for probe in X.probes.vectors])
    gap = identity.random_mismatch(session).gap - np.outer(y.conj(), x) * wrong
    return _fits(session, gap)


def _confined(session: Session) -> str:
    """Say to which index along one axis, or to which tail, the mismatch is confined."""
    found = []
    for side, name in ((session.adjoint, "output"), (session.forward, "input")):
        first, last = _extent(session, side, np.arange(side.n), side.n)
        if first == last:
            return f"wrong only in {name} {first}: more than one entry"
        if last == side.n - 1 and first >= side.n // 2:
            words = f"wrong only in the last {side.n - first} samples of the {name}"
            found.append(((side.n - first) / side.n, words))
        if len(side.in_shape) > 1:
            found += _slices(session, side, name)
    return min(found)[1] if found else ""


def _slices(session: Session, side: Side, name: str) -> list[tuple[float, str]]:
    """Return, for every axis with one wrong index, the share of samples there, and words."""
    found = []
    for axis, length in enumerate(side.in_shape):
        index = np.unravel_index(np.arange(side.n), side.in_shape)[axis]
        first, last = _extent(session, side, index, length)
        if first == last and length > 1:
            channel = axis == 0 and len(side.in_shape) > 2
            words = f"wrong only at index {first} along axis {axis} of the {name}"
            words = f"wrong only in {name} channel {first}" if channel else words
            found.append((1 / length, words))
    return found


def _extent(session: Session, side: Side, index: np.ndarray, length: int) -> tuple[int, int]:
    """Return the first and last index at which samples of a side take part in a mismatch."""
    other = session.adjoint if side is session.forward else session.forward
    one = side.dtype.type(1)
    probe = np.where(side.probes[0] == 0, one, side.probes[0])  # some samples of it are zero

    def wrong(keep: np.ndarray) -> bool:
        x = np.where(keep, probe, side.dtype.type(0))
        image = side(x)
        pairs = list(zip(other.probes, other.images, strict=True))[:3]
        if side is session.forward:
            gaps = [_gap(session, x, image, y, back) for y, back in pairs]
        else:
            gaps = [_gap(session, z, forth, x, image) for z, forth in pairs]
        return bool(
            np.max(np.abs(gaps)) > MOST_SIGMA * np.max(identity.random_mismatch(session).sigma)
        )

    low, high = 0, length - 1  # the first p for which indices 0..p are wrong
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(index <= middle) else (middle + 1, high)
    first = low
    low, high = first, length - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if wrong(index >= middle) else (low, middle - 1)
    return first, low
