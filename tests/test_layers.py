"""Imports point downward only."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skvae"

# from the bottom up; a module imports from lower rows only, so those of one row do not know each other
LAYERS = [
    ["_typing"],
    ["_values"],
    [
        "_threads",
        "_products",
        "_random",
        "_compat",
        "_files",
        "_frames",
        "_heaps",
        "_series",
        "_versions",
        "_kernels",
    ],
    ["_arrays", "_cells", "_statistics"],
    [
        "_rows",
        "_marginals",
        "_observation",
        "_prior",
        "_mixture",
        "_flow",
        "_tree",
        "_adam",
        "_lookup",
        "_order",
        "_posterior",
        "_recording",
        "_branches",
    ],
    ["_terms", "_mixed", "_joint", "_replay"],
    ["likelihoods", "priors", "objectives", "networks"],
    ["columns", "model", "_holes"],
    ["training", "_validation"],  # the latter turns the names that users type into objects
    ["_defaults"],  # and this one "auto" into numbers
    ["_reading"],  # what an estimator's methods are given, into matrices
    ["_fitting"],
    ["transformer"],
    ["_display"],
    ["_mosaic"],
    ["_display_images", "_display_tables"],
    ["plotting", "privacy", "callbacks", "outlier", "imputer", "oversampler"],
    ["persistence", "export"],  # of all of these
    ["__init__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
DEPENDENCIES = {"joblib", "numpy", "scipy", "sklearn", "torch"}  # what may be imported at the top of a module
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


every_file = pytest.mark.parametrize("path", FILES, ids=module_name)


def imported(tree):
    """Yield (absolute name, names from it, node) of all imports, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "the package is flat"
            own = "skvae." if node.level and node.module else "skvae" if node.level else ""
            yield own + (node.module or ""), [alias.name for alias in node.names], node


def own_modules(tree):
    """Names of the modules of skvae that a tree imports."""
    found = set()
    for module, names, _ in imported(tree):
        if module == "skvae":
            found |= {name if name in LEVEL else "__init__" for name in names} or {"__init__"}
        elif module.startswith("skvae."):
            found.add(module.removeprefix("skvae."))
    return found


def violations(name, tree):
    return {other for other in own_modules(tree) if LEVEL[other] >= LEVEL[name]}


@every_file
def test_every_file_has_a_layer(path):
    assert module_name(path) in LEVEL, "give the new module a row in LAYERS"


@every_file
def test_imports_point_downward(path):
    assert violations(module_name(path), ast.parse(path.read_text())) == set()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("model", "from .training import train"),
        ("priors", "from . import likelihoods"),
        ("networks", "def f():\n    from skvae.objectives import ELBO"),
        ("_arrays", "import skvae.model"),
        ("training", "from skvae import VAETransformer"),
        ("outlier", "from .imputer import VAEImputer"),
    ],
)
def test_an_upward_import_is_found(name, source):
    assert violations(name, ast.parse(source))


@every_file
def test_optional_libraries_are_imported_at_use(path):
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {module.split(".")[0] for module, _, _ in imported(ast.Module(top, []))}
    assert roots <= DEPENDENCIES | {"skvae"} | sys.stdlib_module_names


@every_file
def test_no_private_name_of_another_module(path):
    """Names with an underscore stay in their module; only modules themselves carry one."""
    names = {
        name
        for module, names, _ in imported(ast.parse(path.read_text()))
        if module.split(".")[0] == "skvae" or (module.split(".")[0] == "sklearn" and path.stem != "_compat")
        for name in names
    }
    assert {name for name in names if name.startswith("_")} <= set(LEVEL)
