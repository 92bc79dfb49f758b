"""Signs in a student's text that she tried something other than to solve the exercise. They cost nothing: a person
should look. What is tried is stopped elsewhere; this only says that it was tried. What the course's own solution does
too is no sign."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Flag", "look_at", "unusual"]

MODULES = {
    "ctypes": "calls C code directly",
    "gc": "looks through Python's memory",
    "multiprocessing": "starts processes",
    "pickle": "uses pickle",
    "pty": "starts processes",
    "resource": "changes its own limits",
    "signal": "changes how it can be stopped",
    "socket": "opens connections",
    "requests": "opens connections",
    "urllib": "opens connections",
    "subprocess": "starts processes",
    "threading": "starts threads",
    "autograde": "looks for the grading code",
    "nbgrader": "looks for the grading code",
}
NAMES = {
    "_exit": "leaves Python",
    "abort": "leaves Python",
    "fork": "starts processes",
    "forkpty": "starts processes",
    "kill": "sends signals",
    "killpg": "sends signals",
    "system": "starts processes",
    "popen": "starts processes",
    "settrace": "watches what Python does",
    "setprofile": "watches what Python does",
    "_getframe": "looks into its callers",
    "f_back": "looks into its callers",
    "currentframe": "looks into its callers",
    "stack": "looks into its callers",
    "displayhook": "changes how results are shown",
    "input_transformers_cleanup": "changes cells before they run",
    "input_transformers_post": "changes cells before they run",
    "ast_transformers": "changes cells before they run",
    "run_cell": "changes how cells run",
    "run_cell_async": "changes how cells run",
    "showtraceback": "changes how errors are shown",
    "user_ns": "reaches into the notebook from outside",
    "__torch_function__": "defines a tensor of its own",
    "__array__": "defines an array of its own",
    "__class__": "changes what objects are",
    "__subclasses__": "looks through Python's memory",
    "__globals__": "reaches into other code",
    "__builtins__": "reaches into other code",
    "modules": "reaches into other code",
    "setattr": "changes other code",
    "register": "has code run at the end",
    "set_num_threads": "changes the number of threads",
    "symlink": "makes links",
}
TEXTS = (
    (
        re.compile(r"gradebook|sqlite|classroom|submitted|autograded|solutions?/|\bhidden\b", re.I),
        "names the grading files",
    ),
    (re.compile(r"/proc\b|/etc/|/root\b|/run/|/opt/|\.\./\.\."), "names places outside its folder"),
    (re.compile(r"NBGRADER|PYTEST_CURRENT"), "looks whether it is being graded"),
    (re.compile(r"vnd\.coursekit"), "makes a check's report of its own"),
    (
        re.compile(r"<script|<iframe|javascript:|\bon(?:error|load|click)\s*=", re.I),
        "puts active content in a page",
    ),
    (
        re.compile(r"autograde|coursekit\.exercises|quantize_per_|fake_quantize_per_"),
        "names code that is not for it",
    ),
)
SELF_COMPARING = {
    "__eq__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "__bool__",
    "__float__",
    "__int__",
    "__getattribute__",
    # what a network is asked by
    "state_dict",
    "_save_to_state_dict",
    "named_parameters",
    "named_modules",
    "modules",
    "__deepcopy__",
}
HARMLESS = {("modules", "Call"), ("stack", "torch")}
LONGEST = 200_000


@dataclass(frozen=True)
class Flag:
    """One sign, in the cell at `index`."""

    code: str
    message: str
    index: int | None = None
    grade_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The flag as JSON holds it."""
        return asdict(self)


def unusual(flags: Iterable[Flag], sources: Iterable[str]) -> tuple[Flag, ...]:
    """The flags without those that these texts, the course's own, would get."""
    usual = {flag.message for source in sources for flag in look_at(source, 0, None)}
    return tuple(flag for flag in flags if flag.code != "suspicious" or flag.message not in usual)


def look_at(source: str, index: int, grade_id: str | None) -> list[Flag]:
    """The signs in one cell, each kind once."""
    if len(source) > LONGEST:
        return [Flag("long", "a cell of enormous length", index, grade_id)]
    try:
        tree = ast.parse(_plain(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        for what, why in _signs(node):
            found.setdefault(why, what)
    return [Flag("suspicious", f"{why} ({what})", index, grade_id) for why, what in found.items()]


def _plain(source: str) -> str:
    """The text without IPython's own lines."""
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


def _root(node: ast.expr) -> str:
    """The first name of a chain of attributes."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _signs(node: ast.AST) -> list[tuple[str, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        names = [] if isinstance(node, ast.Import) else [alias.name for alias in node.names]
        if any(name.startswith("coursekit.exercises") for name in modules):
            return [("coursekit.exercises", "looks for the grading code")]
        tops = {name.split(".")[0] for name in modules}
        return [(name, MODULES[name]) for name in sorted(tops & MODULES.keys())] + [
            (name, NAMES[name])
            for name in names
            if name in NAMES and name not in ("stack", "register", "modules")
        ]
    if isinstance(node, ast.Attribute):
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if node.attr in (
            "stack",
            "register",
            "modules",
            "system",
            "kill",
            "abort",
            "popen",
            "fork",
            "symlink",
        ):
            wanted = {"stack": "inspect", "register": "atexit", "modules": "sys"}.get(node.attr, "os")
            return [(f"{owner}.{node.attr}", NAMES[node.attr])] if owner == wanted else []
        monkey = isinstance(node.ctx, ast.Store) and _root(node) in (
            "torch",
            "nn",
            "F",
            "coursekit",
            "fixtures",
            "networks",
            "np",
            "numpy",
            "math",
            "builtins",
            "sys",
            "cq",
            "time",
        )
        signs = [(f"{_root(node)}.{node.attr}", "changes other code")] if monkey else []
        return signs + (
            [(node.attr, NAMES[node.attr])] if node.attr in NAMES and node.attr != "set_num_threads" else []
        )
    if isinstance(node, ast.Name) and node.id in (
        "__builtins__",
        "setattr",
        "globals",
        "eval",
        "exec",
        "compile",
    ):
        return [(node.id, NAMES.get(node.id, "runs text as code"))] if node.id != "globals" else []
    if isinstance(node, ast.ClassDef):
        own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        own |= {
            t.id
            for item in node.body
            if isinstance(item, ast.Assign)
            for t in item.targets
            if isinstance(t, ast.Name)
        }
        tricks = own & (SELF_COMPARING | {"__torch_function__", "__array__", "__class__", "shape", "dtype"})
        bases = {ast.unparse(base) for base in node.bases} & {
            "int",
            "float",
            "str",
            "tuple",
            "list",
            "dict",
            "torch.Tensor",
            "Tensor",
        }
        return [(node.name, "makes objects that answer for themselves")] if tricks or bases else []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        found = ((pattern.search(node.value), why) for pattern, why in TEXTS)
        return [(match.group(), why) for match, why in found if match]
    return []
