"""The harness's diagnosis of faults in PyLops 2.8.0, and the result of PyLops' dottest.

PyLops' `dottest` notices each fault, with real and with complex probes: a dot test does
not overlook them.  It says that two numbers differ, not why.  The errors of the faults,
``|B - C| / |C|`` in the Frobenius norm with B the adjoint of rmatvec's matrix, are in
`broken.pylops`.
"""

import re

import numpy as np
import pytest
from broken.pylops import pylops_findings
from helpers import quietly

from linconv.testing import check_adjoint

NOT_CONJUGATED = "the adjoint is the transpose: the conjugate is missing"
FORWARD_ITSELF = "the adjoint is the forward itself: the transpose is missing"
UNFLIPPED = "the adjoint correlates with the unflipped kernel"
SEEDS = range(2301, 2321)
REAL, COMPLEX = 0, 3  # dottest's complexflag: of both probes
IDENTITY = {"A01", "A02", "A03"}


@pytest.fixture(scope="module")
def found():
    """The operators by name, and the regular expression of what must be said of them."""
    pylops = quietly("pylops")
    if pylops.__version__ != "2.8.0":
        pytest.skip(f"the findings are of PyLops 2.8.0, this is {pylops.__version__}")
    return {name: (A, pattern) for name, A, pattern in pylops_findings()}


@pytest.fixture
def signal(found):
    """PyLops' signal processing, of the version that the findings are of."""
    return quietly("pylops.signalprocessing")


def judged(found, name):
    """Return the harness' report on a finding; what it says must be what was expected."""
    A, pattern = found[name]
    report = check_adjoint(A)
    assert not report.passed
    assert re.search(pattern, report.diagnosis), report.diagnosis
    return report


def failed(report):
    return {check.code for check in report.failed}


def dottests(A, probes=COMPLEX):
    """Return what PyLops' own test says, for every seed: True, False or an exception."""
    dottest = quietly("pylops.utils").dottest
    said = set()
    state = np.random.get_state()  # noqa: NPY002 - dottest draws from this generator
    for seed in SEEDS:
        np.random.seed(seed)  # noqa: NPY002
        try:
            said.add(bool(dottest(A, complexflag=probes, raiseerror=False)))
        except ValueError as error:
            said.add(f"ValueError: {error}".partition(":")[0])
    np.random.set_state(state)  # noqa: NPY002
    return said


# Complex filters: rmatvec convolves with the filter flipped, but not conjugated.


def test_a_complex_filter_is_not_conjugated(found):
    report = judged(found, "complex filter")
    assert report.diagnosis == NOT_CONJUGATED
    assert failed(report) == IDENTITY


def test_a_complex_filter_along_axis_0_is_not_conjugated(found):
    report = judged(found, "complex filter along axis 0")
    assert report.diagnosis == NOT_CONJUGATED
    assert failed(report) == IDENTITY


def test_a_complex_filter_in_an_operator_of_default_dtype_is_seen_to_have_another(found):
    """dtype stays float64 by default, and both products are complex128."""
    report = judged(found, "complex filter, default dtype")
    assert report.causes == (
        NOT_CONJUGATED,
        "matvec returns dtype complex128, expected float64; "
        "rmatvec returns dtype complex128, expected float64",
    )
    assert failed(report) == {"C02", *IDENTITY}


# Filters that are longer than a model of two axes.


@pytest.mark.parametrize("axis", [0, 1])
def test_a_long_filter_on_a_2d_model_gives_an_operator_without_adjoint(found, axis):
    """The result takes the filter's shape, so that all columns but one are lost."""
    report = judged(found, f"long filter along axis {axis}")
    text = "rmatvec raised ValueError: operands could not be broadcast together"
    assert report.diagnosis.startswith(text)
    assert failed(report) == {"C01"}


def test_a_long_filter_of_one_column_gives_an_operator_without_adjoint(found):
    report = judged(found, "long filter of one column along axis 0")
    text = "rmatvec raised ValueError: cannot reshape array of size 7 into shape (35,)"
    assert report.diagnosis == text
    assert failed(report) == {"C01"}


def test_long_filters_by_column_are_flipped_along_the_wrong_axis(found):
    """Columns change places and taps stay as they are; no hypothesis says so much."""
    assert failed(judged(found, "long filters by column along axis 0")) == IDENTITY


def test_long_filters_by_row_are_cut_at_the_wrong_place(found):
    """The part to keep is centred on half of axis 0 instead of axis 1, and wraps."""
    assert failed(judged(found, "long filters by row along axis 1")) == IDENTITY


# Short filters of two axes along axis 0: the last axis is flipped instead.


def test_a_2d_filter_of_one_column_along_axis_0_is_not_flipped(found):
    report = judged(found, "2-d filter of one column, axis 0")
    assert report.diagnosis == f"{FORWARD_ITSELF} ({UNFLIPPED})"
    assert failed(report) == IDENTITY


def test_a_2d_filter_along_axis_0_is_flipped_along_the_wrong_axis(found):
    """Each column meets the unflipped filter of its mirror image."""
    assert failed(judged(found, "2-d filter, axis 0")) == IDENTITY


# Not of Convolve1D, but of its kin: complex filters once more.


@pytest.mark.parametrize("name", ["NonStationaryConvolve1D", "NonStationaryFilters1D"])
def test_nonstationary_complex_filters_are_not_conjugated_either(signal, name):
    rng = np.random.default_rng(20240817)
    shape = (4, 5) if name == "NonStationaryConvolve1D" else 16
    values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    size = {"dims": 16, "hs": values} if np.ndim(values) == 2 else {"inp": values, "hsize": 5}
    A = getattr(signal, name)(**size, ih=(2, 6, 10, 14), dtype="complex128")
    report = check_adjoint(A)
    assert report.diagnosis == NOT_CONJUGATED
    assert failed(report) == IDENTITY
    assert dottests(A) == {False}
    real = {key: np.real(value) for key, value in size.items()}
    assert check_adjoint(getattr(signal, name)(**real, ih=(2, 6, 10, 14))).passed


# The dottest of PyLops


@pytest.mark.parametrize("probes", [REAL, COMPLEX], ids=["real", "complex"])
def test_the_dottest_of_pylops_fails_on_every_finding_too(found, probes):
    raised = {name for name in found if name.startswith("long filter ")}
    assert len(raised) == 3
    for name, (A, _) in found.items():
        said = dottests(A, probes)
        assert said == ({"ValueError"} if name in raised else {False}), name


def test_convolve1d_with_real_filters_is_right(signal):
    rng = np.random.default_rng(31207)
    for options in ({"dims": 20}, {"dims": (6, 7), "axis": 0}, {"dims": 3}):
        A = signal.Convolve1D(h=rng.standard_normal(5), offset=2, **options)
        assert check_adjoint(A).passed
        assert dottests(A, REAL) == {True}
