"""`python -m autograde build`: from the lessons' text to executed solutions to the students' notebooks."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbformat.notebooknode import NotebookNode

from autograde.layout import Course, CourseError, Lesson, atomic_write
from autograde.lesson import clean, differences, dump, is_intact, load, read_text
from autograde.release import in_order, register, released
from coursekit.cells import is_edited

__all__ = ["BuildOptions", "add_parser", "build", "stale"]

MAX_BYTES = 500_000
MAX_SECONDS = 90.0
JUNK = ("*.bak", ".*", "__pycache__")


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes: force: execute lessons that have not changed too. max_seconds: longest run of a lesson.
                gradebook: tell the course's gradebook about the release. say: takes each line of the report.
    """

    force: bool = False
    max_seconds: float = MAX_SECONDS
    gradebook: bool = True
    say: Callable[[str], None] = print


def build(course: Course, names: list[str], options: BuildOptions = BuildOptions()) -> None:
    """Brings solutions/ and notebooks/ in step with lessons/, executing only what changed.

    Args:   names: assignments or lessons; none for all.
    Raises: CourseError for the first lesson that is wrong; those before it are built.
    """
    lessons = course.select(names)
    for lesson in lessons:
        _build_solution(course, lesson, options)
    for assignment in in_order(lessons):
        _copy_assets(course, assignment)
        _write_release(course, assignment, options)
        if options.gradebook:
            refused = register(course, assignment)
            options.say(f"{assignment}: {refused or 'the gradebook knows this release'}")
    for path in _orphans(course):
        options.say(f"{_short(course, path)} belongs to no lesson; delete it if its lesson is gone")


def _build_solution(course: Course, lesson: Lesson, options: BuildOptions) -> None:
    """Executes a lesson and writes its solution notebook, unless the one there is what it would write."""
    from autograde.lesson_run import run_lesson  # only a build that executes needs a kernel client

    wanted = read_text(lesson.text)
    if not options.force and not _solution_problem(lesson):
        options.say(f"{lesson}: unchanged")
        return
    if not options.force and _outputs_carried_over(lesson, wanted):
        atomic_write(lesson.solution, dump(clean(wanted, {})))
        options.say(f"{lesson}: its code is what it was, so its outputs are kept")
        return
    folder = lesson.text.parent
    assets = [(path, path.relative_to(folder).as_posix()) for path in course.assets(lesson.assignment)]
    report = run_lesson(wanted, assets, options.max_seconds, str(lesson))
    text = dump(clean(wanted, report.replace))
    size_kb, peak_mb = len(text.encode("utf-8")) / 1e3, report.peak_bytes / 1e6
    _refuse_large(lesson, text)
    _keep_edited_solution(course, lesson, options)
    atomic_write(lesson.solution, text)
    options.say(
        f"{lesson}: executed in {report.seconds:.1f} s, {report.cpu_seconds:.0f} s of processor time "
        f"(slowest: {report.slowest(2)}), peak memory {peak_mb:.0f} MB, {size_kb:.0f} kB"
    )


def _outputs_carried_over(lesson: Lesson, wanted: NotebookNode) -> bool:
    """Gives the cells the outputs of the built solution, if that has the very same code: only words or tags changed."""
    try:
        built = load(lesson.solution)
    except CourseError:
        return False
    if built is None or not is_intact(built):
        return False
    pairs = [[cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (wanted, built)]
    if [cell.source for cell in pairs[0]] != [cell.source for cell in pairs[1]]:
        return False
    for cell, old in zip(*pairs, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    return True


def _refuse_large(lesson: Lesson, text: str) -> None:
    size = len(text.encode("utf-8"))
    if size > MAX_BYTES:
        raise CourseError(
            f"{lesson} would be {size / 1e3:.0f} kB, more than {MAX_BYTES / 1e3:.0f}; "
            "draw fewer or smaller figures, or lower savefig.dpi"
        )


def _keep_edited_solution(course: Course, lesson: Lesson, options: BuildOptions) -> None:
    """Copies a solution notebook aside if a person has changed it in a way that the lesson's text does not have."""
    if not lesson.solution.exists():
        return
    try:
        current = load(lesson.solution)
        edited = not is_intact(current) and bool(differences(read_text(lesson.text), current))
    except CourseError:
        edited = True
    if edited:
        _keep(course, lesson.solution, options)


def _keep(course: Course, path: Path, options: BuildOptions) -> None:
    """Copies a file that is about to be replaced to my-work/kept/, under a name not used before.

    Not beside the file: nbgrader hands out everything that lies beside a notebook.
    """
    target = course.kept / path.relative_to(course.root)
    target.parent.mkdir(parents=True, exist_ok=True)
    number, backup = 1, target.with_name(f"{target.name}.bak")
    while backup.exists():
        number += 1
        backup = target.with_name(f"{target.name}.{number}.bak")
    shutil.copyfile(path, backup)
    options.say(f"{_short(course, path)} had been edited; what was in it is kept as {_short(course, backup)}")


def _copy_assets(course: Course, assignment: str) -> None:
    """Copies what lies beside the lessons into solutions/, from where nbgrader takes it to the students."""
    for path in course.assets(assignment):
        target = course.root / "solutions" / path.relative_to(course.root / "lessons")
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _files(folder: Path) -> dict[str, Path]:
    """Relative name -> file, for every file in a folder that is not an editor's or a backup."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder): path for path in files}
    return {
        name.as_posix(): path
        for name, path in named.items()
        if not any(Path(part).match(pattern) for part in name.parts for pattern in JUNK)
    }


def _same(left: Path, right: Path) -> bool:
    """Whether two files hold the same, line ends aside."""
    return left.read_bytes().replace(b"\r\n", b"\n") == right.read_bytes().replace(b"\r\n", b"\n")


def _release_problems(course: Course, assignment: str, fresh: Path) -> dict[Path, str]:
    """The files of notebooks/<assignment> that differ from a release made just now, and how."""
    folder = course.root / "notebooks" / assignment
    new, old = _files(fresh), _files(folder)
    problems = {}
    for name in new:
        if name not in old:
            problems[folder / name] = "is missing"
        elif not _same(new[name], old[name]):
            problems[folder / name] = "is not what the solution notebook releases"
    return problems | {old[name]: "is not part of the release" for name in old if name not in new}


def _has_work(path: Path) -> bool:
    """Whether a person has worked in a released file: answered, added a cell, run it, or broken it."""
    if path.suffix != ".ipynb":
        return False
    try:
        notebook = load(path)
    except CourseError:
        return True
    if notebook is None:
        return False
    return any(is_edited(cell) or cell.get("outputs") for cell in notebook.cells)


def _write_release(course: Course, assignment: str, options: BuildOptions) -> None:
    """Brings notebooks/<assignment> in step with the solutions; keeps what a person wrote there."""
    with released(course, assignment) as fresh:
        problems = _release_problems(course, assignment, fresh)
        folder = course.root / "notebooks" / assignment
        for path in problems:
            source = fresh / path.relative_to(folder)
            if path.exists() and (_has_work(path) or not source.exists()):
                _keep(course, path, options)
            if source.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, path)
            else:
                path.unlink()
    options.say(f"{assignment}: release {'written' if problems else 'unchanged'}")


def _solution_problem(lesson: Lesson) -> str:
    """What is wrong with a lesson's solution notebook, in half a sentence; empty if nothing is."""
    try:
        current = load(lesson.solution)
    except CourseError:
        return "cannot be read as a notebook"
    if current is None:
        return "is missing"
    changed = differences(read_text(lesson.text), current)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        return f"differs from the lesson's text in {', '.join(changed[:3])}{more}"
    if not is_intact(current):
        return "has been run or edited since it was built"
    if lesson.solution.stat().st_size > MAX_BYTES * 1.05:  # a little more with CRLF line ends
        return f"is larger than {MAX_BYTES / 1e3:.0f} kB"
    return ""


def _orphans(course: Course) -> list[Path]:
    """Notebooks in solutions/ or notebooks/ that no lesson stands behind."""
    known = {path for lesson in course.lessons() for path in (lesson.solution, lesson.notebook)}
    found = [
        path
        for folder in ("solutions", "notebooks")
        for path in sorted((course.root / folder).rglob("*.ipynb"))
    ]
    return [path for path in found if path not in known and ".ipynb_checkpoints" not in path.parts]


def stale(course: Course, names: list[str]) -> list[str]:
    """One line for each file that is not in step with its lesson; nothing is executed or written."""
    lessons, found = course.select(names), []
    for lesson in lessons:
        try:
            problem = _solution_problem(lesson)
        except CourseError as error:
            problem = f"is wrong: {error}"
        if problem:
            found.append(f"{_short(course, lesson.solution)} {problem}")
    for assignment in in_order(lessons):
        found += _stale_assets(course, assignment)
        try:
            with released(course, assignment) as fresh:
                problems = _release_problems(course, assignment, fresh)
        except CourseError as error:
            found.append(f"notebooks/{assignment} cannot be made: {error}")
        else:
            found += [f"{_short(course, path)} {problem}" for path, problem in problems.items()]
    return found + (
        [f"{_short(course, path)} belongs to no lesson" for path in _orphans(course)] if not names else []
    )


def _stale_assets(course: Course, assignment: str) -> list[str]:
    copies = [
        (path, course.root / "solutions" / path.relative_to(course.root / "lessons"))
        for path in course.assets(assignment)
    ]
    return [
        f"{_short(course, copy)} is not a copy of {_short(course, path)}"
        for path, copy in copies
        if not copy.exists() or not _same(path, copy)
    ]


def _short(course: Course, path: Path) -> str:
    return path.relative_to(course.root).as_posix()


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `build` to the command line."""
    parser = subparsers.add_parser("build", help="make solutions/ and notebooks/ from lessons/")
    parser.add_argument(
        "names", nargs="*", metavar="ASSIGNMENT|LESSON", help="what to build; everything if none"
    )
    parser.add_argument(
        "--check", action="store_true", help="only say what is stale; execute and write nothing"
    )
    parser.add_argument("--force", action="store_true", help="execute unchanged lessons too")
    parser.add_argument("--max-seconds", type=float, default=MAX_SECONDS, help="longest run of a lesson (90)")
    parser.add_argument("--no-gradebook", action="store_true", help="leave classroom/gradebook.db alone")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    course = Course(args.root.resolve()) if args.root else Course.here()
    if args.check:
        found = stale(course, args.names)
        for line in found:
            print(line)
        print("Run `make build` to mend this." if found else "lessons, solutions and notebooks are in step")
        return 1 if found else 0
    options = BuildOptions(args.force, args.max_seconds, not args.no_gradebook)
    build(course, args.names, options)
    return 0
