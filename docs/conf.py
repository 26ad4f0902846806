"""Sphinx's settings. To build: python -m sphinx -W -n -b html docs OUT. It needs the extra `docs`, and no server."""

import sys
from pathlib import Path

import django
from django.conf import settings
from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import sisy  # noqa: E402  found by the line above

# The reference is made from the code, and models exist only in a project.
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "sisy"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="only for building the docs",  # noqa: S106  nothing is signed with it
    USE_TZ=True,
)
django.setup()

project = "sisy"
author = "the sisy authors"
copyright = "the sisy authors"
release = version = sisy.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
exclude_patterns = ["_build", "explanation/speed-results.rst"]  # the latter is included by speed.rst
default_role = "literal"  # docstrings write `name` for code
highlight_language = "none"
nitpicky = True
nitpick_ignore_regex = [
    # Other projects' names, which could only be resolved with a network at hand.
    ("py:.*", r"(asyncio|channels|collections|datetime|django|os|types|typing|uuid|zoneinfo)\..*"),
    ("py:.*", r"ValidationError|Task\.(DoesNotExist|MultipleObjectsReturned)"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what an argument is, and in which unit
napoleon_numpy_docstring = False
add_module_names = False

HIDDEN_COLON = "\ue000"


def hide_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep napoleon from reading "The zone: its own or the project's." of an attribute as "type: description"."""
    if what in ("attribute", "data", "property"):
        lines[:] = [line.replace(":", HIDDEN_COLON) for line in lines]


def show_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(HIDDEN_COLON, ":") for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", hide_colons, priority=400)  # napoleon has the usual 500
    app.connect("autodoc-process-docstring", show_colons, priority=600)


smartquotes = False  # a quote in an option's help is one of Python
html_theme = "furo"
html_title = f"sisy {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wrap.css"]
