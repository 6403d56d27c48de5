"""Products by every method, side by side with those of other libraries.

Run by name: ``python tests/benchmarks/products.py [workload ...] [--rounds N] [--setup]``.
Forward and adjoint separately, calls of all contestants in turn, medians.  Every result
is first compared with one of double precision: torch's convolution of an array that
NumPy padded, and for the adjoint the inner product with it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import statistics
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal
from common import heading, in_turn

import linconv

Pair = tuple[Callable | None, Callable | None]


@dataclass(frozen=True)
class Workload:
    """One line of the table; `pad` on every side of every axis."""

    name: str
    in_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    dtype: str
    pad: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    boundary: str = "zeros"

    @property
    def channels(self) -> bool:
        return len(self.kernel) > len(self.in_shape)

    @property
    def d(self) -> int:
        return len(self.in_shape) - self.channels

    def make(self, seed: int = 77) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return taps, x and y, shaped."""
        rng = np.random.default_rng(seed)
        taps = rng.standard_normal(self.kernel).astype(self.dtype)
        shape = self.operator(taps, "sparse", dry=True).out_shape
        x, y = rng.standard_normal(self.in_shape), rng.standard_normal(shape)
        return taps, x.astype(self.dtype), y.astype(self.dtype)

    def operator(self, taps: np.ndarray, method: str, dry: bool = False) -> Any:
        options = {
            "stride": self.stride,
            "padding": self.pad,
            "dilation": self.dilation,
            "groups": self.groups,
            "boundary": self.boundary,
        }
        if dry:
            return linconv.Geometry.conv(taps.shape, self.in_shape, **options)
        return linconv.Conv(taps, self.in_shape, method=method, **options)


WORKLOADS = [
    Workload("blur f64", (1024, 1024), (5, 5), "f8", 2),
    Workload("blur f32", (1024, 1024), (5, 5), "f4", 2),
    Workload("blur reflect", (1024, 1024), (9, 9), "f4", 4, boundary="reflect"),
    Workload("wide PSF circular", (512, 512), (31, 31), "f8", 15, boundary="circular"),
    Workload("super-resolution", (1024, 1024), (5, 5), "f8", 2, stride=2),
    Workload("volume", (96, 96, 96), (3, 3, 3), "f4", 1),
    Workload("signal", (1_000_000,), (65,), "f8", 32),
    Workload("layer", (64, 56, 56), (64, 64, 3, 3), "f4", 1),
    Workload("stem", (3, 224, 224), (64, 3, 7, 7), "f4", 3, stride=2),
    Workload("depthwise", (64, 112, 112), (64, 1, 3, 3), "f4", 1, groups=64),
    Workload("dilated", (16, 128, 128), (16, 16, 3, 3), "f4", 4, dilation=4),
]


def ours(method: str) -> Callable[[Workload, np.ndarray], Pair]:
    def pair(w: Workload, taps: np.ndarray) -> Pair:
        A = w.operator(taps, method)
        return A, A.H

    return pair


def with_torch(w: Workload, taps: np.ndarray) -> Pair:
    import torch

    f = torch.nn.functional
    weight = torch.from_numpy(taps if w.channels else taps[None, None])
    conv, back = getattr(f, f"conv{w.d}d"), getattr(f, f"conv_transpose{w.d}d")
    options = {"stride": w.stride, "dilation": w.dilation, "groups": w.groups}
    lead = (1,) if w.channels else (1, 1)
    if w.boundary == "zeros":
        sizes = w.in_shape[-w.d :]
        extent = w.dilation * (w.kernel[-1] - 1) + 1
        more = [(n + 2 * w.pad - extent) % w.stride for n in sizes]
        return (
            lambda x: conv(
                torch.from_numpy(x).reshape(*lead, *x.shape), weight, padding=w.pad, **options
            ).numpy(),
            lambda y: back(
                torch.from_numpy(y).reshape(*lead, *y.shape),
                weight,
                padding=w.pad,
                output_padding=more,
                **options,
            ).numpy(),
        )
    mode, sides = w.boundary, [w.pad] * (2 * w.d)

    def apply(x: Any) -> Any:
        return conv(f.pad(x.reshape(*lead, *x.shape), sides, mode=mode), weight, **options)

    x0 = torch.zeros(w.in_shape, dtype=weight.dtype, requires_grad=True)
    y0 = apply(x0)

    def adjoint(y: np.ndarray) -> np.ndarray:
        gradient = torch.from_numpy(y).reshape(y0.shape)
        return torch.autograd.grad(y0, x0, gradient, retain_graph=True)[0].numpy()

    def forward(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return apply(torch.from_numpy(x)).numpy()

    return forward, adjoint


def with_jax(w: Workload, taps: np.ndarray) -> Pair:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp, lax = jax.numpy, jax.lax
    weight = jnp.asarray(taps if w.channels else taps[None, None])
    lead = (1,) if w.channels else (1, 1)
    pads = [(w.pad, w.pad)] * w.d if w.boundary == "zeros" else [(0, 0)] * w.d
    around = [(0, 0)] * w.channels + [(w.pad, w.pad)] * w.d
    modes = {"circular": "wrap", "reflect": "reflect"}

    def apply(x: Any) -> Any:
        if w.boundary != "zeros":
            x = jnp.pad(x, around, mode=modes[w.boundary])
        return lax.conv_general_dilated(
            x.reshape(*lead, *x.shape),
            weight,
            (w.stride,) * w.d,
            pads,
            rhs_dilation=(w.dilation,) * w.d,
            feature_group_count=w.groups,
        )

    shape = jax.ShapeDtypeStruct(w.in_shape, weight.dtype)
    out = jax.eval_shape(apply, shape).shape
    forward = jax.jit(apply)
    back = jax.jit(lambda y: jax.linear_transpose(apply, shape)(y.reshape(out))[0])
    return (
        lambda x: np.asarray(forward(x).block_until_ready()),
        lambda y: np.asarray(back(y).block_until_ready()),
    )


def with_ndimage(w: Workload, taps: np.ndarray) -> Pair:
    if w.channels or w.stride > 1:
        return None, None
    mode = {"zeros": "constant", "circular": "wrap", "reflect": "mirror"}[w.boundary]
    forward = lambda x: scipy.ndimage.correlate(x, taps, mode=mode)  # noqa: E731
    if w.boundary == "reflect":
        return forward, None  # it has no adjoint of its rules
    return forward, lambda y: scipy.ndimage.convolve(y, taps, mode=mode)


def with_oaconvolve(w: Workload, taps: np.ndarray) -> Pair:
    if w.channels or w.stride > 1 or w.boundary != "zeros":
        return None, None
    turned = np.flip(taps).copy()
    return (
        lambda x: scipy.signal.oaconvolve(x, turned, mode="same"),
        lambda y: scipy.signal.oaconvolve(y, taps, mode="same"),
    )


def with_fft(w: Workload, taps: np.ndarray) -> Pair:
    """scipy.fft written out by hand, with two workers; spectra kept."""
    if w.channels or w.stride > 1 or w.boundary == "reflect":
        return None, None
    n, workers = np.array(w.in_shape), 2
    shape = [
        m if w.boundary == "circular" else scipy.fft.next_fast_len(m + w.pad, real=True)
        for m in w.in_shape
    ]
    placed = np.zeros(shape, taps.dtype)
    placed[tuple(slice(k) for k in taps.shape)] = taps
    placed = np.roll(placed, [-w.pad] * w.d, range(w.d))
    spectrum = scipy.fft.rfftn(placed, workers=workers)
    conjugate = spectrum.conj()
    crop = tuple(slice(m) for m in n)

    def run(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
        z = scipy.fft.rfftn(x, shape, workers=workers)
        return scipy.fft.irfftn(z * factor, shape, workers=workers)[crop]

    return lambda x: run(x, conjugate), lambda y: run(y, spectrum)


def with_pylops(w: Workload, taps: np.ndarray) -> Pair:
    if w.channels or w.stride > 1 or w.boundary != "zeros":
        return None, None
    sp = importlib.import_module("pylops").signalprocessing
    h, offset = np.flip(taps).copy(), (w.pad,) * w.d
    if w.d == 1:
        op = sp.Convolve1D(w.in_shape[0], h, offset=w.pad, dtype=w.dtype)
    else:
        op = sp.ConvolveND(w.in_shape, h, offset=offset, axes=range(w.d), dtype=w.dtype)
    return lambda x: op.matvec(x.ravel()), lambda y: op.rmatvec(y.ravel())


OURS = {f"linconv {m}": ours(m) for m in ("auto", "direct", "fft", "sparse", "torch")}
PEERS = {
    "torch": with_torch,
    "jax": with_jax,
    "ndimage": with_ndimage,
    "oaconvolve": with_oaconvolve,
    "scipy.fft": with_fft,
    "pylops": with_pylops,
}
COLUMNS = (*OURS, *PEERS)


def contestants(w: Workload, taps: np.ndarray) -> dict[str, Pair]:
    found: dict[str, Pair] = {}
    for name, make in (OURS | PEERS).items():
        if name == "linconv sparse" and w.operator(taps, "", dry=True).nbytes(w.dtype) > 2e9:
            continue
        if name == "linconv fft" and w.channels and w.kernel[0] * w.kernel[1] > 64:
            continue
        with contextlib.suppress(ImportError):
            pair = make(w, taps)
            if pair != (None, None):
                found[name] = pair
    return found


def check(w: Workload, taps: np.ndarray, x: np.ndarray, y: np.ndarray, found: dict) -> None:
    """Compare every contestant with double precision."""
    import torch

    mode = {"zeros": "constant", "circular": "wrap", "reflect": "reflect"}[w.boundary]
    wide = np.pad(x.astype(float), [(0, 0)] * w.channels + [(w.pad,) * 2] * w.d, mode=mode)
    weight = torch.from_numpy(
        taps.astype(float) if w.channels else taps[None, None].astype(float)
    )
    conv = getattr(torch.nn.functional, f"conv{w.d}d")
    image = torch.from_numpy(wide if w.channels else wide[None])[None]
    right = conv(image, weight, stride=w.stride, dilation=w.dilation, groups=w.groups)
    right = right.numpy().ravel()
    u = np.finfo(w.dtype).eps
    for name, (forward, adjoint) in found.items():
        if forward is not None:
            error = np.linalg.norm(np.ravel(forward(x)) - right) / np.linalg.norm(right)
            assert error < 200 * u, (w.name, name, error)
        if adjoint is not None:
            got = np.ravel(adjoint(y)).astype(float)
            gap = abs(
                np.dot(right, y.ravel().astype(float)) - np.dot(x.ravel().astype(float), got)
            )
            scale = np.linalg.norm(right) * np.linalg.norm(y)
            assert gap / scale < 200 * u, (w.name, name, gap / scale)


def race(calls: dict[str, Callable], v: np.ndarray, rounds: int) -> dict[str, float]:
    """Return the median seconds of every call, in turn."""
    bound = {name: functools.partial(call, v) for name, call in calls.items()}
    times = in_turn(bound, rounds, twice=True)
    return {name: statistics.median(each) for name, each in times.items()}


def memory(A: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Return the peak of a product's allocations over input plus output."""
    peaks = []
    for call, v in ((A, x), (A.H, y)):
        call(v)
        tracemalloc.start()
        call(v)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return max(peaks) / (x.nbytes + y.nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help="parts of names; all by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", action="store_true", help="peak of each product instead")
    options = parser.parse_args()
    print(f"{heading()}, {len(os.sched_getaffinity(0))} cores")
    for name in ("torch", "jax", "numba", "pylops"):
        with contextlib.suppress(ImportError):
            print(f"{name} {importlib.import_module(name).__version__}", end="  ")
    print("\n")
    if not options.memory:
        print(f"| workload | auto | {' | '.join(COLUMNS)} | best peer | its time / auto's |")
        print("|---" * (len(COLUMNS) + 4) + "|")
    for w in WORKLOADS:
        if options.workloads and not any(part in w.name for part in options.workloads):
            continue
        taps, x, y = w.make()
        found = contestants(w, taps)
        check(w, taps, x, y, found)
        chosen = w.operator(taps, "auto").method
        if options.memory:
            A = w.operator(taps, "auto")
            print(f"{w.name}: {chosen}, peak {memory(A, x, y):.2f} x (input + output)")
            continue
        for side, v, which in (("forward", x, 0), ("adjoint", y, 1)):
            calls = {name: pair[which] for name, pair in found.items() if pair[which]}
            print(row(f"{w.name}, {side}", chosen, race(calls, v, options.rounds)), flush=True)


def row(name: str, chosen: str, times: dict[str, float]) -> str:
    """Return a line of the table, in milliseconds; the last number is peer over auto."""
    best = min((each for each in times if each in PEERS), key=times.__getitem__)
    auto, peer = times["linconv auto"], times[best]
    shown = (f"{1e3 * times[each]:.2f}" if each in times else "-" for each in COLUMNS)
    return f"| {name} | {chosen} | {' | '.join(shown)} | {best} | {peer / auto:.2f} |"


if __name__ == "__main__":
    main()
