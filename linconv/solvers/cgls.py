"""Preconditioned conjugate gradients for least squares, several right-hand sides at once.

The normal equations are never formed (Bjorck, "Numerical Methods for Least Squares
Problems", SIAM 1996, algorithms 7.4.1 and 7.4.3); every column has its own step lengths.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from linconv import gpu
from linconv._arrays import fetch, host
from linconv.solvers.problem import Problem

# How often a gradient that only an updated residual called small may be computed afresh.
_RESTARTS = 3
# Iterations between comparisons of the gradient with its rounding errors, which take two
# more passes over the vectors.
_SELDOM = 8


class Columns:
    """Which columns go on, with their gradients; lies where the columns do.

    A column that has converged, and every column once one is in trouble, gets steps of
    length 0.  On a GPU nothing here is copied to the host until `Cgls` reads it.
    """

    def __init__(self, xp: Any, limit: Any) -> None:
        """A gradient counts as zero up to its `limit`: real numbers, (k,)."""
        self.xp, self.limit = xp, xp.asarray(limit)
        self.dtype, self.k = self.limit.dtype, len(limit)
        self.gamma = xp.ones(self.k, self.dtype)  # <s, z>
        self.gradient = xp.ones(self.k, self.dtype)  # |s|
        self.going = xp.ones(self.k, bool)
        self.last = xp.zeros(self.k, int)  # the last iteration that moved a column
        self.lost = xp.zeros((), bool)  # whether A maps a direction to zero
        self.steepest = xp.zeros((), self.dtype)  # the largest |A p|^2 / |p|^2 met

    def lengths(self, energy: Any, length: Any, iteration: int) -> Any:
        """Return alpha = gamma / |A p|^2 from `energy`, |A p|^2, and `length`, |p|^2."""
        xp, before = self.xp, self.going
        if gpu.decides(self):
            return gpu.decide_lengths(self, energy, length, iteration)
        ratio = energy / (length + (length == 0))
        self.steepest = xp.fmax(self.steepest, ratio.max())
        self.last = xp.where(before, iteration, self.last)
        lost = (before & (energy <= 0)).any()
        self.lost, self.going = self.lost | lost, before & ~lost
        energy = xp.where(self.going, energy, 1)
        alpha = self.gamma / energy + 0 * energy  # NaN, not 0, where a product is infinite
        return xp.where(self.going, alpha, 0)

    def judge(self, gamma: Any, square: Any) -> Any:
        """Return beta = gamma / the gamma before; decide by <s, z> and <s, s> who goes on."""
        xp, before, previous = self.xp, self.going, self.gamma
        if gpu.decides(self):
            return gpu.decide_who_goes_on(self, gamma, square)
        self.gamma, self.gradient = gamma, xp.sqrt(square)
        positive = (gamma > 0) | (self.gradient <= 0)
        sound = xp.isfinite(gamma) & xp.isfinite(self.gradient) & positive
        self.going = before & (self.gradient > self.limit) & sound.all()
        return gamma / (previous + (previous == 0))


class Cgls:
    """The iteration: x, residuals r, the gradient s = A^H r and the direction p."""

    def __init__(self, problem: Problem, precondition: Any, tol: float) -> None:
        self.problem, self.precondition, self.tol = problem, precondition, tol
        self.dots, self.add = problem.vectors.dots, problem.vectors.add
        self.iterations, self.restarts, self.trouble = 0, 0, ""
        self.steps: list[tuple[float, float]] = []  # alpha and beta of the first column
        self._recent: list[tuple[Any, Any, Any]] = []  # those that were not read yet
        residuals = problem.residuals()
        s = problem.gradient(residuals)
        if problem.balance(s):
            s = problem.gradient(residuals)
        self.reference = np.sqrt(host(self.dots(s, s)))
        self.x = problem.zeros(problem.n)
        if problem.start is not None:
            self.x += problem.start
            residuals = problem.residuals(self.x)
            s = problem.gradient(residuals, self.x)
            here = np.sqrt(host(self.dots(s, s)))
            self.reference = np.where(self.reference > 0, self.reference, here)
        self.columns = Columns(problem.xp, self.tol * self.reference)
        self._hidden = problem.xp.zeros((), bool)  # whether rounding hides the gradient
        self._begin(residuals, s)

    def _begin(self, residuals: list[Any], s: Any) -> None:
        """Start, or start again, from fresh residuals and their gradient s."""
        self.residuals = residuals
        self.columns.going = self.problem.xp.ones(self.problem.k, bool)
        z, _ = self._judge(s)
        self.p: Any = z.copy(order="K")
        self._read()

    def advance(self, iterations: int) -> None:
        """Do some iterations for all columns that go on, then read how they went."""
        for _ in range(iterations):
            self._iterate()
        self._read()

    def _iterate(self) -> None:
        """One iteration: Bjorck's algorithm 7.4.1, with a preconditioner 7.4.3."""
        problem, p = self.problem, self.p
        self.iterations += 1
        images = problem.images(p)  # q = A p
        length = self.dots(p, p)
        energy = problem.energy(images, length)  # |q|^2 + damp^2 |p|^2
        alpha = self.columns.lengths(energy, length, self.iterations)  # gamma / energy
        self.add(self.x, alpha, p)  # x = x + alpha p
        for r, q in zip(self.residuals, images, strict=True):
            self.add(r, -alpha, q)  # r = r - alpha q
        s = problem.gradient(self.residuals, self.x)  # s = A^H r - damp^2 x
        z, beta = self._judge(s)  # gamma = <s, z>, beta = gamma / the gamma before
        problem.vectors.follow(p, beta, z)  # p = z + beta p
        if self.precondition is None and not self.restarts:
            self._recent.append((alpha[:1], beta[:1], self.columns.going[:1]))

    def _judge(self, s: Any) -> tuple[Any, Any]:
        """Return the preconditioned gradient and beta; decide which columns go on."""
        square = self.dots(s, s)
        z = self._preconditioned(s)
        gamma = square if z is s else self.dots(s, z)
        beta = self.columns.judge(gamma, square)
        if self.iterations % _SELDOM == 1:
            going = self.columns.going
            hidden = self._at_rounding() & going.any()
            self._hidden, self.columns.going = self._hidden | hidden, going & ~hidden
        return z, beta

    def _preconditioned(self, s: Any) -> Any:
        """Return the preconditioner's product with s, in units of scaled operators."""
        if self.precondition is None:
            return s
        unit = self.problem.unit
        z = self.precondition(s if unit == 1 else s / unit)
        if getattr(z, "shape", None) != s.shape:
            raise ValueError(
                f"the preconditioner must return columns of shape {s.shape}, got "
                f"{getattr(z, 'shape', type(z).__name__)}"
            )
        z = self.problem.xp.asfortranarray(z)
        return z if unit == 1 else z / unit

    def _at_rounding(self) -> Any:
        """Whether every gradient that is too large is no larger than its rounding errors."""
        xp, problem = self.problem.xp, self.problem
        steepest = xp.sqrt(self.columns.steepest)
        size = steepest * xp.sqrt(self.dots(self.x, self.x))
        for (w, _), r in zip(problem.operators, self.residuals, strict=True):
            size = size + math.sqrt(w) * xp.sqrt(self.dots(r, r))
        noise = 2 * problem.eps * steepest * size
        return (~self.columns.going | (self.columns.gradient <= noise)).all()

    def _read(self) -> None:
        """Copy to the host what says how the iteration goes, all at once."""
        recent = map(self.problem.xp.concatenate, zip(*self._recent, strict=True))
        known = self.columns
        state = (known.last, known.going, known.steepest, known.lost, self._hidden)
        found = fetch([*state, known.gradient, known.gamma, *recent])
        last, going, steepest, lost, hidden, gradient, gamma, *recent = found
        self.stopped = not going.any()
        if self.stopped:
            self.iterations = int(last.max())
        self.steepest = math.sqrt(steepest)  # |A| from below
        self.sizes, self._recent = gradient, []
        self.steps += [(float(a), float(b)) for a, b, on in zip(*recent, strict=True) if on]
        if not (np.isfinite(gradient).all() and np.isfinite(gamma).all()):
            self.trouble = (
                "a product gave NaN or infinite values: look at the operators, the "
                "preconditioner and the range of the dtype"
            )
        elif (gamma <= 0)[gradient > 0].any():
            self.trouble = "the preconditioner is not positive definite"
        elif lost:
            self.trouble = "A maps a search direction to zero: is its adjoint right?"
        elif hidden:
            self.trouble = "rounding hides what is left of the gradient, tol is too small"

    @property
    def progress(self) -> float:
        """The largest gradient, in units of that at x = 0."""
        started = self.reference > 0
        return float((self.sizes[started] / self.reference[started]).max(initial=0))

    @property
    def converged(self) -> bool:
        """Whether every gradient is below the tolerance."""
        return self.stopped and not self.trouble

    def finished(self) -> bool:
        """Whether to stop; a fresh residual must confirm what an updated one says."""
        if self.trouble or not self.stopped or not self.iterations:
            return self.stopped
        residuals = self.problem.residuals(self.x)
        s = self.problem.gradient(residuals, self.x)
        if (np.sqrt(host(self.dots(s, s))) <= 2 * self.tol * self.reference).all():
            return True
        if self.restarts == _RESTARTS:
            self.trouble = "rounding keeps the true gradient above tol"
            return True
        self.restarts += 1
        self._begin(residuals, s)
        return bool(self.trouble)
