"""Faults in the Convolve1D of PyLops 2.8.0, found by dense matrices.

Errors are |B - C| / |C| in the Frobenius norm, B the adjoint of rmatvec's matrix.  PyLops'
own dottest, rtol 1e-6, notices each fault with 20 of 20 seeds, with real and with complex
probes; where a product has the wrong shape, it raises the product's ValueError.  So a dot
test does not overlook these faults.  It does not say what is wrong either.

Not listed, because no operator comes out of it: method="overlapadd" for models of two
and more axes raises TypeError "oaconvolve() missing 1 required positional argument".
Filters longer than a 1-d model are right.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def pylops_findings() -> list[tuple[str, Any, str]]:
    """(name, operator, regular expression of what must be said of it)."""
    from pylops.signalprocessing import Convolve1D

    rng = np.random.default_rng(20240817)
    real = rng.standard_normal
    filter_ = real(5) + 1j * real(5)
    # Complex filters: hstar is flipped, not conjugated: B = conj(C) to the last bit
    # (by direct sums; to 2e-16 by FFT).  With these taps 1.89 each.
    options = {"offset": 2, "dtype": "complex128"}
    conjugation = [
        ("complex filter", Convolve1D(20, filter_, **options)),
        ("complex filter along axis 0", Convolve1D((6, 7), filter_, axis=0, **options)),
    ]
    # The default dtype stays float64 while products are complex128.
    mislabelled = Convolve1D(20, filter_, offset=2)
    return [
        *((name, A, "conjugate is missing") for name, A in conjugation),
        ("complex filter, default dtype", mislabelled, "returns dtype complex128|conjugate"),
        *long_filters(Convolve1D, real),
        *image_filters(Convolve1D, real),
    ]


def long_filters(convolve: Any, real: Any) -> list[tuple[str, Any, str]]:
    """Filters longer than the model; 2-d models."""
    # 1-d filters: dimsd is the filter's shape, so the result has one column where the
    # model has five; mode="same" keeps column 2, the forward never reads the others
    # and rmatvec raises "operands could not be broadcast together".
    lost = [
        ("long filter along axis 0", convolve((7, 5), real(11), axis=0)),
        ("long filter along axis 1", convolve((5, 7), real(11), offset=3, axis=1)),
    ]
    # A filter with an axis of one: the forward as above, "cannot reshape array of size 7".
    column = convolve((7, 5), real((11, 1)), axis=0)
    # A filter for every column: hstar flips the last axis, that is the columns' order,
    # and leaves the taps unflipped: 1.29.
    by_column = convolve((7, 5), real((11, 5)), axis=0)
    # A filter for every row: rightly flipped, but the part to keep is centred on
    # len(y) // 2, half of axis 0 instead of axis 1; indices below zero wrap: 1.15.
    by_row = convolve((5, 7), real((5, 11)), axis=1)
    return [
        *((name, A, "rmatvec raised ValueError") for name, A in lost),
        ("long filter of one column along axis 0", column, "rmatvec raised ValueError"),
        ("long filters by column along axis 0", by_column, "unknown|flipped|order"),
        ("long filters by row along axis 1", by_row, "unknown|shifted|wrong"),
    ]


def image_filters(convolve: Any, real: Any) -> list[tuple[str, Any, str]]:
    """Short 2-d filters along axis 0: hstar flips the last axis instead."""
    # One column: nothing is flipped: 0.90.  Several: each column uses the unflipped
    # filter of its mirror image: 1.75.  Filters along axis 1 are right.
    column, image = (convolve((9, 5), real((3, n)), offset=1, axis=0) for n in (1, 5))
    return [
        ("2-d filter of one column, axis 0", column, "unflipped kernel|the forward itself"),
        ("2-d filter, axis 0", image, "unknown|flipped|order"),
    ]
