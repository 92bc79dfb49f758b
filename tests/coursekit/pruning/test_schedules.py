"""coursekit.pruning.schedules: the target at every step, exact at both ends."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.pruning.schedules import (
    Schedule,
    cubic_sparsity,
    linear_sparsity,
    pruning_steps,
    relative_compounding,
)

shares = st.floats(0.0, 0.99)
curves = pytest.mark.parametrize("curve", [linear_sparsity, cubic_sparsity])


@curves
@given(initial=shares, final=shares, begin=st.integers(-50, 50), length=st.integers(1, 500))
def test_both_ends_are_exact_and_held_outside(curve, initial, final, begin, length):
    end = begin + length
    assert curve(begin, initial, final, begin, end) == pytest.approx(initial, abs=1e-12)
    assert curve(begin - 7, initial, final, begin, end) == pytest.approx(initial, abs=1e-12)
    assert curve(end, initial, final, begin, end) == final
    assert curve(end + 7, initial, final, begin, end) == final


@curves
def test_sparsity_never_falls(curve):
    values = [curve(step, 0.2, 0.97, 10, 200) for step in range(250)]
    assert all(a <= b for a, b in itertools.pairwise(values))


def test_cubic_is_the_paper_formula_with_its_initial_sparsity():
    # Zhu and Gupta, eq. 1, n = 4 steps of length 1 from 0.5 to 0.9, worked out by hand.
    expected = [0.5, 0.9 - 0.4 * 27 / 64, 0.9 - 0.4 / 8, 0.9 - 0.4 / 64, 0.9]
    assert [cubic_sparsity(t, 0.5, 0.9, 0, 4) for t in range(5)] == pytest.approx(expected)


def test_cubic_prunes_seven_eighths_of_the_way_by_the_middle():
    assert cubic_sparsity(50, 0.0, 0.8, 0, 100) == pytest.approx(0.8 * 7 / 8)
    assert linear_sparsity(50, 0.0, 0.8, 0, 100) == pytest.approx(0.4)


@curves
def test_a_schedule_of_no_length_jumps(curve):
    assert [curve(step, 0.1, 0.9, 5, 5) for step in (4, 5, 6)] == pytest.approx([0.1, 0.9, 0.9])


@curves
def test_an_end_before_the_beginning_is_refused(curve):
    with pytest.raises(ValueError, match="begin=5 and end=4"):
        curve(0, 0.0, 0.9, 5, 4)


@pytest.mark.parametrize("kind", ["one-shot", "linear", "cubic"])
@given(
    begin=st.integers(0, 100),
    length=st.integers(0, 300),
    every=st.integers(1, 700),
    final=st.floats(0.0, 0.99),
)
def test_the_last_pruning_reaches_the_target_whatever_the_interval(kind, begin, length, every, final):
    schedule = Schedule(kind, final, begin=begin, end=begin + length, every=every)
    steps = schedule.steps()
    assert steps[0] == begin
    assert schedule.sparsity_at(steps[-1]) == final
    assert schedule.sparsity_at(steps[-1] + 1000) == final
    assert schedule.sparsity_at(begin - 1) == 0.0
    assert steps == sorted(set(steps))
    assert all(b - a <= every for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize("numbers", [(5, 4, 1), (-1, 4, 1), (0, 4, 0)])
def test_impossible_steps_are_refused(numbers):
    with pytest.raises(ValueError, match="begin <= end"):
        pruning_steps(*numbers)


def test_is_due_exactly_at_the_steps():
    schedule = Schedule("linear", 0.5, begin=3, end=20, every=6)
    assert [step for step in range(40) if schedule.is_due(step)] == schedule.steps() == [3, 9, 15, 20]


def test_one_shot_ignores_the_end():
    assert Schedule("one-shot", 0.9, begin=3).steps() == [3]


def test_initial_sparsity_is_pruned_first():
    schedule = Schedule("cubic", 0.9, initial=0.5, begin=10, end=20, every=5)
    assert [schedule.sparsity_at(step) for step in (9, 10)] == [0.0, 0.5]


def test_targets_taken_of_the_survivors_compound():
    targets = [cubic_sparsity(t, 0.0, 0.9, 0, 1000) for t in range(100, 1000, 100)]
    reached = relative_compounding(targets)
    assert reached[-1] == pytest.approx(1 - math.prod(1 - t for t in targets))
    assert reached[-1] > 0.99999  # what the tutorial's code did for a target of 90 %


@pytest.mark.parametrize(
    "bad, match",
    [
        ({"kind": "quartic", "final": 0.5}, "one of one-shot, linear, cubic, got 'quartic'"),
        ({"kind": "cubic", "final": 1.0}, "final < 1"),
        ({"kind": "cubic", "final": 0.5, "initial": 0.6}, "initial <= final"),
        ({"kind": "cubic", "final": 0.5, "begin": 5, "end": 4}, "begin <= end"),
        ({"kind": "cubic", "final": 0.5, "end": 4, "every": 0}, "every at least 1"),
        ({"kind": "one-shot", "final": 0.5, "begin": -1}, "begin must be at least 0"),
    ],
    ids=["kind", "all_pruned", "backwards", "ends_early", "never", "negative"],
)
def test_impossible_schedules_are_refused(bad, match):
    with pytest.raises(ValueError, match=match):
        Schedule(**bad)
