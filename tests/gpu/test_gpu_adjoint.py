"""Adjoint tests of linconv's operators on the device: right ones pass, wrong ones are told."""

import devices
import numpy as np
import pytest
import scipy.sparse
from helpers import random

import linconv
from linconv import spectrum
from linconv.testing import assert_adjoint, check_adjoint
from linconv.testing.subjects import as_subject

IDENTITY = {"A01", "A02", "A03"}
# Sums of cuSPARSE's transposed products may come in another order every time.
UNORDERED = {"deterministic": False}


def kernel(*shape, dtype="complex128"):
    return random(shape, dtype, 9137)


def conv(cupy, kind=linconv.Conv, dtype="complex128", **options):
    options = {"padding": 1, "boundary": "reflect", "method": "direct"} | options
    return kind(cupy.asarray(kernel(3, 3, dtype=dtype)), (6, 7), **options)


@pytest.mark.parametrize("dtype", devices.DTYPES)
@pytest.mark.parametrize("method", ["direct", "sparse"])
def test_right_operators_pass_every_check(method, dtype, cupy):
    A = conv(cupy, dtype=dtype, method=method)
    for B in (A, A.H, A.T):
        report = check_adjoint(B, level="standard", **UNORDERED)
        assert report.passed, str(report)
        assert report.diagnosis == ""
        passed = {check.code for check in report.checks if check.status == "passed"}
        assert {"C07", "C08", "C10", "E01", "E02", "R01", *IDENTITY} <= passed


def test_right_composites_pass(cupy):
    A = conv(cupy)
    D = linconv.Diagonal(cupy.asarray(kernel(6, 7)))
    S = linconv.Restriction(np.arange(42).reshape(6, 7) % 3 > 0, dtype=complex).to("gpu")
    for B in (
        2j * A, A + D, A.H @ A, S @ A, linconv.vstack([A, D]),
        linconv.block([[A, None], [linconv.Identity((6, 7), complex), D]]),
        linconv.kron(linconv.Matrix(kernel(2, 3)).to("gpu"), conv(cupy)), A.real,
        spectrum.circulant_preconditioner(A, 0.5),
    ):  # fmt: skip
        assert_adjoint(B, **UNORDERED)


class Unconjugated(linconv.Conv):
    def _rmatmat(self, Y):
        return super()._rmatmat(Y.conj()).conj()


class Doubled(linconv.Conv):
    def _rmatmat(self, Y):
        return 2.0 * super()._rmatmat(Y)


class Negative(linconv.Conv):
    def _rmatmat(self, Y):
        return -super()._rmatmat(Y)


class OnTheHost(linconv.Conv):
    def _apply(self, hook, X):
        return super()._apply(hook, X).get()


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (Unconjugated, "the adjoint is the transpose: the conjugate is missing"),
        (Doubled, "adjoint = 2 x the true adjoint"),
        (Negative, "adjoint = -1 x the true adjoint"),
    ],
)
def test_wrong_adjoints_are_found_and_told(kind, cause, cupy):
    report = check_adjoint(conv(cupy, kind), **UNORDERED)
    assert not report.passed
    assert report.diagnosis == cause
    assert {check.code for check in report.failed} - {"R01"} == IDENTITY


def test_a_result_on_the_host_is_told(cupy):
    report = check_adjoint(conv(cupy, OnTheHost))
    assert not report.passed
    assert [check.code for check in report.failed] == ["C01"]
    assert "returned a ndarray, expected an array" in str(report)


def test_the_matrix_known_of_an_operator_is_read_to_the_host(cupy):
    A = conv(cupy)
    right = conv(np_like).tosparse()
    for B, matrix in ((A, right), (A @ A, right @ right)):
        found = as_subject(B).matrix()
        assert isinstance(found, scipy.sparse.csr_array)
        np.testing.assert_allclose(found.toarray(), matrix.toarray(), rtol=0, atol=1e-12)
    assert as_subject(A).arrays.name == "cupy"
    assert as_subject(linconv.Identity(3)).arrays.name == "numpy"


class np_like:
    asarray = staticmethod(np.asarray)
