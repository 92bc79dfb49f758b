"""`python -m autograde similar ASSIGNMENT`: which submissions have more in common than the exercise explains.

Answers are compared after renaming and reformatting (`normalise`), without what the released stub, the course's own
solution or a good part of the class has too. What is left is aligned by rapidfuzz. Nothing a student wrote is run.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat.notebooknode import NotebookNode
from rapidfuzz.distance import LCSseq

from autograde.intake import read_release, take_in
from autograde.layout import Course, CourseError
from autograde.normalise import Gram, grams, prose_words, stream
from coursekit.mending.kinds import is_demo, is_solution

__all__ = ["Answer", "Match", "Pair", "add_parser", "compare", "read_answers"]

COMMON_SHARE = 0.3  # grams that this share of the class has are the exercise's, not somebody's
COMMON_LEAST = 4  # … but never those of fewer students: two who copied are no class
LEAST_OWN = 6  # grams; an answer with less of its own says nothing
LEAST_SHARED = 6
LEAST_ALIKE = 0.5
ELSEWHERE = "(other cells)"
Where = tuple[str, str]  # notebook, exercise


@dataclass(frozen=True)
class Answer:
    """One student's text for one exercise."""

    source: str
    prose: bool = False

    def grams(self) -> list[Gram]:
        """What it is compared by."""
        return grams(prose_words(self.source) if self.prose else stream(self.source))


@dataclass(frozen=True)
class Match:
    """What two students have in common in one exercise.

    Attributes: shared: grams in the same order in both, which are nobody's else. alike: twice that, as a share of both
                answers' own grams. left_lines, right_lines: where they stand.
    """

    notebook: str
    exercise: str
    shared: int
    alike: float
    left: str
    right: str
    left_lines: frozenset[int]
    right_lines: frozenset[int]


@dataclass(frozen=True)
class Pair:
    """Two students with at least one Match, the strongest first."""

    left: str
    right: str
    matches: tuple[Match, ...]

    @property
    def weight(self) -> float:
        """What pairs are ranked by: the shared grams of each exercise, times how alike the two answers are."""
        return sum(match.shared * match.alike for match in self.matches)


def compare(
    answers: Mapping[str, Mapping[Where, Answer]], given: Mapping[Where, Sequence[Answer]]
) -> list[Pair]:
    """The pairs of students whose answers have more in common than the exercise explains, the strongest first.

    Args: answers: by student and exercise. given: by exercise, what everybody may have: the stub, the solution.
    """
    found: dict[tuple[str, str], list[Match]] = defaultdict(list)
    for where in sorted({where for each in answers.values() for where in each}):
        texts = {student: each[where] for student, each in sorted(answers.items()) if where in each}
        own = _own_grams(texts, given.get(where, ()))
        for left, right in itertools.combinations(own, 2):
            match = _match(where, texts[left], texts[right], own[left], own[right])
            if match is not None:
                found[left, right].append(match)
    pairs = [
        Pair(*names, tuple(sorted(matches, key=lambda each: -each.shared * each.alike)))
        for names, matches in found.items()
    ]
    return sorted(pairs, key=lambda pair: (-pair.weight, pair.left, pair.right))


def _own_grams(texts: Mapping[str, Answer], given: Iterable[Answer]) -> dict[str, list[Gram]]:
    """Of each answer, the grams that neither the exercise nor a good part of the class has."""
    every = {student: answer.grams() for student, answer in texts.items()}
    common = {gram.words for answer in given for gram in answer.grams()}
    seen = Counter(words for found in every.values() for words in {gram.words for gram in found})
    enough = max(COMMON_LEAST, COMMON_SHARE * len(texts))
    common |= {words for words, count in seen.items() if count >= enough}
    own = {student: [gram for gram in found if gram.words not in common] for student, found in every.items()}
    return {student: found for student, found in own.items() if len(found) >= LEAST_OWN}


def _match(where: Where, left: Answer, right: Answer, a: list[Gram], b: list[Gram]) -> Match | None:
    codes: dict[tuple[str, ...], int] = {}
    first = [codes.setdefault(gram.words, len(codes)) for gram in a]
    second = [codes.setdefault(gram.words, len(codes)) for gram in b]
    shared = LCSseq.similarity(first, second, score_cutoff=LEAST_SHARED)
    alike = 2 * shared / (len(a) + len(b))
    if shared < LEAST_SHARED or alike < LEAST_ALIKE:
        return None
    equal = [step for step in LCSseq.opcodes(first, second) if step.tag == "equal"]
    left_lines = {n for step in equal for gram in a[step.src_start : step.src_end] for n in gram.lines}
    right_lines = {n for step in equal for gram in b[step.dest_start : step.dest_end] for n in gram.lines}
    return Match(
        *where, shared, alike, left.source, right.source, frozenset(left_lines), frozenset(right_lines)
    )


def read_answers(notebook: NotebookNode, release: NotebookNode, name: str) -> dict[Where, Answer]:
    """The answers of a notebook as intake leaves it, and the student's own code cells as one more; blank ones not."""
    blank = {cell.source.strip() for cell in release.cells}
    found: dict[Where, Answer] = {}
    more: list[str] = []
    for cell in notebook.cells:
        if not cell.source.strip() or cell.source.strip() in blank:
            continue
        if is_solution(cell):
            found[name, cell.metadata.nbgrader.grade_id] = Answer(cell.source, cell.cell_type != "code")
        elif cell.cell_type == "code" and not is_demo(cell) and "nbgrader" not in cell.metadata:
            more.append(cell.source)
    if more:
        found[name, ELSEWHERE] = Answer("\n".join(more))
    return found


def collect(root: Path, assignment: str) -> tuple[dict[str, dict[Where, Answer]], dict[Where, list[Answer]]]:
    """The answers of all submissions, and what the release and the solutions give everybody.

    Raises: CourseError if the assignment or its submissions are not there.
    """
    try:
        release = read_release(root / "notebooks" / assignment)
    except FileNotFoundError as error:
        raise CourseError(f"there is no assignment {assignment!r}: {error}") from error
    submitted = sorted((root / "classroom" / "submitted").glob(f"*/{assignment}"))
    if not submitted:
        raise CourseError(f"nobody has handed in {assignment}: classroom/submitted/*/{assignment} is empty")
    answers: dict[str, dict[Where, Answer]] = {}
    for path in submitted:
        student = path.parent.name
        with tempfile.TemporaryDirectory(prefix="similar-") as name:
            taken = take_in(path, release, Path(name) / "in", student=student, assignment=assignment)
            answers[student] = {}
            for lesson, blank in release.notebooks.items():
                notebook = nbformat.read(taken.folder / f"{lesson}.ipynb", as_version=4)
                answers[student] |= read_answers(notebook, blank, lesson)
    given: dict[Where, list[Answer]] = defaultdict(list)
    for lesson, blank in release.notebooks.items():
        solution = root / "solutions" / assignment / f"{lesson}.ipynb"
        everybodys = [blank, *([nbformat.read(solution, as_version=4)] if solution.exists() else [])]
        for cell in (cell for notebook in everybodys for cell in notebook.cells if is_solution(cell)):
            answer = Answer(cell.source, cell.cell_type != "code")
            given[lesson, cell.metadata.nbgrader.grade_id].append(answer)
    return answers, given


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `similar` to the command line."""
    parser = subparsers.add_parser(
        "similar", help="compare submissions with each other, names and layout aside"
    )
    parser.add_argument("assignment", metavar="ASSIGNMENT")
    parser.add_argument("--most", type=int, default=50, metavar="N", help="how many pairs to show (50)")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_main)


def _main(args: argparse.Namespace) -> int:
    from autograde.similar_page import write_page

    root: Any = (args.root or Course.here().root).resolve()
    answers, given = collect(root, args.assignment)
    pairs = compare(answers, given)
    page = write_page(root, args.assignment, pairs[: args.most], len(pairs), len(answers))
    for pair in pairs[:10]:
        what = ", ".join(f"{match.exercise} {match.alike:.0%}" for match in pair.matches[:3])
        more = f" and {len(pair.matches) - 3} more" if len(pair.matches) > 3 else ""
        print(f"{pair.weight:6.0f}  {pair.left}  {pair.right}  {what}{more}")
    print(f"{len(pairs)} of {len(answers) * (len(answers) - 1) // 2} pairs are worth a look: {page}")
    return 0
