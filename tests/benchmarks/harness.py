"""The faults that the adjoint harness catches, its false alarms and its costs.

Run by name: ``python tests/benchmarks/harness.py false-alarms | catalogue | large | cost``.

- false-alarms: right operators, 4 dtypes x sparse, FFT and torch products, n from 25 to
  a million, half of them at level quick; how many fail, and the largest sigma.
- catalogue: every broken operator of tests/broken with many seeds: caught, diagnosed.
- large: a float32 convolution with n = 1e6 and faults that are easy to miss.
- cost: products and milliseconds at n = 1e4, interleaved with bare products.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse

sys.path.insert(0, str(Path(__file__).parent.parent))

import broken
from common import heading

import linconv
from linconv.testing import check_adjoint

DTYPES = ("float32", "float64", "complex64", "complex128")
LEVELS = ("quick", "standard")


class Operator:
    """Two functions and what they map between."""

    def __init__(self, forward: Callable, adjoint: Callable, m: int, n: int, dtype: Any):
        self.matvec, self.rmatvec = forward, adjoint
        self.shape, self.dtype = (m, n), np.dtype(dtype)


def random_taps(rng: np.random.Generator, count: int, dtype: np.dtype) -> np.ndarray:
    taps = rng.standard_normal(count)
    if dtype.kind == "c":
        taps = taps * np.exp(2j * np.pi * rng.random(count))
    return taps.astype(dtype)


def sparse(rng: np.random.Generator, n: int, dtype: np.dtype) -> Operator:
    m, count = max(1, int(n * rng.uniform(0.5, 1.5))), int(rng.integers(1, 12))
    rows, columns = rng.integers(0, m, n * count), rng.integers(0, n, n * count)
    values = random_taps(rng, n * count, dtype)
    matrix = scipy.sparse.csr_array((values, (rows, columns)), (m, n))
    back = matrix.conj().T.tocsr()
    return Operator(lambda x: matrix @ x, lambda y: back @ y, m, n, dtype)


def fourier(rng: np.random.Generator, n: int, dtype: np.dtype) -> Operator:
    taps = random_taps(rng, min(n, 9), dtype)
    if dtype.kind == "c":
        forth, back, more = scipy.fft.fft, scipy.fft.ifft, {}
    else:
        forth, back, more = scipy.fft.rfft, scipy.fft.irfft, {"n": n}
    spectrum = forth(taps, n)
    return Operator(
        lambda x: back(forth(x) * spectrum, **more),
        lambda y: back(forth(y) * spectrum.conj(), **more),
        n,
        n,
        dtype,
    )


def torch_pair(rng: np.random.Generator, n: int, dtype: np.dtype) -> tuple[tuple, dict]:
    import torch

    side = max(5, int(np.sqrt(n / 2)))
    w = torch.from_numpy(random_taps(rng, 2 * 3 * 9, dtype).reshape(3, 2, 3, 3))
    stride = int(rng.integers(1, 3))
    more = (side + 2 - 3) % stride
    conv = torch.nn.functional.conv2d
    back = torch.nn.functional.conv_transpose2d
    wc, options = w.conj().resolve_conj(), {"stride": stride, "padding": 1}
    pair = (
        lambda x: conv(x[None], w, **options)[0],
        lambda y: back(y[None], wc, output_padding=more, **options)[0],
    )
    return pair, {"in_shape": (2, side, side), "dtype": w.dtype}


KINDS = ("sparse", "FFT", "torch")


def right_operator(i: int) -> tuple[tuple, dict, tuple]:
    """Return the i-th right operator: arguments, options, (kind, dtype, n)."""
    rng = np.random.default_rng([2026, i])
    kind, dtype = KINDS[i % 3], np.dtype(DTYPES[i // 3 % 4])
    decades = 4.6 if i % 50 == 0 else 2.6  # one in fifty may have up to a million samples
    n = int(25 * 10 ** rng.uniform(0, decades))
    if kind == "torch":
        pair, options = torch_pair(rng, n, dtype)
        return pair, options, (kind, dtype.name, n)
    made = (sparse if kind == "sparse" else fourier)(rng, n, dtype)
    return (made,), {}, (kind, dtype.name, n)


def one_right(i: int) -> tuple:
    """Check the i-th right operator: (passed, kind, level, code -> sigma, words, seconds)."""
    args, options, (kind, dtype, n) = right_operator(i)
    level = LEVELS[i // 12 % 2]
    start = time.perf_counter()
    report = check_adjoint(*args, level=level, seed=100 + i, **options)
    seconds = time.perf_counter() - start
    sigma = {c.code: c.error for c in report.checks if c.unit == "sigma" and c.trials}
    words = f"{kind} {dtype} n={n} {level} seed {100 + i}: {report.diagnosis}"
    return report.passed, kind, level, sigma, words, seconds


def false_alarms(checks: int, processes: int) -> None:
    alarms, worst, seconds = [], collections.defaultdict(float), []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for result in pool.imap_unordered(one_right, range(checks), chunksize=20):
            passed, kind, _, sigma, words, took = result
            seconds.append(took)
            if not passed:
                alarms.append(words)
                print("FALSE ALARM", words, flush=True)
            for code, value in sigma.items():
                worst[code, kind] = max(worst[code, kind], value)
    print(f"\n{len(alarms)} false alarms in {checks} checks, median {_ms(seconds)} each")
    print("| check | limit | " + " | ".join(KINDS) + " |\n|---|---|" + "---|" * len(KINDS))
    for code, limit in (("A01", 8), ("A02", 14), ("A03", 14)):
        cells = " | ".join(f"{worst[code, kind]:.2f}" for kind in KINDS)
        print(f"| {code}, largest sigma | {limit} | {cells} |")


def one_broken(task: tuple[int, str, str, int]) -> tuple:
    index, dtype, level, seed = task
    member = broken.CATALOGUE[index]
    made = member.make(np.dtype(dtype), np.random.default_rng([7, seed]))
    report = check_adjoint(made, level=level, seed=1000 + seed, **member.options)
    named = bool(re.search(member.diagnosis, report.diagnosis))
    return member.name, level, not report.passed, named, f"{dtype}: {report.diagnosis}"


def catalogue(seeds: int, processes: int) -> None:
    tasks = [
        (i, dtype, level, seed)
        for i, member in enumerate(broken.CATALOGUE)
        for dtype in member.dtypes
        for level in LEVELS
        for seed in range(seeds)
    ]
    runs, caught, named = (collections.Counter() for _ in range(3))
    lines: dict[tuple, str] = {}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for name, level, seen, right, words in pool.imap_unordered(one_broken, tasks, 50):
            runs[level, name] += 1
            caught[level, name] += seen
            named[level, name] += right
            if not (seen and right):
                lines[level, name] = words
    for level in LEVELS:
        names = [key for key in runs if key[0] == level]
        total = sum(runs[key] for key in names)
        rates = [caught[key] / runs[key] for key in names]
        print(
            f"{level}: {len(names)} members, {total} runs; caught "
            f"{sum(caught[key] for key in names)}, diagnosed {sum(named[key] for key in names)}; "
            f"members caught in >= 99 % of their runs: {sum(rate >= 0.99 for rate in rates)}"
        )
    for (level, name), words in sorted(lines.items()):
        key = (level, name)
        print(
            f"  {level}, {name}: caught {caught[key]}, named {named[key]} of {runs[key]}: {words}"
        )


class Edited(Operator):
    """A matrix with another one's adjoint."""

    def __init__(self, matrix: Any, other: Any) -> None:
        back = other.conj().T.tocsr()
        super().__init__(lambda x: matrix @ x, lambda y: back @ y, *matrix.shape, matrix.dtype)


def large(side: int = 1000) -> None:
    rng = np.random.default_rng(77)
    kernel = rng.standard_normal((3, 3)).astype(np.float32)
    matrix = linconv.conv_matrix(kernel, (side, side), padding=1)
    middle = matrix.nnz // 2
    faults: dict[str, Callable[[np.ndarray], Any]] = {
        "none": lambda d: None,
        "an entry missing": lambda d: d.__setitem__(middle, 0),
        "an entry 1 % off": lambda d: d.__setitem__(middle, d[middle] * np.float32(1.01)),
        "the first corner 50 % off": lambda d: d.__setitem__(0, d[0] * np.float32(1.5)),
        "the last 60 entries missing": lambda d: d.__setitem__(slice(-60, None), 0),
        "scaled by 1 + 1e-4": lambda d: d.__imul__(np.float32(1.0001)),
        "an entry 1e-4 off, matrix known": lambda d: d.__setitem__(
            middle, d[middle] * np.float32(1.0001)
        ),
    }
    print("| fault | level | passed | diagnosis | products | s |\n|---|---|---|---|---|---|")
    for name, fault in faults.items():
        other = matrix.copy()
        fault(other.data)
        for level in LEVELS:
            known = {"matrix": matrix} if "known" in name else {}
            shapes = {"in_shape": (side, side), "out_shape": (side, side)}
            report = check_adjoint(Edited(matrix, other), level=level, **shapes, **known)
            products = " + ".join(map(str, report.products))
            print(
                f"| {name} | {level} | {report.passed} | {report.diagnosis} | {products} | "
                f"{report.seconds:.1f} |",
                flush=True,
            )


def cost(rounds: int) -> None:
    rng = np.random.default_rng(78)
    kernel = rng.standard_normal((3, 3))
    conv = linconv.Conv(kernel, (100, 100), padding=1)
    matrix = conv.tosparse()
    subjects = {
        "matrix in two functions": Edited(matrix, matrix),
        "SciPy LinearOperator": scipy.sparse.linalg.aslinearoperator(matrix),
        "linconv.Conv": conv,
    }
    print("| operator, n = 1e4, float64 | level | products | check ms | 60 products ms |")
    print("|---|---|---|---|---|")
    x = rng.standard_normal(matrix.shape[1])
    for name, subject in subjects.items():
        for level in LEVELS:
            checks, bare = [], []
            for i in range(rounds):
                start = time.perf_counter()
                report = check_adjoint(subject, level=level, seed=300 + i)
                checks.append(time.perf_counter() - start)
                start = time.perf_counter()
                for _ in range(60):
                    subject.matvec(x)
                bare.append(time.perf_counter() - start)
            products = " + ".join(map(str, report.products))
            print(
                f"| {name} | {level} | {products} | {_ms(checks)} | {_ms(bare)} |", flush=True
            )


def _ms(seconds: list[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("false-alarms", "catalogue", "large", "cost"))
    parser.add_argument("--checks", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(f"{heading()}\n")
    start = time.perf_counter()
    parts = {
        "false-alarms": lambda: false_alarms(options.checks, options.processes),
        "catalogue": lambda: catalogue(options.seeds, options.processes),
        "large": large,
        "cost": lambda: cost(options.rounds),
    }
    parts[options.what]()
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
