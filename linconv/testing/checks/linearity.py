"""Whether both directions are linear, and how large their rounding noise is.

A dot test may miss nonlinearity: a clipped, biased or rectified operator can pass it.
Multiplying by powers of two is exact, so homogeneity has no tolerance.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from linconv.testing.checks import probes
from linconv.testing.checks.session import MOST_NOISE, Session, Side, same
from linconv.testing.report import CheckResult, Tally, judge, not_applicable

# Exponents of the factors 2^e: past usual thresholds of clipping and flushing to zero.
_EXPONENT = 40
_HALF_EXPONENT = 2


def measure_noise(session: Session) -> None:
    """Measure each side's relative noise: its residual of additivity on exact splits."""
    for side in session.sides:
        x = side.probes[0]
        splits = [probes.both_splits(session.rng, x)]
        if not session.quick:
            splits = [probes.masked(session.rng, x), probes.halves(x)]
        residuals = [_additivity(side, split) for split in splits]
        side.residual = max(residuals)
        side.trials = len(residuals)
        samples = len(residuals) * _dimensions(side.images) * (2 if session.complex else 1)
        # A few samples may have small rounding errors by chance; long sums have larger ones.
        least = max(1.0, np.sqrt(side.n) / samples)
        side.noise = min(max(side.residual, least * side.u), MOST_NOISE * side.u)


def _dimensions(images: list[np.ndarray]) -> float:
    """Estimate the dimension of the images, at least 1 and at most their size.

    It is one over the mean squared cosine of two images.  It is small if a few samples
    have most of the power, or if all rise and fall together, as sums over mirrored edges
    do.  Then the rounding errors of an image are only a few independent numbers.
    """
    size = float(images[0].size)
    lengths = [probes.norm(image) for image in images]
    units = [
        image / length
        for image, length in zip(images, lengths, strict=True)
        if 0 < length < np.inf
    ]
    pairs = list(itertools.combinations(units, 2))
    if not pairs:
        return size
    cosines = sum(abs(complex(np.vdot(u, v))) ** 2 for u, v in pairs) / len(pairs)
    return min(size, 1 / max(cosines, 1 / size))


def _additivity(side: Side, split: tuple[np.ndarray, np.ndarray]) -> float:
    """Return |C x - C a - C b| for x = a + b, relative to the norms of the three images."""
    parts = [side.images[0], *(side(part) for part in split)]
    gap = parts[0].astype(np.result_type(*parts, np.float64))
    gap -= parts[1]
    gap -= parts[2]
    residual = probes.norm(gap)
    scale = math.hypot(*map(probes.norm, parts))
    if not math.isfinite(scale):
        return np.inf
    return residual / (math.sqrt(2) * scale) if residual else 0.0


def zero(session: Session) -> CheckResult:
    """L00: zero in, zero out, exactly."""
    tally = Tally("L00")
    for side in session.sides:
        image = side(np.zeros(side.n, side.dtype))
        error = float(np.max(np.abs(image))) if np.isfinite(image).all() else np.inf
        name = "A" if side is session.forward else side.name
        tally.compare(error, 0.0, f"affine: {name}(0) != 0")
    return tally.result()


def homogeneity(session: Session) -> CheckResult:
    """L01: C(s x) = s C(x) bit for bit, for s = -1, a large and a small power of 2."""
    tally = Tally("L01")
    for side in session.sides:
        up, down = _exponents(side)
        bound = 0.0 if session.deterministic else side.allowed(MOST_NOISE)
        for factor, words, s in (
            (-1.0, "sign", "-"),
            (2.0**up, "not homogeneous at large values", f"2^{up} "),
            (2.0**-down, "not homogeneous at small values", f"2^-{down} "),
        ):
            number = np.real(side.probes[0]).dtype.type(factor)
            error = side.distance(side(number * side.probes[0]), number * side.images[0])
            fault = f"{words}: {side.name}({s}x) != {s}{side.name}(x)"
            tally.compare(error, bound, fault)
    return tally.result()


def _exponents(side: Side) -> tuple[int, int]:
    """Return exponents of powers of two with which the images do not leave their range."""
    info = np.finfo(side.result_dtype)
    most = _HALF_EXPONENT if info.dtype.itemsize == 2 else _EXPONENT
    x, image = side.probes[0], side.images[0]
    # A norm bounds all samples and is faster; half precision has no room for it.
    largest = probes.norm if most == _EXPONENT else lambda a: float(np.max(np.abs(a)))
    peak = max(1.0, largest(x), largest(image))
    if not np.isfinite(peak):
        return most, most
    low = min(1.0, probes.rms(image) or 1.0)
    room_up = int(info.maxexp - np.ceil(np.log2(peak)) - info.nmant)
    room_down = int(np.floor(np.log2(low)) - info.minexp - 2 * info.nmant)
    return max(1, min(most, room_up)), max(1, min(most, room_down))


def additivity(session: Session) -> CheckResult:
    """L02: C(a + b) = C(a) + C(b) up to 256 u, as `measure_noise` has measured."""
    faults = []
    for side in session.sides:
        if not side.residual <= MOST_NOISE * side.u:
            faults.append(_inexact(side))
    units = max(side.residual / side.u for side in session.sides)
    trials = sum(side.trials for side in session.sides)
    return judge("L02", faults, units, MOST_NOISE, "u", trials=trials)


def _inexact(side: Side) -> str:
    """Say why a side is not additive: lower precision inside, if there is evidence of it."""
    for bits, words in probes.PRECISIONS:
        # An error too large for this precision has another cause.
        if 2.0**-bits >= 2 * side.u and side.residual <= 2.0 ** (6 - bits):
            if _fixed_point(side.images, bits):
                continue
            short = [probes.round_bits(image, bits) for image in side.images]
            if all(map(same, short, side.images)) or _rounds_inputs(side, bits):
                return f"{words} inside a {side.result_dtype.name} operator: {side.name}"
    return f"not additive: {side.name}(a + b) != {side.name}(a) + {side.name}(b)"


def _fixed_point(images: list[np.ndarray], bits: int) -> bool:
    """Whether small results too are multiples of the last bit of the largest result.

    Then the operator rounds to fixed decimals or integers, not to `bits` significant bits.
    """
    numbers = np.concatenate([np.ravel([np.real(image), np.imag(image)]) for image in images])
    sizes = np.abs(numbers[numbers != 0]).astype(np.float64)
    if not sizes.size or not np.isfinite(sizes).all():
        return False
    unit = np.ldexp(1.0, int(np.frexp(sizes.max())[1]) - bits)
    small = sizes[sizes < sizes.max() / 8]  # floats so small have a finer last bit
    return bool(small.size and (small / unit == np.rint(small / unit)).all())


def _rounds_inputs(side: Side, bits: int) -> bool:
    """Whether results stay the same for inputs truncated or rounded to `bits` bits."""
    x, image = side.probes[0], side.images[0]
    cut = probes.round_bits(x, bits)
    nearest = probes.round_bits(x + (x - cut), bits)
    return any(same(side(short), image) for short in (nearest, cut))


def complex_vectors(session: Session) -> CheckResult:
    """L03: C(i x) = i C(x); for a real operator C(x + i z) = C(x) + i C(z)."""
    if session.real_linear:
        return not_applicable("L03", "declared linear over the reals only")
    if not session.complex and session.quick:
        return not_applicable("L03", "a real operator; complex vectors at level standard")
    if not session.complex:
        return _complex_in_real(session)
    tally = Tally("L03")
    for side in session.sides:
        x, image = side.probes[0], side.images[0]
        got = side(side.dtype.type(1j) * x)
        if not tally.compare(side.distance(got, 1j * image), side.allowed(MOST_NOISE)):
            tally.faults.append(_semilinear(side, got, image))
    return tally.result()


def _semilinear(side: Side, got: np.ndarray, image: np.ndarray) -> str:
    name, bound = side.name, side.allowed(MOST_NOISE)
    if side.distance(got, -1j * image) <= bound:
        return f"antilinear: {name}(i x) = -i {name}(x)"
    if not np.imag(got).any() and not np.imag(image).any():
        return f"{name} keeps only the real part of its result: {name}(i x) != i {name}(x)"
    x = side.probes[0]
    real = side(np.real(x).astype(side.dtype))
    if side.distance(real, image) <= bound:
        return f"{name} keeps only the real part of its input: {name}(i x) != i {name}(x)"
    return f"linear over the reals only: {name}(i x) != i {name}(x)"


def _complex_in_real(session: Session) -> CheckResult:
    """Try complex vectors on a real operator; it may refuse them or ignore imaginary parts."""
    tally, unable = Tally("L03"), []
    for side in session.sides:
        (x, z), (image, other) = side.probes[:2], side.images[:2]
        got = side.quietly((x + 1j * z).astype(np.result_type(side.dtype, np.complex64)))
        if got is None or got.dtype.kind != "c":
            does = "refuses complex vectors" if got is None else "ignores imaginary parts"
            unable.append(f"{side.name} {does}")
            continue
        expected = image + 1j * other.astype(np.result_type(other, np.complex64))
        fault = f"{side.name}(x + i z) != {side.name}(x) + i {side.name}(z)"
        tally.compare(side.distance(got, expected), side.allowed(MOST_NOISE), fault)
    words = f"a real operator: {' and '.join(unable)}"
    if len(unable) == 2:
        return not_applicable("L03", words)
    if unable and not tally.faults:
        return replace(tally.result(), message=f"{words}; the other direction is right")
    return tally.result()
