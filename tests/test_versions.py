"""What show_versions prints."""

import re
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import torch

import skvae
from skvae._versions import PACKAGES, package_versions

ROOT = Path(__file__).parents[1]
LOWEST = ROOT / "tests" / "constraints-lowest.txt"


def test_it_prints_versions_and_what_torch_can_do(capsys):
    assert skvae.show_versions() is None
    out = capsys.readouterr().out
    lines = dict(line.strip().split(": ", 1) for line in out.splitlines() if ": " in line)
    assert lines["skvae"] == skvae.__version__
    assert lines["scikit-learn"] == version("scikit-learn")
    assert lines["torch"] == version("torch")
    assert lines["threads"] == str(torch.get_num_threads())
    assert lines["CUDA build"] == str(torch.version.cuda)
    assert lines["AVX512-BF16"] in ("True", "False", "None")
    for word in ("System:", "Python dependencies:", "torch:"):
        assert word in out


def test_what_is_absent_is_told(monkeypatch):
    monkeypatch.setattr("skvae._versions.PACKAGES", ("numpy", "no-such-package"))
    assert package_versions()["no-such-package"] is None


def test_every_dependency_is_told():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = {"docs", "test"}
    wishes = [
        *project["dependencies"],
        *(wish for name in extras if name not in tools for wish in extras[name]),
    ]
    assert {re.split(r"[<>=!~\[; ]", wish)[0] for wish in wishes} <= set(PACKAGES)


def test_the_lowest_versions_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wishes = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    lowest = dict(line.split("==") for line in LOWEST.read_text().splitlines() if "==" in line)
    for wish in wishes:
        name, _, least = wish.partition(">=")
        if name in lowest:
            assert f"{lowest[name]}.".startswith(f"{least}."), wish
    builders = {wish.partition(">=")[0] for wish in project["optional-dependencies"]["docs"]}
    needed = {wish.partition(">=")[0] for wish in wishes if ">=" in wish}
    assert needed - builders <= set(lowest)
