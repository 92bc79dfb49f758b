"""Two tiny lessons with checks that need no library: exercises, a demonstration, a written question."""

from __future__ import annotations

import nbformat
from nbformat.notebooknode import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

__all__ = [
    "ANSWERS",
    "ASSIGNMENT",
    "LESSON",
    "MINICHECK",
    "SECOND",
    "answered",
    "graded",
    "lesson",
    "second_lesson",
]

ASSIGNMENT, LESSON, SECOND = "week0-mini", "00-mini", "01-more"

MINICHECK = '''
from IPython.display import display

MIME = "application/vnd.coursekit.check+json"
CASES = {"square": [(2, 4), (3, 9)], "negate": [(1, -1), (-2, 2)], "cube": [(2, 8), (-1, -1), (3, 27)]}


def check(name):
    """A point for each case that the function of this name gets right."""
    import __main__

    points = 0.0
    for value, expected in CASES[name]:
        try:
            points += getattr(__main__, name)(value) == expected
        except Exception as error:
            print(type(error).__name__)
    table = f"<table style='color: green'><tr><td class='name'>{name}</td><td>{points}</td></tr></table>"
    display({MIME: {"exercise": name, "points": points}, "text/html": table, "text/plain": name}, raw=True)
    return points
'''
SPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
STUB = "def {0}(x):\n    ### BEGIN SOLUTION\n    return {1}\n    ### END SOLUTION"


def graded(kind: str, name: str, source: str, **meta: object) -> NotebookNode:
    base = {
        "grade": False,
        "solution": False,
        "locked": False,
        "task": False,
        "schema_version": 3,
        "grade_id": name,
    }
    make = new_code_cell if kind == "code" else new_markdown_cell
    return make(source, id=f"cell-{name}", metadata={"nbgrader": base | meta})


def lesson() -> NotebookNode:
    """The tiny lesson with its answers: a setup, two exercises with a check each, a demonstration, a question."""
    cells = [
        new_markdown_cell("# A tiny lesson", id="title"),
        new_code_cell("import math\nfrom minicheck import check", id="setup"),
        graded("code", "square", STUB.format("square", "x * x"), solution=True),
        graded("code", "check-square", 'check("square")', grade=True, locked=True, points=2),
        new_code_cell("print(demo_only)\nraise SystemExit", id="show", metadata={"tags": ["demo"]}),
        graded("code", "negate", STUB.format("negate", "-x"), solution=True),
        graded("code", "check-negate", 'check("negate")', grade=True, locked=True, points=2),
        graded("markdown", "why", "Because of $a < b$.", grade=True, solution=True, points=1),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": SPEC})


def second_lesson() -> NotebookNode:
    """Another one for the same assignment, with its answers: one exercise, and a question of the same name."""
    cells = [
        new_markdown_cell("# Another tiny lesson", id="second-title"),
        new_code_cell("from minicheck import check", id="second-setup"),
        graded("code", "cube", STUB.format("cube", "x ** 3"), solution=True),
        graded("code", "check-cube", 'check("cube")', grade=True, locked=True, points=3),
        graded("markdown", "why", "Because.", grade=True, solution=True, points=1),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": SPEC})


ANSWERS = {
    "cube": "def cube(x):\n    return x * x * x",
    "square": "def square(x):\n    return x * x",
    "negate": "def negate(x):\n    return -x",
    "why": "So.",
}


def answered(release: NotebookNode, **answers: str) -> NotebookNode:
    """A copy of the release with right answers, or with others: `answered(release, square="...")`."""
    notebook: NotebookNode = nbformat.from_dict(release)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = (ANSWERS | answers).get(name, cell.source)
    return notebook
