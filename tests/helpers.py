"""Boundary rules as numpy.pad has them, random arrays and geometries, memory, threads, errors."""

import itertools
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import settings

import linconv
from linconv.geometry import Boundary, Geometry

SEEDS = {"float32": 3001, "float64": 3018, "complex64": 3035, "complex128": 3052}
DTYPES = ["float32", "float64", "complex64", "complex128"]


NUMPY_MODES = {
    "zeros": {"mode": "constant"},
    "circular": {"mode": "wrap"},
    "reflect": {"mode": "reflect"},
    "symmetric": {"mode": "symmetric"},
    "replicate": {"mode": "edge"},
    "antireflect": {"mode": "reflect", "reflect_type": "odd"},
}


def values(rng, shape, dtype):
    """Random numbers of a dtype."""
    real = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        real = real + 1j * rng.standard_normal(shape)
    return real.astype(dtype)


def random(shape, dtype="float64", seed=3011):
    """Return the same random numbers for a shape, a dtype and a seed."""
    return values(np.random.default_rng(seed), shape, dtype)


def same(kernel, in_shape, **options):
    return linconv.Conv(kernel, in_shape, padding="same", **options)


def circular(kernel, in_shape, **options):
    return same(kernel, in_shape, boundary="circular", **options)


def padded(x, pairs, rules):
    """Pad x with numpy.pad: one rule, or one (lo, hi) pair of them, per axis; cut by pads < 0."""
    for a, (pair, rule) in enumerate(zip(pairs, rules, strict=True)):
        lo, hi = (max(p, 0) for p in pair)
        low, high = (rule, rule) if isinstance(rule, str) else rule
        width, n = [(0, 0)] * x.ndim, x.shape[a]
        width[a] = lo, 0
        below = np.pad(x, width, **NUMPY_MODES[low]).take(range(lo), a)
        width[a] = 0, hi
        x = np.concatenate([below, np.pad(x, width, **NUMPY_MODES[high])], a)
        x = x.take(range(lo - pair[0], lo + n + pair[1]), a)
    return x


def random_geometry(seed, most=3):
    """Return (kernel, in_shape, options) of an awkward convolution that exists."""
    rng = np.random.default_rng([4711, seed])
    while True:
        d = int(rng.integers(1, most + 1))
        n, k = rng.integers(1, 9, d).tolist(), rng.integers(1, 5, d).tolist()
        rules = [str(rule) for rule in Boundary]
        options = {
            "stride": rng.integers(1, 4, d).tolist(),
            "dilation": rng.integers(1, 3, d).tolist(),
            "padding": rng.integers(-1, 6, (d, 2)).tolist(),
            "boundary": [rng.choice(rules, 2).tolist() for _ in range(d)],
            "flip": bool(rng.random() < 0.5),
        }
        if rng.random() < 0.4:  # rules that FFT and torch know themselves
            options["boundary"] = str(rng.choice(["zeros", "circular"]))
        if rng.random() < 0.6:
            groups = int(rng.integers(1, 3))
            c_out, per_group = int(rng.choice([1, 2, 4, 8])), int(rng.choice([1, 3, 4]))
            k, n = [c_out * groups, per_group, *k], [per_group * groups, *n]
            options["groups"] = groups
        try:
            Geometry.conv(tuple(k), tuple(n), **options)
        except ValueError:
            continue
        return values(rng, k, DTYPES[seed % 4]), tuple(n), options


def peak(work):
    """Return the most bytes that are allocated at a time during some work, and its result."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def nbytes(matrix):
    """Return the bytes of a CSR matrix's three arrays."""
    return matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes


def in_threads(count, work):
    """Do some work in several threads at once."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def assert_refused(*cases):
    """Assert that each call, of (error, match, call), raises its error and says why."""
    for error, match, call in cases:
        with pytest.raises(error, match=match):
            call()


def rotated(first, *rest):
    """Return all combinations; one of `first` each, in turn, is quick, the others `thorough`."""
    params = []
    for number, others in enumerate(itertools.product(*rest)):
        for i, one in enumerate(first):
            marks = () if i == number % len(first) else pytest.mark.thorough
            params.append(pytest.param(one, *others, marks=marks))
    return params


def few(values, quick):
    """Return values as parameters, of which all but the first `quick` ones are `thorough`."""
    return [
        pytest.param(v, marks=pytest.mark.thorough if i >= quick else ())
        for i, v in enumerate(values)
    ]


def examples(count):
    """Return settings that draw `count` examples with the thorough tests, 15 % of them else."""
    scaled = max(1, count * settings.default.max_examples // 100)
    return settings(deadline=None, derandomize=False, max_examples=scaled)


def needs(method):
    """Skip where a method's library is not installed."""
    if method == "torch":
        pytest.importorskip("torch")


def quietly(name):
    """Import a library that may warn while it is imported, or skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)
