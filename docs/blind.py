"""Find the kernel that blurred a picture, and the picture, from the picture alone.

``y = x * k`` is linear in x, as `Conv`, and linear in k, as `FilterConv`: the two take
turns, from coarse to fine.  Total variation would prefer a blurred x and a k without
blur (Levin et al., "Understanding blind deconvolution algorithms", IEEE PAMI 33 (2011)
2354-2367, doi:10.1109/TPAMI.2011.148); a logarithm of the gradient prefers few, sharp
edges, as in Xu, Zheng and Jia, "Unnatural L0 sparse representation for natural image
deblurring", CVPR 2013.  Run it as ``python docs/blind.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from deblur import Panel, margins, options, photograph, psnr, save, total_variation

import linconv
from linconv.solvers import lstsq
from linconv.spectrum import circulant_preconditioner

NOISE = 0.005
TAPS = 15
# Coarse to fine; the last ones also trust the edges more: (scale, weight, turns).
STAGES = (
    *((scale, 1e-3, 5) for scale in (0.25, 0.35, 0.5, 0.71, 1)),
    *((1, weight, 2) for weight in (5e-4, 2.5e-4, 1.2e-4, 6e-5, 3e-5)),
)
ROUNDS, ITERATIONS = 4, 8
# Of the total variation in the last step, which keeps the kernel.
MUS = (1e-3, 1e-2)


def shake() -> np.ndarray:
    """Return the taps of a curved, accelerated motion, centred, of sum 1."""
    t = np.linspace(0, 1, 400)
    speed = 0.6 + 0.8 * t
    path = np.stack([4.2 * np.sin(2.6 * t), 2.5 * np.cos(3.6 * t) * (1 + t)])
    path -= (path @ speed)[:, None] / speed.sum()
    grid = np.arange(TAPS) - TAPS // 2
    down, right = np.clip(1 - abs(grid - path[..., None]), 0, 1)
    taps = (down * speed[:, None]).T @ right
    return taps / taps.sum()


def gaussian(width: float = 2.0) -> np.ndarray:
    """Return the kernel to start from: round, and of no direction."""
    line = np.exp(-(((np.arange(TAPS) - TAPS // 2) / width) ** 2) / 2)
    return np.outer(line, line) / line.sum() ** 2


def problem(size: int = 224, seed: int = 2024) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scene, the kernel, and the blurred, noisy window of the scene."""
    scene, kernel = photograph("camera", size), shake()
    A = linconv.Conv(kernel, scene.shape)
    noise = np.random.default_rng(seed).standard_normal(A.out_shape)
    return scene, kernel, A(scene) + NOISE * noise


def image_step(
    b: np.ndarray, kernel: np.ndarray, weight: float, x: np.ndarray, tick: Callable[[int], Any]
) -> np.ndarray:
    """Minimise ``|x * kernel - b|^2 + weight sum log(|grad x|^2 + eps^2)``, eps shrinking."""
    A, G = linconv.Conv(kernel, x.shape), linconv.gradient(x.shape)
    for eps in np.geomspace(0.1, 0.01, ROUNDS):
        W = np.broadcast_to(1 / np.sqrt((G(x) ** 2).sum(axis=0) + eps**2), G.out_shape)
        penalties = [(weight, linconv.Diagonal(W) @ G)]
        M = circulant_preconditioner(A, penalties=penalties)
        how = {"x0": x, "preconditioner": M, "tol": 1e-4, "maxiter": ITERATIONS}
        x = lstsq(A, b, penalties=penalties, **how).x
        tick(1)
    return x


def kernel_step(b: np.ndarray, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Minimise ``|grad x * k - grad b|^2 + damp^2 |k|^2``, then make k a kernel again."""
    edges, right = linconv.gradient(x.shape)(x), linconv.gradient(b.shape)(b)
    inside = (slice(None), slice(-1), slice(-1))  # the last differences are not data
    parts = [linconv.FilterConv(edge, kernel.shape) for edge in edges[inside]]
    damp = 0.2 * np.linalg.norm(edges)
    F = linconv.vstack(parts)
    k = lstsq(F, right[inside], damp=damp, x0=kernel, tol=1e-5, maxiter=12).x
    return projected(k)


def projected(k: np.ndarray) -> np.ndarray:
    """Return a kernel without negative and faint taps, of sum 1."""
    k = np.where(k > 0.05 * k.max(), k, 0)
    return k / k.sum()


def resized(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an image or a kernel on another grid."""
    return linconv.resize(a.shape, shape, antialias=True)(a)


def solve(
    b: np.ndarray, kernel: np.ndarray, tick: Callable[[int], Any] = lambda n: None
) -> np.ndarray:
    """Return the kernel, found from `b` and a first guess."""
    for scale, weight, turns in STAGES:
        small = resized(b, tuple(round(n * scale) for n in b.shape))
        taps = 2 * round((TAPS * scale - 1) / 2) + 1
        kernel = projected(resized(kernel, (taps, taps)))
        x = linconv.pad(small.shape, taps // 2, boundary="replicate")(small)
        for _ in range(turns):
            x = image_step(small, kernel, weight, x, tick)
            kernel = kernel_step(small, x, kernel)
            # Where x and k lie is only known together: keep k in the middle.
            middle = [round(np.average(g, weights=kernel)) for g in np.indices(kernel.shape)]
            shift = [taps // 2 - m for m in middle]
            kernel, x = np.roll(kernel, shift, (0, 1)), np.roll(x, [-s for s in shift], (0, 1))
    return kernel


def deblurred(b: np.ndarray, kernel: np.ndarray, mu: float) -> np.ndarray:
    """Minimise ``|x * kernel - b|^2 + mu TV(x)`` over the scene x; return its window."""
    around = margins(kernel)
    pad = linconv.pad(b.shape, around, boundary="replicate")
    x = total_variation(linconv.Conv(kernel, pad.out_shape), b, mu, pad(b))
    return linconv.crop(x.shape, around)(x)


def error(kernel: np.ndarray, truth: np.ndarray) -> float:
    """Return the relative error of a kernel."""
    return float(np.linalg.norm(kernel - truth) / np.linalg.norm(truth))


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Blur, find the kernel, print the figures, save the picture; return the figures."""
    from tqdm import tqdm

    given = options(__doc__, "blind.png", 224).parse_args(arguments)
    scene, truth, b = problem(given.size, given.seed)
    window = linconv.crop(scene.shape, margins(truth))(scene)
    start = gaussian()
    print(f"scene {scene.shape}, kernel {truth.shape}, noise {NOISE}, seed {given.seed}")
    with tqdm(total=ROUNDS * sum(turns for *_, turns in STAGES), unit="solve") as bar:
        found = solve(b, start, bar.update)
    images = {"blurred": b}
    kernels = {"first kernel": start, "found kernel": found, "true kernel": truth}
    for name, k in kernels.items():
        print(f"relative error of the {name:<13} {error(k, truth):.2f}")
        images[name] = max((deblurred(b, k, mu) for mu in MUS), key=lambda x: psnr(x, window))
    figures = {name: psnr(x, window) for name, x in images.items()}
    for name, quality in figures.items():
        print(f"PSNR {name:<13} {quality:6.2f} dB")
    panels = [Panel("truth", window)]
    for name, image in images.items():
        panels.append(Panel(f"{name}, {figures[name]:.1f} dB", image, kernels.get(name)))
    four = [start, found, truth, abs(found - truth)]
    one, two, three, four = (np.pad(k / truth.max(), 1, constant_values=1) for k in four)
    block = np.vstack([np.hstack([one, two]), np.hstack([three, four])])
    panels.append(Panel("first and found; true and difference", block))
    save(given.out, panels, 3)
    print(f"picture {given.out}")
    return figures | {name + " error": error(k, truth) for name, k in kernels.items()}


if __name__ == "__main__":
    main()
