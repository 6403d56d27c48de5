"""``python -m linconv demo [IMAGE]``: blur a photograph by a matrix, then restore it.

The blur is the matrix C of `conv_matrix`; an iterative solver restores the photograph with
the operator `Conv`.  scikit-image, matplotlib and tqdm, the extra "demo", are imported
inside functions, after `_require_extra` has looked for them.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from scipy.sparse import diags_array
from scipy.sparse.linalg import LinearOperator, lsmr, lsqr

import linconv
from linconv.testing import check_adjoint

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".pdf", ".svg")
_BLURS = {"motion": {"length": 15.0, "angle": 30.0}, "defocus": {"radius": 4.0}}
_SOLVERS: dict[str, tuple[Any, str]] = {"lsmr": (lsmr, "maxiter"), "lsqr": (lsqr, "iter_lim")}
_DEFAULT = "%(default)s"
_WORDS = {
    "--blur": tuple(_BLURS),
    "--solver": tuple(_SOLVERS),
    "--boundary": ("reflect", *(rule.value for rule in linconv.Boundary if rule != "reflect")),
}
# Option: kind, least, most, default, help; `_fill_in` replaces a default of None.
_NUMBERS: dict[str, tuple[Any, ...]] = {
    "--length": (float, 1, 1000, None, "pixels of the motion (15)"),
    "--angle": (float, -360, 360, None, "degrees from the right to the motion (30)"),
    "--radius": (float, 1, 500, None, "pixels of the defocus (4)"),
    "--size": (int, 8, 4096, 512, f"reduce the longer side to so many pixels ({_DEFAULT})"),
    "--noise": (float, 0, 1, 0.01, f"standard deviation of the noise ({_DEFAULT})"),
    "--seed": (int, 0, 2**63, 2024, f"of the noise ({_DEFAULT})"),
    "--mu": (float, 0, 1000, None, "weight of the total variation (noise^1.5)"),
    "--rounds": (int, 1, 1000, 4, f"solves, each with new weights ({_DEFAULT})"),
    "--iterations": (int, 1, 10**6, 40, f"at most, of every solve ({_DEFAULT})"),
}
# Tolerance of a round's solver; the next round's weights change the solution by more.
_TOLERANCE = 1e-3
# Smooths |grad x| at 0; one of 255 grey levels is 0.004.
_EPS = 0.005
# Rows of C in the picture, those of a 24 x 24 image: about one dot of the picture each.
_CORNER = 576
_STOPS = (  # by SciPy's codes, of which 4 to 6 are 1 to 3 at the limit of precision
    "the start is the solution",
    f"the equations hold to {_TOLERANCE:g}",
    f"the least-squares solution is good to {_TOLERANCE:g}",
    "the condition number exceeds the solver's limit",
    *("nothing more can be gained in float64",) * 3,
    "the limit of iterations was reached",
)


class _RefusalError(Exception):
    """A request that cannot be fulfilled; the text is one line for stderr."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise _RefusalError(f"{self.prog}: error: {message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 if the demo fails, 2 for errors, 130 if stopped."""
    try:
        parser = _parser()
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            _refuse(f"unknown arguments {' '.join(unknown)!r}")
        if options.command is None:
            parser.print_help(sys.stderr)
            return 2
        status = demo(options)
        print(end="", flush=True)  # here, not at the interpreter's end
        return status
    except BrokenPipeError:  # the reader of stdout has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _RefusalError as refusal:
        message = str(refusal)
    except MemoryError as error:
        message = f"linconv demo: error: {error or 'out of memory'}: try a smaller --size"
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
    _say("kernel", f"{words}, {_by(kernel.shape)} taps, boundary {options.boundary}")
    rules = {"padding": "same", "boundary": options.boundary}
    b = _blur(kernel, x, rules)
    b += options.noise * np.random.default_rng(options.seed).standard_normal(x.shape)
    A = linconv.Conv(kernel, x.shape, method="auto", **rules)
    _say("operator C", repr(A))
    test = check_adjoint(A, level="quick")
    verdict = "passed" if test.passed else f"FAILED: {test.diagnosis}"
    _say("adjoint error", f"{test.error:.1e} of |C x| |y|: {verdict}")
    _say("noise", f"Gaussian, standard deviation {options.noise:g}, seed {options.seed}")
    _say("minimised", "|C x - b|^2 + mu sum sqrt(|grad x|^2 + eps^2)  (total variation)")
    _say("", f"mu = {options.mu:.3g}, eps = {_EPS:g}")
    _say("by", f"{options.solver} on [C; W Gx; W Gy] from x0, the last x; the first is b")
    _say("", f"W^2 = mu / (2 sqrt(|grad x0|^2 + eps^2)), rounds: {options.rounds}")
    start = time.perf_counter()
    restored, counts, stop = _restore(A, b, options)
    _say("solve time", f"{time.perf_counter() - start:.1f} s")
    _say("iterations", f"{sum(counts)} = {' + '.join(map(str, counts))}")
    _say("stopped, as", stop)
    before, after = _psnr(b, x), _psnr(restored, x)
    _say("PSNR before", f"{before:.2f} dB")
    _say("PSNR after", f"{after:.2f} dB, {after - before:+.2f} dB")
    if not after > before:
        _say("", "The restored image is NOT better than the blurred one.")
    _save(options.out, (x, b, restored), kernel, rules)
    _say("picture", options.out)
    return 0 if test.passed else 1


def _parser() -> argparse.ArgumentParser:
    words = "blur a photograph by a sparse matrix and restore it"
    about = "Convolutions as sparse matrices and linear operators."
    parser = _Parser(prog="linconv", description=about, allow_abbrev=False)
    version = f"linconv {linconv.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    command = commands.add_parser("demo", help=words, description=words, allow_abbrev=False)
    camera = "a photograph (scikit-image's data.camera())"
    command.add_argument("image", nargs="?", metavar="IMAGE", help=camera)
    command.add_argument("--out", metavar="FILE", default="linconv-demo.png", help=_DEFAULT)
    for name, known in _WORDS.items():
        text = f"{', '.join(known)} ({_DEFAULT})"
        command.add_argument(name, choices=known, default=known[0], metavar="WORD", help=text)
    for name, (kind, least, most, default, text) in _NUMBERS.items():
        parse = _value(kind, least, most)
        command.add_argument(name, type=parse, default=default, metavar="N", help=text)
    return parser


def _value(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """Return the parser of a number of a kind between `least` and `most`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if least <= value <= most:
            return value
        what = "an integer" if kind is int else "a number"
        message = f"must be {what} from {least} to {most}, got {text!r}"
        raise argparse.ArgumentTypeError(message)

    return parse


def _refuse(message: str) -> NoReturn:
    raise _RefusalError(f"linconv demo: error: {message}")


def _require_extra() -> None:
    """Refuse to start without the packages of the extra "demo"."""
    for name in ("skimage", "matplotlib", "tqdm"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            _refuse(f'{error.name or name} is missing: pip install "linconv[demo]"')


def _fill_in(options: argparse.Namespace) -> None:
    """Set defaults that depend on other options; refuse options of the other blur."""
    for blur, defaults in _BLURS.items():
        for name, default in defaults.items():
            given = getattr(options, name) is not None
            if given and blur != options.blur:
                _refuse(f"--{name} belongs to --blur {blur}, got --blur {options.blur}")
            if not given:
                setattr(options, name, default)
    if options.mu is None:
        # Chosen by experiments with noise from 0.001 to 0.05.
        options.mu = max(options.noise, 1e-4) ** 1.5


def _check_out(out: str, image: str | None) -> None:
    """Refuse a picture that cannot be written, before the work is done."""
    if os.path.splitext(out)[1].lower() not in _SUFFIXES:
        _refuse(f"--out {out!r} must end in one of {', '.join(_SUFFIXES)}")
    exists = os.path.exists(out)
    if exists and image and os.path.exists(image) and os.path.samefile(image, out):
        _refuse(f"--out {out!r} is the photograph itself")
    try:
        open(out, "ab").close()
    except OSError as error:
        _refuse(f"--out {out!r} cannot be written: {error.strerror}")
    if not exists:
        os.remove(out)


def _say(label: str, text: str) -> None:
    print(f"{label:<14} {text}", flush=True)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _photograph(path: str | None, size: int) -> tuple[np.ndarray, str]:
    """Return a grey image of at most `size` pixels a side, and its description."""
    from skimage import data
    from skimage.transform import resize

    image = data.camera() / 255.0 if path is None else _read(path)
    words = f"{os.path.basename(path) if path else 'data.camera()'}, {_by(image.shape)}"
    longest = max(image.shape)
    if longest > size:
        reduced = tuple(max(1, round(n * size / longest)) for n in image.shape)
        image = np.asarray(resize(image, reduced, anti_aliasing=True)).clip(0, 1)
        words += f" reduced to {_by(reduced)} (--size {size})"
    return image, words


def _read(path: str) -> np.ndarray:
    """Return the grey image of a file, in [0, 1]."""
    from PIL import Image, ImageOps  # scikit-image and matplotlib both need it

    if not os.path.exists(path):
        _refuse(f"there is no file {path!r}")
    if os.path.isdir(path):
        _refuse(f"{path!r} is a directory, not a photograph")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                photo = ImageOps.exif_transpose(file)  # cameras store the orientation
                peak = {"F": 1, "I": 65535}.get(photo.mode[0], 255)
                image = np.asarray(photo if peak != 255 else photo.convert("L")) / peak
    except Exception as error:  # every format has errors of its own
        _refuse(f"{path!r} cannot be read as a photograph: {error or type(error).__name__}")
    if not ((image >= 0) & (image <= 1)).all():
        _refuse(f"{path!r} has values from {image.min():g} to {image.max():g}, not in [0, 1]")
    return image.astype(np.float64)


def _kernel(options: argparse.Namespace, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Return the kernel, which must fit an image of `shape`, and its description."""
    motion = options.blur == "motion"
    name, value = ("length", options.length) if motion else ("radius", options.radius)
    least = math.ceil(value if motion else 2 * value) + 3
    if min(shape) < least:
        _refuse(f"--{name} {value:g} needs {least} x {least} pixels, got {_by(shape)}")
    if motion:
        words = f"motion of length {value:g} at {options.angle:g} degrees"
        return _taps(value / 2, math.radians(options.angle)), words
    return _taps(value, None), f"defocus of radius {value:g}"


def _taps(radius: float, angle: float | None) -> np.ndarray:
    """Return an anti-aliased disc, or a line at an angle, of sum 1."""
    half = math.ceil(radius) + 1
    down, right = np.mgrid[-half : half + 1, -half : half + 1]
    if angle is None:
        taps = np.clip(radius + 0.5 - np.hypot(down, right), 0, 1)
    else:
        along = np.abs(math.cos(angle) * right - math.sin(angle) * down)
        across = np.abs(math.sin(angle) * right + math.cos(angle) * down)
        taps = np.clip(radius + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    taps = np.where(taps > 1e-12, taps, 0)  # cos(90 degrees) is not quite 0
    taps = taps[np.ix_(taps.any(axis=1), taps.any(axis=0))]
    return taps / taps.sum()


def _blur(kernel: np.ndarray, x: np.ndarray, rules: dict[str, Any]) -> np.ndarray:
    """Return ``C @ x`` with the assembled matrix, and report on it."""
    start = time.perf_counter()
    C = linconv.conv_matrix(kernel, x.shape, **rules)
    seconds = time.perf_counter() - start
    nbytes = C.data.nbytes + C.indices.nbytes + C.indptr.nbytes
    _say("matrix C", f"{x.size} x {x.size}, CSR of {C.dtype}")
    _say("nonzeros", f"{C.nnz:,} stored, those of zero taps included")
    _say("bytes", f"{nbytes:,} ({nbytes / 1e6:.0f} MB)")
    _say("assembly", f"{seconds:.2f} s")
    return (C @ x.ravel()).reshape(x.shape)


def _counted(A: linconv.LinearOperator, tick: Callable[[], Any]) -> LinearOperator:
    """Return A for SciPy's solvers; every product with its adjoint calls `tick`."""

    def adjoint(y: np.ndarray) -> np.ndarray:
        tick()
        return A.rmatvec(y)

    products: Any = {"matvec": A.matvec, "rmatvec": adjoint, "dtype": A.dtype}
    return LinearOperator(A.shape, **products)


def _restore(
    A: linconv.Conv, b: np.ndarray, options: argparse.Namespace
) -> tuple[np.ndarray, list[int], str]:
    """Minimise |A x - b|^2 + mu TV(x) by iteratively reweighted least squares.

    |W G x|^2 plus a constant is an upper bound of mu TV(x) that is attained at x0, so a round
    that lowers the bound lowers mu TV(x) too.  Returns x, the iterations of every round and
    the reason why the last round stopped.
    """
    from tqdm import tqdm

    taps = ([[0, -1.0, 1]], [[0], [-1.0], [1]])
    G = [linconv.Conv(t, b.shape, padding="same", boundary="replicate") for t in taps]
    x, right = b.ravel(), np.concatenate([b.ravel(), np.zeros(2 * b.size)])
    solve, limit = _SOLVERS[options.solver]
    limits = {"atol": _TOLERANCE, "btol": _TOLERANCE, limit: options.iterations}
    counts, stop = [], 0
    with tqdm(total=options.rounds * options.iterations, unit="it") as bar:
        for turn in range(1, options.rounds + 1):
            bar.set_description(f"round {turn}/{options.rounds}")
            bar.n -= 1  # the solver's first adjoint product is no iteration
            size = np.sqrt(sum(((g @ x) ** 2 for g in G), np.full(b.size, _EPS**2)))
            W = linconv.Matrix(diags_array(np.sqrt(options.mu / 2 / size)))
            stack = linconv.vstack([A, *(W @ g for g in G)])
            x, stop, count, *_ = solve(_counted(stack, bar.update), right, x0=x, **limits)
            counts.append(count)
            bar.total -= options.iterations - count  # so that the bar ends full
        bar.refresh()
    return x.reshape(b.shape), counts, _STOPS[stop]


def _psnr(image: np.ndarray, original: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, for a peak of 1."""
    error = float(np.mean((image - original) ** 2))
    return -10 * math.log10(error) if error else math.inf


def _save(out: str, images: Sequence[np.ndarray], kernel: np.ndarray, rules: Any) -> None:
    """Write the picture without pyplot, whose backend and settings belong to the user."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    h, w = images[0].shape
    figure = Figure(figsize=(9, min(max(9 * h / w, 5), 16) + 0.8), layout="compressed")
    FigureCanvasAgg(figure)
    corner, title = _corner(kernel, rules)
    before, after = (f"PSNR {_psnr(image, images[0]):.1f} dB" for image in images[1:])
    titles = (
        f"original x, {h} x {w}",
        f"b = C x + noise, {before}",
        f"restored, {after}",
        title,
    )
    panels = figure.subplots(2, 2).ravel()
    for axes, words in zip(panels, titles, strict=True):
        axes.set_title(words.replace(", ", "\n") if h > 1.5 * w else words, fontsize=13)
    for axes, image in zip(panels[:3], images, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    # The panel of C is stretched to the shape of the photographs.
    panels[3].imshow(corner, cmap="gist_heat_r", aspect=h / w, extent=(0, 1, 1, 0))
    inset = panels[1].inset_axes((0.73, 0.02, 0.25, 0.25), anchor="SE")
    inset.imshow(kernel, cmap="gray", vmin=0)
    inset.spines[:].set_color("white")
    for axes in (*panels, inset):
        axes.set(xticks=[], yticks=[])
    try:
        figure.savefig(out, dpi=150, bbox_inches="tight")
    except OSError as error:
        _refuse(f"--out {out!r} cannot be written: {error.strerror or error}")


def _corner(kernel: np.ndarray, rules: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Return a small C, or the corner of one, and its title."""
    n = max(24, *kernel.shape)
    C = linconv.conv_matrix(kernel, (n, n), rows=(0, math.ceil(_CORNER / n)), **rules)
    # The square root makes the small entries at the kernel's rim visible.
    corner = np.sqrt(np.abs(C[:_CORNER, :_CORNER].toarray()))
    where = "C" if n * n == _CORNER else "corner of C"
    return corner, f"{where} of this {_by(kernel.shape)} kernel, on {n} x {n} pixels"


if __name__ == "__main__":
    sys.exit(main())
