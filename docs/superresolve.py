"""Twice the resolution from one small, blurred picture.

A camera with pixels twice as large is a convolution with stride 2.  Its kernel has an
even number of taps, so that a large pixel lies in the middle of four small ones: the
"half_pixel" alignment of `linconv.resize`.  Run it as ``python docs/superresolve.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from deblur import Panel, options, photograph, psnr, save, total_variation

import linconv
from linconv.solvers import lstsq
from linconv.spectrum import circulant_preconditioner

NOISE = 0.005
# Of the total variation, and of the squared gradient that it is compared with.
MU, RIDGE = 1e-3, 2e-3
UPSAMPLERS = {
    "linear": {"mode": "linear"},
    "cubic -1/2": {"mode": "cubic", "cubic": -0.5},
    "cubic -3/4": {"mode": "cubic", "cubic": -0.75},
}


def gaussian(width: float, taps: int) -> np.ndarray:
    """Return the taps of a Gaussian of a standard deviation in pixels, of sum 1."""
    line = np.exp(-(((np.arange(taps) - (taps - 1) / 2) / width) ** 2) / 2)
    return np.outer(line, line) / line.sum() ** 2


def camera(shape: tuple[int, int]) -> linconv.Conv:
    """Return the camera: lens and large pixels together are a Gaussian, of every second one.

    Eight taps with three samples of padding: output i is centred at 2 i + 1/2.
    """
    return linconv.Conv(gaussian(1.2, 8), shape, stride=2, padding=3, boundary="replicate")


def problem(size: int = 256, seed: int = 2024) -> tuple[np.ndarray, linconv.Conv, np.ndarray]:
    """Return the image, the camera A, and its small, noisy picture."""
    image = photograph("astronaut", size)
    A = camera(image.shape)
    noise = np.random.default_rng(seed).standard_normal(A.out_shape)
    return image, A, A(image) + NOISE * noise


def upsampled(b: np.ndarray, **how: Any) -> np.ndarray:
    """Return `b` interpolated at the places of the small pixels."""
    return linconv.resize(b.shape, scale=2, **how)(b)


def smooth(A: linconv.Conv, b: np.ndarray, weight: float = RIDGE) -> np.ndarray:
    """Minimise ``|A x - b|^2 + weight |grad x|^2``."""
    penalties = [(weight, linconv.gradient(A.in_shape))]
    M = circulant_preconditioner(A, penalties=penalties)
    return lstsq(A, b, penalties=penalties, preconditioner=M, tol=1e-5).x


def solve(
    A: linconv.Conv, b: np.ndarray, mu: float = MU, tick: Callable[[int], Any] = lambda n: None
) -> np.ndarray:
    """Minimise ``|A x - b|^2 + mu TV(x)``, starting from the cubic interpolation."""
    return total_variation(A, b, mu, upsampled(b, mode="cubic"), tick=tick)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Shrink, enlarge, print the figures, save the picture; return the figures."""
    from tqdm import tqdm

    given = options(__doc__, "superresolve.png", 256).parse_args(arguments)
    image, A, b = problem(given.size, given.seed)
    print(f"image {image.shape}, {A}, noise {NOISE}, seed {given.seed}")
    images = {name: upsampled(b, **how) for name, how in UPSAMPLERS.items()}
    images["half a pixel off"] = upsampled(b, mode="cubic", coordinates="asymmetric")
    images["squared gradient"] = smooth(A, b)
    with tqdm(total=90, unit="it", desc="total variation") as bar:
        images["total variation"] = solve(A, b, tick=bar.update)
    figures = {name: psnr(x, image) for name, x in images.items()}
    for name, quality in figures.items():
        print(f"PSNR {name:<17} {quality:6.2f} dB")
    best = max(UPSAMPLERS, key=lambda name: figures[name])
    n = given.size // 2
    face = slice(n // 12, n // 2), slice(n // 4, 2 * n // 3)
    fine = tuple(slice(2 * part.start, 2 * part.stop) for part in face)
    panels = [
        Panel(f"truth, {image.shape[0]} x {image.shape[1]}", image, frame=fine),
        Panel(f"part of b, {b.shape[0]} x {b.shape[1]}", b[face], A.kernel),
    ]
    names = {best: f"interpolated, {best}"}
    for name in (best, "squared gradient", "total variation"):
        words = f"{names.get(name, name)}, {figures[name]:.1f} dB"
        panels.append(Panel(words, images[name][fine]))
    panels.append(Panel("truth", image[fine]))
    save(given.out, panels, 3)
    print(f"picture {given.out}")
    return figures


if __name__ == "__main__":
    main()
