"""Operators on patches, the samples that the taps read at an output position.

`Unfold` gathers the patches, `VaryingConv` weighs each patch by a kernel of its own, and
`FilterConv` is the convolution of a fixed array as a function of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from linconv import _arrays, gpu
from linconv._options import one_for_all_axes, sizes, spread
from linconv.geometry import Axis, Geometry
from linconv.methods import padding
from linconv.operators import LinearOperator, Stored


def unfold_matrix(
    in_shape: Sequence[int] | int,
    kernel_size: Sequence[int] | int,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    boundary: Any = "zeros",
    dtype: Any = float,
    rows: tuple[int, int] | None = None,
) -> csr_array:
    """Return the matrix U that gathers what each tap reads at each position (im2col).

    A convolution is C = K U: the kernel as a matrix K of shape
    ``(c_out, c_in * prod(k))`` multiplies the patch of every position.

    Parameters
    ----------
    in_shape : tuple of int, ``(n1..nd)`` or ``(c_in, n1..nd)``
        Shape of the input; it has channels if it is longer than `kernel_size`.
    kernel_size : tuple of int, or int
        Taps per axis; one int stands for every axis of an `in_shape` of one or two axes,
        which then has no channels.
    stride, padding, dilation, boundary
        See `conv_matrix`.
    dtype : dtype
        Dtype of the matrix.
    rows : (int, int), optional
        Build only rows ``start <= i < stop`` along the first axis of the output.

    Returns
    -------
    csr_array, ``(c_in * prod(k) * prod(o), prod(in_shape))``
        The output has shape ``(c_in * prod(k), o1..od)``, the order of
        `torch.nn.functional.unfold`: channel slowest, then taps.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_matrix`.

    Examples
    --------
    >>> unfold_matrix(3, 2, dtype=int).toarray()
    array([[1, 0, 0],
           [0, 1, 0],
           [0, 1, 0],
           [0, 0, 1]])
    """
    given = {"stride": stride, "padding": padding, "dilation": dilation, "boundary": boundary}
    geometry, dtype = _unfolding(in_shape, kernel_size, dtype, given)
    return gpu.host.unfold_matrix(geometry, dtype, rows)


def _unfolding(
    in_shape: Any, kernel_size: Any, dtype: Any, options: dict[str, Any]
) -> tuple[Geometry, np.dtype]:
    """Return the geometry of one output channel over all taps, and the matrix's dtype."""
    in_shape = sizes(in_shape, "in_shape")
    one_for_all_axes(kernel_size, in_shape, "kernel_size")
    taps = sizes(spread(kernel_size, len(in_shape)), "kernel_size")
    channels = (1, in_shape[0]) if len(in_shape) == len(taps) + 1 else ()
    geometry = Geometry.conv((*channels, *taps), in_shape, **options)
    return geometry, _arrays.as_values(1, dtype, "1").dtype


class Unfold(Stored):
    """Gather what each tap reads at each position (im2col); its transpose is fold (col2im).

    Parameters
    ----------
    in_shape, kernel_size, stride, padding, dilation, boundary, dtype
        See `unfold_matrix`.

    Attributes
    ----------
    geometry : Geometry
        The geometry of a convolution with one output channel over the same taps.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_matrix`.

    Examples
    --------
    >>> U = Unfold((2, 3), (1, 2), dtype=int)
    >>> U([[1, 2, 3], [4, 5, 6]])
    array([[[1, 2],
            [4, 5]],
    <BLANKLINE>
           [[2, 3],
            [5, 6]]])
    """

    def __init__(
        self,
        in_shape: Sequence[int] | int,
        kernel_size: Sequence[int] | int,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        boundary: Any = "zeros",
        dtype: Any = None,
    ) -> None:
        given = {"stride": stride, "padding": padding, "dilation": dilation}
        given["boundary"] = boundary
        wanted = float if dtype is None else dtype
        geometry, known = _unfolding(in_shape, kernel_size, wanted, given)
        csr = gpu.host.unfold_matrix(geometry, known)
        taps = geometry.c_in * math.prod(axis.k for axis in geometry.axes)
        spatial = tuple(axis.out for axis in geometry.axes)
        super().__init__(csr, geometry.in_shape, (taps, *spatial))
        self.geometry = geometry
        self._yield(dtype)

    def _moved(self, device: str) -> Unfold:
        # Building the matrix again is faster than copying it between host and GPU.
        place = gpu.at(device)
        return self._replaced(
            _csr=place.read_only(place.unfold_matrix(self.geometry, self.dtype))
        )


class VaryingConv(Stored):
    """A convolution with a kernel of its own at every output position.

    Parameters
    ----------
    kernels : array_like, ``(o1..od, k1..kd)``
        ``kernels[i]`` are the taps of output position i; one channel.  CuPy arrays give
        an operator on their GPU.
    in_shape : tuple of int, ``(n1..nd)``
        Shape of the input.
    stride, padding, dilation, boundary, flip, dtype
        See `conv_matrix`.

    Raises
    ------
    ValueError
        If `kernels` does not hold one kernel per output position.
    TypeError, MemoryError
        As `conv_matrix`.

    Examples
    --------
    >>> VaryingConv([[1, 2], [3, 4]], 3).toarray()
    array([[1, 2, 0],
           [0, 3, 4]])
    """

    def __init__(
        self,
        kernels: Any,
        in_shape: Sequence[int] | int,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        boundary: Any = "zeros",
        flip: bool = False,
        dtype: Any = None,
    ) -> None:
        place = gpu.home(kernels)
        values = place.as_values(kernels, dtype, "kernels")
        d = len(sizes(in_shape, "in_shape"))
        if values.ndim != 2 * d:
            raise ValueError(
                f"kernels must have {2 * d} axes, (o1..od, k1..kd), for an input of shape "
                f"{in_shape}, got shape {values.shape}"
            )
        given = {"stride": stride, "padding": padding, "dilation": dilation, "flip": flip}
        geometry = Geometry.conv(values.shape[d:], in_shape, boundary=boundary, **given)
        if values.shape[:d] != geometry.out_shape:
            raise ValueError(
                f"kernels has shape {values.shape}, but the geometry needs "
                f"{(*geometry.out_shape, *geometry.kernel_shape)} = (o1..od, k1..kd)"
            )
        csr = place.varying_matrix(geometry, values)
        super().__init__(csr, geometry.in_shape, geometry.out_shape)
        self.geometry = geometry


class FilterConv(LinearOperator):
    """The convolution of a fixed array as a function of its kernel: ``w -> conv(x, w)``.

    ``FilterConv(x, w.shape) @ w.ravel()`` is ``Conv(w, x.shape) @ x.ravel()``; its
    adjoint is the gradient with respect to the weights.

    Parameters
    ----------
    x : array_like, ``(n1..nd)`` or ``(c_in, n1..nd)``
        The array that is convolved; copied.  A CuPy array gives an operator on its GPU.
    kernel_shape : tuple of int, ``(k1..kd)`` or ``(c_out, c_in // groups, k1..kd)``
        Shape of the kernel, which is the input of this operator.
    stride, padding, dilation, groups, boundary, flip, dtype
        See `conv_matrix`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_matrix`.

    Notes
    -----
    The operator stores the patches, ``c_in prod(k) prod(o)`` values, and multiplies them by
    BLAS.

    Examples
    --------
    >>> F = FilterConv([1, 2, 3, 4], 2)
    >>> F.toarray()
    array([[1, 2],
           [2, 3],
           [3, 4]])
    """

    def __init__(
        self,
        x: Any,
        kernel_shape: Sequence[int] | int,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        boundary: Any = "zeros",
        flip: bool = False,
        dtype: Any = None,
    ) -> None:
        place = gpu.home(x)
        values = place.as_values(x, dtype, "x")
        kernel_shape = sizes(kernel_shape, "kernel_shape")
        given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        given |= {"boundary": boundary, "flip": flip}
        geometry = Geometry.conv(kernel_shape, values.shape, **given)
        super().__init__(values.dtype, geometry.kernel_shape, geometry.out_shape)
        self.geometry = geometry
        self._patches = place.read_only(_patches(geometry, values))

    def _device(self) -> str:
        return gpu.device_of(self._patches)

    def _moved(self, device: str) -> FilterConv:
        return self._replaced(_patches=gpu.moved(self._patches, device, "x"))

    def _product(self, X: np.ndarray, *, transposed: bool) -> np.ndarray:
        """Return the product with the patches, or with their transpose.

        (c_out taps, b) -> (c_out positions, b), or the reverse.
        """
        if X.dtype.kind == "c" and self.dtype.kind != "c":
            return _arrays.by_real_parts(partial(self._product, transposed=transposed), X)
        groups, taps, positions = self._patches.shape
        r, q = (positions, taps) if transposed else (taps, positions)
        blocks = X.T.reshape(X.shape[1], groups, self.geometry.c_out // groups, r)
        rows = blocks.swapaxes(0, 1).reshape(groups, math.prod(blocks.shape[::2]), r)
        if transposed:  # CuPy copies a transposed operand; the rows are the smaller one
            results = (self._patches @ rows.swapaxes(1, 2)).swapaxes(1, 2)
        else:
            results = rows @ self._patches
        results = results.reshape(groups, *blocks.shape[::2], q)
        return results.swapaxes(0, 1).reshape(X.shape[1], self.geometry.c_out * q).T

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, transposed=False)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        if self.dtype.kind != "c":
            return self._product(X, transposed=True)
        return self._product(X.conj(), transposed=True).conj()

    def _nnz(self) -> int:
        return self.geometry.c_out * self._patches[0].size

    def _tosparse(self) -> csr_array:
        groups, taps, positions = self._patches.shape
        c_out = self.geometry.c_out
        nnz, xp = c_out * positions * taps, _arrays.namespace(self._patches)
        index = _arrays.index_dtype(self.shape, nnz)
        place = gpu.home(self._patches)
        place.check_size(self.shape, nnz, self.dtype)
        data = xp.empty((groups, c_out // groups, positions, taps), self.dtype)
        data[...] = self._patches.swapaxes(1, 2)[:, None]
        indices = xp.empty((c_out, positions, taps), index)
        indices[...] = xp.arange(c_out * taps, dtype=index).reshape(c_out, 1, taps)
        indptr = xp.arange(c_out * positions + 1, dtype=index) * taps
        return place.sparse_array(data.ravel(), indices.ravel(), indptr, self.shape)


def _patches(geometry: Geometry, x: np.ndarray) -> np.ndarray:
    """Return the samples that every tap reads: (groups, c_in // groups * prod(k), prod(o))."""
    axes = geometry.axes
    taps, positions = math.prod(a.k for a in axes), math.prod(a.out for a in axes)
    shape = (geometry.groups, geometry.c_in // geometry.groups * taps, positions)
    xp = _arrays.namespace(x)
    gpu.home(x).require_memory(
        math.prod(shape) * x.dtype.itemsize,
        f"the patches of shape {shape} for a kernel of shape {geometry.kernel_shape}",
        "use a smaller kernel or float32",
    )
    # One tap reaches all that an axis reads with this padding at its high end.
    reach = [a.stride * (a.out - 1) + a.extent - a.padding[0] - a.n for a in axes]
    wide = tuple(
        Axis(a.n, 1, padding=(a.padding[0], high), boundary=a.boundary)
        for a, high in zip(axes, reach, strict=True)
    )
    x = x.reshape(geometry.c_in, *(a.n for a in axes))
    padded = xp.ascontiguousarray(padding.Padding(wide, x).pad(x))
    channel, *steps = padded.strides
    taps_apart = (a.dilation * step for a, step in zip(axes, steps, strict=True))
    apart = (a.stride * step for a, step in zip(axes, steps, strict=True))
    windows = import_module(f"{xp.__name__}.lib.stride_tricks").as_strided(
        padded,
        (geometry.c_in, *(a.k for a in axes), *(a.out for a in axes)),
        (channel, *taps_apart, *apart),
    )
    if geometry.flip:
        windows = windows[(slice(None), *(slice(None, None, -1),) * len(axes))]
    return xp.array(windows).reshape(shape)
