"""`import linconv` is light: optional libraries stay behind their doors."""

import subprocess
import sys

HEAVY = [
    "cupy",
    "torch",
    "jax",
    "numba",
    "sympy",
    "matplotlib",
    "skimage",
    "tqdm",
    "hypothesis",
    "pytest",
    "pylops",
]


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_linconv_loads_no_optional_library():
    loaded = modules_after("import linconv, linconv.testing, linconv.symbolic")
    assert "linconv.convolution" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_command_line_loads_no_optional_library_until_it_needs_one():
    assert modules_after("import linconv.__main__").isdisjoint(HEAVY)


def test_every_public_name_exists_and_is_documented():
    import linconv

    for name in linconv.__all__:
        assert getattr(linconv, name).__doc__, f"{name} has no docstring"
