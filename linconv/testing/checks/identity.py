"""The adjoint identity, <C x, y> = <x, A y>, and the matrix entry by entry.

Never divided by the inner product, which may vanish by chance, but by the rounding
noise that it should have.  A block of k probes on either side costs k + k products and
gives k^2 numbers: D = Y^H (C X) - (A Y)^H X, with E |D_ab|^2 = |A - C^H|_F^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linconv.testing.checks import inner, probes
from linconv.testing.checks.session import FAR, Session, Side
from linconv.testing.report import CheckResult, judge, not_applicable

# In standard deviations; right operators stayed below 4.4 and between 0.5 and 1.1.
MOST_SIGMA = 8
MOST_RMS = 3
# Below so many entries every one is compared.
MOST_ENTRIES = 2_500_000
# Structured probes that are judged together.
_BATCH = 6


@dataclass
class Probed:
    """Probes, their images, and the power that rounding spreads over all samples of each."""

    probes: inner.Rows
    images: inner.Rows
    spread: np.ndarray


@dataclass
class Block:
    """D and the standard deviation of its rounding noise, for probes X and Y.

    Both are divided by a power of two where their squares would leave the range.
    """

    gap: np.ndarray  # (len(Y), len(X))
    sigma: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """|D| in standard deviations; 0 where D is exactly 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.gap) / self.sigma
        ratio = np.where(self.gap == 0, 0, ratio)
        return np.where(np.isfinite(ratio), ratio, np.inf)


def block(session: Session, X: Probed, Y: Probed) -> Block:
    """Return Y^H (C X) - (A Y)^H X with its noise, sample by sample.

    The noise of an image is relative to the power of the sample itself and to the mean
    over all samples, over which an FFT spreads it.  The mean power that unit variance
    probes give stands in where a probe is cancelled, as a constant is by a gradient.
    """
    left, first = inner.products(Y.probes, X.images)
    right, second = inner.products(Y.images, X.probes)
    gap = left - right
    first += np.outer(Y.probes.energy, X.spread)
    second += np.outer(Y.spread, X.probes.energy)
    forward, adjoint = session.sides
    variance = forward.noise**2 * first + adjoint.noise**2 * second
    return Block(np.real(gap) if session.real_linear else gap, np.sqrt(variance))


def probed(
    session: Session, side: Side, given: Sequence[np.ndarray], images: Sequence[np.ndarray]
) -> Probed:
    """Return probes with their images, divided by the session's scale."""
    return _probed(side, inner.Rows(given), inner.Rows(images, session.scale))


def _probed(side: Side, X: inner.Rows, CX: inner.Rows) -> Probed:
    return Probed(X, CX, np.maximum(CX.energy / side.m, side.rms**2 * X.energy / side.n))


def base_block(session: Session) -> Block:
    """Return the block of the random probes of both sides; computed once."""
    if session.block is None:
        images = [image for side in session.sides for image in side.images]
        session.scale = _scale(images)
        found = [inner.Rows(side.images, session.scale) for side in session.sides]
        for side, CX in zip(session.sides, found, strict=True):
            side.rms = float(np.sqrt(np.mean(CX.energy) / side.m))
        session.base = tuple(
            _probed(side, inner.Rows(side.probes), CX)
            for side, CX in zip(session.sides, found, strict=True)
        )
        session.block = block(session, *session.base)
    return session.block


def _scale(images: list[np.ndarray]) -> float:
    """Return 1, or a power of two near the largest norm where squares leave the range."""
    peak = max(map(probes.norm, images))
    if not 0 < peak < np.inf or 1e-9 < peak < 1e9:
        return 1.0
    return probes.binade(peak)


def random_block(session: Session) -> CheckResult:
    """A01: the adjoint identity for every pair of random probes."""
    found = base_block(session)
    ratio = found.ratio
    rms = float(np.sqrt(np.mean(ratio**2)))
    worst = float(np.max(ratio))
    faults = []
    if not (worst <= MOST_SIGMA and rms <= MOST_RMS):
        faults.append(f"<C x, y> != <x, A y>: {worst:.3g} sigma, rms {rms:.3g}")
    return judge("A01", faults, worst, MOST_SIGMA, "sigma", trials=ratio.size)


def norm_scaled_error(session: Session) -> float:
    """Return the largest |<C x, y> - <x, A y>| / (|C x| |y|) of the random block."""
    gap = np.abs(base_block(session).gap)
    X, Y = session.base
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        norms = np.sqrt(np.outer(Y.probes.energy, X.images.energy))
        error = np.where(gap == 0, 0, gap / norms)
    return float(np.max(np.where(np.isnan(error), np.inf, error)))


def resolution(session: Session) -> float:
    """Return the smallest |A - C^H|_F / |C|_F that the random block sees for certain."""
    sigma = np.sqrt(np.mean(base_block(session).sigma ** 2))
    norm = np.sqrt(np.mean(session.base[0].images.energy))
    return float((MOST_SIGMA + 2) * sigma / norm) if norm > 0 else 0.0


def structured_probes(session: Session) -> CheckResult:
    """A02: the identity for probes at corners, faces, channel ends and the tail."""
    faults, worst, trials = [], 0.0, 0
    base_block(session)
    for side in session.sides:
        values = side.probes[1].reshape(side.in_shape)  # the other side's are independent
        found = list(probes.structured(session.rng, values, session.quick))
        # "quick" asks for all places at once, and for each of them only on failure.
        ratios = _structured(session, side, [_joined(found)] if session.quick else found)
        if session.quick and not ratios[0][1] <= FAR:
            alone = _structured(session, side, found)
            ratios = alone if any(not value <= FAR for _, value in alone) else ratios
        trials += len(ratios) * len(side.probes)
        worst = max([worst, *(value for _, value in ratios)])
        space = "input" if side is session.forward else "output"
        faults += [
            f"{name} of the {space}: {value:.3g} sigma"
            for name, value in ratios
            if not value <= FAR
        ]
    message = ["<C x, y> != <x, A y> for " + ", ".join(faults[:3])] if faults else []
    return judge("A02", message, worst, FAR, "sigma", trials=trials)


def _structured(
    session: Session, side: Side, found: Sequence[tuple[str, np.ndarray]]
) -> list[tuple[str, float]]:
    """Return (name, error in sigma) of probes on one side against all of the other."""
    ratios: list[tuple[str, float]] = []
    for start in range(0, len(found), _BATCH):
        names, given = zip(*found[start : start + _BATCH], strict=True)
        own = probed(session, side, given, [side(x) for x in given])
        if side is session.forward:
            ratio = block(session, own, session.base[1]).ratio
        else:
            ratio = block(session, session.base[0], own).ratio.T
        ratios += zip(names, map(float, np.max(ratio, axis=0)), strict=True)
    return ratios


def _joined(found: Sequence[tuple[str, np.ndarray]]) -> tuple[str, np.ndarray]:
    """Return one probe at the places of several, all of about the same energy.

    So the few samples at corners are seen as well as the many on faces: noise grows by
    the square root of how many probes are joined, not with the samples of the largest.
    """
    total = np.zeros_like(found[0][1])
    for _, x in found:
        weight = 1 / probes.binade(probes.norm(x))
        total += x.dtype.type(weight) * x
    return ", ".join(name for name, _ in found), total


def dense(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """Return C and A^H, both (m, n), from products with every unit vector."""
    if session.matrices is None:
        columns = []
        for side in session.sides:
            one = np.zeros(side.n, side.dtype)
            images = []
            for j in range(side.n):
                one[j] = 1
                images.append(side(one))
                one[j] = 0
            columns.append(np.stack(images, axis=1))
        session.matrices = columns[0], columns[1].conj().T
    return session.matrices


def dense_tolerance(session: Session, C: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return what rounding may do to each entry of A^H against C."""
    u = max(side.u for side in session.sides)
    scale = probes.binade(float(np.max(np.abs(C), initial=0)))
    power = probes.power(C / scale)
    forward = session.forward.noise * _reach(power, axis=0)
    adjoint = session.adjoint.noise * _reach(power, axis=1)
    tolerance = 2 * FAR * u * np.sqrt(power) + forward + adjoint
    return scale * tolerance + np.finfo(np.float64).tiny


def _reach(power: np.ndarray, axis: int) -> np.ndarray:
    """Return how far rounding may move an entry of a column or row, in units of the noise.

    An FFT spreads it over all samples; for a unit vector it is not random but gathers
    in a few, where up to 1.4 norms were seen.
    """
    total = np.sum(power, axis=axis, keepdims=True)
    return FAR * np.sqrt(total / power.shape[axis]) + 3 * np.sqrt(total)


def small(session: Session, most: int = MOST_ENTRIES) -> bool:
    """Whether every entry can be compared."""
    return session.forward.n * session.forward.m <= most and not session.real_linear


def every_entry(session: Session) -> CheckResult:
    """A03: every entry of A^H against C."""
    if session.real_linear:
        return not_applicable("A03", "a real-linear operator has no complex matrix")
    if session.quick:
        return not_applicable("A03", "one product for every row and column: level standard")
    if not small(session):
        return not_applicable("A03", f"more than {MOST_ENTRIES:,} entries")
    C, B = dense(session)
    tolerance = dense_tolerance(session, C, B)
    with np.errstate(invalid="ignore"):
        gap = np.abs(B - C.astype(np.result_type(C, B)))
    gap = np.where(np.isfinite(gap), gap, np.inf)
    wrong = int(np.count_nonzero(~(gap <= tolerance)))
    faults = [f"{wrong} of {gap.size} entries differ"] if wrong else []
    worst = float(np.max(gap / tolerance)) * FAR
    return judge("A03", faults, worst, FAR, "sigma", trials=gap.size)
