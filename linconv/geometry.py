"""The geometry of a convolution: which input sample each tap of each output reads.

Integers and the standard library only.  Along one axis of ``n`` input samples, tap ``t`` of
output ``i`` reads sample ``j = s i - lo + d t``; the boundary rule says what it reads where
``j`` lies outside ``0 .. n - 1``.  Taps are not flipped unless ``flip=True``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from linconv._options import (
    at_least,
    boolean,
    integer,
    itemsize,
    named_padding,
    paddings,
    pair,
    per_axis,
    sizes,
    spread,
)

__all__ = ["Axis", "Boundary", "Geometry"]

INT32_MAX = 2**31 - 1
# Positions in wide padding from which on their period is used.
_FAR = 64
# Samples that an axis may span, so that no index overflows 64 bits.
_MOST = 2**60


class Boundary(StrEnum):
    """The rule for taps outside the input, shown for the samples ``a b c d``.

    ============= ========================== ==================================
    rule          extension                  in other libraries
    ============= ========================== ==================================
    zeros         ``0 0 0 | a b c d | 0 0``  numpy:constant, scipy:fill
    circular      ``b c d | a b c d | a b``  numpy:wrap, torch:circular
    reflect       ``d c b | a b c d | c b``  numpy:reflect, ndimage:mirror
    symmetric     ``c b a | a b c d | d c``  numpy:symmetric, ndimage:reflect
    replicate     ``a a a | a b c d | d d``  numpy:edge, ndimage:nearest
    antireflect   ``2a - (reflect) | ...``   pywt:antireflect
    ============= ========================== ==================================

    Padding wider than the input continues the same rule.  Positions ``j < 0`` follow the
    rule of the low side, positions ``j >= n`` the rule of the high side.

    Examples
    --------
    >>> Boundary.parse("ndimage:reflect")
    'symmetric'
    """

    ZEROS = "zeros"
    CIRCULAR = "circular"
    REFLECT = "reflect"
    SYMMETRIC = "symmetric"
    REPLICATE = "replicate"
    ANTIREFLECT = "antireflect"

    def __repr__(self) -> str:
        return repr(self.value)

    @classmethod
    def parse(cls, name: str) -> Boundary:
        """Return the rule of this name: linconv's own, or another's ``"library:mode"``."""
        if not isinstance(name, str):
            raise TypeError(
                f"boundary must be a string such as 'zeros', got {type(name).__name__}"
            )
        word = name.lower()
        known = ", ".join(repr(rule.value) for rule in cls)
        if word in cls._value2member_map_:
            return cls(word)
        if word in _ALIASES:
            return _ALIASES[word]
        likely = [alias for alias in _ALIASES if alias.partition(":")[2] == word]
        hint = f"; for another library's rule write {' or '.join(map(repr, likely))}"
        if ":" in word:
            library = word.partition(":")[0]
            likely = [alias for alias in _ALIASES if alias.startswith(library + ":")]
            hint = f"; linconv knows {', '.join(map(repr, likely))} of {library}"
            if not likely:
                likely = sorted({alias.partition(":")[0] for alias in _ALIASES})
                hint = f", and those of the libraries {', '.join(likely)}, as 'numpy:wrap'"
        raise ValueError(
            f"unknown boundary {name!r}: the rules are {known}"
            + (hint if likely else ", or 'numpy:wrap', 'ndimage:mirror', ...")
        )


# Libraries give the same word different meanings, so an alias starts with the library.
_ALIASES: dict[str, Boundary] = {
    f"{library}:{mode}": rule
    for library, modes in {
        "numpy": "constant wrap reflect symmetric edge -",
        "ndimage": "constant wrap mirror reflect nearest -",
        "torch": "zeros circular reflect - replicate -",
        "scipy": "fill wrap - symm - -",
        "pywt": "zero periodic reflect symmetric constant antireflect",
        "onnx": "constant wrap reflect - edge -",
    }.items()
    for mode, rule in zip(modes.split(), Boundary, strict=True)
    if mode != "-"
} | {
    "ndimage:grid-constant": Boundary.ZEROS,
    "ndimage:grid-wrap": Boundary.CIRCULAR,
    "ndimage:grid-mirror": Boundary.SYMMETRIC,
    "torch:constant": Boundary.ZEROS,
}


@dataclass(frozen=True)
class Axis:
    """One spatial axis: ``n`` samples read by ``k`` taps at ``out`` positions.

    Parameters
    ----------
    n, k : int
        Input samples and taps.
    stride, dilation : int
        Output step and distance of taps, in input samples.
    padding : (int, int)
        Samples put before and after the input; negative ones crop it.
    boundary : (Boundary, Boundary)
        The rules for positions below ``0`` and from ``n`` on.
    out : int, optional
        Output positions.  Default, and largest value,
        ``floor((n + lo + hi - d (k - 1) - 1) / s) + 1`` [1]_.

    References
    ----------
    .. [1] Dumoulin and Visin, arXiv:1603.07285, relationship 6; with dilation,
       relationship 15.

    Examples
    --------
    >>> axis = Axis(5, 3, stride=2, padding=(1, 1))
    >>> axis.out, axis.nnz
    (3, 7)
    >>> Axis(5, 3, padding=(2, 0), boundary=("reflect", "zeros")).source(-2)
    ((2, 1),)
    """

    n: int
    k: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (0, 0)
    boundary: tuple[Boundary, Boundary] = (Boundary.ZEROS, Boundary.ZEROS)
    out: int = -1

    def __post_init__(self) -> None:
        low, high = pair(self.boundary, "boundary")
        fields = {
            "n": at_least(1, self.n, "the input length n"),
            "k": at_least(1, self.k, "the number of taps k"),
            "stride": at_least(1, self.stride, "stride"),
            "dilation": at_least(1, self.dilation, "dilation"),
            "padding": tuple(integer(p, "padding") for p in pair(self.padding, "padding")),
            "boundary": (Boundary.parse(low), Boundary.parse(high)),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.n + self.extent + sum(map(abs, self.padding)) > _MOST:
            raise ValueError(
                f"an axis spans at most {_MOST} samples, got n = {self.n}, a kernel of "
                f"{self.extent} and padding {self.padding}"
            )
        padded = self.n + sum(self.padding)
        if padded < self.extent:
            raise ValueError(
                f"the output would be empty: n + lo + hi = {self.n} + {self.padding[0]} + "
                f"{self.padding[1]} = {padded} samples, but the kernel spans "
                f"d (k - 1) + 1 = {self.extent}; pad more or use a smaller kernel"
            )
        most = (padded - self.extent) // self.stride + 1
        out = integer(self.out, "out")
        if out != -1 and not 1 <= out <= most:
            raise ValueError(f"out must be in 1..{most} for this axis, got {out}")
        object.__setattr__(self, "out", most if out == -1 else out)

    @property
    def extent(self) -> int:
        """Input samples spanned by the taps, ``d (k - 1) + 1``."""
        return self.dilation * (self.k - 1) + 1

    @property
    def interior(self) -> range:
        """Output positions all of whose taps lie inside the input."""
        lo, s = self.padding[0], self.stride
        start = min(max(0, -(-lo // s)), self.out)
        stop = min((self.n + lo - self.extent) // s + 1, self.out)
        return range(start, max(start, stop))

    def only_tap(self, t: int) -> Axis:
        """Return the axis whose one tap reads what tap `t` of this one reads."""
        lo = self.padding[0] - self.dilation * t
        hi = self.stride * (self.out - 1) + 1 - self.n - lo
        return Axis(self.n, 1, self.stride, 1, (lo, hi), self.boundary, self.out)

    def source(self, j: int) -> tuple[tuple[int, int], ...]:
        """Return the ``(sample, weight)`` pairs whose sum position `j` stands for."""
        n = self.n
        if 0 <= j < n:
            return ((j, 1),)
        rule = self.boundary[j >= n]
        if rule is Boundary.ZEROS:
            return ()
        if rule is Boundary.CIRCULAR:
            return ((j % n, 1),)
        if rule is Boundary.REPLICATE or (n == 1 and rule is not Boundary.SYMMETRIC):
            # A single sample has no inner neighbour to reflect.
            return ((0 if j < 0 else n - 1, 1),)
        if rule is Boundary.SYMMETRIC:
            j %= 2 * n
            return ((min(j, 2 * n - 1 - j), 1),)
        turn, j = divmod(j, 2 * (n - 1))
        if rule is Boundary.REFLECT:
            return ((min(j, 2 * (n - 1) - j), 1),)
        # Under "antireflect" each turn of 2 (n - 1) samples adds 2 (x[n - 1] - x[0]).
        terms = {0: -2 * turn, n - 1: 2 * turn}
        sign = 1 if j < n else -1
        if sign < 0:
            terms[n - 1] += 2
            j = 2 * (n - 1) - j
        terms[j] = terms.get(j, 0) + sign
        return tuple(sorted((sample, w) for sample, w in terms.items() if w))

    def period(self, side: int) -> int:
        """Samples after which the rule of a side reads the same ones, 0 if it never does."""
        rule = self.boundary[side]
        if rule is Boundary.CIRCULAR or rule is Boundary.SYMMETRIC:
            return self.n * (1 + (rule is Boundary.SYMMETRIC))
        if rule is Boundary.ZEROS or rule is Boundary.REPLICATE or self.n == 1:
            return 1
        return 2 * (self.n - 1) if rule is Boundary.REFLECT else 0

    def parts(self, positions: range) -> Iterator[tuple[range, int]]:
        """Yield parts of output positions, each with the period of what it reads, or 0.

        Wide padding has positions all of whose taps lie on one side of the input: they
        repeat what they read every few positions.
        """
        s, lo, begin = self.stride, self.padding[0], positions.start
        inside = -(-(lo - self.extent + 1) // s)  # the first position with a tap from 0 on
        beyond = -(-(self.n + lo) // s)  # the first position whose taps are from n on
        for start, stop, side in ((0, inside, 0), (beyond, self.out, 1)):
            far = range(max(begin, start), min(positions.stop, stop))
            period = self.period(side) // math.gcd(self.period(side), s)
            if period and len(far) > max(4 * period, _FAR):
                if begin < far.start:
                    yield range(begin, far.start), 0
                yield far, period
                begin = far.stop
        if begin < positions.stop:
            yield range(begin, positions.stop), 0

    @cached_property
    def nnz(self) -> int:
        """Nonzeros of this axis's matrix: the distinct samples each position reads, summed."""
        s, d, lo = self.stride, self.dilation, self.padding[0]
        if self.boundary == (Boundary.ZEROS, Boundary.ZEROS):
            count = 0
            for j in range(-lo, d * self.k - lo, d):  # the sample that output 0 reads
                first = max(0, -(j // s))
                count += max(0, min((self.n - 1 - j) // s, self.out - 1) - first + 1)
            return count
        inner = self.interior
        return len(inner) * self.k + sum(
            self._distinct(edge) for edge in (range(inner.start), range(inner.stop, self.out))
        )

    def _distinct(self, positions: range) -> int:
        """Return the sum over `positions` of the distinct samples that each reads."""
        total = 0
        for part, period in self.parts(positions):
            if period:
                full, rest = divmod(len(part), period)
                total += full * self._counted(part[:period]) + self._counted(part[:rest])
            else:
                total += self._counted(part)
        return total

    def _counted(self, positions: range) -> int:
        """Count the distinct samples that each position reads."""
        s, d, extent, total = self.stride, self.dilation, self.extent, 0
        for first in range(positions.start, positions.stop, 4096):  # bounds the memory
            last = min(first + 4096, positions.stop) - 1
            places = range(s * first - self.padding[0], s * last - self.padding[0] + extent)
            reads = [[sample for sample, _ in self.source(j)] for j in places]
            total += sum(
                len(set().union(*reads[at : at + extent : d]))
                for at in range(0, s * (last - first) + 1, s)
            )
        return total


@dataclass(frozen=True)
class Geometry:
    """The convolution ``C`` as integers: axes, channels, groups.

    :meth:`conv` returns the geometry of a convolution, :meth:`conv_transpose` that of the
    convolution whose transpose takes a given input.

    Parameters
    ----------
    axes : tuple of Axis
        One per spatial dimension, the last varying fastest.
    channels : (int, int), optional
        ``(c_out, c_in)``; None for arrays without a channel axis.
    groups : int
        Groups of channels; outputs of a group read its inputs only.
    flip : bool
        Whether taps are flipped, as in the convolution of `scipy.signal`.

    Examples
    --------
    >>> g = Geometry.conv((3, 3), (4, 4))
    >>> g.out_shape, g.shape, g.nnz, g.nbytes("float64")
    ((2, 2), (4, 16), 36, 452)
    """

    axes: tuple[Axis, ...]
    channels: tuple[int, int] | None = None
    groups: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        axes = tuple(self.axes)
        if not axes or any(type(axis) is not Axis for axis in axes):
            raise TypeError(f"axes must be one or more Axis, got {self.axes!r}")
        fields: dict[str, Any] = {"axes": axes, "groups": at_least(1, self.groups, "groups")}
        if self.channels is not None:
            channels = pair(self.channels, "channels")
            fields["channels"] = tuple(at_least(1, c, "channels") for c in channels)
        fields["flip"] = boolean(self.flip, "flip")
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check_groups()
        if max(self.shape) > _MOST:
            raise ValueError(
                f"an array has at most {_MOST} numbers, got {self.in_shape} -> "
                f"{self.out_shape}"
            )

    @classmethod
    def conv(
        cls,
        kernel_shape: Sequence[int],
        in_shape: Sequence[int] | int,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        boundary: Any = "zeros",
        flip: bool = False,
    ) -> Geometry:
        """Return the geometry of a convolution; options as in `conv_matrix`."""
        kernel_shape, in_shape, along = _parsed(
            kernel_shape, in_shape, stride, dilation, padding, boundary
        )
        groups = at_least(1, groups, "groups")
        if len(kernel_shape) > len(along):
            _refuse_channels_last(in_shape, kernel_shape[1] * groups)
        axes = []
        for a, (n, k, s, d, pad, rule) in enumerate(along):
            pad = named_padding(pad, n, s, d * (k - 1) + 1)
            axes.append(_axis(a, n, k, s, d, pad, rule))
        channels = (kernel_shape[0], in_shape[0]) if len(kernel_shape) > len(axes) else None
        geometry = cls(tuple(axes), channels, groups, flip)
        geometry._check_kernel(kernel_shape, "(c_out, c_in // groups, *k)")
        return geometry

    @classmethod
    def conv_transpose(
        cls,
        kernel_shape: Sequence[int],
        in_shape: Sequence[int] | int,
        *,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        boundary: Any = "zeros",
        flip: bool = False,
    ) -> Geometry:
        """Return the convolution ``C`` whose transpose takes `in_shape`.

        ``C`` maps the target, ``s (n - 1) + d (k - 1) + 1 - lo - hi +
        output_padding`` samples an axis (relationships 13-15 of
        arXiv:1603.07285), to `in_shape`; with padding "same" the target has
        ``s n`` samples.  Outputs of ``C`` beyond `in_shape` are dropped.
        """
        kernel_shape, in_shape, along = _parsed(
            kernel_shape, in_shape, stride, dilation, padding, boundary
        )
        more = per_axis(output_padding, len(along), "output_padding", least=0)
        if len(kernel_shape) > len(along):
            _refuse_channels_last(in_shape, kernel_shape[0])
        axes = []
        for a, (o, k, s, d, pad, rule) in enumerate(along):
            extent = d * (k - 1) + 1
            extra = _output_padding(a, pad, more[a], s, d, extent)
            pad = named_padding(pad, s * o, s, extent)
            n = s * (o - 1) + extent - sum(pad) + extra
            if n < 1:
                raise ValueError(
                    f"the output would be empty along axis {a}: s (n - 1) + d (k - 1) + 1 "
                    f"- lo - hi + output_padding = {n}; use less padding"
                )
            axes.append(_axis(a, n, k, s, d, pad, rule, o))
        groups = at_least(1, groups, "groups")
        wide = len(kernel_shape) > len(axes)
        channels = (in_shape[0], kernel_shape[1] * groups) if wide else None
        geometry = cls(tuple(axes), channels, groups, flip)
        geometry._check_kernel(kernel_shape, "(c_in, c_out // groups, *k)")
        return geometry

    def _check_groups(self) -> None:
        """Raise unless groups divide the channels."""
        if self.channels is None and self.groups != 1:
            raise ValueError(
                f"groups={self.groups} needs channels: a kernel of shape (c_out, c_in // "
                f"groups, *k) and an input with a channel axis, not {self.in_shape}"
            )
        if any(c % self.groups for c in self.channels or ()):
            raise ValueError(
                "groups must divide the input and the output channels: got "
                f"groups={self.groups} for channels {self.channels}"
            )

    def _check_kernel(self, shape: tuple[int, ...], layout: str) -> None:
        """Raise unless the kernel has its shape."""
        if self.channels is None or shape == self.kernel_shape:
            return
        raise ValueError(
            f"kernel has shape {shape}, but the geometry needs {self.kernel_shape} = {layout}"
        )

    @property
    def c_out(self) -> int:
        """Output channels of ``C``, 1 without a channel axis."""
        return self.channels[0] if self.channels else 1

    @property
    def c_in(self) -> int:
        """Input channels of ``C``, 1 without a channel axis."""
        return self.channels[1] if self.channels else 1

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """``(k1..kd)``, or ``(c_out, c_in // groups, k1..kd)``."""
        taps = tuple(axis.k for axis in self.axes)
        return (self.c_out, self.c_in // self.groups, *taps) if self.channels else taps

    @property
    def in_shape(self) -> tuple[int, ...]:
        """``(n1..nd)``, or ``(c_in, n1..nd)``."""
        spatial = tuple(axis.n for axis in self.axes)
        return (self.c_in, *spatial) if self.channels else spatial

    @property
    def out_shape(self) -> tuple[int, ...]:
        """``(o1..od)``, or ``(c_out, o1..od)``."""
        spatial = tuple(axis.out for axis in self.axes)
        return (self.c_out, *spatial) if self.channels else spatial

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix of ``C``."""
        return math.prod(self.out_shape), math.prod(self.in_shape)

    @property
    def nnz(self) -> int:
        """Stored entries of the matrix of ``C``, by arithmetic alone."""
        channels = self.c_out * (self.c_in // self.groups)
        return channels * math.prod(axis.nnz for axis in self.axes)

    def nbytes(self, dtype: Any = "float64") -> int:
        """Bytes of the matrix's CSR arrays with values of `dtype`."""
        return csr_nbytes(self.shape, self.nnz, itemsize(dtype))


def csr_nbytes(shape: tuple[int, int], nnz: int, value_bytes: int) -> int:
    """Bytes of ``data``, ``indices`` and ``indptr`` of a CSR matrix."""
    width = index_bytes(shape, nnz)
    return nnz * (value_bytes + width) + (shape[0] + 1) * width


def index_bytes(shape: tuple[int, int], nnz: int) -> int:
    """Bytes of one index: 4 while nonzeros and both dimensions fit int32, else 8."""
    return 4 if max(nnz, *shape) <= INT32_MAX else 8


def _parsed(
    kernel_shape: Any, in_shape: Any, stride: Any, dilation: Any, padding: Any, boundary: Any
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple]]:
    """Return both shapes, and ``(n, k, stride, dilation, padding, rules)`` of every axis."""
    kernel_shape, in_shape = spread(kernel_shape, 1), sizes(in_shape, "in_shape")
    d = len(in_shape)
    if len(kernel_shape) not in ((d, d + 1) if d > 1 else (1,)):
        raise ValueError(
            f"a kernel of shape {kernel_shape} does not fit an input of shape {in_shape}: "
            f"expected {d} kernel axes for one channel"
            + (f", or {d + 1} with channels" if d > 1 else "")
            + f", got {len(kernel_shape)}"
            + _layout_hint(len(kernel_shape), in_shape)
        )
    kernel_shape = sizes(kernel_shape, "the kernel's shape")
    spatial = in_shape[len(kernel_shape) - d :]
    d = len(spatial)
    if d > 3 and not any(_per_axis(v, d) for v in (stride, dilation, padding, boundary)):
        raise ValueError(
            f"a kernel of shape {kernel_shape} on an input of shape {in_shape} means a "
            f"convolution along {d} axes: leave out an axis of the batch, since A(x) takes "
            f"batches, or, if {d} spatial axes are meant, say so: stride={(1,) * d}"
        )
    options = (
        per_axis(stride, d, "stride", least=1),
        per_axis(dilation, d, "dilation", least=1),
        paddings(padding, d),
        boundaries(boundary, d),
    )
    return kernel_shape, in_shape, list(zip(spatial, kernel_shape[-d:], *options, strict=True))


def _per_axis(option: Any, d: int) -> bool:
    return len(spread(option, 1)) == d


def _refuse_channels_last(in_shape: tuple[int, ...], channels: int) -> None:
    """Raise if the last axis of an input, and not the first, can be the channels."""
    if in_shape[-1] == channels != in_shape[0]:
        raise ValueError(
            f"the kernel reads {channels} channels, and in_shape {in_shape} has {channels} "
            f"last; channels come first: in_shape={(channels, *in_shape[:-1])}"
        )


def _layout_hint(k: int, in_shape: tuple[int, ...]) -> str:
    """Return how one kernel works on every channel of an image."""
    if k != len(in_shape) - 1:
        return ""
    first, last = in_shape[0], in_shape[-1]
    return (
        f"; one kernel for every channel is kron(Identity({first}), Conv(kernel, "
        f"{in_shape[1:]})), or with channels last kron(Conv(kernel, {in_shape[:-1]}), "
        f"Identity({last}))"
    )


def _axis(a: int, n: int, k: int, s: int, d: int, pad: Any, rule: Any, out: int = -1) -> Axis:
    try:
        return Axis(n, k, s, d, pad, rule, out)
    except ValueError as error:
        raise ValueError(f"axis {a}: {error}") from None


def boundaries(value: Any, d: int) -> tuple[tuple[Boundary, Boundary], ...]:
    """Return the boundary rules as one ``(lo, hi)`` pair per axis."""
    entries = spread(value, d)
    if len(entries) != d:
        raise ValueError(
            "boundary must be one rule, one per axis or one (lo, hi) pair per axis: "
            f"expected {d} entries, got {len(entries)} in {entries!r}"
        )
    pairs = []
    for entry in entries:
        low, high = pair(spread(entry, 2), "boundary")
        pairs.append((Boundary.parse(low), Boundary.parse(high)))
    return tuple(pairs)


def _output_padding(a: int, pad: Any, extra: int, s: int, d: int, extent: int) -> int:
    """Return the samples added at the end of an axis of the output."""
    if extra >= max(s, d):
        raise ValueError(
            f"output_padding must be below max(stride, dilation) = {max(s, d)} along axis "
            f"{a}, got {extra}"
        )
    if not isinstance(pad, str) or not pad.startswith("same"):
        return extra
    if extra:
        raise ValueError(
            f"padding={pad!r} makes the output stride * n long, so output_padding must "
            f"be 0 along axis {a}, got {extra}"
        )
    return max(0, s - extent)
