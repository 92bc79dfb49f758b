"""`python -m autograde bundle ASSIGNMENT`: the folder, and its zip, that a student gets.

It is made in a temporary folder, searched for everything a student must not see, and only then put in its place.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import re
import shutil
import tempfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from autograde.layout import Course, CourseError
from autograde.leaks import find_leaks, secrets_of
from autograde.student_copy import withheld_copy
from coursekit.exercises import exercises
from coursekit.mending.kinds import is_solution

__all__ = ["add_parser", "asked_for", "bundle", "student_lock"]

TEMPLATES = Path(__file__).parent / "assets" / "bundle"
MANIFEST = "bundle.json"
IGNORED = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*", "*.bak", "*.part")
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # equal bundles are equal files
WITHHELD = """
`coursekit` is here without the functions you write in this assignment: calling one of them raises `ReferenceWithheld`.
Demonstrations that use them run once you put your own in their place.
"""


def bundle(root: Path, assignment: str, output: Path, *, withhold: bool = False, notebook: str = "*") -> Path:
    """Writes an assignment's bundle and its zip into a folder; returns the bundle's folder.

    A lesson may use what an earlier one of its assignment asks for: where functions are withheld, give out the lessons
    one by one.

    Args:   root: of the course. output: where the two go; a bundle of an earlier run is replaced.
            withhold: leave the functions that the notebooks ask for out of coursekit. notebook: the name, or a pattern,
            of the lessons to put in.
    Raises: CourseError if there is no such assignment, something secret would be in it, or what is in the way is not
            a bundle.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = asked_for(root, assignment, notebook) if withhold else set()
    part = "" if notebook == "*" else "-" + re.sub(r"[^\w-]", "", notebook)
    target = output / f"{project['name']}-{assignment}{part}"
    if target.exists() and not (target / MANIFEST).is_file():
        raise CourseError(f"{target} is there and is not a bundle; move it away or say another --output")
    with tempfile.TemporaryDirectory(prefix="bundle-") as name:
        folder = Path(name) / target.name
        _fill(root, assignment, folder, project, names, notebook)
        problems = find_leaks(folder, secrets_of(root, names), withheld=withhold)
        if problems:
            raise CourseError("nothing was written, because it would give away:\n  " + "\n  ".join(problems))
        _write_manifest(folder, assignment, names)
        shutil.rmtree(target, ignore_errors=True)
        output.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, target)
    _zip(target)
    return target


def asked_for(root: Path, assignment: str, notebook: str = "*") -> set[str]:
    """The functions that an assignment's exercises ask for, and those that would give them away.

    Args:   notebook: the name, or a pattern, of the only lessons that count.
    Raises: CourseError if there is no such assignment, or no such lesson in it.
    """
    every = sorted((root / "notebooks" / assignment).glob("*.ipynb"))
    if not every:
        assignments = sorted(path.name for path in (root / "notebooks").glob("[!.]*") if path.is_dir())
        raise CourseError(
            f"there is no assignment {assignment!r}; there is: {', '.join(assignments) or 'none'}"
        )
    paths = [path for path in every if fnmatch.fnmatchcase(path.stem, notebook)]
    if not paths:
        there = ", ".join(path.stem for path in every)
        raise CourseError(f"{assignment} has no lesson {notebook!r}; it has: {there}")
    cells = [cell for path in paths for cell in nbformat.read(path, as_version=4).cells]
    asked = {c.metadata.nbgrader.grade_id for c in cells if is_solution(c) and c.cell_type == "code"}
    known = [each for each in exercises() if each.name in asked]
    return asked | {also.__name__ for each in known for also in getattr(each, "withheld", ())}


def _fill(
    root: Path, assignment: str, folder: Path, project: dict[str, Any], names: set[str], notebook: str
) -> None:
    asked_for(root, assignment, notebook)  # refuses an assignment that is not there
    place = folder / "notebooks" / assignment
    shutil.copytree(root / "notebooks" / assignment, place, ignore=IGNORED)
    for path in place.glob("*.ipynb"):
        if not fnmatch.fnmatchcase(path.stem, notebook):
            path.unlink()
    if names:
        withheld_copy(root / "coursekit", folder / "coursekit", names)
    else:
        shutil.copytree(root / "coursekit", folder / "coursekit", ignore=IGNORED)
    words = {
        "@ASSIGNMENT@": assignment,
        "@NAME@": _conda_name(root),
        "@WITHHELD@": WITHHELD.strip() if names else "",
    }
    for path in sorted(TEMPLATES.iterdir()):
        text = path.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        _write(folder / path.name, text.rstrip("\n") + "\n")
    _write(folder / "environment.yml", (root / "environment.yml").read_text(encoding="utf-8"))
    _write(folder / "requirements.lock", student_lock(root))
    _write(folder / "pyproject.toml", _pyproject(project))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _conda_name(root: Path) -> str:
    found = re.search(r"^name:\s*(\S+)", (root / "environment.yml").read_text(encoding="utf-8"), re.M)
    return found.group(1) if found else "base"


def _pyproject(project: dict[str, Any]) -> str:
    """A pyproject.toml that installs coursekit and its command; JSON's strings and lists are TOML's too."""
    keys = ("name", "version", "requires-python", "dependencies")
    lines = [f"{key} = {json.dumps(project[key], indent=4)}" for key in keys]
    return (
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n\n[project]\n'
        + "\n".join(lines)
        + '\n\n[project.scripts]\ncoursekit = "coursekit.cli:main"\n'
        + '\n[tool.setuptools.packages.find]\ninclude = ["coursekit*"]\n'
        + '\n[tool.setuptools.package-data]\ncoursekit = ["assets/**/*"]\n'
    )


def student_lock(root: Path) -> str:
    """The lines of requirements.lock that a student needs: what the dependencies pull in, without the extras.

    Raises: CourseError if the lock does not pin one of the dependencies.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = _closure([Requirement(text) for text in project["dependencies"]])
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(re.split(r"[=\s;\[]", line)[0]): line for line in lines if "==" in line}
    missing = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} - set(pinned)
    if missing:
        raise CourseError(f"requirements.lock does not pin {', '.join(sorted(missing))}; run `make lock`")
    header = [line for line in lines if line.startswith("#")]
    return "\n".join([*header, *(line for name, line in sorted(pinned.items()) if name in needed)]) + "\n"


def _closure(roots: list[Requirement]) -> set[str]:
    """The names of the packages and of all they need, on whatever system; by what is installed here."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(each.name), frozenset(each.extras)) for each in roots]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # needed on another system only
            continue
        for each in map(Requirement, texts):
            asked = "extra" not in str(each.marker or "")
            asked = asked or any(each.marker.evaluate({"extra": e}) for e in extras if each.marker)
            if asked:
                waiting.append((canonicalize_name(each.name), frozenset(each.extras)))
    return {name for name, _ in found}


def _write_manifest(folder: Path, assignment: str, names: set[str]) -> None:
    """Says what the bundle is, and the SHA-256 of each file."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    about = {"assignment": assignment, "withheld": sorted(names), "files": files}
    _write(folder / MANIFEST, json.dumps(about, indent=1) + "\n")


def _zip(folder: Path) -> Path:
    """Writes folder.zip beside a folder: whole or not at all, the same bytes for the same files."""
    path, part = folder.with_name(f"{folder.name}.zip"), folder.with_name(f".{folder.name}.zip.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            info = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", ZIP_TIME)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, file.read_bytes())
    return part.replace(path)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `bundle` to the command line."""
    parser = subparsers.add_parser("bundle", help="make the folder and zip that a student gets")
    parser.add_argument("assignment", metavar="ASSIGNMENT")
    parser.add_argument(
        "--withhold", action="store_true", help="leave the functions the assignment asks for out of coursekit"
    )
    parser.add_argument(
        "--notebook",
        default="*",
        metavar="NAME",
        help="only this lesson of the assignment; patterns work too",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the two go (dist/)")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    root = (args.root or Course.here().root).resolve()
    output = args.output or root / "dist"
    folder = bundle(root, args.assignment, output, withhold=args.withhold, notebook=args.notebook)
    about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    archive = folder.with_name(f"{folder.name}.zip")
    print(f"{folder}: {len(about['files'])} files")
    print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")
    if args.withhold:
        print(f"withheld: {', '.join(about['withheld'])}")
    print("searched for answers, hidden tests and markers: none is in it")
    return 0
