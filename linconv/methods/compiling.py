"""The door to Numba: how this library compiles loops, and whether it can.

Importing this imports nothing; `compiled` and the modules that use it import Numba.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def compiled(function: Any) -> Any:
    """Return a function to be compiled when it is first called, and kept on disk.

    It runs without the interpreter's lock.
    """
    numba = importlib.import_module("numba")
    options = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no directory can be written to
        return numba.njit(**options)(function)


def why_not() -> str:
    """Return why nothing can be compiled, or an empty string."""
    if importlib.util.find_spec("numba") is None:
        return "it needs Numba: pip install linconv[fast]"
    try:
        importlib.import_module("numba")  # which refuses a NumPy that is too new for it
    except ImportError as error:
        return f"Numba cannot be imported: {error}"
    return ""
