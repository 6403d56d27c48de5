"""Operators whose adjoint is another matrix than C^H, and what must be said of them.

Families: conjugation, flip, transposed axes or channels, shift, stride phase, dilation,
output padding.  Edges, weights and single entries are in entries.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse

import linconv
from broken.parts import (
    COMPLEX,
    Circulant,
    Convolve,
    Make,
    Pair,
    Wrapped,
    conv,
    family,
    stencil,
    taps,
)

LINE, IMAGE, CHANNELS = (24,), (6, 7), (3, 5, 6)
KERNELS = (3, 3, 3, 3)
SAME = {"padding": 1}


def one_line(**options: Any) -> Make:
    """Five taps on 24 samples, no padding: 20 x 24."""
    return stencil((5,), LINE, **options)


def channels(**options: Any) -> Make:
    """Three channels to three channels, 3 x 3 kernels, the size of the image kept."""
    return stencil(KERNELS, CHANNELS, SAME, **options)


def circulant(n: int, damage: Any, compact: int | None = None) -> Make:
    """`damage(w)` returns what rmatvec's spectrum is instead of ``conj(fft(w))``."""

    def make(dtype: np.dtype, rng: np.random.Generator) -> Circulant:
        w = np.zeros(n, dtype)
        w[: compact or n] = taps(compact or n, dtype, rng)
        return Circulant(scipy.fft.fft(w), dtype, damage(w))

    return make


def scaled(index: Any, factor: Any) -> Any:
    """An edit: B[index] times a factor."""

    def edit(B: np.ndarray, w: np.ndarray) -> np.ndarray:
        B[index] *= factor
        return B

    return edit


def reordered(axis: int, order: list[int]) -> Any:
    return lambda B, w: np.take(B, order, axis)


def correlate_twice_conjugated(dtype: np.dtype, rng: np.random.Generator) -> Pair:
    """scipy.signal.correlate conjugates the taps by itself; the adjoint does it again."""
    C = conv(taps(5, dtype, rng).conj(), LINE)
    return Pair(C, C.T)


CONJUGATION = family("conjugation",
    ("transpose instead of adjoint, 2-d", stencil((3, 2), IMAGE, edit=lambda B, w: B.conj()),
     "conjugate is missing", COMPLEX),
    ("correlate's own conjugation done twice", correlate_twice_conjugated,
     "conjugate is missing", COMPLEX),
    ("a transposed convolution taken for the adjoint",
     lambda dtype, rng: Wrapped(
         linconv.Conv(w := taps((2, 3, 3, 3), dtype, rng), CHANNELS, stride=2),
         linconv.Conv(w, CHANNELS, stride=2).T),
     "conjugate is missing", COMPLEX),
    ("the spectrum is not conjugated", circulant(24, scipy.fft.fft),
     "the forward itself|unflipped kernel"),
    ("only the real part of the taps", one_line(change=lambda w: w.real.astype(w.dtype)),
     "keeps only the real part", COMPLEX),
    ("one output channel is not conjugated",
     channels(edit=lambda B, w: np.concatenate([B[:2], B[2:].conj()])),
     r"wrong only in output channel 2: \d+ entries differ", COMPLEX),
)  # fmt: skip

FLIP = family("flip",
    ("taps not flipped, 1-d", one_line(change=lambda w: w[::-1]), "unflipped kernel"),
    ("taps not flipped, 1-d, square: also the forward itself where taps are real",
     stencil((5,), LINE, {"padding": 2}, change=lambda w: w[::-1]),
     "unflipped kernel|the forward itself"),
    ("taps not flipped, 2-d", stencil((3, 4), IMAGE, change=lambda w: w[::-1, ::-1]),
     "unflipped kernel"),
    ("taps not flipped, channels",
     stencil((2, 3, 3, 3), CHANNELS, change=lambda w: w[:, :, ::-1, ::-1]),
     "unflipped kernel"),
    ("taps flipped along one of two axes", stencil((3, 3), IMAGE, change=lambda w: w[:, ::-1]),
     "flipped|unknown"),
    ("a transposed convolution with flipped taps",
     lambda dtype, rng: Wrapped(
         linconv.Conv(w := taps((3, 3), dtype, rng), IMAGE, stride=(1, 2)),
         linconv.Conv(w, IMAGE, stride=(1, 2), flip=True).H),
     "unflipped kernel"),
)  # fmt: skip

AXES = [
    *family("axes",
        ("square kernel transposed", stencil((3, 3), IMAGE, change=lambda w: w.T),
         "axes 0 and 1 of the kernel are exchanged"),
        ("square kernels of channels transposed", channels(change=lambda w: w.swapaxes(2, 3)),
         r"axes \d and \d of the kernel are exchanged"),
        ("result flattened in Fortran order",
         stencil((3, 3), IMAGE, edit=lambda B, w: B.swapaxes(2, 3).reshape(B.shape)),
         "unknown|order|axes"),
        ("result is the transposed square image",
         stencil((3, 2), (6, 6), edit=lambda B, w: B.swapaxes(2, 3)), "unknown|axes"),
    ),
    *family("channels",
        ("kernels indexed [c_in, c_out]", channels(change=lambda w: w.swapaxes(0, 1)),
         "input and output channels are exchanged"),
        ("result has its channels reversed (RGB, BGR)", channels(edit=reordered(3, [2, 1, 0])),
         "order of the input channels is wrong: 2, 1, 0"),
        ("output channels in another order", channels(edit=reordered(0, [1, 0, 2])),
         "order of the output channels is wrong: 1, 0, 2"),
        ("channels of two groups interleaved",
         stencil((4, 2, 3), (4, 12), {"groups": 2}, edit=reordered(2, [0, 2, 1, 3])),
         "order of the input channels is wrong: 0, 2, 1, 3"),
    ),
]  # fmt: skip

SHIFT = family("shift",
    ("circular shift by one",
     circulant(24, lambda w: scipy.fft.fft(np.roll(w, 1)).conj(), compact=5),
     "shifted by one along axis 0"),
    ("fftshift for ifftshift at an odd size",
     circulant(
         25, lambda w: scipy.fft.fft(np.fft.fftshift(np.fft.fftshift(w))).conj(), compact=7),
     "shifted by one along axis 0"),
    ("no fftshift at all: shifted by half the size",
     circulant(12, lambda w: scipy.fft.fft(np.fft.fftshift(w)).conj(), compact=3),
     r"shifted by (six|6) along axis 0"),
    ("padding (2, 1) undone as (1, 2)",
     stencil((4,), LINE, {"padding": ((2, 1),)}, {"padding": ((1, 2),)}),
     "shifted by one along axis 0"),
    ("cropped one sample late along the last axis",
     stencil((3, 3), IMAGE, {"padding": 1}, {"padding": (1, (0, 2))}),
     "shifted by one along axis 1"),
    ("numpy's same, twice, with an even number of taps",
     lambda dtype, rng: Convolve(taps(4, dtype, rng), 24, "same", "same"),
     "shifted by one along axis 0"),
)  # fmt: skip

STRIDE = [
    *family("stride phase",
        ("zeros inserted before instead of after the samples",
         stencil((3,), LINE, {"stride": 2}, {"stride": 2, "padding": ((-1, 0),)}),
         "stride phase: shifted by one along axis 0"),
        ("wrong phase along the second axis, stride 3",
         stencil(
             (2, 2), (5, 12), {"stride": (1, 3)}, {"stride": (1, 3), "padding": (0, (1, 0))}),
         "stride phase: shifted by one along axis 1"),
        ("no zeros inserted: the adjoint of stride 1",
         stencil((3,), LINE, {"stride": 2}, edit=lambda B, w: conv(w, LINE)[: len(B)]),
         "stride: the adjoint advances by 1 along axis 0, the forward by 2"),
    ),
    *family("dilation",
        ("taps next to each other in the adjoint of a dilation",
         stencil((3,), LINE, {"dilation": 2}, {"dilation": 1, "padding": ((0, -2),)}),
         "dilation: the adjoint's taps are 1 apart along axis 0, the forward's 2 apart"),
        ("a centred dilation of 3, forgotten along axis 1",
         stencil((3, 3), (6, 12), {"dilation": (1, 3), "padding": (1, 3)}, {"padding": 1}),
         "dilation: the adjoint's taps are 1 apart along axis 1, the forward's 3 apart"),
    ),
    *family("output padding",
        ("no output padding: the last sample, which one entry reaches, is lost",
         stencil((3,), LINE, {"stride": 2, "padding": 1}, edit=scaled((..., -1), 0)),
         "a single wrong entry|missing|in the last"),
        ("no output padding: the last column of the image is lost",
         stencil((3, 3), (6, 8), {"stride": 2, "padding": 1}, edit=scaled((..., -1), 0)),
         "wrong only at index 7 along axis 1 of the input: missing"),
        ("output padding put in front",
         stencil((4,), (23,), {"stride": 2}, {"stride": 2, "padding": ((-1, 0),)}),
         "shifted by one along axis 0"),
    ),
]  # fmt: skip

GEOMETRY = [*CONJUGATION, *FLIP, *AXES, *SHIFT, *STRIDE]
