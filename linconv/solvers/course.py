"""What decides the course of conjugate gradients: step lengths, and which columns go on.

May import _gpu.  All of it lies where the columns do, and nothing is copied to the host.
On a GPU a decision about a few columns is one launch; as expressions it would be twenty,
and a launch takes as long as a step of a million numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linconv import gpu

# Columns up to which one thread of a GPU decides about all.
_FEW = 64

SOURCE = r"""
// How far every column goes, and the kinds of trouble that products with it show.
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
        alpha[j] = going[j] ? gamma[j] / energy[j] : 0;
    }
}

// Which columns go on, from <s, z> and <s, s> of every column's gradient s.
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


class Course:
    """What is known of every column: whether it goes on, its gradient and its length.

    A column that is done, and all of them once one is in trouble, go no further.
    """

    def __init__(self, xp: Any, limit: Any) -> None:
        """Gradients are small that are no larger than `limit`: real, one for every column."""
        self.xp, self._limit = xp, xp.asarray(limit)
        self._dtype, self.k = self._limit.dtype, len(limit)
        self.gamma = xp.ones(self.k, self._dtype)  # <s, z>
        self.gradient = xp.ones(self.k, self._dtype)  # |s|
        self.going = xp.ones(self.k, bool)
        self.last = xp.zeros(self.k, int)  # the last iteration that moved a column
        self.lost = xp.zeros((), bool)  # whether A maps a direction to zero
        self.steepest = xp.zeros((), self._dtype)  # the largest |A p|^2 / |p|^2 met
        self._launched = xp is not np and self.k <= _FEW

    def begin(self) -> None:
        """Let all columns go on."""
        self.going = self.xp.ones(self.k, bool)

    def lengths(self, energy: Any, length: Any, iteration: int) -> Any:
        """Return how far each goes along p; `energy` is <A p, A p>, `length` <p, p>."""
        xp, before = self.xp, self.going
        if self._launched:
            self.going, alpha = xp.empty(self.k, bool), xp.empty(self.k, self._dtype)
            given = self._real(energy), self._real(length), self.gamma, before
            known = self.last, self.steepest, self.lost, np.int64(iteration)
            self._launch("decide_lengths", *given, self.going, alpha, *known)
            return alpha
        ratio = energy / (length + (length == 0))
        self.steepest = xp.fmax(self.steepest, ratio.max())
        self.last = xp.where(before, iteration, self.last)
        lost = (before & (energy <= 0)).any()
        self.lost, self.going = self.lost | lost, before & ~lost
        alpha = self.gamma / xp.where(self.going, energy, 1)
        return xp.where(self.going, alpha, 0)

    def judge(self, gamma: Any, square: Any) -> Any:
        """Decide by <s, z> and <s, s> who goes on; return gamma over the gamma before."""
        xp, before, previous = self.xp, self.going, self.gamma
        if self._launched:
            self.going, self.gamma = xp.empty(self.k, bool), self._real(gamma)
            self.gradient, beta = (xp.empty(self.k, self._dtype) for _ in range(2))
            given = self.gamma, self._real(square), self._limit, previous, before
            self._launch("decide_who_goes_on", *given, self.going, self.gradient, beta)
            return beta
        self.gamma = gamma
        self.gradient = xp.sqrt(square)
        positive = (gamma > 0) | (self.gradient <= 0)
        sound = xp.isfinite(gamma) & xp.isfinite(self.gradient) & positive
        self.going = before & (self.gradient > self._limit) & sound.all()
        return gamma / (previous + (previous == 0))

    def _real(self, a: Any) -> Any:
        """Return numbers as kernels take them: products may be more precise than x."""
        return self.xp.ascontiguousarray(a, self._dtype)

    def _launch(self, name: str, *arguments: Any) -> None:
        kernel = gpu.raw_module(SOURCE, self._dtype.char).get_function(name)
        kernel((1,), (1,), (*arguments, np.int64(self.k)))
