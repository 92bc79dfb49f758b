"""coursekit.doctor: every requirement is looked at, and what is missing comes with its mend."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from coursekit import cli, doctor
from coursekit.doctor import Finding, examine, exit_code, table


@pytest.fixture
def lock(tmp_path):
    """Writes a lock file."""

    def write(text):
        path = tmp_path / "requirements.lock"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_packages_of_the_pinned_versions_are_fine(lock):
    assert doctor.check_packages(lock(f"# made\npytest=={pytest.__version__}\n")).status == "ok"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pytest==0.1", f"pytest is {pytest.__version__}, not 0.1"),
        ("nosuch==1", "nosuch is not installed, not 1"),
    ],
    ids=["other version", "missing"],
)
def test_a_package_that_is_not_as_pinned_is_named_with_both_versions(lock, line, said):
    finding = doctor.check_packages(lock(line))
    assert (finding.status, finding.found) == ("fail", said)
    assert "make setup" in finding.mend


def test_packages_of_other_systems_do_not_count(lock):
    assert doctor.pinned(lock('a==1 ; sys_platform == "vms"\nb==2\n')) == {"b": "2"}


def test_without_a_lock_there_is_nothing_to_compare_with(tmp_path):
    assert doctor.check_packages(tmp_path / "none").status == "warn"


def test_another_python_fails(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    assert doctor.check_python().status == "fail"


@pytest.mark.parametrize(
    ("check", "mend"),
    [
        (doctor.check_alembic, "activate"),
        (doctor.check_sandbox, "apt-get install bubblewrap"),
        (doctor.check_browser, "apt-get install chromium"),
    ],
    ids=["alembic", "bubblewrap", "chromium"],
)
def test_a_missing_program_comes_with_what_installs_it(check, mend, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    finding = check()
    assert finding.status == ("warn" if check is doctor.check_browser else "fail")
    assert mend in finding.mend


def test_forbidden_user_namespaces_are_told_from_a_missing_program(monkeypatch):
    refusal = SimpleNamespace(returncode=1, stderr="bwrap: setting up uid map: Permission denied\n")
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: refusal)
    finding = doctor.check_sandbox()
    assert "uid map: Permission denied" in finding.found
    assert "apparmor_restrict_unprivileged_userns" in finding.mend


def test_a_data_folder_without_the_data_fails_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSEKIT_DATA", str(tmp_path))
    finding = doctor._run(doctor.check_data)
    assert finding.status == "fail"
    assert str(tmp_path) in finding.found


def test_the_shipped_subset_is_enough_but_mentioned(monkeypatch):
    monkeypatch.setattr("coursekit.data.find_fashion_mnist", lambda: None)
    finding = doctor.check_data()
    assert finding.status == "warn"
    assert "2,000 test images" in finding.found


def test_a_folder_nobody_may_write_to_fails_by_name(tmp_path):
    finding = doctor.check_writing(tmp_path / "none")
    assert finding.status == "fail"
    assert str(tmp_path / "none") in finding.found


def test_a_check_that_cannot_run_is_a_finding_too():
    def check_torch():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    assert doctor._run(check_torch) == Finding("fail", "torch", "cannot import torch", doctor.RENEW)


def test_the_kernel_is_this_python():
    assert doctor.check_kernel().status == "ok"


def test_the_student_is_not_asked_for_what_only_grading_needs(monkeypatch):
    monkeypatch.setattr(doctor, "FOR_EVERYBODY", (lambda: Finding("ok", "a", ""),))
    monkeypatch.setattr(doctor, "FOR_INSTRUCTORS", (lambda: Finding("ok", "b", ""),))
    for check in doctor.FOR_EVERYBODY + doctor.FOR_INSTRUCTORS:
        check.__name__ = "check_x"
    assert [each.what for each in examine(instructor=False)] == ["a"]
    assert [each.what for each in examine()] == ["a", "b"]


FINDINGS = [
    Finding("ok", "Python", "3.11"),
    Finding("warn", "x", "absent", "get it"),
    Finding("fail", "y", "no", "do"),
]


def test_the_table_says_ok_warn_and_fail_in_words_with_the_mend_of_each():
    assert table(FINDINGS).splitlines() == [
        "OK    Python  3.11",
        "WARN  x       absent",
        "              mend: get it",
        "FAIL  y       no",
        "              mend: do",
        "",
        "1 OK, 1 WARN (works without), 1 FAIL",
    ]


def test_only_a_failure_makes_the_command_fail():
    assert [exit_code(FINDINGS[:count]) for count in (1, 2, 3)] == [0, 0, 1]


def test_the_doctor_runs_where_no_package_of_the_course_is_installed():
    command = [
        sys.executable,
        "-S",
        "-c",
        "from coursekit.cli import main; raise SystemExit(main(['doctor']))",
    ]
    done = subprocess.run(command, cwd=doctor.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot import packaging" in done.stdout
    assert "cannot import torch" in done.stdout or "cannot import numpy" in done.stdout


def test_start_prints_what_it_did_and_fails_on_an_unknown_assignment(tmp_path, capsys):
    source = tmp_path / "notebooks" / "week1"
    source.mkdir(parents=True)
    (source / "notes.txt").write_text("x", encoding="utf-8")
    options = ["--release", str(tmp_path / "notebooks"), "--work", str(tmp_path / "work")]
    assert cli.main(["start", "week1", *options]) == 0
    assert "notes.txt: new" in capsys.readouterr().out
    assert cli.main(["start", "week9", *options]) == 1
    assert "there is: week1" in capsys.readouterr().err
