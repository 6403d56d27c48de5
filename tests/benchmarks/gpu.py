"""Everything about a GPU in one go: checks, then times; one JSON with every figure.

Run by name on a machine with a GPU: ``python tests/benchmarks/gpu.py [--out gpu.json]``.
Times of kernels are medians of CUDA events, of work that waits for its turn on the device;
"wall" is the host's clock around a call and a synchronisation.  Bandwidths count bytes read
and written, in units of a device copy's.  Images are smaller than a large GPU's cache, in
which they stay from call to call, here and in the libraries they are compared with.

A failure is recorded in place of its figures, and the others go on; the exit status shows it.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).parents[2]))  # not installed where there is no network
import linconv
from linconv import assembly, gpu
from linconv.geometry import Geometry
from linconv.gpu import matrices
from linconv.methods.torch import full_precision
from linconv.solvers import cgls, lstsq

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from assembly import WORKLOADS
from helpers import random_geometry
from solve import DAMP, ITERATIONS, blurred

DTYPES = ("float32", "float64", "complex64", "complex128")
ROUNDS, WARM = 20, 3
LEAST = 5_000_000  # nonzeros of the workloads that are measured
SPIN = """
extern "C" __global__ void spin(long long cycles) {
    for (long long start = clock64(); clock64() - start < cycles;);
}"""
CYCLES = 4_000_000  # about two milliseconds
failed: list[str] = []


def attempt(what: str, work: Callable[[], Any]) -> Any:
    """Return what some work measures, or why it failed."""
    try:
        return work()
    except Exception:
        failed.append(what)
        print(f"{what} failed:\n{traceback.format_exc()}", flush=True)
        return {"failed": traceback.format_exc()}


def events(cupy: Any, work: Callable[[], object]) -> float:
    """Return the median milliseconds that a call takes on the device.

    It is busy until all is launched, or the launches of Python would be what is measured.
    """
    spin = cupy.RawKernel(SPIN, "spin")
    times = []
    for i in range(ROUNDS + WARM):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        spin((1,), (1,), (np.int64(CYCLES),))
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
            got = matrices.conv_matrix(geometry, cupy.asarray(kernel), transposed=transposed)
            for name in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(got, name).get(), getattr(right, name))
    return {"random geometries": count, "wrong": 0}


def time_assembly(cupy: Any, bandwidth: float) -> list[dict]:
    """Time the builders of the workloads with at least 5 million nonzeros."""
    figures = []
    for workload in WORKLOADS:
        for dtype in ("float32", "float64"):
            one = functools.partial(time_workload, cupy, bandwidth, *workload, dtype)
            found = attempt(f"assembly of {workload[0]}, {dtype}", one)
            figures.append({"workload": workload[0], "dtype": dtype} | found)
    return [each for each in figures if each.get("nonzeros", LEAST) >= LEAST]


def time_workload(
    cupy: Any,
    bandwidth: float,
    name: str,
    shape: tuple,
    in_shape: Any,
    options: Any,
    dtype: str,
) -> dict:
    """Check and time the builder of one workload."""
    build = linconv.conv_transpose_matrix if "transposed" in name else linconv.conv_matrix
    kernel = np.random.default_rng(7).standard_normal(shape).astype(dtype)
    w = cupy.asarray(kernel)
    matrix = build(w, in_shape, **options)
    if matrix.nnz < LEAST:
        return {"nonzeros": matrix.nnz}
    nbytes = sum(array.nbytes for array in (matrix.data, matrix.indices, matrix.indptr))
    right = build(kernel, in_shape, **options)
    np.testing.assert_array_equal(matrix.indices.get(), right.indices)
    # Taps that fold onto one another at the edges may cancel: they are of size 1.
    np.testing.assert_allclose(matrix.data.get(), right.data, rtol=1e-6, atol=1e-6)
    found = {"nonzeros": matrix.nnz, "bytes": nbytes}
    del matrix, right
    work = functools.partial(build, w, in_shape, **options)
    found["ms"], found["wall ms"] = events(cupy, work), wall(cupy, work)
    return found | {"of copy bandwidth": nbytes / 1e6 / found["ms"] / bandwidth}


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
    """Time the products of one convolution of one channel."""
    import cupyx.scipy.ndimage

    image = np.random.default_rng(8).standard_normal(in_shape).astype(kernel.dtype)
    w, x = cupy.asarray(kernel), cupy.asarray(image)
    host = linconv.Conv(kernel, in_shape, padding="same")
    right, column = (host(image), host.H(image)), x.reshape(-1, 1)
    what = f"of {kernel.shape}, {in_shape}, {kernel.dtype}"
    found: dict[str, Any] = {}
    for method in methods():
        A = linconv.Conv(w, in_shape, padding="same", method=method)
        ways = functools.partial(time_ways, cupy, (A.matmat, A.rmatmat), column, right)
        found[method] = attempt(f"{method} {what}", ways)
    correlate = functools.partial(cupyx.scipy.ndimage.correlate, x, w, mode="constant")
    found["ndimage ms"] = attempt(f"ndimage {what}", lambda: events(cupy, correlate))
    found["cuDNN ms"] = attempt(f"cuDNN {what}", lambda: time_cudnn(x, w))
    nbytes = host.geometry.nnz * (w.dtype.itemsize + 4) + 2 * x.nbytes + 4 * x.size
    return found | ratios(found, nbytes / 1e6 / bandwidth)


def time_ways(cupy: Any, products: tuple, column: Any, right: tuple) -> dict:
    """Check and time the products of a matrix and of its adjoint with one column."""
    found = {}
    for way, product, result in zip(
        ("forward ms", "adjoint ms"), products, right, strict=True
    ):
        got = product(column).get().reshape(result.shape)
        np.testing.assert_allclose(got, result, rtol=1e-3, atol=1e-3)
        found[way] = events(cupy, functools.partial(product, column))
    return found


def ratios(found: dict, bound: float) -> dict:
    """Return what is asked of products, where the times were measured."""
    others = [found[name] for name in ("ndimage ms", "cuDNN ms")]
    others = [ms for ms in others if isinstance(ms, float)]
    asked = {}
    if "failed" not in found["sparse"]:
        asked["sparse of bandwidth"] = bound / found["sparse"]["forward ms"]
    if "failed" not in found["direct"]:
        forward, adjoint = found["direct"].values()
        asked["direct adjoint of forward"] = adjoint / forward
        if others:
            asked["direct of the faster"] = forward / min(others)
    return asked


def time_cudnn(x: Any, w: Any) -> float | None:
    """Return the milliseconds of PyTorch's convolution on the same device, if it is there.

    In full precision, as all that it is compared with.
    """
    if "torch" not in methods():
        return None
    import torch

    conv = getattr(torch.nn.functional, f"conv{x.ndim}d")
    X, W = (torch.from_dlpack(a)[None, None] for a in (x, w))
    work = functools.partial(conv, X, W, padding=tuple(k // 2 for k in w.shape))
    times = []
    with full_precision(torch, w.dtype), torch.inference_mode():
        for i in range(ROUNDS + WARM):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(CYCLES)
            start.record()
            work()
            stop.record()
            stop.synchronize()
            if i >= WARM:
                times.append(start.elapsed_time(stop))
    return statistics.median(times)


def check_steps(solve: Callable[[], object]) -> None:
    """Run a solver whose steps may not wait for the device; CuPy raises if one does."""
    import cupyx

    step = cgls.Run._step

    def watched(run: Any) -> None:
        with cupyx.allow_synchronize(False):
            step(run)

    with mock.patch.object(cgls.Run, "_step", watched):
        solve()


def time_lstsq(cupy: Any) -> dict:
    """Deblur a 1024 x 1024 image on both, 50 iterations."""
    A, b = blurred(1024)
    options = {"damp": DAMP, "tol": 0, "maxiter": ITERATIONS}
    right, times = lstsq(A, b, **options), []
    for _ in range(3):
        start = time.perf_counter()
        lstsq(A, b, **options)
        times.append(time.perf_counter() - start)
    host, c = statistics.median(times), cupy.asarray(b)

    def one(method: str) -> dict:
        B = linconv.Conv(cupy.asarray(A.kernel), (1024, 1024), padding=4, method=method)
        got = lstsq(B, c, **options)
        check_steps(lambda: lstsq(B, c, **options))
        error = np.linalg.norm(got.x.get() - right.x) / np.linalg.norm(right.x)
        seconds = 1e-3 * wall(cupy, lambda: lstsq(B, c, **options))
        return {"s": seconds, "times faster": host / seconds, "difference": error}

    return {"host s": host} | {
        method: attempt(f"lstsq by {method}", functools.partial(one, method))
        for method in methods()
    }


def main() -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gpu.json", help="where the figures go")
    options = parser.parse_args()
    cupy = gpu.library()
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
        figures[name] = attempt(name, part)
        print(f"{name}: {json.dumps(figures[name], indent=1)}", flush=True)
        figures["failed"] = failed
        Path(options.out).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    sys.exit(", ".join(failed) if failed else 0)


if __name__ == "__main__":
    main()
