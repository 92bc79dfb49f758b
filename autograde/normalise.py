"""An answer without what copying hides behind: names, layout, comments, annotations, docstrings, brackets.

A stream is a list of short words, one for each node of the syntax tree in the order in which it is read, each with the
line it stands in. Names that the answer itself makes are all called `v`; what is torch's or Python's keeps its name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Gram", "grams", "prose_words", "stream"]

LENGTH = (
    5  # words in a gram: long enough that chance seldom repeats one, short enough to survive a changed line
)
MOST_CHARACTERS = 20_000
SILENT = (ast.Load, ast.Store, ast.Del, ast.arguments, ast.Expr, ast.Module)


@dataclass(frozen=True)
class Gram:
    """Some words in a row, and the lines they stand in."""

    words: tuple[str, ...]
    lines: frozenset[int]


def grams(words: list[tuple[str, int]], length: int = LENGTH) -> list[Gram]:
    """Every run of `length` words; of a shorter stream, the stream itself."""
    if not words:
        return []
    runs = [words[i : i + length] for i in range(max(1, len(words) - length + 1))]
    return [Gram(tuple(word for word, _ in run), frozenset(line for _, line in run)) for run in runs]


def stream(source: str) -> list[tuple[str, int]]:
    """The words of Python code with their lines; of what is no Python, its words and signs as they stand."""
    try:
        if len(source) > MOST_CHARACTERS:
            raise ValueError("too long to take apart")
        tree = ast.parse(source)
        own = _own_names(tree)
        return list(_walk(tree, own, 1))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _plain(source[:MOST_CHARACTERS])


def prose_words(text: str) -> list[tuple[str, int]]:
    """The words of a written answer, in lower case, with their lines."""
    lines = text[:MOST_CHARACTERS].splitlines()
    return [
        (word, number) for number, line in enumerate(lines, 1) for word in re.findall(r"\w+", line.casefold())
    ]


def _plain(source: str) -> list[tuple[str, int]]:
    without = [line.partition("#")[0] for line in source.splitlines()]
    return [(word, n) for n, line in enumerate(without, 1) for word in re.findall(r"\w+|[^\w\s]", line)]


def _own_names(tree: ast.AST) -> set[str]:
    """The names an answer gives: arguments, variables, functions, classes; `import torch as t` is no name of hers."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            own.add(node.name or "")
    return own


def _walk(node: ast.AST, own: set[str], line: int) -> Iterator[tuple[str, int]]:
    line = getattr(node, "lineno", line)
    if _is_docstring(node):
        return
    word = _word(node, own)
    if word:
        yield word, line
    if isinstance(node, ast.AnnAssign):  # x: int = 1 is x = 1
        children: list[ast.AST] = [node.target, *([node.value] if node.value else [])]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        children = [*node.decorator_list, node.args, *node.body]
    elif isinstance(node, ast.arg):
        children = []
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _walk(child, own, line)


def _is_docstring(node: ast.AST) -> bool:
    """Whether a statement is only a string, which does nothing wherever it stands."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _word(node: ast.AST, own: set[str]) -> str:
    if isinstance(node, ast.Name):
        return "v" if node.id in own else node.id
    if isinstance(node, ast.arg):
        return "v"
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    if isinstance(node, ast.keyword):
        return f"{node.arg}="
    if isinstance(node, ast.Constant):
        return repr(node.value)[:40]
    if isinstance(node, ast.AnnAssign):
        return "Assign"
    return "" if isinstance(node, SILENT) else type(node).__name__
