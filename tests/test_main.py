"""The command line: what it prints, writes and refuses.

The demo runs on small images; errors are one line on stderr and exit status 2.
"""

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import few, rotated

import linconv
from linconv import __main__ as cli
from linconv.testing import check_adjoint

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

# A run that computes next to nothing, for tests of what surrounds the computation.
QUICK = ("--size", "24", "--length", "3", "--rounds", "1", "--iterations", "1")
SHARP = ("--length", "1", "--angle", "0")


def run(capsys, *arguments):
    """Run main and return (status, stdout, stderr)."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def demo(capsys, out, *arguments):
    """Run a demo that has to succeed and return (report, stderr)."""
    status, report, errors = run(capsys, "demo", "--out", out, *arguments)
    assert status == 0, errors
    return report, errors


def refused(capsys, *arguments):
    """Run a demo that has to be refused before it prints; return its only line."""
    status, report, errors = run(capsys, "demo", *arguments)
    assert (status, report) == (2, "")
    assert errors.startswith("linconv demo: error: ")
    assert errors.count("\n") == 1
    assert errors.endswith("\n")
    return errors.removeprefix("linconv demo: error: ").rstrip("\n")


def line(report, label):
    """Return the text after `label` in the report."""
    return re.search(rf"^{label} +(.*)$", report, re.MULTILINE)[1]


def gain(report):
    """Return by how many dB the report says the image got better."""
    return float(re.search(r"([-+]\d+\.\d+) dB$", line(report, "PSNR after"))[1])


def child(*arguments, code=None):
    """Return the command line of a Python of its own, and its environment."""
    start = ("-m", "linconv") if code is None else ("-c", code)
    root = str(Path(linconv.__file__).parents[1])
    settings = {"PYTHONPATH": root, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}
    return [sys.executable, *start, *map(str, arguments)], os.environ | settings


def stripes(shape, values=(0, 255), dtype=np.uint8):
    """Return an image of vertical stripes, four pixels wide."""
    row = np.where(np.arange(shape[1]) // 4 % 2, *reversed(values)).astype(dtype)
    return np.tile(row, (shape[0], 1))


class Crooked(linconv.LinearOperator):
    """An operator whose adjoint is not its adjoint."""

    def __init__(self):
        super().__init__(float, 3, 3)

    def _matmat(self, X):
        return 2 * X

    def _rmatmat(self, X):
        return 3 * X


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run ``python -m linconv demo --size 96`` as a process of its own, once."""
    out = tmp_path_factory.mktemp("demo") / "x.png"
    command, environment = child("demo", "--size", 96, "--out", out)
    result = subprocess.run(
        command, env=environment, cwd=out.parent, capture_output=True, encoding="utf-8"
    )
    return result, out


# The whole job ------------------------------------------------------------------


def test_default_demo_gains_more_than_five_decibels(finished):
    result, _ = finished
    assert result.returncode == 0, result.stderr
    assert gain(result.stdout) > 5


def test_report_states_what_was_computed(finished):
    report = finished[0].stdout
    kernel = cli._taps(7.5, np.radians(30))
    C = linconv.conv_matrix(kernel, (96, 96), padding="same", boundary="reflect")
    nbytes = C.data.nbytes + C.indices.nbytes + C.indptr.nbytes
    expected = {
        "image": "data.camera(), 512 x 512 reduced to 96 x 96 (--size 96), grey",
        "kernel": "motion of length 15 at 30 degrees, 9 x 15 taps, boundary reflect",
        "matrix C": "9216 x 9216, CSR of float64",
        "nonzeros": f"{C.nnz:,}",
        "bytes": f"{nbytes:,} (",
        "operator C": "Conv(float64[9, 15], (96, 96) -> (96, 96), method=",
        "noise": "Gaussian, standard deviation 0.01, seed 2024",
        "minimised": "|C x - b|^2 + mu sum sqrt(|grad x|^2 + eps^2)",
        "by": "lsmr on [C; W Gx; W Gy]",
        "stopped, as": "the least-squares solution is good to 0.001",
    }
    found = {label: line(report, label)[: len(text)] for label, text in expected.items()}
    assert found == expected


def test_report_is_aligned_and_gives_times_and_errors_as_numbers(finished):
    report = finished[0].stdout
    lines = report.splitlines()
    assert len(lines) > 15
    assert all(re.match(r".{14} \S", text) for text in lines)
    assert re.fullmatch(r"\d+\.\d\d s", line(report, "assembly"))
    assert re.fullmatch(r"\d+\.\d s", line(report, "solve time"))
    assert re.fullmatch(r"\d\.\de-\d+ of \|C x\| \|y\|: passed", line(report, "adjoint error"))
    assert re.fullmatch(r"\d+\.\d\d dB", line(report, "PSNR before"))


def test_progress_bar_counts_the_iterations_on_stderr(finished):
    result, _ = finished
    total, *rounds = map(int, re.findall(r"\d+", line(result.stdout, "iterations")))
    assert sum(rounds) == total
    assert len(rounds) == 4
    assert f"round 4/4: 100%|██████████| {total}/{total}" in result.stderr
    assert result.stderr.count("it/s]") > 4


def test_picture_has_four_panels_that_show_something(finished):
    picture = np.asarray(Image.open(finished[1]).convert("L"), float)
    h, w = picture.shape
    assert min(h, w) > 1000
    for i, j in itertools.product((0, h // 2), (0, w // 2)):
        panel = picture[i : i + h // 2, j : j + w // 2]
        inside = panel[h // 10 : -h // 20, w // 20 : -w // 20]
        assert inside.std() > 20
        assert len(np.unique(inside)) > 20


@pytest.mark.parametrize(("blur", "solver"), rotated(["motion", "defocus"], ["lsmr", "lsqr"]))
def test_both_solvers_undo_both_blurs(capsys, tmp_path, blur, solver):
    options = ("--size", 64, "--blur", blur, "--solver", solver, "--seed", 77)
    report, progress = demo(capsys, tmp_path / "x.png", *options)
    assert gain(report) > 4
    assert line(report, "by").startswith(solver)
    assert "round 4/4" in progress


@pytest.mark.parametrize("boundary", few([rule.value for rule in linconv.Boundary], 2))
def test_every_boundary_rule_is_an_option(capsys, tmp_path, boundary):
    out = tmp_path / "x.png"
    report, _ = demo(capsys, out, *QUICK, "--boundary", boundary)
    assert line(report, "kernel").endswith(f"boundary {boundary}")
    assert out.stat().st_size > 10_000


def test_noise_depends_on_the_seed_alone(capsys, tmp_path):
    found = []
    for seed in (7, 7, 8):
        noise = (*SHARP, "--noise", 0.1, "--seed", seed)
        report, _ = demo(capsys, tmp_path / "x.png", *QUICK, *noise)
        found.append(line(report, "PSNR before"))
    assert found[0] == found[1] != found[2]
    # The image is not blurred: it differs by the noise alone.
    noise = 0.1 * np.random.default_rng(8).standard_normal((24, 24))
    assert found[2] == f"{-10 * np.log10(np.mean(noise**2)):.2f} dB"


def test_no_noise_at_all_is_accepted(capsys, tmp_path):
    report, _ = demo(capsys, tmp_path / "x.png", *QUICK, *SHARP, "--noise", 0)
    assert line(report, "PSNR before") == "inf dB"
    report, _ = demo(capsys, tmp_path / "x.png", "--size", 48, "--noise", 0)
    assert line(report, "noise") == "Gaussian, standard deviation 0, seed 2024"
    assert gain(report) > 5


def test_limit_of_iterations_is_kept_and_named(capsys, tmp_path):
    options = ("--size", 48, "--rounds", 2, "--iterations", 3)
    report, _ = demo(capsys, tmp_path / "x.png", *options)
    assert line(report, "iterations") == "6 = 3 + 3"
    assert line(report, "stopped, as") == "the limit of iterations was reached"


def test_restoration_that_is_worse_is_called_so(capsys, tmp_path):
    report, _ = demo(capsys, tmp_path / "x.png", "--size", 48, "--mu", 0, "--noise", 0.1)
    assert gain(report) < 0
    assert "The restored image is NOT better than the blurred one." in report


def test_operator_that_fails_the_adjoint_test_gives_status_1(capsys, tmp_path, monkeypatch):
    broken = check_adjoint(Crooked())
    monkeypatch.setattr(cli, "check_adjoint", lambda A, level: broken)
    status, report, _ = run(capsys, "demo", "--out", tmp_path / "x.png", *QUICK)
    assert status == 1
    assert line(report, "adjoint error").endswith("FAILED: adjoint = 1.5 x the true adjoint")


# Photographs --------------------------------------------------------------------


def save(path, pixels, mode=None, **options):
    """Write `pixels` as an image file and return its path."""
    image = Image.fromarray(pixels)
    if mode is not None:
        image = image.convert(mode, palette=Image.Palette.ADAPTIVE)
    image.save(path, **options)
    return path


GREY = stripes((30, 40), (40, 200))
COLOUR = np.stack([GREY, GREY // 2, GREY // 4], axis=-1)
FILES = {
    "grey.png": (GREY, None),
    "colour.png": (COLOUR, None),
    "transparent.png": (np.dstack([COLOUR, np.full_like(GREY, 9)]), None),
    "grey and transparent.png": (GREY, "LA"),
    "palette.png": (COLOUR, "P"),
    "cmyk.jpg": (COLOUR, "CMYK"),
    "16 bits.png": (GREY.astype(np.uint16) * 257, None),
    "16 bits.tif": (GREY.astype(np.uint16) * 257, None),
    "floats.tif": (GREY.astype(np.float32) / 255, None),
}


@pytest.mark.parametrize(
    "name", few(["colour.png", "grey.png", "transparent.png", "16 bits.png"], 1)
)
def test_grey_colour_and_deep_files_are_restored(capsys, tmp_path, name):
    path = save(tmp_path / name, *FILES[name])
    report, _ = demo(capsys, tmp_path / "x.png", path, "--length", 5, "--angle", 0)
    assert line(report, "image").startswith(f"{name}, 30 x 40, grey float64")
    assert gain(report) > 5


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_mode_are_read_as_grey_floats(tmp_path, name):
    image = cli._read(str(save(tmp_path / name, *FILES[name])))
    assert image.dtype == np.float64
    assert image.shape == (30, 40)
    grey = COLOUR @ (0.299, 0.587, 0.114) if FILES[name][0].ndim == 3 else GREY
    assert np.abs(image - grey / 255).max() < 0.03


def test_black_and_white_file_is_read_as_zeros_and_ones(tmp_path):
    pixels = stripes((30, 40))
    path = save(tmp_path / "fax.png", pixels, "1")
    np.testing.assert_array_equal(cli._read(str(path)), pixels / 255)


def test_photograph_held_upright_is_shown_upright(tmp_path):
    orientation = Image.Exif()
    orientation[0x0112] = 6
    path = save(tmp_path / "phone.jpg", stripes((24, 48)), exif=orientation)
    assert cli._read(str(path)).shape == (48, 24)


def test_large_photograph_is_reduced_and_the_report_says_so(capsys, tmp_path):
    path = save(tmp_path / "large.png", stripes((300, 700)))
    report, _ = demo(capsys, tmp_path / "x.png", path, *QUICK[2:])
    image = "large.png, 300 x 700 reduced to 219 x 512 (--size 512), grey float64 in [0, 1]"
    assert line(report, "image") == image


@pytest.mark.parametrize(
    ("shape", "least", "most"), [((24, 72), 0.2, 0.6), ((72, 24), 1.5, 4)]
)
def test_picture_takes_the_shape_of_the_photograph(capsys, tmp_path, shape, least, most):
    path = save(tmp_path / "photograph.png", stripes(shape))
    demo(capsys, tmp_path / "x.png", path, *QUICK[2:])
    with Image.open(tmp_path / "x.png") as picture:
        assert least < picture.height / picture.width < most


# Refused options ----------------------------------------------------------------


BAD_OPTIONS = {
    "--noise -1": "argument --noise: must be a number from 0 to 1, got '-1'",
    "--noise nan": "argument --noise: must be a number from 0 to 1, got 'nan'",
    "--noise=-inf": "argument --noise: must be a number from 0 to 1, got '-inf'",
    "--noise much": "argument --noise: must be a number from 0 to 1, got 'much'",
    "--noise": "argument --noise: expected one argument",
    "--mu -0.1": "argument --mu: must be a number from 0 to 1000, got '-0.1'",
    "--blur defocus --radius 0": "argument --radius: must be a number from 1 to 500, got '0'",
    "--blur defocus --radius 60 --size 96": "--radius 60 needs 123 x 123 pixels, got 96 x 96",
    "--length 94 --size 96": "--length 94 needs 97 x 97 pixels, got 96 x 96",
    "--length 0": "argument --length: must be a number from 1 to 1000, got '0'",
    "--length inf": "argument --length: must be a number from 1 to 1000, got 'inf'",
    "--angle 1e9": "argument --angle: must be a number from -360 to 360, got '1e9'",
    "--radius 3": "--radius belongs to --blur defocus, got --blur motion",
    "--blur defocus --angle 3": "--angle belongs to --blur motion, got --blur defocus",
    "--iterations 0": "argument --iterations: must be an integer from 1 to 1000000, got '0'",
    "--rounds 0": "argument --rounds: must be an integer from 1 to 1000, got '0'",
    "--size 7": "argument --size: must be an integer from 8 to 4096, got '7'",
    "--size 96.5": "argument --size: must be an integer from 8 to 4096, got '96.5'",
    "--seed -1": "argument --seed: must be an integer from 0 to 9223372036854775808, got '-1'",
    "--blur fog": "argument --blur: invalid choice: 'fog' (choose from",
    "--solver cg": "argument --solver: invalid choice: 'cg' (choose from",
    "--boundary mirror": "argument --boundary: invalid choice: 'mirror' (choose from",
    "--fast": "unknown arguments '--fast'",
    "--siz 96": "unknown arguments '--siz",
    "one.png two.png": "unknown arguments 'two.png'",
    "missing.png": "there is no file 'missing.png'",
    ".": "'.' is a directory, not a photograph",
    "--out picture": "--out 'picture' must end in one of .png, .jpg,",
    "--out picture.doc": "--out 'picture.doc' must end in one of .png, .jpg,",
    "--out nowhere/x.png": "--out 'nowhere/x.png' cannot be written: No such file",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_option_is_refused_in_one_line(capsys, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, *options.split()).startswith(BAD_OPTIONS[options])
    assert not list(tmp_path.iterdir())


def test_directory_as_picture_is_refused(capsys, tmp_path):
    (tmp_path / "x.png").mkdir()
    assert "x.png' cannot be written: " in refused(capsys, "--out", tmp_path / "x.png")


def test_checking_the_picture_leaves_an_old_one_alone(capsys, tmp_path):
    old = tmp_path / "old.png"
    old.write_bytes(b"old")
    refused(capsys, tmp_path / "missing.png", "--out", old)
    assert old.read_bytes() == b"old"


def test_photograph_is_not_overwritten(capsys, tmp_path):
    path = save(tmp_path / "x.png", GREY)
    assert refused(capsys, path, "--out", path).endswith("x.png' is the photograph itself")


@pytest.mark.parametrize("name", ["text.png", "text.txt", "text.tif", "empty.jpg", "half.png"])
def test_file_that_is_no_image_is_refused(capsys, tmp_path, name):
    path = tmp_path / name
    save(
        tmp_path / "whole.png",
        np.random.default_rng(8).integers(256, size=GREY.shape, dtype="u1"),
    )
    whole = (tmp_path / "whole.png").read_bytes()
    contents = {"empty": b"", "half": whole[: len(whole) // 2]}
    path.write_bytes(contents.get(path.stem, b"not an image\n"))
    message = refused(capsys, path, "--out", tmp_path / "x.png")
    assert message.startswith(f"{str(path)!r} cannot be read as a photograph: ")


@pytest.mark.parametrize("values", [(0, 300), (-0.1, 1), (0, np.nan)])
def test_floats_outside_zero_to_one_are_refused(capsys, tmp_path, values):
    path = save(tmp_path / "floats.tif", stripes((30, 40), values, np.float32))
    message = refused(capsys, path, "--out", tmp_path / "x.png")
    assert re.search(r"floats.tif' has values from \S+ to \S+, not in \[0, 1\]$", message)


@pytest.mark.parametrize("package", ["skimage", "matplotlib", "tqdm"])
def test_missing_extra_is_named(capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert refused(capsys) == f'{package} is missing: pip install "linconv[demo]"'


def test_picture_that_cannot_be_saved_is_an_error(capsys, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    status, _, errors = run(capsys, "demo", "--out", tmp_path / "x.png", *QUICK)
    assert status == 2
    last = errors.splitlines()[-1]
    assert last.startswith("linconv demo: error: --out ")
    assert last.endswith("x.png' cannot be written: No space left on device")


def test_matrix_that_does_not_fit_into_memory_is_an_error(capsys, tmp_path, monkeypatch):
    def huge(*_, **__):
        raise MemoryError("the matrix needs\n10 bytes")

    monkeypatch.setattr(linconv, "conv_matrix", huge)
    status, _, errors = run(capsys, "demo", "--out", tmp_path / "x.png", *QUICK)
    message = "linconv demo: error: the matrix needs 10 bytes: try a smaller --size\n"
    assert (status, errors) == (2, message)


# The command line ---------------------------------------------------------------


def test_no_command_prints_help_and_exits_2(capsys):
    status, out, errors = run(capsys)
    assert (status, out) == (2, "")
    assert errors.startswith("usage: linconv ")
    assert "demo" in errors


def test_unknown_command_is_refused_in_one_line(capsys):
    status, out, errors = run(capsys, "show")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"linconv: error: .*invalid choice: 'show' .*\n", errors)


def test_version_is_that_of_the_package(capsys):
    assert run(capsys, "--version") == (0, f"linconv {linconv.__version__}\n", "")


def test_help_states_every_default(capsys):
    status, text, _ = run(capsys, "demo", "--help")
    assert status == 0
    defaults = ["linconv-demo.png", "(motion)", "(512)", "(0.01)", "(2024)", "(noise^1.5)"]
    assert all(default in text for default in defaults)


def test_interrupt_gives_status_130_and_no_traceback(capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "demo", stop)
    assert run(capsys, "demo") == (130, "", "linconv demo: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for children")
def test_running_demo_can_be_interrupted(tmp_path):
    # A shell starts background jobs with SIGINT ignored, which children inherit.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from linconv.__main__ import main; sys.exit(main())"
    )
    options = ("--size", 128, "--rounds", 1000, "--out", tmp_path / "x.png")
    command, environment = child("demo", *options, code=code)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe) as process:
        assert process.stdout.readline().startswith(b"image")
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert errors.endswith(b"linconv demo: interrupted\n")
    assert b"Traceback" not in errors
    assert not (tmp_path / "x.png").exists()


def test_a_reader_that_ends_early_gets_no_traceback(tmp_path):
    options = ("--size", 64, "--rounds", 1, "--out", tmp_path / "x.png")
    command, environment = child("demo", *options)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert b"Traceback" not in errors
    assert b"Broken" not in errors


def test_optional_packages_wait_for_the_demo_and_pyplot_stays_out(tmp_path):
    code = (
        "import sys, linconv.__main__ as cli\n"
        "def loaded(*names): return [name for name in names if name in sys.modules]\n"
        "assert not loaded('skimage', 'matplotlib', 'tqdm', 'PIL')\n"
        "assert cli.main() == 0\n"
        "assert not loaded('matplotlib.pyplot')\n"
    )
    command, environment = child("demo", *QUICK, "--out", tmp_path / "x.png", code=code)
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr


# The parts ----------------------------------------------------------------------


def test_lines_have_equal_taps_and_rise_to_the_right():
    np.testing.assert_allclose(cli._taps(2.5, 0), np.full((1, 5), 0.2), rtol=1e-14)
    np.testing.assert_allclose(cli._taps(2.5, np.pi / 2), np.full((5, 1), 0.2), rtol=1e-14)
    taps = cli._taps(7.5, np.radians(30))
    assert taps.shape == (9, 15)
    assert taps[:4, 8:].sum() > 0.4
    assert taps[:4, :6].sum() == 0


def test_small_disc_is_the_one_worked_out_by_hand():
    corner = 1.5 - np.sqrt(2)  # the part of a corner within half a pixel of the rim
    expected = np.array([[corner, 0.5, corner], [0.5, 1, 0.5], [corner, 0.5, corner]])
    np.testing.assert_allclose(cli._taps(1, None), expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize("angle", [None, 0, 0.3, 1, 2, -3])
@pytest.mark.parametrize("radius", [0.5, 1, 3.7, 12])
def test_kernels_have_sum_one_and_a_centre(radius, angle):
    taps = cli._taps(radius, angle)
    assert taps.sum() == pytest.approx(1, rel=1e-14)
    assert all(size % 2 and size < 2 * radius + 3 for size in taps.shape)
    np.testing.assert_allclose(taps, taps[::-1, ::-1], atol=1e-15)


@pytest.mark.parametrize("solver", ["lsmr", "lsqr"])
def test_restoration_minimises_the_functional_it_states(solver):
    rng = np.random.default_rng(31)
    x = stripes((20, 28), (0.2, 0.8), float)
    A = linconv.Conv(cli._taps(2, None), x.shape, padding="same", boundary="reflect")
    b = A(x) + 0.02 * rng.standard_normal(x.shape)
    options = argparse.Namespace(mu=0.003, rounds=40, iterations=200, solver=solver)

    def functional(image):
        across = np.diff(image, axis=1, append=image[:, -1:])
        down = np.diff(image, axis=0, append=image[-1:])
        variation = np.sqrt(across**2 + down**2 + cli._EPS**2).sum()
        return np.sum((A(image) - b) ** 2) + options.mu * variation

    restored, counts, _ = cli._restore(A, b, options)
    assert len(counts) == options.rounds
    least = functional(restored)
    assert least < 0.9 * functional(b)
    for direction in (b - restored, b - 0.5, x - restored):
        for step in (0.02, -0.02):
            assert least < functional(restored + step * direction)


@pytest.mark.parametrize(
    ("kernel", "boundary", "n", "title"),
    [
        ((2, None), "circular", 24, "C of this 5 x 5 kernel, on"),
        ((20, 0.1), "antireflect", 41, r"corner of C of this \d+ x 41 kernel, on"),
    ],
)
def test_pattern_is_the_matrix_of_a_small_image_or_its_corner(kernel, boundary, n, title):
    kernel, rules = cli._taps(*kernel), {"padding": "same", "boundary": boundary}
    corner, said = cli._corner(kernel, rules)
    whole = linconv.conv_matrix(kernel, (n, n), **rules)
    np.testing.assert_allclose(corner**2, abs(whole[:576, :576]).toarray(), atol=1e-15)
    assert re.fullmatch(f"{title} {n} x {n} pixels", said)


@pytest.mark.parametrize("suffix", few(["png", "jpg", "jpeg", "webp", "tif", "pdf", "svg"], 1))
def test_picture_is_written_in_every_format(capsys, tmp_path, suffix):
    out = tmp_path / f"x.{suffix.upper()}"
    demo(capsys, out, *QUICK)
    assert out.stat().st_size > 5000
