"""The harness' own mutation test: every broken operator is caught and rightly named.

And every right one passes.  One seed for each dtype: what is said must not hang on luck.
"""

import re
import warnings

import numpy as np
import pytest
from broken import CATALOGUE, RIGHT, pylops_findings
from helpers import SEEDS, rotated

from linconv.testing import check_adjoint

LEVELS = ("standard", "quick")
BROKEN = [
    case
    for i, member in enumerate(CATALOGUE)
    for turn in [i % len(member.dtypes)]
    for case in rotated((*member.dtypes[turn:], *member.dtypes[:turn]), LEVELS, [member])
]
RIGHTS = rotated(tuple(SEEDS), LEVELS, RIGHT)
# The families of faults that the catalogue must have; it may have others.
FAMILIES = {
    *("conjugation", "flip", "axes", "channels", "shift", "stride phase", "dilation"),
    *("output padding", "boundary", "scale", "rows", "precision", "affine", "non-linear"),
    *("NaN", "state", "input modified", "aliasing", "matmat", "dtype", "shape"),
    *("threads", "pickling"),
}


def report_on(member, dtype, level, **options):
    """Make a member of the catalogue and test it, by the seed of its dtype."""
    seed = SEEDS[dtype]
    operator = member.make(np.dtype(dtype), np.random.default_rng(seed))
    return check_adjoint(operator, level=level, seed=seed, **options)


@pytest.mark.parametrize(("dtype", "level", "member"), BROKEN, ids=str)
def test_a_broken_operator_fails_and_its_fault_is_named(dtype, level, member):
    report = report_on(member, dtype, level, **member.options)
    assert not report.passed
    assert re.search(member.diagnosis, report.diagnosis), f"said: {report.diagnosis}"


@pytest.mark.parametrize(("dtype", "level", "member"), RIGHTS, ids=str)
def test_a_right_operator_passes_without_a_word(dtype, level, member):
    report = report_on(member, dtype, level)
    assert report.passed, str(report)
    assert report.diagnosis == ""
    assert report.entries == ()


def test_the_catalogue_has_fifty_members_of_every_family_and_no_two_of_one_name():
    assert len(CATALOGUE) >= 50
    assert {member.family for member in CATALOGUE} >= FAMILIES
    for members in (CATALOGUE, RIGHT):
        names = [(getattr(member, "family", ""), member.name) for member in members]
        assert len(set(names)) == len(names)


def test_every_diagnosis_asked_for_says_something():
    for member in CATALOGUE:
        assert member.dtypes
        assert set(member.dtypes) <= set(SEEDS), member
        # "." stands for a fault that depends on chance: any diagnosis, but not none.
        silent = re.search(member.diagnosis, "") is not None
        assert not silent, f"{member}: an empty diagnosis would do"


@pytest.fixture(scope="module")
def findings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("pylops", exc_type=ImportError)
        return pylops_findings()


@pytest.mark.parametrize("level", LEVELS)
def test_the_faults_of_a_published_library_are_found_and_named(findings, level):
    assert len(findings) >= 10
    said = {}
    for name, operator, diagnosis in findings:
        report = check_adjoint(operator, level=level, seed=3069)
        if report.passed or not re.search(diagnosis, report.diagnosis):
            said[name] = report.diagnosis or "passed"
    assert said == {}
