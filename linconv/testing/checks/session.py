"""One test of one operator: its two directions, watched at every product.

A `Side` is one direction, matvec or rmatvec.  It gives the operator a fresh array for
each product and copies the result at once, so that the fault of one check does not spoil
another.  It notes wrong shapes, dtypes and values of results, and inputs or earlier
results that a product changes; `contracts.watched` judges these notes after all checks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from linconv.testing.checks import probes
from linconv.testing.subjects import Subject, as_subject

# In u; more noise than this is reported as a fault and never used as a tolerance.
MOST_NOISE = 256
# The largest allowed error of a single number, in measured standard deviations.
FAR = 14


class Stop(Exception):  # noqa: N818 - it ends a test, which goes on to report
    """A product failed, which ends the test; `code` is the check that fails."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Side:
    """One direction of a subject.

    `apply` is the subject's own function.  `pre` and `post` are the weights of its
    inner products; with them its adjoint becomes the plain conjugate transpose.
    """

    subject: Subject
    name: str
    apply: Callable[[Any], Any]
    columns: Callable[[Any], Any] | None  # matmat or rmatmat
    columns_name: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    call_in: tuple[int, ...]
    call_out: tuple[int, ...]
    dtype: np.dtype  # of the probes
    expected: np.dtype | None  # of the results; None if the subject declares none
    pre: Any = None
    post: Any = None
    probes: list[np.ndarray] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    residual: float = 0.0  # relative residual of additivity, as measured
    trials: int = 0  # the number of splits for `residual`
    rms: float = 0.0  # of the samples of all images, divided by the session's scale
    noise: float = 0.0  # relative rounding noise: at least u, at most 256 u
    products: int = 0
    copied: int = 0  # products of the operator made for exact mode
    watched: dict[str, str] = field(default_factory=dict)  # code -> the first fault
    reused: bool = False  # True once arrays were reused and results overwritten
    last: tuple[Any, np.ndarray] | None = None  # the last result of `apply`, and a copy
    last_columns: tuple[Any, np.ndarray] | None = None  # the same for `columns`

    @property
    def n(self) -> int:
        """Size of a probe."""
        return int(np.prod(self.in_shape))

    @property
    def m(self) -> int:
        """Size of an image."""
        return int(np.prod(self.out_shape))

    @property
    def result_dtype(self) -> np.dtype:
        """The dtype that decides on rounding: the coarser of the declared and the returned."""
        known = [self.expected or self.dtype, *(image.dtype for image in self.images[:1])]
        return max(known, key=probes.unit)

    @property
    def u(self) -> float:
        """The rounding unit of the results."""
        return probes.unit(self.result_dtype)

    def native(self, x: np.ndarray, layout: str = "contiguous") -> Any:
        """Return the flat probe x as a fresh array of the subject's own library."""
        return self.subject.arrays.make(self.unweighted(x), layout)

    def unweighted(self, x: np.ndarray) -> np.ndarray:
        """Return a flat probe in the subject's shape, divided by the weights `pre`."""
        if self.pre is not None:
            x = (x / self.pre).astype(x.dtype)
        return x.reshape(self.call_in)

    def __call__(self, x: np.ndarray, layout: str = "contiguous") -> np.ndarray:
        """Return the flat image of the flat probe x, and note every fault of the product."""
        before = self.unweighted(x)
        given = self.subject.arrays.make(before, layout)
        result = self.call(given)
        raw = self.read(result)
        self.last = self.watch(self.name, given, before, result, raw, self.last)
        return self.image(raw)

    def watch(
        self, name: str, given: Any, before: Any, result: Any, raw: Any, last: Any
    ) -> tuple[Any, np.ndarray]:
        """Note a product that changes its input or an earlier result; return its result."""
        arrays = self.subject.arrays
        if not same(before, arrays.host(given)):
            self.note("C03", f"{name} changes its input")
        if arrays.shares_memory(result, given):
            self.note("C05", f"{name}'s result shares memory with its input")
        if last is not None and not same(last[1], arrays.host(last[0])):
            self.overwritten(name)
        return result, raw

    def overwritten(self, name: str) -> None:
        """Note that a later product changed the result of an earlier one."""
        words = "returns a buffer that it overwrites: an earlier result changed"
        self.note("C05", f"{name} {words}")

    def call(self, given: Any) -> Any:
        """Run one product on a native array."""
        self.products += 1
        try:
            result = self.apply(given)
        except Exception as error:
            raise Stop("C01", f"{self.name} raised {describe(error)}") from error
        if not self.subject.arrays.is_array(result):
            kind = type(result).__name__
            raise Stop("C01", f"{self.name} returned a {kind}, expected an array")
        return result

    def read(self, result: Any) -> np.ndarray:
        """Return a copy of a result on the host."""
        try:
            return self.subject.arrays.read(result)
        except TypeError as error:
            raise Stop("C02", f"{self.name} returns an unreadable array: {error}") from error

    def image(self, raw: np.ndarray) -> np.ndarray:
        """Return a result on the host as a flat image; note a wrong shape, dtype or value."""
        if raw.shape != self.call_out:
            message = f"{self.name} returns shape {raw.shape}, expected {self.call_out}"
            self.note("C01", message)
            if raw.size != self.m:
                raise Stop("C01", message)
        image = raw.reshape(-1)
        if self.expected is not None and image.dtype != self.expected:
            self.note(
                "C02", f"{self.name} returns dtype {image.dtype}, expected {self.expected}"
            )
        if image.dtype.kind not in "fc":
            image = image.astype(self.expected or self.dtype)
        if not finite(image):
            self.note("C06", f"{self.name} returns NaN or infinity for a finite input")
        return self.weighted(image)

    def weighted(self, image: np.ndarray) -> np.ndarray:
        """Return a flat image multiplied by the weights `post`."""
        return image if self.post is None else (image * self.post).astype(image.dtype)

    def quietly(self, x: np.ndarray) -> np.ndarray | None:
        """Return the image of an input, or None if the operator refuses it; note nothing."""
        before = dict(self.watched)
        expected, self.expected = self.expected, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self(x)
        except Exception:  # any exception counts as a refusal
            return None
        finally:
            self.watched, self.expected = before, expected

    def note(self, code: str, message: str) -> None:
        """Keep a fault, unless its check already has one."""
        self.watched.setdefault(code, message)

    def start(self, rng: np.random.Generator, block: int) -> None:
        """Make the block of random probes and their images."""
        for _ in range(block):
            self.probes.append(probes.gaussian(rng, self.n, self.dtype))
            self.images.append(self(self.probes[-1]))

    def distance(self, got: np.ndarray, expected: np.ndarray) -> float:
        """Return the largest difference of two images, relative to the sample and the rms."""
        if got.shape != expected.shape:
            return np.inf
        if np.array_equal(got, expected):
            return 0.0
        wide = np.result_type(got, expected, np.float64)
        gap = np.abs(got.astype(wide) - expected.astype(wide))
        if not np.isfinite(gap).all():
            return np.inf
        peak = float(np.max(np.abs(expected), initial=0)) or 1.0
        scale = probes.power(expected.astype(wide) / peak)
        return float(np.max(gap / peak / np.sqrt(scale + (np.mean(scale) or 1.0))))

    def allowed(self, units: float) -> float:
        """Return a tolerance for `distance`: `units` times u, or more for a noisy side."""
        return max(units * self.u, FAR * self.noise)


@dataclass
class Session:
    """A subject under test: both sides, the random generator and the options."""

    subject: Subject
    forward: Side
    adjoint: Side
    rng: np.random.Generator
    level: str
    deterministic: bool
    real_linear: bool
    mismatch: Any = None  # in the adjoint identity of the random probes, once computed
    probed: Any = None  # the random probes of both sides with their images, once computed
    scale: float = 1.0  # the power of two that images are divided by
    matrices: tuple[np.ndarray, np.ndarray] | None = None  # C and A^H, once computed
    matrix: Any = None  # the known matrix
    reference: Any = None  # the independent forward
    entries: list[Any] = field(default_factory=list)  # wrong entries found by checks
    taps: int = 0  # number of taps of the kernel for exact mode
    miss: float | None = None  # probability that exact mode misses a fault
    stopped: bool = False  # whether a product raised `Stop`

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both directions."""
        return self.forward, self.adjoint

    @property
    def quick(self) -> bool:
        """Whether the level is "quick", which saves products."""
        return self.level == "quick"

    @property
    def weighted(self) -> bool:
        """Whether the inner products have weights."""
        return self.adjoint.pre is not None

    @property
    def complex(self) -> bool:
        """Whether probes of the input are complex."""
        return self.forward.dtype.kind == "c"

    def repeats(self, side: Side, got: np.ndarray, expected: np.ndarray) -> bool:
        """Whether a result equals an earlier one, bit for bit if `deterministic`."""
        if self.deterministic:
            return same(got, expected)
        return side.distance(got, expected) <= side.allowed(MOST_NOISE)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays hold the same values; NaN equals NaN, 0 equals -0."""
    if a.shape == b.shape and bool((a == b).all()):
        return True
    return np.array_equal(a, b, equal_nan=True)


def finite(x: np.ndarray) -> bool:
    """Whether an array has neither NaN nor infinity."""
    return bool(np.isfinite(x).all())


def describe(error: BaseException) -> str:
    """Return an exception as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def open_session(
    A: Any,
    adjoint: Callable[[Any], Any] | None,
    *,
    level: str,
    seed: int,
    deterministic: bool,
    real_linear: bool | None,
    **options: Any,
) -> Session:
    """Return a session with both sides, before the first probe.

    The `options` are those of `as_subject`.
    """
    subject = as_subject(A, adjoint, **options)
    real = subject.real_linear if real_linear is None else bool(real_linear)
    forward, back = sides(subject, real)
    if not forward.n or not forward.m:
        raise ValueError(f"there is nothing to test: the shape is {(forward.m, forward.n)}")
    rng = np.random.default_rng(seed)
    return Session(subject, forward, back, rng, level, deterministic, real)


def sides(subject: Subject, real_linear: bool) -> tuple[Side, Side]:
    """Return both sides with the dtypes of their probes and results."""
    given, back = _probe_dtypes(subject, real_linear)
    if subject.in_dtype is not None:
        results = subject.out_dtype, subject.in_dtype
    elif subject.dtype is not None and not real_linear:
        results = tuple(np.result_type(subject.dtype, dtype) for dtype in (given, back))
    else:
        results = None, None
    domain, codomain = subject.weights or (None, None)
    forward = Side(
        subject,
        *(subject.forward_name, subject.forward, subject.matmat, "matmat"),
        *(subject.in_shape, subject.out_shape),
        *(subject.call_in_shape, subject.call_out_shape),
        *(given, results[0]),
    )
    adjoint = Side(
        subject,
        *(subject.adjoint_name, subject.adjoint, subject.rmatmat, "rmatmat"),
        *(subject.out_shape, subject.in_shape),
        *(subject.call_out_shape, subject.call_in_shape),
        *(back, results[1]),
        pre=_flat(codomain),
        post=_flat(domain),
    )
    return forward, adjoint


def _flat(weights: Any) -> Any:
    if weights is None:
        return None
    weights = np.asarray(weights, float)
    return weights.reshape(-1) if weights.ndim else float(weights)


def _probe_dtypes(subject: Subject, real_linear: bool) -> tuple[np.dtype, np.dtype]:
    """Return the dtypes of x and y: as declared, else as the operator takes and returns."""
    if subject.in_dtype is not None and subject.out_dtype is not None:
        return subject.in_dtype, subject.out_dtype
    double = np.dtype(np.float64)
    if subject.dtype is not None:
        given = subject.dtype if subject.dtype.kind in "fc" else double
        result = _result_dtype(subject, given) if real_linear else None
        return given, given if result is None else result
    for dtype in (np.dtype(np.complex128), double):
        result = _result_dtype(subject, dtype)
        if result is not None and (dtype.kind == "f" or result.kind == "c" or real_linear):
            return dtype, np.result_type(result, np.float16)
    return double, double


def _result_dtype(subject: Subject, dtype: np.dtype) -> np.dtype | None:
    """Return the dtype of one result, or None if the operator refuses the input."""
    x = np.ones(subject.call_in_shape, dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return subject.arrays.read(subject.forward(subject.arrays.make(x))).dtype
    except Exception:  # any exception counts as a refusal
        return None
