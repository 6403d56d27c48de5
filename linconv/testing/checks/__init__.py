"""Checks of one operator: `run` calls them in order, a `Session` keeps their findings.

The entry point of this package; the diagnosis also uses `identity` and `probes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linconv.testing.checks import contracts, exact, identity, known, linearity, probes
from linconv.testing.checks.inner import Vectors, gram
from linconv.testing.checks.session import (
    FAR,
    MOST_NOISE,
    Session,
    Side,
    Stop,
    open_session,
)
from linconv.testing.report import CheckResult, judge, not_applicable

__all__ = [
    "FAR",
    "MOST_NOISE",
    "Session",
    "Side",
    "Stop",
    "Vectors",
    "gram",
    "identity",
    "open_session",
    "probes",
    "run",
]

_BLOCK = {"quick": 3, "standard": 6, "thorough": 16}

# In the order of execution; after these, `run` calls the checks that write into results.
_CHECKS: dict[str, Callable[[Session], CheckResult]] = {
    "L00": linearity.zero,
    "L01": linearity.homogeneity,
    "L02": linearity.additivity,
    "L03": linearity.complex_vectors,
    "A01": identity.random_block,
    "R01": known.against_matrix,
    "R02": known.against_reference,
    "A03": identity.every_entry,
    "C08": contracts.columns,
    "C07": contracts.layouts,
    "C10": contracts.pickling,
    "C09": contracts.threads,
    "A02": identity.structured_probes,
}


def run(
    session: Session, codes: set[str], *, matrix: Any, factory: Any, kernel_shape: Any
) -> dict[str, CheckResult]:
    """Run the checks of these codes; a check that raises `Stop` ends the test."""
    if matrix is None and session.subject.matrix is not None:
        matrix = session.subject.matrix()
    session.matrix = known.known_matrix(session, matrix)
    results: dict[str, CheckResult] = {}
    try:
        for side in session.sides:
            side.start(session.rng, _BLOCK[session.level])
        linearity.measure_noise(session)
        for code, check in _CHECKS.items():
            if code in codes:
                results[code] = check(session)
        if codes & {"E01", "E02"}:
            found = exact.exact_mode(session, factory, kernel_shape)
            results |= {check.code: check for check in found if check.code in codes}
        for code, check in (("C04", contracts.repeated), ("C05", contracts.aliasing)):
            if code in codes:
                results[code] = check(session)
    except Stop as stop:
        session.stopped = True
        results[stop.code] = judge(stop.code, [stop.message], trials=1)
    for code in ("C01", "C02", "C03", "C06"):
        if code in codes and code not in results:
            results[code] = contracts.watched(session, code)
    reason = "an earlier check ended the test"
    return {code: not_applicable(code, reason) for code in codes - set(results)} | results
