"""Methods compute the products of the matrix: every method, geometry, dtype and batch."""

import gc
import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.signal
from helpers import (
    DTYPES,
    NUMPY_MODES,
    assert_refused,
    few,
    in_threads,
    needs,
    padded,
    peak,
    random_geometry,
    rotated,
    values,
)

import linconv
from linconv import _arrays, methods
from linconv.geometry import Axis, Geometry
from linconv.methods import compiling, cost, padding
from linconv.methods.rows import Rows
from linconv.testing import assert_adjoint

METHODS = ("direct", "fft", "torch", "sparse+adjoint")


def assert_close(got, right, weight, dtypes):
    """Whether results agree up to the rounding of the coarsest dtype."""
    assert got.shape == right.shape
    assert got.dtype == right.dtype
    eps = max(np.finfo(dtype).eps for dtype in (*dtypes, got.dtype))
    assert np.max(np.abs(got - right), initial=0) <= 200 * eps * weight


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", few(range(120), 24))
def test_products_are_those_of_the_matrix(seed, method):
    needs(method)
    kernel, in_shape, options = random_geometry(seed)
    A = linconv.Conv(kernel, in_shape, method=method, **options)
    matrix = linconv.conv_matrix(kernel, in_shape, **options)
    adjoint = matrix.conj().T.tocsr()
    assert A.method == method
    assert (A.tosparse() != matrix).nnz == 0
    rng = np.random.default_rng(seed)
    weight = 20 * float(np.abs(kernel).sum())  # antireflect takes up to five times a tap
    for dtype in DTYPES:
        x, y = values(rng, A.shape[1], dtype), values(rng, A.shape[0], dtype)
        dtypes = kernel.dtype, dtype
        assert_close(A @ x, matrix @ x, weight * np.abs(x).max(), dtypes)
        assert_close(A.rmatvec(y), adjoint @ y, weight * np.abs(y).max(), dtypes)
        assert_close(A.T @ y, matrix.T @ y, weight * np.abs(y).max(), dtypes)
    X, Y = values(rng, (3, A.shape[1]), "f8"), values(rng, (3, A.shape[0]), "f8")
    right = (matrix @ X.T).T
    assert_close(A.matvec(X), right, weight * np.abs(X).max(), (kernel.dtype,))
    right = (adjoint @ Y.T).T
    assert_close(A.rmatvec(Y), right, weight * np.abs(Y).max(), (kernel.dtype,))
    assert A.matvec(X[:0]).shape == Y[:0].shape
    assert A.rmatvec(Y[:0]).shape == X[:0].shape
    for dtype in ("float32", "complex128"):  # columns side by side, as SciPy has them
        X, Y = values(rng, (A.shape[1], 9), dtype), values(rng, (A.shape[0], 9), dtype)
        dtypes = kernel.dtype, dtype
        assert_close(A @ X, matrix @ X, weight * np.abs(X).max(), dtypes)
        assert_close(A.rmatmat(Y), adjoint @ Y, weight * np.abs(Y).max(), dtypes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 47, 64, 97, 500])
@pytest.mark.parametrize("boundary", ["zeros", "reflect"])
def test_lines_may_have_any_length(n, boundary, dtype):
    rng = np.random.default_rng(n)
    kernel = values(rng, (3, 9), dtype)
    options = {"padding": "same", "boundary": boundary}
    A = linconv.Conv(kernel, (4, n), method="direct", **options)
    matrix = linconv.conv_matrix(kernel, (4, n), **options)
    weight = 20 * float(np.abs(kernel).sum())
    for columns in (1, 2, 8):
        X = values(rng, (4 * n, columns), dtype)
        assert_close(A @ X, matrix @ X, weight * np.abs(X).max(), (dtype,))
        assert_close(A.rmatmat(X), matrix.conj().T @ X, weight * np.abs(X).max(), (dtype,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("k", "n", "options"),
    [
        ((5, 3), (13, 61), {"stride": (1, 2), "padding": 1, "boundary": "reflect"}),
        ((3, 2, 4, 3), (2, 9, 40), {"padding": 1, "stride": (2, 3), "dilation": (3, 2)}),
        ((4, 1, 5), (2, 64), {"stride": 4, "groups": 2, "padding": [(0, 7)]}),
        ((3, 4), (8, 9), {"stride": 5, "padding": "full", "boundary": "antireflect"}),
    ],
)
def test_strides_are_phases_of_any_length(k, n, options, dtype):
    rng = np.random.default_rng(len(n))
    kernel = np.round(3 * values(rng, k, dtype))
    A = linconv.Conv(kernel, n, method="direct", **options)
    M = linconv.conv_matrix(kernel, n, **options).toarray()
    X, Y = (np.round(3 * values(rng, (size, 3), dtype)) for size in reversed(A.shape))
    np.testing.assert_array_equal(A @ X, M @ X)
    np.testing.assert_array_equal(A.rmatmat(Y), M.conj().T @ Y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"boundary": "reflect"}])
@pytest.mark.parametrize("k", [(3, 3), (4, 2, 3, 3)])
def test_a_batch_of_any_size_is_that_of_its_blocks(k, options, method, monkeypatch):
    needs(method)
    rng = np.random.default_rng(17)
    n = (12, 13) if len(k) == 2 else (2, 12, 13)
    A = linconv.Conv(rng.standard_normal(k), n, padding=1, method=method, **options)
    x, y = rng.standard_normal((7, *A.in_shape)), rng.standard_normal((7, *A.out_shape))
    whole = A(x), A.T(y)
    monkeypatch.setattr(_arrays, "_BLOCK", 3 * 8 * A.shape[1])
    np.testing.assert_allclose(A(x), whole[0], atol=1e-12)
    np.testing.assert_allclose(A.T(y), whole[1], atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", [(-2, 3), (-1, 4), (3, -2), (4, -1), (-4, 5), (6, -4)])
@pytest.mark.parametrize("boundary", ["zeros", "circular", ("reflect", "replicate")])
def test_an_input_may_be_cropped_whole_or_beyond(padding, boundary, method):
    needs(method)
    options = {"padding": [padding], "boundary": [boundary]}
    for n in (1, 2, 3):
        try:
            matrix = linconv.conv_matrix([2.0], n, **options).toarray()
        except ValueError:
            continue  # nothing is left
        A = linconv.Conv([2.0], n, method=method, **options)
        np.testing.assert_allclose(A @ np.eye(n), matrix, atol=1e-14)
        np.testing.assert_allclose(A.H @ np.eye(len(matrix)), matrix.T, atol=1e-14)
        F = linconv.FilterConv(np.arange(1.0, n + 1), 1, **options)
        np.testing.assert_array_equal(2 * F.toarray()[:, 0], matrix @ np.arange(1.0, n + 1))


LAWFUL = [
    ((3, 3), (9, 8), {"padding": 1, "boundary": "reflect"}),
    ((4, 2, 3), (4, 11), {"stride": 2, "padding": [(2, 1)], "groups": 2}),
    ((2, 5), (6, 7), {"padding": "same", "boundary": "circular", "dilation": (3, 1)}),
    ((3, 2, 2), (5, 4, 5), {"padding": 2, "boundary": "antireflect", "flip": True}),
    ((7,), (3,), {"padding": "full"}),
    ((1,), (1,), {}),
]


CASES = list(itertools.product(LAWFUL, DTYPES))


@pytest.mark.parametrize(("case", "method"), rotated(CASES, METHODS))
def test_the_harness_finds_nothing_wrong(case, method):
    needs(method)
    (k, n, options), dtype = case
    kernel = values(np.random.default_rng(5), k, dtype)
    A = linconv.Conv(kernel, n, method=method, **options)
    for B in (A, A.T, A.H, A.conj()):
        assert_adjoint(B, matrix=B.tosparse())


STRETCHED = [
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"dilation": 2, "padding": 2, "output_padding": 1},
    {"dilation": 2, "padding": (0, 3), "boundary": "circular"},
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", STRETCHED)
@pytest.mark.parametrize("channels", [(3, 2), (4, 8), (8, 4)])
def test_transposed_convolutions_take_a_method(channels, options, method):
    needs(method)
    kernel = np.random.default_rng(8).standard_normal((*channels, 3, 3))
    in_shape = (channels[0], 7, 8)
    A = linconv.conv_transpose(kernel, in_shape, method=method, **options)
    matrix = linconv.conv_transpose_matrix(kernel, in_shape, **options)
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal(A.shape[1]), rng.standard_normal(A.shape[0])
    assert A.method == method
    np.testing.assert_allclose(A @ x, matrix @ x, atol=1e-11)
    np.testing.assert_allclose(A.rmatvec(y), matrix.T @ y, atol=1e-11)
    assert repr(A).endswith(f"method={method!r}).T")


def test_four_axes_and_not_five():
    rng = np.random.default_rng(6)
    kernel = rng.standard_normal((2, 3, 2, 2))
    options = {"padding": [1, 1, 1, 1], "boundary": "symmetric"}
    A = linconv.Conv(kernel, (4, 5, 6, 3), **options, method="direct")
    x = rng.standard_normal(A.shape[1])
    np.testing.assert_allclose(A @ x, A.tosparse() @ x, atol=1e-12)
    np.testing.assert_allclose(A.rmatvec(A @ x), A.tosparse().T @ (A @ x), atol=1e-11)
    with pytest.raises(ValueError, match=r"'direct' cannot .*: it has at most 4 axes, got 5"):
        linconv.Conv(np.ones((1,) * 5), (2,) * 5, stride=(1,) * 5, method="direct")
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"'torch' cannot .*: torch has at most 3 axes"):
        linconv.Conv(kernel, (4, 5, 6, 3), **options, method="torch")


# Direct


def test_whole_numbers_stay_exact_and_wider_vectors_go_through_the_matrix():
    kernel = np.array([[2**40, 3], [5, -7]])
    A = linconv.Conv(kernel, (5, 6), padding=1, boundary="circular", method="direct")
    x = np.arange(30) - 11
    assert (A @ x).dtype == np.int64
    np.testing.assert_array_equal(A @ x, A.tosparse() @ x)
    wide = x.astype(np.longdouble)
    assert (A @ wide).dtype == np.longdouble
    np.testing.assert_array_equal(A @ wide, A.tosparse() @ x)
    y = np.arange(A.shape[0]) - 17
    np.testing.assert_array_equal(A.rmatvec(y.astype("longdouble")), A.tosparse().T @ y)


@pytest.mark.parametrize("channels", [False, True])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, channels):
    rng = np.random.default_rng(3)
    k, n = ((8, 4, 3, 3), (4, 70, 66)) if channels else ((5, 5), (201, 130))
    A = linconv.Conv(rng.standard_normal(k), n, padding=2, boundary="reflect", method="direct")
    x, y = rng.standard_normal(A.shape[1]), rng.standard_normal(A.shape[0])
    found = set()
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(_arrays, "workers", lambda work, grain, t=threads: t)
        found.add(((A @ x).tobytes(), A.rmatvec(y).tobytes()))
    assert len(found) == 1


def test_many_threads_may_call_at_once():
    A = linconv.Conv(np.ones((5, 5)), (300, 400), padding=2, method="direct")
    x = np.random.default_rng(3).standard_normal(A.shape[1])
    right, wrong = A @ x, []

    def work():
        for _ in range(5):
            if (A @ x).tobytes() != right.tobytes():
                wrong.append(1)

    in_threads(6, work)
    assert not wrong


FORKED = """
import multiprocessing
import numpy as np
import linconv

def largest():
    A = linconv.Conv(np.ones((5, 5)), (600, 700), padding=2, method="direct")
    return float((A @ np.ones(A.shape[1])).max())

assert largest() == 25
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=lambda: queue.put(largest()))
child.start()
assert queue.get(timeout=60) == 25
child.join()
print("done")
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_spoils_the_outputs_that_read_it_and_no_others(method):
    needs(method)
    kernel = np.random.default_rng(3).standard_normal((4, 2, 3, 5))
    options = {"padding": "same", "boundary": "reflect", "groups": 2}
    A = linconv.Conv(kernel, (4, 40, 41), method=method, **options)
    matrix = linconv.conv_matrix(kernel, (4, 40, 41), **options)
    for bad, M, B in ((np.nan, matrix, A), (np.inf, matrix, A), (np.nan, matrix.T, A.T)):
        x = np.ones((2, *B.in_shape))
        x[1, 3, 17, 20] = bad
        with np.errstate(invalid="ignore"):
            expected = np.isfinite((M @ x.reshape(2, -1).T).T)
            assert (np.isfinite(B(x).reshape(2, -1)) == expected).all()


def test_products_go_on_where_no_thread_can_be_started(monkeypatch):
    A = linconv.Conv(np.ones((5, 5)), (300, 400), padding=2, method="direct")
    expected = A @ np.ones(A.shape[1])

    def refused(*arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_arrays, "workers", lambda work, grain: 4)
    monkeypatch.setattr(_arrays.ThreadPoolExecutor, "submit", refused)
    assert (A @ np.ones(A.shape[1]) == expected).all()


def test_a_thread_may_outlive_the_main_thread():
    code = """
import threading, time, numpy, linconv
A = linconv.Conv(numpy.ones((9, 9)), (600, 600), padding=4, method="direct")
def late():
    time.sleep(0.5)
    print((A @ numpy.ones(360000)).sum() == A.tosparse().sum())
threading.Thread(target=late).start()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "True\n", run.stderr


@pytest.mark.parametrize("disabled", ["NUMBA_DISABLE_JIT=1", "numba.py"])
def test_a_numba_that_cannot_compile_is_passed_over(disabled, tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    if disabled.endswith(".py"):
        (tmp_path / disabled).write_text("raise SystemError('damaged')")
    else:
        environment |= dict([disabled.split("=")])
    code = (
        "import numpy, linconv; A = linconv.Conv(numpy.ones((9, 9)), (300, 300), padding=4)\n"
        "print(A.method != 'direct', (A @ numpy.ones(90000)).max().round(6))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert run.stdout == "True 81.0\n", run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own():
    # A process of its own: JAX, once imported here, forbids to fork.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.stdout == "done\n", run.stderr


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_a_nan_reaches_those_results_only_that_read_it(pad):
    """Joined lines compute values between lines; none of them may stay."""
    A = linconv.Conv(np.ones((3, 3)), (40, 50), padding=pad, method="direct")
    x = np.zeros((40, 50))
    x[[0, 17, 17, 39], [49, 0, 25, 0]] = np.nan
    got = np.isnan(A @ x.ravel())
    np.testing.assert_array_equal(got, (A.tosparse() @ np.isnan(x).ravel()) > 0)


WORK = [
    ((5, 5), (700, 800), {"padding": 2}, "direct"),
    ((5, 5), (700, 800), {"padding": 2}, "fft"),
    ((16, 16, 3, 3), (16, 128, 128), {"padding": 4, "dilation": 4}, "direct"),
    ((64, 3, 7, 7), (3, 224, 224), {"padding": 3, "stride": 2}, "direct"),
]


@pytest.mark.parametrize(("k", "n", "options", "method"), WORK)
def test_a_product_takes_little_memory(k, n, options, method):
    A = linconv.Conv(np.ones(k), n, method=method, **options)
    x, y = np.ones(A.in_shape), np.ones(A.out_shape)
    for product, v in ((A, x), (A.H, y)):
        product(v)  # plans and compiled loops are kept
        assert peak(lambda f=product, v=v: f(v))[0] <= 3 * (x.nbytes + y.nbytes)


def test_a_method_by_rows_must_compute_them():
    rows = Rows(Geometry.conv((2,), (3,)), np.ones(2))
    with pytest.raises(NotImplementedError, match="Rows must implement _rows"):
        rows.forward(np.ones((3, 1)))


# Padding


@pytest.mark.parametrize("rule", NUMPY_MODES)
@pytest.mark.parametrize("widths", [(2, 3), (0, 4), (9, 11), (-2, 3), (2, -3), (-1, -1)])
def test_padding_is_numpys_and_its_adjoint_exact(rule, widths):
    axes = [Axis(5, 1, padding=widths, boundary=(rule, rule)), Axis(4, 1)]
    rng = np.random.default_rng(12)
    x = rng.integers(-9, 10, (2, 5, 4))
    right = padded(x, [(0, 0), widths, (0, 0)], ["zeros", rule, "zeros"])
    got = padding.pad(x, axes)
    np.testing.assert_array_equal(got, right)
    y = rng.integers(-9, 10, right.shape)
    assert np.sum(y * got) == np.sum(padding.pad_adjoint(y, axes) * x)


# Limits of the methods


def test_a_method_says_why_it_cannot(monkeypatch):
    match = r"'fft' cannot .*: it rounds, and a matrix of int64 must not: pass dtype=float"
    assert_refused(
        (ValueError, match, lambda: linconv.Conv([1, 2], 5, method="fft")),
        (ValueError, r"'direct' cannot .*: it has loops for float32, .*got", lambda: linconv.Conv(np.ones(3, "longdouble"), 5, method="direct")),
        (ValueError, r"method='sparse' represents them all", lambda: linconv.Conv(np.ones(3, "longdouble"), 5, method="direct")),
        (ValueError, r"methods are 'auto', 'sparse', 'direct', 'fft', 'torch', 'sparse\+adjoint'", lambda: linconv.Conv([1, 2], 5, method="cuda")),
    )  # fmt: skip
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert_refused(
        (ValueError, r"it needs Numba: pip install linconv\[fast\]", lambda: linconv.Conv([1.0, 2], 5, method="direct")),
        (ValueError, r"it needs PyTorch: pip install torch", lambda: linconv.Conv([1.0, 2], 5, method="torch")),
    )  # fmt: skip


def test_a_numba_that_cannot_be_imported_is_no_choice(monkeypatch):
    def refuse(name, *package):
        if name == "numba":
            raise ImportError("Numba needs NumPy 2.4 or less")
        return importlib_import(name, *package)

    importlib_import = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", refuse)
    assert chosen((5, 5), (256, 256)) == "sparse"
    with pytest.raises(ValueError, match=r"Numba cannot be imported: Numba needs NumPy 2.4"):
        linconv.Conv([1.0, 2], 5, method="direct")


def test_a_first_product_that_takes_long_is_announced_once(monkeypatch, caplog):
    monkeypatch.setattr(compiling, "_PATIENCE", 0.0)
    caplog.set_level("INFO", "linconv")
    for _ in range(3):
        with compiling.announced("a function of this test", np.dtype("float32")):
            time.sleep(0.3)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["linconv compiles its loops for float32, once: a few seconds"]


def test_a_first_product_from_the_disk_is_not_announced(caplog):
    caplog.set_level("INFO", "linconv")
    with compiling.announced("another function of this test", np.dtype("float64")):
        pass
    time.sleep(0.1)
    assert not caplog.records


def test_loops_are_compiled_where_nothing_can_be_written(monkeypatch):
    numba = pytest.importorskip("numba")
    assert compiling.compiled(lambda x: 3 * x)(5) == 15  # Numba has imported what it needs
    plain = numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(**options)

    monkeypatch.setattr(numba, "njit", njit)
    assert compiling.compiled(lambda x: 2 * x)(21) == 42


def test_torch_says_which_dtypes_it_has():
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"torch convolves float32, .*, got int64"):
        linconv.Conv([1, 2], 5, method="torch")


# The choice


def chosen(k, n, **options):
    dtype = np.dtype(options.pop("dtype", "f8"))
    return methods.choose("auto", Geometry.conv(k, n, **options), dtype).name


def test_auto_takes_the_matrix_where_it_is_small_and_loops_where_it_is_not():
    assert chosen((3, 3), (50, 50)) == "sparse"
    assert chosen((5, 5), (1024, 1024), padding=2) == "direct"
    assert chosen((31, 31), (512, 512), padding=15, boundary="circular") == "fft"
    assert chosen((9, 9), (1024, 1024), padding=4, dtype="i8") == "direct"
    assert chosen((64, 64, 3, 3), (64, 56, 56), padding=1, dtype="f4") == "direct"


def test_auto_knows_that_a_rule_far_outside_has_many_stencils():
    assert chosen((3, 3), (1000, 1000), padding=200, boundary="reflect") == "sparse"
    assert chosen((3, 3), (1000, 1000), padding=200) == "direct"
    assert chosen((3, 3), (1000, 1000), padding=4, boundary="reflect") == "direct"


def test_auto_without_numba(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert chosen((5, 5), (256, 256)) == "sparse"
    assert chosen((9, 9), (1024, 1024)) == "fft"
    assert chosen((31, 31), (512, 512), dtype="i8") == "sparse"


def test_auto_never_builds_a_matrix_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(_arrays, "available_memory", lambda: 200_000_000)
    assert chosen((5, 5), (600, 600)) == "fft"
    geometry = Geometry.conv((5, 5), (600, 600))
    text = methods.Choice("fft", "auto").description(geometry, np.dtype("f8"))
    assert "the matrix would take 0.108 of 0.2 GB available" in text
    assert "it needs Numba" in text
    monkeypatch.setattr(_arrays, "available_memory", lambda: None)
    assert "108.0 MB" in str(cost.estimate("sparse", geometry, np.dtype("f8"), ""))


def test_what_was_chosen_is_shown_and_explained():
    A = linconv.Conv(np.ones((5, 5)), (600, 600), padding=2)
    assert A.method == A.H.method == "direct"
    assert repr(A) == "Conv(float64[5, 5], (600, 600) -> (600, 600), method='direct')"
    lines = A.explain().splitlines()
    assert lines[0] == "method 'direct', chosen by 'auto'; one product would take about"
    assert [line.split()[0] for line in lines[1:]] == list(methods.METHODS)
    assert "MB for the matrix" in lines[1]
    assert A.T.explain() == A.explain()
    B = linconv.Conv(np.ones((5, 5)), (600, 600), method="sparse")
    assert B.explain().startswith("method 'sparse', as asked; ")


@pytest.mark.parametrize("method", ["auto", "sparse", *METHODS])
def test_pickles_keep_what_was_asked(method):
    needs(method)
    A = linconv.Conv(np.ones((5, 5)), (200, 210), method=method)
    B = pickle.loads(pickle.dumps(A))
    x = np.random.default_rng(1).standard_normal(A.shape[1])
    assert B.method == A.method
    assert B._choice == A._choice
    np.testing.assert_array_equal(B @ x, A @ x)


# with_kernel


@pytest.mark.parametrize("method", ["sparse", *METHODS])
@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_with_kernel_is_a_new_operator_of_the_same_geometry(seed, method):
    needs(method)
    kernel, in_shape, options = random_geometry(seed)
    rng = np.random.default_rng(seed + 1)
    A = linconv.Conv(kernel, in_shape, method=method, **options)
    other = values(rng, kernel.shape, "complex128" if seed % 8 else "float64")
    B = A.with_kernel(other)
    fresh = linconv.Conv(other, in_shape, method=method, **options)
    x, y = rng.standard_normal(A.shape[1]), rng.standard_normal(A.shape[0])
    np.testing.assert_array_equal(B @ x, fresh @ x)
    np.testing.assert_array_equal(B.rmatvec(y), fresh.rmatvec(y))
    np.testing.assert_array_equal(A.T.with_kernel(other) @ y, fresh.T @ y)
    assert (B.geometry, B.method, repr(B)) == (A.geometry, method, repr(fresh))
    np.testing.assert_array_equal(B.tosparse().toarray(), fresh.tosparse().toarray())


def test_convolutions_of_one_geometry_share_their_indices():
    options = {"padding": 2, "method": "sparse"}
    A = linconv.Conv(np.ones((5, 5)), (300, 300), **options)
    for make in (
        lambda: A.with_kernel(2 * np.ones((5, 5))),
        lambda: linconv.Conv(2 * np.ones((5, 5)), (300, 300), **options),
    ):
        most, B = peak(make)
        assert most < 1.2 * A.geometry.nnz * 8  # values alone
        assert (2 * A.tosparse() != B.tosparse()).nnz == 0


def test_convolutions_that_share_indices_or_not_are_all_right():
    rng = np.random.default_rng(5)
    options = {"padding": 1, "method": "sparse"}
    A = linconv.Conv(rng.standard_normal((3, 3)), (30, 31), **options)
    B = linconv.Conv(rng.standard_normal((3, 3)) * 1j, (30, 31), **options)
    C = pickle.loads(pickle.dumps(A))
    D = linconv.Conv(A.kernel, (30, 31), boundary="reflect", **options)
    for operator, rule in ((B, "constant"), (C, "constant"), (D, "reflect")):
        x = rng.standard_normal((30, 31))
        right = scipy.signal.correlate(
            np.pad(x, 1, mode=rule), operator.kernel.conj(), "valid"
        )
        np.testing.assert_allclose(operator(x), right, atol=1e-13)
    del A, C
    gc.collect()
    E = linconv.Conv(np.ones((3, 3)), (30, 31), **options)
    F = linconv.Conv(2 * np.ones((3, 3)), (30, 31), **options)
    assert (2 * E.tosparse() != F.tosparse()).nnz == 0


def test_with_kernel_refuses_what_does_not_fit():
    A = linconv.Conv(np.ones((3, 3)), (9, 9), method="fft")
    assert_refused(
        (ValueError, r"kernel has shape \(2, 2\), but .* needs \(3, 3\)", lambda: A.with_kernel(np.ones((2, 2)))),
        (ValueError, r"'fft' cannot .*: it rounds", lambda: A.with_kernel(np.ones((3, 3), int))),
        (AttributeError, "with_kernel", lambda: linconv.Identity(3).T.with_kernel),
    )  # fmt: skip
