"""What a start waits for, each in a fresh interpreter."""

import ast

from tests.interpreter import ROOT, in_a_fresh_interpreter

PACKAGE = ROOT / "recbole_perpeft"


def test_a_model_of_recbole_waits_for_no_other_library_and_a_package_offers_what_it_imports_late(tiny_root, tmp_path):
    settings = {"data_path": str(tiny_root), "epochs": 1, "show_progress": False, "use_gpu": False, "state": "ERROR"}
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
import recbole_perpeft.quick_start as quick_start
config = quick_start.Config("BPR", "tiny", config_dict={settings!r})
_, trainer, train_data, _, _ = quick_start.prepare(config)
trainer._train_epoch(train_data, 0)
print([name for name in ("transformers", "peft", "torch._dynamo") if name in sys.modules])
from recbole_perpeft import content, encoder, model, trainer
for package in (content, encoder, model, trainer):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name, name
try:
    model.Nothing
except AttributeError as error:
    print(error)
"""
    waited_for, error = in_a_fresh_interpreter(code).splitlines()
    assert waited_for == "[]"
    assert error == "module 'recbole_perpeft.model' has no attribute 'Nothing'"


def test_help_waits_for_no_library_and_a_misspelt_setting_not_for_transformers():
    code = """
import sys
from recbole_perpeft.commands.run import main
ends = []
for words, slow in ((["--help"], ("torch", "recbole")), (["--lerning_rate=1"], ("transformers", "peft"))):
    try:
        main(words)
    except SystemExit as end:
        ends.append((end.code, [name for name in slow if name in sys.modules]))
print(ends)
"""
    assert in_a_fresh_interpreter(code).splitlines()[-1] == "[(0, []), (2, [])]"


def uses_recbole(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(name.split(".")[0] == "recbole" for name in names):
            return True
    return False


def test_each_room_that_uses_recbole_repairs_it():
    files = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if uses_recbole(file)]
    rooms = {file.parts[0] for file in files} - {"utils", "quick_start.py"}
    assert len(rooms) > 4
    assert [
        room for room in sorted(rooms) if "\ncompat.apply()" not in (PACKAGE / room / "__init__.py").read_text()
    ] == []
