"""The entry point to Numba: compiles loops, and says whether that is possible.

Importing this file does not import Numba; `compiled` and `inlined` do.
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

# Seconds until a first product announces compilation; loading loops from disk takes less.
_PATIENCE = 1.0
_known: set[tuple[Any, Any]] = set()


def inlined(function: Any) -> Any:
    """Return a function that is inlined in functions that `compiled` compiles."""
    return importlib.import_module("numba").njit(inline="always")(function)


def compiled(function: Any) -> Any:
    """Return a function that is compiled at its first call and cached on disk.

    The compiled function runs without the interpreter's lock.
    """
    numba = importlib.import_module("numba")
    options = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba finds no writable directory
        return numba.njit(**options)(function)


@contextlib.contextmanager
def announced(function: Any, dtype: Any) -> Iterator[None]:
    """Log once, to logger "linconv" and a terminal, that loops for `dtype` are compiled.

    No message is logged where the first call is quick, as it is with loops cached on disk.
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
    """Return the reason why loops cannot be compiled, or an empty string."""
    if importlib.util.find_spec("numba") is None:
        return "it needs Numba: pip install linconv[fast]"
    try:
        numba = importlib.import_module("numba")  # raises where NumPy is too new
        disabled = bool(numba.config.DISABLE_JIT)
    except Exception as error:
        return f"Numba cannot be imported: {error}"
    return "Numba compiles nothing, NUMBA_DISABLE_JIT is set" if disabled else ""
