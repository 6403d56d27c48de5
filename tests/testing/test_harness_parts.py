"""Parts of the harness: probes, turns of threads, reports, exact mode, causes, large sizes."""

import dataclasses
import functools
import gc
import itertools
import math
import pickle
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import scipy.fft
import scipy.sparse
from broken.contracts import Same
from broken.entries import band
from broken.linearity import Around, add_bias, clip, relu
from broken.parts import Circulant, Dense, Faithful, Pair, Wrapped, taps, valid
from helpers import DTYPES, few
from numpy.testing import assert_allclose, assert_array_equal

import linconv
from linconv.testing import AdjointError, check_adjoint
from linconv.testing.checks import inner, interleave, probes
from linconv.testing.checks.inner import Vectors
from linconv.testing.checks.interleave import interleaved
from linconv.testing.checks.session import finite
from linconv.testing.report import CHECKS

F4, F8, C16 = np.dtype("float32"), np.dtype("float64"), np.dtype("complex128")


def rng(seed=919):
    return np.random.default_rng(seed)


# Probes


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_probes_have_zero_mean_unit_variance_and_some_zeros(dtype):
    x = probes.gaussian(rng(), 20_000, np.dtype(dtype))
    assert x.dtype == dtype
    assert abs(np.mean(x)) < 0.04
    assert abs(np.mean(probes.power(x)) - 1) < 0.1
    assert 0.04 < np.mean(x == 0) < 0.08
    assert np.all(probes.gaussian(rng(), 15, np.dtype(dtype)) != 0)
    w = probes.whole(rng(), 1000, np.dtype(dtype), 5)
    parts = [w.real, w.imag] if w.dtype.kind == "c" else [w]
    for part in parts:
        assert set(np.unique(part)) == {*range(-5, 0), *range(1, 6)}


def bits(x):
    """Return the most significant bits that any part of x has."""
    parts = np.concatenate([np.real(x), np.imag(x)]) if x.dtype.kind == "c" else x
    mantissas = np.frexp(parts[parts != 0].astype(float))[0]
    return max(math.ceil(math.log2(Fraction(m).denominator)) for m in mantissas.tolist())


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_splits_are_exact_and_halves_have_half_the_bits(dtype):
    x = probes.gaussian(rng(), 500, np.dtype(dtype)) * np.dtype(dtype).type(3)
    p = np.finfo(dtype).nmant + 1
    for split in (
        probes.halves(x),
        probes.masked(rng(), x),
        probes.both_splits(rng(), x),
    ):
        assert [part.dtype for part in split] == [x.dtype, x.dtype]
        assert_array_equal(split[0] + split[1], x)
        assert all(np.any(part) for part in split)
    high, low = probes.halves(x)
    assert bits(high) <= p // 2
    assert bits(low) <= p - p // 2
    a, b = probes.masked(rng(), x)
    assert not np.any((a != 0) & (b != 0))
    a, _ = probes.both_splits(rng(), x)
    assert_array_equal(np.where(a == 0, 0, a), np.where(a == 0, 0, high))


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("shape", [(1,), (7,), (4, 5), (3, 4, 5), (1, 6)])
def test_structured_probes_cover_corners_faces_channels_and_the_tail(shape, few):
    values = probes.gaussian(rng(), math.prod(shape), F8).reshape(shape)
    found = dict(probes.structured(rng(), values, few))
    n = math.prod(shape)
    assert all(x.shape == (n,) and x.dtype == F8 and np.any(x) for x in found.values())
    assert_array_equal(np.flatnonzero(found["the last 0.1 %"]), [n - 1])
    support = {name: x.reshape(shape) != 0 for name, x in found.items()}
    face = np.zeros(shape, bool)
    corner = np.ones(shape, bool)
    for axis, length in enumerate(shape):
        at = np.arange(length)
        end = (at == 0) | (at == length - 1)
        end = end.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        face |= end
        corner &= end
    assert_array_equal(support["faces" if few else "all faces"], face)
    corners = [s for name, s in support.items() if name.startswith("corner")]
    assert np.all(corner[np.any(corners, axis=0)])
    assert corners[0].flat[0]
    assert corners[-1].flat[-1]
    if few:
        assert_array_equal(corners[0], corner)
        assert len(found) == 3
        return
    assert_array_equal(found["ones"], np.ones(n))
    assert np.count_nonzero(support["centre"]) == 1
    channels = [s for name, s in support.items() if name.startswith("channel")]
    assert len(channels) == (min(3, shape[0]) if len(shape) > 1 else 0)
    assert sum(name.startswith("sample") for name in found) in (1, 2)


def test_the_tail_of_a_large_vector_is_a_thousandth():
    found = dict(probes.structured(rng(), np.arange(5000.0), True))
    assert_array_equal(np.flatnonzero(found["the last 0.1 %"]), np.arange(4995, 5000))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inner_products_are_far_more_accurate_than_the_operator(dtype):
    n = 70_003  # no multiple of any block
    Y, X = (np.stack([taps(n, dtype, rng(seed + k)) for k in range(3)]) for seed in (920, 930))
    got, powers = inner.products(Vectors(Y), Vectors(X))
    assert_allclose(powers, (np.abs(Y) ** 2) @ (np.abs(X) ** 2).T, rtol=1e-5)
    for b in range(3):
        for a in range(3):
            real, imag = exact_inner(Y[b], X[a])
            size = np.linalg.norm(Y[b]) * np.linalg.norm(X[a])
            gap = abs(got[b, a].real - real) + abs(got[b, a].imag - imag)
            assert gap <= 0.05 * probes.unit(np.dtype(dtype)) * size
    zeros = inner.gram(Vectors(0 * Y[:2]), Vectors(X))
    assert_array_equal(zeros, np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inner_products_cancel_to_far_below_double_precision(dtype):
    Y = taps(30_001, dtype, rng(940))
    X = taps(30_001, dtype, rng(941))
    order = rng(942).permutation(30_001)
    gap = inner.gram(Vectors([Y]), Vectors([X])) - inner.gram(
        Vectors([Y[order]]), Vectors([X[order]])
    )
    size = np.linalg.norm(Y) * np.linalg.norm(X)
    assert np.abs(gap[0, 0]) <= 0.01 * probes.unit(np.dtype(dtype)) * size


def test_inner_products_of_scaled_mixed_and_sparse_vectors():
    n = 5000
    x, y = taps(n, "float64", rng(950)), taps(n, "complex128", rng(951))
    few = np.where(np.arange(n) % 9 == 4, x, 0)
    for a, b in ((few, y), (y, few), (x, y), (y, x), (few, few), (x, few)):
        real, imag = exact_inner(a, b)
        got = inner.gram(Vectors([a], 4.0), Vectors([b], 0.5))[0, 0] * 2
        gap = abs(got.real - real) + abs(got.imag - imag)
        assert gap <= 1e-15 * np.linalg.norm(a) * np.linalg.norm(b)
    huge = Vectors([x * 2.0**600], 2.0**600)
    assert_allclose(huge.energy, [np.linalg.norm(x) ** 2], rtol=1e-12)
    half = Vectors([np.full(1000, 200, np.float16)])
    assert_allclose(half.energy, [4e7])


def exact_inner(y, x):
    """Return both parts of sum conj(y) x, each product split so that fsum is exact enough."""
    y, x = y.astype(complex), x.astype(complex)
    real = [y.real * x.real, y.imag * x.imag]
    imag = [y.real * x.imag, -y.imag * x.real]
    lost = [
        [remainder(y.real, x.real), remainder(y.imag, x.imag)],
        [remainder(y.real, x.imag), -remainder(y.imag, x.real)],
    ]
    return [
        math.fsum(np.concatenate([*products, *left]))
        for products, left in zip((real, imag), lost, strict=True)
    ]


def remainder(a, b):
    """Return what rounding takes from a b, exactly (Dekker)."""
    (ah, al), (bh, bl) = probes.halves(a), probes.halves(b)
    return ((ah * bh - a * b) + ah * bl + al * bh) + al * bl


# Threads that take turns


@pytest.fixture
def patient(monkeypatch):
    """Seconds that a busy machine may take before it ends the turns."""
    seconds = 10.0
    monkeypatch.setattr(interleave, "_PATIENCE", seconds)
    return seconds


def logger(log, me, count=30):
    def job():
        for _ in range(count):
            log.append(me)
        return me

    return job


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("paces", [(1, 1), (2, 2), (3, 3), (1, 3)])
def test_two_threads_really_take_turns(paces):
    log = []
    jobs = [logger(log, me) for me in (0, 1)]
    assert interleaved(jobs, paces, steps=100) == [0, 1]
    assert sorted(log) == [0] * 30 + [1] * 30
    switches = sum(a != b for a, b in itertools.pairwise(log))
    assert switches >= 15, log
    assert max(log.index(0), log.index(1)) < 10, "both are under way before either ends"


@pytest.mark.usefixtures("patient")
def test_turns_end_after_so_many_steps():
    log = []
    interleaved([logger(log, me, 60) for me in (0, 1)], (2, 2), steps=3)
    switches = sum(a != b for a, b in itertools.pairwise(log))
    assert 1 <= switches <= 8


def test_a_lost_update_is_met_every_time():
    state = {"sum": 0}

    def add():
        seen = state["sum"]
        state["sum"] = seen + 1

    met = 0
    for _ in range(5):
        state["sum"] = 0
        interleaved([add, add], (1, 1), steps=100)
        met += state["sum"] == 1
    assert met >= 4, "one may be lost to a busy machine"


def test_a_lost_update_is_met_while_other_libraries_watch_the_garbage_collector():
    state = {"sum": 0, "lines": 0}

    def watch(phase, info):
        state["lines"] += 1
        state["lines"] += 2
        state["lines"] += 3

    def add():
        seen = [state["sum"]]
        state["sum"] = [[*seen], [], seen[0] + 1].pop()

    before = gc.get_threshold()
    gc.callbacks.append(watch)
    gc.set_threshold(1)
    try:
        interleaved([add, add], (1, 1), steps=40)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(watch)
    assert state["sum"] == 1
    assert gc.isenabled()


def test_exceptions_come_back_and_the_other_thread_goes_on():
    def fails():
        total = 1
        total += 1
        raise ValueError(f"at {total}")

    log = []
    for jobs in ([fails, logger(log, 1)], [logger(log, 0), fails]):
        outcomes = interleaved(jobs, (1, 1), steps=50)
        assert sum(isinstance(outcome, ValueError) for outcome in outcomes) == 1
    assert len(log) == 60
    assert interleaved([], (), steps=5) == []
    assert interleaved([logger(log, 7)], (1,), steps=5) == [7]


def test_nobody_waits_for_a_job_that_is_through(patient):
    begun = time.perf_counter()
    # Compiled code has no line of Python, at which to hand over.
    here = functools.partial(threading.get_ident)
    assert len(set(interleaved([here, here, threading.get_ident], (1, 1, 1), steps=5))) == 3
    assert time.perf_counter() - begun < patient


def test_a_long_job_in_compiled_code_meets_the_others():
    ends = {}

    def ends_at():
        ends["second"] = time.perf_counter()

    sleep = functools.partial(time.sleep, 1.0)
    interleaved([sleep, ends_at], (1, 1), steps=5)
    assert ends["second"] < time.perf_counter() - 0.3, "before the first ends"


def test_norms_of_numbers_whose_squares_leave_the_range():
    for scale in (1.0, 2.0**600, 2.0**-600):
        assert probes.norm(np.array([3.0, -4.0]) * scale) == 5 * scale
        assert probes.norm(np.array([3.0, 4.0j]) * scale) == 5 * scale
        assert probes.rms(np.array([3.0, -3.0]) * scale) == pytest.approx(3 * scale, rel=1e-15)
    assert probes.norm(np.full(100, 200, np.float16)) == 2000
    assert probes.norm(np.zeros(3)) == probes.rms(np.zeros(0)) == 0
    assert not np.isfinite(probes.norm(np.array([1.0, np.inf])))
    assert np.isnan(probes.norm(np.array([1.0, np.nan])))


def test_finite_says_so_also_of_numbers_whose_squares_are_not():
    assert finite(np.array([1e300, -1e300]))
    assert finite(np.zeros(0))
    for bad in (np.nan, np.inf, -np.inf):
        for dtype in ("float16", *DTYPES):
            assert not finite(np.array([1, bad, 1e3], dtype))


def test_a_job_that_holds_a_lock_does_not_hang():
    lock, log = threading.Lock(), []

    def job():
        for _ in range(20):
            with lock:
                log.append("in")
                log.append("out")
        return len(log)

    before = sys.gettrace()
    outcomes = interleaved([job, job, job], (1, 1, 1), steps=50)
    assert max(outcomes) == 120
    assert log == ["in", "out"] * 60
    assert sys.gettrace() is before
    assert threading.active_count() < 50


# Reports


class Odd(Faithful):
    """Its name is no HTML."""

    def __repr__(self):
        return "Odd(<b> & 'c')"


def broken_report():
    C = valid(F8, rng())
    B = C.copy()
    B[7, 9] *= 2
    operator = Odd(C)
    operator.backward = scipy.sparse.csr_array(B.T)
    return check_adjoint(operator, leave_out=["C09"], seed=921)


def test_a_report_reads_well_as_text():
    report = broken_report()
    lines = str(report).splitlines()
    assert lines[0].startswith(
        "adjoint test FAILED: Odd(<b> & 'c'), shape (20, 24), float64, level standard, "
        f"seed 921, {report.products[0]} + {report.products[1]} products, "
    )
    assert lines[1] == f"  cause: {report.causes[0]}"
    assert f"    entry {report.entries[0]}" in lines
    assert "  left out: C09" in lines
    for check in report.checks:
        assert (f"  {check}" in lines) == (check.status != "left out")
    assert any("resolution: a mismatch above" in line for line in lines)
    passed = check_adjoint(linconv.Conv([1.0, 2.0], 5))
    assert "missed with probability below 1e-06" in str(passed)
    assert "cause" not in str(passed)


def test_a_report_is_valid_html_with_names_escaped():
    html = broken_report()._repr_html_()
    assert "Odd(&lt;b&gt; &amp; &#x27;c&#x27;)" in html
    assert "<b> &" not in html
    assert "adjoint test FAILED" in html
    assert "a single wrong entry" in html
    assert "|&lt;A x" not in html
    assert "&lt;C x, y&gt; != &lt;x, A y&gt;" in html
    for code, name in CHECKS.items():
        assert f"<td>{code}</td>" in html
        assert name in html
    for tag in ("div", "p", "table", "thead", "tbody", "tr", "td", "th", "ul", "li", "small"):
        assert html.count(f"<{tag}>") + html.count(f"<{tag} ") == html.count(f"</{tag}>")
    fine = check_adjoint(np.eye(3))._repr_html_()
    assert "adjoint test passed" in fine
    assert "<ul>" not in fine


def test_a_report_is_frozen_and_finds_its_checks():
    report = broken_report()
    with pytest.raises(dataclasses.FrozenInstanceError, match="passed"):
        report.passed = True
    with pytest.raises(dataclasses.FrozenInstanceError, match="status"):
        report["A01"].status = "passed"
    assert report["A01"] is report["adjoint, random block"]
    assert report["C09"].status == "left out"
    assert [check.code for check in report.checks] == list(CHECKS)
    assert report.failed == tuple(check for check in report.checks if not check.passed)
    with pytest.raises(KeyError, match="no check is called 'B01'; there are C01, C02"):
        report["B01"]


def test_reports_and_errors_survive_a_pickle():
    report = broken_report()
    for copy in (
        pickle.loads(pickle.dumps(report)),
        pickle.loads(pickle.dumps(AdjointError(report))).report,
    ):
        assert str(copy) == str(report)
        assert (copy.entries, copy.causes) == (report.entries, report.causes)


# Exact mode


@pytest.mark.parametrize(
    ("dtype", "level", "miss"),
    [
        ("float64", "standard", 2 * 128.0**-3),
        ("float32", "quick", 2 * 128.0**-2),
        ("float64", "quick", 2 * 128.0**-2),
        ("complex64", "standard", 2 * 128.0**-6),
        ("complex128", "quick", 2 * 128.0**-4),
    ],
)
def test_the_miss_probability_is_that_of_the_values_and_vectors_drawn(dtype, level, miss):
    A = linconv.Conv(taps(3, dtype, rng()), 12)
    report = check_adjoint(A, level=level)
    assert report.miss_probability == miss


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_by_fft_are_rounded_to_whole_numbers(dtype):
    n = 64

    def factory(w):
        return Circulant(scipy.fft.fft(np.concatenate([w, np.zeros(n - 5, w.dtype)])), w.dtype)

    A = factory(taps(5, dtype, rng()))
    report = check_adjoint(A, factory=factory, kernel_shape=5)
    assert report.passed, str(report)
    assert 0 < report["E01"].error < 0.25
    assert report["E02"].status == "passed"
    assert check_adjoint(A)["E01"].status == "not applicable"


def test_a_whole_matrix_needs_no_factory_and_a_lost_unit_is_seen():
    C = rng().integers(-9, 10, (15, 19)).astype(F4)
    assert check_adjoint(Dense(C))["E02"].status == "passed"
    B = C.copy()
    B[3, 4] += 1
    report = check_adjoint(Pair(C, B.T))
    assert "E02" in [check.code for check in report.failed]
    assert "a single wrong entry" in report.diagnosis


# Causes


class Grumpy(Pair):
    """A wrong adjoint and a wrong manner."""

    def matvec(self, x):
        y = self.forward @ x
        if x.flags.writeable:
            x[...] = 0
        return y


def test_what_is_not_linear_has_no_other_cause():
    C = valid(F8, rng())
    wrong = [
        (add_bias, ("affine: A(0) != 0",)),
        (clip, ("not homogeneous at large values: matvec(2^40 x) != 2^40 matvec(x)",)),
        (relu, ("sign: matvec(-x) != -matvec(x)",)),
    ]
    for after, start in wrong:
        operator = Around(C, None, after)
        operator.backward = 3 * operator.backward
        report = check_adjoint(operator)
        assert report["A01"].status == "failed"
        assert report.causes[0].split(";")[0] == start[0]
        assert len(report.causes) == 1


def test_a_broken_contract_is_named_beside_a_wrong_adjoint():
    C = valid(F8, rng())
    report = check_adjoint(Grumpy(C, 2 * C.T))
    assert report.causes == ("adjoint = 2 x the true adjoint", "matvec changes its input")
    assert report.diagnosis == "; ".join(report.causes)


def test_hidden_state_is_named_instead_of_the_mismatch_it_makes():
    class Grows(Faithful):
        calls = 0

        def rmatvec(self, y):
            self.calls += 1
            return self.backward @ y * (1 + 0.1 * self.calls)

    report = check_adjoint(Grows(valid(F8, rng())), only=["A01", "A02", "A03"])
    assert report["C04"].status == "failed"
    assert report.causes == ("rmatvec gives different results for the same input",)


@pytest.mark.parametrize("scale", few([1e-290, 1e160, 1e-160, 1e290], 1))
def test_entries_of_extreme_size_are_compared_like_others(scale):
    C = scale * taps((18, 25), F8, rng())
    B = C.copy()
    B[3, 4] *= 2
    assert check_adjoint(Dense(C)).passed
    assert check_adjoint(Pair(C, B.T))["A03"].status == "failed"
    assert check_adjoint(Dense(C), matrix=B)["R01"].status == "failed"


def test_complex_results_of_a_real_operator_are_reported_whenever_they_come():
    class Turns(Same):
        def matvec(self, x):
            return x + 0j if np.count_nonzero(x) == len(x) else x.copy()

        rmatvec = matvec

    report = check_adjoint(Turns(40, F8))
    assert "returns dtype complex128, expected float64" in report.diagnosis


# Large sizes


def large_conv(dtype=F4, **options):
    return linconv.Conv(taps((3, 3), dtype, rng()), (52, 52), padding=1, **options)


LARGE = {
    "the conjugate is missing": lambda: Wrapped(large_conv(C16), large_conv(C16).T),
    "adjoint = 0.5 x the true adjoint": lambda: Wrapped(large_conv(), 0.5 * large_conv().H),
    "the adjoint correlates with the unflipped kernel": lambda: Wrapped(
        large_conv(), large_conv(flip=True).H
    ),
    "axes 0 and 1 of the kernel are exchanged": lambda: Wrapped(
        large_conv(), linconv.Conv(taps((3, 3), F4, rng()).T, (52, 52), padding=1).H
    ),
    "correlates with the unflipped kernel along axis 1": lambda: Wrapped(
        large_conv(), linconv.Conv(taps((3, 3), F4, rng())[:, ::-1], (52, 52), padding=1).H
    ),
    "axes 0 and 1 of the input are exchanged": lambda: transposed_images(0),
    "axes 0 and 1 of the output are exchanged": lambda: transposed_images(1),
    # The first random probe is zero at 2030.
    "wrong only in the last 674 samples of the input": lambda: lost_input(2030),
    "shifted by one along axis 1 of the input": lambda: Pair(
        (C := large_conv().tosparse()),
        rolled(C.conj().T),
        (52, 52),
        (52, 52),
    ),
    "wrong only at index 7 along axis 0 of the output": lambda: lost_output(7 * 52, 8 * 52),
    "wrong only in the last 30 samples of the output": lambda: lost_output(2674, 2704),
    "wrong only in output 99": lambda: lost_output(99, 100),
}


def rolled(B):
    rows = np.arange(2704).reshape(52, 52)
    return B.tocsr()[np.roll(rows, 1, axis=1).ravel()]


def transposed_images(side):
    C = large_conv().tosparse().tocsr()
    order = np.arange(2704).reshape(52, 52).T.ravel()
    B = C[order] if side else C[:, order]
    return Pair(C, B.T, (52, 52), (52, 52))


def lost_input(start):
    C = large_conv().tosparse()
    keep = np.ones(2704, F4)
    keep[start:] = 0
    return Pair(C, scipy.sparse.diags_array(keep) @ C.T, (52, 52), (52, 52))


def lost_output(start, stop):
    C = large_conv().tosparse()
    keep = np.ones(2704, F4)
    keep[start:stop] = 0
    return Pair(C, C.T @ scipy.sparse.diags_array(keep), (52, 52), (52, 52))


@pytest.mark.parametrize("words", LARGE)
def test_a_cause_is_named_where_no_matrix_can_be_written_out(words):
    operator = LARGE[words]()
    for level in ("quick", "standard"):
        report = check_adjoint(operator, level=level)
        assert report["A03"].status == "not applicable"
        assert words in report.diagnosis


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("step", [1, 3], ids=["square", "three times as wide"])
@pytest.mark.parametrize("rows", few([2000, 20_000, 200_000], 1))
def test_a_single_wrong_entry_is_found_by_bisection(rows, step, dtype):
    C = band(step * rows + 2, np.dtype(dtype), rng())[::step]
    place = (rows * 5 // 7, step * (rows * 5 // 7) + 1)
    B = C.copy()
    B[place] *= 3
    fine = check_adjoint(Pair(C, C.conj().T.tocsr()), level="quick", seed=922)
    report = check_adjoint(Pair(C, B.conj().T.tocsr()), level="quick", seed=922)
    assert fine.passed
    assert report.causes[0].startswith("a single wrong entry")
    assert [entry.index for entry in report.entries] == [place]
    assert report.entries[0].got == pytest.approx(3 * report.entries[0].expected, rel=1e-5)
    extra = sum(report.products) - sum(fine.products)
    m, n = C.shape
    assert extra <= 2 * (math.log2(n) + math.log2(m)) + 4


SIDE = 1000
N = SIDE**2


@pytest.fixture(scope="module")
def million():
    """A 3 x 3 convolution of a million samples as a matrix, and its adjoint."""
    C = linconv.conv_matrix(taps((3, 3), F4, rng()), (SIDE, SIDE), padding=1)
    return C, C.T.tocsr()


def pair_of_a_million(C, B):
    return Pair(C, B, (SIDE, SIDE), (SIDE, SIDE))


def entry(row, factor):
    """Return an edit of the middle stored entry of a row."""

    def edit(B):
        B.data[(B.indptr[row] + B.indptr[row + 1]) // 2] *= np.float32(factor)

    return edit


def tail(B):
    B.data[B.indptr[N - 700] :] = 0


def scale(B):
    B.data *= np.float32(1 + 1e-4)


FAULTS = {
    "a missing entry": (entry(501_501, 0), "a single wrong entry"),
    "a wrong corner": (entry(0, 1.5), "a single wrong entry"),
    "a tail not written": (tail, "wrong only in the last"),
    "an entry off by 1 %": (entry(734_567, 1.01), "a single wrong entry"),
    "a scale of 1.0001": (scale, "adjoint = 1.0001 x the true adjoint"),
}


def test_a_right_operator_of_a_million_samples_passes(million):
    report = check_adjoint(pair_of_a_million(*million), level="quick", seed=923)
    assert report.passed, str(report)
    assert max(report.products) <= 30
    assert report.resolution < 1e-5


@pytest.mark.parametrize("fault", few(FAULTS, 1))
def test_a_small_fault_in_a_million_samples_is_caught(million, fault):
    C, H = million
    edit, words = FAULTS[fault]
    B = H.copy()
    edit(B)
    report = check_adjoint(
        pair_of_a_million(C, B), level="quick", seed=923, leave_out=["C07", "C09", "C10"]
    )
    assert not report.passed
    assert words in report.diagnosis


def test_an_entry_off_by_a_ten_thousandth_is_named_by_the_known_matrix(million):
    C, H = million
    B = H.copy()
    entry(654_321, 1 + 1e-4)(B)
    report = check_adjoint(
        pair_of_a_million(C, B), level="quick", seed=923, matrix=C, only=["R01", "A01"]
    )
    at = (H.indptr[654_321] + H.indptr[654_322]) // 2
    place = (int(H.indices[at]), 654_321)
    assert not report.passed
    assert "a single wrong entry" in report.diagnosis
    assert str(place) in report.diagnosis
    assert [found.index for found in report.entries] == [place]
