"""The order of the package's rooms: imports run downwards only."""

import ast
from pathlib import Path

import recbole_perpeft

PACKAGE = Path(recbole_perpeft.__file__).parent
# from the ground up: a room may import those of the floors below its own
FLOORS = (
    {"utils"},
    {"config", "content"},
    {"data", "encoder", "likeness"},
    {"grouping"},
    {"model", "evaluation"},
    {"trainer"},
    {"report"},
    {"quick_start"},
    {"experiments", "serving"},
    {"explain"},
    {"commands"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(file):
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("recbole_perpeft."))


def test_imports_run_downwards_only():
    files = [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE or room_of(file) in FLOOR]
    assert {room_of(file) for file in files} - {"properties", "dataset"} == set(FLOOR)
    upwards = [
        f"{file.relative_to(PACKAGE)} -> {room}"
        for file in files
        for room in imported_rooms(file)
        if room != room_of(file) and FLOOR[room] >= FLOOR[room_of(file)]
    ]
    assert not upwards


def test_no_other_module_lies_flat():
    assert {file.stem for file in PACKAGE.glob("*.py")} == {"__init__", "__main__", "quick_start"}
