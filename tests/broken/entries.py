"""Operators whose adjoint has the right stencil and wrong edges, weights or entries.

Families: boundary rule, scale (global, by channel, one entry), lost or doubled rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse

import linconv
from broken.adjoints import CHANNELS, IMAGE, LINE, SAME, channels, circulant, one_line, scaled
from broken.parts import (
    COMPLEX,
    EVERY,
    Fourier,
    Gradient,
    Make,
    Pair,
    Wrapped,
    conv,
    family,
    stencil,
    taps,
)


def boundary(true: Any, wrong: Any, *, image: bool = False) -> Make:
    """The size kept by padding, which the adjoint folds back by another rule."""
    kernel, shape, padding = ((3, 3), IMAGE, 1) if image else ((5,), LINE, 2)
    return stencil(
        kernel, shape, {"padding": padding, "rule": true}, {"padding": padding, "rule": wrong}
    )


def corner(B: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Reflect everywhere but at the last corner, where the edge is repeated."""
    B[-1, -1] = conv(w, IMAGE, padding=1, rule="symmetric")[-1, -1]
    return B


def treated(rule: str) -> str:
    return f"boundary is treated as {rule} in the adjoint"


BOUNDARY = family("boundary",
    ("circular, adjoint zeros", boundary("circular", "zeros"), treated("zeros")),
    ("zeros, adjoint by FFT", boundary("zeros", "circular"), treated("circular")),
    ("reflect for symmetric", boundary("symmetric", "reflect"), treated("reflect")),
    ("symmetric for reflect", boundary("reflect", "symmetric"), treated("symmetric")),
    ("replicate, adjoint cropped", boundary("replicate", "zeros"), treated("zeros")),
    ("replicate for zeros", boundary("zeros", "replicate"), treated("replicate")),
    ("the sign of antireflect lost", boundary("antireflect", "reflect"), treated("reflect")),
    ("reflect, adjoint cropped, 2-d", boundary("reflect", "zeros", image=True),
     treated("zeros")),
    ("antireflect for symmetric, 2-d", boundary("symmetric", "antireflect", image=True),
     treated("antireflect")),
    ("folded back on one side only", boundary("symmetric", ("symmetric", "zeros")),
     "wrong only near the boundary|treated as|wrong entries|in the last"),
    ("wrong at one corner only",
     stencil((3, 3), IMAGE, {"padding": 1, "rule": "reflect"}, edit=corner),
     "wrong only near the boundary|wrong entries|wrong only in"),
    ("a circular operator with the adjoint of its zero-padded brother",
     lambda dtype, rng: Wrapped(
         linconv.Conv(
             w := taps((2, 3, 3, 3), dtype, rng), CHANNELS, padding=1, boundary="circular"),
         linconv.Conv(w, CHANNELS, padding=1).H),
     treated("zeros")),
)  # fmt: skip


def rotated_scalar(dtype: np.dtype, rng: np.random.Generator) -> Pair:
    """a C, whose adjoint multiplies by a instead of conj(a)."""
    C = conv(taps(5, dtype, rng), LINE)
    a = dtype.type(np.exp(0.7j))
    return Pair(a * C, a * C.conj().T)


def times(factor: float) -> Make:
    return one_line(change=lambda w: (factor * w).astype(w.dtype))


SCALE = family("scale",
    ("half of it", times(0.5), r"adjoint = 0\.5 x the true adjoint"),
    ("twice it", times(2), r"adjoint = 2(\.0)? x the true adjoint"),
    ("off by a thousandth", times(1.001), r"adjoint = 1\.001\d* x the true adjoint"),
    ("divergence is minus the adjoint of the gradient",
     lambda dtype, rng: Gradient(IMAGE, dtype, sign=-1),
     r"adjoint = -1(\.0)? x the true adjoint"),
    ("the inverse FFT without its 1/N", circulant(36, lambda w: 36 * scipy.fft.fft(w).conj()),
     r"= N, N = 36"),
    ("the inverse FFT taken for the adjoint",
     lambda dtype, rng: Fourier(36, dtype, "backward", "backward"), r"= 1/N, N = 36", COMPLEX),
    ("a unitary FFT, its adjoint not unitary",
     lambda dtype, rng: Fourier(40, dtype, "ortho", "backward"), r"= 1/sqrt\(N\), N = 40",
     COMPLEX),
    ("a normalised FFT, its adjoint unitary",
     lambda dtype, rng: Fourier(40, dtype, "forward", "ortho"), r"= sqrt\(N\), N = 40",
     COMPLEX),
    ("a complex factor not conjugated", rotated_scalar, "x the true adjoint", COMPLEX),
    ("one output channel halved", channels(edit=scaled(1, 0.5)),
     r"wrong only in output channel 1: scaled by 0\.5"),
    ("one input channel tripled", channels(edit=scaled((..., 0, slice(None), slice(None)), 3)),
     r"wrong only in input channel 0: scaled by 3"),
    ("weights of channels forgotten",
     channels(edit=scaled((), np.array([1, 0.5, 2]).reshape(3, 1, 1, 1, 1, 1))),
     r"scaled differently along axis 0 of the output: 1, 0\.5, 2"),
    ("weights of a quadrature rule",
     stencil((3, 3), IMAGE, edit=scaled((), np.array([0.5, 1, 1, 1, 0.5]).reshape(5, 1, 1))),
     r"scaled differently along axis 1 of the output: 0\.5, 1, 1, 1, 0\.5"),
    ("one entry off by one per cent", one_line(edit=scaled((7, 9), 1.01)),
     r"a single wrong entry[\s\S]*\(7, 9\)"),
    ("the sign of one entry", stencil((3, 3), IMAGE, edit=scaled((2, 1, 3, 2), -1)),
     r"a single wrong entry[\s\S]*\(11, 23\)"),
)  # fmt: skip


def band(n: int, dtype: np.dtype, rng: np.random.Generator) -> Any:
    """Three taps, sparse, no padding, too large for a dense comparison."""
    w = taps(3, dtype, rng)
    diagonals = [np.full(n, value, dtype) for value in w]
    return scipy.sparse.diags_array(diagonals, offsets=[0, 1, 2], shape=(n - 2, n)).tocsr()


def large_with_hole(dtype: np.dtype, rng: np.random.Generator) -> Pair:
    """One of 6000 entries is missing."""
    C = band(2002, dtype, rng)
    B = C.copy()
    B[1234, 1235] = 0
    return Pair(C, B.conj().T)


def large_without_tail(dtype: np.dtype, rng: np.random.Generator) -> Pair:
    """A loop in blocks of a thousand leaves the remainder at zero."""
    C = band(4007, dtype, rng)
    keep = np.arange(4007) < 4000
    return Pair(C, scipy.sparse.diags_array(keep.astype(dtype)) @ C.conj().T)


def unlabelled(make: Make) -> Make:
    """The same without in_shape and out_shape, which the options tell instead."""

    def stripped(dtype: np.dtype, rng: np.random.Generator) -> Any:
        operator = make(dtype, rng)
        del operator.in_shape, operator.out_shape
        return operator

    return stripped


def three_lost(B: np.ndarray, w: np.ndarray) -> np.ndarray:
    B[[2, 9, 15], [4, 9, 16]] = 0
    return B


LOST = r"(output 5|index 5 along axis 0 of the output)"
ROWS = family("rows",
    ("one output ignored", one_line(edit=scaled(5, 0)), f"{LOST}: missing"),
    ("one output counted twice", one_line(edit=scaled(5, 2)),
     f"{LOST}: (doubled|scaled by 2)"),
    ("one output weighs less", one_line(edit=scaled(5, 0.25)), f"{LOST}: scaled by 0.25"),
    ("one input sample stays zero", one_line(edit=scaled((..., 7), 0)),
     r"(input 7|index 7 along axis 0 of the input): missing"),
    ("the seam of a circular operator counted twice",
     stencil((5,), LINE, {"padding": 2, "rule": "circular"}, edit=scaled((..., 0), 2)),
     r"(input 0|index 0 along axis 0 of the input): (doubled|scaled by 2)"),
    ("the last output channel is ignored", channels(edit=scaled(2, 0)),
     "wrong only in output channel 2: missing"),
    ("the first output channel is ignored, shapes told by options",
     unlabelled(channels(edit=scaled(0, 0))), "wrong only in output channel 0: missing", EVERY,
     {"in_shape": CHANNELS, "out_shape": CHANNELS}),
    ("one input channel stays zero",
     channels(edit=scaled((..., 1, slice(None), slice(None)), 0)),
     "wrong only in input channel 1: missing"),
    ("a row of the image ignored", stencil((3, 3), IMAGE, SAME, edit=scaled(3, 0)),
     "wrong only at index 3 along axis 0 of the output: missing"),
    ("one entry missing", one_line(edit=scaled((3, 4), 0)),
     r"a single wrong entry[\s\S]*\(3, 4\)"),
    ("three entries missing", one_line(edit=three_lost), r"3 wrong entries[\s\S]*\(9, 9\)"),
    ("the tail of the result not written", one_line(edit=scaled((..., slice(-5, None)), 0)),
     "in the last 5 samples of the input"),
    ("the tail of the data not read: its index overflows",
     one_line(edit=scaled(slice(-6, None), 0)), "in the last 6 samples of the output"),
    ("one entry missing, large", large_with_hole, "a single wrong entry"),
    ("the last 7 of 4007 samples not written", large_without_tail,
     "in the last|wrong|missing"),
)  # fmt: skip

ENTRIES = [*BOUNDARY, *SCALE, *ROWS]
