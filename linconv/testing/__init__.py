"""Tests for operators, linconv's and other people's."""

from linconv.testing.adjoint import (
    AdjointError,
    AdjointReport,
    assert_adjoint,
    check_adjoint,
)

__all__ = ["AdjointError", "AdjointReport", "assert_adjoint", "check_adjoint"]
