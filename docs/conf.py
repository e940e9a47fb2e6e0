"""The site: ``sphinx-build -W -q -j auto -c docs . build/site``.

Its source is the root of the repository, so that every link that works on a forge lies within the site.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
INDEX = "docs/index"

project = "recbole_perpeft"
copyright = "2026, the recbole_perpeft developers"
extensions = ["myst_parser", "autoapi.extension", "sphinx.ext.napoleon"]

root_doc = INDEX
include_patterns = ["README.md", "docs/**", "benchmarks/**.md", "dataset/demo/README.md"]
exclude_patterns = ["build", ".venv", "saved", "log", "log_tensorboard"]
suppress_warnings = [
    "toc.not_included",  # results and the demo's page are reached by links; a test holds that index.md has all others
    "autoapi.python_import_resolution",  # constants that are assigned several in a line
    "ref.python",  # types in words, such as "path", that are also the names of several attributes
]

myst_heading_anchors = 4
html_theme = "furo"
html_title = "recbole_perpeft"

# the API reference: read from the sources, which need not be importable
autoapi_dirs = [str(ROOT / "recbole_perpeft")]
autoapi_root = "docs/api"
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_python_class_content = "class"
autoapi_add_toctree_entry = False
napoleon_google_docstring = False
napoleon_use_ivar = True


def add_toctree(app, docname: str, source: list[str]) -> None:
    """The index's table of pages is the order of the site; a toctree in the page would be noise on a forge."""
    if docname == INDEX:
        pages = re.findall(r"\]\(([\w.]+)\.md\)", source[0])
        tree = "\n".join(["../README", *pages, "../benchmarks/README", "api/recbole_perpeft/index"])
        source[0] += f"\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{tree}\n```\n"


def link_notes(app, docname: str, source: list[str]) -> None:
    """A link to a folder shows its files on a forge, and its note or README in the site; else it is text there."""
    here = (ROOT / docname).parent

    def linked(match: re.Match) -> str:
        text, target = match.groups()
        folder = here / target
        page = next((name for name in ("note.md", "README.md") if (folder / name).is_file()), None)
        if not folder.is_dir():
            return match[0]
        return f"[{text}]({target.rstrip('/')}/{page})" if page else text

    source[0] = re.sub(r"\[([^\]]*)\]\(([^)#:]+)\)", linked, source[0])


def add_entrance(app, exception: Exception | None) -> None:
    """Write the index.html that a server looks for at the site's root."""
    if exception is None and app.builder.format == "html":
        target = f"{INDEX}.html"
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><a href="{target}">{project}</a>'
        Path(app.outdir, "index.html").write_text(page + "\n")


def setup(app) -> dict:
    """Connect what is above."""
    app.connect("source-read", add_toctree)
    app.connect("source-read", link_notes)
    app.connect("build-finished", add_entrance)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
