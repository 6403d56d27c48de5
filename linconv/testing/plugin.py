"""A pytest plugin: the fixture `adjoint`, and the report of an adjoint test that failed.

pytest loads it wherever linconv is installed, so importing it loads neither NumPy nor
SciPy, and it does nothing by itself.  ``pytest -p no:linconv`` turns it off.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import Any

import pytest

from linconv import testing

TITLE = "linconv: adjoint test"


class Adjoint:
    """The fixture `adjoint`: linconv's adjoint test with a seed of its own.

    Parameters
    ----------
    seed : int
        Of every test that names no other.

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
            raise error.with_traceback(None) from None  # the test's own line is enough

    def check(self, A: Any, *args: Any, **options: Any) -> Any:
        """Return the report of `linconv.testing.check_adjoint`, passed or not."""
        return testing.check_adjoint(A, *args, **{"seed": self.seed, **options})


@pytest.fixture
def adjoint(request: pytest.FixtureRequest) -> Adjoint:
    """Test that an operator's rmatvec is the adjoint of its matvec.

    ``adjoint(A, **options)`` fails the test unless it is and returns the report;
    ``adjoint.check(A, **options)`` only returns the report.  The options are those of
    linconv.testing.check_adjoint.  ``adjoint.seed`` depends on the test's name alone:
    every run draws the same vectors, every test its own; ``seed=`` sets another.
    """
    return Adjoint(_seed(request.node))


def _seed(node: pytest.Item) -> int:
    # Not node.nodeid: pytest-xdist appends the name of a test's group to it.
    parent = "" if node.parent is None else node.parent.nodeid
    return zlib.crc32(f"{parent}::{node.name}".encode())


# Not wrapper=True: an older pytest, too, must start where linconv is installed.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, Any, None]:
    """Add the report of an AdjointError to what pytest prints of a failed test."""
    outcome = yield
    error: Any = call.excinfo and call.excinfo.value
    if _is_ours(error):
        report = outcome.get_result()
        if report.failed:
            report.sections.append((TITLE, str(error.report)))


def _is_ours(error: BaseException | None) -> bool:
    """Tell whether `error` is an AdjointError, without importing what defines it."""
    return any(
        kind.__name__ == "AdjointError" and kind.__module__.startswith("linconv.")
        for kind in type(error).__mro__
    )
