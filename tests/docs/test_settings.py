"""The page of settings is that of the YAML files."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_settings_is_made_anew_when_they_change():
    made = runpy.run_path(str(DOCS / "make_settings.py"))["page"]()
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == made, "Run python docs/make_settings.py."
