"""Contracts of matvec and rmatvec beyond mathematics: memory, layouts, threads, pickling.

Every public function takes a session and returns one `CheckResult`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from linconv.testing.checks.interleave import interleaved
from linconv.testing.checks.session import MOST_NOISE, Session, Side, Stop, describe, same
from linconv.testing.report import CheckResult, Tally, judge, not_applicable

# In u; an operator that copies a strided input may add in another order, no more.
_LAYOUT_UNITS = 64
# Lines after which each of two threads hands over.  With (1, 1) both run the same lines
# together; with more lines one thread is ahead of the other.
_ROUNDS = ((1, 1), (3, 3), (2, 2))
_STEPS = {"quick": 40, "standard": 100, "thorough": 400}


def watched(session: Session, code: str) -> CheckResult:
    """Return the result of C01, C02, C03, C05 or C06, which watch every product."""
    faults = [side.watched[code] for side in session.sides if code in side.watched]
    if code == "C02" and all(side.expected is None for side in session.sides):
        return not_applicable(code, "the operator promises no dtype")
    return judge(code, faults, trials=sum(side.products for side in session.sides))


def repeated(session: Session) -> CheckResult:
    """C04: the same input gives the same result again, also after other products."""
    for side in session.sides:
        _reuse_arrays(session, side)
    faults = [side.watched["C04"] for side in session.sides if "C04" in side.watched]
    return judge("C04", faults, trials=6)


def aliasing(session: Session) -> CheckResult:
    """C05: results share no memory with inputs, other results or internal state."""
    for side in session.sides:
        if "C04" not in side.watched and "C05" not in side.watched:
            _reuse_arrays(session, side)
    return watched(session, "C05")


def _reuse_arrays(session: Session, side: Side) -> None:
    """Call again with an array, with new contents in it, and after writing into results."""
    if side.reused:
        return
    side.reused = True
    arrays = session.subject.arrays
    (x, other), (image, other_image) = side.probes[:2], side.images[:2]
    given = side.native(x)
    first = side.call(given)
    raw = side.read(first)
    if not session.repeats(side, side.image(raw), image):
        side.note("C04", f"{side.name} gives different results for the same input")
        return
    if not arrays.overwrite(given, side.unweighted(other)):
        given = side.native(other)
    if not same(arrays.host(first), raw):
        side.note("C05", f"{side.name}'s result shares memory with its input")
    second = side.call(given)
    if not same(arrays.host(first), raw):
        side.overwritten(side.name)
    if not session.repeats(side, side.image(side.read(second)), other_image):
        side.note(
            "C04",
            f"{side.name} gives different results for the same input: it does not "
            "notice new contents in an array that it has seen before",
        )
    for result in (first, second):
        arrays.overwrite(result, np.full_like(arrays.host(result), 7))
    if not session.repeats(side, side(other), other_image):
        side.note(
            "C05",
            f"{side.name} depends on its own earlier result: writing into it changes the next",
        )


def layouts(session: Session) -> CheckResult:
    """C07: strided, reversed and read-only inputs give the results of contiguous ones."""
    arrays = session.subject.arrays
    every = [layout for layout in arrays.layouts if layout != "fortran"]
    if not every:
        return not_applicable("C07", f"{arrays.name} has no such arrays")
    tally = Tally("C07")
    for side in session.sides:
        before = dict(side.watched)
        for layout in every:
            try:
                error = side.distance(side(side.probes[0], layout), side.images[0])
                fault = f"{side.name} is wrong for a {layout} input"
            except Stop as stop:
                error, fault = np.inf, f"{stop.message} for a {layout} input"
            if not tally.compare(error, side.allowed(_LAYOUT_UNITS), fault):
                # This fault explains all that was noted for the layout, except C03.
                kept = {k: v for k, v in side.watched.items() if k in before or k == "C03"}
                side.watched = kept
                break
    return tally.result()


def columns(session: Session) -> CheckResult:
    """C08: the columns of matmat and rmatmat are the results of matvec and rmatvec."""
    sides = [side for side in session.sides if side.columns is not None]
    if not sides:
        return not_applicable("C08", "the operator has neither matmat nor rmatmat")
    tally = Tally("C08")
    for side in sides:
        several = 2 if session.quick else 3
        X, CX = np.stack(side.probes[:several], 1), np.stack(side.images[:several], 1)
        # The second block has other columns, to show a result that shares a buffer.
        fortran = "fortran" in session.subject.arrays.layouts
        cases = [
            ("contiguous", X, CX),
            ("fortran" if fortran else "contiguous", X[:, ::-1], CX[:, ::-1]),
            ("contiguous", X[:, :1], CX[:, :1]),
        ]
        for layout, block, expected in cases[: 2 if session.quick else 3]:
            fault, error = _columns(side, layout, block, expected)
            if not tally.compare(error, side.allowed(MOST_NOISE), fault):
                break
    return tally.result()


def _columns(
    side: Side, layout: str, block: np.ndarray, expected: np.ndarray
) -> tuple[str, float]:
    """Return (fault, error) of some columns; the fault holds if the error is too large."""
    arrays, name = side.subject.arrays, side.columns_name
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
    side.last_columns = side.watch(name, given, block, result, got, side.last_columns)
    if got.shape != expected.shape:
        return f"{name} returns shape {got.shape}, expected {expected.shape}", np.inf
    if got.dtype != expected.dtype:
        side.note("C02", f"{name} returns dtype {got.dtype}, expected {expected.dtype}")
    pairs = zip(got.T, expected.T, strict=True)
    error = max(side.distance(column, right) for column, right in pairs)
    return f"{name} differs from the columns of {side.name}{suffix}", error


def threads(session: Session) -> CheckResult:
    """C09: two threads that take turns at lines get the results of one thread."""
    trusted = ("linconv",) if session.quick else ()  # linconv's own tests cover its lines
    tally = Tally("C09")
    for paces in _ROUNDS[:1] if session.quick else _ROUNDS:
        for side in session.sides:
            jobs = [_call(side, i) for i in range(2)]
            steps = _STEPS[session.level]
            outcomes = interleaved(jobs, paces, steps=steps, trusted=trusted)
            side.products += 2
            for got, image in zip(outcomes, side.images[:2], strict=True):
                unsafe, error = f"{side.name} is not safe in several threads", np.inf
                if isinstance(got, BaseException):
                    unsafe = f"{unsafe}: {describe(got)}"
                else:
                    error = side.distance(got, image)
                tally.compare(error, side.allowed(MOST_NOISE), unsafe)
    tally.faults = list(dict.fromkeys(tally.faults))[:2]
    return tally.result()


def _call(side: Side, i: int) -> Callable[[], np.ndarray]:
    """Return a function that computes image i from an array made beforehand."""
    given = side.native(side.probes[i])

    def run() -> np.ndarray:
        return side.weighted(side.subject.arrays.read(side.apply(given)).reshape(-1))

    return run


def pickling(session: Session) -> CheckResult:
    """C10: after a pickle round trip both products are the same as before."""
    subject = session.subject
    if subject.portable is None or subject.rewrap is None:
        return not_applicable("C10", "a pair of functions is not pickled")
    try:
        parts: list[pickle.PickleBuffer] = []  # large arrays, to be copied only once
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
    tally = Tally("C10")
    for what in ("in_shape", "out_shape", "dtype"):
        before, after = getattr(subject, what), getattr(copy, what)
        if before != after:
            tally.faults.append(f"pickling changes {what}: {after}, expected {before}")
    for side, apply in zip(session.sides, (copy.forward, copy.adjoint), strict=True):
        side.products += 1
        error, fault = np.inf, f"pickling changes {side.name}"
        try:
            image = _call(replace(side, apply=apply), 0)()
            error = side.distance(image, side.images[0])
        except Exception as raised:
            fault += f": the copy raised {describe(raised)}"
        tally.compare(error, side.allowed(MOST_NOISE), fault)
    return tally.result()


def _not_meant_for_it(error: Exception) -> bool:
    """Whether pickle itself refuses the object: for a lambda, a local class or a lock."""
    if isinstance(error, pickle.PicklingError):
        return True
    words = {TypeError: "cannot pickle", AttributeError: "local object"}
    return words.get(type(error), "\0") in str(error)
