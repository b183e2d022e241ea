"""Every public name is documented as it is, and tested."""

import ast
import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import skvae

ROOT = Path(__file__).parents[1]
MODULES = ["skvae", "skvae.likelihoods", "skvae.priors", "skvae.objectives", "skvae.networks"]
if find_spec("sklearn.callback"):  # scikit-learn 1.9 on
    MODULES.append("skvae.callbacks")
PUBLIC = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module in MODULES
    for name in importlib.import_module(module).__all__
}
DOCUMENTED = {name: thing for name, thing in PUBLIC.items() if callable(thing)}  # data have no docstring
NONE = inspect.Parameter.empty
ENTRY = re.compile(r"^(?P<names>[*\w]+(, [*\w]+)*)( : (?P<kind>.*))?$")
ENTRIES = {  # by qualified name of a callable
    **DOCUMENTED,
    **{
        f"{owner}.{name}": method
        for owner, cls in DOCUMENTED.items()
        if inspect.isclass(cls)
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("_")
    },
}


def section(doc, title):
    """Return the lines of a section of a numpydoc docstring, or None."""
    lines = inspect.cleandoc(doc).splitlines()
    heads = [i for i in range(len(lines) - 1) if re.fullmatch("-{3,}", lines[i + 1])]
    for start, end in zip(heads, [*heads, len(lines)][1:], strict=True):
        if lines[start] == title:
            assert len(lines[start + 1]) == len(title), f"underline {title}"
            return lines[start + 2 : end]
    return None


def documented_parameters(doc):
    """Map the names of the section Parameters to the default written there."""
    found = {}
    for line in section(doc, "Parameters") or []:
        entry = ENTRY.match(line)
        if entry:
            default = re.search(r"default=(.*)$", entry["kind"] or "")
            found |= dict.fromkeys(entry["names"].split(", "), value_of(default[1]) if default else NONE)
    return {name: value for name, value in found.items() if not name.startswith("*")}


def value_of(text):
    """Return what a default in a docstring means; the text itself if it is no literal."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def true_parameters(thing):
    """Map the names of a signature to the defaults."""
    found = {}
    for name, parameter in inspect.signature(thing).parameters.items():
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            default = NONE if parameter.default is parameter.empty else parameter.default
            found[name] = "NaN" if default != default else default
    return found


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_has_a_docstring(name):
    doc = DOCUMENTED[name].__doc__
    assert doc
    assert doc.splitlines()[0].endswith((".", ":")), "one line that ends in a full stop"


def needs_parameters(name, thing):
    """Whether a section Parameters is a must: of functions, and of what users call."""
    of_skvae = name.startswith("skvae.") and name.split(".")[1] in skvae.__all__
    return (of_skvae or name in DOCUMENTED) and bool(true_parameters(thing))


@pytest.mark.parametrize("name", ENTRIES)
def test_parameters_are_those_of_the_signature(name):
    thing = ENTRIES[name]
    if needs_parameters(name, thing) or section(thing.__doc__ or "", "Parameters"):
        assert documented_parameters(thing.__doc__) == true_parameters(thing)
        assert list(documented_parameters(thing.__doc__)) == list(true_parameters(thing))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_named_by_a_test(name):
    word = re.compile(rf"\b{name.split('.')[-1]}\b")
    tests = [path for path in (ROOT / "tests").glob("test_*.py") if path != Path(__file__)]
    assert any(word.search(path.read_text()) for path in tests)


# -- tables of parameters in README and docs ----------------------------------------------------------

PARAMETER_ROW = re.compile(r"^\| `(?P<names>\w+(?:`, `\w+)*)` \| (?P<default>[^|]*?) \|", re.MULTILINE)
PARAMETER_TABLE = re.compile(
    r"^\| *(parameter|option) *\| *default *\|.*\n\|[-| ]+\n((?:\|.*\n)+)", re.MULTILINE
)
OWNERS = {"parameter": skvae.VAETransformer, "option": skvae.likelihoods.Mixed}


def mismatches(text):
    """Return the rows of the tables with a column "default" that tell the untrue."""
    wrong = []
    for head, table in PARAMETER_TABLE.findall(text):
        true = true_parameters(OWNERS[head])
        for row in PARAMETER_ROW.finditer(table):
            names = row["names"].split("`, `")
            told = [value_of(part.strip().strip("`")) for part in row["default"].split(", ")]
            told = told * len(names) if len(told) == 1 else told
            pairs = zip(names, told, strict=True)
            wrong += [(name, value) for name, value in pairs if true.get(name, NONE) != value]
    return wrong


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name
)
def test_tables_of_parameters_tell_the_truth(path):
    assert mismatches(path.read_text()) == []


def test_an_untrue_table_is_found():
    table = (
        "| parameter | default | meaning |\n|---|---|---|\n"
        '| `n_components` | {} | latents |\n| `{}` | "auto" | epochs |\n'
    )
    assert mismatches(table.format(16, "max_iter")) == []
    assert mismatches(table.format(8, "max_iter")) == [("n_components", 8)]
    assert mismatches(table.format(16, "epochs")) == [("epochs", "auto")]


# -- docstrings that the tests above would refuse -----------------------------------------------------


def told_badly(rows, n_draws=100):
    """Do something.

    Parameters
    ----------
    rows : ndarray, default=None
    n_draw : int, default=10
    """


def test_an_untrue_docstring_is_found():
    assert true_parameters(told_badly) == {"rows": NONE, "n_draws": 100}
    assert documented_parameters(told_badly.__doc__) == {"rows": None, "n_draw": 10}
