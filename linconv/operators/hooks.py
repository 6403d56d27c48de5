"""Hooks of operators, which compute products: their results are checked here.

Nothing that a user's class or another library returns reaches compiled loops unchecked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from linconv import _arrays

# Hooks that a subclass implements.
HOOKS = {"_matmat", "_rmatmat", "_tmatmat", "_matvec", "_rmatvec"}


def by_columns(product: Callable[[Any], Any], X: Any, rows: int) -> Any:
    """Return the products with the columns of X, one after the other; (n, b) -> (rows, b)."""
    columns = [vector(product(X[:, i]), rows) for i in range(X.shape[1])]
    xp = _arrays.namespace(X)
    return xp.stack(columns, axis=1) if columns else xp.zeros((rows, 0), X.dtype)


def vector(y: Any, rows: int) -> Any:
    """Return a product as a vector of `rows` numbers, whatever its shape."""
    y = y if _arrays.on_device(y) else np.asarray(y)
    if y.size != rows or y.dtype.kind not in "biufc":
        raise ValueError(
            f"a product has shape {y.shape} and dtype {y.dtype}, expected {rows} numbers"
        )
    return y.reshape(rows)


def checked(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook of a subclass outside linconv whose result is checked."""

    @functools.wraps(hook)
    def check(self: Any, X: Any) -> Any:
        rows = self.shape[0 if name in ("_matmat", "_matvec") else 1]
        Y, expected = hook(self, X), (rows, *X.shape[1:])
        if isinstance(X, np.ndarray):
            Y = np.asarray(Y)
        if getattr(Y, "shape", None) != expected or type(Y) is not type(X):
            raise ValueError(
                f"{type(self).__name__}.{name} must return an array of shape {expected}, got "
                f"{type(Y).__name__} of shape {getattr(Y, 'shape', None)}"
            )
        if Y.dtype.kind not in "biufc":
            raise TypeError(
                f"{type(self).__name__}.{name} must return numbers, got dtype {Y.dtype}"
            )
        return Y

    return check
