"""The Python of the README and of the docs runs as it stands."""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
if not find_spec("sklearn.callback"):  # scikit-learn < 1.9
    PAGES.remove(ROOT / "docs" / "progress.md")
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if CODE.search(page.read_text())],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}  # what functions take for their module
    for code in CODE.findall(page.read_text()):  # one after the other, as a reader would
        exec(compile(code, page.name, "exec"), names)
    plt.close("all")


MODULES = ["", ".callbacks", ".likelihoods", ".model", ".networks", ".objectives", ".priors"]
if not find_spec("sklearn.callback"):
    MODULES.remove(".callbacks")


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module):
    reference = (ROOT / "docs" / "reference" / "index.md").read_text()
    listed, current = {}, None
    for line in reference.splitlines():
        current = line.split()[-1] if "currentmodule::" in line else current
        listed.setdefault(current, set()).update(re.findall(r"^   (\w+)$", line))
    name = f"skvae{module}"
    assert set(importlib.import_module(name).__all__) == listed[name]
