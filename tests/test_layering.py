"""Who imports whom: the contract nothing of ours, gateware no software, simulators no compiler."""

import ast
from pathlib import Path

import pytest

import coprune_hw
import coprune_sim

HARDWARE = Path(coprune_hw.__file__).parent
SIMULATORS = Path(coprune_sim.__file__).parent
OURS = {"coprune", "coprune_hw", "coprune_sim"}


def imported_modules(path: Path, *, package: str) -> set[str]:
    """Absolute names of the modules that a file of `package` imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            prefix = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*prefix, *filter(None, [node.module])])
            # `from package import module` imports the module too.
            modules |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return modules


def imports_of_ours(folder: Path, *, root: str) -> dict[str, set[str]]:
    """Our modules that each file below `folder` imports; `root` is the folder's package."""
    result = {}
    for path in sorted(folder.rglob("*.py")):
        package = ".".join([root, *path.parent.relative_to(folder).parts])
        modules = imported_modules(path, package=package)
        name = path.relative_to(folder).as_posix()
        result[name] = {module for module in modules if module.split(".")[0] in OURS}
    assert result, f"{folder} has no Python files"
    return result


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_contract_imports_nothing_of_ours():
    for name, modules in imports_of_ours(HARDWARE / "contract", root="coprune_hw.contract").items():
        outside = {module for module in modules if not is_within(module, "coprune_hw.contract")}
        assert not outside, name


@pytest.mark.parametrize("room", ["gateware", "link", "system"])
def test_designs_import_only_hardware(room):
    for name, modules in imports_of_ours(HARDWARE / room, root=f"coprune_hw.{room}").items():
        assert all(is_within(module, "coprune_hw") for module in modules), name


def test_simulators_never_import_the_compiler():
    for name, modules in imports_of_ours(SIMULATORS, root="coprune_sim").items():
        assert not any(is_within(module, "coprune") for module in modules), name


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("import coprune.compiler", "coprune.compiler"),
        ("from coprune import compiler", "coprune.compiler"),
        ("def f():\n    from coprune_sim.machine import run", "coprune_sim.machine"),
        ("from ..gateware import array", "coprune_hw.gateware.array"),
        ("from . import planes", "coprune_hw.contract.planes"),
        ("from .planes import locate", "coprune_hw.contract.planes"),
    ],
)
def test_sees_an_import(tmp_path, statement, module):
    path = tmp_path / "file.py"
    path.write_text(statement)
    assert module in imported_modules(path, package="coprune_hw.contract")
