"""The whole way from a submitted folder to the gradebook."""

from __future__ import annotations

from autograde.grading import grade_assignment
from tests.autograde.tinycourse import ASSIGNMENT


def test_one_class(course, hand_in, right, marks, walls):
    hand_in("ada", right())
    hand_in("bob", right(square="def square(x):\n    return 4"))
    hand_in("eve", b"{")
    seen = []
    outcomes = grade_assignment(ASSIGNMENT, root=course, progress=lambda *args: seen.append(args))
    assert [o.status for o in outcomes] == ["graded"] * 3, outcomes
    print([(o.student, o.seconds, o.intake.findings) for o in outcomes])
    assert marks("ada") == {"check-square": 2, "check-negate": 2, "why": None}
    assert marks("bob") == {"check-square": 1, "check-negate": 2, "why": None}
    assert marks("eve") == {"check-square": 0, "check-negate": 0, "why": 0}
