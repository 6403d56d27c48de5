"""The catalogue on the device: what is broken there is caught and named as on the host.

Its operators are made on the host, and what they hold is moved.
"""

import re

import numpy as np
import pytest
import scipy.sparse
from broken import CATALOGUE, RIGHT
from helpers import SEEDS

import linconv
from linconv.gpu import device
from linconv.testing import check_adjoint

# Matrices of so many entries are moved as they are, smaller ones as dense arrays, whose
# products are the same every time; cuSPARSE does not promise that.
DENSE = 1_000_000
HOST = "it makes its matrix on the host, by SciPy"
OWN = "it is an operator of SciPy, or functions that hold a matrix on the host"
# Operators that cannot be on a device -> the reason.
LEFT_OUT = {
    "refuses read-only input": "no array of CuPy's is read-only", "forgets its taps": HOST,
    "rounds its taps": HOST, "normalises again": HOST,
    "results cached by value": "it looks at the bytes of the input",
    "read-only results": "no array of CuPy's is read-only",
    "circulant by rfft, even": "CuPy's rfft drops an imaginary part that SciPy's refuses",
    "circulant by rfft, odd": "the same", "lambdas without hints": OWN, "scipy LinearOperator": OWN,
    "scipy aslinearoperator": OWN,
}  # fmt: skip


def members(catalogue):
    """Return those that can be on a device, with one of their dtypes each, in turn."""
    params, found = [], [member for member in catalogue if member.name not in LEFT_OUT]
    for i, member in enumerate(found):
        dtypes = getattr(member, "dtypes", tuple(SEEDS))
        dtype = dtypes[i % len(dtypes)]
        marks = () if i % 3 == 0 else pytest.mark.thorough  # the host runs all, always
        params.append(pytest.param(member, dtype, id=f"{member.name}-{dtype}", marks=marks))
    return params


def moved(cupy, value):
    """Return an operator's attribute on the device, if it is an array, matrix or operator."""
    if isinstance(value, np.ndarray):
        return cupy.asarray(value)
    if scipy.sparse.issparse(value):
        small = value.shape[0] * value.shape[1] <= DENSE
        return cupy.asarray(value.toarray()) if small else device.to_device(value.tocsr())
    return value.to("gpu") if isinstance(value, linconv.LinearOperator) else value


def report_on(cupy, member, dtype):
    """Make a member, move what it holds, and test it with device arrays."""
    operator = member.make(np.dtype(dtype), np.random.default_rng(SEEDS[dtype]))
    if isinstance(operator, linconv.LinearOperator):
        operator = operator.to("gpu")
    else:
        vars(operator).update({k: moved(cupy, v) for k, v in vars(operator).items()})
    options = {"level": "quick", "seed": SEEDS[dtype], "xp": cupy}
    options |= {"deterministic": not any(map(device.is_matrix, vars(operator).values()))}
    return check_adjoint(operator, **options, **getattr(member, "options", {}))


@pytest.mark.parametrize(("member", "dtype"), members(CATALOGUE))
def test_a_broken_operator_fails_on_the_device_and_its_fault_is_named(member, dtype, cupy):
    report = report_on(cupy, member, dtype)
    assert not report.passed
    assert re.search(member.diagnosis, report.diagnosis), f"said: {report.diagnosis}"


@pytest.mark.parametrize(("member", "dtype"), members(RIGHT))
def test_a_right_operator_passes_on_the_device(member, dtype, cupy):
    report = report_on(cupy, member, dtype)
    assert report.passed, str(report)
    assert report.diagnosis == ""


def test_few_are_left_out_and_all_dtypes_are_there():
    names = {member.name for member in (*CATALOGUE, *RIGHT)}
    assert set(LEFT_OUT) <= names
    params = [*members(CATALOGUE), *members(RIGHT)]
    assert len(params) >= 0.9 * len(names)
    dtypes = [dtype for _, dtype in (param.values for param in params)]
    assert min(map(dtypes.count, SEEDS)) >= 25
