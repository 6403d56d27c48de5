"""Decisions of conjugate gradients on a GPU, in one kernel launch instead of ten.

`linconv.solvers.cgls.Columns` holds the numbers and documents them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linconv.gpu import device

# One thread decides about all columns if there are at most so many.
_FEW = 64

SOURCE = r"""
// The step length of every column, and the kinds of trouble that the products show.
extern "C" __global__ void decide_lengths(
    const REAL* energy, const REAL* length, const REAL* gamma, const bool* before,
    bool* going, REAL* alpha, long long* last, REAL* steepest, bool* lost,
    long long iteration, long long columns)
{
    REAL most = 0;  // NaN once a ratio is
    bool zero = false;
    for (long long j = 0; j < columns; j++) {
        REAL ratio = energy[j] / (length[j] == 0 ? 1 : length[j]);
        most = most != most || ratio <= most ? most : ratio;
        zero = zero || (before[j] && energy[j] <= 0);
        if (before[j]) last[j] = iteration;
    }
    if (most > *steepest) *steepest = most;
    if (zero) *lost = true;
    for (long long j = 0; j < columns; j++) {
        going[j] = before[j] && !zero;
        // NaN, not 0, where a product is infinite.
        alpha[j] = going[j] ? gamma[j] / energy[j] + 0 * energy[j] : 0;
    }
}

// The columns that continue, from <s, z> and <s, s> of every column's gradient s.
extern "C" __global__ void decide_who_goes_on(
    const REAL* gamma, const REAL* square, const REAL* limit, const REAL* previous,
    const bool* before, bool* going, REAL* gradient, REAL* beta, long long columns)
{
    bool sound = true;
    for (long long j = 0; j < columns; j++) {
        gradient[j] = sqrt(square[j]);
        bool finite = gamma[j] - gamma[j] == 0 && gradient[j] - gradient[j] == 0;
        sound = sound && finite && (gamma[j] > 0 || gradient[j] <= 0);
        beta[j] = gamma[j] / (previous[j] == 0 ? 1 : previous[j]);
    }
    for (long long j = 0; j < columns; j++)
        going[j] = before[j] && gradient[j] > limit[j] && sound;
}
"""


def decides(columns: Any) -> bool:
    """Whether a kernel decides about these columns: at most `_FEW` columns on a GPU."""
    return columns.xp is not np and columns.k <= _FEW


def decide_lengths(columns: Any, energy: Any, length: Any, iteration: int) -> Any:
    """Return alpha, the step length of every column; see `Columns.lengths`."""
    xp, before = columns.xp, columns.going
    columns.going, alpha = xp.empty(columns.k, bool), xp.empty(columns.k, columns.dtype)
    given = _real(columns, energy), _real(columns, length), columns.gamma, before
    known = columns.last, columns.steepest, columns.lost, np.int64(iteration)
    _launch(columns, "decide_lengths", *given, columns.going, alpha, *known)
    return alpha


def decide_who_goes_on(columns: Any, gamma: Any, square: Any) -> Any:
    """Return beta of every column and decide which columns go on; see `Columns.judge`."""
    xp, before, previous = columns.xp, columns.going, columns.gamma
    columns.going, columns.gamma = xp.empty(columns.k, bool), _real(columns, gamma)
    columns.gradient, beta = (xp.empty(columns.k, columns.dtype) for _ in range(2))
    given = columns.gamma, _real(columns, square), columns.limit, previous, before
    _launch(columns, "decide_who_goes_on", *given, columns.going, columns.gradient, beta)
    return beta


def _real(columns: Any, a: Any) -> Any:
    """Return numbers in the dtype of kernels; products may have a wider dtype than x."""
    return columns.xp.ascontiguousarray(a, columns.dtype)


def _launch(columns: Any, name: str, *arguments: Any) -> None:
    kernel = device.raw_module(SOURCE, columns.dtype.char).get_function(name)
    kernel((1,), (1,), (*arguments, np.int64(columns.k)))
