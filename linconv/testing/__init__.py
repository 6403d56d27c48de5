"""Tests for linear operators, of linconv and of other libraries.

`linconv.testing.strategies` draws random operators; it needs hypothesis, so it is
imported by name only.
"""

# Imports nothing heavy: the pytest plugin loads this file wherever linconv is installed.
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linconv.testing.adjoint import AdjointError as AdjointError
    from linconv.testing.adjoint import AdjointReport as AdjointReport
    from linconv.testing.adjoint import assert_adjoint as assert_adjoint
    from linconv.testing.adjoint import check_adjoint as check_adjoint

__all__ = ["AdjointError", "AdjointReport", "assert_adjoint", "check_adjoint"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.adjoint"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
