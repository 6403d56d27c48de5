"""Solving with operators: against PyLops, with a preconditioner, memory.

Run by name: ``python tests/benchmarks/solve.py [part ...] [--rounds N] [--size N]``; parts
are deblur, precondition, memory.  Contestants take turns; medians, and ratios of
one run.  PyLops is needed for "deblur" only.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from typing import Any

import numpy as np
from common import heading, in_turn
from scipy.sparse.linalg import lsqr

import linconv
from linconv.solvers import lstsq
from linconv.spectrum import circulant_preconditioner

ITERATIONS, DAMP = 50, 1e-2


def gaussian(k: int = 9, sigma: float = 2.0) -> np.ndarray:
    """Return k x k taps of sum 1."""
    h = np.exp(-((np.arange(k) - k // 2) ** 2) / (2 * sigma**2))
    return np.outer(h, h) / h.sum() ** 2


def photograph(n: int) -> np.ndarray:
    """Return scikit-image's camera at n x n pixels, in [0, 1]."""
    from skimage import data
    from skimage.transform import resize

    return np.asarray(resize(data.camera() / 255.0, (n, n)))


def blurred(n: int, **options: Any) -> tuple[linconv.Conv, np.ndarray]:
    """Return the blur of an n x n image and a noisy blurred image, flat."""
    A = linconv.Conv(gaussian(), (n, n), padding=4, **options)
    noise = np.random.default_rng(2026).standard_normal(n * n)
    return A, A @ photograph(n).ravel() + 0.01 * noise


def deblur(n: int, rounds: int) -> None:
    """50 iterations of CGLS on an n x n image, 9 x 9 taps, zeros outside."""
    import pylops

    A, b = blurred(n)
    P = pylops.signalprocessing.Convolve2D((n, n), gaussian(), offset=(4, 4), dtype="float64")
    x0 = np.zeros(n * n)

    def theirs() -> np.ndarray:
        solve = pylops.optimization.basic.cgls
        return np.ravel(solve(P, b, x0=x0, niter=ITERATIONS, damp=DAMP, tol=0)[0])

    calls = {
        f"linconv lstsq, method {A.method!r}": lambda: ours(A, b).x,
        "PyLops cgls on Convolve2D": theirs,
        "SciPy lsqr on linconv's operator": lambda: lsqr(
            A, b, damp=DAMP, atol=0, btol=0, conlim=0, iter_lim=ITERATIONS
        )[0],
    }
    results = {name: call() for name, call in calls.items()}
    seconds = in_turn(calls, rounds)
    first, second, _ = (statistics.median(times) for times in seconds.values())
    reference = results["PyLops cgls on Convolve2D"]
    print(f"| {n} x {n}, 50 iterations | seconds | to PyLops' answer |\n|---|---|---|")
    for name, times in seconds.items():
        error = np.linalg.norm(results[name] - reference) / np.linalg.norm(reference)
        print(f"| {name} | {statistics.median(times):.2f} | {error:.1e} |")
    ratios = [a / c for a, c in zip(*list(seconds.values())[:2], strict=True)]
    print(
        f"linconv / PyLops: {first / second:.3f} of medians, "
        f"{min(ratios):.3f} to {max(ratios):.3f} by rounds\n"
    )


def ours(A: Any, b: np.ndarray, damp: float = DAMP) -> Any:
    return lstsq(A, b, damp=damp, tol=0, maxiter=ITERATIONS)


def precondition(n: int) -> None:
    """Iterations to one gradient, with and without the circulant preconditioner."""
    print("| boundary | damp | tol | iterations | preconditioned | ratio | seconds, ratio |")
    print("|---|---|---|---|---|---|---|")
    for boundary in ("zeros", "reflect", "replicate"):
        A, b = blurred(n, boundary=boundary)
        for damp, tol in ((1e-1, 1e-6), (3e-2, 1e-6), (1e-2, 1e-6), (1e-2, 1e-3)):
            start = time.perf_counter()
            plain = lstsq(A, b, damp=damp, tol=tol, maxiter=5000)
            middle = time.perf_counter()
            M = circulant_preconditioner(A, damp)
            quick = lstsq(A, b, damp=damp, tol=tol, maxiter=5000, preconditioner=M)
            end = time.perf_counter()
            assert plain.converged
            assert quick.converged
            ratio = plain.iterations / quick.iterations
            print(
                f"| {boundary} | {damp:g} | {tol:g} | {plain.iterations} | "
                f"{quick.iterations} | {ratio:.1f} | {(middle - start) / (end - middle):.1f} |"
            )
    print()


def memory(n: int) -> None:
    """Peaks of composing and of solving, in units of the matrices involved."""
    A, b = blurred(n // 4, method="sparse")
    G = linconv.gradient(A.in_shape)
    normal = A.H @ A + 0.01 * (G.H @ G)
    stacked = linconv.vstack([A, G])
    print("| what | peak, MB | matrices, MB | ratio |\n|---|---|---|---|")
    for name, call, parts in (
        ("A.H @ A + w G.H @ G", normal.tosparse, (A.H @ A, A, G)),
        ("[A; G]", stacked.tosparse, (A, G)),
        ("A[:, mask]", A[:, photograph(n // 4) > 0.3].tosparse, (A,)),
        ("lstsq, 10 iterations", lambda: lstsq(A, b, maxiter=10, tol=0), (A,)),
        ("lstsq with G", lambda: lstsq(A, b, penalties=[(1, G)], maxiter=10, tol=0), (A, G)),
    ):
        tracemalloc.start()
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        matrices = [part.tosparse() for part in parts]
        if not hasattr(result, "message"):
            matrices.append(result)
        nbytes = sum(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes for m in matrices)
        print(f"| {name} | {peak / 1e6:.1f} | {nbytes / 1e6:.1f} | {peak / nbytes:.2f} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ("deblur", "precondition", "memory")
    parser.add_argument("parts", nargs="*", default=known, metavar="part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(known):
        parser.error(f"unknown parts {sorted(unknown)}, known are {known}")
    print(f"{heading()}\n")
    if "deblur" in options.parts:
        deblur(options.size, options.rounds)
    if "precondition" in options.parts:
        precondition(options.size // 4)
    if "memory" in options.parts:
        memory(options.size)


if __name__ == "__main__":
    main()
