"""The sum of squares that `solvers.lstsq` minimises.

    |A x - b|^2 + damp^2 |x|^2 + sum_i w_i |L_i x - t_i|^2

Asks of arrays only what NumPy's and CuPy's both do.  Right-hand sides are scaled to
about 1 by powers of two, and so are operators where it matters: no square over- or
underflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from linconv import _arrays, gpu
from linconv._options import listed, weight, weight_and_operator
from linconv.operators import LinearOperator, aslinearoperator
from linconv.solvers.lines import Step
from linconv.solvers.vectors import add, copy, difference, dots, multiply, peaks, scaled

# Entries up to which the rank is looked up in the dense matrix: milliseconds.
_DENSE = 40_000


class Squares:
    """Operators, weights and targets; everything that is said of x is said in columns."""

    def __init__(self, A: Any, b: Any, x0: Any, damp: Any, penalties: Any) -> None:
        self.xp = _arrays.namespace(b)
        operator = self._operator(A)
        m, self.n = operator.shape
        self.shaped, columns = _layout(operator, self._array(b, "b"), m)
        self.k = columns.shape[1]
        self.damp = weight(damp, "damp")
        self.shift = self.damp * self.damp  # of |x|^2
        if math.isinf(self.shift):
            raise ValueError(f"the square of damp must be finite, got {damp}")
        self.unit = 1.0  # what x is in units of, when operators are scaled
        self.operators: list[tuple[float, Any]] = [(1.0, operator)]
        targets = [columns]
        for entry in listed(penalties):
            w, L, target = self._penalty(entry)
            self.operators.append((w, L))
            targets.append(target)
        start = None if x0 is None else self._columns(x0, self.n, operator.in_shape, "x0")
        self._scale(targets, start)
        self.targets = [self._scaled(t) for t in targets]
        self.start = self._scaled(start)

    def _operator(self, A: Any) -> Any:
        if self.xp is not np:
            known = aslinearoperator(A) if gpu.owns(A) else A
            return known if isinstance(known, LinearOperator) else _Device(known)
        operator = aslinearoperator(A)
        if operator.device == "gpu":
            raise TypeError(
                "b must be a CuPy array, as an operator lies on the GPU: move it with "
                "cupy.asarray(b), or the operator with A.to('cpu')"
            )
        return operator

    def _array(self, value: Any, name: str) -> Any:
        take = _arrays.as_array if self.xp is np else _arrays.as_device_array
        return take(value, name)

    def _penalty(self, entry: Any) -> tuple[float, Any, Any]:
        w, L = weight_and_operator(entry)
        L = self._operator(L)
        if L.shape[1] != self.n:
            raise ValueError(
                f"L of a penalty must have as many columns as A, {self.n}, got shape {L.shape}"
            )
        target = None
        if len(entry) == 3:
            target = self._columns(entry[2], L.shape[0], L.out_shape, "target")
        return w, L, target

    def _columns(self, value: Any, rows: int, shape: tuple[int, ...], name: str) -> Any:
        """Return x0 or a target as columns, one for every right-hand side."""
        value = self._array(value, name)
        d, k = len(shape), self.k
        if value.shape == (rows, k):
            return value
        if value.shape in ((rows,), shape):
            return value.reshape(rows, 1) + self.xp.zeros((1, k), value.dtype)
        if value.ndim > d and value.shape[-d:] == shape and value.size == rows * k:
            return value.reshape(k, rows).T
        shapes = " or ".join(map(str, dict.fromkeys([(rows,), shape, (rows, k)])))
        raise ValueError(f"{name} must have shape {shapes}, got {value.shape}")

    def _scale(self, targets: list[Any], start: Any) -> None:
        """Find the dtype to compute with and the scale of every right-hand side."""
        known = [t for t in targets if t is not None]
        given = known if start is None else [*known, start]
        dtypes = [L.dtype for _, L in self.operators] + [t.dtype for t in given]
        self.dtype: Any = np.result_type(np.float32, *dtypes)
        self.eps = float(np.finfo(self.dtype).eps)
        found = np.array([peaks(t) for t in known], dtype=np.longdouble)
        self.finite = bool(np.isfinite(found).all())
        if start is not None:
            reach = self._reach(start)
            self._refuse_remote(reach.max(axis=0), found.max(axis=0))
            found = np.append(found, reach, axis=0)
        peak = np.where(np.isfinite(found), found, 0).max(axis=0)
        scale = np.exp2(np.floor(np.log2(np.where(peak > 0, peak, 1))))
        real = np.finfo(self.dtype)
        scale = np.clip(scale, real.tiny, 1 / real.tiny).astype(real.dtype)
        self.scale = self.xp.asarray(scale)

    def _reach(self, start: Any) -> Any:
        """Return how large the images of `start` are, (operators + 1, k); may be infinite."""
        size = np.asarray(peaks(start), dtype=np.longdouble)
        self.finite = self.finite and bool(np.isfinite(size).all())
        if not self.finite:
            return np.zeros((1, self.k))
        scale = np.exp2(np.floor(np.log2(np.where(size > 0, size, 1))))
        real = np.finfo(self.dtype).dtype
        unit = scaled(start, self.dtype, self.xp.asarray(scale.astype(real)))
        parts = [math.sqrt(w) * peaks(L.matmat(unit)) for w, L in self.operators]
        return np.array([*parts, np.full(self.k, self.damp)], dtype=np.longdouble) * scale

    def _refuse_remote(self, reach: Any, peak: Any) -> None:
        """Refuse an x0 beside whose images the squares of a right-hand side vanish."""
        most = 2.0 ** (np.finfo(self.dtype).maxexp * 3 // 8)
        for size, known in zip(reach.tolist(), peak.tolist(), strict=True):
            if self.finite and 0 < known < size / most:
                raise ValueError(
                    f"A, penalties and damp must not map x0 to more than {most:.0e} times the "
                    f"right-hand side in {self.dtype}, got {size:.1e} for {known:.1e}, beside "
                    "which nothing of it is left: scale x0, or leave it out"
                )

    def _scaled(self, t: Any) -> Any:
        if t is None or not self.finite:
            return t
        return scaled(t, self.dtype, self.scale)

    def balance(self, s: Any) -> bool:
        """Scale the operators to about 1 if they are so large or small that squares are lost.

        `s` is the gradient at 0 for right-hand sides of about 1, its fourth power the
        largest that is needed.  Tells whether anything was scaled; then x is too.
        """
        finfo = np.finfo(self.dtype)
        most = 2.0 ** (finfo.maxexp // 8)
        peak = float(peaks(s).max())
        if not 0 < peak < math.inf or 1 / most <= peak <= most:
            return False
        p = s / peak
        sizes = [math.sqrt(w) * float(peaks(L.matmat(p)).max()) for w, L in self.operators]
        size = max(self.damp, *sizes)
        if not 0 < size < math.inf or 1 / most <= size <= most:
            return False
        bits = min(max(math.frexp(size)[1], 9 - finfo.maxexp), finfo.maxexp - 9)
        self.unit = 2.0**-bits
        self.operators = [(w, _Scaled(L, self.unit)) for w, L in self.operators]
        self.shift = (self.damp * self.unit) ** 2
        if self.start is not None:
            self.start = self.start / self.unit
        return True

    def restored(self, x: Any) -> Any:
        """Return x as the caller knows it, scale, units and shape; `x` is used up."""
        multiply(x, self.scale)
        if self.unit != 1:
            multiply(x, self.unit)
        return self.shaped(x)

    def zeros(self, rows: int) -> Any:
        """Return columns of zeros."""
        return self.xp.zeros((rows, self.k), self.dtype)

    def images(self, p: Any) -> list[Any]:
        """Return the products of all operators; (n, k) -> (rows, k) each."""
        return [L.matmat(p) for _, L in self.operators]

    def residuals(self, x: Any) -> list[Any]:
        """Return ``t - L x`` of all operators."""
        pairs = zip(self.targets, self.images(x), strict=True)
        return [-image if t is None else difference(t, image) for t, image in pairs]

    def first_residuals(self) -> list[Any]:
        """Return the residuals at x = 0, without a product."""
        return [
            self.zeros(L.shape[0]) if t is None else copy(t)
            for t, (_, L) in zip(self.targets, self.operators, strict=True)
        ]

    def gradient(self, residuals: list[Any], x: Any) -> Any:
        """Return ``sum w L^H r - damp^2 x``: minus half the gradient of the sum."""
        total, _ = self.pulled(residuals)
        if self.shift:
            add(total, -self.shift, x)
        return total

    def pulled(
        self, residuals: list[Any], before: Sequence[Step] = (), after: Any = None
    ) -> tuple[Any, Any]:
        """Return ``s = sum w L^H r``, and <s, s> of every column if that is known.

        The steps `before` are taken on the residuals first.  The one that `after` returns,
        given s, is taken last; its total is known then.
        """
        (_, A), *others = self.operators
        if not others:
            return _squared(A, residuals[0], *before, after=after, adjoint=True)
        for step in before:
            step.total()
        total = A.rmatmat(residuals[0])
        for (w, L), r in zip(others, residuals[1:], strict=True):
            add(total, w, L.rmatmat(r))
        return total, after(total).total() if after else None

    def images_and_energy(self, p: Any, before: Step) -> tuple[list[Any], Any, Any]:
        """Return `images`, ``sum w |L p|^2 + damp^2 |p|^2`` and |p|^2.

        The step `before` is taken on p first; its total is |p|^2.
        """
        images, total, steps = [], None, (before,)
        for w, L in self.operators:
            image, square = _squared(L, p, *steps, adjoint=False)
            square = dots(image, image) if square is None else square
            square = square if w == 1 else w * square
            total = square if total is None else total + square
            images.append(image)
            steps = ()
        length = before.total()
        return images, total + self.shift * length if self.shift else total, length

    def rank(self) -> int | None:
        """Return the rank of all operators above one another, of small ones only."""
        rows = sum(L.shape[0] for _, L in self.operators)
        if self.xp is not np or self.shift or rows * self.n > _DENSE:
            return None
        parts = [math.sqrt(w) * L.toarray() for w, L in self.operators]
        matrix = np.concatenate(parts)
        return int(np.linalg.matrix_rank(matrix)) if np.isfinite(matrix).all() else None


def _squared(
    L: Any, x: Any, before: Step | None = None, *, after: Any = None, adjoint: bool
) -> tuple[Any, Any]:
    """Return L x, or L^H x, and the squared norms of its columns if the product knew them.

    `before` and `after` as in `Squares.pulled`.
    """
    if before is not None:
        if hasattr(L, "_swept") and (found := L._swept(x, before, after, adjoint=adjoint)):
            before.total()  # now it holds no memory
            return found
        before.total()
    if hasattr(L, "_squared"):
        y, squares = L._squared(x, adjoint=adjoint)
    else:
        y, squares = (L.rmatmat if adjoint else L.matmat)(x), None
    return y, after(y).total() if after else squares


class _Scaled:
    """An operator times a power of two; results keep their dtype."""

    def __init__(self, operator: Any, factor: float) -> None:
        self.operator, self.factor = operator, factor
        self.shape, self.dtype = operator.shape, operator.dtype

    def matmat(self, x: Any) -> Any:
        return self.operator.matmat(x) * self.factor

    def rmatmat(self, y: Any) -> Any:
        return self.operator.rmatmat(y) * self.factor

    def toarray(self) -> Any:
        return self.operator.toarray() * self.factor


class _Device:
    """Somebody's operator for arrays that are not NumPy's."""

    def __init__(self, operator: Any) -> None:
        if not hasattr(operator, "shape") or not hasattr(operator, "__matmul__"):
            raise TypeError(
                "A must have a shape and multiply the arrays that b is of, as A @ x and "
                f"A.H @ y, got {type(operator).__name__}"
            )
        self.operator, self.shape, self.dtype = operator, operator.shape, operator.dtype
        self.in_shape = getattr(operator, "in_shape", operator.shape[1:])
        self.out_shape = getattr(operator, "out_shape", operator.shape[:1])

    def matmat(self, x: Any) -> Any:
        return self.operator @ x

    def rmatmat(self, y: Any) -> Any:
        return self._adjoint @ y

    @cached_property
    def _adjoint(self) -> Any:
        return self.operator.H


def _layout(A: Any, b: Any, m: int) -> tuple[Callable[[Any], Any], Any]:
    """Return what gives a solution the shape that `b` asks for, and b as columns."""
    d = len(A.out_shape)
    if b.size and b.shape == (m,):
        return (lambda x: x[:, 0]), b.reshape(m, 1)
    if b.size and d > 1 and b.shape[-d:] == tuple(A.out_shape):
        shape = (*b.shape[: b.ndim - d], *A.in_shape)
        return (lambda x: x.T.reshape(shape)), b.reshape(-1, m).T
    if b.size and b.ndim == 2 and b.shape[0] == m:
        return (lambda x: x), b
    shaped = f" or (*batch, {str(tuple(A.out_shape))[1:]}" if d > 1 else ""
    raise ValueError(f"b must have shape ({m},), ({m}, k){shaped} for k > 0, got {b.shape}")
