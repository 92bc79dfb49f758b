"""`python -m autograde`: one subcommand a module, errors in a sentence."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from autograde import __main__ as command
from autograde.layout import CourseError


@pytest.fixture
def add_command(monkeypatch):
    """Makes a function the subcommand `work`."""

    def add(run):
        module = ModuleType("autograde.work")
        module.add_parser = lambda subparsers: subparsers.add_parser("work").set_defaults(run=run)
        monkeypatch.setitem(sys.modules, "autograde.work", module)
        monkeypatch.setattr(command, "MODULES", ("autograde.work", "autograde.not_written_yet"))

    return add


def test_a_module_with_add_parser_is_a_subcommand(add_command):
    add_command(lambda args: 7)
    assert command.main(["work"]) == 7


def test_a_subcommand_that_returns_nothing_has_succeeded(add_command):
    add_command(lambda args: None)
    assert command.main(["work"]) == 0


def test_an_error_of_the_course_is_one_sentence_and_no_traceback(add_command, capsys):
    def fail(args):
        raise CourseError("lesson 01 is wrong; mend it")

    add_command(fail)
    assert command.main(["work"]) == 1
    assert capsys.readouterr().err == "error: lesson 01 is wrong; mend it\n"


def test_an_interrupted_command_says_that_it_can_be_run_again(add_command, capsys):
    def stop(args):
        raise KeyboardInterrupt

    add_command(stop)
    assert command.main(["work"]) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_module_that_cannot_be_imported_is_not_taken_for_one_that_is_not_there(monkeypatch, tmp_path):
    (tmp_path / "broken_command.py").write_text("import no_such_module\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(command, "MODULES", ("broken_command",))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        command.main(["build"])
