"""Preconditioned conjugate gradients for a sum of squares, all right-hand sides at once.

The normal equations are never formed (Bjorck, "Numerical Methods for Least Squares
Problems", SIAM 1996, algorithms 7.4.1 and 7.4.3); every column has its own step lengths.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from linconv._columns import add, dots, follow, host, like, norms
from linconv._squares import Squares

# How often a gradient that only an updated residual called small may be made afresh.
_RESTARTS = 3
# Iterations between looks at what takes more passes over the vectors.
_SELDOM = 8
_NEAREST = "of all solutions this is the one nearest to x0"


class Run:
    """The iteration: x, residuals r, the gradient s = A^H r and the direction p."""

    def __init__(self, squares: Squares, precondition: Any, tol: float) -> None:
        self.squares, self.precondition, self.tol = squares, precondition, tol
        self.iterations, self.restarts, self.trouble = 0, 0, ""
        self.steps: list[tuple[float, float]] = []  # alpha and beta of the first column
        self.steepest = 0.0  # the largest |A p| / |p| met: |A| from below
        residuals = squares.first_residuals()
        s = squares.gradient(residuals, squares.zeros(squares.n))
        self.x = s * 0
        self.reference = norms(s)
        if squares.start is not None:
            self.x += squares.start
            residuals = squares.residuals(self.x)
            s = squares.gradient(residuals, self.x)
            self.reference = np.where(self.reference > 0, self.reference, norms(s))
        self._begin(residuals, s)

    def _begin(self, residuals: list[Any], s: Any) -> None:
        """Start, or start again, from fresh residuals and their gradient."""
        self.residuals = residuals
        self.p = self._look(s).copy(order="K")

    def _look(self, s: Any) -> Any:
        """See how small the gradient is and which columns are done; precondition it."""
        square = dots(s, s)
        z = s if self.precondition is None else self.precondition(s)
        self.gamma = square if z is s else dots(s, z)
        self.gradient, gamma = np.sqrt(host(square)), host(self.gamma)
        self.done = self.gradient <= self.tol * self.reference
        if not (np.isfinite(self.gradient).all() and np.isfinite(gamma).all()):
            self.trouble = (
                "a product gave NaN or infinite values: look at the operators, the "
                "preconditioner and the range of the dtype"
            )
        elif (gamma <= 0)[self.gradient > 0].any():
            self.trouble = "the preconditioner is not positive definite"
        elif not self.done.all() and self.iterations % _SELDOM == 1 and self._at_rounding():
            self.trouble = "rounding hides what is left of the gradient, tol is too small"
        return z

    def _at_rounding(self) -> bool:
        """Whether every gradient that is too large is no larger than its rounding errors."""
        pairs = zip(self.squares.operators, self.residuals, strict=True)
        size = sum(math.sqrt(w) * norms(r) for (w, _), r in pairs)
        size = size + self.steepest * norms(self.x)
        noise = 2 * self.squares.eps * self.steepest * size
        return bool((self.done | (self.gradient <= noise)).all())

    @property
    def progress(self) -> float:
        """The largest gradient, in units of that at x = 0."""
        started = self.reference > 0
        return float((self.gradient[started] / self.reference[started]).max(initial=0))

    @property
    def finished(self) -> bool:
        """Whether to stop; what an updated residual says, a fresh one must confirm."""
        if self.trouble or not self.done.all() or not self.iterations:
            return bool(self.trouble) or bool(self.done.all())
        residuals = self.squares.residuals(self.x)
        s = self.squares.gradient(residuals, self.x)
        if (norms(s) <= 2 * self.tol * self.reference).all():
            return True
        if self.restarts == _RESTARTS:
            self.trouble = "rounding keeps the true gradient above tol"
            return True
        self.restarts += 1
        self._begin(residuals, s)
        return bool(self.trouble)

    def step(self) -> None:
        """Do one iteration for all columns that are not done."""
        self.iterations += 1
        squares = self.squares
        images = squares.images(self.p)
        length = dots(self.p, self.p)
        energy = squares.energy(images, length)
        ratio = host(energy / (length + (length == 0))).max()
        self.steepest = max(self.steepest, math.sqrt(max(0.0, float(ratio))))
        if not self.done.all() and (host(energy)[~self.done] <= 0).any():
            self.trouble = "A maps a search direction to zero: is its adjoint right?"
            return
        active = squares.xp.asarray((~self.done).astype(self.squares.scale.dtype))
        alpha = active * self.gamma / (energy + (energy == 0))
        add(self.x, alpha, self.p)
        self.residuals = [like(r, q) for r, q in zip(self.residuals, images, strict=True)]
        for r, q in zip(self.residuals, images, strict=True):
            add(r, -alpha, q)
        before = self.gamma
        z = self._look(squares.gradient(self.residuals, self.x))
        beta = self.gamma / (before + (before == 0))
        follow(self.p, beta, z)
        if not self.done[0]:
            self.steps.append((float(host(alpha)[0]), float(host(beta)[0])))

    def message(self, residual: np.ndarray) -> str:
        """Return in a sentence how it went; `residual` are the norms of A x - b."""
        count = f"{self.iterations} iteration" + "s" * (self.iterations != 1)
        gradient = f"the gradient is {self.progress:.1e} of that at 0, tol {self.tol:g}"
        if self.trouble:
            return f"not converged after {count}: {self.trouble}; {gradient}"
        if self.done.all():
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
        orthogonal = self.gradient <= math.sqrt(limit) * self.steepest * residual
        if not (left & orthogonal & (size > 0)).any():
            return ""
        share = (residual[size > 0] / size[size > 0]).max()
        return (
            f"; the equations are inconsistent, |A x - b| = {share:.2g} |b|: this is their "
            "least-squares solution"
        )

    def _singular(self) -> str:
        """Say that the solution is not unique, where that can be seen."""
        squares = self.squares
        rank, rows = squares.rank(), sum(L.shape[0] for _, L in squares.operators)
        if rank is not None and rank < squares.n:
            return f"; A is singular, of rank {rank} for {squares.n} unknowns: {_NEAREST}"
        if rows < squares.n and not squares.shift:
            return f"; there are fewer equations than unknowns: {_NEAREST}"
        condition = self._condition()
        if condition**2 * squares.eps > 1:
            return f"; A is singular or nearly so, its condition at least {condition:.0e}"
        return ""

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
