"""A pytest plugin: the fixture `adjoint`, and the report of an adjoint test that failed.

pytest loads this plugin wherever linconv is installed, so it imports neither NumPy nor
SciPy until a test uses the fixture.  ``pytest -p no:linconv`` turns the plugin off.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import Any

import pytest

from linconv import testing

TITLE = "linconv: adjoint test"


class Adjoint:
    """The fixture `adjoint`: linconv's adjoint test with a default seed.

    Parameters
    ----------
    seed : int
        Seed of every call without the option ``seed=``.

    Examples
    --------
    >>> import linconv
    >>> adjoint = Adjoint(seed=2718)
    >>> adjoint.check(linconv.Conv([1.0, 2.0], 5)).passed
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, A: Any, *args: Any, **options: Any) -> Any:
        """Return the report of `linconv.testing.assert_adjoint`, or raise AdjointError."""
        __tracebackhide__ = True
        try:
            return testing.assert_adjoint(A, *args, **{"seed": self.seed, **options})
        except testing.AdjointError as error:
            raise error.with_traceback(None) from None  # show only the line of the test

    def check(self, A: Any, *args: Any, **options: Any) -> Any:
        """Return the report of `linconv.testing.check_adjoint`, passed or not."""
        return testing.check_adjoint(A, *args, **{"seed": self.seed, **options})


@pytest.fixture
def adjoint(request: pytest.FixtureRequest) -> Adjoint:
    """Test that an operator's rmatvec is the adjoint of its matvec.

    ``adjoint(A, **options)`` returns the report, and fails the test if a check failed;
    ``adjoint.check(A, **options)`` only returns the report.  The options are those of
    linconv.testing.check_adjoint.  The default seed, ``adjoint.seed``, comes from the
    test's name: every run of a test draws the same vectors.
    """
    return Adjoint(_seed(request.node))


def _seed(node: pytest.Item) -> int:
    # pytest-xdist appends the name of a test's group to node.nodeid, but not to the parent's.
    parent = "" if node.parent is None else node.parent.nodeid
    return zlib.crc32(f"{parent}::{node.name}".encode())


# Not wrapper=True: older versions of pytest lack it, but load this plugin too.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, Any, None]:
    """Add the report of an AdjointError to the output of a failed test."""
    outcome = yield
    error: Any = call.excinfo and call.excinfo.value
    if _is_ours(error):
        report = outcome.get_result()
        if report.failed:
            report.sections.append((TITLE, str(error.report)))


def _is_ours(error: BaseException | None) -> bool:
    """Return whether `error` is an AdjointError, without importing its module."""
    return any(
        kind.__name__ == "AdjointError" and kind.__module__.startswith("linconv.")
        for kind in type(error).__mro__
    )
