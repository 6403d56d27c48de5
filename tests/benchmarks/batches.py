"""Eight vectors at once against a loop over them: products and least squares.

Run by name: ``python tests/benchmarks/batches.py [method ...] [--rounds N]``.  The two take
turns, backwards in every other round; the ratios are those of medians of one run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
from common import heading, in_turn

import linconv
from linconv.solvers import lstsq

METHODS = ("direct", "fft", "sparse")
# Image size, taps, channels (0: none); stored matrices of at most so many nonzeros.
SHAPES = [(n, k, 0) for n in (64, 128, 256, 512, 1024) for k in (3, 9)]
SHAPES += [(112, 3, 8), (56, 3, 16), (28, 3, 64)]
MOST = 3e7
ITERATIONS = 20


def operator(n: int, k: int, channels: int, method: str) -> linconv.Conv | None:
    lead = (channels,) if channels else ()
    taps = np.random.default_rng(5).random((*lead, *lead, k, k))
    options = {"padding": k // 2}
    geometry = linconv.Geometry.conv(taps.shape, (*lead, n, n), **options)
    if geometry.nnz > MOST and method == "sparse":
        return None
    return linconv.Conv(taps / taps.sum(), (*lead, n, n), method=method, **options)


def pairs(A: linconv.Conv) -> dict[str, tuple[Callable, Callable]]:
    """Return calls for eight at once, and for one after another."""
    x = np.random.default_rng(6).random((8, *A.in_shape))
    b, columns = A(x), np.ascontiguousarray(x.reshape(8, -1).T)

    def solve(right: np.ndarray) -> np.ndarray:
        return lstsq(A, right, damp=0.01, tol=0, maxiter=ITERATIONS).x

    return {
        "A(batch)": (lambda: A(x), lambda: [A(each) for each in x]),
        "A.H(batch)": (lambda: A.H(b), lambda: [A.H(each) for each in b]),
        "A @ columns": (lambda: A @ columns, lambda: [A @ columns[:, j] for j in range(8)]),
        "lstsq": (lambda: solve(b), lambda: [solve(each) for each in b]),
    }


def ratio(together: Callable, apart: Callable, rounds: int) -> float:
    seconds = in_turn({"together": together, "apart": apart}, rounds)
    return statistics.median(seconds["together"]) / statistics.median(seconds["apart"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"{heading()}\n")
    for method in options.methods:
        print(
            f"| {method} | A(batch) | A.H(batch) | A @ columns | lstsq |\n|---|---|---|---|---|"
        )
        for n, k, channels in SHAPES:
            A = operator(n, k, channels, method)
            if A is None:
                continue
            found = [ratio(*pair, options.rounds) for pair in pairs(A).values()]
            name = f"{n} x {n}, {k} x {k}" + f", {channels} channels" * bool(channels)
            print(f"| {name} | {' | '.join(f'{each:.2f}' for each in found)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
