"""What tests share: boundary rules as numpy.pad knows them, random geometries, imports."""

import warnings

import numpy as np
import pytest

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


def quietly(name):
    """Import a library that may warn while it is imported, or skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)
