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
SEEDS = range(2301, 2321)
REAL, COMPLEX = 0, 3  # dottest's complexflag: of both probes
IDENTITY = {"A01", "A02", "A03"}
BROADCAST = "rmatvec raised ValueError: operands could not be broadcast together.*"
# By the finding: a regular expression of all that is said, and the checks that fail.
FINDINGS = {
    # rmatvec convolves with the filter flipped, but not conjugated.
    "complex filter": (NOT_CONJUGATED, IDENTITY),
    "complex filter along axis 0": (NOT_CONJUGATED, IDENTITY),
    # dtype stays float64 by default, and both products are complex128.
    "complex filter, default dtype": (
        f"{NOT_CONJUGATED}; matvec returns dtype complex128, expected float64; "
        "rmatvec returns dtype complex128, expected float64",
        {"C02", *IDENTITY},
    ),
    # The result takes the shape of a filter that is longer than the model, so that all
    # columns but one are lost.
    "long filter along axis 0": (BROADCAST, {"C01"}),
    "long filter along axis 1": (BROADCAST, {"C01"}),
    "long filter of one column along axis 0": (
        r"rmatvec raised ValueError: cannot reshape array of size 7 into shape \(35,\)",
        {"C01"},
    ),
    # Columns change places and taps stay as they are; no hypothesis says so much.
    "long filters by column along axis 0": (".*", IDENTITY),
    # The part to keep is centred on half of axis 0 instead of axis 1, and wraps.
    "long filters by row along axis 1": (".*", IDENTITY),
    # The last axis is flipped instead of axis 0: nothing, where it has one column.
    "2-d filter of one column, axis 0": (
        r"the adjoint is the forward itself: the transpose is missing "
        r"\(the adjoint correlates with the unflipped kernel\)",
        IDENTITY,
    ),
    # Each column meets the unflipped filter of its mirror image.
    "2-d filter, axis 0": (".*", IDENTITY),
}


@pytest.fixture(scope="module")
def found():
    """The operators by name."""
    pylops = quietly("pylops")
    if pylops.__version__ != "2.8.0":
        pytest.skip(f"the findings are of PyLops 2.8.0, this is {pylops.__version__}")
    return {name: A for name, A, _ in pylops_findings()}


@pytest.fixture
def signal(found):
    """PyLops' signal processing, of the version that the findings are of."""
    return quietly("pylops.signalprocessing")


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


def test_every_finding_is_listed(found):
    assert found.keys() == FINDINGS.keys()


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_is_named_by_the_checks_that_it_fails(found, name):
    said, codes = FINDINGS[name]
    report = check_adjoint(found[name])
    assert re.fullmatch(said, report.diagnosis, re.DOTALL), report.diagnosis
    assert failed(report) == codes


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
    for name, A in found.items():
        said = dottests(A, probes)
        assert said == ({"ValueError"} if name in raised else {False}), name


def test_convolve1d_with_real_filters_is_right(signal):
    rng = np.random.default_rng(31207)
    for options in ({"dims": 20}, {"dims": (6, 7), "axis": 0}, {"dims": 3}):
        A = signal.Convolve1D(h=rng.standard_normal(5), offset=2, **options)
        assert check_adjoint(A).passed
        assert dottests(A, REAL) == {True}
