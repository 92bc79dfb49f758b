"""Similar submissions: renaming and layout hide nothing, the exercise itself accuses nobody, the page runs nothing."""

from __future__ import annotations

import ast
import itertools
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from autograde import __main__ as command
from autograde.normalise import grams, prose_words, stream
from autograde.similar import ELSEWHERE, Answer, Pair, collect, compare
from autograde.similar_page import render_page
from tests.autograde.test_bundle import SOLUTION
from tests.autograde.tinycourse import ASSIGNMENT, LESSON
from tests.exercises.planted_affine_quantization import RIGHT, WRONG

WHERE = ("01", "mse_clip")

MINE = '''
def mse_clip(x, n_bits=8, n_candidates=100):
    """My own way."""
    top = x.abs().max().item()
    best, best_error = top, float("inf")
    for k in range(n_candidates, 0, -1):
        limit = top * k / n_candidates
        step = limit / (2 ** (n_bits - 1) - 1)
        back = torch.clamp(torch.round(x / step), -limit / step, limit / step) * step
        error = torch.nn.functional.mse_loss(back, x).item()
        if error < best_error:
            best, best_error = limit, error
    return best
'''
RENAMED = """
def mse_clip(tensor: Tensor, n_bits: int = 8, n_candidates: int = 100) -> float:
    # tries all of them
    biggest = (tensor.abs().max()).item()
    answer, smallest = biggest, float('inf')
    for i in range(n_candidates, 0, -1):
        c = (biggest * i) / n_candidates


        delta = c / ((2 ** (n_bits - 1)) - 1)
        restored = torch.clamp(
            torch.round(tensor / delta),
            -c / delta,
            c / delta,
        ) * delta  # back again
        loss: float = torch.nn.functional.mse_loss(restored, tensor).item()
        if loss < smallest: answer, smallest = c, loss
    return answer
"""


def solution():
    """The course's own answers, as everybody's."""
    cells = nbformat.read(SOLUTION, as_version=4).cells
    return {
        ("01", c.metadata.nbgrader.grade_id): [Answer(c.source)]
        for c in cells
        if c.cell_type == "code" and c.metadata.get("nbgrader", {}).get("solution")
    }


def found(**sources):
    """The pairs among students with these answers to one exercise."""
    return compare({name: {WHERE: Answer(text)} for name, text in sources.items()}, solution())


def words(source):
    return [word for word, _ in stream(source)]


def test_names_layout_comments_docstrings_annotations_and_brackets_make_no_difference():
    assert words(MINE) == words(RENAMED)


@pytest.mark.parametrize(
    "other",
    [
        MINE.replace("top * k", "top + k"),
        MINE.replace("x.abs", "x.neg"),
        MINE.replace("100", "99"),
        MINE.replace("error <", "error <="),
    ],
    ids=["operator", "method", "number", "comparison"],
)
def test_what_the_code_does_makes_a_difference(other):
    assert words(MINE) != words(other)


def test_words_know_their_lines_in_the_original_layout():
    lines = RENAMED.splitlines()
    assert {lines[n - 1].strip()[:11] for word, n in stream(RENAMED) if word in (".mse_loss", ".round")} == {
        "torch.round",
        "loss: float",
    }


def test_what_is_no_python_is_compared_as_it_stands():
    broken = "def f(x:\n    return x +  1  # so\n"
    assert words(broken) == ["def", "f", "(", "x", ":", "return", "x", "+", "1"]
    assert words("x" * 50_000 + "(") == ["x" * 20_000]
    assert stream("(" * 5000 + ")" * 5000), "deep nesting is no error"


def test_a_text_shorter_than_a_gram_is_one_gram():
    assert [gram.words for gram in grams(prose_words("Too short"))] == [("too", "short")]
    assert grams([]) == []


def test_a_renamed_and_reformatted_copy_is_found_whole_and_its_lines_marked():
    (pair,) = found(ada=MINE, bob=RENAMED, cyd=RIGHT["mse_clip"][0], dan=RIGHT["mse_clip"][1])
    (match,) = pair.matches
    assert (pair.left, pair.right, match.alike) == ("ada", "bob", 1.0)
    marked = [line for n, line in enumerate(MINE.splitlines(), 1) if n in match.left_lines]
    assert any("mse_loss" in line for line in marked)
    assert "    # tries all of them" not in [
        line for n, line in enumerate(RENAMED.splitlines(), 1) if n in match.right_lines
    ]


def test_a_copy_with_a_line_put_in_and_one_changed_is_found():
    changed = RENAMED.replace("    return answer", "    print(answer)\n    return answer").replace(
        "0, -1", "0, -1 "
    )
    (pair,) = found(ada=MINE, bob=changed, cyd=RIGHT["mse_clip"][0])
    assert pair.matches[0].alike > 0.8


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_right_answers_written_independently_are_no_pair(name):
    where = ("01", name)
    texts = {f"s{i}": {where: Answer(text)} for i, text in enumerate(RIGHT[name])}
    assert compare(texts, solution()) == []


def test_everybody_may_write_the_courses_own_solution():
    source = solution()[WHERE][0].source
    copies = [re.sub(r" *### (BEGIN|END) SOLUTION\n", "", source), source.replace("candidates", "cands")]
    assert all(ast.parse(each) for each in copies)
    assert found(ada=copies[0], bob=copies[1]) == []


def test_what_a_third_of_the_class_has_is_nobodys_and_what_three_have_is_theirs():
    others = {f"o{i}": text for i, text in enumerate([*RIGHT["mse_clip"], *WRONG["mse_clip"].values()])}
    copies = {f"c{i}": MINE for i in range(3)}
    pairs = found(**copies, **others)
    assert {(pair.left, pair.right) for pair in pairs} >= set(itertools.combinations(sorted(copies), 2))
    copies = {f"c{i}": MINE for i in range(12)}
    assert not [pair for pair in found(**copies, **others) if {pair.left, pair.right} <= set(copies)]


def test_pairs_are_ranked_by_how_much_they_share():
    one = {WHERE: Answer(MINE)}
    two = {**one, ("01", "quantize"): Answer(MINE.replace("mse_clip", "quantize"))}
    answers = {"a": two, "b": two, "c": one}
    ranked = [(pair.left, pair.right) for pair in compare(answers, {})]
    assert ranked == [("a", "b"), ("a", "c"), ("b", "c")]


def test_written_answers_are_compared_by_their_words():
    text = (
        "The weights lie on both sides of zero, so a zero point would only cost a multiplication for nothing."
    )
    again = "the weights lie on both sides of ZERO -- so a zero point would only cost\na multiplication for nothing"
    other = "Activations after ReLU are never negative, hence half of a symmetric grid would never be used at all."
    answers = {n: {("01", "q"): Answer(t, True)} for n, t in (("a", text), ("b", again), ("c", other))}
    assert [(pair.left, pair.right) for pair in compare(answers, {})] == [("a", "b")]
    assert compare(answers, {("01", "q"): [Answer(text, True)]}) == []


ALIEN = MINE.replace("mse_clip", "square").replace("x, n_bits", "x, n_bits")
NASTY = "</pre><script>alert(1)</script>"


@pytest.fixture
def handed_in(hand_in, right, release):
    """Ada's and Bob's answers are one; Cyd's is her own; Eve has a helper of Ada's in a cell; Mal is hostile."""
    helper = new_code_cell(MINE.replace("mse_clip", "helper"))
    ada, eve = right(square=ALIEN), right(square="def square(x):\n    return x ** 2")
    for notebook in (ada, eve):
        notebook.cells.insert(3, nbformat.from_dict(helper))
    hand_in("ada", ada)
    hand_in("bob", right(square=RENAMED.replace("mse_clip", "square")), "00-mini (1).ipynb")
    hand_in("cyd", right())
    hand_in("eve", eve)
    hand_in("mal", right(square=f"{ALIEN}\n# {NASTY}\nx = '{NASTY}'"))
    hand_in("<b>ned", b"not a notebook")


def test_submissions_are_read_as_intake_reads_them(course, handed_in):
    answers, given = collect(course, ASSIGNMENT)
    assert set(answers) == {"ada", "bob", "cyd", "eve", "mal", "<b>ned"}
    assert answers["<b>ned"] == {}
    assert set(answers["bob"]) == {(LESSON, name) for name in ("square", "negate", "why")}
    assert (LESSON, ELSEWHERE) in answers["ada"] and (LESSON, ELSEWHERE) not in answers["cyd"]
    assert len(given[LESSON, "square"]) == 2


def test_the_command_writes_a_page_that_runs_nothing_and_escapes_everything(course, handed_in, capsys):
    assert command.main(["similar", ASSIGNMENT, "--root", str(course)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"ada +bob +square 100%", said) and re.search(r"ada +eve", said) and "cyd" not in said
    page = (course / "classroom" / "report" / ASSIGNMENT / "similar.html").read_text(encoding="utf-8")
    assert NASTY not in page and "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page and not re.search(r"(?:src|href)=\"(?!#)", page)
    assert page.count('class="same"') > 10


def test_a_name_that_is_markup_is_text():
    page = render_page("<i>week", [Pair("<b>ned", "<b>ted", ())], 1, 2)
    assert "<b>ned" not in page and "&lt;b&gt;ned" in page and "<i>week" not in page


def test_without_submissions_or_assignment_it_says_so(course, capsys):
    assert command.main(["similar", ASSIGNMENT, "--root", str(course)]) == 1
    assert "nobody has handed in" in capsys.readouterr().err
    assert command.main(["similar", "week9", "--root", str(course)]) == 1
    assert "no assignment 'week9'" in capsys.readouterr().err
