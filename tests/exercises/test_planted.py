"""The tests are tested: wrong code must lose points and hear why, right code must get everything."""

from __future__ import annotations

import importlib
import inspect
import math
from pathlib import Path

import pytest
import torch

from autograde.hidden import HIDDEN
from coursekit.exercises import exercise, exercises
from coursekit.exercises.runner import recognise, run, same_result
from coursekit.exercises.student import LocalStudent

# One module a lesson: WRONG and RIGHT by exercise, and SETUP, the text of what the lesson's setup cell brings.
PLANTED = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("planted_*.py"))]
WRONG = {name: codes for module in PLANTED for name, codes in module.WRONG.items()}
RIGHT = {name: codes for module in PLANTED for name, codes in module.RIGHT.items()}
SETUP = {name: module.SETUP for module in PLANTED for name in module.WRONG}


def notebook(name: str, code: str) -> LocalStudent:
    """A student whose notebook holds this code, after the lesson's setup cell."""
    namespace: dict[str, object] = {}
    exec(SETUP[name], namespace)
    exec(code, namespace)
    return LocalStudent(namespace)


def graded(name: str, code: str):
    return run(exercise(name), notebook(name, code), hidden=HIDDEN[name], source=code)


wrong = pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]]
)
each = pytest.mark.parametrize("name", [spec.name for spec in exercises()])


@wrong
def test_wrong_code_loses_points_and_gets_its_own_message(name, mistake):
    result = graded(name, WRONG[name][mistake])
    assert result.points < exercise(name).points
    assert [found.id for found in result.mistakes] == [mistake]


@wrong
def test_wrong_code_already_fails_the_public_tests(name, mistake):
    assert not run(exercise(name), notebook(name, WRONG[name][mistake])).passed


@pytest.mark.parametrize(("name", "index"), [(name, i) for name in RIGHT for i in range(len(RIGHT[name]))])
def test_right_code_written_differently_gets_full_marks(name, index):
    result = graded(name, RIGHT[name][index])
    assert (result.points, result.mistakes) == (exercise(name).points, ()), result


@each
def test_at_least_eight_wrong_and_three_right_are_planted(name):
    assert len(WRONG[name]) >= 8
    assert len(RIGHT[name]) >= 3


@each
def test_every_known_mistake_has_a_planted_twin(name):
    assert {mistake.id for mistake in exercise(name).mistakes} == set(WRONG[name])


@each
def test_the_reference_gets_full_marks(name):
    result = run(exercise(name), LocalStudent({name: exercise(name).reference}), hidden=HIDDEN[name])
    assert (result.points, result.status) == (exercise(name).points, "passed"), result


@each
def test_a_blank_function_earns_nothing(name):
    def blank(*args, **kwargs):
        raise NotImplementedError

    result = run(exercise(name), LocalStudent({name: blank}), hidden=HIDDEN[name])
    assert (result.points, result.status) == (0.0, "not attempted")


@each
@pytest.mark.parametrize("constant", [None, 0, 1.0, (1.0, 0)], ids=str)
def test_a_constant_answer_earns_at_most_a_third(name, constant):
    result = run(exercise(name), LocalStudent({name: lambda *a, **k: constant}), hidden=HIDDEN[name])
    assert result.points <= exercise(name).points / 3


@each
def test_no_two_known_mistakes_are_confused(name):
    for mistake in exercise(name).mistakes:
        assert recognise(exercise(name), LocalStudent({name: mistake.wrong})) == (mistake,)


@each
def test_the_reference_makes_no_known_mistake(name):
    assert recognise(exercise(name), LocalStudent({name: exercise(name).reference})) == ()


@each
def test_hints_do_not_contain_the_answer(name):
    """No line of the reference's body that does work stands in a hint."""
    body = inspect.getsource(exercise(name).reference).splitlines()
    answers = {line.strip().removeprefix("return ") for line in body if "=" in line or "return" in line}
    for text in exercise(name).hints:
        assert not any(len(answer) > 12 and answer in text for answer in answers)


@each
def test_points_are_whole_halves(name):
    """Weights are chosen so that partial credit comes in half points."""
    tests = [*exercise(name).tests, *HIDDEN[name]]
    assert exercise(name).points / sum(test.weight for test in tests) == 0.5


def test_every_exercise_has_hidden_tests_and_no_others():
    assert set(HIDDEN) == {spec.name for spec in exercises()}


def test_names_of_tests_are_unique():
    names = [test.name for spec in exercises() for test in (*spec.tests, *HIDDEN[spec.name])]
    assert len(set(names)) == len(names)


def test_same_result_knows_types_and_nan():
    assert same_result(1.0, 1.0 + 1e-9)
    assert not same_result(1.0, 1)
    assert same_result(math.nan, math.nan)
    assert not same_result(torch.tensor([1]), torch.tensor([1.0]))
    assert same_result((1, torch.ones(2)), (1, torch.ones(2)))
    assert not same_result((1, torch.ones(2)), (1, torch.ones(3)))
