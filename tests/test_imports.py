"""`import linconv` is light: NumPy waits until it is needed, optional libraries for ever."""

import subprocess
import sys

import pytest

import linconv
from linconv import testing

NUMERIC = ["numpy", "scipy", "linconv.operators", "linconv.convolution"]
OPTIONAL = [
    "cupy", "torch", "jax", "numba", "sympy", "matplotlib", "skimage", "tqdm", "hypothesis", "pytest",
    "pylops", "sigpy", "scico", "odl",
]  # fmt: skip
PACKAGES = (linconv, testing)


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_linconv_loads_no_optional_library():
    loaded = modules_after("import linconv, linconv.testing, linconv.symbolic")
    assert "linconv.symbolic" in loaded
    assert loaded.isdisjoint(OPTIONAL)


def test_importing_linconv_or_its_pytest_plugin_loads_not_even_numpy():
    loaded = modules_after("import linconv.testing")
    assert loaded.isdisjoint([*NUMERIC, *OPTIONAL])
    loaded = modules_after("import linconv.testing.plugin")
    assert loaded.isdisjoint({*NUMERIC, *OPTIONAL} - {"pytest"})


def test_using_every_public_name_loads_no_optional_library():
    loaded = modules_after("from linconv import *\nfrom linconv.testing import *")
    assert loaded.issuperset(NUMERIC)
    assert loaded.isdisjoint(OPTIONAL)


def test_a_name_loads_what_it_needs():
    assert modules_after("import linconv\nlinconv.Geometry").isdisjoint(NUMERIC)
    loaded = modules_after("import linconv\nlinconv.testing.check_adjoint")
    assert {"numpy", "linconv.testing.adjoint"} <= loaded


def test_the_command_line_loads_no_optional_library_until_it_needs_one():
    assert modules_after("import linconv.__main__").isdisjoint(OPTIONAL)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_exists_and_is_documented(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name).__doc__, f"{name} has no docstring"
        assert getattr(package, name) is vars(package)[name], f"{name} is looked up again"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_wrong_name_is_an_attribute_error_that_says_so(package):
    match = rf"module '{package.__name__}' has no attribute 'conv_matrx'"
    with pytest.raises(AttributeError, match=match) as caught:
        package.conv_matrx  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("conv_matrx", package)
    with pytest.raises(ImportError, match="cannot import name 'conv_matrx'"):
        exec(f"from {package.__name__} import conv_matrx")
