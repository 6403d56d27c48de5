"""Whether both directions are linear, and how large their rounding noise is.

What no adjoint test can see: a clipped, biased or rectified operator may pass every
dot test.  Multiplying by powers of two is exact, so it has no tolerance.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from linconv.testing.checks import probes
from linconv.testing.checks.session import MOST_NOISE, Session, Side, Stop, same
from linconv.testing.report import CheckResult, judge, not_applicable

# Powers of two for homogeneity: beyond any clipping or flushing that is meant to go unseen.
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
        # A handful of samples may all be rounded well by luck: long sums are not that exact.
        least = max(1.0, np.sqrt(side.n) / samples)
        side.noise = min(max(side.residual, least * side.u), MOST_NOISE * side.u)


def _dimensions(images: list[np.ndarray]) -> float:
    """Return in how many dimensions the images lie, about: at least 1, at most their size.

    The squared cosine of two random vectors is one over that, in the mean.  Where a few
    samples carry the power, or all rise and fall together, as the sums do that mirrored
    edges give, the rounding errors of one image are no more than a few samples.
    """
    size = float(images[0].size)
    units = []
    for image in images:
        length = probes.norm(image)
        if 0 < length < np.inf:
            units.append(image / length)
    pairs = list(itertools.combinations(units, 2))
    if not pairs:
        return size
    cosines = sum(abs(complex(np.vdot(u, v))) ** 2 for u, v in pairs) / len(pairs)
    return min(size, 1 / max(cosines, 1 / size))


def _additivity(side: Side, split: tuple[np.ndarray, np.ndarray]) -> float:
    """Return |C x - C a - C b| for x = a + b relative to what rounding scales with."""
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
    faults, worst = [], 0.0
    for side in session.sides:
        image = side(np.zeros(side.n, side.dtype))
        error = float(np.max(np.abs(image))) if np.isfinite(image).all() else np.inf
        worst = max(worst, error)
        if error:
            name = "A" if side is session.forward else side.name
            faults.append(f"affine: {name}(0) != 0")
    return judge("L00", faults, worst, 0, trials=2)


def homogeneity(session: Session) -> CheckResult:
    """L01: C(s x) = s C(x) bit for bit, for s = -1 and large and small powers of 2."""
    faults, worst = [], 0.0
    for side in session.sides:
        up, down = _exponents(side)
        if session.quick and _in_layouts(session, side, (-(2.0**up), 2.0**-down)):
            continue
        # "quick" asks for the sign and large values at once, and alone only on failure.
        joined = [((-1.0) * 2.0**up, "", f"-2^{up} ")] if session.quick else []
        single = [
            (-1.0, "sign", "-"),
            (2.0**up, "not homogeneous at large values", f"2^{up} "),
            (2.0**-down, "not homogeneous at small values", f"2^-{down} "),
        ]
        errors = [_homogeneous(session, side, case) for case in joined or single[:2]]
        if joined and any(fault for _, fault in errors):
            errors = [_homogeneous(session, side, case) for case in single[:2]] + errors
        errors.append(_homogeneous(session, side, single[2]))
        worst = max([worst, *(error for error, _ in errors)])
        found = [fault for _, fault in errors if fault]
        faults += [fault for fault in found if not fault.startswith(":")] or found[:1]
    tolerance = 0.0 if session.deterministic else session.forward.allowed(MOST_NOISE)
    return judge("L01", faults, worst, tolerance, trials=6)


def _in_layouts(session: Session, side: Side, factors: tuple[float, float]) -> bool:
    """Ask at once what C07 asks: whether inputs of other layouts give such multiples.

    False where one does not, or there are no layouts: then each is asked alone.
    """
    known = session.subject.arrays.layouts
    layouts = [layout for layout in ("reversed", "strided") if layout in known]
    before = dict(side.watched)
    for factor, layout in zip(factors, layouts * 2, strict=False):
        try:
            got, expected = _multiple(side, factor, layout, frozen="read-only" in known)
        except Stop:  # it may refuse the layout only
            side.watched = before
            return False
        if not same(got, expected):
            side.watched = before
            return False
    side.layouts = bool(layouts)
    return side.layouts


def _multiple(
    side: Side, factor: float, layout: str = "contiguous", *, frozen: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image of a multiple of the first probe, and that multiple of its image."""
    x, image = side.probes[0], side.images[0]
    number = np.real(x).dtype.type(factor)
    return side(number * x, layout, frozen=frozen), number * image


def _homogeneous(
    session: Session, side: Side, case: tuple[float, str, str]
) -> tuple[float, str]:
    """Return the error of one factor and what is wrong, if anything."""
    factor, words, s = case
    got, expected = _multiple(side, factor)
    error = side.distance(got, expected)
    right = same(got, expected) if session.deterministic else error <= side.allowed(MOST_NOISE)
    return error, "" if right else f"{words}: {side.name}({s}x) != {s}{side.name}(x)"


def _exponents(side: Side) -> tuple[int, int]:
    """Return the powers of two that leave room for the operator's own range."""
    info = np.finfo(side.result_dtype)
    most = _HALF_EXPONENT if info.dtype.itemsize == 2 else _EXPONENT
    x, image = side.probes[0], side.images[0]
    # Norms are above all samples: no less safe, and known at once.
    largest = probes.norm if most == _EXPONENT else lambda a: float(np.max(np.abs(a)))
    peak = max(1.0, largest(x), largest(image))
    if not np.isfinite(peak):
        return most, most
    low = min(1.0, probes.rms(image) or 1.0)
    room_up = int(info.maxexp - np.ceil(np.log2(peak)) - info.nmant)
    room_down = int(np.floor(np.log2(low)) - info.minexp - 2 * info.nmant)
    return max(1, min(most, room_up)), max(1, min(most, room_down))


def additivity(session: Session) -> CheckResult:
    """L02: C(a + b) = C(a) + C(b) up to 256 u, measured when the noise was."""
    faults = []
    for side in session.sides:
        if not side.residual <= MOST_NOISE * side.u:
            faults.append(_inexact(session, side))
    units = max(side.residual / side.u for side in session.sides)
    trials = sum(side.trials for side in session.sides)
    return judge("L02", faults, units, MOST_NOISE, "u", trials=trials)


def _inexact(session: Session, side: Side) -> str:
    """Say why a side is not additive: fewer bits inside where there is evidence of it."""
    for bits, words in ((24, "float32"), (11, "half precision"), (8, "half precision")):
        # An error that is too large for so many bits has another cause.
        if 2.0**-bits >= 2 * side.u and side.residual <= 2.0 ** (6 - bits):
            if _fixed_point(side.images, bits):
                continue
            short = [probes.round_bits(image, bits) for image in side.images]
            if all(map(same, short, side.images)) or _rounds_inputs(side, bits):
                return f"{words} inside a {side.result_dtype.name} operator: {side.name}"
    return f"not additive: {side.name}(a + b) != {side.name}(a) + {side.name}(b)"


def _fixed_point(images: list[np.ndarray], bits: int) -> bool:
    """Whether even small results are multiples of what `bits` bits say of the largest one.

    So they are rounded to so many decimals, or to whole numbers, not to so many bits.
    """
    numbers = np.concatenate([np.ravel([np.real(image), np.imag(image)]) for image in images])
    sizes = np.abs(numbers[numbers != 0]).astype(np.float64)
    if not sizes.size or not np.isfinite(sizes).all():
        return False
    unit = np.ldexp(1.0, int(np.frexp(sizes.max())[1]) - bits)
    small = sizes[sizes < sizes.max() / 8]  # of fewer bits would be finer than that
    return bool(small.size and (small / unit == np.rint(small / unit)).all())


def _rounds_inputs(side: Side, bits: int) -> bool:
    """Whether inputs cut or rounded to so many bits give the same bits: no more are read."""
    x, image = side.probes[0], side.images[0]
    return any(
        same(side(short), image) for short in (_nearest(x, bits), probes.round_bits(x, bits))
    )


def _nearest(x: np.ndarray, bits: int) -> np.ndarray:
    if x.dtype.kind == "c":
        return _nearest(x.view(np.real(x).dtype), bits).view(x.dtype)
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits).astype(x.dtype)


def complex_vectors(session: Session) -> CheckResult:
    """L03: C(i x) = i C(x); of a real operator C(x + i z) = C(x) + i C(z), if it can."""
    if session.real_linear:
        return not_applicable("L03", "declared linear over the reals only")
    if not session.complex and session.quick:
        return not_applicable("L03", "a real operator; complex vectors at level standard")
    if not session.complex:
        return _complex_in_real(session)
    faults, worst, tolerance = [], 0.0, 0.0
    for side in session.sides:
        x, image = side.probes[0], side.images[0]
        turn = side.dtype.type(1j)
        got, expected = side(turn * x), 1j * image
        bound = side.allowed(MOST_NOISE)
        error = side.distance(got, expected)
        worst, tolerance = max(worst, error), max(tolerance, bound)
        if not error <= bound:
            faults.append(_semilinear(side, got, image))
    return judge("L03", faults, worst, tolerance, trials=2)


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
    """Try complex vectors on a real operator; one that refuses or ignores them is no fault."""
    faults, worst, tolerance, unable = [], 0.0, 0.0, []
    for side in session.sides:
        (x, z), (image, other) = side.probes[:2], side.images[:2]
        kind = np.result_type(side.dtype, np.complex64)
        got = side.quietly((x + 1j * z).astype(kind))
        if got is None or got.dtype.kind != "c":
            does = "refuses complex vectors" if got is None else "ignores imaginary parts"
            unable.append(f"{side.name} {does}")
            continue
        bound = side.allowed(MOST_NOISE)
        error = side.distance(
            got, image + 1j * other.astype(np.result_type(other, np.complex64))
        )
        worst, tolerance = max(worst, error), max(tolerance, bound)
        if not error <= bound:
            faults.append(f"{side.name}(x + i z) != {side.name}(x) + i {side.name}(z)")
    said = f"a real operator: {' and '.join(unable)}"
    if len(unable) == 2:
        return not_applicable("L03", said)
    found = judge("L03", faults, worst, tolerance, trials=2 - len(unable))
    if unable and not faults:
        return replace(found, message=f"{said}; the other direction is right")
    return found
