"""How Sphinx builds this site; `make docs` runs it, with warnings as errors.

Sphinx with MyST, because the pages are Markdown that reads well without being built, and because it renders the
docstrings of the package, as the sites of PyTorch and torchvision do.
"""

from botvision.version import __version__

project = "botvision"
author = "the authors of botvision"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
highlight_language = "text"
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"botvision {version}"
html_copy_source = False
