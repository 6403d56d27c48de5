"""``python -m linconv demo [IMAGE]``: blur a photograph with a matrix, then restore it.

The blur is the matrix C of `conv_matrix`, the restoration an iterative solver on
the operator of `Conv`.  scikit-image, matplotlib and tqdm are the extra "demo":
they are imported inside functions, after `_require_extra` has looked for them.
"""

from __future__ import annotations

import argparse
import functools
import math
import operator
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import scipy.sparse.linalg
from scipy.sparse import diags_array

import linconv
from linconv.testing import check_adjoint

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".pdf", ".svg")
_SOLVERS = {"lsmr": scipy.sparse.linalg.lsmr, "lsqr": scipy.sparse.linalg.lsqr}
# Of each solve: the noise, and the next round's weights, change more than that.
_TOLERANCE = 1e-3
# Rounds the corner of |grad x|: a few grey levels of 255, hardly visible.
_EPS = 0.005
# Side of the picture of C: 24 x 24 pixels, so that one entry is about one dot.
_CORNER = 576
_DEFAULTS = {"motion": {"length": 15.0, "angle": 30.0}, "defocus": {"radius": 4.0}}
_STOPS = (
    "the start is the solution",
    f"the equations hold to {_TOLERANCE:g}",
    f"the least-squares solution is good to {_TOLERANCE:g}",
    "the condition number exceeds the solver's limit",
    "the equations hold to rounding",
    "the least-squares solution is good to rounding",
    "the condition number is too large for float64",
    "the limit of iterations",
)


class _Refusal(Exception):
    """A whole line for stderr; the command then exits with status 2."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise _Refusal(f"{self.prog}: error: {message}")


class _Solution(NamedTuple):
    """What the solver returned, over all rounds."""

    image: np.ndarray
    iterations: list[int]
    stop: str
    seconds: float


class _Picture(NamedTuple):
    """What the picture shows."""

    original: np.ndarray
    blurred: np.ndarray
    restored: np.ndarray
    kernel: np.ndarray
    boundary: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help(sys.stderr)
            return 2
        return demo(options)
    except _Refusal as refusal:
        message = str(refusal)
    except MemoryError as error:
        message = f"linconv demo: error: {error}; try a smaller --size"
    except KeyboardInterrupt:
        print("linconv demo: interrupted", file=sys.stderr)
        return 130
    print(" ".join(message.split()), file=sys.stderr)
    return 2


def demo(options: argparse.Namespace) -> int:
    """Blur, restore, report; return 0, or 1 if the adjoint test fails."""
    _require_extra()
    _fill_in(options)
    _check_out(options.out, options.image)
    x, name = _photograph(options.image, options.size)
    kernel, words = _kernel(options, x.shape)
    _say("image", f"{name}, grey float64 in [0, 1]")
    _say("kernel", f"{words}: {_by(kernel.shape)} taps, boundary {options.boundary}")
    rules = {"padding": "same", "boundary": options.boundary}
    y = _blur(kernel, x, rules)
    A = linconv.Conv(kernel, x.shape, **rules)
    _say("operator", repr(A))
    adjoint = check_adjoint(A)
    sign, verdict = ("<=", "passed") if adjoint.passed else (">", "FAILED")
    _say("adjoint error", f"{adjoint.error:.1e} {sign} {adjoint.tolerance:.1e}: {verdict}")
    noise = np.random.default_rng(options.seed).standard_normal(x.shape)
    y += options.noise * noise
    _say("noise", f"Gaussian, standard deviation {options.noise:g}, seed {options.seed}")
    _say("minimised", "|C x - b|^2 + mu sum sqrt(|grad x|^2 + eps^2)")
    _say("", f"mu = {options.mu:.3g}, eps = {_EPS:g}: smoothed total variation")
    rounds = f"{options.rounds} round" + "s" * (options.rounds > 1)
    _say("by", f"{rounds} of {options.solver} on [C; W Gx; W Gy], x0 = last x, first x = b")
    _say("", "W^2 = diag(mu / (2 sqrt(|grad x0|^2 + eps^2)))")
    solution = _restore(A, y, options)
    counts = " + ".join(map(str, solution.iterations))
    _say("iterations", f"{sum(solution.iterations)} = {counts}")
    _say("stopped by", solution.stop)
    _say("solve time", f"{solution.seconds:.1f} s")
    _compare(_psnr(y, x), _psnr(solution.image, x))
    _save(_Picture(x, y, solution.image, kernel, options.boundary), options.out)
    _say("picture", str(options.out))
    return 0 if adjoint.passed else 1


# The command line -------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="linconv", description=linconv.__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--version", action="version", version=f"linconv {linconv.__version__}"
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    words = "blur a photograph with a sparse matrix and restore it"
    command = commands.add_parser("demo", help=words, description=words, allow_abbrev=False)
    add = command.add_argument
    add("image", nargs="?", metavar="IMAGE", help="a photograph (default: data.camera())")
    add("--out", default="linconv-demo.png", metavar="FILE", help="picture (%(default)s)")
    add("--size", type=_whole(8), default=512, metavar="N", help="longest side (%(default)s)")
    add("--blur", choices=tuple(_DEFAULTS), default="motion", help="kernel (%(default)s)")
    add("--length", type=_number(1), metavar="L", help="of the motion, in pixels (15)")
    add("--angle", type=_number(), metavar="DEG", help="of the motion, from the right (30)")
    add("--radius", type=_number(0.5), metavar="R", help="of the defocus, in pixels (4)")
    rules = tuple(rule.value for rule in linconv.Boundary)
    add("--boundary", choices=rules, default="reflect", help="what lies outside (%(default)s)")
    add("--noise", type=_number(0, 1), default=0.01, help="standard deviation (%(default)s)")
    add("--seed", type=_whole(0), default=2024, metavar="N", help="of the noise (%(default)s)")
    add("--mu", type=_number(0), help="weight of the total variation (noise^1.5)")
    add("--solver", choices=tuple(_SOLVERS), default="lsmr", help="(%(default)s)")
    add("--rounds", type=_whole(1), default=4, metavar="N", help="reweightings (%(default)s)")
    add(
        "--iterations",
        type=_whole(1),
        default=40,
        metavar="N",
        help="limit of each round (%(default)s)",
    )
    return parser


def _number(least: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """Return the parser of a finite number between `least` and `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and least <= value <= most:
            return value
        bounds = f" >= {least:g}" * math.isfinite(least) + f" and <= {most:g}" * math.isfinite(
            most
        )
        raise argparse.ArgumentTypeError(f"must be a finite number{bounds}, got {text!r}")

    return parse


def _whole(least: int) -> Callable[[str], int]:
    """Return the parser of an integer of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value >= least:
            return value
        raise argparse.ArgumentTypeError(f"must be an integer >= {least}, got {text!r}")

    return parse


def _refuse(message: str) -> NoReturn:
    raise _Refusal(f"linconv demo: error: {message}")


def _require_extra() -> None:
    try:
        import matplotlib.figure  # noqa: F401
        import skimage.transform  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        _refuse(f'needs {error.name}, which is missing: pip install "linconv[demo]"')


def _fill_in(options: argparse.Namespace) -> None:
    """Set the options whose defaults depend on others; refuse those of the other blur."""
    for blur, defaults in _DEFAULTS.items():
        for name, default in defaults.items():
            given = getattr(options, name) is not None
            if given and blur != options.blur:
                _refuse(f"--{name} belongs to --blur {blur}, not to --blur {options.blur}")
            if not given:
                setattr(options, name, default)
    if options.mu is None:
        # Found by trial on several photographs, kernels and noises from 0.001 to 0.05.
        options.mu = max(options.noise, 1e-4) ** 1.5


def _check_out(out: str, image: str | None) -> None:
    """Refuse a picture that could not be written, before the work is done."""
    path = Path(out)
    if path.suffix.lower() not in _SUFFIXES:
        _refuse(f"--out {out!r} must end in one of {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        _refuse(f"--out {out!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        _refuse(f"--out {out!r} is a directory")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        _refuse(f"--out {out!r} cannot be written: permission denied")
    if image is not None and path.exists() and os.path.exists(image) and path.samefile(image):
        _refuse(f"--out {out!r} is the photograph itself")


def _say(label: str, text: str) -> None:
    print(f"{label:<14} {text}", flush=True)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


# The photograph and its blur ----------------------------------------------------


def _photograph(path: str | None, size: int) -> tuple[np.ndarray, str]:
    """Return a grey image of at most `size` pixels a side, and words for it."""
    from skimage import data
    from skimage.transform import resize

    image = data.camera() / 255.0 if path is None else _grey(_read(path), path)
    name = "data.camera()" if path is None else Path(path).name
    shape, longest = image.shape, max(image.shape)
    if longest <= size:
        return image, f"{name}, {_by(shape)}"
    reduced = tuple(max(1, round(n * size / longest)) for n in shape)
    image = np.clip(resize(image, reduced, anti_aliasing=True), 0, 1)
    return image, f"{name}, {_by(shape)} reduced to {_by(reduced)} (--size {size})"


def _read(path: str) -> np.ndarray:
    """Return the pixels of a file, as they are stored."""
    from skimage.io import imread

    if not os.path.exists(path):
        _refuse(f"there is no file {path!r}")
    if os.path.isdir(path):
        _refuse(f"{path!r} is a directory, not a photograph")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(imread(path))
    except Exception as error:  # each of the readers behind imread has errors of its own
        _refuse(f"{path!r} cannot be read as an image ({type(error).__name__})")


def _grey(pixels: np.ndarray, path: str) -> np.ndarray:
    """Return stored pixels, grey or coloured, as grey float64 in [0, 1]."""
    from skimage.color import rgb2gray
    from skimage.util import img_as_float64

    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):  # grey, perhaps with transparency
        pixels = pixels[:, :, 0]
    coloured = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if pixels.dtype.kind not in "buf" or not (coloured or pixels.ndim == 2):
        _refuse(
            f"{path!r} holds {pixels.dtype} of shape {pixels.shape}: expected one grey, RGB or "
            "RGBA image of unsigned integers or floats"
        )
    if pixels.dtype.kind == "f" and not ((pixels >= 0) & (pixels <= 1)).all():
        _refuse(f"{path!r} holds floats outside [0, 1]: scale them first")
    # Transparency is dropped: what lies under it is part of the photograph.
    image = img_as_float64(pixels)
    return rgb2gray(image[:, :, :3]) if coloured else image


def _kernel(options: argparse.Namespace, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Return the kernel, which must fit an image of `shape`, and words for it."""
    name = "length" if options.blur == "motion" else "radius"
    value = getattr(options, name)
    extent = value if name == "length" else 2 * value
    if min(shape) < extent + 3:
        _refuse(
            f"--{name} {value:g} needs an image of at least {math.ceil(extent + 3)} pixels a "
            f"side, got {_by(shape)}"
        )
    if name == "radius":
        return _disc(value), f"defocus, radius {value:g}"
    words = f"motion, length {value:g}, angle {options.angle:g} degrees"
    return _line(value, options.angle), words


def _line(length: float, angle: float) -> np.ndarray:
    """Return the anti-aliased line of a motion; it is its own mirror image."""
    half = math.ceil(length / 2 + 1)
    down, right = np.mgrid[-half : half + 1, -half : half + 1]
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = np.abs(c * right - s * down), np.abs(s * right + c * down)
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return _trim(kernel)


def _disc(radius: float) -> np.ndarray:
    """Return the anti-aliased disc of a lens out of focus."""
    half = math.ceil(radius + 0.5)
    down, right = np.mgrid[-half : half + 1, -half : half + 1]
    return _trim(np.clip(radius + 0.5 - np.hypot(down, right), 0, 1))


def _trim(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel of sum 1 without its empty rows and columns."""
    kernel = np.where(kernel > 1e-12, kernel, 0)
    kernel = kernel[np.ix_(kernel.any(axis=1), kernel.any(axis=0))]
    return kernel / kernel.sum()


def _blur(kernel: np.ndarray, x: np.ndarray, rules: dict[str, Any]) -> np.ndarray:
    """Return ``C @ x`` with the assembled matrix, and report on it."""
    start = time.perf_counter()
    C = linconv.conv_matrix(kernel, x.shape, **rules)
    seconds = time.perf_counter() - start
    nbytes = C.data.nbytes + C.indices.nbytes + C.indptr.nbytes
    _say("matrix C", f"{_by(C.shape)}, CSR {C.dtype}")
    _say("nonzeros", f"{C.nnz:,}")
    _say("bytes", f"{nbytes:,} ({nbytes / 1e6:.0f} MB)")
    _say("assembly", f"{seconds:.2f} s")
    return (C @ x.ravel()).reshape(x.shape)


# The restoration ----------------------------------------------------------------


class _Stack(linconv.LinearOperator):
    """Operators above one another, ``[A; B; ...]``, that call `tick` per adjoint product."""

    def __init__(
        self, parts: Sequence[linconv.LinearOperator], tick: Callable[[], Any]
    ) -> None:
        rows = [part.shape[0] for part in parts]
        super().__init__(np.float64, parts[0].in_shape, sum(rows))
        self.parts, self.tick, self.cuts = parts, tick, np.cumsum(rows)[:-1]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return np.concatenate([part @ X for part in self.parts])

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        self.tick()
        blocks = zip(self.parts, np.split(X, self.cuts), strict=True)
        return functools.reduce(operator.add, (part.H @ block for part, block in blocks))


def _restore(A: linconv.Conv, b: np.ndarray, options: argparse.Namespace) -> _Solution:
    """Minimise |A x - b|^2 + mu TV(x) by least squares, reweighted in every round.

    Of the current x, the quadratic sum |grad x|^2 / sqrt(|grad x0|^2 + eps^2) touches
    the total variation from above: its minimum is a smaller one of both.
    """
    from tqdm import tqdm

    rules: dict[str, Any] = {"padding": "same", "boundary": "replicate"}
    gradient = [
        linconv.Conv(taps, b.shape, **rules) for taps in ([[0, -1.0, 1]], [[0], [-1.0], [1]])
    ]
    x, right, counts, stop = (
        b.ravel(),
        np.concatenate([b.ravel(), np.zeros(2 * b.size)]),
        [],
        0,
    )
    solve: Any = _SOLVERS[options.solver]
    limit = {"lsmr": "maxiter", "lsqr": "iter_lim"}[options.solver]
    tolerances = {"atol": _TOLERANCE, "btol": _TOLERANCE, limit: options.iterations}
    start = time.perf_counter()
    with tqdm(total=options.rounds * options.iterations, unit="it", leave=True) as bar:
        for turn in range(1, options.rounds + 1):
            bar.set_description(f"round {turn}/{options.rounds}")
            bar.n -= 1  # the start takes a product too, but is no iteration
            size = np.sqrt(sum((part @ x) ** 2 for part in gradient) + _EPS**2)
            W = linconv.Matrix(diags_array(np.sqrt(options.mu / 2 / size)))
            stack = _Stack([A, *(W @ part for part in gradient)], bar.update)
            x, stop, count, *_ = solve(stack, right, x0=x, **tolerances)
            counts.append(count)
            bar.total -= options.iterations - count  # so that the bar ends full
    seconds = time.perf_counter() - start
    return _Solution(x.reshape(b.shape), counts, _STOPS[stop], seconds)


def _psnr(image: np.ndarray, original: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, for a peak of 1."""
    error = float(np.mean((image - original) ** 2))
    return -10 * math.log10(error) if error else math.inf


def _compare(before: float, after: float) -> None:
    _say("PSNR", f"blurred {before:.2f} dB, restored {after:.2f} dB: {after - before:+.2f} dB")
    if after <= before:
        _say("", "the restored image is NOT better than the blurred one: try another --mu")


# The picture --------------------------------------------------------------------


def _save(picture: _Picture, out: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    h, w = picture.original.shape
    figure = Figure(figsize=(9, np.clip(9 * h / w, 5, 16) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: the user's backend and settings stay as they are
    _draw(figure, picture)
    try:
        figure.savefig(out, dpi=150)
    except OSError as error:
        _refuse(f"--out {out!r} cannot be written: {error.strerror or error}")


def _draw(figure: Any, picture: _Picture) -> None:
    before, after = (
        _psnr(image, picture.original) for image in (picture.blurred, picture.restored)
    )
    titles = (
        "original x",
        f"b = C x + noise: {before:.1f} dB",
        f"restored from b: {after:.1f} dB",
    )
    panels = figure.subplots(2, 2).flat
    for title, image, axes in zip(titles, picture[:3], panels, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=13)
    inset = panels[1].inset_axes((0.72, 0.02, 0.26, 0.26))
    inset.imshow(picture.kernel, cmap="gray", vmin=0)
    inset.set_title(f"kernel, {_by(picture.kernel.shape)}", fontsize=9, color="white", pad=3)
    corner, title = _corner(picture.kernel, picture.boundary)
    panels[3].imshow(corner, cmap="magma_r", vmin=0)
    panels[3].set_title(title, fontsize=13)
    for axes in (*panels, inset):
        axes.set(xticks=[], yticks=[])
    inset.spines[:].set_color("white")


def _corner(kernel: np.ndarray, boundary: str) -> tuple[np.ndarray, str]:
    """Return |entries| of a C small enough to be seen, or of the first rows of one."""
    n = max(24, *kernel.shape)
    C = linconv.conv_matrix(
        kernel, (n, n), padding="same", boundary=boundary, rows=(0, math.ceil(_CORNER / n))
    )
    corner = np.abs(C[:_CORNER, :_CORNER].toarray())
    if n * n == _CORNER:
        return corner, f"C of this kernel on a {n} x {n} image"
    return corner, f"first {_CORNER} rows and columns of C on {n} x {n}"


if __name__ == "__main__":
    sys.exit(main())
