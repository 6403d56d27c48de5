"""From failed checks to causes, in words.

A broken contract is its own cause, and so is a broken law of linearity.  Hypotheses are
tried only if forward and adjoint are linear and differ: on the whole matrix if it is small,
else on products.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linconv.testing.checks import MOST_NOISE, Session, Stop, identity
from linconv.testing.diagnosis.causes import say
from linconv.testing.diagnosis.matrices import diagnose
from linconv.testing.diagnosis.products import diagnose_products, single_precision
from linconv.testing.report import CheckResult, Entry, judge, number

_LINEAR = ("L00", "L02", "L01", "L03")
_ADJOINT = ("A01", "A02", "A03", "E02", "R01")
_UNAIDED = ("A01", "A02", "A03")  # need no known matrix
_CONTRACTS = ("C03", "C05", "C07", "C08", "C09", "C10", "C02", "E01", "R02")
_REPEATED = {"C07", "C08", "C09", "C10", "R02"}  # compare with an earlier product


def causes_of(
    session: Session, results: dict[str, CheckResult]
) -> tuple[list[str], list[Entry]]:
    """Return the causes, the most severe first, and wrong entries of the matrix."""
    failed = {code for code, result in results.items() if not result.passed}
    if not failed:
        return [], []
    found = [results[code].message for code in ("C01", "C06") if code in failed]
    if session.stopped or "C06" in failed:  # NaN makes other checks fail too
        return found or ["; ".join(results[code].message for code in sorted(failed))], []
    if not found and failed & {*_LINEAR, *_ADJOINT} and "C04" not in failed:
        _look_for_state(session, results, failed)
    if "C04" in failed:
        found.append(results["C04"].message)
    entries: list[Entry] = []
    if not found and failed & set(_LINEAR):
        found.append(_linear(session, results, failed))
    elif not found and failed & set(_ADJOINT) == {"E02"}:
        found.append(f"exact mode: {results['E02'].message}")
    elif not found and failed & set(_ADJOINT):
        cause, entries = _mismatch(session, results)
        found.append(cause)
    if "C04" in failed:
        failed -= _REPEATED
    found += [results[code].message for code in _CONTRACTS if code in failed]
    return list(dict.fromkeys(found)), entries


def _linear(session: Session, results: dict[str, CheckResult], failed: set[str]) -> str:
    """Return the cause of the first failure that explains the others."""
    if "L00" in failed:
        return results["L00"].message
    inside = "L02" in failed and "inside a" in results["L02"].message
    if "L01" in failed and not inside:
        return results["L01"].message
    if "L02" in failed and not inside:
        return _weak_precision(session) or results["L02"].message
    return results["L02" if inside else "L03"].message


def _weak_precision(session: Session) -> str:
    """Name single precision if the operator is homogeneous with errors of that size."""
    for side in session.sides:
        if side.u < 2.0**-40 and MOST_NOISE * side.u < side.residual < 2.0**-19:
            return single_precision(side)
    return ""


def _look_for_state(
    session: Session, results: dict[str, CheckResult], failed: set[str]
) -> None:
    """Repeat the random products to find hidden state, which looks like any other fault.

    Two further products find an operator whose every second or third call differs.
    """
    for side in session.sides:
        order = [*reversed(range(len(side.probes))), 1, 0]
        try:
            pairs = [(side(side.probes[i]), side.images[i]) for i in order]
        except Stop:
            continue
        if not all(session.repeats(side, again, first) for again, first in pairs):
            message = f"{side.name} gives different results for the same input"
            results["C04"] = judge("C04", [message], trials=len(order))
            failed.add("C04")


def _mismatch(session: Session, results: dict[str, CheckResult]) -> tuple[str, list[Entry]]:
    """Return why forward and adjoint differ, and the wrong entries."""
    if session.real_linear:
        return say("unknown"), []
    try:
        if identity.small(session):
            return _of_matrices(session)
        seen = any(not results[code].passed for code in _UNAIDED if code in results)
        if session.entries or not seen:
            return results["R01"].message, list(session.entries)
        cause, entries = diagnose_products(session)
        return _listed(cause, entries), entries
    except Stop as stop:
        return stop.message, []


def _of_matrices(session: Session) -> tuple[str, list[Entry]]:
    """Compare the whole matrices, both with the known matrix if there is one."""
    C, B = identity.dense(session)
    if session.weighted:
        ignored = _weights_ignored(session, C, B)
        if ignored:
            return ignored, []
    pairs = [("adjoint", C, B)]
    if session.matrix is not None:
        M = session.matrix.toarray().astype(np.result_type(C, B))
        pairs = [("forward", M, C), ("adjoint", M, B)]
    words, entries = [], []
    for what, right, got in pairs:
        found = diagnose(
            right,
            got,
            session.forward.in_shape,
            session.forward.out_shape,
            tolerance=identity.dense_tolerance(session, right, got),
            dtype=session.forward.result_dtype,
            what=what,
            geometry=session.subject.geometry,
        )
        if found.cause:
            words.append(_listed(found.cause, found.entries))
            entries += list(found.entries)
    return "; ".join(words) or say("unknown"), entries[:8]


def _weights_ignored(session: Session, C: np.ndarray, B: np.ndarray) -> str:
    """Return the cause if the adjoint is that of the unweighted inner product, else "".

    B has the weights of the domain (post) and range (pre), so it is then C times weights.
    """
    rows, columns = np.asarray(session.adjoint.pre), np.asarray(session.adjoint.post)
    factors = np.atleast_1d(columns) / np.atleast_1d(rows)[:, None]
    ignored = C * factors
    right = np.abs(B - ignored) <= identity.dense_tolerance(session, ignored, B)
    if not right.all() or np.array_equal(ignored, C):
        return ""
    if factors.size > 1:
        return say("weights")
    return say("scale", factor=number(factors.item()), remark=f": {say('weights')}")


def _listed(cause: str, entries: Sequence[Entry]) -> str:
    """Add the entries to a cause that counts them."""
    if not cause.endswith(("wrong entry", "wrong entries")):
        return cause
    return f"{cause}: " + ", ".join(str(entry) for entry in entries)
