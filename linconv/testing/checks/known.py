"""Comparisons with the explicit matrix and with an independent forward.

These checks detect an error that forward and adjoint share; no adjoint test can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from linconv.testing.checks import probes
from linconv.testing.checks.session import FAR, MOST_NOISE, Session, Side, describe
from linconv.testing.report import CheckResult, Entry, Tally, not_applicable


def against_matrix(session: Session) -> CheckResult:
    """R01: |C x - M x| <= gamma_(K+2) |M| |x| entry by entry, for K nonzeros in a row.

    Higham, Accuracy and Stability of Numerical Algorithms, section 3.5.  The bound also
    has the measured noise, for products that do not add up rows, such as by an FFT.
    """
    if session.matrix is None:
        return not_applicable("R01", "the matrix is not known; give it as matrix=")
    tally, M = Tally("R01"), session.matrix
    for side, matrix in ((session.forward, M), (session.adjoint, M.conj(copy=False).T)):
        ratio = _excess(side, matrix, 2 if session.quick else len(side.probes))
        if not tally.compare(float(np.max(ratio)), 1.0):
            tally.faults.append(
                _describe(session, side, matrix, np.flatnonzero(~(ratio <= 1)))
            )
    return tally.result()


def _excess(side: Side, matrix: Any, most: int) -> np.ndarray:
    """Return, for every row, the largest |error| / bound over the probes.

    To save time, the bound is the measured noise alone, and the rows that exceed it are
    compared again with their full bound.
    """
    found = []
    for x, image in list(zip(side.probes, side.images, strict=True))[:most]:
        right = matrix @ x.astype(np.result_type(x, float), copy=False)
        gap = np.abs(np.subtract(image, right))
        spread = FAR * side.noise * probes.rms(right)
        ratio = probes.ratio(gap, spread)
        far = np.flatnonzero(~(ratio <= 1))
        if len(far):
            rows = matrix[far].tocsr()
            count = np.diff(rows.indptr) + 2
            gamma = 2 * count * side.u / (1 - count * side.u)
            bound = gamma * (abs(rows) @ np.abs(x).astype(float)) + spread
            ratio[far] = probes.ratio(gap[far], bound)
        found.append(ratio)
    return np.max(found, axis=0)


def _describe(session: Session, side: Side, matrix: Any, rows: np.ndarray) -> str:
    """Say which rows of a side's matrix are wrong, or which entry if only one is."""
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
    """Find the column of the one wrong entry that explains a row's errors in all probes.

    Stored entries are tried first: among a million columns one may fit by chance.
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
    """R02: the forward equals an independent one on the random probes and on all ones."""
    if session.reference is None:
        return not_applicable("R02", "no reference= was given")
    side, tally = session.forward, Tally("R02")
    cases = [*zip(side.probes, side.images, strict=True)]
    if not session.quick:
        ones = np.ones(side.n, side.dtype)
        cases.append((ones, side(ones)))
    for x, image in cases:
        error = np.inf
        try:
            right = _reference_image(session, x)
        except Exception as raised:
            fault = f"the reference raised {describe(raised)}"
        else:
            if right.size == side.m:
                error = side.distance(image, right.reshape(-1))
                gap = np.abs(image - right.reshape(-1))
                place = np.unravel_index(np.argmax(gap), side.out_shape)
                where = tuple(int(i) for i in place)
                fault = f"the forward differs from the reference, most at output {where}"
            else:
                fault = f"the reference returns shape {right.shape}, expected {side.out_shape}"
        if not tally.compare(error, side.allowed(MOST_NOISE), fault):
            break
    return tally.result()


def _reference_image(session: Session, x: np.ndarray) -> np.ndarray:
    """Return the image of x by the reference: a function, an operator or a matrix."""
    arrays, side, reference = session.subject.arrays, session.forward, session.reference
    if scipy.sparse.issparse(reference) or isinstance(reference, np.ndarray):
        return np.asarray(reference @ x)
    if hasattr(reference, "matvec"):
        result = reference.matvec(arrays.make(x))
    else:
        result = reference(arrays.make(x.reshape(side.in_shape)))
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
        csr = csr.copy()  # sum_duplicates works in place, on the caller's arrays
        csr.sum_duplicates()
    return csr
