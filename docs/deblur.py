"""Deblurring without a guess about what lies outside the picture.

A camera sees a window of a larger scene, and blurred pixels near its rim depend on what
is outside.  Here the unknown is the larger scene: the convolution is "valid", it needs
no boundary rule, and total variation fills in what is seen too little.  Run it as
``python docs/deblur.py``.  The other two problems use the first functions of this file.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import linconv
from linconv.solvers import lstsq
from linconv.spectrum import circulant_preconditioner

RULES = ("zeros", "circular", "replicate")
# Weights of the total variation; every method gets the one that suits it best.
WEIGHTS = (3e-4, 3e-3, 3e-2, 3e-1)
NOISE = 0.005


def total_variation(
    A: linconv.LinearOperator,
    b: np.ndarray,
    mu: float,
    x0: np.ndarray,
    *,
    rounds: int = 6,
    iterations: int = 15,
    eps: float = 0.003,
    tick: Callable[[int], Any] = lambda n: None,
) -> np.ndarray:
    """Minimise ``|A x - b|^2 + mu sum sqrt(|grad x|^2 + eps^2)`` by reweighted squares.

    At x0, ``|W G x|^2 / 2`` with ``W^2 = 1 / sqrt(|grad x0|^2 + eps^2)`` touches the sum
    from above, but for a constant: every round lowers both.  `tick` hears of iterations.
    """
    G, x = linconv.gradient(A.in_shape), x0
    for _ in range(rounds):
        length = np.sqrt((G(x) ** 2).sum(axis=0) + eps**2)
        W = linconv.Diagonal(np.broadcast_to(1 / np.sqrt(length), G.out_shape))
        penalties = [(mu / 2, W @ G)]
        M = circulant_preconditioner(A, penalties=penalties)
        how = {"x0": x, "preconditioner": M, "tol": 1e-5, "maxiter": iterations}
        solution = lstsq(A, b, penalties=penalties, callback=lambda x: tick(1), **how)
        tick(iterations - solution.iterations)
        x = solution.x
    return x


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, for a peak of 1."""
    return -10 * math.log10(np.mean((image - truth) ** 2))


def photograph(name: str, size: int) -> np.ndarray:
    """Return an image that comes with scikit-image, grey in [0, 1], `size` pixels a side."""
    from skimage import data
    from skimage.transform import resize

    image = getattr(data, name)() / 255.0
    grey = image @ [0.2125, 0.7154, 0.0721] if image.ndim == 3 else image
    return resize(grey, (size, size), anti_aliasing=True).clip(0, 1)


def motion(length: float, angle: float) -> np.ndarray:
    """Return the taps of a straight motion, in pixels and degrees, of sum 1."""
    t = (np.linspace(-0.5, 0.5, 512) * length)[:, None]
    half = math.ceil(length / 2)
    grid = np.arange(-half, half + 1)
    down = np.clip(1 - abs(grid + t * math.sin(math.radians(angle))), 0, 1)
    right = np.clip(1 - abs(grid - t * math.cos(math.radians(angle))), 0, 1)
    taps = down.T @ right
    taps = taps[np.ix_(taps.any(axis=1), taps.any(axis=0))]
    return taps / taps.sum()


def margins(kernel: np.ndarray) -> list[tuple[int, int]]:
    """Return what "valid" takes off at both ends of every axis."""
    return [((k - 1) // 2, k // 2) for k in kernel.shape]


def problem(size: int = 256, seed: int = 2024) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scene, the kernel, and what the camera sees: blurred, noisy, smaller."""
    scene, kernel = photograph("camera", size), motion(28, 30)
    A = linconv.Conv(kernel, scene.shape)
    noise = np.random.default_rng(seed).standard_normal(A.out_shape)
    return scene, kernel, A(scene) + NOISE * noise


def solve(b: np.ndarray, kernel: np.ndarray, mu: float, rule: str = "", **how: Any) -> Any:
    """Return the deblurred image: of the window with a boundary `rule`, else of the scene."""
    if rule:
        A = linconv.Conv(kernel, b.shape, padding="same", boundary=rule)
        return total_variation(A, b, mu, b, **how)
    around = margins(kernel)
    scene = tuple(n + lo + hi for n, (lo, hi) in zip(b.shape, around, strict=True))
    start = linconv.pad(b.shape, around, boundary="replicate")(b)
    return total_variation(linconv.Conv(kernel, scene), b, mu, start, **how)


def options(about: str, out: str, size: int) -> argparse.ArgumentParser:
    """Return the parser of ``--out``, ``--size`` and ``--seed``."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--out", default=out, help="the picture (%(default)s)")
    parser.add_argument("--size", type=int, default=size, help="pixels a side (%(default)s)")
    parser.add_argument("--seed", type=int, default=2024, help="of the noise (%(default)s)")
    return parser


@dataclass
class Panel:
    """One image of a picture, with a kernel in its corner or a frame around a part."""

    title: str
    image: np.ndarray
    kernel: np.ndarray | None = None
    frame: Sequence[slice] = ()


def save(out: str, panels: Sequence[Panel], columns: int) -> None:
    """Write panels row by row, in few colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from PIL import Image

    rows = len(panels) // columns
    figure = Figure(figsize=(3.6 * columns, 3.9 * rows), layout="compressed")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(rows, columns).ravel(), panels, strict=True):
        axes.set_title(panel.title, fontsize=13)
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        if panel.frame:
            pairs = zip(panel.frame, panel.image.shape, strict=True)
            (top, bottom, _), (left, right, _) = (part.indices(n) for part, n in pairs)
            style = {"fill": False, "edgecolor": "orange", "linewidth": 2}
            corner = (left - 0.5, top - 0.5)
            axes.add_patch(Rectangle(corner, right - left, bottom - top, **style))
        if panel.kernel is not None:
            inset = axes.inset_axes((0.71, 0.01, 0.28, 0.28), anchor="SE")
            inset.imshow(panel.kernel, cmap="gray", vmin=0, interpolation="nearest")
            inset.spines[:].set_color("white")
            inset.set(xticks=[], yticks=[])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight", pad_inches=0.08)
    few = Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    few.save(out, optimize=True)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Blur, deblur in four ways, print the figures, save the picture; return the figures."""
    from tqdm import tqdm

    given = options(__doc__, "deblur.png", 256).parse_args(arguments)
    scene, kernel, b = problem(given.size, given.seed)
    crop = linconv.crop(scene.shape, margins(kernel))
    truth = crop(scene)
    print(f"scene {scene.shape}, motion blur {kernel.shape}, the camera sees {b.shape}")
    print(f"noise {NOISE}, seed {given.seed}; |A x - b|^2 + mu TV(x), mu of {WEIGHTS}")
    images, figures, weights = {"blurred": b}, {"blurred": psnr(b, truth)}, {}
    with tqdm(total=(len(RULES) + 1) * len(WEIGHTS) * 90, unit="it") as bar:
        for rule in (*RULES, ""):
            name = f"{rule} outside" if rule else "unknown scene"
            bar.set_description(name)
            for mu in WEIGHTS:
                x = solve(b, kernel, mu, rule, tick=bar.update)
                quality = psnr(x if rule else crop(x), truth)
                if quality > figures.get(name, -math.inf):
                    images[name], figures[name], weights[name] = x, quality, f", mu = {mu}"
    for name, quality in figures.items():
        print(f"PSNR {name:<17} {quality:6.2f} dB{weights.get(name, '')}")
    window = [slice(lo, -hi) for lo, hi in margins(kernel)]
    panels = [Panel("truth, and the frame of b", scene, frame=window)]
    for name, image in images.items():
        panels.append(Panel(f"{name}, {figures[name]:.1f} dB", image))
    panels[1].kernel, panels[-1].frame = kernel, window
    save(given.out, panels, 3)
    print(f"picture {given.out}")
    return figures


if __name__ == "__main__":
    main()
