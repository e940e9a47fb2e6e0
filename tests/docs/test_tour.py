"""The notebook runs from top to bottom, and is kept without what a run leaves in it."""

import ast
import json
from pathlib import Path

import pytest

from tests.interpreter import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def shown_by(code, names):
    """Execute a cell; gives its last expression's value as a notebook shows it. (A kernel would be 24 packages.)"""
    *statements, last = ast.parse(code).body
    exec(compile(ast.Module(statements, []), "<cell>", "exec"), names)
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), "<cell>", "exec"), names)
        return ""
    value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_pictures(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = {"__name__": "tour"}
    shown = [shown_by(code, names) for code in CODE]
    assert Path.cwd().is_relative_to(tmp_path)
    purchases = len(names["recommender"].history(names["user"])[-8:])
    assert [html.count("<img") for html in shown if "<img" in html] == [purchases + 5 * 8, 3 + 8, 1 + 8]
    assert "ndcg@20" in shown[2]
    assert "q_proj" in shown[-1]
    assert "it has rank" in capsys.readouterr().out


def test_the_notebook_is_kept_without_outputs():
    cells = NOTEBOOK["cells"]
    assert len(cells) > 15
    assert all(cell["metadata"] == {} for cell in cells)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
    assert NOTEBOOK["metadata"].keys() == {"kernelspec", "language_info"}
