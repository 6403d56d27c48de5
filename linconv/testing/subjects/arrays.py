"""NumPy, PyTorch, JAX and CuPy arrays behind one small interface.

Imports NumPy and the standard library only.  Other libraries are taken from
`sys.modules`, where the import of the operator under test has put them.  `make` and
`read` always return arrays with memory of their own.
"""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np

# Bytes; the order of sums in vectorised loops depends on where data start.
_ALIGNMENT = 64
# Dtypes of every library; NumPy also has long doubles.
_HELD = ("float16", "float32", "float64", "complex64", "complex128")
# Candidates that NumPy tries for an overlap of strided arrays; beyond, assume an overlap.
_OVERLAP_WORK = 100_000


class Arrays:
    """One array library: how to make, read, overwrite and compare its arrays.

    `layouts` are the layouts that `make` offers besides "contiguous".
    """

    name: str = ""
    layouts: tuple[str, ...] = ()

    def make(self, x: np.ndarray, layout: str = "contiguous") -> Any:
        """Return a fresh array of this library with the values and dtype of `x`.

        Layouts are "contiguous" (C order; NumPy's data start at a multiple of 64 bytes),
        "strided" (every other entry of a wider buffer along the last axis, whose gaps
        hold NaN, or the largest integer), "reversed" (a negative stride along the last
        axis), "read-only", and "fortran" (2-d, columns contiguous).
        """
        if layout != "contiguous" and layout not in self.layouts:
            known = ("contiguous", *self.layouts)
            raise ValueError(
                f"layout of {self.name} arrays must be one of {known}, got {layout!r}"
            )
        if layout == "fortran" and x.ndim != 2:
            raise ValueError(f"layout 'fortran' needs a 2-d array, got shape {x.shape}")
        dtype = as_dtype(x.dtype)
        if dtype.char in "gG" and self.name != "numpy":
            raise TypeError(
                f"{self.name} has no {dtype}: dtype must be an integer dtype or one of {_HELD}"
            )
        x = np.asarray(x, dtype)
        if layout == "strided":
            kind = x.dtype.kind
            gap = np.nan if kind in "fc" else True if kind == "b" else np.iinfo(x.dtype).max
            wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), gap, x.dtype)
            wide[..., ::2] = x
            return self._fresh(wide)[..., ::2]
        if layout == "reversed":
            return self._fresh(x[..., ::-1])[..., ::-1]
        if layout == "fortran":
            return self._fresh(x.T).T
        result = self._fresh(x)
        if layout == "read-only":
            result.setflags(write=False)
        return result

    def _fresh(self, x: np.ndarray) -> Any:
        """Return a C-contiguous array with memory of its own."""
        raise NotImplementedError

    def is_array(self, r: Any) -> bool:
        """Return whether `r` is an array of this library, or of one it works with."""
        raise NotImplementedError

    def read(self, r: Any) -> np.ndarray:
        """Return a C-contiguous copy on the host, of native byte order."""
        return np.array(self.host(r), dtype=self.dtype(r), order="C", copy=True)

    def host(self, r: Any) -> np.ndarray:
        """Return the values on the host, perhaps `r` itself: the caller must not write."""
        return np.asarray(r)

    def dtype(self, r: Any) -> np.dtype:
        """Return NumPy's name for the dtype of `r`; TypeError for bfloat16 and the like."""
        return as_dtype(r.dtype)

    def overwrite(self, r: Any, value: np.ndarray) -> bool:
        """Write `value` into `r` in place; return False if `r` cannot be written to."""
        if not self._writable(r) or _repeats(self._memory(r)):
            return False
        dtype = self.dtype(r)
        value = np.real(value) if dtype.kind != "c" else value
        with np.errstate(all="ignore"):
            fitted = value.astype(dtype)
        self._write(r, fitted)
        return True

    def _writable(self, r: Any) -> bool:
        return self.is_array(r)

    def _write(self, r: Any, value: np.ndarray) -> None:
        r[...] = self._fresh(value)

    def shares_memory(self, a: Any, b: Any) -> bool:
        """Return whether writing into one array can change the other."""
        work: Any = _OVERLAP_WORK  # Any: NumPy's stubs know two values only
        try:
            return np.shares_memory(self._memory(a), self._memory(b), max_work=work)
        except np.exceptions.TooHardError:
            return True

    def _memory(self, r: Any) -> np.ndarray:
        """Return an array with the address and strides of `r`, whose values are never read."""
        return np.asarray(r)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NumpyArrays(Arrays):
    """NumPy arrays; JAX arrays are accepted as results too."""

    name = "numpy"
    layouts = ("strided", "reversed", "read-only", "fortran")

    def _fresh(self, x: np.ndarray) -> np.ndarray:
        return _aligned_copy(x)

    def is_array(self, r: Any) -> bool:  # noqa: D102
        if isinstance(r, np.ndarray):
            return not isinstance(r, (np.matrix, np.ma.MaskedArray))
        return _is_jax(r)

    def _writable(self, r: Any) -> bool:
        return isinstance(r, np.ndarray) and r.flags.writeable


class TorchArrays(Arrays):
    """Dense PyTorch tensors on one device."""

    name = "torch"
    layouts = ("strided", "fortran")  # torch has no negative strides, no read-only tensors

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._torch = _imported("torch")

    def _fresh(self, x: np.ndarray) -> Any:
        return self._torch.from_numpy(_aligned_copy(x)).to(self.device)

    def is_array(self, r: Any) -> bool:  # noqa: D102
        return isinstance(r, self._torch.Tensor) and r.layout == self._torch.strided

    def host(self, r: Any) -> np.ndarray:  # noqa: D102
        return r.detach().resolve_conj().resolve_neg().cpu().numpy()

    def _write(self, r: Any, value: np.ndarray) -> None:
        r.detach().copy_(self._torch.from_numpy(_aligned_copy(value)))

    def _memory(self, r: Any) -> np.ndarray:
        strides = (step * r.element_size() for step in r.stride())
        return _placeholder(r.data_ptr(), r.shape, strides, r.element_size())

    def __repr__(self) -> str:
        return f"TorchArrays({self.device!r})"


class JaxArrays(Arrays):
    """JAX arrays; NumPy arrays are accepted as results too."""

    name = "jax"

    def __init__(self) -> None:
        self._jax = _imported("jax")

    def _fresh(self, x: np.ndarray) -> Any:
        wide = x.dtype.itemsize > (8 if x.dtype.kind == "c" else 4)
        if wide and not self._jax.config.jax_enable_x64:
            narrow = {"f": "float32", "c": "complex64"}.get(x.dtype.kind, f"{x.dtype.kind}4")
            raise ValueError(
                f"dtype is {x.dtype}, but JAX has 64-bit numbers off: "
                "jax.config.update('jax_enable_x64', True), or "
                f"dtype={np.dtype(narrow).name!r}"
            )
        return self._jax.numpy.array(x)

    def is_array(self, r: Any) -> bool:  # noqa: D102
        return _is_jax(r) or type(r) is np.ndarray

    def _writable(self, r: Any) -> bool:
        return False

    def shares_memory(self, a: Any, b: Any) -> bool:  # noqa: D102
        # JAX arrays cannot be written to, so sharing memory is harmless.
        return not (_is_jax(a) or _is_jax(b)) and super().shares_memory(a, b)


class CupyArrays(Arrays):
    """CuPy arrays on the current device."""

    name = "cupy"
    layouts = ("strided", "reversed", "fortran")  # CuPy has no read-only arrays

    def __init__(self) -> None:
        self._cupy = _imported("cupy")

    def _fresh(self, x: np.ndarray) -> Any:
        return self._cupy.asarray(np.ascontiguousarray(x))

    def is_array(self, r: Any) -> bool:  # noqa: D102
        return isinstance(r, self._cupy.ndarray)

    def host(self, r: Any) -> np.ndarray:  # noqa: D102
        return self._cupy.asnumpy(r)

    def _memory(self, r: Any) -> np.ndarray:
        return _placeholder(int(r.data.ptr), r.shape, r.strides, r.dtype.itemsize)


_LIBRARIES = {kind.name: kind for kind in (NumpyArrays, TorchArrays, JaxArrays, CupyArrays)}
_LIBRARIES["jaxlib"] = JaxArrays


def arrays_for(what: Any) -> Arrays:
    """Return the library of an array, a dtype, a module or a name.

    The module may also be `jax.numpy`, and the name "torch:cuda" gives a device of
    PyTorch.  A dtype such as "float32" or `numpy.float32` stands for NumPy,
    `jax.numpy.float32` for JAX.

    Examples
    --------
    >>> arrays_for("float32").make(np.array([1.0, 2.0]), "reversed").strides
    (-8,)
    """
    if isinstance(what, Arrays):
        return what
    if isinstance(what, (str, ModuleType)):
        name, _, device = (what if isinstance(what, str) else what.__name__).partition(":")
        package = name.partition(".")[0]
        if package == "torch" and device:
            return TorchArrays(device)
        if package in _LIBRARIES and not device:
            return _LIBRARIES[package]()
    for package in owners(what):
        if package == "torch":
            return TorchArrays(str(getattr(what, "device", "cpu")))
        if package in _LIBRARIES:
            return _LIBRARIES[package]()
    dtype: Any = what
    try:
        np.dtype(dtype)
    except TypeError:
        known = ("numpy", "torch", "jax", "cupy")
        raise TypeError(
            f"expected an array, dtype, module or name of one of {known}, got {what!r}"
        ) from None
    return NumpyArrays()


def owners(value: Any) -> list[str]:
    """Return the top-level packages of the classes that `value` is an instance of."""
    return [kind.__module__.partition(".")[0] for kind in type(value).__mro__]


def as_dtype(value: Any) -> np.dtype:
    """Return NumPy's dtype, of native byte order, for a dtype of any library.

    Raises TypeError if NumPy has no such dtype, as for bfloat16.
    """
    if isinstance(value, np.dtype) and value.isbuiltin == 1 and value.kind in "biufc":
        return value  # the usual case: a builtin dtype in native byte order
    if "torch" in owners(value):
        value = str(value).removeprefix("torch.")
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = np.dtype(object)
    # isbuiltin is 2 for dtypes that other packages register: ml_dtypes' bfloat16, float8.
    if dtype.kind not in "biufc" or dtype.isbuiltin == 2:
        raise TypeError(f"dtype must be an integer dtype or one of {_HELD}, got {value}")
    return dtype.newbyteorder("=")


def _imported(name: str) -> Any:
    module = sys.modules.get(name)
    if module is None:
        raise ValueError(f"nothing has imported {name} yet: import it before you name it")
    return module


def _is_jax(r: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(r, jax.Array)


def _aligned_copy(x: np.ndarray) -> np.ndarray:
    """Return a C-contiguous copy whose data start at a multiple of 64 bytes."""
    nbytes = math.prod(x.shape) * x.dtype.itemsize
    raw = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    result = raw[start : start + nbytes].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


def _repeats(r: np.ndarray) -> bool:
    """Return whether several entries share one address, as after a broadcast."""
    return any(step == 0 and size > 1 for size, step in zip(r.shape, r.strides, strict=True))


def _placeholder(address: int, shape: Any, strides: Any, itemsize: int) -> np.ndarray:
    """Return an array for `numpy.shares_memory` only; the address may be one on a GPU."""
    if not address or 0 in shape:
        return np.empty(0, np.uint8)

    class Place:
        __array_interface__ = {  # noqa: RUF012
            "data": (address, True),
            "shape": tuple(shape),
            "strides": tuple(strides),
            "typestr": f"|V{itemsize}",
            "version": 3,
        }

    return np.asarray(Place())
