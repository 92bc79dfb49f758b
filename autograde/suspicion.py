"""Signs in a student's text that she tried something other than to solve the exercise: a person should look.

What is tried is stopped elsewhere, and a sign costs nothing by itself, with one exception: where a text reaches into
the process that runs it, the judge does not take that process's word for what it alone can know. What the course's own
solution does too is no sign.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Flag", "look_at", "reaching", "unusual"]

MODULES = {
    "ctypes": "calls C code directly",
    "gc": "uses the garbage collector",
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
    "f_builtins": "looks into its callers",
    "f_globals": "looks into its callers",
    "f_locals": "looks into its callers",
    "tb_frame": "looks into its callers",
    "gi_frame": "looks into its callers",
    "cr_frame": "looks into its callers",
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
    "get_objects": "looks through Python's memory",
    "get_referrers": "looks through Python's memory",
    "get_referents": "looks through Python's memory",
    "__globals__": "reaches into other code",
    "__closure__": "reaches into other code",
    "__code__": "reaches into other code",
    "__self__": "reaches into other code",
    "cell_contents": "reaches into other code",
    "getsignal": "reaches into other code",
    "__builtins__": "reaches into other code",
    "modules": "reaches into other code",
    "setattr": "changes other code",
    "register": "has code run at the end",
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
    (re.compile(r"autograde|coursekit\.exercises"), "looks for the grading code"),
    (re.compile(r"quantize_per_"), "names code that is not for it"),
)
SELF_COMPARING = {
    "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__float__", "__int__", "__getattribute__",
    "state_dict", "_save_to_state_dict", "named_parameters", "named_modules", "modules", "__deepcopy__",
    "__torch_function__", "__array__", "__class__", "shape", "dtype",
}  # fmt: skip
PLAIN_TYPES = {"int", "float", "str", "tuple", "list", "dict", "torch.Tensor", "Tensor"}
# Names that mean something else on other objects, and the only owner on which they are a sign.
OWNERS = {
    "stack": "inspect", "register": "atexit", "system": "os", "kill": "os", "abort": "os", "popen": "os", "fork": "os",
    "symlink": "os",
}  # fmt: skip
PATCHED = {
    "torch", "nn", "F", "coursekit", "fixtures", "networks", "np", "numpy", "math", "builtins", "sys", "cq", "time",
}  # fmt: skip
BARE = {
    "__builtins__": "reaches into other code",
    "__import__": "imports by name",
    "setattr": "changes other code",
    "eval": "runs text as code",
    "exec": "runs text as code",
    "compile": "runs text as code",
}
REACHING = {
    "calls C code directly", "looks for the grading code", "looks into its callers", "looks through Python's memory",
    "reaches into other code", "reaches into the notebook from outside", "imports by name", "runs text as code",
}  # fmt: skip
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
    return [Flag("suspicious", f"{why} ({what})", index, grade_id) for why, what in _signs_in(source).items()]


def reaching(sources: Iterable[str]) -> str | None:
    """The first sign in these texts that they reach into the process that runs them; None if there is none."""
    for source in sources:
        if len(source) > LONGEST:
            return "has a cell of enormous length"
        for why, what in _signs_in(source).items():
            if why in REACHING:
                return f"{why} ({what})"
    return None


def _signs_in(source: str) -> dict[str, str]:
    """What each kind of sign was seen in; nothing in a text that does not run."""
    try:
        tree = ast.parse(_plain(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        for what, why in _LOOKS.get(type(node), _no_signs)(node):
            found.setdefault(why, what)
    return found


def _plain(source: str) -> str:
    """The text without IPython's own lines."""
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


Signs = list[tuple[str, str]]


def _no_signs(node: Any) -> Signs:
    return []


def _import(node: ast.Import) -> Signs:
    return _modules([alias.name for alias in node.names])


def _import_from(node: ast.ImportFrom) -> Signs:
    names = [alias.name for alias in node.names]
    signs = [(name, NAMES[name]) for name in names if name in NAMES and name not in OWNERS]
    return _modules([node.module or ""]) + [
        sign for sign in signs if sign[0] != "modules" or node.module == "sys"
    ]


def _modules(names: list[str]) -> Signs:
    if any(name.startswith("coursekit.exercises") for name in names):
        return [("coursekit.exercises", "looks for the grading code")]
    return [(name, MODULES[name]) for name in sorted({name.split(".")[0] for name in names} & MODULES.keys())]


def _attribute(node: ast.Attribute) -> Signs:
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    if node.attr in OWNERS:
        return [(f"{owner}.{node.attr}", NAMES[node.attr])] if owner == OWNERS[node.attr] else []
    if node.attr == "modules":
        last = node.value.attr if isinstance(node.value, ast.Attribute) else owner
        return [(f"{last}.modules", NAMES["modules"])] if last == "sys" else []
    root = _root(node)
    signs = [(node.attr, NAMES[node.attr])] if node.attr in NAMES else []
    if isinstance(node.ctx, ast.Store) and root in PATCHED:
        signs.insert(0, (f"{root}.{node.attr}", "changes other code"))
    return signs


def _root(node: ast.expr) -> str:
    """The first name of a chain of attributes."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _name(node: ast.Name) -> Signs:
    return [(node.id, BARE[node.id])] if node.id in BARE else []


def _class(node: ast.ClassDef) -> Signs:
    own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    assigned = (target for item in node.body if isinstance(item, ast.Assign) for target in item.targets)
    own |= {target.id for target in assigned if isinstance(target, ast.Name)}
    bases = {ast.unparse(base) for base in node.bases}
    answers = own & SELF_COMPARING or bases & PLAIN_TYPES
    return [(node.name, "makes objects that answer for themselves")] if answers else []


def _constant(node: ast.Constant) -> Signs:
    if not isinstance(node.value, str):
        return []
    if node.value in NAMES and NAMES[node.value] in REACHING and node.value not in (*OWNERS, "modules"):
        return [(node.value, NAMES[node.value])]  # for getattr and its like
    found = ((pattern.search(node.value), why) for pattern, why in TEXTS)
    return [(match.group(), why) for match, why in found if match]


_LOOKS: dict[type[ast.AST], Callable[[Any], Signs]] = {
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.Attribute: _attribute,
    ast.Name: _name,
    ast.ClassDef: _class,
    ast.Constant: _constant,
}
