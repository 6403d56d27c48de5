"""The heading of the scripts' tables, and calls that take turns."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import scipy


def heading() -> str:
    """Return the day, the machine and the versions."""
    return (
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, SciPy {scipy.__version__}"
    )


def in_turn(
    calls: dict[str, Callable], rounds: int, *, twice: bool = False
) -> dict[str, list[float]]:
    """Return the seconds of each call by round; every other round goes backwards.

    The caches are full of the last call's data: `twice` times the second of two calls.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for i in range(rounds):
        for name, call in list(calls.items())[:: (-1) ** i]:
            if twice:
                call()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds
