"""Imports go down only, no cycle; files and functions stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "linconv"
FLOORS = {
    "_html": 0,
    "_options": 0,
    "geometry": 0,
    "_arrays": 0,
    "_memory": 0,
    "stencils": 1,
    "assembly": 1,
    "_tables": 1,
    "_tiles": 1,
    "_kernels": 0,
    "_gpu": 0,
    "_stored": 1,
    "_gpu_assembly": 1,
    "_gpu_sums": 1,
    "_compiled": 0,
    "_vectors": 0,
    "_wide": 1,
    "_products": 1,
    "_map": 1,
    "linop": 1,
    "blocks": 2,
    "_lines": 1,
    "_columns": 1,
    "_steps": 1,
    "_squares": 2,
    "_course": 1,
    "_cgls": 2,
    "solvers": 2,
    "methods": 2,
    "methods._blocks": 2,
    "methods._loops": 2,
    "methods._side_by_side": 2,
    "methods.boxes": 2,
    "methods.columns": 2,
    "methods.cost": 2,
    "methods.direct": 2,
    "methods.fft": 2,
    "methods.gpu": 2,
    "methods.padding": 2,
    "methods.sparse": 2,
    "methods.sweep": 2,
    "methods.torch": 2,
    "testing": 2,
    "testing.adjoint": 2,
    "testing.arrays": 1,
    "testing.contracts": 2,
    "testing.diagnosis": 2,
    "testing.exact": 2,
    "testing.explain": 2,
    "testing.hypotheses": 2,
    "testing.identity": 2,
    "testing.interleave": 0,
    "testing.known": 2,
    "testing.linearity": 2,
    "testing.locate": 2,
    "testing.move_hypotheses": 2,
    "testing.opening": 2,
    "testing.pairs": 2,
    "testing.plugin": 2,
    "testing.inner": 0,
    "testing.probes": 0,
    "testing.report": 2,
    "testing.session": 2,
    "testing.shaped": 2,
    "testing.stencil_hypotheses": 2,
    "testing.strategies": 5,
    "testing.subject": 2,
    "testing.subjects": 2,
    "convolution": 3,
    "patches": 3,
    "_circulant": 4,
    "_sampling": 4,
    "imaging": 4,
    "spectrum": 4,
    "symbolic": 4,
    "__main__": 5,
    "": 6,
}
STANDARD_ONLY = {"_html", "_options", "geometry"}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Yield (module, whether it is imported at the top of the file)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in whole if name.removeprefix("linconv.") in FLOORS]
            found += [(name, id(node) in top) for name in known or [node.module]]
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: module(path) or "linconv")
def test_imports_go_down(path):
    assert module(path) in FLOORS, f"{module(path)} has no floor"
    for name, _ in imports(path):
        if name == "linconv" or name.startswith("linconv."):
            target = name.removeprefix("linconv").lstrip(".")
            assert FLOORS[target] <= FLOORS[module(path)] or module(path) == "__main__", (
                f"{module(path)} (floor {FLOORS[module(path)]}) imports {name}"
            )


def test_there_is_no_cycle():
    graph = {
        module(path): {
            name.removeprefix("linconv.")
            for name, _ in imports(path)
            if name.startswith("linconv.")
        }
        for path in FILES
    }

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        for target in graph.get(name, ()):
            visit(target, [*trail, name])

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("name", sorted(STANDARD_ONLY))
def test_the_ground_floor_needs_the_standard_library_only(name):
    foreign = [
        target
        for target, _ in imports(ROOT / f"{name}.py")
        if target.partition(".")[0] in ("numpy", "scipy", "cupy")
    ]
    assert foreign == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: module(path) or "linconv")
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{path.name}: {node.name} has {lines} lines"
