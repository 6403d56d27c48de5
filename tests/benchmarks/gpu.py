"""Everything about a GPU in one go: checks, then times; one JSON with every figure.

Run by name on a machine with a GPU: ``python tests/benchmarks/gpu.py [--out gpu.json]``.
Times of kernels are medians of CUDA events; "wall" is the host's clock around a call and a
synchronisation.  Bandwidths count bytes read and written, in units of a device copy's.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy

import linconv
from linconv import _cgls, _gpu_assembly, assembly
from linconv.geometry import Geometry
from linconv.methods.gpu import Direct
from linconv.methods.torch import full_precision
from linconv.solvers import lstsq

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from assembly import WORKLOADS
from solve import DAMP, ITERATIONS, blurred
from test_methods import random_geometry

DTYPES = ("float32", "float64", "complex64", "complex128")
ROUNDS, WARM = 20, 3
LEAST = 5_000_000  # nonzeros of the workloads that are measured


def events(cupy: Any, work: Callable[[], object]) -> float:
    """Return the median milliseconds that a call takes on the device."""
    times = []
    for i in range(ROUNDS + WARM):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        result = work()
        stop.record()
        stop.synchronize()
        del result
        if i >= WARM:
            times.append(cupy.cuda.get_elapsed_time(start, stop))
    return statistics.median(times)


def wall(cupy: Any, work: Callable[[], object]) -> float:
    """Return the median milliseconds on the host until the device is done."""
    times = []
    for i in range(ROUNDS + WARM):
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        result = work()
        cupy.cuda.Device().synchronize()
        if i >= WARM:
            times.append(1e3 * (time.perf_counter() - start))
        del result
    return statistics.median(times)


def copy_bandwidth(cupy: Any) -> float:
    """Return gigabytes per second, read and written, of a copy of 1 GiB."""
    source = cupy.zeros(1 << 27)
    target = cupy.empty_like(source)
    return 2 * source.nbytes / events(cupy, lambda: cupy.copyto(target, source)) / 1e6


def check_matrices(cupy: Any, count: int = 500) -> dict:
    """Compare random geometries with the host's matrices; all must agree."""
    for seed in range(count):
        kernel, in_shape, options = random_geometry(seed)
        kernel = np.round(4 * kernel)
        kernel = (
            kernel.astype(DTYPES[seed % 4])
            if seed % 4 > 1
            else kernel.real.astype(DTYPES[seed % 4])
        )
        geometry = Geometry.conv(kernel.shape, in_shape, **options)
        for transposed in (False, True):
            right = assembly.conv_csr(geometry, kernel, transposed=transposed)
            got = _gpu_assembly.conv_matrix(
                geometry, cupy.asarray(kernel), transposed=transposed
            )
            for name in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(got, name).get(), getattr(right, name))
    return {"random geometries": count, "wrong": 0}


def time_assembly(cupy: Any, bandwidth: float) -> list[dict]:
    """Time the builders of the workloads with at least 5 million nonzeros."""
    figures = []
    for name, shape, in_shape, options in WORKLOADS:
        build = linconv.conv_transpose_matrix if "transposed" in name else linconv.conv_matrix
        for dtype in ("float32", "float64"):
            kernel = np.random.default_rng(7).standard_normal(shape).astype(dtype)
            w = cupy.asarray(kernel)
            matrix = build(w, in_shape, **options)
            if matrix.nnz < LEAST:
                continue
            arrays = matrix.data, matrix.indices, matrix.indptr
            nbytes = sum(array.nbytes for array in arrays)
            right = build(kernel, in_shape, **options)
            np.testing.assert_array_equal(matrix.indices.get(), right.indices)
            np.testing.assert_allclose(matrix.data.get(), right.data, rtol=1e-6)
            del matrix, arrays, right

            def work(
                w: Any = w, build: Any = build, n: Any = in_shape, o: Any = options
            ) -> Any:
                return build(w, n, **o)

            device, host = events(cupy, work), wall(cupy, work)
            share = nbytes / 1e6 / device / bandwidth
            figures.append(
                {"workload": name, "dtype": dtype, "bytes": nbytes, "ms": device,
                 "wall ms": host, "of copy bandwidth": share}
            )  # fmt: skip
    return figures


IMAGES = (((9, 9), (1024, 1024)), ((3, 3), (2048, 2048)), ((5, 5, 5), (128, 128, 128)))


def methods() -> list[str]:
    """Return the methods that can be measured here: torch only where it sees the device."""
    found = ["sparse", "sparse+adjoint", "direct", "fft"]
    try:
        import torch
    except ImportError:
        return found
    return [*found, "torch"] if torch.cuda.is_available() else found


def time_products(cupy: Any, bandwidth: float) -> list[dict]:
    """Time products by every method, and by cupyx.scipy.ndimage and cuDNN."""
    figures = []
    for shape, in_shape in IMAGES:
        for dtype in ("float32", "float64"):
            kernel = np.random.default_rng(7).standard_normal(shape).astype(dtype)
            found = {"kernel": shape, "input": in_shape, "dtype": dtype}
            figures.append(found | time_image(cupy, bandwidth, kernel, in_shape))
    return figures


def time_image(cupy: Any, bandwidth: float, kernel: np.ndarray, in_shape: tuple) -> dict:
    """Time the products of one convolution of one channel; "direct" in both its ways."""
    import cupyx.scipy.ndimage

    image = np.random.default_rng(8).standard_normal(in_shape).astype(kernel.dtype)
    w, x = cupy.asarray(kernel), cupy.asarray(image)
    flat, found = x.ravel(), {}
    host = linconv.Conv(kernel, in_shape, padding="same")
    right, turned = host(x.get()), host.H(x.get())
    for method in methods():
        A = linconv.Conv(w, in_shape, padding="same", method=method)
        np.testing.assert_allclose(A(x).get(), right, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(A.H(x).get(), turned, rtol=1e-3, atol=1e-3)
        found[f"{method} forward ms"] = events(cupy, functools.partial(A.matvec, flat))
        found[f"{method} adjoint ms"] = events(cupy, functools.partial(A.rmatvec, flat))
    for name, tiled in (("by lines", False), ("by tiles", True)):
        direct = Direct(host.geometry, w, tiled)
        column = flat.reshape(-1, 1)
        for way, result in (("forward", right), ("adjoint", turned)):
            product = functools.partial(getattr(direct, way), column)
            got = product().get().reshape(in_shape)
            np.testing.assert_allclose(got, result, rtol=1e-3, atol=1e-3)
            found[f"direct {name} {way} ms"] = events(cupy, product)
    nbytes = host.geometry.nnz * (w.dtype.itemsize + 4) + 2 * x.nbytes + 4 * x.size
    found["sparse of bandwidth"] = nbytes / 1e6 / found["sparse forward ms"] / bandwidth
    correlate = cupyx.scipy.ndimage.correlate
    found["ndimage ms"] = events(cupy, functools.partial(correlate, x, w, mode="constant"))
    found["cuDNN ms"] = time_cudnn(x, w)
    fastest = min(filter(None, (found["ndimage ms"], found["cuDNN ms"])))
    found["direct of the faster"] = found["direct forward ms"] / fastest
    found["direct adjoint of forward"] = (
        found["direct adjoint ms"] / found["direct forward ms"]
    )
    return found


def time_cudnn(x: Any, w: Any) -> float | None:
    """Return the milliseconds of PyTorch's convolution on the same device, if it is there.

    In full precision, as all that it is compared with.
    """
    if "torch" not in methods():
        return None
    import torch

    conv = getattr(torch.nn.functional, f"conv{x.ndim}d")
    X, W = (torch.from_dlpack(a)[None, None] for a in (x, w))
    times = []
    for i in range(ROUNDS + WARM):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        with full_precision(torch, w.dtype):
            conv(X, W, padding=tuple(k // 2 for k in w.shape))
        stop.record()
        stop.synchronize()
        if i >= WARM:
            times.append(start.elapsed_time(stop))
    return statistics.median(times)


def check_steps(solve: Callable[[], object]) -> None:
    """Run a solver whose steps may not wait for the device; CuPy raises if one does."""
    import cupyx

    step = _cgls.Run._step

    def watched(run: Any) -> None:
        with cupyx.allow_synchronize(False):
            step(run)

    with mock.patch.object(_cgls.Run, "_step", watched):
        solve()


def time_lstsq(cupy: Any) -> dict:
    """Deblur a 1024 x 1024 image on both, 50 iterations."""
    A, b = blurred(1024)
    options = {"damp": DAMP, "tol": 0, "maxiter": ITERATIONS}
    right = lstsq(A, b, **options)
    start = time.perf_counter()
    lstsq(A, b, **options)
    host = time.perf_counter() - start
    found: dict[str, Any] = {"host s": host}
    for method in methods():
        B = linconv.Conv(cupy.asarray(A.kernel), (1024, 1024), padding=4, method=method)
        c = cupy.asarray(b)
        got = lstsq(B, c, **options)
        check_steps(lambda B=B, c=c: lstsq(B, c, **options))
        error = np.linalg.norm(got.x.get() - right.x) / np.linalg.norm(right.x)
        seconds = 1e-3 * wall(cupy, lambda B=B, c=c: lstsq(B, c, **options))
        found[method] = {"s": seconds, "times faster": host / seconds, "difference": error}
    return found


def main() -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gpu.json", help="where the figures go")
    options = parser.parse_args()
    cupy = linconv._gpu.library()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    figures: dict[str, Any] = {
        "date": str(date.today()),
        "device": properties["name"].decode(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "python": platform.python_version(),
        "versions": {m.__name__: m.__version__ for m in (linconv, np, scipy, cupy)},
    }
    bandwidth = figures["copy GB/s"] = copy_bandwidth(cupy)
    parts = {
        "matrices": lambda: check_matrices(cupy),
        "assembly": lambda: time_assembly(cupy, bandwidth),
        "products": lambda: time_products(cupy, bandwidth),
        "lstsq": lambda: time_lstsq(cupy),
    }
    for name, part in parts.items():
        figures[name] = part()
        print(f"{name}: {json.dumps(figures[name], indent=1)}", flush=True)
        Path(options.out).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
