"""Imports go one way: each module of coursekit imports only from the layers below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "coursekit"

# A module may import from layers to its left, and within its own package.
LAYERS = (
    {"data", "models", "plot", "cells", "packing"},
    {"train"},
    {"measure"},
    {"zoo", "quantization", "pruning", "distillation", "compression", "ledger"},
    {"pipeline"},
    {"deploy"},
    {"fixtures"},
    {"exercises", "mending"},
    {"render", "notebook", "explore", "workbook", "doctor"},
    {"checkup"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Drawing is looked up only when somebody asks for a picture.
SIDEWAYS = {("notebook", "render")}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The parts of coursekit a file imports, wherever in it, and "autograde" if it imports that."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "coursekit":
            names |= {f"coursekit.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    parts = {name.split(".")[1] for name in names if name.startswith("coursekit.")}
    return parts | {"autograde" for name in names if name.split(".")[0] == "autograde"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_to_lower_layers(path):
    part = part_of(path)
    for other in imported(path) - {part}:
        assert LEVEL[other] < LEVEL[part] or (part, other) in SIDEWAYS, f"{part} imports {other}"


def test_every_part_has_a_layer():
    assert {part_of(path) for path in modules()} <= set(LEVEL)


def test_techniques_do_not_import_each_other():
    techniques = {"quantization", "pruning", "distillation", "compression"} & set(LEVEL)
    for path in modules():
        if part_of(path) in techniques:
            assert not imported(path) & (techniques - {part_of(path)})
