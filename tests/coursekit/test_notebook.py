"""check, hint, solution and use as a student meets them, outside and inside IPython."""

from __future__ import annotations

import json

import nbformat
import pytest

from coursekit import notebook, render
from coursekit.exercises import exercise, exercises
from coursekit.exercises.runner import run
from coursekit.exercises.student import LocalStudent
from coursekit.notebook import CHECK_MIME, check, hint, solution, use

RIGHT = {"quantize": exercise("quantize").reference}
WRONG = {"quantize": lambda x, scale, zero_point=0, n_bits=8: x}


def blank(*args, **kwargs):
    raise NotImplementedError


def test_check_prints_each_property_and_returns_points(capsys):
    points = check("quantize", RIGHT)
    printed = capsys.readouterr().out
    assert points == 3.0
    assert repr(points) == "3.0"  # what nbgrader reads
    assert all(test.property in printed for test in exercise("quantize").tests)
    assert printed.count("✓") == 3


def test_check_of_a_wrong_function_says_got_and_expected(capsys):
    assert check("quantize", WRONG) == 0.0
    printed = capsys.readouterr().out
    assert "got torch.float32, expected torch.int8" in printed


def test_check_of_a_blank_function_says_not_attempted(capsys):
    assert check("quantize", {"quantize": blank}) == 0.0
    assert "not attempted" in capsys.readouterr().out


def test_check_finds_the_function_where_it_is_called_from(capsys):
    globals()["quantize"] = exercise("quantize").reference
    assert check("quantize") == 3.0
    del globals()["quantize"]
    assert check("quantize") == 0.0


def test_check_names_a_known_mistake(capsys):
    mistake = exercise("dequantize").mistakes[0]
    check("dequantize", {"dequantize": mistake.wrong})
    assert mistake.message in capsys.readouterr().out


def test_html_has_a_row_a_test_and_escapes_what_the_student_wrote():
    def nasty(*args, **kwargs):
        raise ValueError("<script>alert(1)</script>")

    result = run(exercise("quantize"), LocalStudent({"quantize": nasty}))
    html = render.result_html(result)
    assert html.count("<tr>") == 1 + len(result.tests)
    assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize("outcome", ["passed", "wrong", "raised", "not attempted"])
def test_every_outcome_has_a_word_and_not_only_a_colour(outcome):
    assert outcome in render._MARKS[outcome]


def test_hints_grow_by_level_and_fold_in_html(capsys):
    hint("quantize")
    assert capsys.readouterr().out.count("Hint") == 1
    hint("quantize", level=3)
    assert capsys.readouterr().out.count("Hint") == 3
    assert render.hints_html(exercise("quantize")).count("<details>") == 3
    with pytest.raises(ValueError, match="not 4"):
        hint("quantize", level=4)


def test_solution_shows_the_cell_where_solutions_are_at_hand(tmp_path, monkeypatch, capsys):
    cell = nbformat.v4.new_code_cell(
        "def quantize(x):\n    ### BEGIN SOLUTION\n    return 42\n    ### END SOLUTION"
    )
    cell.metadata["nbgrader"] = {"grade_id": "quantize", "solution": True}
    folder = tmp_path / "solutions" / "week1"
    folder.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "a.ipynb")
    monkeypatch.setattr(notebook, "_solution_folders", lambda: [tmp_path / "solutions"])
    solution("quantize")
    assert capsys.readouterr().out == "def quantize(x):\n    return 42\n"


def test_solution_says_so_where_there_is_none(monkeypatch, capsys):
    monkeypatch.setattr(notebook, "_solution_folders", list)
    solution("quantize")
    assert "not on this machine" in capsys.readouterr().out


def test_use_takes_yours_if_it_passes_and_the_reference_otherwise(capsys):
    def own(x, scale, zero_point=0, n_bits=8):
        return exercise("quantize").reference(x, scale, zero_point, n_bits)

    assert use("quantize", {"quantize": own}).by == "yours"
    assert use("quantize", WRONG).by == "reference"
    assert use("quantize", {}).by == "reference"
    assert capsys.readouterr().out.splitlines() == [
        "quantize: your own function",
        "quantize: ours, as yours does not pass its check",
        "quantize: ours, as yours is not written yet",
    ]


@pytest.mark.parametrize("name", [spec.name for spec in exercises()])
def test_the_bundle_in_ipython_carries_table_text_and_json(name):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    try:
        reference = exercise(name).reference
        # Not the function itself: its own text may use a name that an answer must not.
        shell.user_ns[name] = lambda *args, **kwargs: reference(*args, **kwargs)
        with capture_output() as captured:
            points = check(name)
        (output,) = captured.outputs
        assert set(output.data) == {"text/html", "text/plain", CHECK_MIME}
        assert output.data[CHECK_MIME]["points"] == points == exercise(name).points
        json.dumps(output.data[CHECK_MIME])
    finally:
        InteractiveShell.clear_instance()


def test_what_a_function_prints_comes_after_the_result_and_is_cut_off(capsys):
    def chatty(x, scale, zero_point=0, n_bits=8):
        print("<b>here</b>" * 1000)
        return exercise("quantize").reference(x, scale, zero_point, n_bits)

    assert check("quantize", {"quantize": chatty}) == 3.0
    printed = capsys.readouterr().out
    assert printed.index("quantize: all tests passed") < printed.index("<b>here</b>")
    assert len(printed) < 3000 and "characters more" in printed
    assert "<b>" not in render.printed_html("<b>here</b>")
