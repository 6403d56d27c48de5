"""The entry point to Numba: how loops are compiled, and whether they can be.

Importing this imports nothing; `compiled` and the modules that use it import Numba.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Seconds after which a first product is said to compile: loops from the disk take less.
_PATIENCE = 1.0
_known: set[tuple[Any, Any]] = set()


def inlined(function: Any) -> Any:
    """Return a function that `compiled` ones take in whole, so that it is compiled once."""
    return importlib.import_module("numba").njit(inline="always")(function)


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


@contextlib.contextmanager
def announced(function: Any, dtype: Any) -> Iterator[None]:
    """Say once, to logger "linconv" and a terminal, that loops for `dtype` are compiled.

    Nothing is said where the first call is quick, as it is with loops kept on disk.
    """
    if (function, dtype) in _known:
        yield
        return
    _known.add((function, dtype))
    message = f"linconv compiles its loops for {dtype}, once: a few seconds"
    timer = threading.Timer(_PATIENCE, _say, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(message: str) -> None:
    logging.getLogger("linconv").info(message)
    if sys.stderr is not None and sys.stderr.isatty():
        print(message, file=sys.stderr, flush=True)


def why_not() -> str:
    """Return why nothing can be compiled, or an empty string."""
    if importlib.util.find_spec("numba") is None:
        return "it needs Numba: pip install linconv[fast]"
    try:
        importlib.import_module("numba")  # which refuses a NumPy that is too new for it
    except ImportError as error:
        return f"Numba cannot be imported: {error}"
    return ""
