"""How Sphinx builds the site: ``make docs``. The reference is made from the code as it is built."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "ncf-pipeline"
author = "the authors of ncf-pipeline"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "off"  # the outputs are kept; tests/test_docs.py executes it
autodoc_typehints = "signature"
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # pages link to headings as they do where the files are read by themselves
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"  # its fonts are the reader's own: no page asks a network for anything
html_title = project
html_show_sphinx = False
html_copy_source = False


def make_reference(app: Sphinx) -> None:
    """Write the pages that are made from the code."""
    from reference import write

    write(HERE / "reference")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", make_reference)
