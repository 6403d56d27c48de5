"""Options as users write them, checked and converted: one entry per axis.

Standard library only.  Every error says which value was expected and which was given.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any


def itemsize(dtype: Any) -> int:
    """Bytes of one value of a NumPy-like `dtype`, without importing NumPy."""
    if isinstance(getattr(dtype, "itemsize", None), int):
        return dtype.itemsize
    if dtype in (float, int, complex):
        return 16 if dtype is complex else 8
    if isinstance(dtype, type) and hasattr(dtype, "itemsize"):  # numpy.float32 itself
        return dtype().itemsize
    if isinstance(dtype, str):
        if match := re.fullmatch(r"(?:float|complex|u?int)(8|16|32|64|128|256)", dtype):
            return int(match[1]) // 8
        if match := re.fullmatch(r"[<>=|]?[fciu](\d+)", dtype):
            return int(match[1])
    raise TypeError(f"dtype must be a numeric dtype such as 'float32', got {dtype!r}")


def integer(value: Any, name: str) -> int:
    """Return a value with ``__index__`` as an int."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r} ({type(value).__name__})"
        ) from None


def at_least(least: int, value: Any, name: str) -> int:
    """Return `value` as an int of at least `least`."""
    value = integer(value, name)
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")
    return value


def sizes(value: Any, name: str) -> tuple[int, ...]:
    """Return a shape as a tuple of positive ints; one integer is a 1-d shape."""
    kind = getattr(getattr(value, "dtype", None), "kind", "i")
    if getattr(value, "ndim", 0) > 1 or kind in "fc":
        raise TypeError(
            f"{name} must be a shape, one integer per axis, got an array of shape "
            f"{value.shape}: are two arguments in each other's place?"
        )
    entries = tuple(value) if isinstance(value, Iterable) else (value,)
    shape = tuple(integer(v, name) for v in entries)
    if not shape or min(shape) < 1:
        raise ValueError(f"{name} must have one or more sizes, each >= 1, got {shape}")
    return shape


def boolean(value: Any, name: str) -> bool:
    """Return a bool, or NumPy's, as a bool."""
    if not isinstance(value, bool) and str(getattr(value, "dtype", "")) != "bool":
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def pair(value: Any, name: str) -> tuple[Any, Any]:
    """Return the two entries of `value`, for the low and the high side of an axis."""
    entries = spread(value, 1)
    if len(entries) != 2:
        raise ValueError(f"{name} of an axis must be a (lo, hi) pair, got {value}")
    return entries[0], entries[1]


def spread(value: Any, d: int) -> tuple:
    """Return the entries of `value`, or `value` once per axis if it has none."""
    if isinstance(value, Set | Mapping):
        raise TypeError(
            f"an option has one value, or a sequence of one per axis, got a "
            f"{type(value).__name__}, which has no order"
        )
    if (
        isinstance(value, str)
        or not isinstance(value, Iterable)
        or getattr(value, "ndim", 1) == 0
    ):
        return (value,) * d
    return tuple(value)


def per_axis(value: Any, d: int, name: str, *, least: int) -> tuple[int, ...]:
    """Return an option as one int per axis."""
    entries = tuple(integer(v, name) for v in spread(value, d))
    if len(entries) != d:
        raise ValueError(
            f"{name} must be one integer or one per axis: expected {d}, got {len(entries)} "
            f"in {entries}"
        )
    if min(entries) < least:
        raise ValueError(f"{name} must be >= {least} along every axis, got {entries}")
    return entries


def one_for_all_axes(value: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise for one integer where the first of several axes may hold channels."""
    d = len(shape)
    if d > 2 and not isinstance(value, Iterable):
        along = (value,) * (d - 1) if name == "kernel_size" else (1,) + (value,) * (d - 1)
        raise ValueError(
            f"{name} {value} for in_shape {shape} may mean {along}, for every channel, or "
            f"{(value,) * d}, without channels: write the one that is meant"
        )


_PADDINGS = ("valid", "full", "same", "same_lower")


def paddings(value: Any, d: int) -> tuple[tuple[int, int] | str, ...]:
    """Return padding as one ``(lo, hi)`` pair, or one word, per axis."""
    entries = spread(value, d)
    if len(entries) != d:
        hint = f"; one pair per axis is ({entries},)" if (d, len(entries)) == (1, 2) else ""
        raise ValueError(
            "padding must be an integer, one per axis, one (lo, hi) pair per axis or one of "
            f"{_PADDINGS}: expected {d} entries, got {len(entries)} in {entries!r}{hint}"
        )
    return tuple(_padding(entry) for entry in entries)


def _padding(entry: Any) -> tuple[int, int] | str:
    if isinstance(entry, str):
        if entry not in _PADDINGS:
            raise ValueError(f"unknown padding {entry!r}: the words are {_PADDINGS}")
        return entry
    if not isinstance(entry, Iterable):
        pad = integer(entry, "padding")
        return pad, pad
    low, high = pair(entry, "padding")
    return integer(low, "padding"), integer(high, "padding")


def named_padding(pad: Any, n: int, s: int, extent: int) -> tuple[int, int]:
    """Return padding in samples; a word is worked out for an axis of n samples."""
    if not isinstance(pad, str):
        return pad
    if pad == "valid":
        return 0, 0
    if pad == "full":
        return extent - 1, extent - 1
    total = max(0, (-(-n // s) - 1) * s + extent - n)  # ceil(n / s) outputs need so many
    less, more = total // 2, total - total // 2
    return (less, more) if pad == "same" else (more, less)


def known(word: Any, words: Sequence[str], name: str) -> str:
    """Return `word` if it is one of `words`."""
    if word not in words:
        raise ValueError(
            f"unknown {name} {word!r}: it is one of {', '.join(map(repr, words))}"
        )
    return word


def finite(value: Any, name: str) -> Any:
    """Return `value` if it is a real, finite number."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return value


def positive(value: Any, name: str) -> Any:
    """Return `value` if it is a real, finite number above 0."""
    if finite(value, name) <= 0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return value


def listed(penalties: Any) -> tuple[Any, ...]:
    """Return an iterable of penalties as a tuple."""
    if not isinstance(penalties, Iterable):
        raise TypeError(
            "penalties must be a sequence of (weight, L) or (weight, L, target), () for none, "
            f"got {type(penalties).__name__}"
        )
    return tuple(penalties)


def weight_and_operator(penalty: Any) -> tuple[float, Any]:
    """Return the weight and the operator of a penalty, without its target."""
    if not isinstance(penalty, (tuple, list)) or len(penalty) not in (2, 3):
        raise ValueError(
            "a penalty must be (weight, L) or (weight, L, target), got "
            + (f"{len(penalty)} entries" if hasattr(penalty, "__len__") else repr(penalty))
        )
    return weight(penalty[0], "the weight of a penalty"), penalty[1]


def weight(value: Any, name: str) -> float:
    """Return a weight as a float that is finite and not negative."""
    if not _is_real(value):
        raise TypeError(
            f"{name} must be a number, got {type(value).__name__}; for a weight per row "
            "use Diagonal(weights ** 0.5) @ L"
        )
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return float(value)


def tolerance(value: Any) -> float:
    """Return tol as a float of at least 0 and below 1."""
    if not _is_real(value):
        raise TypeError(f"tol must be a number, got {type(value).__name__}")
    if not 0 <= value < 1:
        raise ValueError(f"tol must be at least 0 and below 1, got {value}")
    return float(value)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
