"""Preconditioned conjugate gradients for a sum of squares, all right-hand sides at once.

The normal equations are never formed (Bjorck, "Numerical Methods for Least Squares
Problems", SIAM 1996, algorithms 7.4.1 and 7.4.3); every column has its own step lengths.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from linconv._arrays import host
from linconv.solvers.course import Course
from linconv.solvers.lines import Step
from linconv.solvers.problem import Squares
from linconv.solvers.vectors import (
    advance,
    copy,
    dots,
    fetch,
    follow,
    like,
    move,
    norms,
    subtract,
    zeros_like,
)

# How often a gradient that only an updated residual called small may be made afresh.
_RESTARTS = 3
# Iterations between looks at what takes more passes over the vectors: few, or many while
# every gradient is so many times what is looked for.
_SELDOM, _RARELY, _FAR = 8, 32, 1e4
_NEAREST = ": of all solutions this is the one nearest to x0"


class Run:
    """The iteration: x, residuals r, the gradient s = A^H r and the direction p.

    The host looks at its course every few iterations only.  So a column that is done, and all
    of them once one is in trouble, get steps of length 0 until then: a look tells when that
    was.
    """

    def __init__(self, squares: Squares, precondition: Any, tol: float) -> None:
        self.squares, self.precondition, self.tol = squares, precondition, tol
        self.iterations, self.restarts, self.trouble = 0, 0, ""
        self.steps: list[tuple[float, float]] = []  # alpha and beta of the first column
        self._recent: list[tuple[Any, Any, Any]] = []  # those that were not looked at yet
        residuals = squares.first_residuals()
        s, square = squares.pulled(residuals)
        if squares.balance(s):
            s, square = squares.pulled(residuals)
        if square is None:  # not before the operators are scaled: squares could overflow
            square = dots(s, s)
        self._x = zeros_like(s)
        self.reference = np.sqrt(host(square))
        if squares.start is not None:
            self._x += squares.start
            residuals = squares.residuals(self._x)
            s = squares.gradient(residuals, self._x)
            square = dots(s, s)
            here = np.sqrt(host(square))
            self.reference = np.where(self.reference > 0, self.reference, here)
        self._course = Course(squares.xp, self.tol * self.reference)
        self._hidden = squares.xp.zeros((), bool)  # whether rounding hides the gradient
        self._next = 1  # iteration in which to look for that
        self._begin(residuals, s, square)

    def _begin(self, residuals: list[Any], s: Any, square: Any) -> None:
        """Start, or start again, from fresh residuals, their gradient s and <s, s>."""
        self.residuals = residuals
        self._course.begin()
        z, _ = self._judge(s, square)
        self.p: Any = copy(z)
        length = square if z is s else dots(z, z)
        self._turn = Step(lambda: length)
        self._look()

    def advance(self, iterations: int) -> None:
        """Do some iterations for all columns that are not done, then look."""
        for _ in range(iterations):
            self.iterations += 1
            self._step()
        self._look()

    @property
    def x(self) -> Any:
        """The solution so far; the last step to it may have waited for this."""
        self._turn.total()
        return self._x

    def solution(self) -> Any:
        """Return x when no iteration follows; what is said of x may take p's memory."""
        x, self.p = self.x, None
        return x

    def _step(self) -> None:
        squares, course = self.squares, self._course
        images, energy, length = squares.images_and_energy(self.p, self._turn)
        alpha = course.lengths(energy, length, self.iterations)
        moving = course.going
        steps = self._subtracted(alpha, images, moving)
        step, shift = (self._x, alpha, self.p, moving), squares.shift
        after = partial(advance, *step, shift) if shift else None
        s, square = squares.pulled(self.residuals, steps, after)
        z, beta = self._judge(s, dots(s, s) if square is None else square)
        # What the gradient does not ask for waits until p changes, so that p is read once;
        # and that until the next product, which reads p.
        self._turn = follow(self.p, beta, z) if shift else move(*step, beta, z)
        if self.precondition is None:
            self._turn.spent = z
            if not self.restarts:
                self._recent.append((alpha[:1], beta[:1], course.going[:1]))

    def _subtracted(self, alpha: Any, images: list[Any], moving: Any) -> list[Step]:
        """Return steps that take `alpha` times the images off the residuals, and use them up.

        Only the steps hold the images then, until they are taken: the gradient takes the
        memory.
        """
        self.residuals = [like(r, q) for r, q in zip(self.residuals, images, strict=True)]
        steps = []
        for r, q in zip(self.residuals, images, strict=True):
            steps.append(subtract(r, alpha, q, moving))
            steps[-1].spent = q
        images.clear()
        return steps

    def _judge(self, s: Any, square: Any) -> tuple[Any, Any]:
        """Tell from the gradient, |s|^2, which columns are to go on.

        Returns what p follows, the gradient preconditioned, and how much of p is kept.
        """
        course = self._course
        z = s if self.precondition is None else self.precondition(s)
        beta = course.judge(square if z is s else dots(s, z), square)
        if self.iterations >= self._next:
            hidden = self._at_rounding() & course.going.any()
            self._hidden, course.going = self._hidden | hidden, course.going & ~hidden
        return z, beta

    def _at_rounding(self) -> Any:
        """Whether every gradient that is too large is no larger than its rounding errors."""
        xp, (weights, _) = self.squares.xp, zip(*self.squares.operators, strict=True)
        steepest = xp.sqrt(self._course.steepest)
        size = steepest * xp.sqrt(dots(self._x, self._x))
        for w, r in zip(weights, self.residuals, strict=True):
            size = size + math.sqrt(w) * xp.sqrt(dots(r, r))
        noise, course = 2 * self.squares.eps * steepest * size, self._course
        far = xp is np and (~course.going | (course.gradient > _FAR * noise)).all()
        self._next += _RARELY if far else _SELDOM
        return (~course.going | (course.gradient <= noise)).all()

    def _look(self) -> None:
        """Copy to the host what tells how it goes, all at once."""
        recent = map(self.squares.xp.concatenate, zip(*self._recent, strict=True))
        course = self._course
        state = (course.last, course.going, course.steepest, course.lost, self._hidden)
        found = fetch([*state, course.gradient, course.gamma, *recent])
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
    def finished(self) -> bool:
        """Whether to stop; what an updated residual says, a fresh one must confirm."""
        if self.trouble or not self.stopped or not self.iterations:
            return self.stopped
        residuals = self.squares.residuals(self.x)
        s = self.squares.gradient(residuals, self.x)
        square = dots(s, s)
        if (np.sqrt(host(square)) <= 2 * self.tol * self.reference).all():
            return True
        if self.restarts == _RESTARTS:
            self.trouble = "rounding keeps the true gradient above tol"
            return True
        self.restarts += 1
        self._begin(residuals, s, square)
        return bool(self.trouble)

    def message(self, residual: np.ndarray) -> str:
        """Return in a sentence how it went; `residual` are the norms of A x - b."""
        count = f"{self.iterations} iteration" + "s" * (self.iterations != 1)
        gradient = f"the gradient is {self.progress:.1e} of that at 0, tol {self.tol:g}"
        if self.trouble:
            return f"not converged after {count}: {self.trouble}; {gradient}"
        if self.stopped:
            text = f"converged in {count}: {gradient}" + self._inconsistent(residual)
        else:
            text = (
                f"not converged: stopped at maxiter after {count}; {gradient}: allow more "
                f"iterations, damp or precondition (the condition of A is at least "
                f"{self._condition():.1g})"
            )
        return text + self._singular()

    def _inconsistent(self, residual: np.ndarray) -> str:
        """Say that no x solves the equations: what is left is orthogonal to them."""
        squares = self.squares
        if squares.shift or len(squares.operators) > 1:
            return ""
        size = norms(squares.targets[0])
        limit = 10 * max(self.tol, squares.eps)
        left = residual > limit * size
        orthogonal = self.sizes <= math.sqrt(limit) * self.steepest * residual
        if not (left & orthogonal & (size > 0)).any():
            return ""
        share = f"|A x - b| = {(residual[size > 0] / size[size > 0]).max():.2g} |b|"
        (rows, columns), rank = squares.operators[0][1].shape, squares.rank()
        if rank == rows:
            return f"; {share}, although some x has none: lower tol, A is ill-conditioned"
        if rank is None and rows <= columns:
            return f"; {share}: they are inconsistent, or A too ill-conditioned for this tol"
        return (
            f"; the equations are inconsistent, {share}: this is their least-squares solution"
        )

    def _singular(self) -> str:
        """Say that the solution is not unique, where that can be seen."""
        squares = self.squares
        rank, rows = squares.rank(), sum(L.shape[0] for _, L in squares.operators)
        if rank is not None and rank < squares.n:
            return f"; A is singular, of rank {rank} for {squares.n} unknowns{self._nearest()}"
        if rows < squares.n and not squares.shift:
            return f"; there are fewer equations than unknowns{self._nearest()}"
        condition = self._condition()
        if condition**2 * squares.eps > 1:
            return f"; A is singular or nearly so, its condition at least {condition:.0e}"
        return ""

    def _nearest(self) -> str:
        """Say which of all solutions was found, if one was."""
        if not self.stopped or self.trouble:
            return ""
        norm = " in the norm of the preconditioner's inverse"
        return _NEAREST + norm * (self.precondition is not None)

    def _condition(self) -> float:
        """Return the condition of A from below, as the first column saw it.

        Step lengths of conjugate gradients are a Lanczos matrix (Golub and Van Loan,
        "Matrix Computations", 4th ed., section 11.3.5).
        """
        if self.precondition is not None or self.restarts or len(self.steps) < 2:
            return 1.0
        alpha, beta = np.array(self.steps).T
        if (alpha <= 0).any():
            return 1.0
        diagonal = 1 / alpha
        diagonal[1:] += beta[:-1] / alpha[:-1]
        values = eigvalsh_tridiagonal(diagonal, np.sqrt(beta[:-1]) / alpha[:-1])
        return math.sqrt(values[-1] / max(values[0], values[-1] * 1e-40))
