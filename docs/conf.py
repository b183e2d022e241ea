"""Sphinx configuration. How to build the pages: docs/contributing.md."""

import os
import re

import skvae

project = "skvae"
author = "The skvae developers"
copyright = author  # noqa: A001 -- Sphinx's name
version = release = skvae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb"]
templates_path = ["_templates"]

# Markdown: headings can be linked to; formulas are written in words
myst_heading_anchors = 3

# Names in single backticks of docstrings are links where there is something to link to
default_role = "py:obj"

# The reference: one page for each public name
autosummary_generate = True
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
numpydoc_show_class_members = False  # the template of a class lists them
numpydoc_validation_checks = {
    "all",
    "ES01",  # an extended summary: not all need one
    "EX01",  # an example in every method: the class has one
    "GL01",  # the summary starts on the line of the quotes here
    "GL08",  # what has no docstring is private, or ruff finds it
    "PR07",  # X and y are explained by their type and shape where there is nothing to add
    "PR08",
    "PR09",  # types alone end without a full stop
    "RT02",  # what is returned has a name
    "RT03",  # as PR07
    "SA01",  # a See Also section in everything
}

# Methods of one line whose arguments the base class tells, and what only the library itself makes
numpydoc_validation_exclude = {
    r"^skvae\.likelihoods\.(?!Likelihood|Columnwise)\w+\.",
    r"^skvae\.priors\.(?!Prior|PriorModel)\w+\.",
    r"^skvae\.objectives\.(?!Objective)\w+\.",
    r"^skvae\.callbacks\.\w+\.",  # the hooks that scikit-learn calls
    r"^skvae\.(model|networks)\.\w+\.",
    r"^skvae\.model\.Terms$",
    r"^skvae\.networks\.ACTIVATIONS$",
    r"^skvae\.priors\.PriorModel$",  # its signature is that of torch's modules
}

html_theme = "pydata_sphinx_theme"
html_title = "skvae"
html_static_path = ["_static"]
html_css_files = ["skvae.css"]
html_show_sourcelink = False
html_sidebars = {"tutorial": []}  # it has no neighbours to list
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Examples. All run on data that scikit-learn bundles, but for one that needs images from the web:
# the path of a file of them in FASHION_MNIST lets it run as well.
CLOTHES = os.environ.get("FASHION_MNIST")


def example_arguments(gallery_conf, script_vars):
    """Return the command line that an example sees."""
    return ["--data", CLOTHES] if CLOTHES and "plot_clothes" in script_vars["src_file"] else []


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_" if CLOTHES else r"plot_(?!clothes)",
    "reset_argv": example_arguments,
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "abort_on_example_error": True,
}
suppress_warnings = ["config.cache"]  # a function in the configuration of the gallery

# scikit-learn makes these methods up for metadata routing; their docstrings link to its own pages
MADE_UP = re.compile(r"set_\w+_request")


def skip_member(app, what, name, obj, skip, options):
    """Leave methods out that the reference does not repeat."""
    return True if MADE_UP.fullmatch(name) else None


def setup(app):
    """Connect the above."""
    app.connect("autodoc-skip-member", skip_member)
