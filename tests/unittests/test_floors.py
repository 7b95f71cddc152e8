"""Tests that imports go down the floors of the house, never up.

Authors
 * qlung_plugin contributors
"""

import ast
from pathlib import Path

import pytest

import qlung_plugin

PACKAGE = Path(qlung_plugin.__file__).parent

# From the top. A room may use those below its floor, not those beside it.
FLOORS = [
    {"cli"},
    {"report"},
    {"inference"},
    {"runs"},
    {"figures"},
    {"scores"},
    {"training", "lobes", "augment", "synthetic"},
    {"dataio"},
    {"processing", "nnet"},
    {"utils", "pretrained"},
]


def imported_rooms(path):
    """Yields the line and the room of each import of this package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            if package == PACKAGE.name:
                yield node.lineno, rest[0]


def test_every_room_is_on_one_floor():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(rooms) == sorted(room for floor in FLOORS for room in floor)


@pytest.mark.parametrize("height", range(len(FLOORS)))
def test_imports_go_down(height):
    below = set().union(*FLOORS[height + 1 :])
    upwards = [
        f"{path.relative_to(PACKAGE)}:{line} imports {room}"
        for own in sorted(FLOORS[height])
        for path in sorted((PACKAGE / own).rglob("*.py"))
        for line, room in imported_rooms(path)
        if room not in below | {own, "__version__"}
    ]
    assert not upwards


def test_an_import_is_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import torch, qlung_plugin.report.page\n"
        "def late():\n"
        "    from qlung_plugin.runs.folder import RunFolder\n"
        "    from qlung_plugin import inference\n"
    )
    assert list(imported_rooms(path)) == [
        (1, "report"),
        (3, "runs"),
        (4, "inference"),
    ]
