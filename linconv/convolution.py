"""The convolution matrix and its operators.

Taps are not flipped: ``y[i] = sum_t w[t] x[s i - lo + d t]``, the
cross-correlation of PyTorch, JAX and ONNX; ``flip=True`` gives the convolution
of `scipy.signal`.  Arrays are C-ordered: the last axis varies fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from linconv import gpu, methods
from linconv.geometry import Axis, Geometry
from linconv.operators import LinearOperator


def conv_matrix(
    kernel: Any,
    in_shape: Sequence[int] | int,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    boundary: Any = "zeros",
    flip: bool = False,
    dtype: Any = None,
    rows: tuple[int, int] | None = None,
) -> csr_array:
    """Return the matrix C of a convolution: ``y.ravel() = C @ x.ravel()``.

    Taps are not flipped (cross-correlation, as in PyTorch) unless ``flip=True``.

    Parameters
    ----------
    kernel : array_like, ``(k1..kd)`` or ``(c_out, c_in // groups, k1..kd)``
        The taps.  Its dtype is that of the matrix, except that all integers
        become int64 and float16 becomes float32.  NaN propagates.
    in_shape : tuple of int, ``(n1..nd)`` or ``(c_in, n1..nd)``
        Shape of the input x.
    stride : int or one per axis
        Output step, in input samples.
    padding : int, one per axis, one (lo, hi) per axis, or a word
        Samples around the input; negative ones crop it.  "valid" is 0, "full"
        is ``d (k - 1)``; "same" gives ``ceil(n / s)`` outputs with the odd
        sample at the end, "same_lower" at the start.
    dilation : int or one per axis
        Distance of taps, in input samples.
    groups : int
        Groups of channels; outputs of a group read its inputs only.
    boundary : str, one per axis, or one (lo, hi) pair per axis
        The samples outside the input: "zeros", "circular", "reflect" (edge
        sample not repeated), "symmetric" (edge sample repeated), "replicate"
        or "antireflect" (``2 x_edge - reflected``); or another library's
        word, such as "numpy:wrap", "ndimage:mirror", "torch:replicate".
    flip : bool
        Flip the taps, as in the convolution of `scipy.signal`.
    dtype : dtype, optional
        Dtype of the matrix; by default that of the kernel.
    rows : (int, int), optional
        Build only rows ``start <= i < stop`` along the first axis of the output.

    Returns
    -------
    csr_array, ``(prod(out_shape), prod(in_shape))``
        Canonical; int32 indices where they suffice.  Taps that are zero are
        stored: the pattern depends on the geometry alone.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not describe a convolution.
    MemoryError
        If the matrix would take more than half of the available memory.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285, relationship 6 (output size) and section 4.1 (the matrix).

    Examples
    --------
    >>> conv_matrix([1, 2, 3], 5).toarray()
    array([[1, 2, 3, 0, 0],
           [0, 1, 2, 3, 0],
           [0, 0, 1, 2, 3]])
    >>> conv_matrix([1, 2, 3], 5, padding="same", boundary="circular").toarray()
    array([[2, 3, 0, 0, 1],
           [1, 2, 3, 0, 0],
           [0, 1, 2, 3, 0],
           [0, 0, 1, 2, 3],
           [3, 0, 0, 1, 2]])
    """
    values = _values(kernel, dtype)
    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    geometry = Geometry.conv(values.shape, in_shape, boundary=boundary, flip=flip, **given)
    return _matrix(geometry, values, rows=rows)


def conv_transpose_matrix(
    kernel: Any,
    in_shape: Sequence[int] | int,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    boundary: Any = "zeros",
    flip: bool = False,
    dtype: Any = None,
    rows: tuple[int, int] | None = None,
) -> csr_array:
    """Return the matrix of a transposed convolution: C^T, as CSR.

    C is the convolution from the *output* of this operation to its input; its
    rows are built directly, not transposed.  Taps of C are not flipped unless
    ``flip=True``; complex taps are not conjugated.

    Parameters
    ----------
    kernel : array_like, ``(k1..kd)`` or ``(c_in, c_out // groups, k1..kd)``
        The taps, in the layout of C, which is PyTorch's.
    in_shape : tuple of int, ``(n1..nd)`` or ``(c_in, n1..nd)``
        Shape of the input of the transposed convolution.
    stride, padding, dilation, groups, boundary, flip, dtype
        The options of C, see `conv_matrix`.  An axis of the output has
        ``s (n - 1) + d (k - 1) + 1 - lo - hi + output_padding`` samples; with
        padding "same" it has ``s n``.
    output_padding : int or one per axis
        Samples added at the end of the output, below max(stride, dilation).
    rows : (int, int), optional
        Build only rows ``start <= i < stop`` along the first axis of the output.

    Returns
    -------
    csr_array, ``(prod(out_shape), prod(in_shape))``
        Canonical; int32 indices where they suffice.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_matrix`.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, relationships 13-15, section 4.

    Examples
    --------
    >>> C = conv_transpose_matrix([1, 2, 3], 2, stride=2)
    >>> C.toarray()
    array([[1, 0],
           [2, 0],
           [3, 1],
           [0, 2],
           [0, 3]])
    >>> C @ [2, 3]
    array([2, 4, 9, 6, 9])
    """
    values = _values(kernel, dtype)
    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    given |= {"output_padding": output_padding, "boundary": boundary, "flip": flip}
    geometry = Geometry.conv_transpose(values.shape, in_shape, **given)
    return _matrix(geometry, values, transposed=True, rows=rows)


def _values(kernel: Any, dtype: Any) -> Any:
    """Return the taps on their own device, in the dtype of their matrix."""
    return gpu.home(kernel).as_values(kernel, dtype, "kernel")


def _matrix(geometry: Geometry, values: Any, **options: Any) -> Any:
    """Return a matrix on the device of the taps."""
    return gpu.home(values).conv_matrix(geometry, values, **options)


class Conv(LinearOperator):
    """The operator of a convolution, ``y[i] = sum_t w[t] x[s i - lo + d t]``.

    Taps are not flipped (cross-correlation, as in PyTorch) unless ``flip=True``.
    Its transpose ``A.T`` is the transposed convolution, its adjoint ``A.H`` that
    with conjugated taps.

    Parameters
    ----------
    kernel, in_shape, stride, padding, dilation, groups, boundary, flip, dtype
        See `conv_matrix`.  The kernel is copied.
    method : str
        How products are computed: "sparse" keeps the matrix, "sparse+adjoint" that of
        the adjoint as well, "direct" runs compiled loops over stencils (Numba), "fft"
        multiplies in the frequency domain, "torch" calls PyTorch; "auto" chooses.

    Attributes
    ----------
    geometry : Geometry
        Shapes and options of the convolution; ``nnz`` and ``nbytes`` of its matrix.
    kernel : ndarray
        The taps, in the operator's dtype; read-only.
    method : str
        The method in use.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_matrix`.

    Examples
    --------
    >>> A = Conv([[1, 4, 1], [1, 4, 3], [3, 3, 1]], (4, 4))
    >>> A
    Conv(int64[3, 3], (4, 4) -> (2, 2), method='sparse')
    >>> A([[4, 5, 8, 7], [1, 8, 8, 8], [3, 6, 6, 4], [6, 5, 7, 8]])
    array([[122, 148],
           [126, 134]])
    >>> A.T([[2, 1], [4, 4]])
    array([[ 2,  9,  6,  1],
           [ 6, 29, 30,  7],
           [10, 29, 33, 13],
           [12, 24, 16,  4]])
    """

    def __init__(
        self,
        kernel: Any,
        in_shape: Sequence[int] | int,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        boundary: Any = "zeros",
        flip: bool = False,
        dtype: Any = None,
        method: str = "auto",
    ) -> None:
        values = _values(kernel, dtype)
        given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        geometry = Geometry.conv(values.shape, in_shape, boundary=boundary, flip=flip, **given)
        self._build(geometry, values, method)

    @classmethod
    def from_geometry(cls, geometry: Geometry, kernel: Any, *, method: str = "auto") -> Conv:
        """Return the operator of `geometry` with the taps of `kernel`.

        Raises
        ------
        ValueError
            If `kernel` does not have shape ``geometry.kernel_shape``.
        """
        conv = cls.__new__(cls)
        conv._build(geometry, cls._fitting(geometry, kernel), method)
        return conv

    @staticmethod
    def _fitting(geometry: Geometry, kernel: Any) -> np.ndarray:
        """Return a private copy of a kernel of the right shape."""
        values = _values(kernel, None)
        if values.shape != geometry.kernel_shape:
            raise ValueError(
                f"kernel has shape {values.shape}, but the geometry needs "
                f"{geometry.kernel_shape}"
            )
        return values

    def _build(self, geometry: Geometry, values: np.ndarray, method: str) -> None:
        """Set all attributes; `values` is a private copy."""
        choice = methods.choose(method, geometry, values.dtype, gpu.device_of(values))
        self._describe(geometry, values, choice)
        self._engine = choice.make(geometry, values)

    def _describe(
        self, geometry: Geometry, values: np.ndarray, choice: methods.Choice
    ) -> None:
        LinearOperator.__init__(self, values.dtype, geometry.in_shape, geometry.out_shape)
        self.geometry, self.method = geometry, choice.name
        self.kernel = gpu.home(values).read_only(values)
        self._choice = choice
        self._engine: Any = None
        self._others: dict[str, methods.Method] = {}

    def with_kernel(self, kernel: Any) -> Conv:
        """Return the operator of the same geometry and method with other taps.

        Both operators share whatever depends on the geometry alone, such as the matrix's
        indices.

        Parameters
        ----------
        kernel : array_like, ``geometry.kernel_shape``
            The taps.

        Raises
        ------
        ValueError
            If the kernel has another shape, or a dtype that the method lacks.

        Examples
        --------
        >>> Conv([1, 2], 3).with_kernel([3, 4]).toarray()
        array([[3, 4, 0],
               [0, 3, 4]])
        """
        values = self._fitting(self.geometry, kernel)
        if gpu.device_of(values) != self.device:
            raise TypeError(
                f"the kernel must be on the {self.device}, as the operator is: move the "
                "kernel, or the operator with .to(device)"
            )
        methods.choose(self.method, self.geometry, values.dtype, gpu.device_of(values))
        conv = type(self).__new__(type(self))
        conv._describe(self.geometry, values, self._choice)
        conv._engine = self._engine.with_kernel(values)
        return conv

    def explain(self) -> str:
        """Return why this method was chosen, and an estimate of the cost of each method.

        Examples
        --------
        >>> print(Conv([1, 2], 3).explain())  # doctest: +ELLIPSIS
        method 'sparse', chosen by 'auto'; one product would take about
          sparse         ... ms, ... MB for the matrix
          direct         -: not considered for so few nonzeros
          fft            -: not considered for so few nonzeros
          torch          -: not considered for so few nonzeros
          sparse+adjoint -: not considered for so few nonzeros
        """
        return self._choice.description(self.geometry, self.dtype)

    def _device(self) -> str:
        return gpu.device_of(self.kernel)

    def _moved(self, device: str) -> Conv:
        kernel = gpu.moved(self.kernel, device, "kernel")
        method = self._choice.asked
        known = methods.why_not(method, self.geometry, self.dtype, device) == ""
        state = self.__getstate__() | {"kernel": kernel}
        moved = type(self).__new__(type(self))
        moved.__setstate__(state | {"method": method if known else "auto"})
        return moved

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        Y = self._able(X).forward(X)
        if self._spoiled(Y, self.geometry.c_out):
            Y = self._local().forward(X)
        return self._as_data(Y, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        Y = self._able(X).adjoint(X)
        if self._spoiled(Y, self.geometry.c_in):
            Y = self._local().adjoint(X)
        return self._as_data(Y, X)

    def _able(self, X: np.ndarray) -> methods.Method:
        """Return the method, or the stored matrix where the method lacks a dtype."""
        known = self._engine.dtypes
        if not known or np.result_type(self.dtype, X.dtype) in known:
            return self._engine
        return self._other("sparse")

    def _spoiled(self, Y: np.ndarray, channels: int) -> bool:
        """Whether a Fourier transform has spread a NaN or infinity over all samples.

        Then it is in the first sample of a channel, too.  On a GPU the host would have to
        wait for the answer, so it is not asked there.
        """
        if self.method != "fft" or not isinstance(Y, np.ndarray):
            return False
        return not np.isfinite(Y[:: len(Y) // channels]).all()

    def _local(self) -> methods.Method:
        """Return a method that keeps a NaN to the samples whose taps read it."""
        direct = methods.why_not("direct", self.geometry, self.dtype, "cpu") == ""
        return self._other("direct" if direct else "sparse")

    def _other(self, method: str) -> methods.Method:
        """Return another method, for the products that the chosen one cannot compute."""
        if method not in self._others:
            choice = methods.choose(method, self.geometry, self.dtype)
            self._others[method] = choice.make(self.geometry, self.kernel)
        return self._others[method]

    def _along(self, before: int, after: int) -> Conv | None:
        if self.geometry.channels is not None or self.device == "gpu":
            return None
        ones = [Axis(n, 1) if n > 1 else None for n in (before, after)]
        axes = tuple(filter(None, [ones[0], *self.geometry.axes, ones[1]]))
        geometry = replace(self.geometry, axes=axes)
        kernel = self.kernel.reshape(geometry.kernel_shape)
        return Conv.from_geometry(geometry, kernel, method=self._choice.asked)

    def _nnz(self) -> int:
        return self.geometry.nnz

    def _tosparse(self) -> csr_array:
        if hasattr(self._engine, "tosparse"):
            return self._engine.tosparse()
        return _matrix(self.geometry, self.kernel)

    def _tosparse_transposed(self) -> csr_array:
        return _matrix(self.geometry, self.kernel, transposed=True)

    def _signature(self) -> str:
        taps = f"{self.dtype.name}{list(self.kernel.shape)}"
        return f"{taps}, {self.in_shape} -> {self.out_shape}, method={self.method!r}"

    def __getstate__(self) -> dict[str, Any]:
        built = ("_engine", "_others", "_choice")  # `__setstate__` builds these again
        state = {k: v for k, v in super().__getstate__().items() if k not in built}
        return state | {"method": self._choice.asked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._build(state["geometry"], state["kernel"].copy(), state["method"])
        subclass = {k: v for k, v in state.items() if k not in self.__dict__}
        self.__dict__.update(subclass)


def conv_transpose(
    kernel: Any,
    in_shape: Sequence[int] | int,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    boundary: Any = "zeros",
    flip: bool = False,
    dtype: Any = None,
    method: str = "auto",
) -> LinearOperator:
    """Return the operator of a transposed convolution: ``Conv(...).T``.

    Parameters
    ----------
    kernel, in_shape, stride, padding, output_padding, dilation, groups, boundary, flip, dtype
        See `conv_transpose_matrix`.
    method : str
        How products are computed, see `Conv`.

    Returns
    -------
    LinearOperator
        The transpose of the `Conv` from its output to its input, with the ``kernel``,
        ``geometry`` and ``method`` of that `Conv`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_matrix`.

    Examples
    --------
    >>> conv_transpose([1, 2, 3], 2, stride=2)
    Conv(int64[3], (5,) -> (2,), method='sparse').T
    >>> conv_transpose([1, 2, 3], 2, stride=2) @ [2, 3]
    array([2, 4, 9, 6, 9])
    """
    values = _values(kernel, dtype)
    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    given |= {"output_padding": output_padding, "boundary": boundary, "flip": flip}
    geometry = Geometry.conv_transpose(values.shape, in_shape, **given)
    return Conv.from_geometry(geometry, values, method=method).T
