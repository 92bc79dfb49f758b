"""A late policy for nbgrader: a grace period, a share of the score per day, and a floor.

In nbgrader_config.py:

    c.AssignLatePenalties.plugin_class = "autograde.late.LatePolicy"   # `autograde.plugin.install` does this
    c.LatePolicy.grace_minutes = 30
    c.LatePolicy.percent_per_day = 10
    c.LatePolicy.floor_percent = 50
    c.LatePolicy.assignments = {"capstone": {"percent_per_day": 25, "floor_percent": 0}}
"""

from __future__ import annotations

import math
from typing import Any

from nbgrader.plugins import LateSubmissionPlugin
from traitlets import Dict, Float, TraitError, validate

__all__ = ["LatePolicy"]

DAY_SECONDS = 24 * 3600
RULES = ("grace_minutes", "percent_per_day", "floor_percent")


class LatePolicy(LateSubmissionPlugin):
    """Takes off a share of the score for each day begun after the grace period, down to a floor.

    nbgrader calls it for each notebook with how late the whole submission is; an extension is already in that. By
    default nothing is taken off, and nbgrader's own `penalty_method` still works.
    """

    grace_minutes = Float(0.0, min=0, help="Minutes after the due date that cost nothing.").tag(config=True)
    percent_per_day = Float(
        0.0, min=0, max=100, help="Percent of the score for each day begun after the grace period."
    ).tag(config=True)
    floor_percent = Float(0.0, min=0, max=100, help="Percent of the score that is left however late.").tag(
        config=True
    )
    assignments = Dict(help="By assignment, those of the three settings that differ from the course's.").tag(
        config=True
    )

    @validate("assignments")
    def _check_assignments(self, proposal: Any) -> dict[str, dict[str, float]]:
        for name, rules in proposal["value"].items():
            if not isinstance(rules, dict) or not set(rules) <= set(RULES):
                raise TraitError(
                    f"LatePolicy.assignments[{name!r}] must be a dict of {', '.join(RULES)}; it is {rules!r}"
                )
            for key, value in rules.items():
                most = math.inf if key == "grace_minutes" else 100
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                    raise TraitError(f"LatePolicy.assignments[{name!r}][{key!r}] cannot be {value!r}")
        return dict(proposal["value"])

    def rule(self, name: str) -> float:
        """One of the three settings, for the assignment that is being graded."""
        assignment = str(getattr(self.parent, "assignment_id", ""))
        return float(self.assignments.get(assignment, {}).get(name, getattr(self, name)))

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float | None:
        """The points to take off a notebook; None if there is nothing to take.

        Args: score: of the notebook, in points. total_seconds_late: after the due date, any extension included.
        """
        if self.penalty_method != "none":
            return super().late_submission_penalty(student_id, score, total_seconds_late)
        days = math.ceil((total_seconds_late - 60 * self.rule("grace_minutes")) / DAY_SECONDS)
        percent = min(max(0, days) * self.rule("percent_per_day"), 100 - self.rule("floor_percent"))
        if percent <= 0:
            return None
        penalty = round(score * percent / 100, 4)
        self.log.info("%s: %d days late, %g %% of %g points: %g", student_id, days, percent, score, penalty)
        return penalty
