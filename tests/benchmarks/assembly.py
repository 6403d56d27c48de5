"""Assembly time over the time to allocate and fill the same three arrays.

Run by name: ``python tests/benchmarks/assembly.py [--rounds 7] [--json FILE]``.
Each round measures the fill, then the build, then the fill again, so that both
see the same machine; the table gives medians and the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from common import heading

import linconv

SAME = {"padding": "same"}
WORKLOADS: list[tuple[str, tuple, tuple, dict]] = [
    ("2-d, k 3", (3, 3), (1024, 1024), SAME),
    ("2-d, k 5", (5, 5), (1024, 1024), SAME),
    ("2-d, k 15", (15, 15), (512, 512), SAME),
    ("2-d, k 5, reflect", (5, 5), (1024, 1024), SAME | {"boundary": "reflect"}),
    ("2-d, k 5, circular", (5, 5), (1024, 1024), SAME | {"boundary": "circular"}),
    ("2-d, k 5, stride 2", (5, 5), (1024, 1024), {"padding": 2, "stride": 2}),
    ("3-d, k 3", (3, 3, 3), (96, 96, 96), SAME),
    ("1-d, 4 million samples, k 9", (9,), (4_000_000,), SAME),
    ("16 -> 16 channels, k 3", (16, 16, 3, 3), (16, 128, 128), SAME),
    ("64 -> 64 channels, k 3", (64, 64, 3, 3), (64, 56, 56), SAME),
    ("depthwise 64, k 3", (64, 1, 3, 3), (64, 112, 112), SAME | {"groups": 64}),
    ("transposed, k 4, stride 2", (4, 4), (512, 512), {"padding": 1, "stride": 2}),
    ("transposed, 16 -> 16, stride 2", (16, 16, 3, 3), (16, 64, 64), {"stride": 2}),
]


def fill(nnz: int, rows: int, dtype: np.dtype, index: np.dtype) -> list[np.ndarray]:
    """Allocate and fill arrays like those of the matrix."""
    arrays = [np.empty(n, t) for n, t in ((nnz, dtype), (nnz, index), (rows + 1, index))]
    for array in arrays:
        array.fill(1)
    return arrays


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call of `work` takes, its result freed outside."""
    start = time.perf_counter()
    result = work()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def measure(shape: tuple, in_shape: tuple, options: dict, name: str, dtype: str, rounds: int):
    """Return ``(nonzeros, bytes, fill s, build s, ratio)``, medians over the rounds."""
    kernel = np.random.default_rng(7).standard_normal(shape).astype(dtype)
    build = linconv.conv_transpose_matrix if "transposed" in name else linconv.conv_matrix
    matrix = build(kernel, in_shape, **options)
    nbytes = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    args = (matrix.nnz, matrix.shape[0], matrix.dtype, matrix.indices.dtype)
    del matrix
    fills, builds, ratios = [], [], []
    for _ in range(rounds):
        before = seconds(lambda: fill(*args))
        built = seconds(lambda: build(kernel, in_shape, **options))
        after = seconds(lambda: fill(*args))
        fills.append((before + after) / 2)
        builds.append(built)
        ratios.append(built / fills[-1])
    return args[0], nbytes, *map(statistics.median, (fills, builds, ratios))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    print(f"{heading()}\n")
    print(f"{'workload':31} {'dtype':8} {'nonzeros':>12} {'MB':>7} {'fill ms':>8} "
          f"{'build ms':>8} {'ratio':>6}")  # fmt: skip
    figures = []
    for name, shape, in_shape, keywords in WORKLOADS:
        for dtype in ("float32", "float64"):
            nnz, nbytes, filled, built, ratio = measure(
                shape, in_shape, keywords, name, dtype, options.rounds
            )
            figures.append({"workload": name, "dtype": dtype, "nnz": nnz, "ratio": ratio})
            print(f"{name:31} {dtype:8} {nnz:12,} {nbytes / 1e6:7.0f} {filled * 1e3:8.1f} "
                  f"{built * 1e3:8.1f} {ratio:6.2f}", flush=True)  # fmt: skip
    ratios = [figure["ratio"] for figure in figures]
    print(f"\nmedian {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
