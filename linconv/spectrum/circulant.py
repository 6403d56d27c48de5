"""Circulant operators, and the circulant approximations of others by their symbols.

A symbol holds one small matrix per frequency of a periodic domain, in an array of shape
``(groups, o, i, f1..fd)``; a number stands for a multiple of I.  `circulant_preconditioner`
inverts the symbols.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from linconv import _arrays, assembly, gpu
from linconv._arrays import host
from linconv.convolution import Conv
from linconv.geometry import Axis, Boundary
from linconv.operators import (
    Block,
    Diagonal,
    Identity,
    Kron,
    LinearOperator,
    Matrix,
    Product,
    Restriction,
    Scaled,
    Sum,
    View,
)

# Eigenvalues are raised to at least this part of the largest before they are inverted.
_FLOOR = 1e-10


class Circulant(LinearOperator):
    """``P F^-1 S F P^T``: a filter given by its spectrum on a periodic domain.

    Parameters
    ----------
    spectrum : ndarray, ``(groups, c, c, f1..fd)``
        S, a small matrix per frequency: of `scipy.fft.rfftn`'s half spectrum where
        `dtype` is real, of `scipy.fft.fftn`'s where it is complex.  A CuPy array gives
        an operator on its GPU.
    in_shape : tuple of int
        Shape of the arrays, ``(n1..nd)`` or ``(groups * c, n1..nd)``.
    lengths : tuple of int, ``(m1..md)``
        Lengths of the transforms.
    spread : sequence of (sparse array ``(n, m)`` or None), optional
        P along each axis; with None, P^T appends zeros to the samples.
    dtype : dtype
        Dtype of the operator.

    Examples
    --------
    >>> Circulant(np.reshape([3.0, 1.0], (1, 1, 1, 2)), 2, (2,)).toarray()
    array([[2., 1.],
           [1., 2.]])
    """

    def __init__(
        self,
        spectrum: np.ndarray,
        in_shape: Sequence[int] | int,
        lengths: tuple[int, ...],
        *,
        spread: Sequence[Any] | None = None,
        dtype: Any = float,
    ) -> None:
        super().__init__(dtype, in_shape, in_shape)
        self.spectrum, self.lengths = gpu.home(spectrum).read_only(spectrum), lengths
        spatial = self.in_shape[-len(lengths) :]
        self._channels = self.shape[0] // math.prod(spatial)
        self._spread = None
        if spread is not None and any(P is not None for P in spread):
            real = np.finfo(self.dtype).dtype
            parts = (
                Identity(n, real) if P is None else Matrix(P.astype(real))
                for P, n in zip(spread, spatial, strict=True)
            )
            P = Kron(Identity(self._channels, real), *parts)
            self._spread = P.to(gpu.device_of(spectrum))
        adjoint = spectrum.swapaxes(1, 2).conj()
        self._hermitian = bool((adjoint == spectrum).all())

    def _device(self) -> str:
        return gpu.device_of(self.spectrum)

    def _moved(self, device: str) -> Circulant:
        if device == "gpu":  # CuPy transforms no long doubles
            gpu.check_dtype(self.dtype, "the operator")
        moved: Any = copy.copy(self)
        moved.spectrum = gpu.moved(self.spectrum, device)
        moved._spread = self._spread and self._spread.to(device)
        return moved

    def _is_hermitian(self) -> bool:
        return self._hermitian

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, self.spectrum)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, self.spectrum.swapaxes(1, 2).conj())

    def _product(self, X: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        """Apply P^T, the transform, the spectrum, the inverse and P: (n, b) -> (n, b)."""
        if not X.shape[1]:
            return X.copy()  # cuFFT rejects an empty batch
        real = self.dtype.kind != "c"
        if real and X.dtype.kind == "c":
            return _arrays.by_real_parts(partial(self._product, spectrum=spectrum), X)
        X = X.astype(np.result_type(X.dtype, self.dtype))
        shape = (self._channels, *self.in_shape[-len(self.lengths) :])
        if self._spread is not None:
            X, shape = self._spread._rmatmat(X), self._spread.in_shape
        x = X.T.reshape(X.shape[1], *shape)
        # The transform appends zeros to the samples, and the crop removes them again.
        transform, inverse = gpu.transforms(x, real)
        axes = tuple(range(-len(self.lengths), 0))
        z = transform(x, self.lengths, axes)
        if spectrum.shape[1] == 1:
            z *= spectrum[:, 0, 0]
        else:
            parts = z.reshape(len(z), *spectrum.shape[:2], *z.shape[2:])
            xp = _arrays.namespace(z)
            z = xp.einsum("goi...,bgi...->bgo...", spectrum, parts).reshape(z.shape)
        y = inverse(z, self.lengths, axes)[(..., *map(slice, shape[1:]))]
        Y = y.reshape(X.shape[1], math.prod(shape)).T
        return Y if self._spread is None else self._spread._matmat(Y)


@dataclass(frozen=True)
class PeriodicDomain:
    """Periodic arrays, on which convolutions are one small matrix per frequency.

    `lengths` and `spread` hold the length and P of every axis, see `Circulant`.
    """

    channels: int
    lengths: tuple[int, ...]
    spread: tuple[Any, ...]
    real: bool
    optimal: bool


def domain_of(operators: list[LinearOperator], optimal: bool) -> PeriodicDomain:
    """Return a periodic domain so long that reads across one end do not reach the other."""
    spaces = {space for L in operators if (space := _space(L)) is not None}
    sizes = {L.shape[1] for L in operators}
    spaces = spaces or {(1, operators[0].in_shape)}
    channels, spatial = next(iter(spaces))
    if len(spaces) != 1 or sizes != {channels * math.prod(spatial)}:
        raise ValueError(
            "A and the penalties must act on the same input, (channels, spatial shape): got "
            f"{sorted(spaces)} and {sorted(sizes)} columns"
        )
    every = [conv for L in operators for conv, _ in _convs(L)]
    leading = list(_convs(operators[0])) or [(conv, False) for conv in every]
    front = next((c for c, transposed in _convs(operators[0]) if not transposed), None)
    lengths, spread = [], []
    for a, n in enumerate(spatial):
        m, P = n, None
        if not optimal and not all(is_circular(c.geometry.axes[a], n) for c, _ in leading):
            reach = max(c.geometry.axes[a].extent - 1 for c in every)
            pads = _copied(front.geometry.axes[a]) if front else ()
            least: Any = scipy.fft.next_fast_len(n + len(pads) + 3 * reach, real=True)
            m = least
            P = _averaging(front.geometry.axes[a], pads, m) if front and pads else None
        lengths.append(m)
        spread.append(P)
    real = all(L.dtype.kind != "c" for L in operators)
    return PeriodicDomain(channels, tuple(lengths), tuple(spread), real, optimal)


def _convs(A: LinearOperator, transposed: bool = False) -> Iterator[tuple[Conv, bool]]:
    """Yield the convolutions of an expression in the order in which they are applied."""
    if isinstance(A, Conv):
        yield A, transposed
    elif isinstance(A, View):
        yield from _convs(A.base, transposed ^ A._transposes)
    else:
        operands = getattr(A, "operands", ())
        for part in operands if transposed else reversed(operands):
            yield from _convs(part, transposed)


def _space(A: LinearOperator) -> tuple[int, tuple[int, ...]] | None:
    """Return the channels and spatial shape of the first convolution's input."""
    for conv, transposed in _convs(A):
        g = conv.geometry
        if transposed:
            return g.c_out, tuple(axis.out for axis in g.axes)
        return g.c_in, tuple(axis.n for axis in g.axes)
    return None


def is_circular(axis: Axis, n: int) -> bool:
    """Whether a convolution is circular along an axis of n samples."""
    whole = axis.n == n and axis.out == -(-n // axis.stride)
    return whole and axis.boundary == (Boundary.CIRCULAR, Boundary.CIRCULAR)


def _copied(axis: Axis) -> list[int]:
    """Return the positions outside the input that stand for samples of it."""
    low, high = (min(max(0, p), axis.extent - 1) for p in axis.padding)
    return [j for j in (*range(-low, 0), *range(axis.n, axis.n + high)) if axis.source(j)]


def _averaging(axis: Axis, places: list[int], m: int) -> Any:
    """Return P = (E^T E)^-1 E^T, (n, m), for the padding E: samples, copies, then zeros."""
    entries = [(at, *pair) for at, j in enumerate(places) for pair in axis.source(j)]
    rows, samples, weights = np.array(entries).T
    touched, column = np.unique(samples, return_inverse=True)
    copies = np.zeros((len(places), len(touched)))
    copies[rows, column] = weights
    E = scipy.sparse.lil_array((m, axis.n))
    E.setdiag(1)
    E[np.ix_(np.array(places) % m, touched)] = copies
    inverse = scipy.sparse.lil_array((axis.n, axis.n))
    inverse.setdiag(1)
    inverse[np.ix_(touched, touched)] = np.linalg.inv(np.eye(len(touched)) + copies.T @ copies)
    return inverse.tocsr() @ E.tocsr().T.tocsr()


def _table(axis: Axis, m: int, optimal: bool) -> Any:
    """Return each tap's part in the first column of the circulant: sparse, (k, m)."""
    n, lo = axis.n, axis.padding[0]
    entries: list[tuple[int, int, float]] = []
    for t in range(axis.k):
        shift = lo - axis.dilation * t
        if not optimal:  # a stride s keeps 1 / s of |C x|^2
            entries.append((t, shift % m, axis.stride**-0.5))
            continue
        inside = range(max(0, min(n, shift)), max(0, min(n, n + shift)))
        entries.append((t, shift % n, len(inside) / n))
        for p in (*range(inside.start), *range(inside.stop, n)):
            entries += [(t, (p - q) % n, w / n) for q, w in axis.source(p - shift)]
    taps, places, means = zip(*entries, strict=True)
    return scipy.sparse.csr_array(
        scipy.sparse.coo_array((means, (taps, places)), shape=(axis.k, m))
    )


def transformed(
    conv: Conv, lengths: tuple[int, ...], *, real: bool, optimal: bool
) -> np.ndarray:
    """Return the symbol of a convolution: (groups, o, i, f1..fd)."""
    g = conv.geometry
    if optimal and any(axis.stride != 1 or axis.out != axis.n for axis in g.axes):
        raise ValueError(
            "the optimal circulant needs stride 1 and as many outputs as inputs (padding "
            f"'same'), got {g.in_shape} -> {g.out_shape}: use kind='embedded'"
        )
    values = double(assembly.arranged(g, host(conv.kernel), False))
    size = values.shape[0] * values.shape[1] * math.prod(lengths)
    _arrays.require_memory(48 * size, "the transform of the kernel", "use fewer channels")
    for axis, m in zip(g.axes, lengths, strict=True):
        taps = np.moveaxis(values, 2, -1)
        flat = taps.reshape(-1, axis.k) @ _table(axis, m, optimal)
        values = flat.reshape(*taps.shape[:-1], m)
    transform: Any = scipy.fft.rfftn if real else scipy.fft.fftn
    symbol = transform(values, axes=tuple(range(2, values.ndim)))
    return symbol.reshape(g.groups, -1, *symbol.shape[1:])


def _symbol(A: LinearOperator, domain: PeriodicDomain) -> Any:
    """Return the symbol of A, a number for a multiple of I."""
    if isinstance(A, Conv):
        return transformed(A, domain.lengths, real=domain.real, optimal=domain.optimal)
    if isinstance(A, Identity):
        return 1.0
    if isinstance(A, Diagonal):
        return host(A.diagonal.mean())[()]
    if isinstance(A, Scaled):
        return A.scalar * _symbol(A.operands[0], domain)
    if isinstance(A, Sum):
        return functools.reduce(added, (_symbol(part, domain) for part in A.operands))
    if isinstance(A, Product):
        return functools.reduce(_times, (_symbol(part, domain) for part in A.operands))
    if isinstance(A, View):
        return _viewed(A, _symbol(A.base, domain))
    if isinstance(A, Block) and len(A.grid[0]) == 1:
        raise TypeError(
            "a preconditioner understands a vstack only as a whole A or L, or behind a "
            "Restriction or Diagonal, got one inside a view, a sum or another product: for "
            "|L x|^2 pass (w, L), which stands for w * L.H @ L already, or multiply out, "
            "vstack([D, E]).H @ vstack([D, E]) is D.H @ D + E.H @ E"
        )
    got = type(A).__name__
    if isinstance(A, Block):
        got = f"a grid of {len(A.grid)} x {len(A.grid[0])} operators"
    raise TypeError(
        "a preconditioner understands Conv, Identity, Diagonal and their views, multiples, "
        "sums and products, a vstack of these, and a Restriction or Diagonal applied last, "
        f"got {got}: approximate it by one of these"
    )


def _viewed(A: View, S: Any) -> Any:
    """Return the symbol of a view of the operator whose symbol is S."""
    if np.ndim(S) == 0:
        return np.conj(S) if A._conjugates else S
    if A._transposes:
        if any(axis.stride > 1 for conv, _ in _convs(A) for axis in conv.geometry.axes):
            raise ValueError(
                "the transpose of a strided convolution mixes frequencies, expected stride 1 "
                f"in {A!r}: precondition the problem of its base"
            )
        S = S.swapaxes(1, 2).conj()
    if A.dtype.kind == "c" and A._transposes != A._conjugates:
        axes = tuple(range(3, S.ndim))
        S = np.roll(np.flip(S, axes), 1, axes).conj()  # a conjugate's symbol is that of -f
    return S


def gram(A: LinearOperator, domain: PeriodicDomain) -> Any:
    """Return the symbol of A^H A, in which the mean of a mask stands for the mask."""
    if isinstance(A, Scaled):
        return float(abs(A.scalar)) ** 2 * gram(A.operands[0], domain)
    if isinstance(A, Diagonal):
        return float((np.abs(A.diagonal) ** 2).mean())
    if isinstance(A, Restriction):
        return A.shape[0] / A.shape[1]
    if isinstance(A, Block) and len(A.grid[0]) == 1:
        return functools.reduce(added, (gram(part, domain) for part in A.operands))
    if isinstance(A, Product) and isinstance(A.operands[0], (Diagonal, Restriction)):
        rest = A.operands[1:]
        inner = Product(*rest) if len(rest) > 1 else rest[0]
        return gram(A.operands[0], domain) * gram(inner, domain)
    S = _symbol(A, domain)
    return abs(S) ** 2 if np.ndim(S) == 0 else _times(S.swapaxes(1, 2).conj(), S)


def added(S: Any, T: Any) -> Any:
    """Return S + T."""
    if np.ndim(S) == 0 == np.ndim(T):
        return S + T
    if np.ndim(S) == 0:
        S, T = T, S
    if np.ndim(T) == 0:
        return S + T * np.eye(S.shape[1]).reshape(1, *S.shape[1:3], *(1,) * (S.ndim - 3))
    groups = math.gcd(len(S), len(T))
    return _merged(S, groups) + _merged(T, groups)


def _times(S: Any, T: Any) -> Any:
    """Return S T."""
    if np.ndim(S) == 0 or np.ndim(T) == 0:
        return S * T
    groups = math.gcd(len(S), len(T))
    return np.einsum("goi...,gij...->goj...", _merged(S, groups), _merged(T, groups))


def _merged(S: np.ndarray, groups: int) -> np.ndarray:
    """Return a symbol in fewer, larger blocks: (groups, o, i, f1..fd)."""
    every, o, i = S.shape[:3]
    r = every // groups
    if r == 1:
        return S
    merged = np.zeros((groups, r, o, r, i, *S.shape[3:]), S.dtype)
    for j in range(r):
        merged[:, j, :, j] = S[j::r]
    return merged.reshape(groups, r * o, r * i, *S.shape[3:])


def inverse_of(S: np.ndarray) -> np.ndarray:
    """Return the inverses of Hermitian matrices, with eigenvalues raised to `_FLOOR`."""
    if S.shape[1] == 1:
        values = np.real(S)
        return 1 / np.maximum(values, _floor(values))
    matrices = np.moveaxis(S, (1, 2), (-2, -1))
    values, vectors = np.linalg.eigh(matrices)
    inverse = (vectors / np.maximum(values, _floor(values))[..., None, :]) @ (
        vectors.conj().swapaxes(-2, -1)
    )
    inverse = (inverse + inverse.conj().swapaxes(-2, -1)) / 2
    return np.moveaxis(inverse, (-2, -1), (1, 2))


def _floor(values: np.ndarray) -> float:
    top = float(values.max())
    if not 0 < top < math.inf:
        raise ValueError(
            f"the normal equations must be finite and not zero, got {top} as the largest "
            "eigenvalue: pass damp > 0, or finite kernels"
        )
    return _FLOOR * top


def double(values: np.ndarray) -> np.ndarray:
    """Return values in double precision, which LAPACK supports."""
    return values.astype(complex if values.dtype.kind == "c" else float)
