"""Whose dtype a product has, where the user of an operator named none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from linconv.operators import LinearOperator

Make = TypeVar("Make", bound=Callable[..., Any])


def data_decides(make: Make) -> Make:
    """Decorate a function of a `dtype`: for None, data decide the dtype of products."""

    @functools.wraps(make)
    def wrapper(*args: Any, dtype: Any = None, **options: Any) -> LinearOperator:
        A = make(*args, dtype=float if dtype is None else dtype, **options)
        return A._yield(dtype)

    return wrapper  # type: ignore[return-value]
