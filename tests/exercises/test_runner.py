"""What a check finds: outcomes, points, forbidden names, inputs that were changed."""

from __future__ import annotations

import warnings

import pytest
import torch

from coursekit.exercises import exercise, exercises
from coursekit.exercises.collect import hidden_tests
from coursekit.exercises.expect import (
    MismatchError,
    expect_close,
    expect_float,
    expect_int,
    expect_tensor,
    show,
)
from coursekit.exercises.runner import forbidden_names, run
from coursekit.exercises.spec import as_test
from coursekit.exercises.student import InputChangedError, LocalStudent, NotAttemptedError, StudentError


def result_of(function):
    return run(exercise("quantize"), LocalStudent({"quantize": function}))


def test_a_missing_function_is_not_attempted():
    result = run(exercise("quantize"), LocalStudent({}))
    assert (result.status, result.points) == ("not attempted", 0.0)


def test_a_function_that_raises_is_told_apart_from_a_wrong_one():
    raised = result_of(lambda *a, **k: [][1])
    wrong = result_of(lambda x, *a, **k: x)
    assert (raised.status, wrong.status) == ("raised", "failed")
    assert "IndexError" in raised.tests[0].message


def test_a_name_that_is_no_function_is_said_so():
    result = run(exercise("quantize"), LocalStudent({"quantize": 3}))
    assert "int, not a function" in result.tests[0].message


def test_a_result_of_an_unforeseen_kind_is_wrong_not_a_crash():
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError("no")

    for value in (Odd(), None, "text", [], {}, torch.tensor(1j), object()):
        for spec in exercises():
            result = run(spec, LocalStudent({spec.name: lambda *a, value=value, **k: value}))
            assert result.points == 0.0, (spec.name, value)


def test_a_call_that_does_not_end_is_stopped_and_the_other_tests_are_not_run():
    def endless(*args, **kwargs):
        while True:
            pass

    result = run(exercise("quantize"), LocalStudent({"quantize": endless}, seconds=0.2))
    assert (result.status, result.points) == ("raised", 0.0)
    assert "did not end within 0.2 seconds" in result.tests[0].message
    assert "because of the one above" in result.tests[1].message


def test_a_function_that_leaves_python_is_a_function_that_raises():
    def leaves(*args, **kwargs):
        raise SystemExit(3)

    result = result_of(leaves)
    assert result.status == "raised"
    assert "SystemExit" in result.tests[0].message


@pytest.mark.parametrize(
    "inside", [lambda t: {"w": t}, lambda t: [t], lambda t: ({"w": [t]},)], ids=["dict", "list", "nested"]
)
def test_changing_a_tensor_inside_an_argument_is_named_too(inside):
    given = inside(torch.ones(3))

    def first(value):
        if isinstance(value, torch.Tensor):
            return value
        return first(value["w"] if isinstance(value, dict) else value[0])

    with pytest.raises(InputChangedError, match="argument number 2"):
        LocalStudent({"f": lambda a, b: first(b).mul_(2)}).f(0, given)
    assert torch.equal(first(given), torch.ones(3))  # she worked on a copy
    assert LocalStudent({"f": lambda a, b: first(b).sum().item()}).f(0, given) == 3.0


def test_adding_a_key_to_an_argument_is_a_change():
    with pytest.raises(InputChangedError, match="argument number 1"):
        LocalStudent({"f": lambda d: d.update(b=torch.ones(1))}).f({"a": torch.ones(1)})


def test_changing_the_argument_in_place_loses_points_and_is_named():
    def in_place(x, scale, zero_point=0, n_bits=8):
        x.div_(scale).round_().add_(zero_point).clamp_(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1)
        return x.to(torch.int8)

    result = result_of(in_place)
    assert result.points == 0.0
    assert "changed its argument number 1" in result.tests[0].message


def test_the_callers_tensor_survives_a_function_that_changes_it():
    x = torch.ones(3)
    student = LocalStudent({"f": lambda x: x.zero_()})
    with pytest.raises(InputChangedError):
        student.f(x)
    assert x.tolist() == [1.0, 1.0, 1.0]


def test_warnings_of_the_students_code_are_no_failure():
    def warns(x, scale, zero_point=0, n_bits=8):
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return exercise("quantize").reference(x, scale, zero_point, n_bits)

    assert result_of(warns).passed


@pytest.mark.parametrize(
    "source",
    [
        "def quantize(x):\n    return torch.quantize_per_tensor(x, 1, 0, torch.qint8)",
        "def quantize(x):\n    from coursekit.quantization import quantize as q\n    return q(x)",
        "def quantize(x):\n    import coursekit.quantization as c\n    return c.quantize(x)",
        "    def quantize(x):\n        return torch.ao.quantization.f(x)",
    ],
)
def test_forbidden_names_cost_the_exercise_and_are_named(source):
    assert forbidden_names(exercise("quantize"), source)
    right = LocalStudent({"quantize": exercise("quantize").reference})
    result = run(exercise("quantize"), right, source=source)
    assert result.points == 0.0
    assert "not allowed here" in result.tests[0].message


def test_a_forbidden_name_in_a_comment_or_text_is_no_offence():
    source = 'def quantize(x):\n    """unlike quantize_per_tensor"""\n    return x  # not torch.ao'
    assert forbidden_names(exercise("quantize"), source) == []


def test_points_are_in_proportion_to_the_weights_of_passed_tests():
    def only_eight_bits(x, scale, zero_point=0, n_bits=8):
        return exercise("quantize").reference(x, scale, zero_point, 8)

    result = result_of(only_eight_bits)
    assert result.points == 2.0  # two of three public tests
    assert sum(test.points for test in result.tests) == pytest.approx(result.points, abs=0.01)


def test_json_holds_no_functions_and_names_every_test():
    import json

    result = result_of(lambda x, *a, **k: x)
    text = json.dumps(result.to_json())
    assert all(test.name in text for test in exercise("quantize").tests)


def test_hidden_tests_take_part_only_when_grading(monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    assert hidden_tests("quantize") == ()
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert len(hidden_tests("quantize")) == 3
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    assert hidden_tests("quantize") == ()


def test_an_unknown_exercise_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"quantise.*affine_qparams"):
        exercise("quantise")


def test_a_test_without_a_property_is_refused():
    def nameless(student):
        pass

    with pytest.raises(ValueError, match="docstring"):
        as_test(nameless, public=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expect_float(torch.tensor(1.0), "scale"), "item"),
        (lambda: expect_float(float("nan"), "scale"), "nan"),
        (lambda: expect_float(True, "scale"), "not a float"),
        (lambda: expect_int(1.0, "zero_point"), "not an int"),
        (lambda: expect_tensor(torch.ones(2), torch.int8, (2,)), "dtype"),
        (lambda: expect_tensor(torch.ones(2), torch.float32, (3,)), "shape"),
        (lambda: expect_tensor([1.0], torch.float32, (1,)), "not a tensor"),
        (lambda: expect_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), "x"), "1 of 2"),
        (lambda: expect_close(float("nan"), 1.0, "x"), "wrong"),
    ],
)
def test_expectations_say_what_is_wrong(call, message):
    with pytest.raises(MismatchError, match=message):
        call()


def test_values_are_shown_short():
    assert show(1 / 3) == "0.333333"
    assert show(torch.ones(100, 3)) == "float32 (100, 3)"
    assert show((1, 2.5)) == "(1, 2.5)"
    assert len(show("x" * 3)) == 3
    assert len(show({i: i for i in range(100)})) <= 60


def test_student_errors_name_the_function():
    student = LocalStudent({"f": lambda: 1 / 0})
    with pytest.raises(StudentError, match="f raised ZeroDivisionError"):
        student.f()
    with pytest.raises(NotAttemptedError, match="no function named g"):
        student.g()
