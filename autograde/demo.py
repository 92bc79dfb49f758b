"""`make demo`: a made class, graded like a real one, and checked against marks that were worked out by hand."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograde.build import BuildOptions, build
from autograde.chain import note_removal
from autograde.collect import collect
from autograde.demo_class import ASSIGNMENT, CLASS, FULL, NOTEBOOK, PREFIX, Made, files, solutions, write
from autograde.grade import grade, require_walls
from autograde.grading import Outcome, course_config
from autograde.layout import Course, CourseError
from autograde.marks import ClassMarks, StudentMarks, number
from autograde.marks_csv import write_marks, write_nbgrader_export
from autograde.progress import Step, marks_table, quiet, watch
from autograde.release import register
from autograde.report import Comparison, write_report

__all__ = ["add_parser", "compare", "hand_in", "run_demo"]

FOLDERS = ("submitted", "intake", "autograded", "feedback", "receipts", "judgements")


def run_demo(course: Course, *, walls: bool = True, made: Sequence[Made] = CLASS) -> list[Comparison]:
    """Builds, makes the class, grades it, writes feedback, CSV files and the report, and says where they are.

    Args:    walls: False runs the made students' code without a sandbox.
    Returns: for each made submission, how its marks compare with those by hand.
    Raises:  CourseError if there is no sandbox, or the lessons cannot be built.
    """
    config = course_config(course.root, NOTEBOOK)  # the made class hands in one lesson of the assignment
    require_walls(config, walls)
    build(course, [f"{ASSIGNMENT}/{NOTEBOOK}"], BuildOptions(gradebook=False))
    make_room(course, config)
    hand_in(course, made)
    print(f"{len(made)} submissions handed in under classroom/submitted/", flush=True)
    with watch("grading", len(made)) as step:
        outcomes = grade(
            course.root,
            ASSIGNMENT,
            [f"{PREFIX}*"],
            force=True,
            sandbox=walls,
            step=step,
            config=config,
        )
    with watch("feedback", len(made)) as step:
        give_feedback(config, f"{PREFIX}*", len(made), step)
    marks = collect(course.root, ASSIGNMENT, config)
    compared = compare(marks, outcomes, made)
    page = write_report(marks, course.root, compared)
    write_marks(marks, page.with_name("marks.csv"))
    write_nbgrader_export(ASSIGNMENT, page.with_name("nbgrader.csv"), config)
    _say(course, marks, compared, page)
    return compared


def make_room(course: Course, config: Config) -> None:
    """Makes the gradebook know the release, and forgets made students that the class no longer has.

    Raises: CourseError if real students have handed in an older version, whose cells the gradebook has to keep.
    """
    for student in _in_gradebook(config) - {made.student for made in CLASS}:
        if student.startswith(PREFIX):
            forget(course, config, student)
    refused = register(course, ASSIGNMENT)
    if refused is None:
        return
    students = _in_gradebook(config, ASSIGNMENT)
    if not all(student.startswith(PREFIX) for student in students):
        raise CourseError(refused)
    for student in students:
        forget(course, config, student)
    refused = register(course, ASSIGNMENT)
    if refused is not None:
        raise CourseError(refused)


@contextlib.contextmanager
def _gradebook(config: Config) -> Iterator[Gradebook]:
    where = CourseDirectory(config=config)
    with Gradebook(where.db_url, where.course_id) as gradebook:
        yield gradebook


def _in_gradebook(config: Config, assignment: str | None = None) -> set[str]:
    """The students in the gradebook, or those of them who handed in an assignment."""
    with _gradebook(config) as gradebook:
        if assignment is None:
            return {student.id for student in gradebook.students}
        with contextlib.suppress(MissingEntry):
            return {each.student.id for each in gradebook.assignment_submissions(assignment)}
    return set()


def forget(course: Course, config: Config, student: str) -> None:
    """Removes a made student from the gradebook and from every folder of the classroom.

    Raises: ValueError for a student who was not made here.
    """
    if not student.startswith(PREFIX):
        raise ValueError(f"{student!r} is not a made student")
    with _gradebook(config) as gradebook, contextlib.suppress(MissingEntry):
        gradebook.remove_student(student)
        note_removal(course.root / "classroom" / "record", student)
    for step in FOLDERS:
        shutil.rmtree(course.root / "classroom" / step / student, ignore_errors=True)


def hand_in(course: Course, made: Sequence[Made] = CLASS) -> None:
    """Writes the made submissions into classroom/submitted/, each anew; nobody else's folder is touched."""
    release = nbformat.read(course.root / "notebooks" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4)
    solved = nbformat.read(course.root / "solutions" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4)
    ours = solutions(solved)
    for each in made:
        write(course.root / "classroom" / "submitted" / each.student / ASSIGNMENT, files(each, release, ours))


def give_feedback(config: Config, students: str, total: int, step: Step) -> None:
    """Writes nbgrader's feedback pages of the students that match, whatever becomes of one of them."""
    config = Config(config)
    config.CourseDirectory.assignment_id, config.CourseDirectory.student_id = ASSIGNMENT, students
    converter = GenerateFeedback(coursedir=CourseDirectory(config=config), config=config)
    converter.force = True
    done = 0

    def written(notebooks: list[str], **_: object) -> None:
        nonlocal done
        done += 1
        step(done, total, f"{Path(notebooks[0]).parent.parent.name} has a page")

    converter.post_convert_hook = written
    try:
        converter.start()
    except NbGraderException as error:
        print(f"some feedback pages could not be written: {error}")


def compare(marks: ClassMarks, outcomes: Sequence[Outcome], made: Sequence[Made]) -> list[Comparison]:
    """How the marks and the findings of a made class compare with what was worked out by hand."""
    found = {student.student: student for student in marks.students}
    became = {outcome.student: outcome for outcome in outcomes}
    titles = {column.key: column.title for column in marks.columns}
    compared = []
    for each in made:
        student = found.get(each.student) or StudentMarks(each.student, {}, 0.0, ())
        given = {titles[key]: mark.auto or 0.0 for key, mark in student.marks.items() if titles[key] in FULL}
        problems = [
            f"{name}: {number(points)} by hand, {number(given[name]) if name in given else 'none'} given"
            for name, points in each.expected.items()
            if given.get(name) != points
        ]
        problems += _unseen(each, student, became.get(each.student))
        total = sum(each.expected.values())
        compared.append(Comparison(each.student, total, sum(given.values()), each.because, tuple(problems)))
    return compared


def _unseen(made: Made, student: StudentMarks, outcome: Outcome | None) -> list[str]:
    """What should have been noticed about a made submission and was not, or was and should not."""
    seen = {mistake.id for mark in student.marks.values() for mistake in mark.mistakes}
    problems = [f"mistake {name} was not recognised" for name in made.mistakes if name not in seen]
    problems += [f"mistake {name} was recognised" for name in sorted(seen - set(made.mistakes))]
    intake = outcome.intake if outcome else None
    codes = (
        {finding.code for finding in intake.findings if finding.notebook in (NOTEBOOK, None)}
        if intake
        else set()
    )
    problems += [f"intake did not find {name!r}" for name in made.findings if name not in codes]
    problems += [f"intake found {name!r}" for name in sorted(codes - set(made.findings))]
    kinds = {item.kind for item in student.needs_human} - {"written answer"}
    problems += [f"nobody is told of the {name}" for name in made.kinds if name not in kinds]
    return problems + [f"a person is asked about: {name}" for name in sorted(kinds - set(made.kinds))]


def _say(course: Course, marks: ClassMarks, compared: Sequence[Comparison], page: Path) -> None:
    """The table of marks, whether they are right, and where to look."""
    shown = {entry.student: f"{number(entry.by_hand)} {'✗' if entry.problems else '✓'}" for entry in compared}
    print()
    print(marks_table(marks, shown, "by\nhand"))
    wrong = [entry for entry in compared if entry.problems]
    print()
    if wrong:
        for entry in wrong:
            print(f"{entry.student}: {'; '.join(entry.problems)}")
        print(f"{len(wrong)} of {len(compared)} submissions did not get the marks a person would give.")
    else:
        print(
            f"All {len(compared)} made submissions got the marks a person would give, exercise by exercise."
        )
    feedback = course.root / "classroom" / "feedback"
    places = {
        "class report": page,
        "marks": page.with_name("marks.csv"),
        "nbgrader's export": page.with_name("nbgrader.csv"),
        "feedback pages": feedback / f"{PREFIX}*" / ASSIGNMENT / f"{NOTEBOOK}.html",
        "gradebook": course.gradebook,
    }
    for name, path in places.items():
        print(f"  {name + ':':<18} {path.relative_to(course.root).as_posix()}")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `demo` to the command line."""
    parser = subparsers.add_parser("demo", help="grade a made class and write its report")
    parser.add_argument("--no-sandbox", action="store_true", help="run the made code without protection")
    parser.add_argument("--remove", action="store_true", help="only remove the made class from classroom/")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    course = Course(args.root.resolve()) if args.root else Course.here()
    started = time.monotonic()
    with quiet():
        if args.remove:
            return _remove(course)
        compared = run_demo(course, walls=not args.no_sandbox)
    print(f"done in {time.monotonic() - started:.0f} s")
    return 1 if any(entry.problems for entry in compared) else 0


def _remove(course: Course) -> int:
    config = course_config(course.root)
    folders = {path.name for path in (course.root / "classroom" / "submitted").glob(f"{PREFIX}*")}
    known = _in_gradebook(config) if course.gradebook.exists() else set()
    students = sorted({name for name in known if name.startswith(PREFIX)} | folders)
    for student in students:
        forget(course, config, student)
    print(f"{len(students)} made students removed")
    return 0
