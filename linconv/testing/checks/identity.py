"""The adjoint identity, <C x, y> = <x, A y>, and the matrix entry by entry.

Mismatches are divided by the rounding noise to be expected, never by the inner product,
which may vanish by chance.  A block of k probes on either side costs k + k products and
gives k^2 mismatches D = Y^H (C X) - (A Y)^H X, with E |D_ab|^2 = |A - C^H|_F^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linconv.testing.checks import probes
from linconv.testing.checks.inner import Vectors, products
from linconv.testing.checks.session import FAR, Session, Side
from linconv.testing.report import CheckResult, Tally, judge, not_applicable

# Largest mismatch and rms, in sigma; right operators had at most 4.4, and 0.5 to 1.1.
MOST_SIGMA = 8
MOST_RMS = 3
# The largest matrix of which every entry is compared.
MOST_ENTRIES = 2_500_000
# The number of structured probes whose inner products are computed together.
_BATCH = 6


@dataclass
class Probed:
    """Probes, their images, and the mean power of each image, to which its noise is relative.

    Where the operator cancels a probe, as a gradient cancels a constant, `spread` is the
    mean power of the images of random probes.
    """

    probes: Vectors
    images: Vectors
    spread: np.ndarray


@dataclass
class Mismatch:
    """D and the standard deviation of its rounding noise, for probes X and Y.

    Both are divided by a power of two if their squares would overflow or underflow.
    """

    gap: np.ndarray  # (len(Y), len(X))
    sigma: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """|D| in standard deviations; 0 where D is exactly 0."""
        return probes.ratio(self.gap, self.sigma)

    @property
    def figures(self) -> tuple[float, float]:
        """The largest ratio and the root mean square of all."""
        return float(np.max(self.ratio)), float(np.sqrt(np.mean(self.ratio**2)))

    @property
    def vanishes(self) -> bool:
        """Whether D is no more than rounding noise."""
        worst, rms = self.figures
        return worst <= MOST_SIGMA and rms <= MOST_RMS


def mismatch(session: Session, X: Probed, Y: Probed) -> Mismatch:
    """Return Y^H (C X) - (A Y)^H X with its noise, sample by sample.

    The noise of a sample is relative to the power of the sample and to the mean power
    of all samples, since an FFT spreads rounding errors over all of them.
    """
    left, first = products(Y.probes, X.images)
    right, second = products(Y.images, X.probes)
    gap = left - right
    first += np.outer(Y.probes.energy, X.spread)
    second += np.outer(Y.spread, X.probes.energy)
    forward, adjoint = session.sides
    variance = forward.noise**2 * first + adjoint.noise**2 * second
    return Mismatch(np.real(gap) if session.real_linear else gap, np.sqrt(variance))


def probed(
    session: Session, side: Side, given: Sequence[np.ndarray], images: Sequence[np.ndarray]
) -> Probed:
    """Return probes with their images, divided by the session's scale."""
    X, CX = Vectors(given), Vectors(images, session.scale)
    return Probed(X, CX, np.maximum(CX.energy / side.m, side.rms**2 * X.energy / side.n))


def random_mismatch(session: Session) -> Mismatch:
    """Return the mismatch of the random probes of both sides, computed at the first call."""
    if session.mismatch is None:
        images = [image for side in session.sides for image in side.images]
        peak = max(map(probes.norm, images))
        if not 1e-9 < peak < 1e9:  # squares would overflow or underflow
            session.scale = probes.binade(peak)
        for side in session.sides:
            energy = Vectors(side.images, session.scale).energy
            side.rms = float(np.sqrt(np.mean(energy) / side.m))
        session.probed = tuple(
            probed(session, side, side.probes, side.images) for side in session.sides
        )
        session.mismatch = mismatch(session, *session.probed)
    return session.mismatch


def random_block(session: Session) -> CheckResult:
    """A01: the adjoint identity for every pair of random probes."""
    found = random_mismatch(session)
    worst, rms = found.figures
    faults = []
    if not found.vanishes:
        faults.append(f"<C x, y> != <x, A y>: {worst:.3g} sigma, rms {rms:.3g}")
    return judge("A01", faults, worst, MOST_SIGMA, "sigma", trials=found.gap.size)


def norm_scaled_error(session: Session) -> float:
    """Return the largest |<C x, y> - <x, A y>| / (|C x| |y|) of the random block."""
    gap = random_mismatch(session).gap
    X, Y = session.probed
    norms = np.sqrt(np.outer(Y.probes.energy, X.images.energy))
    return float(np.max(probes.ratio(gap, norms)))


def resolution(session: Session) -> float:
    """Return the smallest |A - C^H|_F / |C|_F that the random block detects for certain."""
    sigma = np.sqrt(np.mean(random_mismatch(session).sigma ** 2))
    norm = np.sqrt(np.mean(session.probed[0].images.energy))
    return float((MOST_SIGMA + 2) * sigma / norm) if norm > 0 else 0.0


def structured_probes(session: Session) -> CheckResult:
    """A02: the identity for probes at corners, faces, channel ends and the tail."""
    tally = Tally("A02", "sigma")
    random_mismatch(session)
    for side in session.sides:
        space = "input" if side is session.forward else "output"
        values = side.probes[1].reshape(side.in_shape)  # not those of the other side
        found = list(probes.structured(session.rng, values, session.quick))
        for start in range(0, len(found), _BATCH):
            names, given = zip(*found[start : start + _BATCH], strict=True)
            own = probed(session, side, given, [side(x) for x in given])
            if side is session.forward:
                ratio = mismatch(session, own, session.probed[1]).ratio
            else:
                ratio = mismatch(session, session.probed[0], own).ratio.T
            for name, error in zip(names, map(float, np.max(ratio, axis=0)), strict=True):
                tally.compare(error, FAR, f"{name} of the {space}: {error:.3g} sigma")
    if tally.faults:
        tally.faults = ["<C x, y> != <x, A y> for " + ", ".join(tally.faults[:3])]
    return tally.result()


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
    """Return the largest difference of A^H and C that rounding explains, entry by entry."""
    u = max(side.u for side in session.sides)
    scale = probes.binade(float(np.max(np.abs(C), initial=0)))
    power = probes.power(C / scale)
    forward = session.forward.noise * _reach(power, axis=0)
    adjoint = session.adjoint.noise * _reach(power, axis=1)
    tolerance = 2 * FAR * u * np.sqrt(power) + forward + adjoint
    return scale * tolerance + np.finfo(np.float64).tiny


def _reach(power: np.ndarray, axis: int) -> np.ndarray:
    """Return how far rounding may move an entry of a column or row, in units of the noise.

    An FFT spreads rounding errors over all samples.  For a unit vector they are not random
    but gather in a few samples: an error of 1.4 norms was measured there.
    """
    total = np.sum(power, axis=axis, keepdims=True)
    return FAR * np.sqrt(total / power.shape[axis]) + 3 * np.sqrt(total)


def small(session: Session, most: int = MOST_ENTRIES) -> bool:
    """Whether the matrix is small enough to compare every entry."""
    return session.forward.n * session.forward.m <= most and not session.real_linear


def every_entry(session: Session) -> CheckResult:
    """A03: every entry of A^H is that of C."""
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
