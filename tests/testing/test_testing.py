"""check_adjoint and assert_adjoint as a caller sees them: options, reports, errors."""

import dataclasses
import pickle

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from broken.entries import band
from broken.parts import Faithful, Pair, conv, taps, valid
from helpers import DTYPES

import linconv
import linconv.testing
from linconv.testing import AdjointError, AdjointReport, assert_adjoint, check_adjoint
from linconv.testing.adjoint import LEVELS, SEED
from linconv.testing.report import CHECKS
from linconv.testing.subjects import as_subject

CODES = set(CHECKS)


def rng(seed=617):
    return np.random.default_rng(seed)


def matrix(dtype="float64"):
    """Return the 20 x 24 matrix of five taps."""
    return valid(np.dtype(dtype), rng())


def right(dtype="float64"):
    return Faithful(matrix(dtype))


def damaged(dtype="float64", place=(7, 9), factor=1.01):
    """Return an operator with a wrong entry in its adjoint, and its right matrix."""
    C = matrix(dtype)
    B = C.copy()
    B[place] *= factor
    return Pair(C, B.conj().T), C


def ran(report):
    """Return the codes of the checks that were not left out."""
    return {check.code for check in report.checks if check.status != "left out"}


def failed(report):
    return [check.code for check in report.failed]


def timeless(report):
    """Return the report's text, less the time it took."""
    return str(dataclasses.replace(report, seconds=0.0))


# Operators, options and reports


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_everybodys_right_operators_pass(dtype, level):
    C = matrix(dtype)
    subjects = [
        C,
        scipy.sparse.csr_array(C),
        scipy.sparse.linalg.aslinearoperator(C),
        linconv.Conv(taps((2, 3, 3, 3), dtype, rng()), (3, 5, 6)),
        Faithful(C),
    ]
    for subject in subjects:
        report = assert_adjoint(subject, level=level)
        assert isinstance(report, AdjointReport)
        assert report.passed
        assert (report.causes, report.entries, report.diagnosis) == ((), (), "")
        assert (report.dtype, report.level, report.seed) == (np.dtype(dtype), level, SEED)


def test_integers_and_lists_are_taken_for_matrices():
    assert check_adjoint([[1, 2, 3], [4, 5, 6]]).passed
    assert check_adjoint(linconv.Conv([1, 2], 5)).passed
    zero = check_adjoint(np.zeros((3, 4)))
    assert (zero.passed, zero.error, zero.resolution) == (True, 0, 0)


def test_two_functions_of_shaped_arrays_are_a_pair():
    def forward(x):
        return x[1:] - x[:-1]

    def adjoint(y):
        return -np.diff(np.pad(y, ((1, 1), (0, 0))), axis=0)

    report = check_adjoint(forward, adjoint, in_shape=(7, 3))
    assert report.passed, str(report)
    assert report.shape == (18, 21)
    assert not check_adjoint(forward, lambda y: -adjoint(y), in_shape=(7, 3)).passed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_report_says_how_large_the_mismatch_is_and_what_a_pass_excludes(level, dtype):
    fine = check_adjoint(right(dtype), level=level)
    u = np.finfo(dtype).eps / 2
    assert 0 <= fine.error < 8 * u < fine.resolution < 100 * u
    operator, _ = damaged(dtype, factor=2)
    report = check_adjoint(operator, level=level)
    assert report.error > 1000 * u
    assert set(failed(report)) >= ({"A01"} if level == "quick" else {"A01", "A02", "A03"})
    assert report.entries[0].index == (7, 9)
    assert report.entries[0].got == pytest.approx(2 * report.entries[0].expected)


def test_assert_adjoint_raises_an_assertion_error_that_carries_the_report():
    operator, _ = damaged()
    with pytest.raises(AdjointError, match=r"adjoint test FAILED: .* \(20, 24\)") as caught:
        assert_adjoint(operator, level="quick", seed=515)
    report = caught.value.report
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value) == report.summary
    assert str(report).startswith(report.summary.splitlines()[0])
    assert (report.passed, report.level, report.seed) == (False, "quick", 515)
    assert "a single wrong entry" in report.diagnosis
    assert report.diagnosis in str(report)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is AdjointError
    assert str(copy.report) == str(report)


def test_public_names_are_listed_and_others_are_refused():
    assert set(linconv.testing.__all__) <= set(dir(linconv.testing))
    assert linconv.testing.check_adjoint is check_adjoint
    with pytest.raises(AttributeError, match=r"'linconv\.testing' has no attribute 'check'"):
        linconv.testing.check  # noqa: B018


# Errors


WRONG_OPTIONS = [
    ("level", "slow", "level must be one of quick, standard, thorough, got 'slow'"),
    ("only", ["A01", "A99"], "no check is called 'A99'; there are C01, C02"),
    ("leave_out", "sideways", "no check is called 'sideways'"),
    ("matrix", matrix().T, r"matrix has shape \(24, 20\), but the operator has .* \(20, 24\)"),
    ("in_shape", (5, 5), r"in_shape \(5, 5\) has 25 entries, expected 24"),
    ("factory", right, "needs both factory= and kernel_shape=, got one of them"),
    ("kernel_shape", 5, "needs both factory= and kernel_shape=, got one of them"),
    ("seed", -1, "seed must be >= 0, got -1"),
]


@pytest.mark.parametrize(("option", "value", "words"), WRONG_OPTIONS)
def test_an_option_that_does_not_fit_is_named_with_what_would(option, value, words):
    with pytest.raises(ValueError, match=words):
        check_adjoint(right(), **{option: value})


def test_a_seed_is_a_whole_number():
    with pytest.raises(TypeError, match=r"seed must be an integer, got None"):
        check_adjoint(right(), seed=None)


def test_what_is_no_operator_is_refused():
    with pytest.raises(TypeError, match=r"expected an operator of linconv.*got str"):
        check_adjoint("operator")
    empty = {"in_shape": (0,), "call_in_shape": (0,), "rewrap": None}
    empty = dataclasses.replace(as_subject(right()), **empty)
    with pytest.raises(ValueError, match=r"nothing to test: the shape is \(20, 0\)"):
        check_adjoint(empty)


# Levels and seeds


def test_higher_levels_take_more_products():
    A = Faithful(band(2003, np.dtype("float64"), rng()))
    counts = [check_adjoint(A, level=level).products for level in LEVELS]
    assert sorted(counts) == counts
    assert len(set(counts)) == 3


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_seed_gives_the_same_report_and_another_seed_other_errors(level):
    operator, _ = damaged()
    for A in (right(), linconv.Conv(taps((3, 3), "f8", rng()), (6, 7)), operator):
        first, again, other = (check_adjoint(A, level=level, seed=s) for s in (733, 733, 734))
        assert timeless(first) == timeless(again)
        assert first.error == again.error
        assert first.error != other.error
        assert first["A01"].error != other["A01"].error
        assert first.seconds > 0


def test_what_the_caller_does_with_random_numbers_changes_nothing():
    A = right("complex64")
    np.random.seed(733)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = check_adjoint(A)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(734)  # noqa: NPY002
    assert timeless(first) == timeless(check_adjoint(A))


# The choice of checks


@pytest.mark.parametrize("code", CHECKS)
def test_one_check_can_be_run_alone_or_left_out_by_code_or_name(code):
    A = linconv.Conv(taps(3, "c16", rng()), 9)
    for name in (code, CHECKS[code]):
        alone = check_adjoint(A, only=name)
        assert ran(alone) == {code}
        assert ran(check_adjoint(A, leave_out=[name])) == CODES - {code}
    assert alone.passed
    assert alone[code].status == ("not applicable" if code == "R02" else "passed")
    assert "left out: C01" in str(check_adjoint(A, only=["L00"]))


def test_only_and_leave_out_go_together():
    report = check_adjoint(right(), only=("A01", "A02", "pickling"), leave_out="C10")
    assert ran(report) == {"A01", "A02"}


def test_a_fault_that_no_chosen_check_looks_at_is_not_reported():
    operator, _ = damaged()
    assert failed(check_adjoint(operator, only=["C03", "L01"])) == []
    assert failed(check_adjoint(operator, leave_out=["A01", "A02"])) == ["A03"]


def test_a_product_that_raises_is_reported_whatever_checks_were_chosen():
    class Raises(Faithful):
        def rmatvec(self, y):
            raise self.error

    A = Raises(matrix())
    for A.error, said in (RuntimeError("no\n device"), ": no device"), (KeyError(), ""):
        report = check_adjoint(A, only="A01")
        assert failed(report) == ["C01"]
        assert report.diagnosis == f"rmatvec raised {type(A.error).__name__}{said}"
        assert np.isnan(report.error)
        assert np.isnan(report.resolution)


# Shapes


def test_in_shape_and_out_shape_name_the_axes_of_a_flat_operator():
    C = matrix()
    lost = Pair(C, (C * (np.arange(20) // 4 != 2)[:, None]).T)
    flat = check_adjoint(lost)
    named = check_adjoint(lost, in_shape=(4, 6), out_shape=(5, 4))
    assert "axis 0" not in flat.diagnosis or "index 2" not in flat.diagnosis
    assert named.diagnosis == "wrong only at index 2 along axis 0 of the output: missing"
    channel = check_adjoint(lost, in_shape=(4, 3, 2), out_shape=(5, 2, 2))
    assert channel.diagnosis == "wrong only in output channel 2: missing"
    assert named.shape == channel.shape == (20, 24)


# matrix=


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_operator_has_the_known_matrix(dtype):
    C = matrix(dtype)
    for known in (C, scipy.sparse.csc_array(C), scipy.sparse.coo_matrix(C), C.tolist()):
        report = check_adjoint(right(dtype), matrix=known)
        assert report["R01"].status == "passed"
        assert report.passed, str(report)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_operator_whose_matrix_is_another_is_told_the_entry(dtype, level):
    C = matrix(dtype)
    known = C.copy()
    known[7, 9] *= 1 + 1e-3
    report = check_adjoint(right(dtype), matrix=known, level=level)
    assert failed(report) == ["R01"]
    assert "a single wrong entry: (7, 9)" in report.diagnosis
    assert {entry.index for entry in report.entries} == {(7, 9)}
    assert report.entries[0].expected == pytest.approx(complex(known[7, 9]))
    assert report.entries[0].got == pytest.approx(complex(C[7, 9]))


def test_a_known_matrix_says_which_direction_is_wrong():
    operator, C = damaged()
    report = check_adjoint(operator, matrix=C)
    assert "a single wrong entry: (7, 9)" in report.diagnosis
    assert "rmatvec" in report["R01"].message
    assert r"matvec" not in report["R01"].message.replace("rmatvec", "")
    report = check_adjoint(Faithful(2 * C), matrix=C)
    assert failed(report) == ["R01"]
    assert "forward = 2 x the true forward" in report.diagnosis
    assert "adjoint = 2 x the true adjoint" in report.diagnosis


# reference=


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_reference_may_be_a_function_an_operator_or_a_matrix(dtype):
    w = taps((3, 3), dtype, rng())
    A = linconv.Conv(w, (6, 7))
    independent = conv(w, (6, 7)).reshape(20, 42)
    references = [
        lambda x: np.tensordot(conv(w, (6, 7)), x),  # an image in, an image out
        lambda x: independent @ x.ravel(),
        Faithful(independent),
        scipy.sparse.linalg.aslinearoperator(independent),
        linconv.Conv(w, (6, 7)),
        scipy.sparse.coo_array(independent),
        independent,
    ]
    for reference in references:
        report = check_adjoint(A, reference=reference)
        assert report["R02"].status == "passed", str(report)
        assert report.passed


def test_a_forward_that_differs_from_its_reference_is_told_the_output():
    w = taps((3, 3), "f8", rng())
    A = linconv.Conv(w, (6, 7))
    other = conv(w, (6, 7))
    other[2, 3] *= 1.5
    report = check_adjoint(A, reference=other.reshape(20, 42))
    assert failed(report) == ["R02"]
    assert report.diagnosis == "the forward differs from the reference, most at output (2, 3)"


def test_a_reference_of_another_size_or_that_raises_is_said_to():
    A = right()
    report = check_adjoint(A, reference=lambda x: x)
    assert report.diagnosis == "the reference returns shape (24,), expected (20,)"
    report = check_adjoint(A, reference=lambda x: 1 / [])
    assert report.diagnosis.startswith("the reference raised TypeError: unsupported operand")
    assert failed(report) == ["R02"]


# factory=


def built(w):
    return Faithful(conv(w, (24,)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_mode_runs_on_an_operator_made_with_whole_numbers(dtype, level):
    seen = []

    def factory(w):
        seen.append(w)
        return built(w)

    A = built(taps(5, dtype, rng()))
    report = check_adjoint(A, factory=factory, kernel_shape=5, level=level)
    assert report.passed, str(report)
    assert (report["E01"].status, report["E02"].status) == ("passed", "passed")
    assert 0 < report.miss_probability < 1e-3
    (w,) = seen
    assert (w.shape, w.dtype) == ((5,), np.dtype(dtype))
    parts = np.array([w.real, w.imag]) if w.dtype.kind == "c" else w
    assert np.isin(np.abs(parts), (1, 2, 3)).all()
    assert check_adjoint(A).miss_probability is None


def test_a_factory_may_return_two_functions():
    def factory(w):
        return (
            lambda x: np.convolve(x, w, "valid"),
            lambda y: np.convolve(y, w[::-1].conj(), "full"),
        )

    report = check_adjoint(built(taps(5, "c16", rng())), factory=factory, kernel_shape=(5,))
    assert report["E02"].status == "passed", str(report)


def test_a_factory_with_a_wrong_adjoint_fails_in_whole_numbers():
    def factory(w):
        return Pair(conv(w, (24,)), conv(w[::-1], (24,)).conj().T)

    report = check_adjoint(built(taps(5, "f4", rng())), factory=factory, kernel_shape=5)
    assert failed(report) == ["E02"]
    assert "<y, C x> = " in report["E02"].message
    assert report.diagnosis


# deterministic= and real_linear=


class Jittering(Faithful):
    """The last bit is random, as it is where atomic sums race."""

    def __init__(self, matrix):
        super().__init__(matrix)
        self.noise = rng(618)

    def jitter(self, y):
        one = y.real.dtype.type(1)
        return y * (one + np.finfo(y.dtype).eps * self.noise.integers(-1, 2, y.shape)).astype(
            one.dtype
        )

    def matvec(self, x):
        return self.jitter(self.forward @ x)

    def rmatvec(self, y):
        return self.jitter(self.backward @ y)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_in_the_last_bit_passes_only_where_it_is_declared(dtype, level):
    A = Jittering(matrix(dtype))
    report = check_adjoint(A, level=level)
    assert {"C04", "L01"} >= set(failed(report)) > set()
    assert "gives different results for the same input" in report.diagnosis
    report = check_adjoint(A, level=level, deterministic=False)
    assert report.passed, str(report)
    flaky = Pair(A.forward, 1.01 * A.backward)
    assert not check_adjoint(flaky, level=level, deterministic=False).passed


def real_part(x):
    return x.real.copy()


def made_complex(y):
    return y.astype(complex)


@pytest.mark.parametrize("level", LEVELS)
def test_an_operator_linear_over_the_reals_only_passes_where_that_is_declared(level):
    pair = {"in_shape": 12, "dtype": complex, "level": level}
    report = check_adjoint(real_part, made_complex, real_linear=True, **pair)
    assert report.passed, str(report)
    assert report["L03"].message == "declared linear over the reals only"
    report = check_adjoint(real_part, made_complex, **pair)
    assert "keeps only the real part" in report.diagnosis
    for function in (np.conj, lambda x: x + 0.5 * x.conj()):
        report = check_adjoint(function, function, real_linear=True, **pair)
        assert report.passed, str(report)
    report = check_adjoint(real_part, lambda y: 2 * made_complex(y), real_linear=True, **pair)
    assert {"A01", "A02"} <= set(failed(report))
    assert not check_adjoint(real_part, lambda y: 1j * y, real_linear=True, **pair).passed


# Products

SEEN = {"forward": [], "adjoint": []}


class Counted(Faithful):
    """Counts products over all copies; appends, for ``+=`` is not safe in threads."""

    def matvec(self, x):
        SEEN["forward"].append(1)
        return self.forward @ x

    def rmatvec(self, y):
        SEEN["adjoint"].append(1)
        return self.backward @ y


class CountedBlocks(Counted):
    def matmat(self, X):
        SEEN["forward"].append(X.shape[1])
        return self.forward @ X

    def rmatmat(self, Y):
        SEEN["adjoint"].append(Y.shape[1])
        return self.backward @ Y


@pytest.mark.parametrize("whole", [False, True], ids=["any numbers", "whole numbers"])
@pytest.mark.parametrize("kind", [Counted, CountedBlocks])
@pytest.mark.parametrize("shape", [(2520,), (42, 60), (6, 12, 35), (3, 7, 8, 15)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_quick_takes_30_and_standard_60_products_each_way(dtype, shape, kind, whole):
    C = band(2520, np.dtype(dtype), rng())
    C = scipy.sparse.vstack([C, C[:2]])
    if whole:
        C.data = np.rint(3 * C.data)
    A = kind(C, shape, shape)
    for level, most in (("quick", 30), ("standard", 60)):
        SEEN.update(forward=[], adjoint=[])
        report = check_adjoint(A, level=level, matrix=C)
        assert report.passed, str(report)
        assert (sum(SEEN["forward"]), sum(SEEN["adjoint"])) == report.products
        assert max(report.products) <= most, str(report)
        assert report["E02"].status == ("passed" if whole else "not applicable")
        assert report["C08"].status == ("not applicable" if kind is Counted else "passed")


class OfStrided(Faithful):
    """Wrong by a factor, for strided inputs only."""

    factor = 1.5

    def matvec(self, x):
        return super().matvec(x) * (1 if x.strides[0] == x.itemsize else self.factor)


class RoundsStrided(OfStrided):
    """Right, but rounds otherwise for strided inputs."""

    factor = 1 + 2.0**-50


def test_layouts_and_multiples_are_judged_apart():
    report = check_adjoint(RoundsStrided(matrix()), level="quick")
    assert report.passed, str(report)
    assert report["C07"].error > 0
    report = check_adjoint(OfStrided(matrix()), level="quick")
    assert failed(report) == ["C07"], str(report)
    assert "strided" in report.diagnosis
    assert check_adjoint(OfStrided(matrix()), level="quick", only=["L01"]).passed
    assert failed(check_adjoint(OfStrided(matrix()), level="quick", only=["C07"])) == ["C07"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_own_convolution_stays_within_as_many_products(dtype):
    A = linconv.Conv(taps((3, 3, 3, 3), dtype, rng()), (3, 30, 31), padding=1)
    for level, most in (("quick", 30), ("standard", 60)):
        report = check_adjoint(A, level=level)
        assert report.passed, str(report)
        assert max(report.products) <= most, str(report)
        assert {report[code].status for code in ("C08", "E01", "E02", "R01")} == {"passed"}
