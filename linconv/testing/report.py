"""The report of an adjoint test, frozen; it prints as text and displays as HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Code -> name of the check, in the order of the report.
CHECKS = {
    "C01": "arrays of the right shape",
    "C02": "dtype of the results",
    "C03": "inputs not modified",
    "C04": "same input, same result",
    "C05": "results not aliased",
    "C06": "finite results",
    "C07": "strided and read-only inputs",
    "C08": "matmat against columns",
    "C09": "several threads",
    "C10": "pickling",
    "L00": "zero in, zero out",
    "L01": "homogeneity",
    "L02": "additivity",
    "L03": "complex vectors",
    "A01": "adjoint, random block",
    "A02": "adjoint, structured probes",
    "A03": "adjoint, entry by entry",
    "E01": "exact: integer results",
    "E02": "exact: adjoint identity",
    "R01": "against the known matrix",
    "R02": "against the reference",
}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    code, name : str
        For example "A01" and "adjoint, random block".
    status : str
        "passed", "failed", "left out" or "not applicable".
    error, tolerance : float
        The largest measured error and the largest allowed one, in `unit`; nan if the
        check measures no error.
    unit : str
        "sigma" (standard deviations of the rounding noise), "u" (half the machine
        epsilon), or "" for an error without unit.
    trials : int
        The number of comparisons.
    message : str
        The faults, or the reason why the check does not apply.
    """

    code: str
    name: str
    status: str
    error: float = np.nan
    tolerance: float = np.nan
    unit: str = ""
    trials: int = 0
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether the check found no fault; True also for a check that did not run."""
        return self.status != "failed"

    def __str__(self) -> str:
        return f"{self.code} {self.name:<29} {self.status:<15}{self._detail()}".rstrip()

    def _detail(self) -> str:
        if self.message:
            return self.message
        if np.isnan(self.error):
            return f"{self.trials} trials" if self.trials else ""
        sign = "<=" if self.error <= self.tolerance else ">"
        figures = f"{self.error:.3g} {sign} {self.tolerance:.3g} {self.unit}".rstrip()
        return f"{figures}, {self.trials} trials"


@dataclass(frozen=True)
class Entry:
    """One wrong entry of the matrix: flat output and input index, and both values."""

    index: tuple[int, int]
    expected: complex
    got: complex

    def __str__(self) -> str:
        return f"{self.index} is {number(self.got)}, expected {number(self.expected)}"


def number(value: Any) -> str:
    """Write a number with six digits; omit a real or imaginary part that is noise."""
    value = complex(value)
    small = 1e-5 * abs(value)
    if abs(value.imag) <= small:
        return f"{value.real:.6g}"
    if abs(value.real) <= small:
        return f"{value.imag:.6g}j"
    return f"({value.real:.6g}{value.imag:+.6g}j)"


@dataclass(frozen=True)
class AdjointReport:
    """The findings of `check_adjoint`.

    Attributes
    ----------
    passed : bool
        Whether no check failed.
    subject : str
        The operator, in words.
    checks : tuple of CheckResult
        One per check; ``report["A01"]`` is the result of the check A01.
    causes : tuple of str
        The causes in words; "unknown" if no hypothesis explains the failure.
    entries : tuple of Entry
        Wrong entries of the matrix, if the diagnosis found any.
    error : float
        The largest ``|<A x, y> - <x, A^H y>| / (|A x| |y|)`` of the random block.
    resolution : float
        The smallest mismatch of forward and adjoint, relative to the Frobenius
        norm, that the random block detects with certainty.
    miss_probability : float or None
        The probability that exact mode misses a fault, of any size; None if it did not run.
    shape, dtype, level, seed
        Shape and dtype of the operator, level and seed of the test.
    products : (int, int)
        Forward and adjoint products used.
    seconds : float
        Time taken.
    """

    passed: bool
    subject: str
    shape: tuple[int, int]
    dtype: np.dtype
    level: str
    seed: int
    checks: tuple[CheckResult, ...]
    causes: tuple[str, ...]
    entries: tuple[Entry, ...]
    error: float
    resolution: float
    miss_probability: float | None
    products: tuple[int, int]
    seconds: float

    @property
    def diagnosis(self) -> str:
        """The causes as one line; empty if the operator passed."""
        return "; ".join(self.causes)

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def __getitem__(self, code: str) -> CheckResult:
        for check in self.checks:
            if code in (check.code, check.name):
                return check
        raise KeyError(f"no check is called {code!r}; there are {', '.join(CHECKS)}")

    @property
    def summary(self) -> str:
        """The verdict, the causes and the failed checks, as an AdjointError shows them."""
        return "\n".join([*self._verdict(), *(f"  {check}" for check in self.failed)])

    def _verdict(self) -> list[str]:
        lines = [self._headline()]
        lines += [f"  cause: {cause}" for cause in self.causes]
        return lines + [f"    entry {entry}" for entry in self.entries]

    def __str__(self) -> str:
        lines = self._verdict()
        lines += [f"  {check}" for check in self.checks if check.status != "left out"]
        left_out = [check.code for check in self.checks if check.status == "left out"]
        if left_out:
            lines.append(f"  left out: {', '.join(left_out)}")
        lines += [f"  {line}" for line in self._excludes()]
        return "\n".join(lines)

    def _headline(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        forward, adjoint = self.products
        shape = "" if f"shape {self.shape}" in self.subject else f"shape {self.shape}, "
        return (
            f"adjoint test {verdict}: {self.subject}, {shape}{self.dtype.name}, "
            f"level {self.level}, seed {self.seed}, {forward} + {adjoint} products, "
            f"{self.seconds:.3f} s"
        )

    def _excludes(self) -> list[str]:
        """Say how large a fault can be that the test missed."""
        lines = []
        if np.isfinite(self.resolution):
            lines.append(
                f"resolution: a mismatch above {self.resolution:.1e} of |A|_F would be found; "
                f"measured: {self.error:.1e} of |A x| |y|"
            )
        if self.miss_probability is not None:
            lines.append(
                f"exact mode: a fault of any size is missed with probability below "
                f"{self.miss_probability:.0e}"
            )
        return lines

    def _repr_html_(self) -> str:
        colour = {"passed": "#1a7f37", "failed": "#cf222e"}
        rows = "".join(
            f"<tr><td>{check.code}</td>"
            f"<td style='text-align:left'>{html.escape(check.name)}</td>"
            f"<td style='color:{colour.get(check.status, '#6e7781')}'>{check.status}</td>"
            f"<td style='text-align:left'>{html.escape(check._detail())}</td></tr>"
            for check in self.checks
        )
        head = html.escape(self._headline())
        causes = "".join(f"<li>{html.escape(cause)}</li>" for cause in self.causes)
        entries = "".join(
            f"<li>entry {html.escape(str(entry))}</li>" for entry in self.entries
        )
        foot = "<br>".join(html.escape(line) for line in self._excludes())
        shade = colour["passed" if self.passed else "failed"]
        return (
            f"<div><p style='color:{shade}'><b>{head}</b></p>"
            + (f"<ul>{causes}{entries}</ul>" if causes or entries else "")
            + "<table><thead><tr><th>code</th><th>check</th><th>status</th><th>found</th></tr>"
            + f"</thead><tbody>{rows}</tbody></table><p><small>{foot}</small></p></div>"
        )


class AdjointError(AssertionError):
    """An operator failed its test; the message is a summary, `report` the whole report."""

    def __init__(self, report: AdjointReport) -> None:
        super().__init__(report.summary)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        # pytest-xdist and multiprocessing send exceptions by pickle.
        return type(self), (self.report,)


def judge(
    code: str,
    faults: list[str],
    error: float = np.nan,
    tolerance: float = np.nan,
    unit: str = "",
    *,
    trials: int,
) -> CheckResult:
    """Return the result of a check that ran: "failed" if there is any fault."""
    status = "failed" if faults else "passed"
    figures = (float(error), float(tolerance), unit, trials)
    return CheckResult(code, CHECKS[code], status, *figures, "; ".join(faults))


@dataclass
class Tally:
    """Counts the comparisons of one check and keeps the largest error and every fault."""

    code: str
    unit: str = ""
    faults: list[str] = field(default_factory=list)
    error: float = 0.0
    tolerance: float = 0.0
    trials: int = 0

    def compare(self, error: float, tolerance: float, fault: str = "") -> bool:
        """Count one comparison; return whether the error is allowed, else keep the fault."""
        self.trials += 1
        self.error, self.tolerance = max(self.error, error), max(self.tolerance, tolerance)
        right = error <= tolerance
        self.faults += [fault] if fault and not right else []
        return right

    def result(self) -> CheckResult:
        """Return the result of the check."""
        figures = (self.error, self.tolerance, self.unit)
        return judge(self.code, self.faults, *figures, trials=self.trials)


def not_applicable(code: str, reason: str) -> CheckResult:
    """Return the result of a check that does not apply."""
    return CheckResult(code, CHECKS[code], "not applicable", message=reason)
