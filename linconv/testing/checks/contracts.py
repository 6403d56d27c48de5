"""Contracts of matvec and rmatvec beyond mathematics: memory, layouts, threads, pickling.

Every function here takes a session and returns one `CheckResult`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from linconv.testing.checks.interleave import interleaved
from linconv.testing.checks.session import MOST_NOISE, Session, Side, Stop, describe, same
from linconv.testing.report import CheckResult, judge, not_applicable

# Layouts are tried on one probe; a copy inside may only change the order of a sum.
_LAYOUT_UNITS = 64
# Lines after which each of two threads hands over: at every line both come through the
# same lines together, at longer strides one has left them when the other is halfway.
_ROUNDS = ((1, 1), (3, 3), (2, 2))
_STEPS = {"quick": 40, "standard": 100, "thorough": 400}


def watched(session: Session, code: str) -> CheckResult:
    """Judge what was looked at during every product: C01, C02, C03, C06."""
    faults = [side.watched[code] for side in session.sides if code in side.watched]
    if code == "C02" and all(side.expected is None for side in session.sides):
        return not_applicable(code, "the operator promises no dtype")
    return judge(code, faults, trials=sum(side.products for side in session.sides))


def repeated(session: Session) -> CheckResult:
    """C04: the same input twice gives the same result, whatever came between."""
    faults, trials = [], 0
    for side in session.sides:
        _reuse_arrays(session, side)
        trials += 2 if session.quick else 3
        if "C04" in side.watched:
            faults.append(side.watched["C04"])
    return judge("C04", faults, trials=trials)


def aliasing(session: Session) -> CheckResult:
    """C05: results share no memory with inputs, other results or internal state."""
    for side in session.sides:
        if "C04" not in side.watched and "C05" not in side.watched:
            _reuse_arrays(session, side)
    faults = [side.watched["C05"] for side in session.sides if "C05" in side.watched]
    return judge("C05", faults, trials=sum(side.products for side in session.sides))


def _reuse_arrays(session: Session, side: Side) -> None:
    """Call again: the same array, then with new contents, then with results written into."""
    if side.reused:
        return
    side.reused = True
    if session.quick and _reused_at_once(session, side):
        return
    arrays = session.subject.arrays
    (x, other), (image, other_image) = side.probes[:2], side.images[:2]
    given = side.native(x)
    first = side.call(given)
    raw = side.read(first)
    if not _agree(session, side, side.image(raw), image):
        side.note("C04", f"{side.name} gives different results for the same input")
        return
    if not arrays.overwrite(given, side.unweighted(other)):
        given = side.native(other)
    if not same(arrays.host(first), raw):
        side.note("C05", f"{side.name}'s result shares memory with its input")
    second = side.call(given)
    if not same(arrays.host(first), raw):
        side.note(
            "C05",
            f"{side.name} returns a buffer that it overwrites: an earlier result changed",
        )
    if not _agree(session, side, side.image(side.read(second)), other_image):
        side.note(
            "C04",
            f"{side.name} gives different results for the same input: new contents in an "
            "array that it saw before are not noticed",
        )
    for result in (first, second):
        arrays.overwrite(result, np.full_like(arrays.host(result), 7))
    if not _agree(session, side, side(other), other_image):
        side.note(
            "C05",
            f"{side.name} depends on its own earlier result: writing into it changes the next",
        )


def _reused_at_once(session: Session, side: Side) -> bool:
    """Ask all of this in two products, after the last one: False if any answer is wrong.

    Write into the last result and repeat its product with the very array; then give
    that array new contents.
    """
    arrays, last = session.subject.arrays, side.last
    if last is None or last.number != side.products or last.raw.dtype != side.images[0].dtype:
        return False  # what was written into is asked for again at once, or it is no use
    if not arrays.overwrite(last.result, np.full_like(last.raw, 7)):
        return False
    side.last = None  # its result is no longer what it was
    before = dict(side.watched)
    again = side.call(last.given)
    raw = side.read(again)
    right = _agree(session, side, raw, last.raw)
    if right and arrays.overwrite(last.given, side.unweighted(side.probes[0])):
        right = same(arrays.host(again), raw)
        image = side.image(side.read(side.call(last.given)))
        right = right and same(arrays.host(again), raw)
        if right and _agree(session, side, image, side.images[0]):
            return True
    side.watched = before
    return False


def _agree(session: Session, side: Side, got: np.ndarray, expected: np.ndarray) -> bool:
    if session.deterministic:
        return same(got, expected)
    return side.distance(got, expected) <= side.allowed(MOST_NOISE)


def layouts(session: Session) -> CheckResult:
    """C07: strided, reversed and read-only inputs give what contiguous ones give."""
    every = [layout for layout in session.subject.arrays.layouts if layout != "fortran"]
    if not every:
        return not_applicable("C07", f"{session.subject.arrays.name} has no such arrays")
    # To save products "quick" asks two questions at once, and each alone only on failure.
    joined = session.quick and "read-only" in every and len(every) > 1
    tried = [layout for layout in every if layout != "read-only"] if joined else every
    faults, worst, tolerance = [], 0.0, 0.0
    for side in session.sides:
        tolerance = max(tolerance, side.allowed(_LAYOUT_UNITS))
        if side.layouts:
            continue
        found = [_layout(side, layout, joined) for layout in tried]
        worst = max([worst, *(error for _, error in found)])
        if joined and any(fault for fault, _ in found):
            found = [_layout(side, layout, False) for layout in every] + found
        faults += [fault for fault, _ in found if fault][:1]
    return judge("C07", faults, worst, tolerance, trials=2 * len(tried))


def _layout(side: Side, layout: str, frozen: bool) -> tuple[str, float]:
    """Return what is wrong with the product of one layout, and the error."""
    before = dict(side.watched)
    words = f"read-only {layout}" if frozen else layout
    try:
        error = side.distance(side(side.probes[0], layout, frozen=frozen), side.images[0])
    except Stop as stop:
        side.watched = before
        return f"{stop.message} for a {words} input", np.inf
    if error <= side.allowed(_LAYOUT_UNITS):
        return "", error
    side.watched = {k: v for k, v in side.watched.items() if k in before or k == "C03"}
    return f"{side.name} is wrong for a {words} input", error


def columns(session: Session) -> CheckResult:
    """C08: matmat and rmatmat give, column by column, what matvec and rmatvec give."""
    sides = [side for side in session.sides if side.columns is not None]
    if not sides:
        return not_applicable("C08", "the operator has neither matmat nor rmatmat")
    faults, worst, tolerance, trials = [], 0.0, 0.0, 0
    for side in sides:
        tolerance = max(tolerance, side.allowed(MOST_NOISE))
        several = 2 if session.quick else 3
        blocks = np.stack(side.probes[:several], 1), np.stack(side.images[:several], 1)
        # Other columns the second time: in a buffer, they would replace the first ones.
        turned = blocks[0][:, ::-1], blocks[1][:, ::-1]
        fortran = "fortran" in session.subject.arrays.layouts
        cases = [("contiguous", blocks), ("fortran" if fortran else "contiguous", turned)]
        if not session.quick:
            cases.append(("contiguous", (blocks[0][:, :1], blocks[1][:, :1])))
        for layout, (block, expected) in cases:
            fault, error = _columns(session, side, layout, block, expected)
            worst, trials = max(worst, error), trials + 1
            if fault:
                faults.append(fault)
                break
    return judge("C08", faults, worst, tolerance, trials=trials)


def _columns(
    session: Session, side: Side, layout: str, block: np.ndarray, expected: np.ndarray
) -> tuple[str, float]:
    """Return what is wrong with one block of columns, and the error."""
    arrays, name = session.subject.arrays, side.columns_name
    suffix = " for Fortran-ordered input" if layout == "fortran" else ""
    given = arrays.make(block, layout)
    side.products += block.shape[1]
    try:
        assert side.columns is not None
        result = side.columns(given)
    except Exception as error:
        return f"{name} raised {describe(error)}{suffix}", np.inf
    if not arrays.is_array(result):
        return f"{name} returned a {type(result).__name__}, expected an array", np.inf
    got = side.read(result)
    if not same(arrays.host(given), block):
        side.note("C03", f"{name} changes its input")
    if side.block is not None and not same(arrays.host(side.block[0]), side.block[1]):
        side.note("C05", side.overwritten.replace(side.name, name))
    side.block = result, got
    if arrays.shares_memory(result, given):
        side.note("C05", f"{name}'s result shares memory with its input")
    if got.shape != expected.shape:
        return f"{name} returns shape {got.shape}, expected {expected.shape}", np.inf
    if got.dtype != expected.dtype:
        side.note("C02", f"{name} returns dtype {got.dtype}, expected {expected.dtype}")
    if same(got, expected):
        return "", 0.0
    pairs = zip(got.T, expected.T, strict=True)
    error = max(side.distance(column, right) for column, right in pairs)
    if error <= side.allowed(MOST_NOISE):
        return "", error
    return f"{name} differs from the columns of {side.name}{suffix}", error


def threads(session: Session) -> CheckResult:
    """C09: two threads that take turns at every line get what one thread gets."""
    rounds = _ROUNDS[:1] if session.quick else _ROUNDS
    faults, worst, tolerance, trials = [], 0.0, 0.0, 0
    for side, got, image in _in_threads(session, rounds):
        tolerance, trials = max(tolerance, side.allowed(MOST_NOISE)), trials + 1
        side.products += 1
        unsafe = f"{side.name} is not safe in several threads"
        if isinstance(got, BaseException):
            faults.append(f"{unsafe}: {describe(got)}")
            continue
        error = side.distance(got, image)
        worst = max(worst, error)
        if not error <= side.allowed(MOST_NOISE):
            faults.append(unsafe)
    return judge("C09", list(dict.fromkeys(faults))[:2], worst, tolerance, trials=trials)


def _in_threads(
    session: Session, rounds: Sequence[tuple[int, int]]
) -> Iterator[tuple[Side, Any, np.ndarray]]:
    """Yield (side, image or exception, what it should be) of every call."""
    trusted = ("linconv",) if session.quick else ()  # its own lines are many, and tested
    steps = _STEPS[session.level]
    for paces in rounds:
        jobs = [[_call(session, side, i) for i in range(2)] for side in session.sides]
        found = interleaved(jobs, paces, steps=steps, trusted=trusted)
        for side, outcomes in zip(session.sides, found, strict=True):
            for got, image in zip(outcomes, side.images[:2], strict=True):
                yield side, got, image


def _call(session: Session, side: Side, i: int) -> Callable[[], np.ndarray]:
    """Return a function that computes image i; the array is made beforehand."""
    given = side.native(side.probes[i])

    def run() -> np.ndarray:
        return side.weighted(session.subject.arrays.read(side.apply(given)).reshape(-1))

    return run


def pickling(session: Session) -> CheckResult:
    """C10: a pickle round trip leaves both directions as they were."""
    subject = session.subject
    if subject.portable is None or subject.rewrap is None:
        return not_applicable("C10", "a pair of functions is not pickled")
    try:
        parts: list[pickle.PickleBuffer] = []  # large arrays: copied below, once
        pickled = pickle.dumps(subject.portable, 5, buffer_callback=parts.append)
    except Exception as error:
        message = f"cannot be pickled: {describe(error)}"
        if _not_meant_for_it(error):
            return not_applicable("C10", message)
        return judge("C10", [message], trials=1)
    try:
        copies = [bytearray(part.raw()) for part in parts]
        copy = subject.rewrap(pickle.loads(pickled, buffers=copies))
    except Exception as error:
        return judge("C10", [f"cannot be unpickled: {describe(error)}"], trials=1)
    faults, worst, tolerance = [], 0.0, 0.0
    for what in ("in_shape", "out_shape", "dtype"):
        before, after = getattr(subject, what), getattr(copy, what)
        if before != after:
            faults.append(f"pickling changes {what}: {after}, expected {before}")
    for side, apply in zip(session.sides, (copy.forward, copy.adjoint), strict=True):
        tolerance = max(tolerance, side.allowed(MOST_NOISE))
        side.products += 1
        try:
            result = subject.arrays.read(apply(side.native(side.probes[0]))).reshape(-1)
        except Exception as error:
            faults.append(f"pickling changes {side.name}: the copy raised {describe(error)}")
            continue
        error = side.distance(side.weighted(result), side.images[0])
        worst = max(worst, error)
        if not error <= side.allowed(MOST_NOISE):
            faults.append(f"pickling changes {side.name}")
    return judge("C10", faults, worst, tolerance, trials=2)


def _not_meant_for_it(error: Exception) -> bool:
    """Whether pickle itself refused: a lambda, a class that has no place, a lock held."""
    if isinstance(error, pickle.PicklingError):
        return True
    words = {TypeError: "cannot pickle", AttributeError: "local object"}
    return words.get(type(error), "\0") in str(error)
