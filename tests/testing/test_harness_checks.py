"""Every check of the harness: what fails it alone, what passes it, when it does not apply.

And false alarms: a thousand tests of right operators, none of which may fail.
"""

import dataclasses
import re
import time

import numpy as np
import pytest
import scipy.fft
import scipy.sparse
from broken.blocks import MemoryOrder
from broken.contracts import raw_memory
from broken.entries import band
from broken.linearity import Around, clip, zero_over_zero
from broken.parts import Circulant, Dense, Faithful, Pair, conv, taps, valid
from broken.right import RealFFT
from broken.sharing import PAUSE, ForgetsTaps
from helpers import DTYPES, quietly, rotated

import linconv
from linconv.testing import check_adjoint
from linconv.testing.report import CHECKS
from linconv.testing.subjects import NumpyArrays, as_subject

F4, F8 = np.dtype("float32"), np.dtype("float64")


def rng(seed=829):
    return np.random.default_rng(seed)


def around(before=None, after=None, direction="matvec", dtype=F8):
    return Around(valid(dtype, rng()), before, after, direction)


def failed(report):
    return [check.code for check in report.failed]


# Operators that fail one check only


class ZeroesInput(Faithful):
    """Computes, then clears its input if it may."""

    def matvec(self, x):
        y = self.forward @ x
        if x.flags.writeable:
            x[...] = 0
        return y


class ByArray(Faithful):
    """Remembers results by the array object, which it keeps: new contents are not seen."""

    def __init__(self, matrix):
        super().__init__(matrix)
        self.seen = {}

    def matvec(self, x):
        return self.seen.setdefault(id(x), (x, self.forward @ x))[1].copy()

    def __getstate__(self):
        return {**self.__dict__, "seen": {}}


class Remembers(Faithful):
    """Returns the same array again for the same values."""

    last = np.zeros(0), np.zeros(0)

    def matvec(self, x):
        last = self.last
        if not np.array_equal(last[0], x):
            last = self.last = x.copy(), self.forward @ x
        return last[1]


class Scratch(Faithful):
    """Parks its input where another thread does."""

    def matvec(self, x):
        self.x = x.copy()
        time.sleep(PAUSE)
        return self.forward @ self.x


class ConjugatesComplex(Faithful):
    """A real operator that takes complex vectors and conjugates them."""

    def matvec(self, x):
        return (self.forward @ x).conj()


def more_for_sparse_input(x):
    """600 u more where a quarter of the input is zero."""
    more = np.mean(x == 0) > 0.25
    return x * x.dtype.type(1 + 300 * np.finfo(x.dtype).eps * more)


def slightly_scaled():
    M = taps((40, 50), F8, rng())
    return Pair(M, (1 + 8 * np.finfo(F8).eps) * M.T)


def corner_of_a_large_one():
    C = band(200_000, F4, rng())
    B = C.copy()
    B[0, 0] += 1e-4
    return Pair(C, B.T.tocsr())


def small_block_beside_a_large_one():
    """One entry off by a per cent, where everything else is ten million times larger."""
    M = np.zeros((40, 40), F4)
    M[:30, :30] = 1e7 * taps((30, 30), F4, rng())
    M[30:, 30:] = taps((10, 10), F4, rng())
    B = M.copy()
    B[33, 35] *= 1.01
    return Pair(M, B.T)


def kernel_made(wrong):
    return {"factory": lambda w: wrong(conv(w, (24,))), "kernel_shape": 5}


ALONE = {
    "C01": (lambda: around(None, lambda y: y.reshape(-1, 1)), {}),
    "C02": (lambda: around(None, lambda y: y.astype(float), dtype=F4), {}),
    "C03": (lambda: ZeroesInput(valid(F8, rng())), {}),
    "C04": (lambda: ByArray(valid(F8, rng())), {}),
    "C05": (lambda: Remembers(valid(F8, rng())), {}),
    "C07": (lambda: around(raw_memory), {}),
    "C08": (lambda: MemoryOrder(valid(F8, rng())), {}),
    "C09": (lambda: Scratch(valid(F8, rng())), {}),
    "C10": (lambda: ForgetsTaps(valid(F8, rng())), {}),
    "L00": (lambda: around(None, lambda y: y + 1e-30), {}),
    "L01": (lambda: around(clip), {}),
    "L02": (lambda: around(more_for_sparse_input, dtype=F4), {}),
    "L03": (lambda: ConjugatesComplex(valid(F8, rng())), {}),
    "A01": (slightly_scaled, {}),
    "A02": (corner_of_a_large_one, {}),
    "A03": (small_block_beside_a_large_one, {}),
    "E01": (lambda: around(), kernel_made(lambda C: Faithful(C + 0.3))),
    "E02": (lambda: around(), kernel_made(lambda C: Pair(C, 2 * C.T))),
    "R01": (lambda: around(), {"matrix": 2 * valid(F8, rng())}),
    "R02": (lambda: around(), {"reference": 2 * valid(F8, rng())}),
}


@pytest.mark.parametrize("code", ALONE)
def test_one_fault_fails_one_check(code):
    make, options = ALONE[code]
    report = check_adjoint(make(), **options)
    assert failed(report) == [code], str(report)
    assert report[code].message
    assert report.diagnosis
    assert not report[code].passed
    alone = check_adjoint(make(), only=code, **options)
    assert failed(alone) == [code], "the check finds it without the others"


def test_nan_fails_the_check_of_finite_results_and_is_named_before_what_follows():
    report = check_adjoint(around(zero_over_zero))
    assert "C06" in failed(report)
    assert report.causes == ("matvec returns NaN or infinity for a finite input",)
    assert {*ALONE, "C06"} == set(CHECKS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_right_operator_passes_every_check(dtype):
    A = linconv.Conv(taps((2, 3, 3, 2), dtype, rng()), (3, 5, 6), stride=(1, 2))
    report = check_adjoint(A, reference=A.tosparse())
    assert {check.status for check in report.checks} == {"passed"}, str(report)
    assert all(check.trials > 0 for check in report.checks)
    assert {check.unit for check in report.checks} == {"", "u", "sigma"}
    for check in report.checks:
        assert not check.error > check.tolerance, str(check)


# Checks that do not apply


class Nameless(Faithful):
    """No dtype."""

    def __init__(self, matrix):
        super().__init__(matrix)
        del self.dtype


class OneLayout(NumpyArrays):
    """An array library without strides."""

    layouts = ()


def with_lambdas():
    A = Faithful(valid(F8, rng()))
    A.hook = lambda x: x
    return A


def large():
    return Faithful(band(1700, F8, rng()))


def subject(**changes):
    return dataclasses.replace(as_subject(Faithful(valid(F8, rng()))), **changes)


def whole(scale, n=24):
    C = band(n, F8, rng())
    C.data = scale * np.rint(4 * C.data)
    return Faithful(C)


REAL_PAIR = (lambda x: x.real.copy(), lambda y: y.astype(complex))
REAL_OPTIONS = {"in_shape": 9, "dtype": complex, "real_linear": True}
NOT_APPLICABLE = [
    ("C02", "the operator promises no dtype", lambda: Nameless(valid(F8, rng())), {}),
    ("C07", "numpy has no such arrays", lambda: subject(arrays=OneLayout()), {}),
    ("C08", "the operator has neither matmat nor rmatmat", around, {}),
    ("C10", "a pair of functions is not pickled", lambda: (np.diff, None), {"in_shape": 4}),
    ("C10", "cannot be pickled: .*lambda", with_lambdas, {}),
    ("L03", "a real operator; complex vectors at level standard", around, {"level": "quick"}),
    ("L03", "refuses complex vectors", lambda: RealFFT(np.arange(1, 10), F8), {}),
    ("L03", "declared linear over the reals only", lambda: REAL_PAIR, REAL_OPTIONS),
    ("A03", "a real-linear operator has no complex matrix", lambda: REAL_PAIR, REAL_OPTIONS),
    ("A03", "more than 2,500,000 entries", large, {}),
    ("E01", "its results are not integers for integer inputs", around, {}),
    ("E01", "sums would exceed what is exact", lambda: whole(2.0**50), {}),
    ("E02", "inner products would exceed 64-bit", lambda: whole(2.0**40, 5000), {}),
    ("E01", "the inner product has weights", lambda: subject(weights=(1.0, 1.0)), {}),
    ("E02", "the inner product has weights", lambda: subject(weights=(1.0, 1.0)), {}),
    ("E02", "results are not integers", *ALONE["E01"]),
    ("R01", "the matrix is not known; give it as matrix=", around, {}),
    ("R02", "no reference= was given", around, {}),
    ("A01", "an earlier check ended the test", lambda: around(None, list), {}),
]


@pytest.mark.parametrize(("code", "reason", "make", "options"), NOT_APPLICABLE)
def test_a_check_that_does_not_apply_says_why_and_fails_nothing(code, reason, make, options):
    made = make()
    functions = made if isinstance(made, tuple) else (made,)
    if functions[0] is np.diff:
        functions = np.diff, lambda y: -np.diff(np.pad(y, 1))
    report = check_adjoint(*functions, **options)
    assert report[code].status == "not applicable", str(report)
    assert report[code].passed
    assert re.search(reason, report[code].message)


def test_who_ignores_imaginary_parts_is_named_also_where_that_is_no_fault():
    report = check_adjoint(around(np.real))
    assert report.passed
    assert report["L03"].status == "passed"
    words = "a real operator: matvec ignores imaginary parts; the other direction is right"
    assert report["L03"].message == words
    both = around(np.real)
    both.product = lambda matrix, x, direction: matrix @ x.real
    said = check_adjoint(both)["L03"]
    assert said.status == "not applicable"
    assert said.message.endswith(
        "matvec ignores imaginary parts and rmatvec ignores imaginary parts"
    )


def test_weights_of_the_inner_products_are_part_of_the_adjoint():
    C = valid(F8, rng())
    for weights in ((0.25, 4.0), (rng().uniform(1, 2, 24), rng().uniform(1, 2, 20))):
        w_in, w_out = weights
        right = as_subject(
            lambda x: C @ x, lambda y, a=w_in, b=w_out: C.T @ (b * y) / a, in_shape=24
        )
        assert check_adjoint(dataclasses.replace(right, weights=weights)).passed
        assert not check_adjoint(right).passed


# Contracts, one by one


@pytest.mark.parametrize("level", ["quick", "standard", "thorough"])
@pytest.mark.parametrize("direction", ["matvec", "rmatvec"])
def test_what_cannot_be_read_or_is_no_array_ends_the_test(level, direction):
    cases = [
        (lambda y: y.astype(object), "C02", "returns an unreadable array: dtype must be"),
        (lambda y: y.tolist(), "C01", "returned a list, expected an array"),
        (lambda y: np.ma.masked_array(y), "C01", "returned a MaskedArray, expected an array"),
        (lambda y: y[1:], "C01", r"returns shape \(\d+,\), expected \(\d+,\)"),
        (lambda y: y.nothing, "C01", "raised AttributeError: 'numpy.ndarray' object has no"),
    ]
    for after, code, words in cases:
        report = check_adjoint(around(None, after, direction), level=level)
        assert failed(report) == [code]
        assert re.search(rf"^{direction} {words}", report.diagnosis)
        assert len(report.causes) == 1


def test_faults_of_both_directions_are_both_named():
    class Both(Faithful):
        def matvec(self, x):
            return (self.forward @ x).reshape(-1, 1)

        def rmatvec(self, y):
            return (self.backward @ y).reshape(1, -1)

    report = check_adjoint(Both(valid(F8, rng())))
    assert "matvec returns shape (20, 1), expected (20,)" in report.diagnosis
    assert "rmatvec returns shape (1, 24), expected (24,)" in report.diagnosis


# False alarms


def sparse_operator(n, dtype, random):
    """A band of three to seven taps, random shape."""
    count = int(random.integers(3, 8))
    values = [np.full(n, value, dtype) for value in taps(count, dtype, random)]
    m = max(1, n - int(random.integers(0, count)))
    C = scipy.sparse.diags_array(values, offsets=range(count), shape=(m, n)).tocsr()
    return Faithful(C)


def fft_operator(n, dtype, random):
    """A circulant of random size by FFT, or an image of about that size."""
    shape = (n,) if random.random() < 0.5 else (max(2, int(n**0.5)),) * 2
    kernel = taps(shape, dtype, random)
    return Circulant(scipy.fft.fftn(kernel), dtype)


def own_operator(n, dtype, random):
    side = max(5, int((n / 2) ** 0.5))
    kernel = taps((3, 2, 3, 3), dtype, random)
    stride = int(random.integers(1, 3))
    return linconv.Conv(kernel, (2, side, side), stride=stride, padding=1)


def dense_operator(n, dtype, random):
    return Dense(taps((min(n, 90), 40), dtype, random))


def many(make, dtype, count, largest, seed):
    """Test so many operators of random size at random levels; return what was said."""
    random = np.random.default_rng(seed)
    said = []
    for _ in range(count):
        n = int(np.exp(random.uniform(np.log(25), np.log(largest))))
        level = "quick" if random.random() < 0.6 else "standard"
        # Entry by entry only where that takes a moment: most entries are elsewhere.
        left = ["A03"] if 400 < n < 1700 else []
        A = make(n, np.dtype(dtype), random)
        report = check_adjoint(
            A, level=level, seed=int(random.integers(1 << 30)), leave_out=left
        )
        if not report.passed:
            said.append(str(report))
    return said


MAKERS = [sparse_operator, fft_operator, own_operator, dense_operator]


@pytest.mark.parametrize(("part", "dtype", "make"), rotated(range(3), DTYPES, MAKERS))
def test_no_right_operator_fails(part, dtype, make):
    assert many(make, dtype, 12, 1e4, 8310 + part) == []


@pytest.mark.parametrize(("dtype", "make"), rotated(DTYPES, MAKERS[:2]))
def test_no_large_right_operator_fails(dtype, make):
    random = rng(8317)
    for level in ("quick", "standard"):
        A = make(100_003 if make is sparse_operator else 100_000, np.dtype(dtype), random)
        report = check_adjoint(A, level=level, seed=8318)
        assert report.passed, str(report)
        assert report["A03"].status == "not applicable"


@pytest.fixture(scope="module")
def torch():
    module = quietly("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)  # many small products: threads would only wait for each other
    yield module
    module.set_num_threads(threads)


def torch_operator(n, dtype, random):
    """conv2d and conv_transpose2d with the conjugate kernel."""
    functional, torch = quietly("torch.nn.functional"), quietly("torch")
    side = max(5, int((n / 2) ** 0.5))
    kernel = torch.from_numpy(taps((3, 2, 3, 3), dtype, random))
    return as_subject(
        lambda x: functional.conv2d(x[None], kernel)[0],
        lambda y: functional.conv_transpose2d(y[None], kernel.conj())[0],
        in_shape=(2, side, side),
        dtype=kernel.dtype,
    )


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_right_convolution_of_torch_fails(dtype, part):
    assert many(torch_operator, dtype, 8, 7200, 8320 + part) == []


class Doubled(linconv.Conv):
    """A right subclass with something of its own, which no constructor of Conv makes."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.factor = 2

    def _matmat(self, X):
        return self.factor * super()._matmat(X)

    def _rmatmat(self, X):
        return self.factor * super()._rmatmat(X)

    def _tosparse(self):
        return self.factor * super()._tosparse()

    def _tosparse_transposed(self):
        return self.factor * super()._tosparse_transposed()


@pytest.mark.parametrize("level", ["quick", "standard"])
def test_a_subclass_of_conv_is_tested_as_it_is(level):
    A = Doubled([1.0, 2.0, -1.0], 40, padding=1)
    for B in (A, A.T):
        report = check_adjoint(B, level=level)
        assert report.passed, report


@pytest.mark.parametrize("level", ["quick", "standard"])
@pytest.mark.parametrize("seed", [124, 487, 577, 595, 20111])
def test_long_sums_that_rise_and_fall_together_are_no_alarm(level, seed):
    # Mirrored edges far outside: six columns of 360 entries that are nearly proportional,
    # so a few residuals of additivity may all be small, and an image may nearly cancel.
    A = linconv.pad((3, 2), [(9, 8), (9, 7)], boundary="antireflect")
    report = check_adjoint(A, level=level, seed=seed)
    assert report.passed, report
    assert next(check for check in report.checks if check.code == "A01").error < 5


def test_noise_of_even_images_is_not_raised_by_their_number():
    report = check_adjoint(linconv.Conv(np.ones((3, 3)), (40, 40)), level="quick", seed=5)
    long_sums = check_adjoint(np.ones((1, 1444)), level="quick", seed=5)
    assert report.resolution < 10 * np.sqrt(8) * 2**-53  # 10 sigma of at most 2 u a side
    assert long_sums.resolution > 4 * report.resolution
