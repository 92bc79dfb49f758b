"""How the tests are spread over workers: a file's go to one, whose fixtures they share; each whole lesson to any."""

from __future__ import annotations

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile` but for the lessons, which share nothing and would keep one worker busy to the end."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class LessonsApart(LoadFileScheduling):
        def _split_scope(self, nodeid):
            whole_lesson = "::test_the_saved_outputs_are_what_the_lesson_prints_today[" in nodeid
            return nodeid if whole_lesson else super()._split_scope(nodeid)

    return LessonsApart(config, log)
