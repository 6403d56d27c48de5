"""Tests for operators, linconv's and other people's.

`linconv.testing.strategies` draws them at random; it needs hypothesis and is
imported by name only.
"""

# Light, as `linconv` is: the pytest plugin imports this file into everybody's test runs.
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
