"""What an exercise is, and what a check of it found."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "CheckResult",
    "Exercise",
    "Fixture",
    "Mistake",
    "Outcome",
    "Test",
    "TestFunction",
    "TestResult",
    "as_test",
    "worth",
]

Outcome = Literal["passed", "wrong", "raised", "not attempted"]
Status = Literal["passed", "failed", "raised", "not attempted"]
TestFunction = Callable[[Any], None]


@dataclass(frozen=True)
class Fixture:
    """Stands, among a call's arguments, for an object of `coursekit.fixtures`: made anew where the call runs.

    Attributes: name: "module.function". args: its arguments, plain values or tensors.
    """

    name: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Mistake:
    """A way to get an exercise wrong that students really take.

    Attributes: id: a short name. message: what she probably did, addressed to her, without the answer.
                wrong: an implementation that makes this mistake and no other.
    """

    id: str
    message: str
    wrong: Callable[..., Any]


@dataclass(frozen=True)
class Test:
    """A property of a right solution, and the function that tests it.

    Attributes: name: the test function's name. property: the first line of its docstring.
                weight: its share of the exercise's points, relative to the other tests.
                public: False for a test that only takes part in grading.
    """

    __test__ = False  # not a class of tests for pytest

    name: str
    property: str
    function: TestFunction
    weight: int
    public: bool


@dataclass(frozen=True)
class Exercise:
    """A function the student writes, and all that is needed to judge it and to help her.

    Attributes: name: of the function, and the cell's grade_id. lesson: the notebook's number, "01".
                points: what full marks are worth. reference: the right implementation.
                tests: the public tests. hints: three, each stronger, none of them the answer.
                mistakes: the known ones, the more specific first.
                probes: makes the argument tuples on which a mistake is recognised by its results.
                forbidden: names that must not appear in her code, with the reason.
                withheld: other functions of coursekit that would give the answer away; like the reference, they are
                not there while a notebook is graded.
                observe: where the function returns an object, such as a network, the fixture that says in plain
                values what it is; mistakes are recognised by these.
    """

    name: str
    lesson: str
    points: int
    reference: Callable[..., Any]
    tests: tuple[Test, ...]
    hints: tuple[str, str, str]
    mistakes: tuple[Mistake, ...]
    probes: Callable[[], list[tuple[Any, ...]]]
    forbidden: Mapping[str, str] = field(default_factory=dict)
    withheld: tuple[Callable[..., Any], ...] = ()
    observe: str = ""


@dataclass(frozen=True)
class TestResult:
    """What one test found; `got`, `expected` and `message` are empty if it passed."""

    __test__ = False

    name: str
    property: str
    public: bool
    outcome: Outcome
    points: float
    max_points: float
    got: str = ""
    expected: str = ""
    message: str = ""

    @builtins.property
    def passed(self) -> bool:
        """Whether the property holds."""
        return self.outcome == "passed"


@dataclass(frozen=True)
class CheckResult:
    """What a check of one exercise found."""

    exercise: str
    status: Status
    points: float
    max_points: float
    graded_with_hidden_tests: bool
    tests: tuple[TestResult, ...]
    mistakes: tuple[Mistake, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.status == "passed"

    def to_json(self) -> dict[str, Any]:
        """The result in the form that docs/architecture.md describes."""
        return {
            "exercise": self.exercise,
            "status": self.status,
            "points": self.points,
            "max_points": self.max_points,
            "graded_with_hidden_tests": self.graded_with_hidden_tests,
            "tests": [{**asdict(test), "passed": test.passed} for test in self.tests],
            "mistakes": [{"id": m.id, "message": m.message} for m in self.mistakes],
        }


def worth(weight: int) -> Callable[[TestFunction], TestFunction]:
    """Decorator: this test's share of the points is `weight`; without it the share is 1."""

    def mark(function: TestFunction) -> TestFunction:
        function.weight = weight  # type: ignore[attr-defined]
        return function

    return mark


def as_test(function: TestFunction, *, public: bool) -> Test:
    """The Test for a function whose docstring states the property.

    Raises: ValueError if it has no docstring.
    """
    doc = inspect.getdoc(function)
    if not doc:
        raise ValueError(f"{function.__name__} needs a docstring: the property it tests")
    return Test(function.__name__, doc.splitlines()[0], function, getattr(function, "weight", 1), public)
