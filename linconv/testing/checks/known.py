"""Against what is known for certain: the explicit matrix, an independent forward.

No adjoint test can see a forward that is wrong together with its adjoint; these can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from linconv.testing.checks import probes
from linconv.testing.checks.session import FAR, MOST_NOISE, Session, Side, describe
from linconv.testing.diagnosis.diagnosis import Entry
from linconv.testing.report import CheckResult, judge, not_applicable


def against_matrix(session: Session) -> CheckResult:
    """R01: |C x - M x| <= gamma_(K+2) |M| |x| entry by entry, for K nonzeros in a row.

    Higham, Accuracy and Stability of Numerical Algorithms, section 3.5.  The measured
    noise is added for products that are no sums along rows, such as those of an FFT.
    """
    if session.matrix is None:
        return not_applicable("R01", "the matrix is not known; give it as matrix=")
    faults, worst, trials = [], 0.0, 0
    M = session.matrix
    for side, matrix in ((session.forward, M), (session.adjoint, M.conj(copy=False).T)):
        ratio = _excess(side, matrix, 2 if session.quick else len(side.probes))
        trials += ratio.size
        worst = max(worst, float(np.max(ratio, initial=0)))
        if not np.max(ratio, initial=0) <= 1:
            rows = np.flatnonzero(~(np.max(ratio, axis=0, initial=0) <= 1))
            faults.append(_describe(session, side, matrix, rows))
    return judge("R01", faults, worst, 1, trials=trials)


def _excess(side: Side, matrix: Any, most: int) -> np.ndarray:
    """Return (probe, row) -> |error| over the bound.

    The measured noise alone is bound enough for nearly all rows; the others' own
    bounds are added to it.
    """
    found = []
    for x, image in list(zip(side.probes, side.images, strict=True))[:most]:
        right = matrix @ x.astype(np.result_type(x, float), copy=False)
        gap = np.abs(np.subtract(image, right))
        spread = FAR * side.noise * probes.rms(right)
        if np.max(gap, initial=0) <= spread:  # nearly always; a single division will do
            gap /= spread or 1.0
            found.append(gap)
            continue
        ratio = _over(gap, spread)
        far = np.flatnonzero(~(ratio <= 1))
        rows = matrix[far].tocsr()
        count = np.diff(rows.indptr) + 2
        gamma = 2 * count * side.u / (1 - count * side.u)
        bound = gamma * (abs(rows) @ np.abs(x).astype(float)) + spread
        ratio[far] = _over(gap[far], bound)
        found.append(ratio)
    return np.stack(found)


def _over(gap: np.ndarray, bound: Any) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(gap == 0, 0, gap / bound)
    return np.where(np.isnan(ratio), np.inf, ratio)


def _describe(session: Session, side: Side, matrix: Any, rows: np.ndarray) -> str:
    """Say which rows of a side's matrix are wrong, and which entry if it is a single one."""
    if len(rows) > 1:
        first = ", ".join(map(str, rows[:3])) + (", ..." if len(rows) > 3 else "")
        return f"{side.name} differs from the known matrix in {len(rows)} results: {first}"
    row = int(rows[0])
    entry = _single_entry(side, matrix, row)
    if entry is None:
        return f"{side.name} differs from the known matrix in 1 result: {row}"
    column, expected, got = entry
    if side is session.adjoint:
        found = Entry((column, row), np.conj(expected), np.conj(got))
    else:
        found = Entry((row, column), expected, got)
    session.entries.append(found)
    return f"a single wrong entry of {side.name}: {found}"


def _single_entry(side: Side, matrix: Any, row: int) -> tuple[int, complex, complex] | None:
    """Find the column whose samples explain a row's errors in all probes by one number.

    Stored entries first: among a million columns a few probes may fit by chance.
    """
    X = np.stack(side.probes).astype(complex)  # (k, n)
    stored = matrix[[row]].tocsr()
    right = np.array([(stored @ x)[0] for x in X])
    errors = np.array([image[row] for image in side.images]) - right
    noise = side.noise * max(np.linalg.norm(right), np.linalg.norm(errors))
    for columns in (stored.indices, np.arange(X.shape[1])):
        samples = X[:, columns]
        power = np.maximum(np.sum(probes.power(samples), axis=0), np.finfo(float).tiny)
        fit = samples.conj().T @ errors / power
        left = np.linalg.norm(errors[:, None] - samples * fit, axis=0)
        found = np.flatnonzero(left <= FAR * noise)
        if len(found) == 1:
            best = int(columns[found[0]])
            expected = complex(stored.toarray()[0, best])
            return best, expected, expected + complex(fit[found[0]])
    return None


def against_reference(session: Session) -> CheckResult:
    """R02: the forward against an independent one, on the random probes and on ones."""
    reference = session.reference
    if reference is None:
        return not_applicable("R02", "no reference= was given")
    side = session.forward
    faults, worst, bound = [], 0.0, side.allowed(MOST_NOISE)
    ones = np.ones(side.n, side.dtype)
    cases = [*zip(side.probes, side.images, strict=True)]
    if not session.quick:
        cases.append((ones, side(ones)))
    for x, image in cases:
        try:
            right = _ask(session, reference, x)
        except Exception as error:
            faults.append(f"the reference raised {describe(error)}")
            break
        if right.size != side.m:
            faults.append(
                f"the reference returns shape {right.shape}, expected {side.out_shape}"
            )
            break
        error = side.distance(image, right.reshape(-1))
        worst = max(worst, error)
        if not error <= bound:
            place = int(np.argmax(np.abs(image - right.reshape(-1))))
            where = tuple(int(i) for i in np.unravel_index(place, side.out_shape))
            faults.append(f"the forward differs from the reference, most at output {where}")
            break
    return judge("R02", faults, worst, bound, trials=len(cases))


def _ask(session: Session, reference: Any, x: np.ndarray) -> np.ndarray:
    """Return the reference's answer: a function of shaped arrays, an operator or a matrix."""
    arrays, side = session.subject.arrays, session.forward
    if scipy.sparse.issparse(reference) or isinstance(reference, np.ndarray):
        return np.asarray(reference @ x)
    if hasattr(reference, "matvec"):
        return _read(arrays, reference.matvec(arrays.make(x)))
    return _read(arrays, reference(arrays.make(x.reshape(side.in_shape))))


def _read(arrays: Any, result: Any) -> np.ndarray:
    return arrays.read(result) if arrays.is_array(result) else np.asarray(result)


def known_matrix(session: Session, matrix: Any) -> Any:
    """Return the explicit matrix in double precision as canonical CSR, or None."""
    if matrix is None:
        return None
    side = session.forward
    csr: Any = matrix
    if not isinstance(matrix, scipy.sparse.csr_array):
        csr = scipy.sparse.csr_array(matrix)
    if csr.shape != (side.m, side.n):
        raise ValueError(
            f"matrix has shape {csr.shape}, but the operator has shape {(side.m, side.n)}"
        )
    csr = csr.astype(np.result_type(csr.dtype, np.float64), copy=False)
    if not csr.has_canonical_format:
        csr = csr.copy()  # the caller's arrays stay as they are
        csr.sum_duplicates()
    return csr
