"""The pytest plugin, in test runs of its own: each is a fresh process."""

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

import linconv
from linconv import testing
from linconv.testing import plugin

pytest_plugins = ["pytester"]

ROOT = Path(linconv.__file__).parent.parent
# The other plugin costs a second in every process.
OTHERS = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider")
ALONE = ("-p", "no:linconv", "-p", "linconv.testing.plugin")

OPERATORS = """
import numpy as np
import pytest
from linconv import Conv, LinearOperator


class Wrong(LinearOperator):
    def __init__(self):
        super().__init__(float, 4, 4)

    def _matmat(self, X):
        return 1 * X

    def _rmatmat(self, X):
        return 2 * X

"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on a file; the plugin is there, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)

    def run(text, *options, plugin=ALONE):
        pytester.makepyfile(OPERATORS + textwrap.dedent(text))
        return pytester.runpytest_subprocess(*OTHERS, *plugin, *options)

    return run


def seeds(result):
    return dict(re.findall(r"^(\w+) has seed (\d+)$", result.stdout.str(), re.M))


SEEDS = """
def test_one(adjoint):
    print("\\none has seed", adjoint.seed)

@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_two(adjoint, dtype):
    print(f"\\n{dtype} has seed", adjoint.seed)

class TestThree:
    @pytest.mark.xdist_group("slow")
    def test_one(self, adjoint):
        print("\\nthree has seed", adjoint.seed)
"""


def test_a_right_operator_passes_and_gives_its_report(run):
    result = run(
        """
        def test_right(adjoint):
            report = adjoint(Conv([1.0, 2.0, 3.0], 7))
            assert report.passed
            assert str(adjoint.seed) in str(report)

        def test_wrong_but_only_asked(adjoint):
            report = adjoint.check(Wrong())
            assert not report.passed
            assert str(adjoint.seed) in str(report)

        def test_another_seed(adjoint):
            assert "31415" in str(adjoint(Conv([1.0], 7), seed=31415))
            assert "27182" in str(adjoint.check(Conv([1.0], 7), seed=27182))
        """
    )
    result.assert_outcomes(passed=3)
    assert plugin.TITLE not in result.stdout.str()


WRONG = """
def test_wrong(adjoint):
    print("\\nwrong has seed", adjoint.seed)
    adjoint(Wrong())

def test_without_the_fixture():
    from linconv.testing import assert_adjoint
    assert_adjoint(Wrong(), seed=16180)

def test_expected(adjoint):
    from linconv.testing import AdjointError
    with pytest.raises(AdjointError, match="FAILED"):
        adjoint(Wrong())

def test_something_else():
    assert 1 == 2
"""


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["one process", "xdist"])
def test_a_failure_has_a_section_with_the_report_and_a_short_traceback(run, options):
    result = run(WRONG, "-rN", *options)
    result.assert_outcomes(failed=3, passed=1)
    text = result.stdout.str()
    sections = text.split(f"- {plugin.TITLE} -")[1:]
    assert len(sections) == 2
    for section, seed in zip(sections, (seeds(result)["wrong"], "16180"), strict=True):
        assert "adjoint test FAILED" in section
        assert re.search(rf"\b{seed}\b", section)
    failure = text[text.index("_ test_wrong _") : text.index("_ test_without_the_fixture _")]
    assert ">   " in failure
    assert "adjoint(Wrong())" in failure
    assert "plugin.py" not in failure
    assert f"{Path('testing', 'adjoint.py')}" not in failure


def test_seeds_depend_on_the_tests_name_alone(run):
    first = seeds(run(SEEDS, "-s"))
    assert first.keys() == {"one", "f4", "f8", "three"}
    assert len(set(first.values())) == 4
    assert seeds(run(SEEDS, "-s", "-k", "two or Three")).items() < first.items()
    groups = run(SEEDS, "-rP", "-n1", "--dist=loadgroup")
    assert seeds(groups) == first


def test_the_fixture_explains_itself(run):
    result = run("", "--fixtures")
    first, after = result.stdout.str().partition("adjoint -- ")[1:]
    assert first
    assert "Test that an operator's rmatvec is the adjoint of its matvec." in after


def test_pytest_finds_the_plugin_by_its_entry_point(run, pytester):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"linconv": "linconv.testing.plugin"}
    info = pytester.mkdir("linconv_by_entry_point-1.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: linconv-by-entry-point\n")
    (info / "RECORD").write_text("")
    (info / "entry_points.txt").write_text("[pytest11]\nlinconv = linconv.testing.plugin\n")
    run(SEEDS, plugin=()).assert_outcomes(passed=4)
    run(SEEDS, plugin=("-p", "no:linconv")).assert_outcomes(errors=4)


def test_an_unused_plugin_loads_nothing_heavy_even_when_tests_fail(run, pytester):
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = {"numpy", "scipy", "hypothesis", "torch", "jax", "linconv.linop"}
            print("loaded:", sorted(heavy.intersection(sys.modules)))
        """
    )
    pytester.makepyfile("def test_fails(): assert False\ndef test_passes(adjoint): pass")
    result = pytester.runpytest_subprocess(*OTHERS, *ALONE)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["loaded: [[][]]"])


def test_arguments_are_passed_on(monkeypatch):
    def recorded(*args, **options):
        return args, options

    monkeypatch.setattr(testing, "assert_adjoint", recorded)
    monkeypatch.setattr(testing, "check_adjoint", recorded)
    fixture = plugin.Adjoint(seed=2357)
    for function in (fixture, fixture.check):
        assert function("A", "B", level="quick") == (
            ("A", "B"),
            {"level": "quick", "seed": 2357},
        )
        assert function("A", seed=1113) == (("A",), {"seed": 1113})
