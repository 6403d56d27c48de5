"""The causes that a diagnosis can name: their sentences, and the order of hypotheses.

Two modules use these tables: `matrices` compares whole matrices, `products` judges by
products with the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Name -> the sentence, or two sentences: for a wrong adjoint and for a wrong forward.
SENTENCES: dict[str, str | tuple[str, str]] = {
    "not finite": "the {what} has NaN or infinite entries",
    "precision": "{precision} inside a {dtype} operator{side}",
    "conjugate": (
        "the adjoint is the transpose: the conjugate is missing",
        "the forward is the conjugate of the true forward",
    ),
    "real part": "the {what} keeps only the real part",
    "adjoint": (
        "the adjoint is the forward itself: the transpose is missing",
        "the forward is the adjoint of the true forward",
    ),
    "transpose": (
        "the adjoint is the conjugate of the forward: the transpose is missing",
        "the forward is the transpose of the true forward",
    ),
    "scale": "{what} = {factor} x the true {what}{remark}",
    "weights": "the weights of the inner product are ignored",
    "boundary": "the boundary is treated as {rules} in the {what}{remark}",
    "single entry": "a single wrong entry{remark}",
    "few entries": "{count} wrong entries",
    "region": "wrong only {where}{how}",
    "near boundary": "wrong only near the boundary",
    "channels exchanged": "input and output channels are exchanged",
    "channel order": "the order of the {space} channels is wrong: {order}",
    "kernel axes": "{spatial}axes {a} and {b} of the kernel are exchanged",
    "axes": "axes {a} and {b} of the {space} are exchanged",
    "reversed": "the {what} correlates with the unflipped kernel{along}",
    "shift": "{phase}shifted {by}",
    "stride": "stride: the {what} advances by {got} along axis {axis}, "
    "the {true} by {expected}",
    "dilation": "dilation: the {what}'s taps are {got} apart along axis {axis}, the {true}'s "
    "{expected} apart",
    "factors": "scaled differently {along} of the {space}: {factors}",
    "one tap": "one tap of the kernel is {got} in the {what}, expected {expected}",
    "other taps": "the {what} has another kernel: {count} of {size} taps differ",
    "unknown": "unknown",
}

# Name -> the words for a part of the matrix; they complete "wrong only".
PLACES = {
    "sample": "in {space} {at}",
    "channel": "in {space} channel {at}",
    "index": "at index {at} along axis {axis} of the {space}",
    "tail": "in the last {count} samples of the {space}",
}

# Hypotheses without a parameter come first, then those with few and with many, such as the
# taps of a kernel.  Each must predict every entry of B, except "region", "near boundary" and
# "few entries", which only say where the wrong entries are.
ORDER = (
    "precision",
    "conjugate",
    "scale",
    "boundary",
    "single entry",
    "uniform region",
    "moves",
    "transpose",
    "shifts",
    "convolution",
    "factors",
    "rough precision",
    "one tap",
    "region",
    "near boundary",
    "other taps",
    "few entries",
)
_NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)


def say(name: str, what: str = "adjoint", **words: Any) -> str:
    """Return the sentence of a cause; `what` is the wrong part, "adjoint" or "forward"."""
    sentence = SENTENCES[name]
    if not isinstance(sentence, str):
        sentence = sentence[what == "forward"]
    return sentence.format(what=what, **words)


def place(name: str, **words: Any) -> str:
    """Return the words for a part of the matrix."""
    return PLACES[name].format(**words)


def slice_place(space: str, axis: int, at: int, channel: bool) -> str:
    """Return the words for one index along an axis, or for one channel."""
    return place("channel" if channel else "index", space=space, axis=axis, at=at)


def first_cause(hypotheses: Mapping[str, Callable[[], str | None]]) -> str:
    """Return the sentence of the first hypothesis that holds, in the order of `ORDER`."""
    found = (hypotheses[name]() for name in ORDER if name in hypotheses)
    return next(filter(None, found), say("unknown"))


def spelled(value: int) -> str:
    """Write a small integer as a word."""
    return _NUMBERS[value] if value < len(_NUMBERS) else str(value)


def shifted_by(by: int, axis: int, space: str) -> str:
    """Say how far something is shifted, and along which axis of a space."""
    return f"by {spelled(abs(by))} along axis {axis} of the {space}"
