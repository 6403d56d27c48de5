"""How right-hand sides lie in an array, which x0, targets and solutions follow.

Flat arrays are read as `A @ x` reads them, shaped arrays as `A(x)` does; nothing depends on
how many right-hand sides there are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from linconv import _arrays


class Layout:
    """One vector (m,), columns (..., m, k), or a batch of shaped arrays (*lead, *shape)."""

    def __init__(self, shape: tuple[int, ...], out_shape: tuple[int, ...], name: str) -> None:
        m, d = math.prod(out_shape), len(out_shape)
        shaped = d > 1 and shape[-d:] == out_shape
        self.kind, self.lead, self.count = "vector", (), 1
        if shaped:
            self.kind, self.lead = "batch", shape[: len(shape) - d]
            self.count = math.prod(self.lead)
        elif len(shape) > 1 and shape[-2] == m:
            self.kind, self.lead = "columns", shape[:-2]
            self.count, self.k = math.prod(self.lead) * shape[-1], shape[-1]
        elif shape != (m,):
            self.count = 0
        if not self.count:
            batch = f" or (*batch, {str(out_shape)[1:]}" if d > 1 else ""
            rows = len(shape) > 1 and shape[-1] == m
            hint = f"; for rows (..., {m}) pass {name}.swapaxes(-1, -2)" if rows else ""
            raise ValueError(
                f"{name} must have shape ({m},), (..., {m}, k){batch} for k > 0, got "
                f"{shape}{hint}"
            )

    def columns(self, value: Any, shape: tuple[int, ...], name: str) -> Any:
        """Return b, x0 or a target as columns, one for every right-hand side.

        One vector, flat or of `shape`, stands for all right-hand sides.
        """
        rows = math.prod(shape)
        xp = _arrays.namespace(value)
        expected = {
            "vector": (rows, 1),
            "columns": (*self.lead, rows, getattr(self, "k", 1)),
            "batch": (*self.lead, *shape),
        }[self.kind]
        if value.shape == expected and self.kind == "batch":
            return value.reshape(-1, rows).T
        if value.shape == expected:
            return np.moveaxis(value, -2, 0).reshape(rows, self.count)
        if value.shape in ((rows,), shape):
            return value.reshape(rows, 1) + xp.zeros((1, self.count), value.dtype)
        shapes = " or ".join(map(str, dict.fromkeys([(rows,), shape, expected])))
        raise ValueError(f"{name} must have shape {shapes}, got {value.shape}")

    def solution(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Return columns (n, count) in the layout of b, for arrays of `shape`."""
        if self.kind == "vector":
            return x[:, 0]
        if self.kind == "batch":
            return x.T.reshape(*self.lead, *shape)
        if not self.lead:
            return x
        return np.moveaxis(x.reshape(len(x), *self.lead, self.k), 0, -2)
