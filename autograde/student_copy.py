"""A student's copy of coursekit without the functions an assignment asks for: the source is gone, a call says so.

Unlike the copy that the sandbox sees, it keeps checks and hints, which are hers, and it keeps the comments.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

__all__ = ["withheld_copy"]

EXCEPTION = '''"""What stands in the place of a function that this assignment asks for."""

__all__ = ["ReferenceWithheld"]


class ReferenceWithheld(RuntimeError):
    """The function is what you are asked to write; the course's own is not in this copy."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is what this assignment asks you to write: the course's own is not in this copy")
'''
RAISE = "from coursekit.withheld import ReferenceWithheld\n{0}raise ReferenceWithheld({1!r})\n"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def withheld_copy(package_dir: Path, target: Path, names: set[str]) -> None:
    """Copies a package; functions and classes of these names keep their signature and docstring and lose the rest.

    Known mistakes of the exercises of these names go too: each is the answer with one thing changed.

    Args: package_dir: of coursekit. target: where the copy goes; must not exist.
    """
    shutil.copytree(
        package_dir, target, ignore=shutil.ignore_patterns("__pycache__", "*.py[co]", ".*", "*.bak")
    )
    for path in sorted(target.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        kept = _without_mistakes(source) if _has_mistakes_for(path, names) else _emptied(source, names)
        if kept != source:
            path.write_text(kept, encoding="utf-8", newline="\n")
    (target / "withheld.py").write_text(EXCEPTION, encoding="utf-8", newline="\n")


def _emptied(source: str, names: set[str]) -> str:
    """A module's text with the bodies of its top-level definitions of these names replaced."""
    lines = source.splitlines(keepends=True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, Definition) and node.name in names:
            first = node.body[0]
            has_doc = ast.get_docstring(node) is not None
            start = (first.end_lineno or first.lineno) if has_doc else first.lineno - 1
            while not has_doc and lines[start - 1].strip().startswith("#"):
                start -= 1
            indent = " " * (node.col_offset + 4)
            lines[start : node.end_lineno] = [indent + _body(node, indent)]
    return "".join(lines)


def _body(node: Definition, indent: str) -> str:
    if not isinstance(node, ast.ClassDef):
        return RAISE.format(indent, node.name)
    deeper = indent + "    "
    return f"def __init__(self, *args, **kwargs):\n{deeper}{RAISE.format(deeper, node.name)}"


def _has_mistakes_for(path: Path, names: set[str]) -> bool:
    """Whether a module has known mistakes, and the topic it belongs to has an exercise of one of these names."""
    topic = path.parent / "__init__.py"
    if (
        "exercises" not in path.parts
        or "Mistake(" not in path.read_text(encoding="utf-8")
        or not topic.exists()
    ):
        return False
    tree = ast.parse(topic.read_text(encoding="utf-8"))
    constants = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return bool(constants & names)


def _without_mistakes(source: str) -> str:
    """A module of known mistakes with empty tables, and of its functions only those that make arguments to try."""
    tree = ast.parse(source)
    if not any(_is_table(node) for node in tree.body):
        return source
    body = [_empty_table(node) if _is_table(node) else node for node in tree.body]
    public = {
        str(name.value)
        for node in body
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        for name in ast.walk(node.value)
        if isinstance(name, ast.Constant)
    }
    wanted, size = set(public), -1
    defined = {node.name: node for node in body if isinstance(node, Definition)}
    while len(wanted) != size:
        size = len(wanted)
        for name in wanted & set(defined):
            wanted |= {each.id for each in ast.walk(defined[name]) if isinstance(each, ast.Name)}
    tree.body = [node for node in body if not isinstance(node, Definition) or node.name in wanted]
    return ast.unparse(tree) + "\n"


def _is_table(node: ast.stmt) -> bool:
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    named = any(isinstance(func, ast.Name) and func.id == "Mistake" for func in calls)
    return isinstance(node, ast.Assign | ast.AnnAssign) and named


def _empty_table(node: ast.stmt) -> ast.stmt:
    assert isinstance(node, ast.Assign | ast.AnnAssign)
    node.value = ast.Tuple([], ast.Load())
    return node
