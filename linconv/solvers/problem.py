"""The least-squares problem that `lstsq` and `factorized` solve.

    |A x - b|^2 + damp^2 |x|^2 + sum_i w_i |L_i x - t_i|^2

Everything here needs only what NumPy's arrays and CuPy's have in common.  Right-hand sides
are scaled to about 1 by powers of two, and so are operators where that matters: no square
over- or underflows.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from linconv import _arrays, gpu
from linconv._arrays import host
from linconv._options import listed, weight, weight_and_operator
from linconv.operators import LinearOperator, aslinearoperator, common_shape
from linconv.solvers import vectors
from linconv.solvers.layout import Layout

# Entries up to which the rank is looked up in the dense matrix: milliseconds.
_DENSE = 40_000


class Problem:
    """Operators, weights and targets of k right-hand sides, (m, k); solutions are (n, k)."""

    def __init__(self, A: Any, b: Any, x0: Any, damp: Any, penalties: Any) -> None:
        self.xp = _arrays.namespace(b)
        self.vectors: Any = vectors if self.xp is np else gpu.vectors
        operator = self._operator(A)
        self.n = operator.shape[1]
        b, self.in_shape = self._array(b, "b"), tuple(operator.in_shape)
        out_shape = tuple(operator.out_shape)
        self.layout = Layout(b.shape, out_shape, "b")
        columns = self.layout.columns(b, out_shape, "b")
        self.k = self.layout.count
        self.damp = weight(damp, "damp")
        self.shift = self.damp * self.damp  # of |x|^2
        if math.isinf(self.shift):
            raise ValueError(f"the square of damp must be finite, got {damp}")
        self.unit = 1.0  # of x, once operators are scaled
        self.operators: list[tuple[float, Any]] = [(1.0, operator)]
        targets = [columns]
        for entry in listed(penalties):
            w, L, target = self._penalty(entry)
            self.operators.append((w, L))
            targets.append(target)
        start = None if x0 is None else self._columns(x0, self.in_shape, "x0")
        self._scale(targets, start)
        self.targets = [self._scaled(t) for t in targets]
        self.start = self._scaled(start)

    def take(self, columns: slice) -> Problem:
        """Return the problem of some right-hand sides alone."""
        part = copy.copy(self)
        part.targets = [None if t is None else t[:, columns] for t in self.targets]
        part.start = None if self.start is None else self.start[:, columns]
        part.scale = self.scale[columns]
        part.k = len(part.scale)
        return part

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
        common_shape([tuple(L.in_shape), self.in_shape], "a penalty L on A", "in_shape")
        target = None
        if len(entry) == 3:
            target = self._columns(entry[2], tuple(L.out_shape), "target")
        return w, L, target

    def _columns(self, value: Any, shape: tuple[int, ...], name: str) -> Any:
        """Return x0 or a target as columns, one for every right-hand side."""
        return self.layout.columns(self._array(value, name), shape, name)

    def shaped(self, x: Any) -> Any:
        """Return columns of x in the shape that `b` asks for."""
        return self.layout.solution(x, self.in_shape)

    def _scale(self, targets: list[Any], start: Any) -> None:
        """Find the dtype to compute with and the scale of every right-hand side."""
        known = [t for t in targets if t is not None]
        given = known if start is None else [*known, start]
        dtypes: list[Any] = [getattr(L, "_promotes", L.dtype) for _, L in self.operators]
        dtypes += [t.dtype for t in given]
        self.dtype: Any = np.result_type(np.float32, *dtypes)
        self.eps = float(np.finfo(self.dtype).eps)
        found = np.array([self._peaks(t) for t in known], dtype=np.longdouble)
        self.finite = bool(np.isfinite(found).all())
        if start is not None:
            reach = self._reach(start)
            self._refuse_remote(reach.max(axis=0), found.max(axis=0))
            found = np.append(found, reach, axis=0)
        scale = _powers_of_two(np.where(np.isfinite(found), found, 0).max(axis=0))
        real = np.finfo(self.dtype)
        scale = np.clip(scale, real.tiny, 1 / real.tiny).astype(real.dtype)
        self.scale = self.xp.asarray(scale)

    def _reach(self, start: Any) -> Any:
        """Return how large the images of `start` are, (operators + 1, k); may be infinite."""
        size = np.asarray(self._peaks(start), dtype=np.longdouble)
        self.finite = self.finite and bool(np.isfinite(size).all())
        if not self.finite:
            return np.zeros((1, self.k))
        scale = _powers_of_two(size)
        real = np.finfo(self.dtype).dtype
        unit = self._divided(start, self.xp.asarray(scale.astype(real)))
        parts = [math.sqrt(w) * self._peaks(L.matmat(unit)) for w, L in self.operators]
        return np.array([*parts, np.full(self.k, self.damp)], dtype=np.longdouble) * scale

    def _refuse_remote(self, reach: Any, peak: Any) -> None:
        """Refuse an x0 beside whose images the squares of a right-hand side vanish."""
        most = _two_to(np.finfo(self.dtype).maxexp * 3 // 8)
        for size, known in zip(reach.tolist(), peak.tolist(), strict=True):
            if self.finite and 0 < known < size / most:
                raise ValueError(
                    f"A, penalties and damp must not map x0 to more than {most:.0e} times the "
                    f"right-hand side in {self.dtype}, got {size:.1e} for {known:.1e}, beside "
                    "which nothing of it is left: scale x0, or leave it out"
                )

    def _peaks(self, t: Any) -> np.ndarray:
        """Return the largest magnitude of every column, on the host."""
        return host(self.vectors.peaks(t))

    def _scaled(self, t: Any) -> Any:
        return t if t is None or not self.finite else self._divided(t, self.scale)

    def _divided(self, t: Any, scale: Any) -> Any:
        """Return ``t / scale``, contiguous columns of the problem's dtype."""
        return (self.xp.ascontiguousarray(t.T, self.dtype) / scale[:, None]).T

    def balance(self, s: Any) -> bool:
        """Scale the operators to about 1 if they are so large or small that squares are lost.

        `s` is the gradient at 0 for right-hand sides of about 1; its fourth power is the
        largest that is needed.  Returns whether anything was scaled; then x is too.
        """
        finfo = np.finfo(self.dtype)
        most = _two_to(finfo.maxexp // 8)
        peak = float(self._peaks(s).max())
        if not 0 < peak < math.inf or 1 / most <= peak <= most:
            return False
        p = s / peak
        sizes = [
            math.sqrt(w) * float(self._peaks(L.matmat(p)).max()) for w, L in self.operators
        ]
        size = max(self.damp, *sizes)
        if not 0 < size < math.inf or 1 / most <= size <= most:
            return False
        most_bits = min(finfo.maxexp - 9, 1000)
        bits = min(max(math.frexp(size)[1], -most_bits), most_bits)
        self.unit = 2.0**-bits
        self.operators = [(w, _Rescaled(L, self.unit)) for w, L in self.operators]
        self.shift = (self.damp * self.unit) ** 2
        if self.start is not None:
            self.start = self.start / self.unit
        return True

    def restored(self, x: Any) -> Any:
        """Return columns of x in the caller's scale and unit; `x` is overwritten."""
        x *= self.scale
        if self.unit != 1:
            x *= self.unit
        return x

    def zeros(self, rows: int) -> Any:
        """Return columns of zeros."""
        return self.xp.zeros((self.k, rows), self.dtype).T

    def images(self, p: Any) -> list[Any]:
        """Return the products of all operators; (n, k) -> (rows, k) each."""
        return [self.xp.asfortranarray(L.matmat(p)) for _, L in self.operators]

    def energy(self, images: list[Any], squared_length: Any) -> Any:
        """Return ``sum w |L p|^2 + damp^2 |p|^2`` of every column, from all L p and |p|^2."""
        total = self.shift * squared_length
        for (w, _), q in zip(self.operators, images, strict=True):
            total = total + w * self.vectors.dots(q, q)
        return total

    def residuals(self, x: Any = None) -> list[Any]:
        """Return ``t - L x`` of all operators; without x the targets, x = 0."""
        parts = [
            self.zeros(L.shape[0]) if t is None else t.copy(order="K")
            for t, (_, L) in zip(self.targets, self.operators, strict=True)
        ]
        if x is not None:
            for part, image in zip(parts, self.images(x), strict=True):
                part -= image
        return parts

    def gradient(self, residuals: list[Any], x: Any = None) -> Any:
        """Return ``sum w L^H r - damp^2 x``: minus half the gradient; x = 0 without x."""
        (_, A), *others = self.operators
        total = self.xp.asfortranarray(A.rmatmat(residuals[0]))
        for (w, L), r in zip(others, residuals[1:], strict=True):
            self.vectors.add(total, w, self.xp.asfortranarray(L.rmatmat(r)))
        if self.shift and x is not None:
            self.vectors.add(total, -self.shift, x)
        return total

    def rank(self) -> int | None:
        """Return the rank of all operators above one another, of small ones only."""
        rows = sum(L.shape[0] for _, L in self.operators)
        if self.xp is not np or self.shift or rows * self.n > _DENSE:
            return None
        parts = [math.sqrt(w) * L.toarray() for w, L in self.operators]
        matrix = np.concatenate(parts)
        double = np.result_type(np.float64, matrix.dtype).char
        matrix = matrix.astype({"g": "d", "G": "D"}.get(double, double))  # LAPACK's widest
        return int(np.linalg.matrix_rank(matrix)) if np.isfinite(matrix).all() else None


def _two_to(bits: int) -> float:
    """Return a power of two, at most the largest float: longdouble has a wider range."""
    return 2.0 ** min(bits, 1000)


def _powers_of_two(sizes: Any) -> Any:
    """Return the largest powers of two that are not above some sizes; 1 for zeros."""
    return np.exp2(np.floor(np.log2(np.where(sizes > 0, sizes, 1))))


class _Rescaled:
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
        return self.operator.H @ y
