"""Imports go down from room to room through their entry points; files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "linconv"
# From the roof down: a room may import the rooms that follow it, and no other.
ROOMS = [
    "__main__",
    "__init__",
    "testing",
    "spectrum",
    "imaging",
    "solvers",
    "patches",
    "convolution",
    "operators",
    "methods",
    "gpu",
    "symbolic",
    "assembly",
    "_arrays",
    "geometry",
    "_options",
]
# The rooms and files of the harness, in the same order.
HARNESS = ["plugin", "__init__", "strategies", "adjoint"]
HARNESS += ["diagnosis", "checks", "subjects", "report"]
STANDARD_ONLY = {"geometry", "_options"}
# Names of a room's private files, which tests of arguments and kernels may import.
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Return the modules that a file imports; names of linconv with their module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            whole = node.module == "linconv"
            names = [f"linconv.{alias.name}" for alias in node.names]
            found += names if whole else [node.module]
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_go_down_and_through_the_entry_points(path):
    here = room(path)
    assert here in ROOMS, f"{here} is no room of the plan"
    if here == "__init__":  # names every room; imports none when it is imported
        return
    for name in imports(path):
        package, _, rest = name.partition(".")
        there, _, inner = rest.partition(".")
        if package != "linconv" or there == here or here == "__main__":
            continue
        assert there in ROOMS[ROOMS.index(here) :], f"{named(path)} imports {name}, upwards"
        assert not inner, f"{named(path)} imports {name}, past the entry point of {there}"


@pytest.mark.parametrize("path", sorted((ROOT / "testing").rglob("*.py")), ids=named)
def test_imports_of_the_harness_go_down_its_rooms(path):
    here = path.relative_to(ROOT / "testing").parts[0].removesuffix(".py")
    for name in imports(path):
        there, _, inner = name.removeprefix("linconv.testing.").partition(".")
        if name.startswith("linconv.testing.") and there != here:
            assert there in HARNESS[HARNESS.index(here) + 1 :], (
                f"{named(path)}: {name}, upwards"
            )
            assert not inner, f"{named(path)} imports {name}, past the entry point of {there}"


@pytest.mark.parametrize("name", sorted(STANDARD_ONLY))
def test_the_ground_floor_needs_the_standard_library_only(name):
    foreign = {target.partition(".")[0] for target in imports(ROOT / f"{name}.py")}
    assert foreign.isdisjoint({"numpy", "scipy", "cupy"})


def test_no_other_private_modules_lie_beside_the_rooms():
    flat = {path.stem for path in ROOT.glob("_*.py")} - {"__init__", "__main__"}
    assert flat == {"_arrays", "_options"}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 600
    loops = "loops" in path.name
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= 40, f"{path.name}: {node.name} has {lines} lines"
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        count = len([name for name in names if name not in ("self", "cls")])
        most = 10 if loops else 8
        assert count <= most, f"{path.name}: {node.name} takes {count} positional arguments"
