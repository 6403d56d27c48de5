"""The three problems of docs/10-three-problems.md, at a reduced size.

Margins are in dB, of the result over each baseline; they hold with slack for seeds
other than the one used here.
"""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import linconv
from linconv.testing import assert_adjoint

pytest.importorskip("PIL.Image")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the scripts are not installed")
SEED = 20


@pytest.fixture(scope="module", autouse=True)
def docs():
    """Find the scripts, as Python does when it runs one of them."""
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


def script(name):
    """Return a script as a module."""
    return importlib.import_module(name)


def reported(text):
    """Return the PSNRs that a script printed, by name."""
    lines = re.findall(r"^PSNR (.+?) +(-?\d+\.\d\d) dB", text, re.MULTILINE)
    return {name: float(number) for name, number in lines}


def run(capsys, name, out, size):
    """Run a script, check its report and its picture, return the figures."""
    arguments = ["--out", str(out), "--size", str(size), "--seed", str(SEED)]
    figures = script(name).main(arguments)
    printed = reported(capsys.readouterr().out)
    assert printed
    assert printed == {key: pytest.approx(figures[key], abs=0.006) for key in printed}
    assert out.read_bytes().startswith(b"\x89PNG")
    assert 2_000 < out.stat().st_size < 300_000
    return figures


# Deblurring -----------------------------------------------------------------------


def test_an_unknown_scene_beats_every_rule_about_what_is_outside():
    deblur = script("deblur")
    scene, kernel, b = deblur.problem(96, SEED)
    crop = linconv.crop(scene.shape, deblur.margins(kernel))
    truth = crop(scene)
    assert crop.out_shape == b.shape
    found = deblur.psnr(crop(deblur.solve(b, kernel, deblur.WEIGHTS[0])), truth)
    assert found > deblur.psnr(b, truth) + 6
    guesses = {rule: deblur.solve(b, kernel, deblur.WEIGHTS[1], rule) for rule in deblur.RULES}
    figures = {rule: deblur.psnr(x, truth) for rule, x in guesses.items()}
    assert found > figures["replicate"] + 2.5
    assert found > max(figures["zeros"], figures["circular"]) + 15


def test_the_deblurring_script_reports_what_it_draws(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(script("deblur"), "WEIGHTS", (3e-4, 3e-3))
    figures = run(capsys, "deblur", tmp_path / "x.png", 64)
    assert set(figures) == {
        "blurred",
        "zeros outside",
        "circular outside",
        "replicate outside",
        "unknown scene",
    }
    assert figures["unknown scene"] == max(figures.values())


def test_total_variation_lowers_the_sum_that_it_states():
    deblur = script("deblur")
    _, kernel, b = deblur.problem(64, SEED)
    pad = linconv.pad(b.shape, deblur.margins(kernel), boundary="replicate")
    A, G = linconv.Conv(kernel, pad.out_shape), linconv.gradient(pad.out_shape)
    mu, eps = 1e-3, 0.003

    def energy(x):
        return ((A(x) - b) ** 2).sum() + mu * np.sqrt((G(x) ** 2).sum(axis=0) + eps**2).sum()

    start = pad(b)
    few, many = (
        deblur.total_variation(A, b, mu, start, rounds=n, eps=eps, iterations=30)
        for n in (1, 4)
    )
    assert energy(start) > energy(few) > energy(many)


# Super-resolution -----------------------------------------------------------------


def test_the_camera_takes_the_mean_of_what_lies_under_a_large_pixel():
    A = script("superresolve").camera((24, 20))
    assert A.out_shape == (12, 10)
    assert_adjoint(A)
    down, right = np.indices((24, 20)).astype(float)
    inside = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(A(down)[inside], (2 * np.indices((12, 10))[0] + 0.5)[inside])
    np.testing.assert_allclose(A(right)[inside], (2 * np.indices((12, 10))[1] + 0.5)[inside])


def test_super_resolution_beats_the_best_interpolation():
    superresolve, psnr = script("superresolve"), script("deblur").psnr
    image, A, b = superresolve.problem(96, SEED)
    ways = superresolve.UPSAMPLERS.values()
    best = max(psnr(superresolve.upsampled(b, **how), image) for how in ways)
    shifted = superresolve.upsampled(b, mode="cubic", coordinates="asymmetric")
    assert best > psnr(shifted, image) + 0.5
    found = psnr(superresolve.solve(A, b), image)
    assert found > best + 3
    assert found > psnr(superresolve.smooth(A, b), image) + 0.15


def test_the_super_resolution_script_reports_what_it_draws(capsys, tmp_path):
    figures = run(capsys, "superresolve", tmp_path / "x.png", 64)
    assert figures["total variation"] == max(figures.values())


# Blind deblurring -----------------------------------------------------------------


def test_both_operators_of_the_blind_problem_are_the_same_convolution():
    blind = script("blind")
    scene, kernel, b = blind.problem(48, SEED)
    as_image = linconv.Conv(kernel, scene.shape)
    as_kernel = linconv.FilterConv(scene, kernel.shape)
    assert as_kernel.out_shape == b.shape
    np.testing.assert_allclose(as_kernel(kernel), as_image(scene), atol=1e-12)
    assert (as_kernel(kernel) - b).std() == pytest.approx(blind.NOISE, rel=0.1)


@pytest.mark.thorough
def test_the_kernel_is_found_from_the_blurred_image_alone():
    blind, deblur = script("blind"), script("deblur")
    scene, truth, b = blind.problem(96, SEED)
    window = linconv.crop(scene.shape, deblur.margins(truth))(scene)
    start = blind.gaussian()
    found = blind.solve(b, start)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    assert blind.error(found, truth) < 0.6 < 0.8 < blind.error(start, truth)
    restored = deblur.psnr(blind.deblurred(b, found, blind.MUS[0]), window)
    first = deblur.psnr(blind.deblurred(b, start, blind.MUS[1]), window)
    assert restored > deblur.psnr(b, window) + 5
    assert restored > first + 5


def test_the_kernel_step_finds_most_of_the_kernel_from_the_sharp_image():
    blind = script("blind")
    scene, truth, b = blind.problem(96, SEED)
    found = blind.kernel_step(b, scene, blind.gaussian())
    assert blind.error(found, truth) < 0.5 * blind.error(blind.gaussian(), truth)


def test_the_blind_script_reports_what_it_draws(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(script("blind"), "STAGES", ((0.5, 1e-3, 1), (1, 1e-3, 1)))
    figures = run(capsys, "blind", tmp_path / "x.png", 64)
    assert figures["true kernel"] > figures["blurred"]
    assert figures["true kernel error"] == 0
