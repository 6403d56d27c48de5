"""Operators whose matrices are right and whose manners are not.

Families: state, input modified, aliasing, dtype, shape, layout.
Buffers are kept by dtype, so that only the fault named is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from broken.linearity import around
from broken.parts import (
    COMPLEX,
    DOUBLE,
    REAL,
    SINGLE,
    Circulant,
    Faithful,
    Make,
    family,
    fft_of,
    library_of,
    taps,
    valid,
)


def of(cls: Any, *arguments: Any) -> Make:
    return lambda dtype, rng: cls(valid(dtype, rng), *arguments)


class Drifting(Faithful):
    """A counter leaks into the result."""

    calls = 0

    def matvec(self, x: Any) -> Any:
        self.calls += 1
        return self.forward @ x * (1 + 1e-3 * self.calls)


class Dithered(Faithful):
    """Noise of its own generator."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.noise = np.random.default_rng(2718)

    def rmatvec(self, y: Any) -> Any:
        x = self.backward @ y
        factors = 1 + 1e-3 * self.noise.standard_normal(x.shape)
        return x * library_of(x).asarray(factors.astype(x.real.dtype))


class Accumulating(Faithful):
    """A sum that is never cleared."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.total: Any = 0

    def matvec(self, x: Any) -> Any:
        self.total = self.total + self.forward @ x
        return self.total.copy()


class CachedById(Faithful):
    """An id is free for the next array as soon as this one is gone."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.cache: dict[int, Any] = {}

    def matvec(self, x: Any) -> Any:
        if id(x) not in self.cache:
            self.cache[id(x)] = self.forward @ x
        return self.cache[id(x)]


class FirstForEver(Faithful):
    """The first result, remembered too well."""

    first: Any = None

    def matvec(self, x: Any) -> Any:
        if self.first is None:
            self.first = self.forward @ x
        return self.first.copy()


class LeftBehind(Faithful):
    """rmatvec uses what the last matvec saw, as layers that save tensors do."""

    gain: Any = 1.0

    def matvec(self, x: Any) -> Any:
        self.gain = 1.0 + float(np.abs(x).max())
        return self.forward @ x

    def rmatvec(self, y: Any) -> Any:
        return self.backward @ y * self.gain


class Flaky(Faithful):
    """Every so many calls one returns half of it."""

    calls, period = 0, 5

    def matvec(self, x: Any) -> Any:
        self.calls += 1
        return self.forward @ x * (0.5 if self.calls % self.period == 0 else 1)


class Flakier(Flaky):
    period = 3


DIFFERENT = "gives different results for the same input"
STATE = family("state",
    ("a counter leaks", of(Drifting), rf"\bmatvec {DIFFERENT}"),
    ("random dithering in the adjoint", of(Dithered), f"rmatvec {DIFFERENT}"),
    ("sums are never cleared", of(Accumulating), rf"\bmatvec {DIFFERENT}"),
    ("every third call differs", of(Flakier), rf"^matvec {DIFFERENT}"),
    # Chance decides which check makes the fifth call, and which ids Python gives out: any
    # diagnosis is right for these three.
    ("every fifth call differs", of(Flaky), "."),
    ("results cached by id", of(CachedById), "."),
    ("the adjoint uses the forward's last input", of(LeftBehind), "."),
    ("the first result for ever", of(FirstForEver),
     "affine|not homogeneous|sign|not additive|different"),
)  # fmt: skip


class InPlace(Faithful):
    """A window multiplied into the input; `direction` says where."""

    def __init__(self, matrix: np.ndarray, direction: str) -> None:
        n = matrix.shape[direction == "matvec"]
        window = np.hanning(n + 2)[1:-1].astype(matrix.real.dtype)
        forward = direction == "matvec"
        super().__init__(matrix * window if forward else window[:, None] * matrix)
        self.plain, self.window, self.direction = matrix, window, direction

    def matvec(self, x: Any) -> Any:
        if self.direction != "matvec":
            return super().matvec(x)
        x *= self.window
        return self.plain @ x

    def rmatvec(self, y: Any) -> Any:
        if self.direction != "rmatvec":
            return super().rmatvec(y)
        y *= self.window
        return self.plain.conj().T @ y


class Dirichlet(Faithful):
    """The edges of the input are set to zero where they are."""

    def __init__(self, matrix: np.ndarray) -> None:
        matrix = matrix.copy()
        matrix[:, [0, -1]] = 0
        super().__init__(matrix)

    def matvec(self, x: Any) -> Any:
        x[0] = x[-1] = 0
        return self.forward @ x


class Overwriting(Circulant):
    """scipy.fft allowed to work in the input."""

    def rmatvec(self, y: Any) -> np.ndarray:
        spectrum = fft_of(y).fftn(y, overwrite_x=True)
        return fft_of(y).ifftn(spectrum * self.backward, overwrite_x=True)


class MatmatInPlace(Faithful):
    """Columns are centred in place, the means added back to the result only."""

    def matmat(self, X: Any) -> Any:
        means = X.mean(axis=0)
        X -= means
        return self.forward @ X + np.outer(self.forward.sum(axis=1), means)


MODIFIED = family("input modified",
    ("a window in place", of(InPlace, "matvec"), r"\bmatvec changes its input"),
    ("a window in place, adjoint", of(InPlace, "rmatvec"), "rmatvec changes its input"),
    ("edges set to zero in place", of(Dirichlet), r"\bmatvec changes its input"),
    ("an FFT with overwrite_x",
     lambda dtype, rng: Overwriting(scipy.fft.fft(taps(32, dtype, rng)), dtype),
     "rmatvec changes its input", COMPLEX),
    ("matmat centres in place", of(MatmatInPlace), r"\bmatmat changes its input"),
)  # fmt: skip


class Same:
    """The identity, its input returned as it is."""

    def __init__(self, n: int, dtype: Any) -> None:
        self.shape, self.in_shape, self.out_shape = (n, n), (n,), (n,)
        self.dtype = np.dtype(dtype)

    def matvec(self, x: Any) -> Any:
        return x

    rmatvec = matvec


class Reversal(Same):
    """x[::-1] is a view."""

    def matvec(self, x: Any) -> Any:
        return x[::-1]

    rmatvec = matvec


class Crop(Same):
    """So is x[2:-2]."""

    def __init__(self, n: int, dtype: Any) -> None:
        super().__init__(n, dtype)
        self.shape, self.out_shape = (n - 4, n), (n - 4,)

    def matvec(self, x: Any) -> Any:
        return x[2:-2]

    def rmatvec(self, y: Any) -> Any:
        x = np.zeros_like(y, shape=self.shape[1:])
        x[2:-2] = y
        return x


class Reusing(Faithful):
    """One buffer for all results; `margin` hides it behind a view."""

    def __init__(self, matrix: np.ndarray, direction: str, margin: int = 0) -> None:
        super().__init__(matrix)
        self.direction, self.margin = direction, margin
        self.buffers: dict[str, np.ndarray] = {}

    def kept(self, y: np.ndarray) -> np.ndarray:
        size = len(y) + 2 * self.margin
        buffer = self.buffers.setdefault(y.dtype.char, np.zeros_like(y, shape=(size,)))
        view = buffer[self.margin : size - self.margin]
        view[...] = y.ravel()
        return view

    def matvec(self, x: Any) -> Any:
        y = self.forward @ x
        return self.kept(y) if self.direction == "matvec" else y

    def rmatvec(self, y: Any) -> Any:
        x = self.backward @ y
        return self.kept(x) if self.direction == "rmatvec" else x


class Remembering(Faithful):
    """The same input again returns the same array, which its owner has written into."""

    last: Any = None

    def matvec(self, x: Any) -> Any:
        if self.last is None or not np.array_equal(self.last[0], x):
            self.last = x.copy(), self.forward @ x
        return self.last[1]


SHARES = r"\bmatvec's result shares memory with its input"
OVERWRITES = "returns a buffer that it overwrites"
ALIASING = family("aliasing",
    ("the identity returns its input", lambda dtype, rng: Same(23, dtype), SHARES),
    ("a reversal returns a view", lambda dtype, rng: Reversal(23, dtype), SHARES),
    ("a crop returns a view", lambda dtype, rng: Crop(23, dtype), SHARES),
    ("one buffer for all results", of(Reusing, "matvec"), rf"\bmatvec {OVERWRITES}"),
    ("one buffer in the adjoint", of(Reusing, "rmatvec"), f"rmatvec {OVERWRITES}"),
    ("a view of one buffer", of(Reusing, "matvec", 3), rf"\bmatvec {OVERWRITES}"),
    ("the last result remembered", of(Remembering),
     r"\bmatvec depends on its own earlier result"),
)  # fmt: skip


def widened(y: np.ndarray) -> np.ndarray:
    return y.astype(np.result_type(y.dtype, np.float64))


def narrowed(y: np.ndarray) -> np.ndarray:
    return y.astype(np.complex64 if y.dtype.kind == "c" else np.float32)


def with_imaginary_part(y: np.ndarray) -> np.ndarray:
    """Somebody forgot .real after an inverse FFT."""
    return y + 0j


class Mislabelled(Faithful):
    """A complex matrix whose operator says it is real."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.dtype = matrix.real.dtype


DTYPE = family("dtype",
    ("always double", around(None, widened),
     r"\bmatvec returns dtype (float64|complex128), expected (float32|complex64)", SINGLE),
    ("the adjoint in single", around(None, narrowed, "rmatvec"),
     r"rmatvec returns dtype (float32|complex64), expected (float64|complex128)", DOUBLE),
    ("complex for real", around(None, with_imaginary_part),
     r"\bmatvec returns dtype complex\d+, expected float\d+", REAL),
    ("dtype says real", of(Mislabelled), r"returns dtype complex\d+, expected float\d+",
     COMPLEX),
)  # fmt: skip


def as_column(y: np.ndarray) -> np.ndarray:
    return y.reshape(-1, 1)


def as_list(y: np.ndarray) -> list[Any]:
    return y.tolist()


def longer(y: np.ndarray) -> np.ndarray:
    return np.concatenate([y, y[:1]])


def shorter(y: np.ndarray) -> np.ndarray:
    return y[:-1].copy()


def nothing(y: np.ndarray) -> None:
    return None


class Swapped(Faithful):
    """shape written as (n, m)."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.shape, self.in_shape, self.out_shape = (
            self.shape[::-1],
            self.out_shape,
            self.in_shape,
        )


class ScalarResult(Faithful):
    """A matrix of one row returns a number."""

    def matvec(self, x: Any) -> Any:
        return (self.forward @ x)[0]


class NoAdjointYet(Faithful):
    def rmatvec(self, y: Any) -> Any:
        raise NotImplementedError("the adjoint is left as an exercise")


SHAPE = family("shape",
    ("a column", around(None, as_column),
     r"\bmatvec returns shape \(20, 1\), expected \(20,\)"),
    ("a list", around(None, as_list), r"\bmatvec returned a list, expected an array"),
    ("one sample too many", around(None, longer),
     r"\bmatvec returns shape \(21,\), expected \(20,\)"),
    ("no output padding: one sample short", around(None, shorter, "rmatvec"),
     r"rmatvec returns shape \(23,\), expected \(24,\)"),
    ("nothing", around(None, nothing), r"\bmatvec returned"),
    ("shape is (n, m)", of(Swapped), r"\bmatvec raised ValueError"),
    ("a number for an array of one",
     lambda dtype, rng: ScalarResult(taps((1, 24), dtype, rng)), r"\bmatvec return"),
    ("no adjoint", of(NoAdjointYet), "rmatvec raised NotImplementedError"),
)  # fmt: skip


def raw_memory(x: np.ndarray) -> np.ndarray:
    """Return x as C code sees it from a pointer and a length, within the memory of x."""
    if x.ndim == 1 and x.strides[0] > x.itemsize:
        return library_of(x).lib.stride_tricks.as_strided(x, x.shape, (x.itemsize,))
    return x


def unsigned_stride(x: np.ndarray) -> np.ndarray:
    """The sign of the stride lost in an unsigned integer."""
    return x[::-1] if x.ndim == 1 and x.strides[0] < 0 else x


def writable_only(x: np.ndarray) -> np.ndarray:
    """As Cython's memoryviews say it."""
    if not x.flags.writeable:
        raise ValueError("buffer source array is read-only")
    return x


LAYOUT = family("layout",
    ("reads a pointer", around(raw_memory), r"\bmatvec is wrong for a strided input"),
    ("the adjoint reads a pointer", around(raw_memory, None, "rmatvec"),
     "rmatvec is wrong for a strided input"),
    ("an unsigned stride", around(unsigned_stride), r"\bmatvec is wrong for a reversed input"),
    ("refuses read-only input", around(writable_only),
     r"\bmatvec raised ValueError|read-only"),
)  # fmt: skip

CONTRACTS = [*STATE, *MODIFIED, *ALIASING, *DTYPE, *SHAPE, *LAYOUT]
