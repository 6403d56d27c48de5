"""Operators that go wrong when shared: between threads, or with another process.

The race of `Scratch` needs a switch of threads between two lines; a short sleep
there makes it certain instead of rare.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from broken.contracts import of
from broken.parts import Faithful, family

PAUSE = 2e-4


class Scratch(Faithful):
    """A scratch array filled on one line and used on the next."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__(matrix)
        self.scratch: dict[str, np.ndarray] = {}

    def matvec(self, x: Any) -> Any:
        fresh = np.zeros_like(x, shape=self.shape[1:])
        scratch = self.scratch.setdefault(x.dtype.char, fresh)
        scratch[...] = x.ravel()
        time.sleep(PAUSE)
        return (self.forward @ scratch).reshape(-1, *x.shape[1:])


class Attribute(Faithful):
    """The input parked in an attribute on its way to a helper."""

    def rmatvec(self, y: Any) -> Any:
        self.y = y.copy()
        return self._apply()

    def _apply(self) -> Any:
        time.sleep(PAUSE)
        return self.backward @ self.y


class ForgetsTaps(Faithful):
    """The taps are not in the state: a copy starts with its defaults."""

    def __getstate__(self) -> dict[str, Any]:
        return {"shape": self.shape, "dtype": self.dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(np.eye(*state["shape"], dtype=state["dtype"]))


class RoundsTaps(Faithful):
    """The taps are stored in half precision to keep files small."""

    def __getstate__(self) -> dict[str, Any]:
        dense = self.forward.toarray()
        parts = dense.real.astype(np.float16), dense.imag.astype(np.float16)
        return {"parts": parts, "dtype": self.dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        real, imag = state["parts"]
        dense = real + 1j * imag.astype(np.float64)
        self.__init__(
            (dense if state["dtype"].kind == "c" else dense.real).astype(state["dtype"])
        )


class NormalisesAgain(Faithful):
    """The adjoint is rebuilt from the forward with its factor twice."""

    def __getstate__(self) -> dict[str, Any]:
        return {"matrix": self.forward.toarray()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["matrix"])
        self.backward = 2 * self.backward


class Unreducible(Faithful):
    def __reduce__(self) -> Any:
        raise RuntimeError("holds a plan of a library that cannot save it")


class Unreadable(Faithful):
    """Written without complaint, not to be read again."""

    def __getstate__(self) -> dict[str, Any]:
        return {"matrix": self.forward.toarray()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise KeyError("kernel")


UNSAFE = "is not safe in several threads"
SHARING = [
    *family("threads",
        ("a shared scratch array", of(Scratch), rf"\bmatvec {UNSAFE}"),
        ("an argument in an attribute", of(Attribute), f"rmatvec {UNSAFE}"),
    ),
    *family("pickling",
        ("forgets its taps", of(ForgetsTaps), "pickling changes matvec"),
        ("rounds its taps", of(RoundsTaps), "pickling changes matvec"),
        ("normalises again", of(NormalisesAgain), "pickling changes rmatvec"),
        ("refuses to be pickled", of(Unreducible), "cannot be (un)?pickled"),
        ("cannot be read again", of(Unreadable), "cannot be (un)?pickled"),
    ),
]  # fmt: skip
